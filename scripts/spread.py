"""How far a task's scores vary from seed to seed: mean and spread of every model over commits and DVC experiments.

    .venv/bin/python -m scripts.spread                                 # HEAD and its experiments
    .venv/bin/python -m scripts.spread seed1 seed2 seed3               # branches or commits, and their experiments
    .venv/bin/python -m scripts.spread --task reviews --figure seeds.png
    .venv/bin/python -m scripts.spread runs.csv seed4 --save runs.csv  # adds a branch's runs to those of a file

Prints a Markdown table, best model first, and which neighbours in it have runs that overlap. The seed and the other
settings of a score are those of the dvc.lock next to it: a model that did not run again counts once, and a model
with other settings, as in a grid, has a row of its own. A file keeps the runs and their settings without commits.
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

# Heading and decimals of the scores in the table, as far as there are any; the first one ranks the models.
COLUMNS = {
    "val_mae": ("val MAE", 4),
    "val_mae_degc": ("val MAE degC", 3),
    "test_mae_degc": ("test MAE degC", 3),
    "test_mae_degc_without_sentinels": ("test MAE degC without sentinels", 3),
    "val_accuracy": ("val accuracy", 4),
    "test_accuracy": ("test accuracy", 4),
}


def flatten(value: Any, key: str = "") -> dict[str, Any]:
    """Nested settings on one level: {"models.gru.units": 32}."""
    if not isinstance(value, dict):
        return {key: value}
    return {k: v for name, inner in value.items() for k, v in flatten(inner, f"{key}.{name}".lstrip(".")).items()}


def read_experiments(revisions: list[str]) -> list[str]:
    """The commits of `revisions` (none: HEAD), and those of their experiments that ended well."""
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        rows = dvc.api.exp_show(revs=revisions or None)
    except DvcException as error:
        sys.exit(f"error: {error}")
    return [row["rev"] for row in rows if row["rev"] != "workspace" and row["State"] in (None, "Success")]


def read_branch(commit: str, path: str) -> str:
    """A file as it is in a commit; empty where it is not."""
    return subprocess.run(["git", "show", f"{commit}:{path}"], capture_output=True, text=True).stdout


def collect_runs(task: str, read: Callable[[str], str]) -> Iterator[dict[str, Any]]:
    """The trainings behind the metrics of one commit, whose files `read` gives: name, seed, settings and scores."""
    others = json.loads(read(f"metrics/{task}_without_sentinels.json") or "{}")
    for stage, entry in (YAML(typ="safe").load(read("dvc.lock")) or {"stages": {}})["stages"].items():
        kind, _, name = stage.partition("@")
        text = read(f"metrics/{task}/{name}.json") if kind == "evaluate" else ""
        if text:
            settings = flatten(entry["params"]["params.yaml"])
            seed = int(settings.pop("training.seed"))
            settings |= {dep["path"]: dep["md5"] for dep in entry["deps"] if dep["path"].startswith("data/inputs/")}
            scores, other = json.loads(text), others.get(name, {})
            if scores.get("test_mae_degc") == other.get("test_mae_degc"):  # else from a report on another run
                scores |= other
            yield {"name": name, "seed": seed, "settings": settings, **scores}


def save_runs(frame: pd.DataFrame, path: str) -> None:
    """Write the runs that `gather` found, as CSV."""
    with atomic_output(path) as temporary:
        table = frame.sort_values(["name", "seed"], kind="stable")
        table["settings"] = table.pop("settings").map(json.dumps)  # last, being long
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_saved_runs(path: str, task: str) -> pd.DataFrame:
    """The runs that `save` wrote. Exits where the file is not of its kind, or of another task."""
    try:
        frame = pd.read_csv(path)
        score = "val_accuracy" if task == "reviews" else "val_mae"
        for column in ("name", "seed", "settings", score):
            if column not in frame:
                sys.exit(
                    f"error: {path}: expected runs of the task {task}, found no column {column}; save them again"
                )
        frame["settings"] = frame["settings"].map(json.loads)
    except (OSError, ValueError, TypeError) as error:
        sys.exit(f"error: {path}: {error}")
    for column in frame.columns.intersection(["seed", *COLUMNS]):
        if not pd.api.types.is_numeric_dtype(frame[column]):
            sys.exit(f"error: {path}: column {column}: expected numbers, found text")
    return frame


def gather_runs(names: list[str], task: str) -> pd.DataFrame:
    """The runs of revisions (none: HEAD) and of saved .csv files, each once. Exits where a revision has none."""
    frames = [read_saved_runs(name, task) for name in names if name.endswith(".csv")]
    revisions = [name for name in names if not name.endswith(".csv")]
    if revisions or not frames:
        found = [
            run
            for commit in read_experiments(revisions)
            for run in collect_runs(task, partial(read_branch, commit))
        ]
        if not found:
            sys.exit(f"error: no commit here holds metrics/{task} and the dvc.lock of its evaluations; commit both")
        frames.insert(0, pd.DataFrame(found))
    return drop_repeats(pd.concat(frames, ignore_index=True))


def drop_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs, those of one model, seed and settings once, with the scores of the first."""
    settings = frame["settings"].map(partial(json.dumps, sort_keys=True))
    return frame[~frame.assign(settings=settings).duplicated(["name", "seed", "settings"])].reset_index(drop=True)


