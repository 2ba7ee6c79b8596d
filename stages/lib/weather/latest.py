"""The latest files of a station and its neighbours: read, cleaned, checked, as the window of a forecast."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.files import open_input
from stages.lib.settings.base import read_settings
from stages.lib.settings.clean import Clean
from stages.lib.settings.clock import Clock
from stages.lib.settings.records import Record, Wind
from stages.lib.weather.cleaning import (
    MIN_STUCK_ROWS,
    WIND_VECTOR,
    clean_forecasts,
    clean_record,
    find_check,
)
from stages.lib.weather.csv_files import read_csv_files
from stages.lib.weather.grid import infer_grid
from stages.lib.weather.hourly import CALENDAR, HourlyRows
from stages.lib.weather.record import ISSUE_TIME, get_record_path, to_numpy
from stages.lib.windows.clock_rows import CleanRecord, ClockRows, assemble_clock_rows, find_window_starts
from stages.lib.windows.input_set import Split, Windows

HOUR = np.timedelta64(3600, "s")
MAX_AGE = np.timedelta64(24, "h")  # of a file; the forecast from an older one is for hours that have mostly passed
MIN_REACH = 0.9  # share of the windows
Description = dict[str, Any]  # the content of model.json


class Part(NamedTuple):
    """What a file of another record brings to a forecast."""

    record: str
    file: str
    forecasts: bool  # whether the record is one of forecasts
    known: np.datetime64 | None  # the last measured value, or the last issue, by the origin; None: there is none
    end: np.datetime64 | None  # the last measured value, or the last issue, in the file; None: not known


class Latest(NamedTuple):
    """What a forecast starts from."""

    window: np.ndarray  # (lookback, columns) float32 in their own units; the last row is the origin
    ahead: np.ndarray | None  # (leads, ahead columns) float32: what was known at the origin about the next rows
    origin: np.datetime64
    measured: pd.Series  # the target in the whole file by time, every hour; NaN where it was not measured
    end: np.datetime64  # the last time in the station's file
    warnings: list[str]
    parts: Sequence[Part] = ()
    model_output: np.ndarray | None = None  # (leads,) what a weather model forecasts for the target
    is_sound: np.ndarray | None = None  # (leads,) bool: whether the lead can be forecast; None: each of them
    earlier: Split | None = None  # the windows whose targets were measured by the origin


class Content(NamedTuple):
    """The rows of a file as `parse` reads them, before cleaning."""

    location: str  # the file's path or address, for messages
    columns: dict[str, np.ndarray]


def read_content(name: str, path: Path, location: str) -> Content:
    """Return the rows of the file `path`, which messages call `location`, read as the record `name`."""
    try:
        table = read_csv_files([path], read_settings(Record, "records", name), f"records.{name}")
    except UserError as error:
        raise UserError(str(error).replace(str(path), location)) from None
    return Content(location, {column: to_numpy(table[column]) for column in table.column_names})


def make_latest_window(
    contents: Mapping[str, Content], description: Description, origin: np.datetime64 | None
) -> Latest:
    """Return the window up to `origin`, or to the last complete hour of the station's file.

    `contents` has the rows of each record that the model of `description` needs. They go through the same code as
    the training data. Raises UserError if no forecast can start from them.
    """
    settings, clean = Clock(**description["clock"]), read_settings(Clean, "clean")
    records, locations, sensors = dict[str, CleanRecord](), dict[str, str](), dict[str, Record]()
    for name in settings.records:
        sensors[name] = read_settings(Record, "records", name)
        locations[name], columns = contents[name]
        records[name] = clean_latest(columns, name, sensors[name], clean, description, locations[name])
    station_record, sentinels = contents[settings.record].columns, sensors[settings.record].sentinels
    return select_window(records, station_record, description, clean, sentinels, origin, locations)


def clean_latest(
    record: dict[str, np.ndarray],
    name: str,
    settings: Record,
    clean: Clean,
    description: Description,
    location: str,
) -> CleanRecord:
    """Return `record`, the rows of the file `location`, as `clean` does it with the record `name`.

    Raises UserError unless it has the interval and the columns that the model of `description` was trained on.
    """
    key, model = f"records.{name}", description["model"]
    if settings.issued is not None:
        frame, _ = clean_forecasts(record, clean, settings, location, key)
        return CleanRecord(frame, settings.target)
    required = list_columns(description, name)
    interval, phase = read_training_grid(name)
    check_interval(record, interval, model, location)
    _, *measured = record
    check_required_columns(measured, required, model, settings.wind, location)
    frame, _ = clean_record(record, clean, settings, location, key, (interval, phase))
    check_column_order(list(frame.columns), required, name, model, location)
    return CleanRecord(frame, settings.target)


def list_columns(description: Description, name: str) -> list[str]:
    """Return the columns of the record `name` in the model's window, by their names in the record."""
    columns, neighbours = description["columns"][: -len(CALENDAR)], description["clock"].get("neighbours", [])
    if name in neighbours:
        return select_columns(columns, name)
    return [column for column in columns if not column.startswith(tuple(f"{other} " for other in neighbours))]


