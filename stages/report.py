"""Every model of a task in one table beside the sources' published numbers, and the pictures."""

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
    draw_curves,
    draw_first_days,
    draw_forecast,
    draw_losses,
    draw_mae,
    draw_record,
    titled,
)
from stages.lib.files import existing, reading, whole
from stages.lib.history import read_history
from stages.lib.leftovers import check_leftovers
from stages.lib.params import params
from stages.lib.units import unit


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
        with reading(f"metrics/{task}/{name}.json", f"evaluate@{name}") as path:
            metrics.append(json.loads(path.read_text()))
        rows = read_history(Path("data/models", task, name), f"train@{name}")
        histories[name] = pd.DataFrame(rows, columns=None if rows else ["epoch", "loss", "val_loss"])
    published = pd.read_csv("stages/lib/published.csv", dtype=str, index_col="model")
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
    """Write the leaderboard of a task to metrics/TASK.md and its figures to data/report/TASK."""
    tasks = {"forecast": report_forecast, "reviews": report_reviews}
    if task not in tasks:
        raise UserError(f"{task!r}: no such report; expected {' or '.join(tasks)}")
    check_leftovers(params("models"))
    with matplotlib.style.context(["default", STYLE]):
        text, figures = tasks[task]()
        with whole(f"data/report/{task}") as directory, whole(f"metrics/{task}.md") as path:
            directory.mkdir()
            for name, figure in figures.items():
                # Without `Software` the bytes do not name the version of matplotlib.
                figure.savefig(
                    directory / f"{name}.png", metadata={"Software": None}, pil_kwargs={"optimize": True}
                )
            path.write_text(text, encoding="utf-8")
    print(text, end="")
