"""Figures of the reports, in one style."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

FIRST_DAYS = pd.Timedelta(days=10)  # span of `draw_first_days`
FORECAST_SPAN = pd.Timedelta(weeks=2)  # span of `draw_forecast`
Spans = dict[str, tuple[pd.Timestamp, pd.Timestamp]]  # first and last time of train, val and test

# The palette of Okabe and Ito (2008), whose colours colour-blind readers can distinguish.
TRAINING, VALIDATION, TEST = "#E69F00", "#0072B2", "#D55E00"
NAIVE, TRUTH, BAND = "#6F6F6F", "#000000", "#56B4E9"
SEPARATE_PANEL = "#F3F3F3"  # background of a panel with a separate scale
STYLE = {
    **dict.fromkeys(["font.size", "axes.titlesize", "figure.labelsize"], 10.5),
    **dict.fromkeys(["axes.grid", "axes.axisbelow"], True),
    **dict.fromkeys(["axes.spines.right", "axes.spines.top", "legend.frameon"], False),
    **dict.fromkeys(["figure.constrained_layout.h_pad", "figure.constrained_layout.w_pad"], 0.08),
    **{"figure.titlesize": 13, "figure.titleweight": "bold", "grid.color": "#E3E3E3", "grid.linewidth": 0.7},
    "date.converter": "concise",
}


def make_titled_figure(title: str, height: float = 4.2, rows: int = 1, columns: int = 1, **shared: Any) -> tuple:
    """Return a titled figure, 10 inches wide and `height` inches high, and its axes as an array (rows, columns)."""
    figure = Figure(figsize=(10, height), layout="constrained")
    figure.suptitle(title, x=0.012, ha="left")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def draw_record(series: pd.Series, splits: Spans, target: str, note: str = "") -> Figure:
    """Draw the daily range and the daily mean of the whole record, and the limits of the splits.

    `series` is indexed by time, in any order. `note` is appended to the title.
    """
    days = series.sort_index().resample("D").agg(["min", "mean", "max"])
    figure, ((axes,),) = make_titled_figure(f"{target}, the whole record{note}")
    axes.fill_between(days.index, days["min"], days["max"], color=BAND, alpha=0.7, linewidth=0, label="daily range")
    axes.plot(days["mean"], color=VALIDATION, linewidth=0.6, label="daily mean")
    axes.set(xlabel="Time", ylabel=target, xmargin=0.01)
    top = axes.get_xaxis_transform()  # x is time, y runs from 0 at the bottom of the axes to 1 at the top
    for (name, (first, last)), colour in zip(splits.items(), (TRAINING, VALIDATION, TEST), strict=False):
        axes.hlines(1.03, first, last, color=colour, linewidth=5, transform=top, clip_on=False)
        axes.vlines([first, last], 0, 1.03, color=NAIVE, linestyle="--", linewidth=1, transform=top)
        middle = first + (last - first) / 2
        axes.text(middle, 1.06, name, color=colour, ha="center", va="bottom", transform=top)
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def draw_first_days(series: pd.Series, target: str, note: str = "") -> Figure:
    """Draw the first FIRST_DAYS of `series`, which is indexed by time."""
    series = series[series.index < series.index[0] + FIRST_DAYS]
    days = (series.index[-1] - series.index[0]).round("D").days
    figure, ((axes,),) = make_titled_figure(f"{target}, the first {days} days ({len(series):,} rows){note}")
    axes.plot(series, color=VALIDATION, linewidth=1.3)
    axes.set(xlabel="Time", ylabel=target, xmargin=0.01)
    return figure


def draw_curves(axes: Axes, history: pd.DataFrame, column: str, best_epoch: int) -> None:
    """Draw the training and the validation curve of `column` over the epochs, and mark the best epoch."""
    history = history.set_index("epoch")
    marker = "." if len(history) == 1 else None  # the line of a single epoch would be invisible
    axes.plot(history[column], color=TRAINING, marker=marker, label="training")
    axes.plot(history[f"val_{column}"], color=VALIDATION, marker=marker, label="validation")
    best = history[f"val_{column}"][history.index == best_epoch]
    axes.plot(best, "o", color=VALIDATION, mec="white", markersize=7, zorder=5, label="best epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))


def draw_losses(metrics: pd.DataFrame, histories: dict[str, pd.DataFrame], note: str = "") -> Figure:
    """Draw the loss per epoch of each trained model in a panel.

    If the loss is the MAE, a panel also shows the MAE of the naive forecast on the same windows. Models whose best
    validation loss is more than twice that come last, each with a separate scale; the other panels share one.
    """
    trained = {name: history for name, history in histories.items() if len(history)} or histories
    is_mae = next(iter(trained.values())).columns.str.startswith("val_loss_").any()
    naive = metrics["val_mae"] / (1 - metrics["val_skill"]) if is_mae else metrics["val_mae"] * math.nan
    far = [name for name, history in trained.items() if history["val_loss"].min() > 2 * naive[name]]
    near = [name for name in trained if name not in far]
    losses = pd.concat([trained[name][["loss", "val_loss"]] for name in near or trained], ignore_index=True)
    top = 2.1 * naive[near].max()  # a bad first epoch must not flatten the other curves
    is_cut = losses.max().max() > top  # False if there is no naive MAE, because `top` is then NaN
    columns = min(4, len(trained))
    rows = math.ceil(len(trained) / columns)
    title = f"Loss per epoch{f', cut off at {top:.2f}' if is_cut else ''}{note}"
    figure, grid = make_titled_figure(title, 4.2 if rows == 1 else 0.6 + 2.5 * rows, rows, columns)
    for position, (axes, name) in enumerate(zip(grid.flat, near + far, strict=False)):
        draw_curves(axes, trained[name], "loss", metrics["best_epoch"][name])
        axes.axhline(naive[name], color=NAIVE, linestyle="--", linewidth=1.2, label="naive")
        if name in far:
            axes.set_title(f"{name} (separate scale)")
            axes.set_facecolor(SEPARATE_PANEL)
            continue
        axes.set_title(name)
        if position:
            axes.sharey(grid[0, 0])
        axes.tick_params(labelleft=position % columns == 0)
    if is_cut:
        grid[0, 0].set_ylim(0.8 * min(naive[near].min(), losses.min().min()), top)
    for axes in grid.flat[len(trained) :]:
        axes.set_axis_off()
    figure.supxlabel("Epoch")
    figure.supylabel("MAE (standard deviations)" if is_mae else "Loss")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
    return figure


def draw_forecast(forecasts: dict[str, pd.DataFrame], target: str, note: str = "") -> Figure:
    """Draw the truth and the forecasts for FORECAST_SPAN in the middle of the test rows.

    `forecasts` maps a model to its frame, the best model last, with one row per window and the columns `time`,
    `truth` and `forecast` in the target's unit. The frames need not have the same windows.
    """
    *_, best = forecasts.values()
    middle = best["time"].iloc[len(best) // 2]
    start, end = middle - FORECAST_SPAN / 2, middle + FORECAST_SPAN / 2
    truth = best[best["time"].between(start, end, inclusive="left")]
    figure, ((axes,),) = make_titled_figure(f"{target}, two weeks of the test rows{note}")
    axes.plot(truth["time"], truth["truth"], color=TRUTH, linewidth=1.8, label="truth")
    for name, frame in forecasts.items():
        forecast = frame[frame["time"].between(truth["time"].min(), truth["time"].max())]
        style = {"color": NAIVE, "linestyle": "--", "linewidth": 1.1} if name == "naive" else {"color": TEST}
        axes.plot(forecast["time"], forecast["forecast"], label=name, **style)
    axes.set(xlabel="Time forecast", ylabel=target, xmargin=0.01)
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def draw_mae(maes: pd.DataFrame, limit: float, unit: str, note: str = "") -> Figure:
    """Draw bars of the validation and the test MAE of each model.

    `maes` has one row per model. Bars longer than `limit` are broken there and show their value.
    """
    broken = maes > limit
    cut_note = f", broken at {limit:.1f} {unit}" if broken.any(axis=None) else ""
    figure, ((axes,),) = make_titled_figure(f"Mean absolute error by model{cut_note}{note}", 1.4 + 0.5 * len(maes))
    positions = np.arange(len(maes))
    series = (("validation", VALIDATION, -0.2), ("test", TEST, 0.2))
    for column, (label, colour, shift) in zip(maes, series, strict=True):
        bars = axes.barh(positions + shift, maes[column].clip(upper=limit), height=0.38, color=colour, label=label)
        axes.bar_label(bars, maes[column].map("{:.2f}".format), padding=3, fontsize=9, annotation_clip=False)
        for y in (positions + shift)[broken[column]]:
            for x in (0.955 * limit, 0.97 * limit):  # two slanted gaps mark the break
                axes.plot([x, x + 0.01 * limit], [y + 0.18, y - 0.18], color="white", linewidth=2.5)
    axes.set(
        xlabel=f"MAE ({unit})", xlim=(0, limit if cut_note else None), yticks=positions, yticklabels=maes.index
    )
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper right", ncols=2)
    return figure
