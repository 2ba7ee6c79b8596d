"""A line of the section `inputs`: an input set by rows of the weather record."""

from pydantic import ValidationInfo, field_validator

from stages.lib.settings.base import Count, Section, Whole


class Window(Section):
    """All in rows. The window of row r is r-lookback, r-lookback+step, ... before r; its target is at r+delay."""

    step: Count
    lookback: Count
    delay: Whole

    @field_validator("lookback")
    @classmethod
    def check_lookback(cls, lookback: int, info: ValidationInfo) -> int:
        if lookback % info.data.get("step", 1):
            raise ValueError(f"expected a multiple of step, {info.data['step']}, found {lookback}")
        return lookback
