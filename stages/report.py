"""Every model of a task in one table beside the sources' published numbers, and the pictures."""

import json
import math
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.common import UserError, command, params, unit, whole

FIRST = pd.Timedelta(days=10)  # of the record: what its picture shows
MIDDLE = pd.Timedelta(weeks=2)  # of the test rows

# The palette of Okabe and Ito, which stays apart for colour-blind readers.
TRAINING, VALIDATION, TEST = "#E69F00", "#0072B2", "#D55E00"
NAIVE, TRUTH, BAND = "#6F6F6F", "#000000", "#56B4E9"
STYLE = {
    **dict.fromkeys(["font.size", "axes.titlesize", "figure.labelsize"], 10.5),
    **dict.fromkeys(["axes.grid", "axes.axisbelow"], True),
    **dict.fromkeys(["axes.spines.right", "axes.spines.top", "legend.frameon"], False),
    **dict.fromkeys(["figure.constrained_layout.h_pad", "figure.constrained_layout.w_pad"], 0.08),
    **{"figure.titlesize": 13, "figure.titleweight": "bold", "grid.color": "#E3E3E3", "grid.linewidth": 0.7},
    "date.converter": "concise",
}


def existing(path: str, stage: str) -> Path:
    """Return `path`; raise UserError naming it and the `stage` that makes it where it does not exist."""
    if not Path(path).is_file():
        raise UserError(f"{path}: not found; make it with `dvc repro {stage}`")
    return Path(path)


