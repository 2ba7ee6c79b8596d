"""The section `split`: which rows are for training, validation and test."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from stages.lib.settings.base import Count, Section, format_value

RANGE = "[first, last], 0 <= first < last, last maybe null"
Range = Annotated[tuple[int, int | None], Field(strict=False, description=RANGE)]  # YAML has lists for tuples
PREVIOUS = {"val": "train", "test": "val"}


class Split(Section):
    """Ranges [first, last) of rows in file order. A `last` of None goes as far as the delay allows."""

    train: Range
    val: Range
    test: Range
    val_batch: Count

    @field_validator("train", "val", "test")
    @classmethod
    def check_order(cls, rows: tuple[int, int | None], info: ValidationInfo) -> tuple[int, int | None]:
        first, last = rows
        if first < 0 or (last is not None and last <= first):
            raise ValueError(f"expected {RANGE}, found {format_value(rows)}")
        previous = PREVIOUS.get(info.field_name)
        _, end = info.data.get(previous, (0, 0))
        if end is None or first < end:
            reach = "goes to the record's end" if end is None else f"ends at {end:,}"
            raise ValueError(f"expected rows after split.{previous}, which {reach}, found {format_value(rows)}")
        return rows
