"""The section `clean`: which values count as measured."""

from typing import Annotated

from pydantic import Field, field_validator

from stages.lib.settings.base import Name, Section, Text, format_value

LIMITS = "[lowest, highest]"


class Check(Section):
    """Plausible values of a group of columns, in the unit of these columns."""

    columns: Annotated[list[Text], Field(min_length=1, description="a list of column names or patterns with *")]
    limits: Annotated[tuple[float, float] | None, Field(strict=False, description=LIMITS)] = None
    missing: list[float] = Field(default_factory=list, description="a list of numbers")
    step: Annotated[float | None, Field(gt=0, description="a number above 0")] = None  # change in ten minutes
    stuck: Annotated[float | None, Field(gt=0, description="a number of hours above 0")] = None

    @field_validator("limits")
    @classmethod
    def check_limits(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and limits[0] >= limits[1]:
            raise ValueError(f"expected {LIMITS}, found {format_value(limits)}")
        return limits


class Wind(Section):
    """The two columns that `clean` turns into a wind vector."""

    speed: Text
    direction: Text


class Gaps(Section):
    """The only setting of `clean` that input sets depend on."""

    max_gap: Annotated[float, Field(ge=0, description="a number of hours from 0")]


class Clean(Gaps):
    wind: Annotated[Wind | None, Field(description="{speed: COLUMN, direction: COLUMN}, or null")]
    checks: dict[Name, Check]
