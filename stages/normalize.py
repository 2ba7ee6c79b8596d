"""Compute the mean and the standard deviation of every column over the training rows."""

import json
import sys
from pathlib import Path

import numpy as np

from stages.lib.errors import UserError
from stages.lib.files import atomic_output
from stages.lib.settings.base import read_settings
from stages.lib.settings.records import Sensors
from stages.lib.settings.split import Split
from stages.lib.weather.record import FOLDER, read_record

NORMALIZATION = Path("data/normalization.json")


def compute_statistics(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation (ddof=0) of `rows` (rows, columns) along axis 0, in float64.

    Equals the notebooks (Chollet, Deep Learning with Python, listing 6.33) bit for bit: numpy adds a C-ordered
    array row by row, and the deviation is taken after the mean was subtracted.
    """
    rows = np.ascontiguousarray(rows, np.float64)
    mean = rows.mean(axis=0)
    return mean, (rows - mean).std(axis=0)


def check_split_fits(split: Split, count: int) -> None:
    """Raise UserError if a range of `split` begins or ends beyond a record of `count` rows."""
    for key, (first, last) in split.model_dump(include={"train", "val", "test"}).items():
        required = first + 1 if last is None else last
        if required > count:
            raise UserError(
                f"params.yaml: split.{key}: {[first, last]} needs {required:,} rows, but the record has {count:,}"
            )


def check_not_constant(rows: np.ndarray, names: list[str], first: int, last: int, location: str) -> None:
    """Raise UserError naming the constant columns of `rows`, the training rows.

    Compares minimum and maximum: the mean of many equal values is rounded, so their deviation may differ from 0.
    """
    constant = np.flatnonzero(rows.min(axis=0) == rows.max(axis=0))
    if len(constant):
        listed = ", ".join(f"{names[i]!r} ({rows[0, i]})" for i in constant)
        raise UserError(
            f"{location}: constant in the training rows [{first}, {last}), so that it cannot be normalized: column "
            f"{listed}; drop it from the files or choose other rows in split.train of params.yaml"
        )


def warn_about_sentinels(rows: np.ndarray, names: list[str], sentinels: list[float]) -> None:
    """Print a warning naming the columns of `rows`, the training rows, that have sentinels."""
    counts = np.isin(rows, sentinels).sum(axis=0)
    if counts.any():
        listed = ", ".join(f"{counts[i]} in {names[i]!r}" for i in np.flatnonzero(counts))
        print(f"warning: sentinels in the training rows distort mean and deviation: {listed}", file=sys.stderr)


def check_measured(columns: dict[str, np.ndarray], location: str) -> None:
    """Raise UserError naming the `columns` (rows,) with NaN, which the notebooks' models cannot handle."""
    counts = {name: int(np.isnan(values).sum()) for name, values in columns.items()}
    if any(counts.values()):
        listed = ", ".join(f"{count:,} missing in {name!r}" for name, count in counts.items() if count)
        raise UserError(
            f"{location}: expected a number in every row, found {listed}; fill them in, or use the station's "
            "models (`dvc repro report_station`), which handle missing values"
        )


def normalize() -> None:
    """Write the mean and the standard deviation of the training rows to data/normalization.json."""
    split = read_settings(Split, "split")
    times, *names = columns = read_record(split.record)
    location = str(FOLDER / split.record / "record.parquet")
    check_split_fits(split, len(columns[times]))
    first, last = split.train
    rows = np.column_stack([columns[name][first:last] for name in names])
    check_measured({name: columns[name] for name in names}, location)
    check_not_constant(rows, names, first, last, location)
    warn_about_sentinels(rows, names, read_settings(Sensors, "records", split.record).sentinels)
    mean, std = compute_statistics(rows)
    scales = {name: {"mean": float(m), "std": float(s)} for name, m, s in zip(names, mean, std, strict=True)}
    with atomic_output(NORMALIZATION) as path:
        text = json.dumps({"rows": [first, last], "columns": scales}, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
