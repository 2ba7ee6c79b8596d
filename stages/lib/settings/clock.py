"""A line of the section `clock`: an input set by the clock."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stages.lib.settings.base import Count, Name, Section

AHEAD = "a list of records with `issued`; a list within it holds the records of one weather model"
Share = Annotated[float, Field(ge=0, le=1, description="a number from 0 to 1")]


def group_records(ahead: list[str | list[str]]) -> list[list[str]]:
    """Return the records of each weather model in `ahead`, a setting of an input set."""
    return [[names] if isinstance(names, str) else names for names in ahead]


class Clock(Section):
    """The records and, in hours, the interval of the rows, the length of a window and the last lead.

    `neighbours` are other stations, and `ahead` weather models' forecasts. `max_missing` and
    `max_missing_neighbours` are the shares of a window's values that may be missing: of the station's own, and of
    all neighbours' together.
    """

    record: Name
    neighbours: list[Name] = Field(default_factory=list, description="a list of records")
    ahead: list[Name | Annotated[list[Name], Field(min_length=1)]] = Field(default_factory=list, description=AHEAD)
    every: Count
    lookback: Count
    leads: Count
    max_missing: Share = 0.0
    max_missing_neighbours: Share = 0.5

    @property
    def ahead_groups(self) -> list[list[str]]:
        """The records of each weather model."""
        return group_records(self.ahead)

    @property
    def lookback_rows(self) -> int:
        return self.lookback // self.every

    @property
    def lead_rows(self) -> int:
        return self.leads // self.every

    @property
    def records(self) -> list[str]:
        """All records of the input set, the station's own first."""
        return [self.record, *self.neighbours, *(name for names in self.ahead_groups for name in names)]

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

    @model_validator(mode="after")
    def check_records(self) -> "Clock":
        """Refuse a record that is named twice."""
        if twice := sorted({name for name in self.records if self.records.count(name) > 1}):
            raise ValueError(
                f"expected each record once among record, neighbours and ahead, found {twice[0]} again; a station "
                "is not its own neighbour"
            )
        return self
