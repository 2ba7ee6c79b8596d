"""The leaderboard of a task, next to the notebooks' numbers, its figures, and its curves for `dvc plots`."""

import json
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from stages.lib.errors import UserError
from stages.lib.figures import (
    STYLE,
    Spans,
    draw_curves,
    draw_first_days,
    draw_forecast,
    draw_losses,
    draw_mae,
    draw_record,
    titled,
)
from stages.lib.files import reading, whole
from stages.lib.history import read_history
from stages.lib.leftovers import check_leftovers
from stages.lib.params import params
from stages.lib.units import unit

# The best validation MAE or accuracy that the notebooks print, and its epoch.
PUBLISHED = {
    "naive": "0.2897",
    "dense": "0.3101 (3)",
    "gru": "0.2635 (5)",
    "gru_dropout": "0.2613 (36)",
    "stacked_gru": "0.2608 (18)",
    "reversed_gru": "0.4187 (8)",
    "bidirectional_gru": "0.2689 (3)",
    "conv1d": "0.4457 (1)",
    "conv1d_gru": "0.2832 (3)",
    "imdb_conv1d": "0.8356 (6)",
    "imdb_reversed_lstm": "0.8780 (6)",
    "imdb_bidirectional_lstm": "0.8838 (5)",
}


def read_json(path: str, stage: str) -> Any:
    """Return what the JSON file holds; raise UserError where it is missing or damaged."""
    with reading(path, stage) as file:
        return json.loads(file.read_text(encoding="utf-8"))


def read_results(task: str) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return the metrics of the models of `task`, a row each, and their histories, a row an epoch: the mean of its
    members where a model has several.

    Raises UserError where the task has no model, or a model's file is missing or damaged.
    """
    names = [name for name, model in (params("models") or {}).items() if model["task"] == task]
    if not names:
        raise UserError(f"params.yaml: no model in `models` has `task: {task}`; add one, or skip this report")
    metrics = [read_json(f"metrics/{task}/{name}.json", f"evaluate@{name}") for name in names]
    histories = {}
    for name in names:
        rows = read_history(Path("data/models", task, name), f"train@{name}")
        history = pd.DataFrame(rows, columns=None if rows else ["epoch", "loss", "val_loss"])
        if "member" in history:
            history = history.drop(columns="member").groupby("epoch", as_index=False).mean()
        histories[name] = history
    return pd.DataFrame(metrics, index=names), histories


def table(metrics: pd.DataFrame, columns: dict[str, tuple[str, int]], score: str) -> str:
    """Return the Markdown table of the models in `metrics`, the first in bold.

    `columns` maps a heading to its metric and decimals, `score` names the notebooks' score.
    """
    cells = pd.DataFrame({"model": metrics.index}, index=metrics.index)
    for heading, (name, decimals) in columns.items():
        cells[heading] = metrics[name].map(f"{{:.{decimals}f}}".format)
    epochs = zip(metrics["best_epoch"], metrics["epochs"], strict=True)
    cells["best epoch / epochs"] = [f"{best} / {last}" if last else "-" for best, last in epochs]
    cells["parameters"] = metrics["parameters"].map("{:,}".format)
    cells[f"notebooks' {score} (epoch)"] = [PUBLISHED.get(name, "") for name in metrics.index]
    cells.iloc[0, :2] = "**" + cells.iloc[0, :2] + "**"
    sides = ["left", *["right"] * (cells.shape[1] - 1)]
    return cells.to_markdown(index=False, disable_numparse=True, colalign=sides)


def provenance(source: dict[str, Any], extent: str = "") -> str:
    """Return the sentence that says what was measured on, and a warning if that is synthetic."""
    warning = "**The sample is synthetic: these numbers say nothing about real data or the notebooks' results.**"
    return f"Measured on `{source['source']}`{extent}." + f"\n\n{warning}" * source["synthetic"]


def split_times(times: pd.DatetimeIndex) -> Spans:
    """Return the first and the last time of every split that has rows in the record."""
    rows = {name: params("split", name) for name in ("train", "val", "test")}
    within = {name: times[first:last] for name, (first, last) in rows.items()}
    return {name: (part[0], part[-1]) for name, part in within.items() if len(part)}


def report_forecast(metrics: pd.DataFrame, histories: dict[str, pd.DataFrame]) -> tuple[str, dict[str, Figure]]:
    """Return the text with the forecasting models' table, and the figures by name."""
    target = params("dataset", "target")
    metrics = metrics.sort_values("val_mae", kind="stable")
    maes = metrics.filter(regex="^(val|test)_mae_")  # in the target's own unit, validation first
    naive = maes / (1 - metrics[["val_skill", "test_skill"]].to_numpy())  # on every model's own windows
    limit = 3 * naive.max().max()  # an MAE beyond it is far off
    quality = read_json("data/quality.json", "parse")
    own = unit(target)
    columns = {
        "val MAE": ("val_mae", 4),
        f"val MAE {own}": (maes.columns[0], 3),
        f"test MAE {own}": (maes.columns[1], 3),
        "val skill": ("val_skill", 3),
        "test skill": ("test_skill", 3),
    }
    first, last = (quality[key].replace("T", " ") for key in ("first", "last"))
    extent = f": {quality['rows']:,} rows from {first} to {last}"
    text = (
        f"# Forecasts of {target}\n\n{provenance(quality['source'], extent)}\n\n"
        f"{table(metrics, columns, 'val MAE')}\n\n"
        "Sorted by validation MAE, best model in bold. Where no unit is given, MAE is in standard deviations of"
        f" {target} over the training rows. Skill is 1 - MAE / naive MAE; the naive forecast is scored on the same"
        " windows as the model.\n"
    )
    found = [f"{col['sentinels']} in `{name}`" for name, col in quality["columns"].items() if col["sentinels"]]
    if found and maes.iloc[:, 1].max() > limit:
        text += (
            f"\nThe record contains sentinels ({', '.join(found)}), left in as in the notebooks. They can throw a"
            " model far off in the test windows that contain them; its test MAE then says little else.\n"
        )

    with reading("data/record.parquet", "parse") as path:
        time = pq.read_schema(path).names[0]
        series = pd.read_parquet(path, columns=[time, target]).set_index(time)[target]
    forecasts = {}
    for name in [*metrics.index.intersection(["naive"]), *metrics.index[metrics.index != "naive"][:1]]:
        with reading(f"data/evaluations/forecast/{name}/forecast.parquet", f"evaluate@{name}") as path:
            forecasts[name] = pd.read_parquet(path)
    target, own = target.replace("degC", "°C"), own.replace("degC", "°C")
    note = " (synthetic)" * quality["source"]["synthetic"]
    return text, {
        "temperature": draw_record(series, split_times(series.index), target, note),
        "first_ten_days": draw_first_days(series, target, note),
        "losses": draw_losses(metrics, histories, note),
        "mae": draw_mae(maes, limit, own, note),
        "forecast": draw_forecast(forecasts, target, note),
    }


