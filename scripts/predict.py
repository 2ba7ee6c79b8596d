"""`./run predict FILE`: tomorrow's temperature from a station's latest file, by a model of the station track.

No stage: DVC does not know of it. The file goes through the code that made the training data.
"""

import csv
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd

from stages.lib.cleaning import check_of, cleaned, spacing
from stages.lib.errors import UserError
from stages.lib.files import reading, whole
from stages.lib.hours import CALENDAR, Hours, hours
from stages.lib.params import params
from stages.lib.record import values
from stages.lib.settings.base import settings_of
from stages.lib.settings.clean import Clean
from stages.lib.settings.dataset import Record
from stages.lib.settings.training import settings
from stages.lib.tables import read_record
from stages.lib.units import unit

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


def predict(
    file: Annotated[str, "CSV as `parse` reads it (.csv, .csv.zip, .csv.gz), of at least one lookback"],
    model: Annotated[str, "a station model of params.yaml; without it the one with the lowest validation MAE"] = "",
    at: Annotated[
        str, "forecast from this time of the file, such as 2016-12-30T12:00, not from the last hour"
    ] = "",
    output: Annotated[
        str, "folder for forecast.csv, forecast.json and forecast.html; without it that of FILE"
    ] = "",
) -> None:
    """Forecast the next hours from the last complete hour of FILE, with an interval that holds 80 %."""
    path = place(file)
    folder = place(output) if output else path.parent
    if not path.is_file():
        raise UserError(f"{path}: not found; expected a station's CSV file")
    name, chosen = (model, "as asked") if model else (best_model(), "the best on validation")
    description = describe(name)
    latest = latest_window(path, description, moment_of(at))
    old = [] if at else stale(latest.end, str(path), np.datetime64(datetime.now(), "s"))
    warnings = latest.warnings + old
    quantiles = answer(name, latest.window)
    with reading(f"data/evaluations/station/{name}/by_lead.parquet", f"evaluate@{name}") as table:
        by_lead = pd.read_parquet(table)
    result = summarize(description, latest.origin, quantiles, by_lead, path.name, warnings)
    write(folder, result, latest.measured, by_lead)
    print(text(result, chosen))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"\nWritten: {folder / 'forecast.csv'}, forecast.json and, to look at, {folder / 'forecast.html'}")


def place(path: str) -> Path:
    """`path` as the caller means it: relative to where `run` was called from, which is not where it runs."""
    called_from = Path(os.environ.get("CALLED_FROM", "."))
    expanded = Path(path).expanduser()
    return expanded if called_from.resolve() == Path.cwd() else called_from / expanded


def moment_of(at: str) -> np.datetime64 | None:
    """The time that --at names; UserError where it is none."""
    try:
        time = datetime.fromisoformat(at) if at else None
        if time is not None and time.tzinfo is not None:
            raise ValueError
    except ValueError:
        raise UserError(
            f"--at: expected a time of the station's own clock such as 2016-12-30T12:00, found {at!r}"
        ) from None
    return np.datetime64(time, "s") if time else None


# --- The model ---------------------------------------------------------------------------------------


def station_models() -> list[str]:
    return [name for name, model in (params("models") or {}).items() if model.get("task") == "station"]


def best_model() -> str:
    """The evaluated station model with the lowest MAE at the headline lead on validation; UserError if none."""
    scores = {}
    for name in station_models():
        if Path(f"metrics/station/{name}.json").is_file():
            with reading(f"metrics/station/{name}.json", f"evaluate@{name}") as path:
                metrics = json.loads(path.read_text(encoding="utf-8"))
                scores[name] = next(value for key, value in metrics.items() if key.startswith("val_mae_"))
    if not scores:
        raise UserError(
            "metrics/station: expected the scores of a station's model, found none; train and evaluate "
            "them with `dvc repro report_station`"
        )
    return min(scores, key=scores.__getitem__)


