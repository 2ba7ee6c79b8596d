"""The regular grid of a record: every time once, at one interval."""

from typing import Any

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.weather.gaps import find_runs

SPARSE = 20  # grid points a row: beyond, one time of the record must be wrong


def infer_grid(times: np.ndarray, where: str) -> tuple[int, int]:
    """Return the interval and the phase, both in s, of the grid of `times` (n,) datetime64[s].

    The most common step between neighbouring times, and the most common time modulo that; of several the
    smallest. Raises UserError where there are not two different times.
    """
    moments = np.unique(times.astype("datetime64[s]").astype(np.int64))
    if len(moments) < 2:
        raise UserError(f"{where}: expected rows at two times at least, found {len(moments)}")
    steps, counts = np.unique(np.diff(moments), return_counts=True)
    interval = int(steps[counts.argmax()])
    phases, counts = np.unique(moments % interval, return_counts=True)
    return interval, int(phases[counts.argmax()])


def to_regular_grid(
    table: pd.DataFrame, where: str, spaced: tuple[int, int] | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return `table`, whose first column holds times, on a grid, and what was counted on the way.

    `spaced` is the grid's interval and phase in s; without it the grid is the record's own.

    The result is indexed by time, one row a grid point from the first to the last; a point without a row is
    NaN. A row belongs to the grid point nearest to it, at most half an interval away; of several rows at one
    point the nearest stays, of equally near ones the first in the record.
    """
    time = table.columns[0]
    interval, phase = spaced or infer_grid(table[time].to_numpy(), where)
    recurring = table[table[time].duplicated(keep=False)]
    repeated = recurring.index[recurring.duplicated()]
    rows = table.drop(repeated)
    moments = rows[time].to_numpy().astype("datetime64[s]").astype(np.int64)
    point = (moments - phase + interval // 2) // interval
    away = abs(moments - phase - point * interval)
    first, last = int(point.min()), int(point.max())
    if last - first > SPARSE * len(table):
        raise UserError(
            f"{where}: expected rows every {interval / 60:g} minutes, the most common step, found {len(table):,} "
            f"rows from {rows[time].min()} to {rows[time].max()}, {(last - first) // len(table)} times too few; "
            "correct the times that are wrong, or split the record"
        )
    nearest = rows.assign(point=point, away=away).sort_values(["point", "away"], kind="stable")
    nearest = nearest.drop_duplicates("point").set_index("point")
    moved = int((nearest.pop("away") > 0).sum())
    grid = nearest.drop(columns=time).reindex(range(first, last + 1))
    empty = np.ones(len(grid), bool)
    empty[nearest.index - first] = False
    seconds = np.arange(first, last + 1) * interval + phase
    grid.index = pd.DatetimeIndex(seconds.astype("datetime64[s]"), name=time)
    return grid, {
        "rows": len(table),
        "grid_points": len(grid),
        "first": grid.index[0].isoformat(),
        "last": grid.index[-1].isoformat(),
        "interval_minutes": interval / 60,
        "phase_minutes": phase / 60,
        "duplicates": len(repeated),
        "conflicts": len(rows) - len(nearest),
        "moved": moved,
        "gaps": [
            {"first": grid.index[a].isoformat(), "last": grid.index[b - 1].isoformat(), "missing": int(b - a)}
            for a, b in find_runs(empty)
        ],
    }
