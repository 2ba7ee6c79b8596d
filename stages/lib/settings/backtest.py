"""The section `backtest`: a rolling test of the station's models."""

from calendar import monthrange
from datetime import date, datetime
from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from stages.lib.settings.base import Count, Name, Section, format_value

FOLDS = 'a list of first test days in quotes, in order, such as ["2012-01-01"]'
SEEDS = "a list of different whole numbers from 0"
MONTHS = "a number of months from 1, or null"


class Backtest(Section):
    """Models that are trained anew for every fold.

    The days `folds` each begin a test period of `months` months. A fold validates on the `val` months before its
    test period, and trains on the `train` months before those, or on everything from periods.train on if `train`
    is None.
    """

    inputs: Name
    models: Annotated[list[Name], Field(min_length=1, description="a list of models")]
    folds: Annotated[list[str], Field(min_length=1, description=FOLDS)]
    months: Count
    val: Count
    train: Annotated[int | None, Field(ge=1, description=MONTHS)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1, description=SEEDS)]

    @field_validator("seeds")
    @classmethod
    def check_seeds(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"expected {SEEDS}, found {format_value(seeds)}")
        return seeds

    @field_validator("folds")
    @classmethod
    def check_folds(cls, folds: list[str]) -> list[str]:
        for fold in folds:
            try:
                assert date.fromisoformat(fold).isoformat() == fold
            except (ValueError, AssertionError):
                raise ValueError(f"expected {FOLDS}, found {format_value(fold)}") from None
        return folds

    @field_validator("months")
    @classmethod
    def check_overlap(cls, months: int, info: ValidationInfo) -> int:
        for fold, next_fold in pairwise(info.data.get("folds", [])):
            if date.fromisoformat(next_fold) < shift_months(fold, months):
                raise ValueError(
                    f"expected no test period to begin before the last one ends, found {next_fold} after {fold}"
                )
        return months

    def get_bounds(self, fold: str, first: str) -> list[np.datetime64]:
        """Return when train, val and test of `fold` begin, and when test ends; `first` is periods.train."""
        train = np.datetime64(datetime.fromisoformat(first), "s")
        if self.train is not None:
            train = max(train, np.datetime64(shift_months(fold, -self.val - self.train), "s"))
        return [train, *(np.datetime64(shift_months(fold, months), "s") for months in (-self.val, 0, self.months))]


def shift_months(day: str, months: int) -> date:
    """Return the same day `months` later, or the month's last day if the month is too short."""
    start = date.fromisoformat(day)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return date(year, month + 1, min(start.day, monthrange(year, month + 1)[1]))
