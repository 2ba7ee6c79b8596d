"""An input set by the clock: a line of the section `clock`."""

from pydantic import ValidationInfo, field_validator

from stages.lib.settings.base import Count, Section


class Clock(Section):
    """In hours: a row `every` so many, `lookback` before the origin, targets up to `leads` after it."""

    every: Count
    lookback: Count
    leads: Count

    @field_validator("every")
    @classmethod
    def check_divisor(cls, hours: int) -> int:
        if 24 % hours:
            raise ValueError(f"expected a divisor of 24, so that every day has the same hours, found {hours}")
        return hours

    @field_validator("lookback", "leads")
    @classmethod
    def check_multiple(cls, hours: int, others: ValidationInfo) -> int:
        if hours % others.data.get("every", 1):
            raise ValueError(f"expected a multiple of every, {others.data['every']}, found {hours}")
        return hours

    @field_validator("lookback")
    @classmethod
    def check_day(cls, hours: int) -> int:
        if hours < 24:
            raise ValueError(f"expected at least 24, as persistence looks a day back, found {hours}")
        return hours
