"""Page of one forecast: recent measurements, the forecast, and the model's scores on the test period."""

import html
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.dates as dates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.lib.reports.page import BAND, INK, LINE, LOOK, MUTED, OTHER, format_html_table, format_page, format_svg
from stages.lib.reports.prediction import describe_other

NOON = pd.Timedelta(hours=12)
HISTORY = pd.Timedelta(days=3)  # measurements to draw before the origin
Variants = Sequence[tuple[str, tuple[float, float], float]]  # CSS class, inches, and points of the font
BOTH_WIDTHS = (("desk", (9.2, 3.8), 9.0), ("phone", (3.7, 3.4), 8.5))  # for a desktop and a phone
ONE_WIDTH = (("small", (3.7, 3.4), 8.5),)  # for any screen; each drawing takes 0.1 s


def format_time(time: Any) -> str:
    """Format a time as in `Sat 31 Dec 23:30`."""
    return f"{pd.Timestamp(time):%a %d %b %H:%M}"


def make_framed_figure(size: tuple[float, float], bottom: float) -> tuple[Figure, Axes]:
    """Return a figure of `size` inches and its axes, with a margin of `bottom` inches for the labels of x.

    A layout engine of matplotlib would double the drawing time.
    """
    figure = Figure(figsize=size)
    axes = figure.add_axes((0.65 / size[0], bottom / size[1], 1 - 0.75 / size[0], 1 - (bottom + 0.1) / size[1]))
    return figure, axes


def draw_fan(measured: pd.Series, forecast: pd.DataFrame, quantity: str, size: tuple[float, float]) -> Figure:
    """Draw recent measurements, the forecast with its interval, and later measurements if there are any.

    The weather model's own forecast is dashed, if `forecast` has it.
    """
    figure, axes = make_framed_figure(size, 0.25)
    origin = forecast["valid"].iloc[0] - pd.Timedelta(hours=forecast["lead_hours"].iloc[0])
    before = measured[(measured.index > origin - HISTORY) & (measured.index <= origin)]
    after = measured[(measured.index > origin) & (measured.index <= forecast["valid"].iloc[-1])]
    axes.fill_between(forecast["valid"], forecast["low"], forecast["high"], color=BAND, alpha=0.45, linewidth=0)
    if "weather_model" in forecast:
        output = forecast["weather_model"].astype(float)
        axes.plot(forecast["valid"], output, color=OTHER, linewidth=1.3, linestyle="--")
    axes.plot(forecast["valid"], forecast["median"], color=LINE, linewidth=1.8)
    axes.plot(before, color=INK, linewidth=1.4)
    axes.plot(after, color=INK, linewidth=1.1, linestyle=":")
    axes.axvline(origin, color=MUTED, linewidth=0.9, linestyle="--")
    start, end = (origin - HISTORY).floor("h"), forecast["valid"].iloc[-1]
    axes.set(xlim=(start, end), ylabel=quantity)
    axes.xaxis.set_major_locator(dates.DayLocator())
    axes.xaxis.set_major_formatter("")
    noons = pd.date_range(start.ceil("D") - NOON, end, freq="D")
    edge = NOON / (2 if size[0] < 5 else 4)  # a label closer to the edge would be cut off
    axes.set_xticks(noons[(noons > start + edge) & (noons < end - edge)], minor=True)
    axes.xaxis.set_minor_formatter(dates.DateFormatter("%a %d" if size[0] < 5 else "%a %d %b"))
    axes.tick_params(axis="x", which="minor", length=0)
    return figure


def draw_verification(by_lead: pd.DataFrame, quantity: str, size: tuple[float, float]) -> Figure:
    """Draw the mean absolute error on the test period by lead, for the model and for persistence."""
    figure, axes = make_framed_figure(size, 0.5)
    axes.plot(by_lead["lead"], by_lead["mae"] / (1 - by_lead["skill"]), color=OTHER, linewidth=1.3, linestyle="--")
    axes.plot(by_lead["lead"], by_lead["mae"], color=LINE, linewidth=1.8)
    axes.set(xlabel="Hours ahead", ylabel=quantity, ylim=(0, None), xlim=(0, by_lead["lead"].max()))
    axes.set_xticks(np.arange(0, by_lead["lead"].max() + 1, 12 if by_lead["lead"].max() > 12 else 3))
    return figure


def format_figure(variants: Variants, draw: Any, name: str, description: str, *arguments: Any) -> str:
    """Return a figure in several widths, of which the page shows the one that suits the screen.

    `draw` takes `arguments` and the size in inches.
    """
    elements = []
    for kind, size, font in variants:
        with matplotlib.rc_context(LOOK | {"font.size": font}):
            svg = format_svg(draw(*arguments, size), f"{name}-{kind}", description)
        elements.append(f'<div class="{kind}">{svg}</div>')
    return "<figure>" + "".join(elements) + "</figure>"


