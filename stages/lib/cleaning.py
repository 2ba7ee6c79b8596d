"""A record as a regular grid of what was measured: duplicates, sentinels and impossible values taken out."""

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.errors import UserError

TEN_MINUTES = 600  # s: the interval that the largest steps of params.yaml are about
SPARSE = 20  # grid points a row: beyond, one time of the record must be wrong


def runs(mask: np.ndarray) -> np.ndarray:
    """Return the stretches of True in `mask` (n,) as (stretches, 2): first index, and the one after the last."""
    edges = np.diff(mask.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges).reshape(-1, 2)


def longer(mask: np.ndarray, limit: float) -> np.ndarray:
    """Return `mask` (n,) less its stretches of True that are no longer than `limit` rows."""
    found = np.zeros(len(mask), bool)
    for first, last in runs(mask):
        found[first:last] = last - first > limit
    return found


def spacing(times: np.ndarray) -> tuple[int, int]:
    """Return the interval and the phase, both in s, of the grid of `times` (n,) datetime64[s].

    The most common step between neighbouring times, and the most common time modulo that; of several the
    smallest. Raises UserError where there are not two different times.
    """
    moments = np.unique(times.astype("datetime64[s]").astype(np.int64))
    if len(moments) < 2:
        raise UserError(f"the record: expected rows at two times at least, found {len(moments)}")
    steps, counts = np.unique(np.diff(moments), return_counts=True)
    interval = int(steps[counts.argmax()])
    phases, counts = np.unique(moments % interval, return_counts=True)
    return interval, int(phases[counts.argmax()])