def select_columns(columns: list[str], name: str) -> list[str]:
    """Return those of `columns` that bear the name of the record `name`, without it."""
    prefix = f"{name} "
    return [column.removeprefix(prefix) for column in columns if column.startswith(prefix)]


def read_training_grid(name: str) -> tuple[int, int]:
    """Return the interval and the phase, in s, of the grid of the record `name`."""
    with open_input(get_record_path(name, "clean").with_suffix(".json"), f"clean@{name}") as path:
        report = json.loads(path.read_text(encoding="utf-8"))
        return round(60 * report["interval_minutes"]), round(60 * report["phase_minutes"])


def check_interval(record: dict[str, np.ndarray], interval: int, model: str, location: str) -> None:
    """Raise UserError unless `interval` (s) is that of the file, too."""
    file_interval, _ = infer_grid(next(iter(record.values())), location)
    if file_interval != interval:
        raise UserError(
            f"{location}: expected a row every {interval / 60:g} minutes, as in the record that "
            f"{model} was trained on, found one every {file_interval / 60:g}"
        )


def check_required_columns(
    measured: list[str], required: list[str], model: str, wind: Wind | None, location: str
) -> None:
    """Raise UserError if the file, whose columns are `measured`, lacks one of the `required` ones of the model."""
    columns = [name for name in required if name not in WIND_VECTOR]
    if wind is not None and WIND_VECTOR[0] in required:
        columns.append(wind.direction)
    if missing := [name for name in columns if name not in measured]:
        raise UserError(
            f"{location}, line 1: expected the columns that {model} was trained on, found "
            f"none called {' or '.join(map(repr, missing))}; the file has {', '.join(map(repr, measured))}"
        )


def check_column_order(measured: list[str], required: list[str], record: str, model: str, location: str) -> None:
    """Raise UserError unless the cleaned columns `measured` are those of the model, in the same order."""
    if missing := [column for column in required if column not in measured]:
        raise UserError(
            f"{location}: expected measured values in every column that {model} was trained on, found none "
            f"in {' and '.join(map(repr, missing))}"
        )
    if unknown := [column for column in measured if column not in required]:
        raise UserError(
            f"{location}: expected the columns that {model} was trained on, found also "
            f"{', '.join(map(repr, unknown))}; another station's file? Or name them in records.{record}.leave_out"
        )
    if measured != required:
        raise UserError(
            f"{location}: expected the columns in the order that {model} was trained on, "
            f"{', '.join(map(repr, required))}, found {', '.join(map(repr, measured))}"
        )


def check_ahead(clock_rows: ClockRows, last: int, description: Description, location: str) -> None:
    """Raise UserError unless the forecasts, of the files at `location`, fit the model and reach past row `last`."""
    columns, model, ahead = description["ahead_columns"], description["model"], clock_rows.ahead
    if clock_rows.ahead_columns != columns:
        different = sorted(set(columns) ^ set(clock_rows.ahead_columns)) or columns
        raise UserError(
            f"{location}: expected the forecasts that {model} was trained on, found a difference in "
            f"{', '.join(map(repr, different))}"
        )
    if clock_rows.ahead_targets and not np.isfinite(ahead[last][:, clock_rows.ahead_targets]).any():
        raise UserError(
            f"{location}: expected forecasts for the {description['lead_hours'][-1]:g} hours after "
            f"{clock_rows.hourly.time[last]} that were issued by then, found none; fetch a newer file"
        )


