"""A station's latest file: read, cleaned and checked, up to the window that a forecast starts from."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.files import open_input
from stages.lib.settings.base import read_settings
from stages.lib.settings.clean import Clean
from stages.lib.settings.dataset import Record
from stages.lib.weather.cleaning import clean_record, find_check
from stages.lib.weather.csv_files import read_csv_files
from stages.lib.weather.grid import infer_grid
from stages.lib.weather.hourly import CALENDAR, HourlyRows, to_hourly_rows
from stages.lib.weather.record import to_numpy

HOUR = np.timedelta64(3600, "s")
VECTOR = ("wind east (m/s)", "wind north (m/s)")  # what cleaning makes of the direction
OLD = np.timedelta64(24, "h")  # of a file: then its forecast is for hours that have mostly passed
Description = dict[str, Any]  # what model.json says


class Latest(NamedTuple):
    """What a forecast starts from."""

    window: np.ndarray  # (lookback, columns) float32 in their own units, the last row is the origin
    origin: np.datetime64
    measured: pd.Series  # the target of the file by time, every hour; NaN where it was not measured
    end: np.datetime64  # of the file
    warnings: list[str]


def read_latest_window(path: Path, description: Description, at: np.datetime64 | None) -> Latest:
    """What a forecast by the model of `description` starts from; UserError says why `path` will not do."""
    section, clean, where = read_settings(Record, "dataset"), read_settings(Clean, "clean"), str(path)
    table = read_csv_files([path], section)
    record = {name: to_numpy(table[name]) for name in table.column_names}
    with open_input("data/clean.json", "clean") as report:
        trained = json.loads(report.read_text(encoding="utf-8"))
        interval, phase = (round(60 * trained[f"{key}_minutes"]) for key in ("interval", "phase"))
    found, _ = infer_grid(next(iter(record.values())), where)
    if found != interval:
        raise UserError(
            f"{where}: expected a row every {interval / 60:g} minutes, as in the record that "
            f"{description['model']} was trained on, found one every {found / 60:g}"
        )
    check_names(table.column_names[1:], description, clean, where)
    grid, _ = clean_record(record, clean, section.sentinels, section.target, where, (interval, phase))
    check_order(list(grid.columns), description, where)
    return select_window(grid, record, description, clean, section.sentinels, at, where)


def check_names(columns: list[str], description: Description, clean: Clean, where: str) -> None:
    """Raise UserError where the file lacks a column that the model needs."""
    needed = [name for name in description["columns"][: -len(CALENDAR)] if name not in VECTOR]
    if clean.wind is not None and VECTOR[0] in description["columns"]:
        needed.append(clean.wind.direction)
    if missing := [name for name in needed if name not in columns]:
        raise UserError(
            f"{where}, line 1: expected the columns that {description['model']} was trained on, found "
            f"none called {' or '.join(map(repr, missing))}; the file has {', '.join(map(repr, columns))}"
        )


def check_order(columns: list[str], description: Description, where: str) -> None:
    """Raise UserError unless the cleaned `columns` are those of the model, in its order."""
    needed, name = description["columns"][: -len(CALENDAR)], description["model"]
    if missing := [column for column in needed if column not in columns]:
        raise UserError(
            f"{where}: expected measured values in every column that {name} was trained on, found none "
            f"in {' and '.join(map(repr, missing))}"
        )
    if others := [column for column in columns if column not in needed]:
        raise UserError(
            f"{where}: expected the columns that {name} was trained on, found also "
            f"{', '.join(map(repr, others))}; another station's file? Or name them in dataset.leave_out"
        )
    if columns != needed:
        raise UserError(
            f"{where}: expected the columns in the order that {name} was trained on, "
            f"{', '.join(map(repr, needed))}, found {', '.join(map(repr, columns))}"
        )


def select_window(
    grid: pd.DataFrame,
    record: dict[str, np.ndarray],
    description: Description,
    clean: Clean,
    sentinels: list[float],
    at: np.datetime64 | None,
    where: str,
) -> Latest:
    """The window of a cleaned `grid` up to `at` or to its last complete hour; UserError says why there is none."""
    target, every, lookback = description["target"], description["every_hours"], description["lookback"]
    first, last = grid.index[0], grid.index[-1]
    if at is not None and not first <= at <= last:
        raise UserError(f"--at: expected a time of {where}, {first} to {last}, found {at}")
    known = grid if at is None else grid.loc[:at]  # nothing after the origin
    span = (known.index[-1] - first + grid.index[1] - first) / pd.Timedelta(hours=1)
    if span < lookback * every:
        raise UserError(
            f"{where}: expected at least {lookback * every} hours up to the origin, the lookback of "
            f"{description['model']}, found {span:g}, {first} to {known.index[-1]}"
        )
    table = to_hourly_rows(known, target, every, clean.max_gap)
    complete = np.flatnonzero(table.now & np.isfinite(table.rows).all(axis=1))
    if at is None:
        origin = find_origin(table, complete, clean.max_gap, where)
    else:
        origin = len(table.time) - 1
        if table.time[origin] != at:
            raise UserError(
                f"--at: expected a time at which {where} has an hour, such as {table.time[origin]}, found {at}"
            )
        if origin not in complete:
            raise UserError(
                f"--at: expected a time at which every column was measured, found {at} "
                f"without {list_unmeasured(table, origin, grid)}"
            )
    start = origin - lookback + 1
    if start < 0:
        raise UserError(
            f"{where}: expected {lookback} hours up to the origin, {table.time[origin]}, the lookback of "
            f"{description['model']}, found {origin + 1}"
        )
    rows = table.rows[start : origin + 1]
    check_gaps(rows, table, start, clean.max_gap, where)
    check_limits(record, clean, sentinels, table.start[start], table.time[origin], where)
    warnings = check_stuck(rows, table.columns[: -len(CALENDAR)], clean, every, where)
    hourly = grid[target][(grid.index.to_numpy() - table.time[origin]) % (every * HOUR) == np.timedelta64(0)]
    return Latest(rows, table.time[origin], hourly, last.to_numpy().astype("datetime64[s]"), warnings)


def list_unmeasured(table: HourlyRows, row: int, grid: pd.DataFrame) -> str:
    """The columns that were not measured at `row` of `table`, or not in the hours that it is the mean of."""
    there = np.isfinite(table.rows[row, : -len(CALENDAR)]) & grid.loc[table.time[row]].notna().to_numpy()
    return ", ".join(repr(name) for name, found in zip(grid.columns, there, strict=True) if not found)


def find_origin(table: HourlyRows, complete: np.ndarray, max_gap: float, where: str) -> int:
    """The last complete row; UserError where it is more than `max_gap` hours before the last one."""
    if not len(complete):
        raise UserError(f"{where}: expected an hour at which every column was measured, found none")
    row = complete[-1]
    gap = (table.time[-1] - table.time[row]) / HOUR
    if gap > max_gap:
        raise UserError(
            f"{where}: expected a gap of at most {max_gap:g} hours at the end (clean.max_gap in "
            f"params.yaml), found {gap:g}: the last hour with every column is {table.time[row]}"
        )
    return int(row)


def check_gaps(rows: np.ndarray, table: HourlyRows, start: int, max_gap: float, where: str) -> None:
    """Raise UserError where a value of `rows`, those of `table` from `start` on, is missing."""
    for position, name in enumerate(table.columns):
        lost = np.flatnonzero(~np.isfinite(rows[:, position])) + start
        if len(lost):
            raise UserError(
                f"{where}, column {name!r}: expected no gap of more than {max_gap:g} hours (clean.max_gap "
                f"in params.yaml) in the {len(rows)} hours up to the origin, found one within "
                f"{table.start[lost[0]]} to {table.time[lost[-1]]}"
            )


def check_limits(
    record: dict[str, np.ndarray],
    clean: Clean,
    sentinels: list[float],
    start: np.datetime64,
    end: np.datetime64,
    where: str,
) -> None:
    """Raise UserError where a value from `start` to `end` lies outside the limits of its column."""
    times, *_ = record.values()
    inside = (times >= start) & (times <= end)
    for name, column in list(record.items())[1:]:
        check = find_check(name, clean.checks)
        if check.limits is None:
            continue
        low, high = check.limits
        wrong = inside & ((column < low) | (column > high)) & ~np.isin(column, [*sentinels, *check.missing])
        if wrong.any():
            row = wrong.argmax()
            raise UserError(
                f"{where}, column {name!r}: expected values from {low:g} to {high:g} (clean.checks in "
                f"params.yaml) in the window, found {column[row]:g} at {times[row]}; correct it or "
                "leave out the row"
            )


def check_stuck(rows: np.ndarray, columns: list[str], clean: Clean, every: float, where: str) -> list[str]:
    """Raise UserError where a column has not changed for longer than its check's `stuck` hours.

    Returns a warning for each other column that is the same in the whole window, as rain is in a dry week. A column
    at its upper limit may stay there, as does a sky that is overcast.
    """
    warnings = []
    for position, name in enumerate(columns):
        check = find_check(name, clean.checks)
        count = len(rows) if check.stuck is None else int(check.stuck / every) + 2
        recent = rows[-count:, position]
        if np.ptp(recent) > 0 or (check.limits is not None and recent[0] == check.limits[1]):
            continue
        text = (
            f"{where}, column {name!r}: expected values that change, found {recent[0]:g} in each of the last "
            f"{len(recent) * every:g} hours; is the sensor stuck?"
        )
        if check.stuck is not None and count <= len(rows):
            raise UserError(text)
        warnings.append(text)
    return warnings


def warn_if_old(end: np.datetime64, where: str, now: np.datetime64) -> list[str]:
    """What to say where the file ended more than a day before `now`; both by the station's clock."""
    if now - end <= OLD:
        return []
    return [
        f"{where} ends on {end}, {(now - end) / (24 * HOUR):,.0f} days ago: this is no forecast for tomorrow; "
        "for a past one, name its time with --at"
    ]