def regular(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return `table`, whose first column holds times, on its own grid, and what was counted on the way.

    The result is indexed by time, one row a grid point from the first to the last; a point without a row is
    NaN. A row belongs to the grid point nearest to it, at most half an interval away; of several rows at one
    point the nearest stays, of equally near ones the first in the record.
    """
    time = table.columns[0]
    interval, phase = spacing(table[time].to_numpy())
    recurring = table[table[time].duplicated(keep=False)]
    repeated = recurring.index[recurring.duplicated()]
    rows = table.drop(repeated)
    moments = rows[time].to_numpy().astype("datetime64[s]").astype(np.int64)
    point = (moments - phase + interval // 2) // interval
    away = abs(moments - phase - point * interval)
    first, last = int(point.min()), int(point.max())
    if last - first > SPARSE * len(table):
        raise UserError(
            f"the record: {len(table):,} rows every {interval / 60:g} minutes from {rows[time].min()} to "
            f"{rows[time].max()} leave more than {SPARSE - 1} of {SPARSE} grid points empty; is a time wrong?"
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
            for a, b in runs(empty)
        ],
    }


def check_of(column: str, checks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the entry of params.yaml `clean.checks` for `column`, {} where there is none; UserError if several."""
    fitting = [
        name
        for name, check in checks.items()
        if any(column == pattern or fnmatchcase(column, pattern) for pattern in check["columns"])
    ]
    if len(fitting) > 1:
        raise UserError(
            f"params.yaml: clean.checks: the column {column!r} fits {' and '.join(fitting)}; name it in one of them"
        )
    return checks[fitting[0]] if fitting else {}


def clear(values: pd.Series, check: dict[str, Any], sentinels: list[float]) -> tuple[pd.Series, dict[str, int]]:
    """Return `values` with NaN for what was not measured or cannot be, and the counts of either.

    Raises UserError where the median lies outside the limits: another unit.
    """
    stands_for_none = values.isin([*sentinels, *check.get("missing", [])])
    kept = values.mask(stands_for_none)
    low, high = check.get("limits", (-np.inf, np.inf))
    if kept.notna().any() and not low <= kept.median() <= high:
        raise UserError(
            f"the record, column {values.name!r}: expected most values within {low:g} to {high:g} (clean.checks in "
            f"params.yaml), found a median of {kept.median():g}: is the unit another one? Convert the column, or "
            "correct the limits"
        )
    outside = (kept < low) | (kept > high)
    counts = {"sentinels": int(stands_for_none.sum()), "out_of_limits": int(outside.sum())}
    return kept.mask(outside), counts


def suspects(values: np.ndarray, check: dict[str, Any], interval: float) -> dict[str, int]:
    """Count what the (n,) `values` of a grid of `interval` seconds hold that is doubtful; it stays as it is.

    `steps`: changes from one row to the next above check["step"], at intervals up to ten minutes, beyond which
    the weather itself changes as much. `stuck`: rows in stretches of one value for more than check["stuck"] hours.
    """
    counts = {"steps": 0, "stuck": 0}
    changes = np.diff(values)
    if "step" in check and interval <= TEN_MINUTES:
        counts["steps"] = int((abs(changes) > check["step"]).sum())
    if "stuck" in check:
        lengths = np.diff(runs(changes == 0), axis=1)[:, 0] + 1
        counts["stuck"] = int(lengths[(lengths - 1) * interval > check["stuck"] * 3600].sum())
    return counts


def wind_vector(grid: pd.DataFrame, wind: dict[str, str] | None) -> pd.DataFrame:
    """Return `grid` with the direction (degrees from north, where the wind comes from) as a vector.

    The columns `wind east (m/s)` and `wind north (m/s)`, where the wind blows to, stand for the direction, which
    jumps from 360 to 0; the speed stays. Raises UserError where a column of params.yaml `clean.wind` is missing.
    """
    if wind is None:
        return grid
    for key in ("speed", "direction"):
        if wind[key] not in grid:
            raise UserError(
                f"params.yaml: clean.wind.{key}: expected a column of the record, found {wind[key]!r}; it has "
                f"{', '.join(map(repr, grid.columns))}; where there is no wind direction: `wind: null`"
            )
    speed, angle = grid[wind["speed"]], np.deg2rad(grid[wind["direction"]])
    vector = {"wind east (m/s)": -speed * np.sin(angle), "wind north (m/s)": -speed * np.cos(angle)}
    return grid.drop(columns=wind["direction"]).assign(**vector)


def short_gaps(missing: np.ndarray, limit: float, breaks: np.ndarray | None = None) -> np.ndarray:
    """Return which rows of `missing` (n,) may be interpolated: stretches up to `limit`, measured on either side.

    Not so pandas' own `limit`, which fills the first rows of a long gap too. `breaks` are rows at which something
    new begins: no stretch is filled from both sides of one.
    """
    piece = np.searchsorted([] if breaks is None else breaks, np.arange(len(missing)), side="right")
    found = np.zeros(len(missing), bool)
    for first, last in runs(missing):
        inside = first > 0 and last < len(missing) and piece[first - 1] == piece[last]
        found[first:last] = inside and last - first <= limit
    return found


def filled(grid: pd.DataFrame, limit: float, breaks: np.ndarray | None = None) -> pd.DataFrame:
    """Return `grid` with its `short_gaps` interpolated linearly; the longer ones stay NaN."""
    columns = {}
    for name in grid:
        values = grid[name].to_numpy(copy=True)
        missing = np.isnan(values)
        gaps = short_gaps(missing, limit, breaks)
        values[gaps] = (
            np.interp(np.flatnonzero(gaps), np.flatnonzero(~missing), values[~missing]) if gaps.any() else 0
        )
        columns[name] = values
    return pd.DataFrame(columns, index=grid.index)


def cleaned(
    record: dict[str, np.ndarray], clean: dict[str, Any], sentinels: list[float], target: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the measured values of `record` on its grid, NaN where there are none, and the report on it.

    `record` is what lib.record.read returns; `clean` the section of params.yaml. Raises UserError where the
    target was never measured or a unit cannot be right. Any other column without one value is dropped.
    """
    grid, report = regular(pd.DataFrame(record))
    interval = report["interval_minutes"] * 60
    if target not in grid:
        raise UserError(
            f"params.yaml: dataset.target: expected a column of the record, found {target!r}; it has "
            f"{', '.join(map(repr, grid.columns))}"
        )
    columns, report["columns"], report["dropped"] = {}, {}, []
    for name in grid:
        check = check_of(name, clean["checks"])
        values, counts = clear(grid[name], check, sentinels)
        missing = values.isna().to_numpy()
        if missing.all() and name == target:
            raise UserError(f"the record, column {name!r}: expected measured values of the target, found none")
        if missing.all():
            report["dropped"].append(name)
            continue
        counts |= suspects(values.to_numpy(), check, interval)
        counts["missing"] = int(missing.sum())
        counts["interpolated"] = int(short_gaps(missing, clean["max_gap"] * 3600 / interval).sum())
        columns[name], report["columns"][name] = values, counts
    return wind_vector(pd.DataFrame(columns), clean["wind"]), report


def summary(report: dict[str, Any]) -> str:
    """Return the report of `cleaned` on two lines."""
    columns = report["columns"].items()
    counts = [
        f"{key.replace('_', ' ')} "
        + ", ".join(f"{counts[key]:,} in {name!r}" for name, counts in columns if counts[key])
        for key in ("sentinels", "out_of_limits", "steps", "stuck")
        if any(counts[key] for _, counts in columns)
    ]
    dropped = [f"dropped, nothing measured: {', '.join(map(repr, report['dropped']))}"] if report["dropped"] else []
    return (
        f"{report['grid_points']:,} grid points every {report['interval_minutes']:g} minutes, {report['first']} to "
        f"{report['last']}; {report['rows']:,} rows, of which {report['duplicates']} duplicates, "
        f"{report['conflicts']} at an occupied point, {report['moved']:,} moved; {len(report['gaps'])} gaps of "
        f"{sum(gap['missing'] for gap in report['gaps']):,} points\n" + "; ".join([*counts, *dropped])
    ).rstrip()