def read_results(task: str) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return the metrics of the models of `task`, a row each, and their histories, a row an epoch.

    The column `published` is the sources' best score as text, with its epoch: `0.2635 (5)`, or "".
    Raises UserError where the task has no model or a model lacks a file.
    """
    names = [name for name, model in (params("models") or {}).items() if model["task"] == task]
    if not names:
        raise UserError(f"params.yaml: no model in `models` has `task: {task}`; add one, or skip this report")
    metrics, histories = [], {}
    for name in names:
        path = existing(f"data/evaluations/{task}/{name}/metrics.json", f"evaluate@{name}")
        metrics.append(json.loads(path.read_text()))
        path = existing(f"data/models/{task}/{name}/history.csv", f"train@{name}")
        histories[name] = pd.read_csv(path, dtype=float)
    published = pd.read_csv("stages/sources.csv", dtype=str, index_col="model")
    text = published["best"] + (" (" + published["best_epoch"] + ")").fillna("")
    return pd.DataFrame(metrics, index=names).assign(published=text.reindex(names).fillna("")), histories


def table(metrics: pd.DataFrame, columns: dict[str, tuple[str, int]], score: str) -> str:
    """Return the Markdown table of the models in `metrics`, the first in bold.

    `columns` maps a heading to its metric and decimals, `score` names the sources' score.
    """
    cells = pd.DataFrame({"model": metrics.index}, index=metrics.index)
    for heading, (name, decimals) in columns.items():
        cells[heading] = metrics[name].map(f"{{:.{decimals}f}}".format)
    epochs = zip(metrics["best_epoch"], metrics["epochs"], strict=True)
    cells["best epoch / epochs"] = [f"{best} / {last}" if last else "-" for best, last in epochs]
    cells["parameters"] = metrics["parameters"].map("{:,}".format)
    cells[f"sources' {score} (epoch)"] = metrics["published"]
    cells.iloc[0, :2] = "**" + cells.iloc[0, :2] + "**"
    sides = ["left", *["right"] * (cells.shape[1] - 1)]
    return cells.to_markdown(index=False, disable_numparse=True, colalign=sides)


def provenance(source: dict[str, Any], extent: str = "") -> str:
    """Return what the numbers are measured on, and a warning where that is synthetic."""
    warning = "**This is SYNTHETIC sample data: the numbers say nothing of the sources', nor of real data.**"
    return f"Measured on `{source['source']}`{extent}." + f"\n\n{warning}" * source["synthetic"]


def titled(title: str, height: float = 4.2, rows: int = 1, columns: int = 1, **shared: Any) -> tuple:
    """Return a titled figure, `height` inches high, and its axes, of shape (rows, columns)."""
    figure = Figure(figsize=(10, height), layout="constrained")
    figure.suptitle(title, x=0.012, ha="left")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def draw_record(series: pd.Series, target: str, note: str = "") -> Figure:
    """Return the whole series, indexed by time in any order: the range of every day and its mean."""
    days = series.sort_index().resample("D").agg(["min", "mean", "max"])
    figure, ((axes,),) = titled(f"{target}, the whole record{note}")
    axes.fill_between(days.index, days["min"], days["max"], color=BAND, alpha=0.7, linewidth=0, label="daily range")
    axes.plot(days["mean"], color=VALIDATION, linewidth=0.6, label="daily mean")
    axes.set(xlabel="Time", ylabel=target, xmargin=0.01)
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def draw_first_days(series: pd.Series, target: str, note: str = "") -> Figure:
    """Return the first ten days of the series, indexed by time."""
    series = series[series.index < series.index[0] + FIRST]
    days = (series.index[-1] - series.index[0]).round("D").days
    figure, ((axes,),) = titled(f"{target}, the first {days} days ({len(series):,} rows){note}")
    axes.plot(series, color=VALIDATION, linewidth=1.3)
    axes.set(xlabel="Time", ylabel=target, xmargin=0.01)
    return figure


def draw_curves(axes: Axes, history: pd.DataFrame, column: str, best_epoch: int) -> None:
    """Draw a training and a validation curve over the epochs, the kept epoch marked."""
    history = history.set_index("epoch")
    marker = "." if len(history) == 1 else None  # one epoch leaves a line without length
    axes.plot(history[column], color=TRAINING, marker=marker, label="training")
    axes.plot(history[f"val_{column}"], color=VALIDATION, marker=marker, label="validation")
    kept = history[f"val_{column}"][history.index == best_epoch]
    axes.plot(kept, "o", color=VALIDATION, mec="white", markersize=7, zorder=5, label="best epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))


def draw_losses(metrics: pd.DataFrame, histories: dict[str, pd.DataFrame], note: str = "") -> Figure:
    """Return the loss per epoch of every trained model, a panel each, beside the naive validation MAE."""
    trained = {name: history for name, history in histories.items() if len(history)} or histories
    is_mae = any(column.startswith("val_loss_") for column in next(iter(trained.values())))
    naive = metrics["val_mae"].get("naive", math.nan) if is_mae else math.nan
    losses = pd.concat(trained)[["loss", "val_loss"]]
    # A first epoch far off must not flatten every other curve, and a model that stays far off is shown.
    top = max(2 * naive, 1.1 * losses["val_loss"].groupby(level=0).min().max())
    cut = losses.max().max() > top  # never where there is no naive model: top is NaN then
    columns = min(4, len(trained))
    rows = math.ceil(len(trained) / columns)
    title = f"Loss per epoch{f', cut off at {top:.2f}' if cut else ''}{note}"
    figure, grid = titled(title, 4.2 if rows == 1 else 0.6 + 2.5 * rows, rows, columns, sharey=True)
    for axes, (name, history) in zip(grid.flat, trained.items(), strict=False):
        draw_curves(axes, history, "loss", metrics["best_epoch"][name])
        axes.axhline(naive, color=NAIVE, linestyle="--", linewidth=1.2, label="naive")
        axes.set_title(name)
    if cut:
        grid[0, 0].set_ylim(0.8 * min(naive, losses.min().min()), top)
    for axes in grid.flat[len(trained) :]:
        axes.set_axis_off()
    figure.supxlabel("Epoch")
    figure.supylabel("MAE (standard deviations)" if is_mae else "Loss")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
    return figure


def draw_forecast(forecasts: dict[str, pd.DataFrame], target: str, note: str = "") -> Figure:
    """Return two weeks in the middle of the test rows: the truth and the forecasts, the best model's last.

    A frame has a row a window, not the same windows in all: `time`, `truth` and `forecast` in the target's unit.
    """
    *_, best = forecasts.values()
    middle = best["time"].iloc[len(best) // 2]
    part = best[best["time"].between(middle - MIDDLE / 2, middle + MIDDLE / 2, inclusive="left")]
    figure, ((axes,),) = titled(f"{target}, two weeks of the test rows{note}")
    axes.plot(part["time"], part["truth"], color=TRUTH, linewidth=1.8, label="truth")
    for name, frame in forecasts.items():
        inside = frame[frame["time"].between(part["time"].min(), part["time"].max())]
        look = {"color": NAIVE, "linestyle": "--", "linewidth": 1.1} if name == "naive" else {"color": TEST}
        axes.plot(inside["time"], inside["forecast"], label=name, **look)
    axes.set(xlabel="Time forecast", ylabel=target, xmargin=0.01)
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def draw_mae(maes: pd.DataFrame, limit: float, unit: str, note: str = "") -> Figure:
    """Return bars of validation and test MAE, a row a model; one beyond `limit` is cut and bears its true value."""
    cut = f", cut off at {limit:.1f} {unit}" if (maes > limit).any(axis=None) else ""
    figure, ((axes,),) = titled(f"Mean absolute error by model{cut}{note}", 1.4 + 0.5 * len(maes))
    place = np.arange(len(maes))
    looks = (("validation", VALIDATION, -0.2), ("test", TEST, 0.2))
    for column, (label, colour, shift) in zip(maes, looks, strict=True):
        bars = axes.barh(place + shift, maes[column].clip(upper=limit), height=0.38, color=colour, label=label)
        axes.bar_label(bars, maes[column].map("{:.2f}".format), padding=3, fontsize=9, annotation_clip=False)
    axes.set(xlabel=f"MAE ({unit})", xlim=(0, limit if cut else None), yticks=place, yticklabels=maes.index)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def report_forecast() -> tuple[str, dict[str, Figure]]:
    """Return the text with the forecasting models' table, and the pictures by name."""
    target = params("dataset", "target")
    metrics, histories = read_results("forecast")
    metrics = metrics.sort_values("val_mae", kind="stable")
    maes = metrics.filter(regex="^(val|test)_mae_")  # in the target's own unit, validation first
    quality = json.loads(existing("data/quality.json", "parse").read_text())
    own = unit(target)
    larger = maes.max(axis=1)
    limit = 3 * larger.get("naive", larger.median())  # an MAE beyond it is far off
    columns = {
        "val MAE": ("val_mae", 4),
        f"val MAE {own}": (maes.columns[0], 3),
        f"test MAE {own}": (maes.columns[1], 3),
        "val skill": ("val_skill", 3),
        "test skill": ("test_skill", 3),
    }
    extent = f", {quality['rows']:,} rows, {quality['first']} - {quality['last']}"
    text = (
        f"# Forecasts of {target}\n\n{provenance(quality['source'], extent)}\n\n"
        f"{table(metrics, columns, 'val MAE')}\n\n"
        f"Sorted by validation MAE, the best in bold. MAE is in standard deviations of {target} over the"
        " training rows where no unit is named. Skill is 1 - MAE / naive MAE on the same windows,"
        " those of the model's own input set.\n"
    )
    found = [f"{col['sentinels']} in `{name}`" for name, col in quality["columns"].items() if col["sentinels"]]
    if found and maes.iloc[:, 1].max() > limit:
        text += (
            f"\nThe record holds sentinels ({', '.join(found)}), left in as the sources leave them; a model"
            " that meets them in its test windows can be far off there, and its test MAE says little else.\n"
        )

    time = pq.read_schema(existing("data/record.parquet", "parse")).names[0]
    series = pd.read_parquet("data/record.parquet", columns=[time, target]).set_index(time)[target]
    shown = [*metrics.index.intersection(["naive"]), *metrics.index[metrics.index != "naive"][:1]]
    paths = {name: f"data/evaluations/forecast/{name}/forecast.parquet" for name in shown}
    forecasts = {name: pd.read_parquet(existing(path, f"evaluate@{name}")) for name, path in paths.items()}
    target, own = target.replace("degC", "°C"), own.replace("degC", "°C")
    note = " (synthetic)" * quality["source"]["synthetic"]
    return text, {
        "temperature": draw_record(series, target, note),
        "first_ten_days": draw_first_days(series, target, note),
        "losses": draw_losses(metrics, histories, note),
        "mae": draw_mae(maes, limit, own, note),
        "forecast": draw_forecast(forecasts, target, note),
    }