def select_window(
    records: dict[str, CleanRecord],
    station_record: dict[str, np.ndarray],
    description: Description,
    clean: Clean,
    sentinels: list[float],
    origin: np.datetime64 | None,
    files: Mapping[str, object],
) -> Latest:
    """Return the window of the cleaned `records` up to `origin`, or to the last complete hour of the station.

    `station_record` are the rows of the station's file before cleaning, `files` what messages call the file of each
    record. Raises UserError if there is no window, or if its values cannot be right.
    """
    settings = Clock(**description["clock"])
    location, every, lookback = str(files[settings.record]), settings.every, settings.lookback_rows
    station = records[settings.record]
    cropped = station._replace(frame=crop_grid(station.frame, description, origin, location))
    clock_rows = assemble_clock_rows(settings, records | {settings.record: cropped}, clean.max_gap)
    hourly = clock_rows.hourly
    complete_rows = find_complete_rows(hourly, settings.max_missing)
    if origin is None:
        last = find_last_complete_row(hourly, complete_rows, clean.max_gap, location)
    else:
        last = find_row(hourly, complete_rows, origin, station.frame, location)
    first = last - lookback + 1
    if first < 0:
        raise UserError(
            f"{location}: expected {lookback} hours up to the origin, {hourly.time[last]}, the lookback of "
            f"{description['model']}, found {last + 1}"
        )
    window, station_window = clock_rows.rows[first : last + 1], hourly.rows[first : last + 1]
    if settings.max_missing:
        values = station_window[:, : -len(CALENDAR)]
        check_missing(values, settings.max_missing, "max_missing", description["model"], location)
    else:
        check_gaps(station_window, hourly, first, clean.max_gap, location)
    if settings.neighbours:
        values = window[:, station_window.shape[1] - len(CALENDAR) : -len(CALENDAR)]
        paths = " and ".join(str(files[name]) for name in settings.neighbours)
        limit = settings.max_missing_neighbours
        check_missing(values, limit, "max_missing_neighbours", description["model"], paths)
    is_sound, lacking = None, list[str]()
    if clock_rows.ahead is not None:
        paths = " and ".join(str(files[name]) for names in settings.ahead_groups for name in names)
        check_ahead(clock_rows, last, description, paths)
        is_sound, lacking = find_sound_leads(clock_rows, last, description, paths)
    check_limits(station_record, clean, sentinels, hourly.start[first], hourly.time[last], location)
    warnings = lacking + check_stuck(station_window, hourly.columns[: -len(CALENDAR)], clean, every, location)
    others = settings.records[1:]
    is_hour = (station.frame.index.to_numpy() - hourly.time[last]) % (every * HOUR) == np.timedelta64(0)
    return Latest(
        window,
        None if clock_rows.ahead is None else clock_rows.ahead[last],
        hourly.time[last],
        station.frame[description["target"]][is_hour],
        station.frame.index[-1].to_numpy().astype("datetime64[s]"),
        warnings,
        [describe_part(name, str(files[name]), records[name], hourly.time[last]) for name in others],
        get_model_output(clock_rows, last),
        is_sound,
        select_earlier_windows(clock_rows, settings),
    )


def select_earlier_windows(clock_rows: ClockRows, settings: Clock) -> Split:
    """Return the valid windows whose targets are among `clock_rows`, with these targets and their origins."""
    hourly, lookback = clock_rows.hourly, settings.lookback_rows
    starts = find_window_starts(clock_rows, settings, hourly.start[0], None)
    targets = np.lib.stride_tricks.sliding_window_view(hourly.targets, settings.lead_rows)[starts + lookback]
    windows = Windows(clock_rows.rows, starts, lookback, clock_rows.ahead)
    return Split(windows, targets, hourly.time[starts + lookback - 1])


def describe_part(name: str, file: str, record: CleanRecord, origin: np.datetime64) -> Part:
    """Return what the cleaned `record` of the file `file` brings to a forecast from `origin`."""
    frame, is_forecast = record.frame, ISSUE_TIME in record.frame
    moments = pd.DatetimeIndex(frame[ISSUE_TIME]) if is_forecast else frame[record.target].dropna().index
    times = np.unique(moments.to_numpy().astype("datetime64[s]"))
    known = times[times <= origin]
    # Hours from issue to valid time, instead of a column of issues, say nothing about when the file was made.
    has_issues = not is_forecast or len(np.unique(frame.index - frame[ISSUE_TIME])) > 1
    return Part(
        name, file, is_forecast, known[-1] if len(known) else None, times[-1] if len(times) and has_issues else None
    )


