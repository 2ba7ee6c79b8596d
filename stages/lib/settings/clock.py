"""A line of the section `clock`: an input set by the clock."""

from pydantic import ValidationInfo, field_validator

from stages.lib.settings.base import Count, Section


class Clock(Section):
    """All in hours: the interval of the rows, the length of a window up to its origin, and the last lead."""

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
    def check_multiple(cls, hours: int, info: ValidationInfo) -> int:
        if hours % info.data.get("every", 1):
            raise ValueError(f"expected a multiple of every, {info.data['every']}, found {hours}")
        return hours

    @field_validator("lookback")
    @classmethod
    def check_day(cls, hours: int) -> int:
        if hours < 24:
            raise ValueError(f"expected at least 24, as persistence looks a day back, found {hours}")
        return hours
