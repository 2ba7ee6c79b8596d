"""Mean and standard deviation of every column over the training rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from stages.common import UserError, command, params, whole

RECORD = Path("data/record.parquet")
NORMALIZATION = Path("data/normalization.json")


def statistics(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (ddof=0) of `rows` (rows, columns) along axis 0, in float64.

    Bit for bit what the sources get from a C-ordered array: numpy adds row by row there, and the
    deviation is taken of values whose mean is already subtracted (Chollet, Deep Learning with
    Python, listing 6.33).
    """
    rows = np.ascontiguousarray(rows, np.float64)
    mean = rows.mean(axis=0)
    return mean, (rows - mean).std(axis=0)


def check_split(split: Any) -> None:
    """Raise UserError, naming the key, unless `split` has ordered ranges [first, last) and a batch size."""
    if not isinstance(split, dict):
        raise UserError(f"params.yaml: split: expected train, val, test and val_batch, found {split!r}")
    end, before = 0, None
    for key in ("train", "val", "test"):
        value = split.get(key)
        where = f"params.yaml: split.{key}"
        if not is_range(value):
            raise UserError(
                f"{where}: expected [first, last] with whole numbers 0 <= first < last (last may be null), "
                f"found {value!r}"
            )
        if end is None or value[0] < end:
            limit = "the end of the record (null)" if end is None else f"row {end}"
            raise UserError(
                f"{where}: expected rows after those of split.{before}, which end at {limit}, found {value!r}"
            )
        end, before = value[1], key
    batch = split.get("val_batch")
    if type(batch) is not int or batch < 1:
        raise UserError(f"params.yaml: split.val_batch: expected a whole number above 0, found {batch!r}")


def is_range(value: Any) -> bool:
    """Tell whether `value` is [first, last] with 0 <= first < last, or last None."""
    if not isinstance(value, list) or len(value) != 2 or type(value[0]) is not int or value[0] < 0:
        return False
    return value[1] is None or (type(value[1]) is int and value[0] < value[1])


def check_rows(split: dict[str, Any], count: int) -> None:
    """Raise UserError, naming the key, where a range of `split` needs more than `count` rows."""
    for key in ("train", "val", "test"):
        first, last = split[key]
        needed = first + 1 if last is None else last
        if needed > count:
            raise UserError(
                f"params.yaml: split.{key}: {split[key]!r} needs {needed:,} rows, the record has {count:,}; "
                "lower the split or take a longer record"
            )


def normalize() -> None:
    """Write the training rows' mean and standard deviation to data/normalization.json."""
    split = params("split")
    check_split(split)
    try:
        file = pq.ParquetFile(RECORD)
    except FileNotFoundError:
        raise UserError(f"{RECORD}: not found; run `./run parse` first") from None
    check_rows(split, file.metadata.num_rows)
    table = file.read()
    first, last = split["train"]
    names = table.column_names[1:]
    # Through DLPack, since Arrow's to_numpy() imports pandas, which takes longer than all of this.
    rows = np.column_stack([np.from_dlpack(table[name].combine_chunks())[first:last] for name in names])
    check_spread(rows, names, first, last)
    mean, std = statistics(rows)
    columns = {name: {"mean": float(m), "std": float(s)} for name, m, s in zip(names, mean, std, strict=True)}
    with whole(NORMALIZATION) as path:
        text = json.dumps({"rows": [first, last], "columns": columns}, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def check_spread(rows: np.ndarray, names: list[str], first: int, last: int) -> None:
    """Raise UserError naming the columns of `rows` (rows, columns), the training rows, that are constant.

    By minimum and maximum: the mean of many equal values is rounded, and their deviation then not quite 0.
    """
    constant = np.flatnonzero(rows.min(axis=0) == rows.max(axis=0))
    if len(constant):
        listed = ", ".join(f"{names[i]!r} ({rows[0, i]})" for i in constant)
        raise UserError(
            f"{RECORD}: constant in the training rows [{first}, {last}), so that it cannot be normalized: "
            f"column {listed}; drop it from the files or choose other rows in split.train of params.yaml"
        )


if __name__ == "__main__":
    command(normalize)