def report_reviews(metrics: pd.DataFrame, histories: dict[str, pd.DataFrame]) -> tuple[str, dict[str, Figure]]:
    """Return the text with the review classifiers' table, and their learning curves."""
    source = read_json("data/raw/reviews/source.json", "download@reviews")
    ranked = metrics.sort_values("val_accuracy", ascending=False, kind="stable")
    columns = {name.replace("_", " "): (name, 4) for name in ("val_accuracy", "test_accuracy", "val_loss")}
    text = (
        f"# Reviews, positive or negative\n\n{provenance(source)}\n\n"
        f"{table(ranked, columns, 'val accuracy')}\n\nSorted by validation accuracy, best model in bold.\n"
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


REPORTS = {"forecast": report_forecast, "reviews": report_reviews}


def write_curves(directory: Path, histories: dict[str, pd.DataFrame]) -> None:
    """Write METRIC/MODEL.csv (epoch, METRIC, val_METRIC) for every trained model, for `dvc plots`."""
    for name, history in histories.items():
        for metric in history.columns.intersection(["loss", "accuracy"]) if len(history) else ():
            (directory / metric).mkdir(exist_ok=True)
            curves = history[["epoch", metric, f"val_{metric}"]].astype({"epoch": int})
            curves.to_csv(directory / metric / f"{name}.csv", index=False, lineterminator="\n")


def report(task: str) -> None:
    """Write the leaderboard of a task to metrics/TASK.md, and its figures and curves to data/report/TASK."""
    if task not in REPORTS:
        raise UserError(f"{task!r}: no such report; expected {' or '.join(REPORTS)}")
    check_leftovers(params("models"))
    metrics, histories = read_results(task)
    with matplotlib.style.context(["default", STYLE]):
        text, figures = REPORTS[task](metrics, histories)
        with whole(f"data/report/{task}") as directory, whole(f"metrics/{task}.md") as path:
            directory.mkdir()
            write_curves(directory, histories)
            for name, figure in figures.items():
                # Without `Software` the bytes do not name the version of matplotlib.
                figure.savefig(
                    directory / f"{name}.png", metadata={"Software": None}, pil_kwargs={"optimize": True}
                )
            path.write_text(text, encoding="utf-8")
    print(text, end="")