def describe(name: str) -> Description:
    """What model.json says of the station model `name`; UserError where there is none."""
    known = station_models()
    if name not in known:
        raise UserError(
            f"--model: expected a station model of params.yaml, found {name!r}; it has {', '.join(known) or 'none'}"
        )
    with reading(f"data/models/station/{name}/model.json", f"train@{name}") as path:
        description = json.loads(path.read_text(encoding="utf-8"))
    target = params("dataset", "target")
    if description["target"] != target:
        raise UserError(
            f"{path}: expected a model of {target!r} (dataset.target in params.yaml), found one of "
            f"{description['target']!r}; train it again with `dvc repro train@{name}`"
        )
    return description


def answer(name: str, window: np.ndarray) -> np.ndarray:
    """The quantiles (leads, 3) that model `name` gives for one window; TensorFlow is imported only here."""
    from stages.lib.nn.environment import keras, use_threads
    from stages.lib.tasks.station.forecasting import answers

    use_threads(settings(name)["threads"])
    with reading(f"data/models/station/{name}/model.keras", f"train@{name}") as path:
        network = keras.models.load_model(path, compile=False)
    return answers(network, window[None])[0]


# --- The file ----------------------------------------------------------------------------------------


def latest_window(path: Path, description: Description, at: np.datetime64 | None) -> Latest:
    """What a forecast by the model of `description` starts from; UserError says why `path` will not do."""
    section, clean, where = settings_of(Record, "dataset"), settings_of(Clean, "clean"), str(path)
    table = read_record([path], section)
    record = {name: values(table[name]) for name in table.column_names}
    with reading("data/clean.json", "clean") as report:
        trained = json.loads(report.read_text(encoding="utf-8"))
        interval, phase = (round(60 * trained[f"{key}_minutes"]) for key in ("interval", "phase"))
    found, _ = spacing(next(iter(record.values())), where)
    if found != interval:
        raise UserError(
            f"{where}: expected a row every {interval / 60:g} minutes, as in the record that "
            f"{description['model']} was trained on, found one every {found / 60:g}"
        )
    check_names(table.column_names[1:], description, clean, where)
    grid, _ = cleaned(record, clean, section.sentinels, section.target, where, (interval, phase))
    check_order(list(grid.columns), description, where)
    return window_of(grid, record, description, clean, section.sentinels, at, where)


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