def label_settings(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with their `model`: the name, and the settings that set it apart from others of that name."""
    frame = frame.assign(model=frame["name"])
    for name, part in frame.groupby("name"):
        texts = [{key: json.dumps(value) for key, value in settings.items()} for settings in part["settings"]]
        settings = pd.DataFrame(texts, part.index)
        for key in settings.columns[settings.nunique(dropna=False) > 1]:
            values = settings[key].str[1:9] if key.startswith("data/") else settings[key]  # the former are hashes
            label = key.removeprefix(f"models.{name}.")
            frame.loc[part.index, "model"] += (f", {label} " + values).fillna("")
    return frame


def rank_models(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with the models' best mean of the first score first."""
    key = next(key for key in COLUMNS if key in frame)
    means = frame.groupby("model")[key].transform("mean") * (-1 if "accuracy" in key else 1)
    return frame.assign(mean=means).sort_values(["mean", "model", "seed"], kind="stable").drop(columns="mean")


def format_spread(frame: pd.DataFrame) -> str:
    """The Markdown table: mean and standard deviation of every model over its seeds."""
    rows = []
    for model, part in frame.groupby("model", sort=False):
        row = {"model": model, "seeds": f"{len(part)}"}
        for key, (heading, decimals) in COLUMNS.items():
            if key in frame:
                values = part[key].dropna()
                deviation = f" ± {values.std():.{decimals}f}" * (len(values) > 1)
                row[heading] = f"{values.mean():.{decimals}f}{deviation}" if len(values) else ""
        rows.append(row | {"notebooks' best (epoch)": PUBLISHED.get(str(model), "")})
    return format_markdown(pd.DataFrame(rows))


def format_separation(frame: pd.DataFrame) -> str:
    """Which neighbours the seeds tell apart, in that every run of the one is better than every run of the other."""
    key = next(key for key in COLUMNS if key in frame)
    ranges = frame.groupby("model", sort=False)[key].agg(["min", "max", "count"])
    apart: list[str] = []
    close: list[str] = []
    for (better, one), (worse, other) in zip(ranges[:-1].iterrows(), ranges[1:].iterrows(), strict=True):
        if min(one["count"], other["count"]) > 1:
            clear = one["min"] > other["max"] if "accuracy" in key else one["max"] < other["min"]
            (apart if clear else close).append(f"{better} and {worse}")
    if not apart and not close:
        return "No two neighbours in the table have more than one run: nothing tells luck from skill."
    return (
        f"Neighbours in the table whose runs do not overlap: {', '.join(apart) or 'none'}. "
        f"Whose runs overlap: {', '.join(close) or 'none'}."
    )


def draw_spread(frame: pd.DataFrame) -> Figure:
    """Validation and test, a panel each: a dot a run, a line at the mean of a model."""
    keys = [key for key in COLUMNS if key in frame]
    keys = [keys[0], keys[-1]]
    figure, (panels,) = make_titled_figure(
        "Every seed, and the mean of each model", 1.4 + 0.3 * frame["model"].nunique(), 1, 2
    )
    models = list(frame["model"].unique())
    for axes, key, colour in zip(panels, keys, (VALIDATION, TEST), strict=True):
        places = frame["model"].map(models.index)
        axes.plot(frame[key], places, "o", color=colour, alpha=0.55)
        means = frame.groupby("model", sort=False)[key].mean()
        axes.plot(means, range(len(models)), "|", color=colour, markersize=14, markeredgewidth=2)
        axes.set(xlabel=COLUMNS[key][0].replace("degC", "°C"), yticks=range(len(models)), yticklabels=models)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.invert_yaxis()
    panels[1].tick_params(labelleft=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="*", help="a branch, tag, commit or saved .csv; HEAD if there is none")
    parser.add_argument(
        "--task", default="forecast", choices=["forecast", "reviews"], help="forecast, if not given"
    )
    parser.add_argument("--figure", metavar="FILE", help="draw every run into this PNG or SVG file")
    parser.add_argument("--save", metavar="FILE", help="write every run into this CSV file")
    arguments = parser.parse_args()
    if arguments.figure and not arguments.figure.endswith((".png", ".svg")):
        parser.error(f"--figure: expected a name that ends with .png or .svg, found {arguments.figure}")
    found = gather_runs(arguments.revision, arguments.task)
    if arguments.save:
        save_runs(found, arguments.save)
    frame = rank_models(label_settings(found))
    print(f"{format_spread(frame)}\n\n{format_separation(frame)}")
    if arguments.figure:
        with atomic_output(arguments.figure) as path, matplotlib.style.context(["default", STYLE]):
            draw_spread(frame).savefig(path, format=arguments.figure[-3:])


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
