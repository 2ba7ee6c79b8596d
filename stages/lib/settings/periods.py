"""Splits by date: the section `periods`."""

from datetime import datetime
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from stages.lib.settings.base import Section, Text, format_value

DATE = 'a date in quotes, such as "2012-10-21"'
Date = Annotated[Text, Field(description=DATE)]


class Periods(Section):
    """Where each split begins, up to the next one; `end` None stands for the record's end."""

    train: Date
    val: Date
    test: Date
    end: Annotated[str | None, Field(description=f"{DATE}, or null")]

    @field_validator("train", "val", "test", "end")
    @classmethod
    def check_order(cls, date: str | None, others: ValidationInfo) -> str | None:
        if date is None:
            return None
        try:
            moment = datetime.fromisoformat(date)
            assert moment.tzinfo is None
        except (ValueError, AssertionError):
            raise ValueError(f"expected {DATE}, found {format_value(date)}") from None
        for name, before in others.data.items():
            if moment <= datetime.fromisoformat(before):
                raise ValueError(f"expected a date after periods.{name}, {before}, found {format_value(date)}")
        return date

    def bounds(self) -> list[np.datetime64 | None]:
        """The beginnings of train, val and test, and the end of test, as datetime64[s]."""
        dates = (self.train, self.val, self.test, self.end)
        return [None if date is None else np.datetime64(datetime.fromisoformat(date), "s") for date in dates]
