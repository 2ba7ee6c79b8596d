"""Forecast from CSV files by the model in this folder; needs numpy, onnxruntime and Python 3.10 or later.

    python forecast.py STATION.csv [NAME=FILE ...] [--json]

`./run export` copies this program next to a model. README.md there says what has to be in the files.
"""

import argparse
import csv
import hashlib
import json
import sys
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FOLDER = Path(__file__).resolve().parent
HOUR = 3600  # s; all times are in seconds since 1970 by the station's clock
EPOCH = datetime(1970, 1, 1)
MIN_REACH = 0.9  # a lead needs a weather model's forecast if this share of the model's windows had one
MIN_STUCK_ROWS = 6
WIND_VECTOR = ("wind east (m/s)", "wind north (m/s)")
ERROR, AGE = "mean error of ", "age (h)"  # columns that are calculated from a weather model's forecasts
Table = dict[str, np.ndarray]
Settings = dict[str, Any]


class RefusedError(Exception):
    """Why there is no forecast, in one sentence."""


# --- Reading -----------------------------------------------------------------------------------------


def format_time(seconds: Any) -> str:
    return (EPOCH + timedelta(seconds=int(seconds))).isoformat()


def parse_field(text: str, is_time: bool) -> float:
    """Return a number, NaN where there is none, or a time in seconds since 1970."""
    if not is_time:
        return float(text) if text.strip() else np.nan
    time = datetime.fromisoformat(text.strip())
    if time.tzinfo is not None:
        raise ValueError
    return (time - EPOCH).total_seconds()


def read_table(path: str, record: Settings) -> Table:
    """Return the columns of the CSV file of `record`; that with the times is called "time"."""
    times = {record["time"], record["issued"]} - {None}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RefusedError(f"{path}: cannot be read ({error})") from None
    if not rows or record["time"] not in header:
        raise RefusedError(
            f"{path}: expected a column {record['time']!r} and rows, found {len(rows)} rows of {header}"
        )
    table = np.empty((len(rows), len(header)))
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise RefusedError(f"{path}, row {number + 1}: expected {len(header)} fields, found {len(row)}")
        for position, (name, text) in enumerate(zip(header, row, strict=True)):
            try:
                table[number, position] = parse_field(text, name in times)
            except ValueError:
                kind = "a time without offset such as 2016-12-30 12:00" if name in times else "a number or nothing"
                raise RefusedError(
                    f"{path}, row {number + 1}, column {name!r}: expected {kind}, found {text!r}"
                ) from None
    columns = dict(zip(header, table.T, strict=True))
    return {"time": columns.pop(record["time"]).astype(np.int64), **columns}


def clean_columns(table: Table, record: Settings, path: str) -> tuple[Table, np.ndarray]:
    """Return the columns of `record` in `table`, NaN where a value is impossible, and which rows have one."""
    columns, outside, wind = {}, np.zeros(len(table["time"]), bool), record["wind"]
    for name, check in record["columns"].items():
        if name not in table:
            continue
        values = np.where(np.isin(table[name], check["missing"]) | ~np.isfinite(table[name]), np.nan, table[name])
        low, high = check["limits"] or (-np.inf, np.inf)
        if np.isfinite(values).any() and not low <= np.nanmedian(values) <= high:
            raise RefusedError(
                f"{path}, column {name!r}: expected values from {low:g} to {high:g}, found a median of "
                f"{np.nanmedian(values):g}; is it in another unit?"
            )
        is_outside = (values < low) | (values > high)
        outside |= is_outside
        columns[name] = np.where(is_outside, np.nan, values)
    if wind and wind["speed"] in columns and wind["direction"] in columns:
        speed, angle = columns[wind["speed"]], np.deg2rad(columns.pop(wind["direction"]))
        for name, part in zip(WIND_VECTOR, (np.sin(angle), np.cos(angle)), strict=True):
            columns[name] = np.where(speed == 0, 0.0, -speed * part)
    return columns | {name: table[name] for name in WIND_VECTOR if name in table}, outside


def require_column(columns: Table, name: str, path: str) -> np.ndarray:
    """Return a column; refuse a file that lacks it, or in which nothing was measured."""
    if name not in columns or np.isnan(columns[name]).all():
        found = ", ".join(repr(column) for column in columns if column != "time")
        raise RefusedError(f"{path}: expected values in a column {name!r}, found {found}")
    return columns[name]


