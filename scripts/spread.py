"""Print the mean and standard deviation of each model's scores over the seeds of commits and DVC experiments.

    .venv/bin/python -m scripts.spread                                 # HEAD and its experiments
    .venv/bin/python -m scripts.spread seed1 seed2 seed3               # branches or commits, and their experiments
    .venv/bin/python -m scripts.spread --task reviews --figure seeds.png
    .venv/bin/python -m scripts.spread runs.csv seed4 --save runs.csv  # adds a branch's runs to those of a file

The output is a Markdown table with the best model first. The seed and the other settings of a score are read from
the dvc.lock of the same commit: a model that did not run again counts once, and each combination of settings, as in
a grid, has a row. A saved file holds the runs with their settings.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from ruamel.yaml import YAML

from stages.lib.errors import UserError
from stages.lib.files import atomic_output
from stages.lib.reports.figures import STYLE, TEST, VALIDATION, make_titled_figure
from stages.lib.reports.leaderboard import PUBLISHED, format_markdown

# Headings and decimals of the scores that the table shows if they exist; the first one ranks the models.
COLUMNS = {
    "val_mae": ("val MAE", 4),
    "val_mae_degc": ("val MAE degC", 3),
    "test_mae_degc": ("test MAE degC", 3),
    "test_mae_degc_without_sentinels": ("test MAE degC without sentinels", 3),
    "val_accuracy": ("val accuracy", 4),
    "test_accuracy": ("test accuracy", 4),
}


def read_experiments(revisions: list[str]) -> list[str]:
    """Return the commits of `revisions` (default: HEAD) and of their successful experiments."""
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        rows = dvc.api.exp_show(revs=revisions or None)
    except DvcException as error:
        sys.exit(f"error: {error}")
    return [row["rev"] for row in rows if row["rev"] != "workspace" and row["State"] in (None, "Success")]


def read_committed_file(commit: str, path: str) -> str:
    """Return the text of a file in a commit, empty if it does not exist there."""
    return subprocess.run(["git", "show", f"{commit}:{path}"], capture_output=True, text=True).stdout


def collect_runs(task: str, read: Callable[[str], str]) -> Iterator[dict[str, Any]]:
    """Yield name, seed, settings and scores of each training in a commit; `read` returns the text of its files."""
    clean_scores = json.loads(read(f"metrics/{task}_without_sentinels.json") or "{}")
    for stage, entry in (YAML(typ="safe").load(read("dvc.lock")) or {"stages": {}})["stages"].items():
        kind, _, name = stage.partition("@")
        text = read(f"metrics/{task}/{name}.json") if kind == "evaluate" else ""
        if text:
            settings = pd.json_normalize(entry["params"]["params.yaml"]).to_dict("records")[0]
            seed = int(settings.pop("training.seed"))
            settings |= {dep["path"]: dep["md5"] for dep in entry["deps"] if dep["path"].startswith("data/inputs/")}
            scores, clean = json.loads(text), clean_scores.get(name, {})
            if scores.get("test_mae_degc") == clean.get("test_mae_degc"):  # the report is on the same training
                scores |= clean
            yield {"name": name, "seed": seed, "settings": settings, **scores}


def save_runs(frame: pd.DataFrame, path: str) -> None:
    """Write the runs to a CSV file."""
    with atomic_output(path) as temporary:
        rows = frame.sort_values(["name", "seed"], kind="stable")
        rows["settings"] = rows.pop("settings").map(json.dumps)  # the longest column goes last
        rows.to_csv(temporary, index=False, lineterminator="\n")


def read_saved_runs(path: str, task: str) -> pd.DataFrame:
    """Read the runs of a file that `save_runs` wrote; exits if it holds no runs of `task`."""
    try:
        frame = pd.read_csv(path, converters={"settings": json.loads})
    except (OSError, ValueError) as error:
        sys.exit(f"error: {path}: {error}")
    columns = ["name", "seed", "settings", "val_accuracy" if task == "reviews" else "val_mae"]
    if missing := [column for column in columns if column not in frame]:
        sys.exit(f"error: {path}: expected runs of the task {task}, found no column {', '.join(missing)}")
    return frame


def gather_runs(names: list[str], task: str) -> pd.DataFrame:
    """Return the runs of revisions (default: HEAD) and of saved .csv files, each once; exits if there are none."""
    frames = [read_saved_runs(name, task) for name in names if name.endswith(".csv")]
    revisions = [name for name in names if not name.endswith(".csv")]
    if revisions or not frames:
        runs = [
            run
            for commit in read_experiments(revisions)
            for run in collect_runs(task, partial(read_committed_file, commit))
        ]
        if not runs:
            sys.exit(f"error: no commit here holds metrics/{task} and the dvc.lock of its evaluations; commit both")
        frames.insert(0, pd.DataFrame(runs))
    return drop_repeats(pd.concat(frames, ignore_index=True))


def drop_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the first of the runs with the same model, seed and settings."""
    settings = frame["settings"].map(partial(json.dumps, sort_keys=True))
    return frame[~frame.assign(settings=settings).duplicated(["name", "seed", "settings"])].reset_index(drop=True)


