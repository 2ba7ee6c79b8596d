"""Output of `predict`: the text on the screen, forecast.csv, forecast.json and forecast.html."""

import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.files import atomic_output
from stages.lib.weather.latest import Description, Latest, Part
from stages.lib.weather.units import get_unit


def summarize_forecast(
    description: Description,
    latest: Latest,
    quantiles: np.ndarray,
    origins: np.ndarray,
    by_lead: pd.DataFrame,
    file: str,
    warnings: list[str],
    choice: str,
) -> dict[str, Any]:
    """Return the content of forecast.json.

    `quantiles` is (leads, 3), float32; its numbers in the file, read as float32, are equal to the last bit.
    `origins` are those of the forecasts that the intervals were recalibrated on, if they were. `by_lead` holds the
    model's scores on the test period, one row per lead. `choice` says how the model was chosen.
    """
    rows, output = [], latest.model_output
    is_sound = np.full(len(quantiles), True) if latest.is_sound is None else latest.is_sound
    for position in np.flatnonzero(is_sound):
        lead = description["lead_hours"][position]
        low, median, high = (float(str(value)) for value in quantiles[position])
        valid = str(latest.origin + np.timedelta64(round(lead * 3600), "s"))
        row = {"valid": valid, "lead_hours": lead, "median": median, "low": low, "high": high}
        if output is not None:
            row["weather_model"] = float(str(output[position])) if np.isfinite(output[position]) else None
        rows.append(row)
    scores = by_lead.rename(columns={"lead": "lead_hours"})
    return {
        "record": description["record"],
        "target": description["target"],
        "unit": get_unit(description["target"]),
        "origin": str(latest.origin),
        "file": file,
        "others": [summarize_part(part, latest.origin) for part in latest.parts],
        "warnings": warnings,
        "choice": choice,
        "recalibration": [str(origins[0]), str(origins[-1])] if len(origins) else None,
        **{key: description[key] for key in ("model", "training", "validation", "quantiles")},
        "days": summarize_days(rows, description["every_hours"]),
        "forecast": rows,
        "verification": json.loads(scores.to_json(orient="records", double_precision=4)),
    }


def summarize_part(part: Part, origin: np.datetime64) -> dict[str, Any]:
    """Return what forecast.json says about the file of another record."""
    hours = None if part.known is None else float((origin - part.known) / np.timedelta64(3600, "s"))
    return {
        "record": part.record,
        "file": Path(part.file).name,
        "kind": "forecasts" if part.forecasts else "measurements",
        "known": None if part.known is None else str(part.known),
        "hours_before_origin": hours,
    }


def describe_other(other: dict[str, Any]) -> str:
    """Return how late the file of another record is, which `summarize_part` describes."""
    verb = "issued" if other["kind"] == "forecasts" else "until"
    if other["known"] is None:
        return f"{other['record']}: nothing by the origin"
    hours = other["hours_before_origin"]
    age = f"{hours:g} h" if hours >= 1 else f"{round(60 * hours)} min"
    age = f"{age} before the origin" if hours else "the origin"
    return f"{other['record']}: {verb} {other['known'][:16].replace('T', ' ')}, {age}"


def summarize_days(rows: list[dict[str, Any]], every: float) -> list[dict[str, Any]]:
    """Return the lowest and the highest median of each day in `rows`, and the hours of the day that these cover.

    `every` is the time step in hours.
    """
    dates: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        dates.setdefault(row["valid"][:10], []).append(row)
    return [
        {
            "date": date,
            "first": day[0]["valid"],
            "last": day[-1]["valid"],
            "whole": len(day) * every >= 24,
            "minimum": min(day, key=lambda row: row["median"]),
            "maximum": max(day, key=lambda row: row["median"]),
        }
        for date, day in dates.items()
    ]


def format_screen(result: dict[str, Any]) -> str:
    """Return the text that `predict` prints about `result`, the content of forecast.json."""
    unit, rows = result["unit"].replace("degC", "°C"), result["forecast"]
    three_hourly = [row for row in rows if not row["lead_hours"] % 3] or rows
    lines = [
        f"{result['target']}, forecast from {result['origin'].replace('T', ' ')}",
        "",
        f"{'valid':<18}{unit:>8}   80 % interval",
    ]
    for row in three_hourly:
        valid = datetime.fromisoformat(row["valid"])
        lines.append(f"{valid:%a %d %b %H:%M}  {row['median']:z8.1f}   {row['low']:z.1f} to {row['high']:z.1f}")
    lines.append("")
    for day in result["days"]:
        hours = "" if day["whole"] else f" ({day['first'][11:16]} to {day['last'][11:16]})"
        low, high = day["minimum"], day["maximum"]
        lines.append(
            f"{day['date']}{hours}: minimum {low['median']:z.1f} {unit} at {low['valid'][11:16]}, "
            f"maximum {high['median']:z.1f} {unit} at {high['valid'][11:16]}"
        )
    scores = {row["lead_hours"]: row for row in result["verification"]}
    leads = [lead for lead in (3, 12, 24, 48) if lead in scores] or list(scores)[-1:]
    errors = ", ".join(f"{scores[lead]['mae']:.2f} {unit} {lead:g} h ahead" for lead in leads)
    first, last = (time[:10] for time in result["training"])
    last_scores = scores[leads[-1]]
    recalibration = result["recalibration"] and " to ".join(time[:10] for time in result["recalibration"])
    lines += [
        "",
        f"Mean absolute error on the test period: {errors}.",
        f"Its 80 % interval {leads[-1]:g} h ahead{', recalibrated daily,' if recalibration else ''} held the truth "
        f"in {100 * last_scores['coverage']:.0f} % of {last_scores['n']:,} forecasts.",
        *([f"Intervals: recalibrated on the forecasts from {recalibration}."] if recalibration else []),
        f"Model: {result['model']} ({result['choice']}), trained on {first} to {last}.",
    ]
    if result["others"]:
        lines.append(f"Also used: {'; '.join(map(describe_other, result['others']))}.")
    return "\n".join(lines)


def write_forecast(folder: Path, result: dict[str, Any], measured: pd.Series, by_lead: pd.DataFrame) -> None:
    """Write forecast.csv, forecast.json and forecast.html to `folder`."""
    from stages.lib.reports.prediction_page import format_prediction_page

    with (
        atomic_output(folder / "forecast.csv") as table,
        atomic_output(folder / "forecast.json") as file,
        atomic_output(folder / "forecast.html") as page,
    ):
        with table.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, result["forecast"][0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(result["forecast"])
        file.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        page.write_text(format_prediction_page(result, measured, by_lead), encoding="utf-8")