def read_measurements(
    path: str, record: Settings, required: list[str], length: int, phase: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the times of a regular grid, the columns `required` there (n, columns), times of impossible values.

    The grid has a row every `length` seconds, or less often if the record has.
    """
    interval = round(record["interval_minutes"] * 60)
    if interval >= length:
        length, phase = interval, round(record["phase_minutes"] * 60)
    table = read_table(path, record)
    is_off = (table["time"] - phase) % length != 0
    if is_off.any():
        raise RefusedError(
            f"{path}: expected a row every {length / HOUR:g} hours, at {format_time(phase)[11:16]} and so on, "
            f"found {format_time(table['time'][is_off.argmax()])}; average what lies between, as README.md says"
        )
    if interval < length and record["wind"]:  # a mean of directions says nothing
        table.pop(record["wind"]["direction"], None)
    columns, outside = clean_columns(table, record, path)
    times, rows = np.unique(table["time"], return_index=True)
    grid = np.arange(times[0], times[-1] + 1, length)
    values = np.full((len(grid), len(required)), np.nan)
    values[(times - times[0]) // length] = np.column_stack(
        [require_column(columns, name, path)[rows] for name in required]
    )
    return grid, values, table["time"][outside]


# --- The station, its neighbours, and weather models -------------------------------------------------


def interpolate_short_gaps(values: np.ndarray, limit: float) -> np.ndarray:
    """Return `values` (n,) with the gaps of at most `limit` rows interpolated."""
    values, known = values.copy(), np.flatnonzero(np.isfinite(values))
    for before, after in pairwise(known):
        if 1 < after - before <= limit + 1:
            gap = np.arange(before + 1, after)
            values[gap] = np.interp(gap, [before, after], values[[before, after]])
    return values


def align_neighbour(grid: np.ndarray, values: np.ndarray, times: np.ndarray, length: int, limit: int) -> np.ndarray:
    """Return the last of `values` known at each of `times`, if it is at most `limit` rows older: (n, columns)."""
    rows = np.concatenate([times[0] - length * np.arange(limit, 0, -1), times])
    aligned = np.full((len(rows), values.shape[1]), np.nan)
    position = np.searchsorted(rows, grid)
    is_used = position < len(rows)
    is_used[is_used] = rows[position[is_used]] - grid[is_used] < length
    aligned[position[is_used]] = values[is_used]
    filled = aligned.copy()
    for shift in range(1, limit + 1):
        filled[shift:] = np.where(np.isnan(filled[shift:]), aligned[:-shift], filled[shift:])
    return filled[limit:]


class WeatherModel:
    """Forecasts from the files of one weather model, sorted by valid time and time of issue."""

    def __init__(self, files: dict[str, str], records: Settings) -> None:
        parts = []
        for name, path in files.items():
            table, issued = read_table(path, records[name]), records[name]["issued"]
            valid = table["time"]
            known = require_column(table, issued, path) if isinstance(issued, str) else valid - issued * HOUR
            if (known > valid).any():
                raise RefusedError(f"{path}: expected forecasts issued before their own time, found a later issue")
            columns, target = clean_columns(table, records[name], path)[0], records[name]["target"]
            needed = [require_column(columns, target, path)] if target else list(columns.values())
            has_value = np.isfinite(needed).any(axis=0)  # a forecast without a value hides no older one
            columns = {column: values[has_value] for column, values in columns.items()}
            parts.append((valid[has_value], known[has_value], columns))
        valid, issued = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        order = np.lexsort((issued, valid))
        self.valid, self.issued = valid[order], issued[order]
        self.values = {
            name: np.concatenate([columns.get(name, np.full(len(times), np.nan)) for times, _, columns in parts])[
                order
            ]
            for name in dict.fromkeys(name for *_, columns in parts for name in columns)
        } | {AGE: (self.valid - self.issued) / HOUR}

    def find_newest(self, valid: int, known_by: int) -> int | None:
        """Return the row valid at `valid` that was issued last, but not after `known_by`; None if there is none."""
        first, stop = np.searchsorted(self.valid, [valid, valid + 1])
        count = np.searchsorted(self.issued[first:stop], known_by, side="right")
        return first + count - 1 if count else None

    def tabulate_ahead(
        self, columns: list[str], target: str, measured: np.ndarray, times: np.ndarray, leads: list[int]
    ) -> np.ndarray:
        """Return what is known at the last of `times` about each of `leads`, in s: (leads, columns).

        The errors are `measured` minus the column `target`, for each of `times`.
        """
        ahead = np.full((len(leads), len(columns)), np.nan)
        for position, lead in enumerate(leads):
            newest = self.find_newest(times[-1] + lead, times[-1])
            errors = np.full(len(times), np.nan)
            for k, time in enumerate(times if any(name.startswith(ERROR) for name in columns) else []):
                if (row := self.find_newest(time, time - lead)) is not None:
                    errors[k] = np.float32(measured[k]) - np.float32(self.values[target][row])
            for column, name in enumerate(columns):
                if name.startswith(ERROR):
                    days = int(name.removeprefix(ERROR).split()[0])
                    recent = errors[-(days * 24 * HOUR // int(times[1] - times[0])) :]
                    recent = recent[np.isfinite(recent)]
                    ahead[position, column] = recent.mean() if len(recent) else np.nan
                elif newest is not None:
                    ahead[position, column] = self.values[name][newest]
        return ahead.astype(np.float32)


# --- Checks ------------------------------------------------------------------------------------------


def check_missing(values: np.ndarray, limit: float, path: str) -> None:
    share = 1 - np.isfinite(values).mean()
    if share > limit:
        raise RefusedError(
            f"{path}: expected at most {limit:.0%} of the values missing in the {len(values)} rows up to the "
            f"origin, found {share:.0%}"
        )


def check_stuck(values: np.ndarray, columns: list[str], record: Settings, every: int, path: str) -> list[str]:
    """Return a warning for each of `columns` that never changes in `values` (lookback, columns)."""
    warnings = []
    for name, column in zip(columns, values.T, strict=True):
        check = record["columns"].get(name, {"stuck": None, "limits": None})
        count = len(column) if check["stuck"] is None else max(int(check["stuck"] / every) + 2, MIN_STUCK_ROWS)
        last = column[-count:][np.isfinite(column[-count:])]
        if not len(last) or np.ptp(last) > 0 or (check["limits"] and last[0] == check["limits"][1]):
            continue
        text = (
            f"{path}, column {name!r}: found {last[0]:g} in each of the last {len(last)} rows; is the sensor stuck?"
        )
        if check["stuck"] is not None and count <= len(column):
            raise RefusedError(text)
        warnings.append(text)
    return warnings


def find_last_row(values: np.ndarray, times: np.ndarray, model: Settings, max_gap: float, path: str) -> int:
    """Return the last row of `values` that a forecast can start from; refuse one without a window before it."""
    clock = model["clock"]
    is_complete = np.isfinite(values).any(axis=1) if clock["max_missing"] else np.isfinite(values).all(axis=1)
    if not is_complete.any():
        raise RefusedError(f"{path}: expected a row without missing values, found none")
    last = int(np.flatnonzero(is_complete)[-1])
    if (times[-1] - times[last]) / HOUR > max_gap:
        raise RefusedError(
            f"{path}: expected at most {max_gap:g} hours after the last row without missing values, found "
            f"{(times[-1] - times[last]) / HOUR:g} after {format_time(times[last])}"
        )
    if last + 1 < model["lookback"]:
        raise RefusedError(
            f"{path}: expected {model['lookback']} rows up to {format_time(times[last])}, found {last + 1}"
        )
    return last


def choose_leads(is_forecast: np.ndarray, reach: list[float], location: str) -> tuple[np.ndarray, list[str]]:
    """Return which leads (leads,) can be forecast where `is_forecast` (leads,) by a weather model, and warnings."""
    is_sound = is_forecast | (np.array(reach) < MIN_REACH)
    if not is_forecast.any() or 2 * is_sound.sum() <= len(is_sound):
        raise RefusedError(
            f"{location}: expected forecasts for more than half of the {len(is_sound)} leads that were issued by "
            f"the origin, found {is_forecast.sum()}; fetch a newer file"
        )
    count = int((~is_sound).sum())
    return is_sound, [f"{location}: forecasts are missing for {count} leads; these are left out"] if count else []


# --- The forecast ------------------------------------------------------------------------------------


def read_inputs(
    files: dict[str, str], model: Settings, settings: Settings, now: int
) -> tuple[Table, int, np.ndarray, list[str]]:
    """Return the model's inputs, the origin, which leads (leads,) can be forecast, and warnings."""
    clock, records, max_gap = model["clock"], settings["records"], settings["max_gap"]
    every, length, name = clock["every"], clock["every"] * HOUR, clock["record"]
    path, station, columns = files[name], records[name], model["columns"][:-2]  # without the calendar
    own = [column for column in columns if column.split(" ")[0] not in clock["neighbours"]]
    phase = round(station["phase_minutes"] * 60)
    times, values, outside = read_measurements(path, station, own, length, phase)
    last = find_last_row(values, times, model, max_gap, path)
    window = slice(last + 1 - model["lookback"], last + 1)
    measured, newest = values[window, own.index(model["target"])], times[-1]
    if not clock["max_missing"]:
        values = np.column_stack([interpolate_short_gaps(column, max_gap / every) for column in values.T])
    times, values = times[window], values[window].astype(np.float32)
    check_missing(values, clock["max_missing"], path)
    if (is_bad := (outside >= times[0]) & (outside <= times[-1])).any():
        raise RefusedError(
            f"{path}: expected possible values, found an impossible one at {format_time(outside[is_bad][0])}"
        )
    warnings = check_stuck(values, own, station, every, path)
    if now - newest > 24 * HOUR:
        warnings.append(f"{path}: ends {(now - newest) / 24 / HOUR:.0f} days ago: this is no forecast for tomorrow")
    blocks, known = [values], {}
    for name in clock["neighbours"]:
        required = [column.removeprefix(f"{name} ") for column in columns if column.startswith(f"{name} ")]
        grid, neighbour, _ = read_measurements(files[name], records[name], required, length, phase)
        limit = int(max(max_gap / every, records[name]["interval_minutes"] * 60 / length))
        blocks.append(align_neighbour(grid, neighbour, times, length, limit).astype(np.float32))
        known[name] = grid[-1]
    if clock["neighbours"]:
        location = " and ".join(files[name] for name in clock["neighbours"])
        check_missing(np.hstack(blocks[1:]), clock["max_missing_neighbours"], location)
    hours = times % (24 * HOUR) / HOUR
    days = [(EPOCH + timedelta(seconds=int(time))).timetuple().tm_yday for time in times]
    calendar = np.column_stack([hours, days + hours / 24]).astype(np.float32)
    inputs, tables, reached = {"past": np.hstack([*blocks, calendar])[None]}, [], []
    for names in [[names] if isinstance(names, str) else names for names in clock["ahead"]]:
        weather, target = WeatherModel({name: files[name] for name in names}, records), records[names[0]]["target"]
        needed = [c.removeprefix(f"{names[0]} ") for c in model["ahead_columns"] if c.startswith(f"{names[0]} ")]
        for column in needed:
            if not column.startswith(ERROR):
                require_column(weather.values, column, files[names[0]])
        leads = [round(lead * HOUR) for lead in model["lead_hours"]]
        tables.append(weather.tabulate_ahead(needed, target, measured, times, leads))
        reached += [np.isfinite(tables[-1][:, needed.index(target)])] if target else []
        if isinstance(records[names[0]]["issued"], str):
            known[names[0]] = weather.issued.max()
    for name, time in known.items():
        if time - max(now, newest) > HOUR:
            raise RefusedError(
                f"{files[name]}: expected what is known by now, found {format_time(time)}; wrong clock?"
            )
    is_sound = np.ones(len(model["lead_hours"]), bool)
    if tables:
        inputs["ahead"] = np.hstack(tables)[None]
    if reached:
        location = " and ".join(files[name] for name in settings["records"] if records[name]["issued"])
        is_sound, lacking = choose_leads(np.any(reached, axis=0), model["reach"], location)
        warnings += lacking
    return inputs, int(times[-1]), is_sound, warnings


def load_session(model: Settings) -> onnxruntime.InferenceSession:
    """Return model.onnx, ready to run; refuse one that is not the file of model.json."""
    path = FOLDER / "model.onnx"
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != model["onnx_sha256"]:
        raise RefusedError(f"{path}: expected the file of model.json, found none, a damaged one or another model")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def make_forecast(arguments: list[str]) -> Settings:
    """Return the forecast from FILE and NAME=FILE as a dictionary for JSON."""
    model, settings = (json.loads((FOLDER / name).read_text("utf-8")) for name in ("model.json", "settings.json"))
    named = [text.partition("=") for text in arguments]
    files = {
        (name if equals else model["clock"]["record"]): path if equals else name for name, equals, path in named
    }
    if files.keys() != settings["records"].keys() or len(files) < len(arguments):
        expected = " ".join(f"{name}=FILE" for name in settings["records"])
        raise RefusedError(f"expected the files {expected}, found {' '.join(arguments)}")
    session = load_session(model)
    now = int((datetime.now() - EPOCH).total_seconds())
    inputs, origin, is_sound, warnings = read_inputs(files, model, settings, now)
    (quantiles,) = session.run(None, inputs)
    rows = [
        {"valid": format_time(origin + round(lead * HOUR)), "lead_hours": lead}
        | {name: float(str(value)) for name, value in zip(("low", "median", "high"), values, strict=True)}
        for lead, values, sound in zip(model["lead_hours"], quantiles[0], is_sound, strict=True)
        if sound
    ]
    days: dict[str, list[float]] = {}
    for row in rows:
        days.setdefault(row["valid"][:10], []).append(row["median"])
    return {
        "model": model["model"],
        "target": model["target"],
        "origin": format_time(origin),
        "warnings": warnings,
        "days": [{"date": date, "minimum": min(values), "maximum": max(values)} for date, values in days.items()],
        "forecast": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="the station's CSV file, and NAME=FILE of each other record")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    try:
        result = make_forecast(arguments.files)
    except RefusedError as refused:
        sys.exit(f"error: {refused}")
    for warning in result["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['target']}, forecast from {result['origin'][:16].replace('T', ' ')} by {result['model']}\n")
    for row in result["forecast"]:
        print(f"{row['valid'][:16].replace('T', ' ')} {row['median']:7.1f}   {row['low']:.1f} to {row['high']:.1f}")


if __name__ == "__main__":
    main()
