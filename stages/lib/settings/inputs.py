"""An input set of the weather: a line of the section `inputs`."""

from pydantic import ValidationInfo, field_validator

from stages.lib.settings.base import Count, Section, Whole


class Window(Section):
    """In rows: the window of row r is r-lookback, r-lookback+step, ... before r; its target lies at r+delay."""

    step: Count
    lookback: Count
    delay: Whole

    @field_validator("lookback")
    @classmethod
    def check_lookback(cls, lookback: int, others: ValidationInfo) -> int:
        if lookback % others.data.get("step", 1):
            raise ValueError(f"expected a multiple of step, {others.data['step']}, found {lookback}")
        return lookback
