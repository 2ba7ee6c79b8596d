"""Stage `report`: the leaderboard of a task, its figures, and its learning curves for `dvc plots`."""

import contextlib
import importlib
from pathlib import Path

import matplotlib.style
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.files import atomic_output
from stages.lib.nn.history import read_history
from stages.lib.params import get_param
from stages.lib.reports.figures import STYLE
from stages.lib.reports.leaderboard import read_json
from stages.lib.reports.leftovers import check_removed_models

TASKS = ("forecast", "reviews", "station")


def read_results(task: str) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return the metrics of the models of `task`, one row per model, and their histories, one row per epoch.

    The history of a model with several members is their mean. Raises UserError if the task has no model, or if a
    file of a model is missing or damaged.
    """
    names = [name for name, model in (get_param("models") or {}).items() if model["task"] == task]
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


def write_curves(directory: Path, histories: dict[str, pd.DataFrame]) -> None:
    """Write METRIC/MODEL.csv (epoch, METRIC, val_METRIC) to `directory` for each trained model, for `dvc plots`."""
    for name, history in histories.items():
        for metric in history.columns.intersection(["loss", "accuracy"]) if len(history) else ():
            (directory / metric).mkdir(exist_ok=True)
            curves = history[["epoch", metric, f"val_{metric}"]].astype({"epoch": int})
            curves.to_csv(directory / metric / f"{name}.csv", index=False, lineterminator="\n")


def report(task: str) -> None:
    """Report on the models of `task`.

    Writes the leaderboard to metrics/TASK.md, and the figures and learning curves to data/report/TASK.
    """
    if task not in TASKS:
        raise UserError(f"{task!r}: no such report; expected {' or '.join(TASKS)}")
    check_removed_models(get_param("models"))
    metrics, histories = read_results(task)
    with matplotlib.style.context(["default", STYLE]):
        texts, figures = importlib.import_module(f"stages.lib.reports.{task}").build_report(metrics, histories)
        with atomic_output(f"data/report/{task}") as directory, contextlib.ExitStack() as outputs:
            directory.mkdir()
            write_curves(directory, histories)
            for name, figure in figures.items():
                # `Software` would store the version of matplotlib in the file.
                figure.savefig(
                    directory / f"{name}.png", metadata={"Software": None}, pil_kwargs={"optimize": True}
                )
            for name, text in texts.items():
                outputs.enter_context(atomic_output(f"metrics/{name}")).write_text(text, encoding="utf-8")
    print(texts[f"{task}.md"], end="")
