"""Mean and standard deviation of every column over the training rows."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.errors import UserError
from stages.lib.files import whole
from stages.lib.params import params
from stages.lib.record import RECORD, read

NORMALIZATION = Path("data/normalization.json")


def statistics(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (ddof=0) of `rows` (rows, columns) along axis 0, in float64.

    Bit for bit what the sources get from a C-ordered array (Chollet, Deep Learning with Python, listing
    6.33): numpy adds row by row there, and the deviation is of values less their mean.
    """
    rows = np.ascontiguousarray(rows, np.float64)
    mean = rows.mean(axis=0)
    return mean, (rows - mean).std(axis=0)


def check_split(split: dict[str, Any], count: int) -> None:
    """Raise UserError, naming the key, unless `split` has ordered ranges within `count` rows and a batch size."""
    before, end = "", 0
    for key in ("train", "val", "test"):
        where, value = f"params.yaml: split.{key}", split[key]
        is_range = isinstance(value, list) and [type(row) for row in value] in ([int, int], [int, type(None)])
        first, last = value if is_range else (0, 0)
        last = max(count, first + 1) if last is None else last
        if not 0 <= first < last:
            raise UserError(f"{where}: expected [first, last], 0 <= first < last, last maybe null, found {value!r}")
        if first < end:
            raise UserError(f"{where}: expected rows after split.{before}, which ends at {end:,}, found {value!r}")
        if last > count:
            raise UserError(f"{where}: {value!r} needs {last:,} rows, a longer record: this has {count:,}")
        before, end = key, last
    batch = split["val_batch"]
    if type(batch) is not int or batch < 1:
        raise UserError(f"params.yaml: split.val_batch: expected a whole number above 0, found {batch!r}")


def check_spread(rows: np.ndarray, names: list[str], first: int, last: int) -> None:
    """Raise UserError naming the columns of `rows`, the training rows, that are constant.

    By minimum and maximum: the mean of many equal values is rounded, and their deviation then not quite 0.
    """
    constant = np.flatnonzero(rows.min(axis=0) == rows.max(axis=0))
    if len(constant):
        listed = ", ".join(f"{names[i]!r} ({rows[0, i]})" for i in constant)
        raise UserError(
            f"{RECORD}: constant in the training rows [{first}, {last}), so that it cannot be normalized: column "
            f"{listed}; drop it from the files or choose other rows in split.train of params.yaml"
        )


def warn_of_sentinels(rows: np.ndarray, names: list[str], sentinels: list[float]) -> None:
    """Name the columns of `rows`, the training rows, that hold sentinels: they go into mean and deviation."""
    counts = np.isin(rows, sentinels).sum(axis=0)
    if counts.any():
        listed = ", ".join(f"{counts[i]} in {names[i]!r}" for i in np.flatnonzero(counts))
        print(f"warning: sentinels in the training rows distort mean and deviation: {listed}", file=sys.stderr)


def normalize() -> None:
    """Write the training rows' mean and standard deviation to data/normalization.json."""
    split = {key: params("split", key) for key in ("train", "val", "test", "val_batch")}
    times, *names = columns = read()
    check_split(split, len(columns[times]))
    first, last = split["train"]
    rows = np.column_stack([columns[name][first:last] for name in names])
    check_spread(rows, names, first, last)
    warn_of_sentinels(rows, names, params("dataset", "sentinels"))
    mean, std = statistics(rows)
    scales = {name: {"mean": float(m), "std": float(s)} for name, m, s in zip(names, mean, std, strict=True)}
    with whole(NORMALIZATION) as path:
        text = json.dumps({"rows": [first, last], "columns": scales}, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
