"""The regular grid of a record: each time once, at a constant interval."""

from typing import Any

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.weather.gaps import find_runs

MAX_POINTS_PER_ROW = 20  # beyond, a time of the record must be wrong


def infer_grid(times: np.ndarray, location: str) -> tuple[int, int]:
    """Return the interval and the phase, both in s, of the grid of `times` (n,) datetime64[s].

    The interval is the most common step between successive times, and the phase the most common time modulo the
    interval; in a tie, the smallest. Raises UserError if there are fewer than two different times.
    """
    moments = np.unique(times.astype("datetime64[s]").astype(np.int64))
    if len(moments) < 2:
        raise UserError(f"{location}: expected rows at two times at least, found {len(moments)}")
    steps, counts = np.unique(np.diff(moments), return_counts=True)
    interval = int(steps[counts.argmax()])
    phases, counts = np.unique(moments % interval, return_counts=True)
    return interval, int(phases[counts.argmax()])


def to_regular_grid(
    record: pd.DataFrame, location: str, interval_and_phase: tuple[int, int] | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return `record`, whose first column has the times, on a regular grid, and a report with counts.

    `interval_and_phase` of the grid are in s; by default `infer_grid` takes them from the record. The result is
    indexed by time and has one row per grid point from the first to the last, NaN where the record has no row. A
    row goes to the nearest grid point, at most half an interval away. If several rows go to one point, the nearest
    is kept, and of equally near ones the first in the record.
    """
    time = record.columns[0]
    interval, phase = interval_and_phase or infer_grid(record[time].to_numpy(), location)
    shared_times = record[record[time].duplicated(keep=False)]
    duplicates = shared_times.index[shared_times.duplicated()]
    rows = record.drop(duplicates)
    moments = rows[time].to_numpy().astype("datetime64[s]").astype(np.int64)
    point = (moments - phase + interval // 2) // interval
    distance = abs(moments - phase - point * interval)
    first, last = int(point.min()), int(point.max())
    if last - first > MAX_POINTS_PER_ROW * len(record):
        raise UserError(
            f"{location}: expected rows every {interval / 60:g} minutes, the most common step, found "
            f"{len(record):,} rows from {rows[time].min()} to {rows[time].max()}, "
            f"{(last - first) // len(record)} times too few; correct the times that are wrong, or split the record"
        )
    nearest = rows.assign(point=point, distance=distance).sort_values(["point", "distance"], kind="stable")
    nearest = nearest.drop_duplicates("point").set_index("point")
    moved = int((nearest.pop("distance") > 0).sum())
    grid = nearest.drop(columns=time).reindex(range(first, last + 1))
    empty = np.ones(len(grid), bool)
    empty[nearest.index - first] = False
    seconds = np.arange(first, last + 1) * interval + phase
    grid.index = pd.DatetimeIndex(seconds.astype("datetime64[s]"), name=time)
    return grid, {
        "rows": len(record),
        "grid_points": len(grid),
        "first": grid.index[0].isoformat(),
        "last": grid.index[-1].isoformat(),
        "interval_minutes": interval / 60,
        "phase_minutes": phase / 60,
        "duplicates": len(duplicates),
        "conflicts": len(rows) - len(nearest),
        "moved": moved,
        "gaps": [
            {"first": grid.index[a].isoformat(), "last": grid.index[b - 1].isoformat(), "missing": int(b - a)}
            for a, b in find_runs(empty)
        ],
    }