def label_settings(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the column `model`: the name, and the settings in which runs of that name differ."""
    frame = frame.assign(model=frame["name"])
    for name, runs in frame.groupby("name"):
        texts = [{key: json.dumps(value) for key, value in settings.items()} for settings in runs["settings"]]
        settings = pd.DataFrame(texts, runs.index)
        for key in settings.columns[settings.nunique(dropna=False) > 1]:
            values = settings[key].str[1:9] if key.startswith("data/") else settings[key]  # data have a hash
            setting = key.removeprefix(f"models.{name}.")
            frame.loc[runs.index, "model"] += (f", {setting} " + values).fillna("")
    return frame


def rank_models(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort the runs by the mean of the model's first score, the best model first."""
    key = next(key for key in COLUMNS if key in frame)
    means = frame.groupby("model")[key].transform("mean") * (-1 if "accuracy" in key else 1)
    return frame.assign(mean=means).sort_values(["mean", "model", "seed"], kind="stable").drop(columns="mean")


def format_spread(frame: pd.DataFrame) -> str:
    """Return a Markdown table with the mean and the standard deviation of each model over its seeds."""
    rows = []
    for model, runs in frame.groupby("model", sort=False):
        row = {"model": model, "seeds": f"{len(runs)}"}
        for key, (heading, decimals) in COLUMNS.items():
            if key in frame:
                values = runs[key].dropna()
                deviation = f" ± {values.std():.{decimals}f}" * (len(values) > 1)
                row[heading] = f"{values.mean():.{decimals}f}{deviation}" if len(values) else ""
        rows.append(row | {"notebooks' best (epoch)": PUBLISHED.get(str(model), "")})
    return format_markdown(pd.DataFrame(rows))


def draw_spread(frame: pd.DataFrame) -> Figure:
    """Draw a panel for validation and one for test: a dot per run, and a line at the mean of each model."""
    keys = [key for key in COLUMNS if key in frame]
    keys = [keys[0], keys[-1]]
    figure, (panels,) = make_titled_figure(
        "Every seed, and the mean of each model", 1.4 + 0.3 * frame["model"].nunique(), 1, 2
    )
    models = list(frame["model"].unique())
    for axes, key, colour in zip(panels, keys, (VALIDATION, TEST), strict=True):
        positions = frame["model"].map(models.index)
        axes.plot(frame[key], positions, "o", color=colour, alpha=0.55)
        means = frame.groupby("model", sort=False)[key].mean()
        axes.plot(means, range(len(models)), "|", color=colour, markersize=14, markeredgewidth=2)
        axes.set(xlabel=COLUMNS[key][0].replace("degC", "°C"), yticks=range(len(models)), yticklabels=models)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.invert_yaxis()
    panels[1].tick_params(labelleft=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="*", help="branch, tag, commit or saved .csv file (default: HEAD)")
    parser.add_argument("--task", default="forecast", choices=["forecast", "reviews"], help="default: forecast")
    parser.add_argument("--figure", metavar="FILE", help="draw all runs to this PNG or SVG file")
    parser.add_argument("--save", metavar="FILE", help="write all runs to this CSV file")
    arguments = parser.parse_args()
    if arguments.figure and not arguments.figure.endswith((".png", ".svg")):
        parser.error(f"--figure: expected a name that ends with .png or .svg, found {arguments.figure}")
    runs = gather_runs(arguments.revision, arguments.task)
    if arguments.save:
        save_runs(runs, arguments.save)
    frame = rank_models(label_settings(runs))
    print(format_spread(frame))
    if arguments.figure:
        with atomic_output(arguments.figure) as path, matplotlib.style.context(["default", STYLE]):
            draw_spread(frame).savefig(path, format=arguments.figure[-3:])


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
