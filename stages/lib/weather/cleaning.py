"""A record as a regular grid of what was measured: duplicates, sentinels and impossible values taken out."""

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.settings.clean import Check, Clean, Wind
from stages.lib.weather.gaps import find_runs, find_short_gaps
from stages.lib.weather.grid import to_regular_grid

TEN_MINUTES = 600  # s: the interval that the largest steps of params.yaml are about


def find_check(column: str, checks: dict[str, Check]) -> Check:
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


def mask_invalid(
    values: pd.Series, check: Check, sentinels: list[float], where: str
) -> tuple[pd.Series, dict[str, int]]:
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


def count_suspects(values: np.ndarray, check: Check, interval: float) -> dict[str, int]:
    """Count what is doubtful in the `values` (n,) of a grid of `interval` seconds; it stays as it is.

    `steps`: changes from one row to the next above check.step, at intervals up to ten minutes; over longer ones
    the weather itself changes as much. `stuck`: rows in stretches of one value for more than check.stuck hours.
    """
    counts = {"steps": 0, "stuck": 0}
    changes = np.diff(values)
    if check.step is not None and interval <= TEN_MINUTES:
        counts["steps"] = int((abs(changes) > check.step).sum())
    if check.stuck is not None:
        lengths = np.diff(find_runs(changes == 0), axis=1)[:, 0]
        counts["stuck"] = int((lengths[lengths * interval > check.stuck * 3600] + 1).sum())
    return counts


def replace_wind_direction(grid: pd.DataFrame, wind: Wind | None) -> pd.DataFrame:
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


def clean_record(
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
    grid, report = to_regular_grid(pd.DataFrame(record), where, spaced)
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
        check = find_check(name, clean.checks)
        values, counts = mask_invalid(grid[name], check, sentinels, where)
        missing = values.isna().to_numpy()
        if missing.all() and name == target:
            raise UserError(
                f"{where}, column {name!r}: expected measured values of the target, found none; look at "
                "dataset.target, dataset.sentinels and clean.checks in params.yaml"
            )
        if missing.all():
            report["dropped"].append(name)
            continue
        counts |= count_suspects(values.to_numpy(), check, report["interval_minutes"] * 60)
        counts["missing"] = int(missing.sum())
        limit = clean.max_gap * 60 / report["interval_minutes"]
        counts["interpolated"] = int(find_short_gaps(missing, limit).sum())
        columns[name], report["columns"][name] = values, counts
    return replace_wind_direction(pd.DataFrame(columns), clean.wind), report


def describe_cleaning(report: dict[str, Any]) -> str:
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