def get_model_output(clock_rows: ClockRows, last: int) -> np.ndarray | None:
    """Return the forecasts of the target (leads,) by the preferred weather model that has one, from row `last`.

    Returns None if no weather model forecasts the target.
    """
    output = None
    for column in reversed(clock_rows.ahead_targets):
        values = clock_rows.ahead[last][:, column]
        output = values if output is None else np.where(np.isnan(values), output, values)
    return output


def find_sound_leads(
    clock_rows: ClockRows, last: int, description: Description, location: str
) -> tuple[np.ndarray | None, list[str]]:
    """Return which leads (leads,) the model can forecast from row `last`, and a warning if it cannot all of them.

    A lead without a weather model's forecast is left out if MIN_REACH of the model's windows had one: the model did
    not learn to do without it. Raises UserError if half of the leads would be left out.
    """
    output, reach = get_model_output(clock_rows, last), np.array(description.get("reach") or [])
    if output is None or not len(reach):
        return None, []
    is_sound = np.isfinite(output) | (reach < MIN_REACH)
    if is_sound.all():
        return None, []
    count, leads, origin = int((~is_sound).sum()), len(is_sound), clock_rows.hourly.time[last]
    hours = description["lead_hours"][int(is_sound.argmin())]
    if 2 * count >= leads:
        raise UserError(
            f"{location}: expected forecasts for more than half of the {leads} leads after {origin}, found them "
            f"for {leads - count}; fetch a newer file"
        )
    return is_sound, [
        f"{location}: forecasts are missing for {count} of {leads} leads after {origin}, the first of them "
        f"{hours:g} hours ahead; these leads are left out"
    ]


def check_clocks(parts: Sequence[Part], end: np.datetime64, now: np.datetime64) -> None:
    """Raise UserError if a file has measurements, or issues, from after the present.

    The present is `now`, the time of this computer, or the `end` of the station's file if that is later.
    """
    for part in parts:
        if part.end is not None and part.end - max(now, end) > HOUR:
            raise UserError(
                f"{part.file}: expected {'issues' if part.forecasts else 'measurements'} up to now, found one at "
                f"{part.end}, while the station's file ends on {end}; do both have the times of one clock? See "
                f"records.{part.record}.zone in params.yaml"
            )


def check_missing(values: np.ndarray, max_missing: float, setting: str, model: str, location: str) -> None:
    """Raise UserError if more than the share `max_missing` of `values` (lookback, columns) is missing."""
    share = 1 - np.isfinite(values).mean()
    if share > max_missing:
        raise UserError(
            f"{location}: expected at most {max_missing:.0%} of the values missing in the {len(values)} rows up to "
            f"the origin, as {model} was trained (`{setting}` of its input set in params.yaml), found {share:.0%}"
        )


def crop_grid(
    grid: pd.DataFrame, description: Description, origin: np.datetime64 | None, location: str
) -> pd.DataFrame:
    """Return `grid` without the rows after `origin`; raise UserError unless it is as long as the lookback."""
    first, last = grid.index[0], grid.index[-1]
    if origin is not None and not first <= origin <= last:
        raise UserError(f"--at: expected a time of {location}, {first} to {last}, found {origin}")
    cropped = grid if origin is None else grid.loc[:origin]
    hours = (cropped.index[-1] - first + grid.index[1] - first) / pd.Timedelta(hours=1)
    lookback = description["lookback"] * description["every_hours"]
    if hours < lookback:
        raise UserError(
            f"{location}: expected at least {lookback} hours up to the origin, the lookback of "
            f"{description['model']}, found {hours:g}, {first} to {cropped.index[-1]}"
        )
    return cropped


def find_complete_rows(hourly: HourlyRows, max_missing: float) -> np.ndarray:
    """Return the rows in which every column was measured at the hour itself, and no value is missing.

    If windows may have missing values, one measured column is enough.
    """
    if max_missing:
        return np.flatnonzero(np.isfinite(hourly.rows[:, : -len(CALENDAR)]).any(axis=1))
    return np.flatnonzero(hourly.measured & np.isfinite(hourly.rows).all(axis=1))


