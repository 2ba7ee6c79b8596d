"""The section `periods`: splits by date."""

from datetime import datetime
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from stages.lib.settings.base import Section, Text, format_value

DATE = 'a date in quotes, such as "2012-10-21"'
Date = Annotated[Text, Field(description=DATE)]


class Periods(Section):
    """When each split begins; it ends where the next one begins. An `end` of None is the end of the record."""

    train: Date
    val: Date
    test: Date
    end: Annotated[str | None, Field(description=f"{DATE}, or null")]

    @field_validator("train", "val", "test", "end")
    @classmethod
    def check_order(cls, date: str | None, info: ValidationInfo) -> str | None:
        if date is None:
            return None
        try:
            time = datetime.fromisoformat(date)
            assert time.tzinfo is None
        except (ValueError, AssertionError):
            raise ValueError(f"expected {DATE}, found {format_value(date)}") from None
        for key, previous in info.data.items():
            if time <= datetime.fromisoformat(previous):
                raise ValueError(f"expected a date after periods.{key}, {previous}, found {format_value(date)}")
        return date

    def get_bounds(self) -> list[np.datetime64 | None]:
        """Return when train, val and test begin, and when test ends, as datetime64[s]."""
        dates = (self.train, self.val, self.test, self.end)
        return [None if date is None else np.datetime64(datetime.fromisoformat(date), "s") for date in dates]
