"""An input set by the clock: a line of the section `clock`."""

from pydantic import ValidationInfo, field_validator

from stages.lib.settings.base import Count, Section


class Clock(Section):
    """In hours: a row `every` so many, `lookback` before the origin, targets up to `leads` after it."""

    every: Count
    lookback: Count
    leads: Count

    @field_validator("lookback", "leads")
    @classmethod
    def check_multiple(cls, hours: int, others: ValidationInfo) -> int:
        if hours % others.data.get("every", 1):
            raise ValueError(f"expected a multiple of every, {others.data['every']}, found {hours}")
        return hours