def find_last_complete_row(hourly: HourlyRows, complete_rows: np.ndarray, max_gap: float, location: str) -> int:
    """Return the last complete row; raise UserError if it is more than `max_gap` hours before the end."""
    if not len(complete_rows):
        raise UserError(f"{location}: expected an hour at which every column was measured, found none")
    row = complete_rows[-1]
    gap = (hourly.time[-1] - hourly.time[row]) / HOUR
    if gap > max_gap:
        raise UserError(
            f"{location}: expected a gap of at most {max_gap:g} hours at the end (clean.max_gap in "
            f"params.yaml), found {gap:g}: the last hour with every column is {hourly.time[row]}"
        )
    return int(row)


def find_row(
    hourly: HourlyRows, complete_rows: np.ndarray, origin: np.datetime64, grid: pd.DataFrame, location: str
) -> int:
    """Return the row of `origin`, the last one; raise UserError if there is none or it is not complete."""
    row = len(hourly.time) - 1
    if hourly.time[row] != origin:
        raise UserError(
            f"--at: expected a time at which {location} has an hour, such as {hourly.time[row]}, found {origin}"
        )
    if row not in complete_rows:
        is_measured = np.isfinite(hourly.rows[row, : -len(CALENDAR)]) & grid.loc[origin].notna().to_numpy()
        raise UserError(
            f"--at: expected a time at which every column was measured, found {origin} without "
            f"{', '.join(map(repr, grid.columns[~is_measured]))}"
        )
    return row


def check_gaps(window: np.ndarray, hourly: HourlyRows, first: int, max_gap: float, location: str) -> None:
    """Raise UserError if a value of `window`, the rows of `hourly` from `first` on, is missing."""
    for position, name in enumerate(hourly.columns):
        rows = np.flatnonzero(~np.isfinite(window[:, position])) + first
        if len(rows):
            raise UserError(
                f"{location}, column {name!r}: expected no gap of more than {max_gap:g} hours (clean.max_gap "
                f"in params.yaml) in the {len(window)} hours up to the origin, found one within "
                f"{hourly.start[rows[0]]} to {hourly.time[rows[-1]]}"
            )


def check_limits(
    record: dict[str, np.ndarray],
    clean: Clean,
    sentinels: list[float],
    start: np.datetime64,
    end: np.datetime64,
    location: str,
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
                f"{location}, column {name!r}: expected values from {low:g} to {high:g} (clean.checks in "
                f"params.yaml) in the window, found {values[row]:g} at {times[row]}; correct it, "
                "leave out the row or, if it stands for nothing measured, add it to `missing` of the check"
            )


def check_stuck(window: np.ndarray, columns: list[str], clean: Clean, every: float, location: str) -> list[str]:
    """Raise UserError if a column has been constant for longer than the `stuck` hours of its check.

    Returns a warning for each other column that is constant in the whole window, such as rain in a dry week. A
    column at its upper limit may stay there, as cloudiness does under an overcast sky.
    """
    warnings = []
    for position, name in enumerate(columns):
        check = find_check(name, clean.checks)
        count = len(window) if check.stuck is None else max(int(check.stuck / every) + 2, MIN_STUCK_ROWS)
        values = window[-count:, position]
        values = values[np.isfinite(values)]
        if not len(values) or np.ptp(values) > 0 or (check.limits is not None and values[0] == check.limits[1]):
            continue
        text = (
            f"{location}, column {name!r}: expected values that change, found {values[0]:g} in each of the last "
            f"{len(values) * every:g} hours; is the sensor stuck?"
        )
        if check.stuck is not None and count <= len(window):
            raise UserError(text)
        warnings.append(text)
    return warnings


def warn_about_age(end: np.datetime64, location: str, now: np.datetime64) -> list[str]:
    """Return a warning if a file that ends at `end` is old or ends in the future; both by the station's clock."""
    if now - end > MAX_AGE:
        return [
            f"{location} ends on {end}, {(now - end) / (24 * HOUR):,.0f} days ago: this is no forecast for "
            "tomorrow; for a past one, name its time with --at"
        ]
    if end - now > HOUR:
        return [
            f"{location} ends on {end}, {(end - now) / HOUR:,.1f} hours from now: expected measurements up to now; "
            "are the times in the file and the time of this computer those of the station's clock?"
        ]
    return []