def window_of(
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
    table = hours(known, target, every, clean.max_gap)
    complete = np.flatnonzero(table.now & np.isfinite(table.rows).all(axis=1))
    if at is None:
        origin = origin_of(table, complete, clean.max_gap, where)
    else:
        origin = len(table.time) - 1
        if table.time[origin] != at:
            raise UserError(
                f"--at: expected a time at which {where} has an hour, such as {table.time[origin]}, found {at}"
            )
        if origin not in complete:
            raise UserError(
                f"--at: expected a time at which every column was measured, found {at} "
                f"without {absent(table, origin, grid)}"
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


def absent(table: Hours, row: int, grid: pd.DataFrame) -> str:
    """The columns that were not measured at `row` of `table`, or not in the hours that it is the mean of."""
    there = np.isfinite(table.rows[row, : -len(CALENDAR)]) & grid.loc[table.time[row]].notna().to_numpy()
    return ", ".join(repr(name) for name, found in zip(grid.columns, there, strict=True) if not found)


def origin_of(table: Hours, complete: np.ndarray, max_gap: float, where: str) -> int:
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


def check_gaps(rows: np.ndarray, table: Hours, start: int, max_gap: float, where: str) -> None:
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
        check = check_of(name, clean.checks)
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
        check = check_of(name, clean.checks)
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


def stale(end: np.datetime64, where: str, now: np.datetime64) -> list[str]:
    """What to say where the file ended more than a day before `now`; both by the station's clock."""
    if now - end <= OLD:
        return []
    return [
        f"{where} ends on {end}, {(now - end) / (24 * HOUR):,.0f} days ago: this is no forecast for tomorrow; "
        "for a past one, name its time with --at"
    ]


# --- The result --------------------------------------------------------------------------------------


def summarize(
    description: Description,
    origin: np.datetime64,
    quantiles: np.ndarray,
    by_lead: pd.DataFrame,
    file: str,
    warnings: list[str],
) -> dict[str, Any]:
    """What forecast.json holds. Its numbers, read as float32, are `quantiles` (leads, 3) to the last bit."""
    rows = []
    for lead, triple in zip(description["lead_hours"], quantiles, strict=True):
        low, median, high = (float(str(value)) for value in triple)
        valid = str(origin + np.timedelta64(round(lead * 3600), "s"))
        rows.append({"valid": valid, "lead_hours": lead, "median": median, "low": low, "high": high})
    scores = by_lead.rename(columns={"lead": "lead_hours"})
    return {
        "target": description["target"],
        "unit": unit(description["target"]),
        "origin": str(origin),
        "file": file,
        "warnings": warnings,
        **{key: description[key] for key in ("model", "training", "validation", "quantiles")},
        "days": days(rows, description["every_hours"]),
        "forecast": rows,
        "verification": json.loads(scores.to_json(orient="records", double_precision=4)),
    }


def days(rows: list[dict[str, Any]], every: float) -> list[dict[str, Any]]:
    """The lowest and the highest median of each day that `rows` are about, and which of its hours they are."""
    dates: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        dates.setdefault(row["valid"][:10], []).append(row)
    return [
        {
            "date": date,
            "first": part[0]["valid"],
            "last": part[-1]["valid"],
            "whole": len(part) * every >= 24,
            "minimum": min(part, key=lambda row: row["median"]),
            "maximum": max(part, key=lambda row: row["median"]),
        }
        for date, part in dates.items()
    ]


def text(result: dict[str, Any], chosen: str) -> str:
    """What the screen shows of `result`."""
    own, rows = result["unit"].replace("degC", "°C"), result["forecast"]
    shown = [row for row in rows if not row["lead_hours"] % 3] or rows
    lines = [
        f"{result['target']}, forecast from {result['origin'].replace('T', ' ')}",
        "",
        f"{'valid':<18}{own:>8}   80 % interval",
    ]
    for row in shown:
        valid = datetime.fromisoformat(row["valid"])
        lines.append(f"{valid:%a %d %b %H:%M}  {row['median']:z8.1f}   {row['low']:z.1f} to {row['high']:z.1f}")
    lines.append("")
    for day in result["days"]:
        hours_of = "" if day["whole"] else f" ({day['first'][11:16]} to {day['last'][11:16]})"
        low, high = day["minimum"], day["maximum"]
        lines.append(
            f"{day['date']}{hours_of}: minimum {low['median']:z.1f} {own} at {low['valid'][11:16]}, "
            f"maximum {high['median']:z.1f} {own} at {high['valid'][11:16]}"
        )
    scores = {row["lead_hours"]: row for row in result["verification"]}
    leads = [lead for lead in (3, 12, 24, 48) if lead in scores] or list(scores)[-1:]
    errors = ", ".join(f"{scores[lead]['mae']:.2f} {own} {lead:g} h ahead" for lead in leads)
    first, last = (time[:10] for time in result["training"])
    held = scores[leads[-1]]
    lines += [
        "",
        f"Mean absolute error on the test period: {errors}.",
        f"Its 80 % interval {leads[-1]:g} h ahead held the truth in {100 * held['coverage']:.0f} % of "
        f"{held['n']:,} forecasts.",
        f"Model: {result['model']} ({chosen}), trained on {first} to {last}.",
    ]
    return "\n".join(lines)


def write(folder: Path, result: dict[str, Any], measured: pd.Series, by_lead: pd.DataFrame) -> None:
    """Write forecast.csv, forecast.json and forecast.html to `folder`."""
    from stages.lib.reports.prediction import prediction_page

    with (
        whole(folder / "forecast.csv") as table,
        whole(folder / "forecast.json") as file,
        whole(folder / "forecast.html") as page,
    ):
        with table.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, result["forecast"][0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(result["forecast"])
        file.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        page.write_text(prediction_page(result, measured, by_lead), encoding="utf-8")
