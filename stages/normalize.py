"""Mean and standard deviation of every column over the training rows."""

import json
import sys
from pathlib import Path

import numpy as np

from stages.lib.errors import UserError
from stages.lib.files import atomic_output
from stages.lib.params import get_param
from stages.lib.settings.base import read_settings
from stages.lib.settings.split import Split
from stages.lib.weather.record import RECORD, read_record

NORMALIZATION = Path("data/normalization.json")


def compute_statistics(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (ddof=0) of `rows` (rows, columns) along axis 0, in float64.

    Bit for bit what the notebooks get from a C-ordered array (Chollet, Deep Learning with Python, listing
    6.33), where numpy adds row by row; the deviation is that of the values less their mean.
    """
    rows = np.ascontiguousarray(rows, np.float64)
    mean = rows.mean(axis=0)
    return mean, (rows - mean).std(axis=0)


def check_fits(split: Split, count: int) -> None:
    """Raise UserError, naming the key, where a range of `split` goes beyond `count` rows or holds none of them."""
    for key, (first, last) in split.model_dump(include={"train", "val", "test"}).items():
        needed = first + 1 if last is None else last
        if needed > count:
            raise UserError(
                f"params.yaml: split.{key}: {[first, last]} needs {needed:,} rows, but the record has {count:,}"
            )


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


def warn_about_sentinels(rows: np.ndarray, names: list[str], sentinels: list[float]) -> None:
    """Name the columns of `rows`, the training rows, that hold sentinels: they go into mean and deviation."""
    counts = np.isin(rows, sentinels).sum(axis=0)
    if counts.any():
        listed = ", ".join(f"{counts[i]} in {names[i]!r}" for i in np.flatnonzero(counts))
        print(f"warning: sentinels in the training rows distort mean and deviation: {listed}", file=sys.stderr)


def check_measured(columns: dict[str, np.ndarray]) -> None:
    """Raise UserError naming the `columns` (rows,) with NaN: the notebooks know no missing values."""
    counts = {name: int(np.isnan(values).sum()) for name, values in columns.items()}
    if any(counts.values()):
        listed = ", ".join(f"{count:,} missing in {name!r}" for name, count in counts.items() if count)
        raise UserError(
            f"{RECORD}: expected a number in every row, found {listed}; fill them in, or use the station's "
            "models (`dvc repro report_station`), which handle missing values"
        )


def normalize() -> None:
    """Write the training rows' mean and standard deviation to data/normalization.json."""
    split = read_settings(Split, "split")
    times, *names = columns = read_record()
    check_fits(split, len(columns[times]))
    first, last = split.train
    rows = np.column_stack([columns[name][first:last] for name in names])
    check_measured({name: columns[name] for name in names})
    check_spread(rows, names, first, last)
    warn_about_sentinels(rows, names, get_param("dataset", "sentinels"))
    mean, std = compute_statistics(rows)
    scales = {name: {"mean": float(m), "std": float(s)} for name, m, s in zip(names, mean, std, strict=True)}
    with atomic_output(NORMALIZATION) as path:
        text = json.dumps({"rows": [first, last], "columns": scales}, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
