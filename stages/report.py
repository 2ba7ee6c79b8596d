"""Every model of a task in one table beside the sources' published numbers, and the pictures."""

import csv
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pyarrow.parquet as parquet
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pyarrow import ArrowInvalid

from stages.common import UserError, command, params, whole

METRICS = {
    "forecast": ("val_mae", "test_mae", "val_skill", "test_skill", "best_epoch", "epochs", "parameters"),
    "reviews": ("val_accuracy", "test_accuracy", "val_loss", "best_epoch", "epochs", "parameters"),
}
HISTORY = {
    "forecast": ("epoch", "loss", "val_loss"),
    "reviews": ("epoch", "loss", "accuracy", "val_loss", "val_accuracy"),
}
FIRST_ROWS = 1440  # ten days of ten-minute rows
FORECAST_ROWS = 2016  # two weeks of them

# The palette of Okabe and Ito, which stays apart for colour-blind readers.
TRAINING, VALIDATION, TEST = "#E69F00", "#0072B2", "#D55E00"
NAIVE, TRUTH, BAND = "#6F6F6F", "#000000", "#56B4E9"
WIDTH, HEIGHT = 10.0, 4.2  # inches
STYLE = {
    "figure.dpi": 100,
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.labelsize": 10.5,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
}


@dataclass(frozen=True)
class Result:
    """One model: metrics, history by column (each of shape (epochs,)), the sources' score as text."""

    name: str
    metrics: dict[str, Any]
    history: dict[str, np.ndarray]
    published: str = ""


# --- Reading ---------------------------------------------------------------------------------------


def existing(path: str | Path, remedy: str) -> Path:
    """Return `path`; raise UserError naming it and the command `remedy` where it does not exist."""
    if not Path(path).is_file():
        raise UserError(f"{path}: not found; make it with `{remedy}`")
    return Path(path)


def read_json(path: str | Path, remedy: str, fields: Sequence[str]) -> dict[str, Any]:
    """Return the JSON object at `path`.

    Raises UserError where it is missing, is not JSON or lacks one of `fields`.
    """
    try:
        value = json.loads(existing(path, remedy).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}; make it again with `{remedy}`") from None
    for field in fields:
        if not isinstance(value, dict) or field not in value:
            raise UserError(f"{path}: no field `{field}`; make it again with `{remedy}`")
    return value


