"""Which rows train, validate and test: the section `split`."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from stages.lib.settings.base import Count, Section, format_value

RANGE = "[first, last], 0 <= first < last, last maybe null"
Range = Annotated[tuple[int, int | None], Field(strict=False, description=RANGE)]  # YAML has lists for tuples
BEFORE = {"train": "", "val": "train", "test": "val"}


class Split(Section):
    """Rows [first, last) in file order, in this order; a `last` of None goes as far as the delay allows."""

    train: Range
    val: Range
    test: Range
    val_batch: Count

    @field_validator("train", "val", "test")
    @classmethod
    def check_order(cls, rows: tuple[int, int | None], others: ValidationInfo) -> tuple[int, int | None]:
        first, last = rows
        if first < 0 or (last is not None and last <= first):
            raise ValueError(f"expected {RANGE}, found {format_value(rows)}")
        _, end = others.data.get(BEFORE[others.field_name], (0, 0))
        if end is None or first < end:
            ends = "goes to the record's end" if end is None else f"ends at {end:,}"
            raise ValueError(
                f"expected rows after split.{BEFORE[others.field_name]}, which {ends}, found {format_value(rows)}"
            )
        return rows
