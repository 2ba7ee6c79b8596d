"""Leaderboards and other parts that the reports share."""

import json
from typing import Any

import pandas as pd

from stages.lib.files import open_input

# The best validation MAE or accuracy that the notebooks print, with its epoch.
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
    """Read a JSON file that `stage` makes; raises UserError if it is missing or damaged."""
    with open_input(path, stage) as file:
        return json.loads(file.read_text(encoding="utf-8"))


def format_leaderboard(metrics: pd.DataFrame, columns: dict[str, tuple[str, int]], score: str) -> str:
    """Return a Markdown table of the models in `metrics`, with the first in bold.

    `columns` maps a heading to a metric and its number of decimals; `score` is the name of the score in PUBLISHED.
    """
    cells = pd.DataFrame({"model": metrics.index}, index=metrics.index)
    for heading, (name, decimals) in columns.items():
        cells[heading] = metrics[name].map(f"{{:.{decimals}f}}".format)
    epochs = zip(metrics["best_epoch"], metrics["epochs"], strict=True)
    cells["best epoch / epochs"] = [f"{best} / {last}" if last else "-" for best, last in epochs]
    cells["parameters"] = metrics["parameters"].map("{:,}".format)
    cells[f"notebooks' {score} (epoch)"] = [PUBLISHED.get(name, "") for name in metrics.index]
    cells.iloc[0, :2] = "**" + cells.iloc[0, :2] + "**"
    return format_markdown(cells)


def format_markdown(cells: pd.DataFrame) -> str:
    """Return a frame of texts as a Markdown table, with the first column aligned left and the others right."""
    return cells.to_markdown(index=False, disable_numparse=True, colglobalalign="right", colalign=["left"])


def describe_source(source: dict[str, Any], extent: str = "") -> str:
    """Return a sentence that names the data source, with a warning if it is synthetic."""
    warning = "**The sample is synthetic: these numbers say nothing about real data or the notebooks' results.**"
    return f"Measured on `{source['source']}`{extent}." + f"\n\n{warning}" * source["synthetic"]