def read_history(path: str | Path, remedy: str, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Return `columns` of the CSV file at `path`, each float64 of shape (epochs,); an empty field is NaN.

    Raises UserError where the file or a column is missing or a field is not a number.
    """
    with existing(path, remedy).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    for column in columns:
        if column not in (reader.fieldnames or ()):
            raise UserError(f"{path}: no column `{column}`; make it again with `{remedy}`")
    return {
        column: np.array([_number(row[column], f"{path}, line {n}, {column}") for n, row in enumerate(rows, 2)])
        for column in columns
    }


def _number(text: str | None, where: str) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        raise UserError(f"{where}: expected a number, found {text!r}") from None


def read_published(path: str | Path, metric: str) -> dict[str, str]:
    """Return the sources' best `metric` of each model as text, with its epoch: `0.2635 (5)`.

    Raises UserError where the file is missing, lacks a column or holds something else than numbers.
    """
    published = {}
    with existing(path, f"git checkout {path}").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for column in ("model", "best", "best_epoch", "last", "metric"):
            if column not in (reader.fieldnames or ()):
                raise UserError(f"{path}, line 1: no column `{column}`; restore it with `git checkout {path}`")
        for row in reader:
            for column in ("best", "best_epoch", "last"):
                _number(row[column], f"{path}, line {reader.line_num}, {column}")
            if row["metric"] == metric and row["best"]:
                epoch = f" ({row['best_epoch']})" if row["best_epoch"] else ""
                published[row["model"]] = row["best"] + epoch
    return published


def read_results(task: str) -> list[Result]:
    """Return what train and evaluate left of every model of `task`, in the order of params.yaml.

    Raises UserError where the task has no model or a model lacks a file.
    """
    models = params("models") or {}
    names = [name for name, model in models.items() if isinstance(model, dict) and model.get("task") == task]
    if not names:
        raise UserError(f"params.yaml: no model in `models` has `task: {task}`; add one, or skip this report")
    published = read_published("stages/sources.csv", METRICS[task][0])
    return [
        Result(
            name,
            read_json(
                f"data/evaluations/{task}/{name}/metrics.json", f"dvc repro evaluate@{name}", METRICS[task]
            ),
            read_history(
                f"data/models/{task}/{name}/history.csv", f"dvc repro train@{name}", HISTORY[task]
            ),
            published.get(name, ""),
        )
        for name in names
    ]  # fmt: skip


def read_columns(path: str | Path, remedy: str, columns: Sequence[str]) -> list[np.ndarray]:
    """Return `columns` of the Parquet file at `path`, each of shape (rows,); "" is its first column.

    Raises UserError where the file or a column is missing.
    """
    try:
        file = parquet.ParquetFile(existing(path, remedy))
    except ArrowInvalid as error:
        raise UserError(f"{path}: not a Parquet file: {error}; make it again with `{remedy}`") from None
    names = [column or file.schema_arrow.names[0] for column in columns]
    for name in names:
        if name not in file.schema_arrow.names:
            raise UserError(f"{path}: no column `{name}`; it has {', '.join(file.schema_arrow.names)}")
    table = file.read(columns=names)
    return [table[name].to_numpy() for name in names]


# --- The table -------------------------------------------------------------------------------------


def ranked(results: Sequence[Result], metric: str, descending: bool = False) -> list[Result]:
    """Return `results` sorted by `metric`, the best first; equal ones keep their order, NaN and null end."""

    def rank(result: Result) -> float:
        value = result.metrics[metric]
        if value is None or math.isnan(value):
            return math.inf
        return -value if descending else value

    return sorted(results, key=rank)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column to the left, the others to the right."""
    width = [max(3, *(len(row[i]) for row in [header, *rows])) for i in range(len(header))]
    rule = ["-" * width[0], *("-" * (w - 1) + ":" for w in width[1:])]
    lines = [
        [row[0].ljust(width[0]), *(cell.rjust(w) for cell, w in zip(row[1:], width[1:], strict=True))]
        for row in [header, *rows]
    ]
    return "".join("| " + " | ".join(line) + " |\n" for line in [lines[0], rule, *lines[1:]])


def unit_of(target: str) -> str:
    """Return the unit in the last parentheses of a column's name, as it is written there, or ""."""
    found = re.search(r"\(([^()]*)\)\s*$", target)
    return found[1] if found else ""


def suffix_of(result: Result) -> str:
    """Return how the names of the metrics in the target's own unit end: `degc` of `val_mae_degc`."""
    for name in result.metrics:
        suffix = name.removeprefix("val_mae_")
        if suffix != name and f"test_mae_{suffix}" in result.metrics:
            return suffix
    raise UserError(
        f"data/evaluations/forecast/{result.name}/metrics.json: no field `val_mae_UNIT` with its"
        f" `test_mae_UNIT`; make it again with `dvc repro evaluate@{result.name}`"
    )


def _decimals(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _cells(result: Result, best: bool, scores: Sequence[str]) -> list[str]:
    """Return a row, the name and the first score of the best model in bold."""
    name, first = (f"**{result.name}**", f"**{scores[0]}**") if best else (result.name, scores[0])
    epochs = result.metrics["epochs"]
    at = f"{result.metrics['best_epoch']} / {epochs}" if epochs else "-"
    return [name, first, *scores[1:], at, f"{result.metrics['parameters']:,}", result.published]


def forecast_table(results: Sequence[Result], target: str) -> str:
    """Return the Markdown table of the forecasting models, sorted by validation MAE, with its legend."""
    suffix = suffix_of(results[0])
    unit = unit_of(target) or suffix
    header = [
        *("model", "val MAE", f"val MAE {unit}", f"test MAE {unit}", "val skill", "test skill"),
        *("best epoch / epochs", "parameters", "sources' val MAE (epoch)"),
    ]
    fields = [
        ("val_mae", 4),
        (f"val_mae_{suffix}", 3),
        (f"test_mae_{suffix}", 3),
        ("val_skill", 3),
        ("test_skill", 3),
    ]
    rows = [
        _cells(result, i == 0, [_decimals(result.metrics.get(field), digits) for field, digits in fields])
        for i, result in enumerate(ranked(results, "val_mae"))
    ]
    legend = (
        f"Sorted by validation MAE, the best in bold. MAE is in standard deviations of {target} over the"
        f" training rows where no unit is named. Skill is 1 - MAE / naive MAE on the same windows.\n"
    )
    return markdown_table(header, rows) + "\n" + legend


def reviews_table(results: Sequence[Result]) -> str:
    """Return the Markdown table of the review classifiers, sorted by validation accuracy, with its legend."""
    header = [
        *("model", "val accuracy", "test accuracy", "val loss"),
        *("best epoch / epochs", "parameters", "sources' val accuracy (epoch)"),
    ]
    fields = ("val_accuracy", "test_accuracy", "val_loss")
    rows = [
        _cells(result, i == 0, [_decimals(result.metrics[field], 4) for field in fields])
        for i, result in enumerate(ranked(results, "val_accuracy", descending=True))
    ]
    return markdown_table(header, rows) + "\nSorted by validation accuracy, the best in bold.\n"


def provenance(source: dict[str, Any], extent: str = "") -> str:
    """Return what the numbers are measured on, and a warning where that is synthetic."""
    text = f"Measured on `{source['source']}`{extent}.\n"
    if source["synthetic"]:
        text += (
            "\n**This is SYNTHETIC sample data: the numbers say nothing about the sources' numbers,"
            " nor about real data.**\n"
        )
    return text


# --- The pictures ----------------------------------------------------------------------------------


def pretty(name: str) -> str:
    """Return a column's name or a unit with the degree sign."""
    return name.replace("degC", "°C")


def _figure(title: str, height: float = HEIGHT, rows: int = 1, columns: int = 1, **shared: Any) -> tuple:
    """Return a titled figure and its axes, of shape (rows, columns)."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, x=0.012, ha="left")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _dates(axes: Axes) -> None:
    locator = AutoDateLocator(minticks=5, maxticks=11)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_xlabel("Time")
    axes.margins(x=0.01)


def daily(time: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return days, minimum, mean and maximum, each of shape (days,); a day without a value is NaN.

    `time` is datetime64 of shape (rows,) in any order, `values` float64 of the same shape.
    """
    known = ~(np.isnan(values) | np.isnat(time))
    if not known.any():
        return np.empty(0, "datetime64[D]"), np.empty(0), np.empty(0), np.empty(0)
    day, values = time[known].astype("datetime64[D]"), values[known]
    order = np.argsort(day, kind="stable")
    present, start, count = np.unique(day[order], return_index=True, return_counts=True)
    days = np.arange(present[0], present[-1] + 1)
    where = (present - days[0]).astype(int)
    low, mean, high = (np.full(len(days), np.nan) for _ in range(3))
    low[where] = np.minimum.reduceat(values[order], start)
    mean[where] = np.add.reduceat(values[order], start) / count
    high[where] = np.maximum.reduceat(values[order], start)
    return days, low, mean, high


def draw_series(time: np.ndarray, values: np.ndarray, target: str, note: str = "") -> Figure:
    """Return the whole series, shape (rows,) each: the range of every day and its mean."""
    days, low, mean, high = daily(time, values)
    figure, ((axes,),) = _figure(f"{pretty(target)}, the whole record{note}")
    axes.fill_between(days, low, high, color=BAND, alpha=0.7, linewidth=0, label="daily range")
    axes.plot(days, mean, color=VALIDATION, linewidth=0.6, label="daily mean")
    axes.set_ylabel(pretty(target))
    _dates(axes)
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def draw_first_days(time: np.ndarray, values: np.ndarray, target: str, note: str = "") -> Figure:
    """Return the first FIRST_ROWS of the series, shape (rows,) each."""
    time, values = time[:FIRST_ROWS], values[:FIRST_ROWS]
    days = round((time[-1] - time[0]) / np.timedelta64(1, "D")) if len(time) else 0
    extent = f"the first {days} days ({len(time):,} rows)" if days > 1 else f"the first {len(time):,} rows"
    figure, ((axes,),) = _figure(f"{pretty(target)}, {extent}{note}")
    axes.plot(time, values, color=VALIDATION, linewidth=1.3)
    axes.set_ylabel(pretty(target))
    _dates(axes)
    return figure


def _curves(axes: Axes, result: Result, column: str) -> None:
    """Draw a training and a validation curve over the epochs, the kept epoch marked."""
    epoch, validation = result.history["epoch"], result.history[f"val_{column}"]
    axes.plot(epoch, result.history[column], color=TRAINING, label="training")
    axes.plot(epoch, validation, color=VALIDATION, label="validation")
    kept = epoch == result.metrics["best_epoch"]
    marker = {"color": VALIDATION, "markeredgecolor": "white", "markersize": 7, "linestyle": "none"}
    axes.plot(epoch[kept], validation[kept], marker="o", zorder=5, label="best epoch", **marker)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    # One epoch leaves a line without length: dots show it.
    for line in axes.lines[:2] if len(epoch) == 1 else ():
        line.set_marker(".")


def _shared_legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=4)


def loss_limits(results: Sequence[Result], naive: float | None) -> tuple[float, float] | None:
    """Return where to cut the loss axis, lowest and highest; None where no curve needs it.

    A first epoch far off must not flatten every other curve: the top is twice the naive MAE, or higher
    where a model's best validation loss is.
    """
    curves = [result.history[column] for result in results for column in ("loss", "val_loss")]
    finite = [curve[np.isfinite(curve)] for curve in curves]
    best = [curve.min() for curve in finite[1::2] if curve.size]
    if naive is None or not best:
        return None
    top = max(2 * naive, 1.1 * max(best))
    if max(curve.max(initial=0) for curve in finite) <= top:
        return None
    lowest = min(curve.min(initial=naive) for curve in finite)
    return lowest - 0.05 * (top - lowest), top


def draw_losses(results: Sequence[Result], naive: float | None, note: str = "") -> Figure:
    """Return the loss per epoch of every trained model, a panel each, beside the naive validation MAE."""
    trained = [result for result in results if len(result.history["epoch"])]
    limits = loss_limits(trained, naive)
    cut = f", cut off at {limits[1]:.2f}" if limits else ""
    columns = min(4, max(1, len(trained)))
    rows = max(1, math.ceil(len(trained) / columns))
    height = HEIGHT if rows == 1 else 0.6 + 2.5 * rows
    figure, grid = _figure(f"Loss per epoch{cut}{note}", height, rows, columns, sharey=True)
    for axes, result in zip(grid.flat, trained, strict=False):
        _curves(axes, result, "loss")
        axes.set_title(result.name)
    for axes in grid.flat[max(1, len(trained)) :]:
        axes.set_axis_off()
    if naive is not None:
        for axes in grid.flat[: max(1, len(trained))]:
            axes.axhline(naive, color=NAIVE, linestyle="--", linewidth=1.2, label="naive")
    if not trained:
        grid[0, 0].set_title("no trained model")
        grid[0, 0].set_xticks([])
    if limits:
        grid[0, 0].set_ylim(limits)
    figure.supxlabel("Epoch")
    figure.supylabel("MAE (standard deviations)")
    _shared_legend(figure, grid[0, 0])
    return figure


def draw_forecast(
    best: tuple[str, np.ndarray, np.ndarray, np.ndarray],
    naive: tuple[np.ndarray, np.ndarray] | None,
    target: str,
    note: str = "",
) -> Figure:
    """Return FORECAST_ROWS from the middle of test: truth, `best` (name, time, truth, forecast) and naive.

    Arrays of shape (windows,), the target in its own unit; `naive` is (time, forecast), matched by time
    because its windows need not be those of the best model.
    """
    name, time, truth, forecast = best
    start = max(0, (len(time) - FORECAST_ROWS) // 2)
    part = slice(start, start + FORECAST_ROWS)
    time = time[part]
    figure, ((axes,),) = _figure(f"{pretty(target)}, two weeks of the test rows{note}")
    axes.plot(time, truth[part], color=TRUTH, linewidth=1.8, label="truth")
    if naive is not None and len(time):
        inside = (naive[0] >= time.min()) & (naive[0] <= time.max())
        axes.plot(naive[0][inside], naive[1][inside], color=NAIVE, linewidth=1.1, linestyle="--", label="naive")
    if name != "naive":
        axes.plot(time, forecast[part], color=TEST, label=name)
    axes.set_ylabel(pretty(target))
    _dates(axes)
    axes.set_xlabel("Time forecast")
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def draw_mae(results: Sequence[Result], target: str, note: str = "") -> Figure:
    """Return bars of every model's validation and test MAE in the target's unit, the best on top."""
    suffix = suffix_of(results[0])
    ordered = ranked(results, "val_mae")
    place = np.arange(len(ordered))
    figure, ((axes,),) = _figure(f"Mean absolute error by model{note}", 1.4 + 0.5 * len(ordered))
    for split, label, colour, shift in (("val", "validation", VALIDATION, -0.2), ("test", "test", TEST, 0.2)):
        values = [result.metrics.get(f"{split}_mae_{suffix}") for result in ordered]
        numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
        bars = axes.barh(place + shift, numbers, height=0.38, color=colour, label=label)
        axes.bar_label(bars, [f"{x:.2f}" if np.isfinite(x) else "" for x in numbers], padding=3, fontsize=9)
    axes.set_yticks(place, [result.name for result in ordered])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"MAE ({pretty(unit_of(target) or suffix)})")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def draw_curves(results: Sequence[Result], note: str = "") -> Figure:
    """Return accuracy (above) and loss (below) per epoch of every classifier, one column a model."""
    figure, grid = _figure(f"Accuracy and loss per epoch{note}", 5.6, 2, len(results), sharex="col", sharey="row")
    for i, result in enumerate(results):
        _curves(grid[0, i], result, "accuracy")
        _curves(grid[1, i], result, "loss")
        grid[0, i].set_title(result.name)
    grid[0, 0].set_ylabel("Accuracy")
    grid[1, 0].set_ylabel("Loss (cross-entropy, nats)")
    figure.supxlabel("Epoch")
    _shared_legend(figure, grid[0, 0])
    return figure


def save(path: Path, draw: Callable[..., Figure], *arguments: Any) -> None:
    """Write the figure that `draw` makes of `arguments` as a PNG file whose bytes depend on them alone."""
    with matplotlib.style.context(["default", STYLE]):
        # Without `Software` the bytes do not name the version of matplotlib.
        draw(*arguments).savefig(path, metadata={"Software": None}, pil_kwargs={"optimize": True})


# --- The stage -------------------------------------------------------------------------------------


def _write_table(directory: Path, text: str) -> None:
    directory.mkdir()
    (directory / "table.md").write_text(text, encoding="utf-8")


def _note(source: dict[str, Any]) -> str:
    return " (synthetic)" if source["synthetic"] else ""


def report_forecast(directory: Path) -> None:
    """Write the forecasting models' table and pictures into the new `directory`."""
    target = params("dataset", "target")
    results = read_results("forecast")
    quality = read_json("data/quality.json", "dvc repro parse", ("source", "rows", "first", "last"))
    extent = f", {quality['rows']:,} rows, {quality['first']} - {quality['last']}"
    text = f"# Forecasts of {target}\n\n{provenance(quality['source'], extent)}\n"
    _write_table(directory, text + forecast_table(results, target))

    note = _note(quality["source"])
    series = (*read_columns("data/record.parquet", "dvc repro parse", ("", target)), target, note)
    save(directory / "temperature.png", draw_series, *series)
    save(directory / "first_ten_days.png", draw_first_days, *series)

    naive = next((result for result in results if result.name == "naive"), None)
    save(directory / "losses.png", draw_losses, results, naive and naive.metrics["val_mae"], note)
    save(directory / "mae.png", draw_mae, results, target, note)

    best = next((result for result in ranked(results, "val_mae") if result is not naive), naive)
    shown = (best.name, *_forecast(best, "time", "truth", "forecast"))
    reference = naive and _forecast(naive, "time", "forecast")
    save(directory / "forecast.png", draw_forecast, shown, reference, target, note)


def _forecast(result: Result, *columns: str) -> list[np.ndarray]:
    path = f"data/evaluations/forecast/{result.name}/forecast.parquet"
    return read_columns(path, f"dvc repro evaluate@{result.name}", columns)


def report_reviews(directory: Path) -> None:
    """Write the review classifiers' table and learning curves into the new `directory`."""
    results = read_results("reviews")
    source = read_json("data/raw/reviews/source.json", "dvc repro download@reviews", ("source", "synthetic"))
    text = f"# Reviews, positive or negative\n\n{provenance(source)}\n"
    _write_table(directory, text + reviews_table(results))
    save(directory / "curves.png", draw_curves, results, _note(source))


TASKS = {"forecast": report_forecast, "reviews": report_reviews}


def report(task: str) -> None:
    """Write the table of one task's models (forecast or reviews) and its pictures to data/report/TASK."""
    if task not in TASKS:
        raise UserError(f"{task!r}: no such report; expected {' or '.join(TASKS)}")
    with whole(f"data/report/{task}") as directory:
        TASKS[task](directory)
        text = (directory / "table.md").read_text(encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    command(report, "task")
