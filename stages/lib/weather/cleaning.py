"""Cleaning: from a record to a regular grid of measured values, NaN where a value is missing or impossible."""

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.settings.clean import Check, Clean
from stages.lib.settings.records import Sensors, Wind
from stages.lib.weather.gaps import find_runs, find_short_gaps
from stages.lib.weather.grid import to_regular_grid
from stages.lib.weather.record import ISSUE_TIME

TEN_MINUTES = 600  # s: the interval to which `step` in params.yaml refers
MIN_STUCK_ROWS = 6  # so that two equal daily values are no stuck sensor
WIND_VECTOR = ("wind east (m/s)", "wind north (m/s)")


def find_check(column: str, checks: dict[str, Check]) -> Check:
    """Return the check of `clean.checks` for `column`, or an empty one; raise UserError if there are several."""
    matches = [
        name
        for name, check in checks.items()
        if any(column == pattern or fnmatchcase(column, pattern) for pattern in check.columns)
    ]
    if len(matches) > 1:
        raise UserError(
            f"params.yaml: clean.checks: expected every column in one check, found {column!r} in "
            f"{' and '.join(matches)}; take it out of all but one"
        )
    return checks[matches[0]] if matches else Check(columns=[column])


def mask_invalid(
    values: pd.Series, check: Check, sentinels: list[float], location: str
) -> tuple[pd.Series, dict[str, int]]:
    """Return `values` with NaN for sentinels and for values outside the limits, and the counts of both.

    Raises UserError if the median lies outside the limits: then the values have another unit.
    """
    is_sentinel = values.isin([*sentinels, *check.missing])
    measured = values.mask(is_sentinel)
    low, high = check.limits or (-np.inf, np.inf)
    if measured.notna().any() and not low <= measured.median() <= high:
        raise UserError(
            f"{location}, column {values.name!r}: expected values from {low:g} to {high:g} (clean.checks in "
            f"params.yaml), found a median of {measured.median():g}; is it in another unit? Convert the column, or "
            "name it in a check with limits in its unit"
        )
    outside = (measured < low) | (measured > high)
    counts = {"sentinels": int(is_sentinel.sum()), "out_of_limits": int(outside.sum())}
    return measured.mask(outside), counts


def count_suspects(values: np.ndarray, check: Check, interval: float) -> dict[str, int]:
    """Count doubtful `values` (n,) on a grid of `interval` seconds, without changing them.

    `steps`: changes from one row to the next that exceed check.step. Only for intervals up to ten minutes, as over
    longer ones the weather itself may change as much. `stuck`: rows in runs of one value that last more than
    check.stuck hours and have at least MIN_STUCK_ROWS rows.
    """
    counts = {"steps": 0, "stuck": 0}
    changes = np.diff(values)
    if check.step is not None and interval <= TEN_MINUTES:
        counts["steps"] = int((abs(changes) > check.step).sum())
    if check.stuck is not None:
        lengths = np.diff(find_runs(changes == 0), axis=1)[:, 0]
        is_stuck = (lengths * interval > check.stuck * 3600) & (lengths + 1 >= MIN_STUCK_ROWS)
        counts["stuck"] = int((lengths[is_stuck] + 1).sum())
    return counts


def replace_wind_direction(grid: pd.DataFrame, wind: Wind | None) -> pd.DataFrame:
    """Return `grid` with the wind direction (degrees from north, where the wind comes from) replaced by a vector.

    The direction jumps from 360 to 0; the components WIND_VECTOR, which point where the wind blows to, do not. In a
    calm they are 0, whatever the direction. The speed is kept.
    """
    if wind is None or wind.direction not in grid or wind.speed not in grid:
        return grid
    speed, angle = grid[wind.speed], np.deg2rad(grid[wind.direction])
    vector = zip(WIND_VECTOR, (-speed * np.sin(angle), -speed * np.cos(angle)), strict=True)
    return grid.drop(columns=wind.direction).assign(
        **{name: component.mask(speed == 0, 0.0) for name, component in vector}
    )


