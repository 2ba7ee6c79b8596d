"""A record as a regular grid of what was measured: duplicates, sentinels and impossible values taken out."""

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.settings.clean import Check, Clean, Wind

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


def spacing(times: np.ndarray, where: str) -> tuple[int, int]:
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


def regular(
    table: pd.DataFrame, where: str, spaced: tuple[int, int] | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return `table`, whose first column holds times, on a grid, and what was counted on the way.

    `spaced` is the grid's interval and phase in s; without it the grid is the record's own.

    The result is indexed by time, one row a grid point from the first to the last; a point without a row is
    NaN. A row belongs to the grid point nearest to it, at most half an interval away; of several rows at one
    point the nearest stays, of equally near ones the first in the record.
    """
    time = table.columns[0]
    interval, phase = spaced or spacing(table[time].to_numpy(), where)
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
            for a, b in runs(empty)
        ],
    }


def check_of(column: str, checks: dict[str, Check]) -> Check:
    """Return the one of params.yaml `clean.checks` about `column`, or an empty one; UserError if several."""
    fitting = [
        name
        for name, check in checks.items()
        if any(column == pattern or fnmatchcase(column, pattern) for pattern in check.columns)
    ]
    if len(fitting) > 1:
        raise UserError(
            f"params.yaml: clean.checks: expected every column in one check, found {column!r} in "
            f"{' and '.join(fitting)}; take it out of all but one"
        )
    return checks[fitting[0]] if fitting else Check(columns=[column])


def clear(values: pd.Series, check: Check, sentinels: list[float], where: str) -> tuple[pd.Series, dict[str, int]]:
    """Return `values` with NaN for what was not measured or is impossible, and how many there are of each.

    Raises UserError where the median lies outside the limits: another unit.
    """
    stands_for_none = values.isin([*sentinels, *check.missing])
    kept = values.mask(stands_for_none)
    low, high = check.limits or (-np.inf, np.inf)
    if kept.notna().any() and not low <= kept.median() <= high:
        raise UserError(
            f"{where}, column {values.name!r}: expected values from {low:g} to {high:g} (clean.checks in "
            f"params.yaml), found a median of {kept.median():g}; is it in another unit? Convert the column, or "
            "name it in a check with limits in its unit"
        )
    outside = (kept < low) | (kept > high)
    counts = {"sentinels": int(stands_for_none.sum()), "out_of_limits": int(outside.sum())}
    return kept.mask(outside), counts


def suspects(values: np.ndarray, check: Check, interval: float) -> dict[str, int]:
    """Count what is doubtful in the `values` (n,) of a grid of `interval` seconds; it stays as it is.

    `steps`: changes from one row to the next above check.step, at intervals up to ten minutes; over longer ones
    the weather itself changes as much. `stuck`: rows in stretches of one value for more than check.stuck hours.
    """
    counts = {"steps": 0, "stuck": 0}
    changes = np.diff(values)
    if check.step is not None and interval <= TEN_MINUTES:
        counts["steps"] = int((abs(changes) > check.step).sum())
    if check.stuck is not None:
        lengths = np.diff(runs(changes == 0), axis=1)[:, 0]
        counts["stuck"] = int((lengths[lengths * interval > check.stuck * 3600] + 1).sum())
    return counts


def with_vector(grid: pd.DataFrame, wind: Wind | None) -> pd.DataFrame:
    """Return `grid` with the wind's direction (degrees from north, where it comes from) as a vector.

    The direction jumps from 360 to 0; `wind east (m/s)` and `wind north (m/s)`, where the wind blows to, do not.
    They are 0 in a calm, whatever the direction. The speed stays.
    """
    if wind is None or wind.direction not in grid or wind.speed not in grid:
        return grid
    speed, angle = grid[wind.speed], np.deg2rad(grid[wind.direction])
    parts = {"wind east (m/s)": -speed * np.sin(angle), "wind north (m/s)": -speed * np.cos(angle)}
    return grid.drop(columns=wind.direction).assign(
        **{name: part.mask(speed == 0, 0.0) for name, part in parts.items()}
    )


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
    record: dict[str, np.ndarray],
    clean: Clean,
    sentinels: list[float],
    target: str,
    where: str,
    spaced: tuple[int, int] | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the measured values of `record` on its grid, NaN where there are none, and the report on it.

    `record` holds the times as datetime64[s] and then the columns, as lib.record.read returns it; `where` is what
    messages call it; `spaced` is for `regular`. A column in which nothing was measured is dropped. Raises UserError
    where that is the target, where a column of params.yaml is missing, or where a unit cannot be right.
    """
    grid, report = regular(pd.DataFrame(record), where, spaced)
    wanted = {"dataset.target": target}
    if clean.wind is not None:
        wanted |= {"clean.wind.speed": clean.wind.speed, "clean.wind.direction": clean.wind.direction}
    for key, name in wanted.items():
        if name not in grid:
            mend = "" if key == "dataset.target" else "; where no direction was measured: `wind: null`"
            raise UserError(
                f"params.yaml: {key}: expected a column of {where}, found {name!r}; it has "
                f"{', '.join(map(repr, grid.columns))}{mend}"
            )
    if clean.wind is not None and clean.wind.direction == target:
        raise UserError(
            f"params.yaml: clean.wind.direction: expected another column than dataset.target, found {target!r}; an "
            "angle cannot be forecast as a number"
        )
    columns, report["columns"], report["dropped"] = {}, {}, []
    for name in grid.columns:
        check = check_of(name, clean.checks)
        values, counts = clear(grid[name], check, sentinels, where)
        missing = values.isna().to_numpy()
        if missing.all() and name == target:
            raise UserError(
                f"{where}, column {name!r}: expected measured values of the target, found none; look at "
                "dataset.target, dataset.sentinels and clean.checks in params.yaml"
            )
        if missing.all():
            report["dropped"].append(name)
            continue
        counts |= suspects(values.to_numpy(), check, report["interval_minutes"] * 60)
        counts["missing"] = int(missing.sum())
        limit = clean.max_gap * 60 / report["interval_minutes"]
        counts["interpolated"] = int(short_gaps(missing, limit).sum())
        columns[name], report["columns"][name] = values, counts
    return with_vector(pd.DataFrame(columns), clean.wind), report


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
