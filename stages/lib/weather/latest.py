"""The latest file of a station: read, cleaned and checked, as the window that a forecast starts from."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.files import open_input
from stages.lib.settings.base import read_settings
from stages.lib.settings.clean import Clean
from stages.lib.settings.records import Record, Wind
from stages.lib.weather.cleaning import WIND_VECTOR, clean_record, find_check
from stages.lib.weather.csv_files import read_csv_files
from stages.lib.weather.grid import infer_grid
from stages.lib.weather.hourly import CALENDAR, HourlyRows, to_hourly_rows
from stages.lib.weather.record import FOLDER, to_numpy

HOUR = np.timedelta64(3600, "s")
MAX_AGE = np.timedelta64(24, "h")  # of a file; the forecast from an older one is for hours that have mostly passed
Description = dict[str, Any]  # the content of model.json


class Latest(NamedTuple):
    """What a forecast starts from."""

    window: np.ndarray  # (lookback, columns) float32 in their own units; the last row is the origin
    origin: np.datetime64
    measured: pd.Series  # the target in the whole file by time, every hour; NaN where it was not measured
    end: np.datetime64  # the last time in the file
    warnings: list[str]


def read_latest_window(path: Path, description: Description, origin: np.datetime64 | None) -> Latest:
    """Return the window up to `origin`, or to the last complete hour of the file, for the model of `description`.

    The file goes through the same code as the training data. Raises UserError if no forecast can start from it.
    """
    name, label = description["record"], str(path)
    settings, clean = read_settings(Record, "records", name), read_settings(Clean, "clean")
    table = read_csv_files([path], settings, f"records.{name}")
    record = {name: to_numpy(table[name]) for name in table.column_names}
    interval, phase = read_training_grid(name)
    check_interval(record, interval, description, label)
    check_required_columns(table.column_names[1:], description, settings.wind, label)
    grid, _ = clean_record(record, clean, settings, label, f"records.{name}", (interval, phase))
    check_column_order(list(grid.columns), description, label)
    return select_window(grid, record, description, clean, settings.sentinels, origin, label)


def read_training_grid(name: str) -> tuple[int, int]:
    """Return the interval and the phase, in s, of the grid of the record `name`."""
    with open_input(FOLDER / name / "clean.json", f"clean@{name}") as path:
        report = json.loads(path.read_text(encoding="utf-8"))
        return round(60 * report["interval_minutes"]), round(60 * report["phase_minutes"])


def check_interval(record: dict[str, np.ndarray], interval: int, description: Description, label: str) -> None:
    """Raise UserError unless `interval` (s) is that of the file, too."""
    file_interval, _ = infer_grid(next(iter(record.values())), label)
    if file_interval != interval:
        raise UserError(
            f"{label}: expected a row every {interval / 60:g} minutes, as in the record that "
            f"{description['model']} was trained on, found one every {file_interval / 60:g}"
        )


def check_required_columns(columns: list[str], description: Description, wind: Wind | None, label: str) -> None:
    """Raise UserError if the file lacks a column of the model."""
    required = [name for name in description["columns"][: -len(CALENDAR)] if name not in WIND_VECTOR]
    if wind is not None and WIND_VECTOR[0] in description["columns"]:
        required.append(wind.direction)
    if missing := [name for name in required if name not in columns]:
        raise UserError(
            f"{label}, line 1: expected the columns that {description['model']} was trained on, found "
            f"none called {' or '.join(map(repr, missing))}; the file has {', '.join(map(repr, columns))}"
        )


def check_column_order(columns: list[str], description: Description, label: str) -> None:
    """Raise UserError unless the cleaned `columns` are those of the model, in the same order."""
    required, model = description["columns"][: -len(CALENDAR)], description["model"]
    if missing := [column for column in required if column not in columns]:
        raise UserError(
            f"{label}: expected measured values in every column that {model} was trained on, found none "
            f"in {' and '.join(map(repr, missing))}"
        )
    if unknown := [column for column in columns if column not in required]:
        raise UserError(
            f"{label}: expected the columns that {model} was trained on, found also "
            f"{', '.join(map(repr, unknown))}; another station's file? Or name them in "
            f"records.{description['record']}.leave_out"
        )
    if columns != required:
        raise UserError(
            f"{label}: expected the columns in the order that {model} was trained on, "
            f"{', '.join(map(repr, required))}, found {', '.join(map(repr, columns))}"
        )


def select_window(
    grid: pd.DataFrame,
    record: dict[str, np.ndarray],
    description: Description,
    clean: Clean,
    sentinels: list[float],
    origin: np.datetime64 | None,
    label: str,
) -> Latest:
    """Return the window of the cleaned `grid` up to `origin`, or to its last complete hour.

    Raises UserError if there is none, or if its values cannot be right.
    """
    target, every, lookback = description["target"], description["every_hours"], description["lookback"]
    hourly = to_hourly_rows(crop_grid(grid, description, origin, label), target, every, clean.max_gap)
    if origin is None:
        last = find_last_complete_row(hourly, clean.max_gap, label)
    else:
        last = find_row(hourly, origin, grid, label)
    first = last - lookback + 1
    if first < 0:
        raise UserError(
            f"{label}: expected {lookback} hours up to the origin, {hourly.time[last]}, the lookback of "
            f"{description['model']}, found {last + 1}"
        )
    window = hourly.rows[first : last + 1]
    check_gaps(window, hourly, first, clean.max_gap, label)
    check_limits(record, clean, sentinels, hourly.start[first], hourly.time[last], label)
    warnings = check_stuck(window, hourly.columns[: -len(CALENDAR)], clean, every, label)
    is_hour = (grid.index.to_numpy() - hourly.time[last]) % (every * HOUR) == np.timedelta64(0)
    end = grid.index[-1].to_numpy().astype("datetime64[s]")
    return Latest(window, hourly.time[last], grid[target][is_hour], end, warnings)


def crop_grid(
    grid: pd.DataFrame, description: Description, origin: np.datetime64 | None, label: str
) -> pd.DataFrame:
    """Return `grid` without the rows after `origin`; raise UserError unless it is as long as the lookback."""
    first, last = grid.index[0], grid.index[-1]
    if origin is not None and not first <= origin <= last:
        raise UserError(f"--at: expected a time of {label}, {first} to {last}, found {origin}")
    cropped = grid if origin is None else grid.loc[:origin]
    hours = (cropped.index[-1] - first + grid.index[1] - first) / pd.Timedelta(hours=1)
    lookback = description["lookback"] * description["every_hours"]
    if hours < lookback:
        raise UserError(
            f"{label}: expected at least {lookback} hours up to the origin, the lookback of "
            f"{description['model']}, found {hours:g}, {first} to {cropped.index[-1]}"
        )
    return cropped


def find_complete_rows(hourly: HourlyRows) -> np.ndarray:
    """Return the rows without missing values in which every column was measured at the hour itself."""
    return np.flatnonzero(hourly.measured & np.isfinite(hourly.rows).all(axis=1))


def find_last_complete_row(hourly: HourlyRows, max_gap: float, label: str) -> int:
    """Return the last complete row; raise UserError if it is more than `max_gap` hours before the end."""
    complete_rows = find_complete_rows(hourly)
    if not len(complete_rows):
        raise UserError(f"{label}: expected an hour at which every column was measured, found none")
    row = complete_rows[-1]
    gap = (hourly.time[-1] - hourly.time[row]) / HOUR
    if gap > max_gap:
        raise UserError(
            f"{label}: expected a gap of at most {max_gap:g} hours at the end (clean.max_gap in "
            f"params.yaml), found {gap:g}: the last hour with every column is {hourly.time[row]}"
        )
    return int(row)


def find_row(hourly: HourlyRows, origin: np.datetime64, grid: pd.DataFrame, label: str) -> int:
    """Return the row of `origin`, the last one; raise UserError if there is none or it is not complete."""
    row = len(hourly.time) - 1
    if hourly.time[row] != origin:
        raise UserError(
            f"--at: expected a time at which {label} has an hour, such as {hourly.time[row]}, found {origin}"
        )
    if row not in find_complete_rows(hourly):
        is_measured = np.isfinite(hourly.rows[row, : -len(CALENDAR)]) & grid.loc[origin].notna().to_numpy()
        raise UserError(
            f"--at: expected a time at which every column was measured, found {origin} without "
            f"{', '.join(map(repr, grid.columns[~is_measured]))}"
        )
    return row


def check_gaps(window: np.ndarray, hourly: HourlyRows, first: int, max_gap: float, label: str) -> None:
    """Raise UserError if a value of `window`, the rows of `hourly` from `first` on, is missing."""
    for position, name in enumerate(hourly.columns):
        rows = np.flatnonzero(~np.isfinite(window[:, position])) + first
        if len(rows):
            raise UserError(
                f"{label}, column {name!r}: expected no gap of more than {max_gap:g} hours (clean.max_gap "
                f"in params.yaml) in the {len(window)} hours up to the origin, found one within "
                f"{hourly.start[rows[0]]} to {hourly.time[rows[-1]]}"
            )


def check_limits(
    record: dict[str, np.ndarray],
    clean: Clean,
    sentinels: list[float],
    start: np.datetime64,
    end: np.datetime64,
    label: str,
) -> None:
    """Raise UserError if a value from `start` to `end` lies outside the limits of its column."""
    (_, times), *columns = record.items()
    in_window = (times >= start) & (times <= end)
    for name, values in columns:
        check = find_check(name, clean.checks)
        if check.limits is None:
            continue
        low, high = check.limits
        is_sentinel = np.isin(values, [*sentinels, *check.missing])
        is_outside = in_window & ((values < low) | (values > high)) & ~is_sentinel
        if is_outside.any():
            row = is_outside.argmax()
            raise UserError(
                f"{label}, column {name!r}: expected values from {low:g} to {high:g} (clean.checks in "
                f"params.yaml) in the window, found {values[row]:g} at {times[row]}; correct it, "
                "leave out the row or, if it stands for nothing measured, add it to `missing` of the check"
            )


def check_stuck(window: np.ndarray, columns: list[str], clean: Clean, every: float, label: str) -> list[str]:
    """Raise UserError if a column has been constant for longer than the `stuck` hours of its check.

    Returns a warning for each other column that is constant in the whole window, such as rain in a dry week. A
    column at its upper limit may stay there, as cloudiness does under an overcast sky.
    """
    warnings = []
    for position, name in enumerate(columns):
        check = find_check(name, clean.checks)
        count = len(window) if check.stuck is None else int(check.stuck / every) + 2
        values = window[-count:, position]
        if np.ptp(values) > 0 or (check.limits is not None and values[0] == check.limits[1]):
            continue
        text = (
            f"{label}, column {name!r}: expected values that change, found {values[0]:g} in each of the last "
            f"{len(values) * every:g} hours; is the sensor stuck?"
        )
        if check.stuck is not None and count <= len(window):
            raise UserError(text)
        warnings.append(text)
    return warnings


def warn_about_age(end: np.datetime64, label: str, now: np.datetime64) -> list[str]:
    """Return a warning if a file that ends at `end` is old or ends in the future; both by the station's clock."""
    if now - end > MAX_AGE:
        return [
            f"{label} ends on {end}, {(now - end) / (24 * HOUR):,.0f} days ago: this is no forecast for tomorrow; "
            "for a past one, name its time with --at"
        ]
    if end - now > HOUR:
        return [
            f"{label} ends on {end}, {(end - now) / HOUR:,.1f} hours from now: expected measurements up to now; "
            "are the times in the file and the time of this computer those of the station's clock?"
        ]
    return []