def report_reviews() -> tuple[str, dict[str, Figure]]:
    """Return the text with the review classifiers' table, and their learning curves."""
    metrics, histories = read_results("reviews")
    source = json.loads(existing("data/raw/reviews/source.json", "download@reviews").read_text())
    ranked = metrics.sort_values("val_accuracy", ascending=False, kind="stable")
    columns = {name.replace("_", " "): (name, 4) for name in ("val_accuracy", "test_accuracy", "val_loss")}
    text = (
        f"# Reviews, positive or negative\n\n{provenance(source)}\n\n"
        f"{table(ranked, columns, 'val accuracy')}\n\nSorted by validation accuracy, the best in bold.\n"
    )
    title = "Accuracy and loss per epoch" + " (synthetic)" * source["synthetic"]
    figure, grid = titled(title, 5.6, 2, len(histories), sharex="col", sharey="row")
    for (above, below), (name, history) in zip(grid.T, histories.items(), strict=True):
        draw_curves(above, history, "accuracy", metrics["best_epoch"][name])
        draw_curves(below, history, "loss", metrics["best_epoch"][name])
        above.set_title(name)
    grid[0, 0].set_ylabel("Accuracy")
    grid[1, 0].set_ylabel("Loss (cross-entropy, nats)")
    figure.supxlabel("Epoch")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return text, {"curves": figure}


def report(task: str) -> None:
    """Write the table of one task's models (forecast or reviews) and its pictures to data/report/TASK."""
    tasks = {"forecast": report_forecast, "reviews": report_reviews}
    if task not in tasks:
        raise UserError(f"{task!r}: no such report; expected {' or '.join(tasks)}")
    with whole(f"data/report/{task}") as directory, matplotlib.style.context(["default", STYLE]):
        text, figures = tasks[task]()
        directory.mkdir()
        (directory / "table.md").write_text(text, encoding="utf-8")
        for name, figure in figures.items():
            # Without `Software` the bytes do not name the version of matplotlib.
            figure.savefig(directory / f"{name}.png", metadata={"Software": None}, pil_kwargs={"optimize": True})
    print(text, end="")


if __name__ == "__main__":
    command(report, "task")
