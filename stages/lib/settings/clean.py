"""What counts as measured: the section `clean`."""

from typing import Annotated

from pydantic import Field, field_validator

from stages.lib.settings.base import Name, Section, Text, format_value

LIMITS = "[lowest, highest]"


class Check(Section):
    """What the columns of one kind may hold, in their own unit."""

    columns: Annotated[list[Text], Field(min_length=1, description="a list of column names or patterns with *")]
    limits: Annotated[tuple[float, float] | None, Field(strict=False, description=LIMITS)] = None
    missing: list[float] = Field(default_factory=list, description="a list of numbers")
    step: Annotated[float | None, Field(gt=0, description="a number above 0")] = None  # in ten minutes
    stuck: Annotated[float | None, Field(gt=0, description="a number of hours above 0")] = None

    @field_validator("limits")
    @classmethod
    def check_limits(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and limits[0] >= limits[1]:
            raise ValueError(f"expected {LIMITS}, found {format_value(limits)}")
        return limits


class Wind(Section):
    """The columns that become a vector."""

    speed: Text
    direction: Text


class Gaps(Section):
    """The part of `clean` that input sets depend on."""

    max_gap: Annotated[float, Field(ge=0, description="a number of hours from 0")]


class Clean(Gaps):
    wind: Annotated[Wind | None, Field(description="{speed: COLUMN, direction: COLUMN}, or null")]
    checks: dict[Name, Check]