def format_prediction_page(result: dict[str, Any], measured: pd.Series, by_lead: pd.DataFrame) -> str:
    """Return the HTML page of a forecast.

    `result` is the content of forecast.json, `measured` the measured target by time, and `by_lead` the scores of
    the model on the test period.
    """
    forecast = pd.DataFrame(result["forecast"]).assign(valid=lambda f: pd.to_datetime(f["valid"]))
    unit = result["unit"].replace("degC", "°C")
    quantity = result["target"].replace("degC", "°C")
    cards = "".join(
        f'<div class="card">{pd.Timestamp(day["date"]):%A %d %B}{format_covered_hours(day)}<br>'
        f"<b>{day['minimum']['median']:z.1f}</b> to <b>{day['maximum']['median']:z.1f}</b> {unit}"
        f'<div class="note">lowest at {day["minimum"]["valid"][11:16]}, highest at {day["maximum"]["valid"][11:16]}'
        "</div></div>"
        for day in result["days"]
    )
    is_later = measured.index > pd.Timestamp(result["origin"])
    later_note = " (dotted: measured later)" if measured[is_later].notna().any() else ""
    has_output = "weather_model" in forecast
    output_note = "; dashed, the weather model's own forecast" if has_output else ""
    if result["recalibration"]:
        first, last = map(format_time, result["recalibration"])
        output_note += f". The interval has the errors of the forecasts from {first} to {last}"
    others = "".join(f"{html.escape(describe_other(other))}. " for other in result["others"])
    rows = [
        (
            format_time(row["valid"]),
            f"{row['lead_hours']:g} h",
            f"{row['median']:z.1f}",
            f"{row['low']:z.1f} to {row['high']:z.1f}",
            *([format_output(row["weather_model"])] if has_output else []),
        )
        for row in result["forecast"]
    ]
    heads = ("valid", "ahead", unit, "80 % interval", *(["weather model"] if has_output else []))
    three_hourly = [row for row, lead in zip(rows, forecast["lead_hours"], strict=True) if not lead % 3] or rows
    selected = by_lead[by_lead["lead"].isin([1, 3, 6, 12, 24, 36, 48])]
    selected = selected if len(selected) else by_lead
    columns = selected[["lead", "mae", "bias", "coverage", "skill"]].itertuples(index=False, name=None)
    scores = [
        (f"{lead:g} h", f"{mae:.2f}", f"{bias:+z.2f}", f"{100 * coverage:.0f} %", f"{skill:.2f}")
        for lead, mae, bias, coverage, skill in columns
    ]
    first, last = (time[:10] for time in result["training"])
    error = f"Mean absolute error ({unit})"
    warnings = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in result["warnings"])
    caption = f"{quantity}: measurements of three days and the forecast"
    fan = format_figure(BOTH_WIDTHS, draw_fan, "fan", caption, measured, forecast, quantity)
    body = f"""<h1>{html.escape(quantity)}: the next {result["forecast"][-1]["lead_hours"]:g} hours</h1>
<p>Forecast from {format_time(result["origin"])} {result["origin"][:4]} by <b>{html.escape(result["model"])}</b>
({html.escape(result["choice"])}), trained on {first} to {last}. File: {html.escape(result["file"])}. {others}Times
are as the station records them.</p>
{warnings}<div class="cards">{cards}</div>
{fan}
<p class="note">Up to the dashed line: measured{later_note}. After it: the forecast's median and its 80 %
interval{output_note}.</p>
<h2>Every three hours</h2>
{format_html_table(heads, three_hourly)}
<details><summary>Every hour</summary>{format_html_table(heads, rows)}</details>
<h2>How good such forecasts have been</h2>
{format_figure(ONE_WIDTH, draw_verification, "verification", f"{error} by lead", by_lead, error)}
<p class="note">Mean absolute error on the test period, whose data the model has never seen. Dashed: persistence,
the latest value measured at the same hour of the day. Each line of the table averages up to
{by_lead["n"].max():,} forecasts.</p>
{format_html_table(("ahead", f"error, {unit}", f"bias, {unit}", "in the interval", "skill"), scores)}"""
    return format_page(f"{quantity}, forecast from {result['origin']}", body)


def format_output(value: float | None) -> str:
    """Format a weather model's value, which may be missing."""
    return "" if value is None else f"{value:z.1f}"


def format_covered_hours(day: dict[str, Any]) -> str:
    """Return the hours of `day` that the forecast covers, or nothing if it covers the whole day."""
    return "" if day["whole"] else f", {day['first'][11:16]} to {day['last'][11:16]}"