def clean_record(
    record: dict[str, np.ndarray],
    settings: Clean,
    sensors: Sensors,
    location: str,
    key: str,
    interval_and_phase: tuple[int, int] | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the measured values of `record` on a regular grid, NaN where there are none, and a report.

    `record` has the times, as datetime64[s], and then the columns, as `read_record` returns it. Messages call it
    `location`, and its section of params.yaml `key`. `interval_and_phase` are those of the grid; see
    `to_regular_grid`. A column without any measured value is dropped. Raises UserError if the target is, if the
    record lacks a column that params.yaml names, or if a column has another unit than its check.
    """
    grid, report = to_regular_grid(pd.DataFrame(record), location, interval_and_phase)
    columns, reports = clean_columns(grid, settings, sensors, location, key)
    interval = report["interval_minutes"] * 60
    for name in reports:
        values = columns[name].to_numpy()
        reports[name] |= count_suspects(values, find_check(name, settings.checks), interval)
        missing = np.isnan(values)
        reports[name]["missing"] = int(missing.sum())
        limit = settings.max_gap * 3600 / interval
        reports[name]["interpolated"] = int(find_short_gaps(missing, limit).sum())
    report["columns"] = reports
    report["dropped"] = [name for name in grid.columns if name not in columns]
    return replace_wind_direction(columns, sensors.wind), report


def clean_forecasts(
    record: dict[str, np.ndarray], settings: Clean, sensors: Sensors, location: str, key: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the forecasts of `record` without impossible values, and a report.

    The result is indexed by valid time and sorted by it, then by ISSUE_TIME, its first column. `record`, `location`
    and `key` are as in `clean_record`; so are the errors.
    """
    valid, *_ = record
    frame = pd.DataFrame(record).drop_duplicates().set_index(valid)
    if isinstance(sensors.issued, str):
        issued = frame.pop(sensors.issued).to_numpy().astype("M8[s]")
    else:
        issued = frame.index.to_numpy().astype("M8[s]") - np.timedelta64(round(3600 * sensors.issued), "s")
    columns, reports = clean_columns(frame, settings, sensors, location, key)
    for name in reports:
        reports[name]["missing"] = int(columns[name].isna().sum())
    report = {
        "rows": len(next(iter(record.values()))),
        "forecasts": len(frame),
        "first": frame.index.min().isoformat(),
        "last": frame.index.max().isoformat(),
        "issues": len(np.unique(issued)),
        "columns": reports,
        "dropped": [name for name in frame.columns if name not in columns],
    }
    columns = replace_wind_direction(columns, sensors.wind)
    columns.insert(0, ISSUE_TIME, issued)
    # A forecast without a value hides no older one.
    columns = columns.dropna(how="all", subset=[sensors.target] if sensors.target else list(columns.columns[1:]))
    return columns.sort_values([valid, ISSUE_TIME]), report


def clean_columns(
    frame: pd.DataFrame, settings: Clean, sensors: Sensors, location: str, key: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the columns of `frame` with NaN for invalid values, and a report for each; see `clean_record`."""
    target, wind = sensors.target, sensors.wind
    required = {"target": target} if target is not None else {}
    if wind is not None:
        required |= {"wind.speed": wind.speed, "wind.direction": wind.direction}
    for setting, name in required.items():
        if name not in frame:
            advice = "" if setting == "target" else "; where no direction was measured: `wind: null`"
            raise UserError(
                f"params.yaml: {key}.{setting}: expected a column of {location}, found {name!r}; it has "
                f"{', '.join(map(repr, frame.columns))}{advice}"
            )
    if wind is not None and wind.direction == target:
        raise UserError(
            f"params.yaml: {key}.wind.direction: expected another column than the target, found {target!r}; an "
            "angle cannot be forecast as a number"
        )
    columns, reports = {}, {}
    for name in frame.columns:
        values, counts = mask_invalid(frame[name], find_check(name, settings.checks), sensors.sentinels, location)
        if values.isna().all() and name == target:
            raise UserError(
                f"{location}, column {name!r}: expected measured values of the target, found none; look at "
                f"{key}.target, {key}.sentinels and clean.checks in params.yaml"
            )
        if not values.isna().all():
            columns[name], reports[name] = values, counts
    if not columns:  # a weather model need not forecast the target
        raise UserError(
            f"{location}: expected values in a column at least, found none; look at {key}.sentinels and "
            "clean.checks in params.yaml"
        )
    return pd.DataFrame(columns), reports


def describe_cleaning(report: dict[str, Any]) -> str:
    """Return the report of `clean_record` or `clean_forecasts` on two lines."""
    columns = report["columns"].items()
    counts = [
        f"{key.replace('_', ' ')} "
        + ", ".join(f"{counts[key]:,} in {name!r}" for name, counts in columns if counts.get(key))
        for key in ("sentinels", "out_of_limits", "steps", "stuck")
        if any(counts.get(key) for _, counts in columns)
    ]
    dropped = [f"dropped, nothing measured: {', '.join(map(repr, report['dropped']))}"] if report["dropped"] else []
    details = "\n" + "; ".join([*counts, *dropped]) if counts or dropped else ""
    if "issues" in report:
        return (
            f"{report['forecasts']:,} forecasts in {report['issues']:,} issues, valid from {report['first']} to "
            f"{report['last']}{details}"
        )
    return (
        f"{report['grid_points']:,} grid points every {report['interval_minutes']:g} minutes, {report['first']} to "
        f"{report['last']}; {report['rows']:,} rows, of which {report['duplicates']} duplicates, "
        f"{report['conflicts']} at an occupied point, {report['moved']:,} moved; {len(report['gaps'])} gaps of "
        f"{sum(gap['missing'] for gap in report['gaps']):,} points{details}"
    )
