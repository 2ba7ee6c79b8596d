"""Report on the notebooks' review classifiers."""

import pandas as pd
from matplotlib.figure import Figure

from stages.lib.reports.figures import draw_curves, make_titled_figure
from stages.lib.reports.leaderboard import describe_source, format_leaderboard, read_json


def build_report(
    metrics: pd.DataFrame, histories: dict[str, pd.DataFrame]
) -> tuple[dict[str, str], dict[str, Figure]]:
    """Return the text of metrics/reviews.md, which holds the leaderboard, and a figure of the learning curves."""
    source = read_json("data/raw/reviews/source.json", "download@reviews")
    ranked = metrics.sort_values("val_accuracy", ascending=False, kind="stable")
    columns = {name.replace("_", " "): (name, 4) for name in ("val_accuracy", "test_accuracy", "val_loss")}
    text = (
        f"# Reviews, positive or negative\n\n{describe_source(source)}\n\n"
        f"{format_leaderboard(ranked, columns, 'val accuracy')}\n\n"
        "Sorted by validation accuracy, best model in bold.\n"
    )
    trained = {name: history for name, history in histories.items() if len(history)}
    if not trained:
        return {"reviews.md": text}, {}
    labels = {"accuracy": "Accuracy", "loss": "Loss"}
    kinds = [name for name in labels if all(name in history for history in trained.values())]
    title = f"{' and '.join(kinds).capitalize()} per epoch" + " (synthetic)" * source["synthetic"]
    figure, grid = make_titled_figure(title, 2.8 * len(kinds), len(kinds), len(trained), sharex="col", sharey="row")
    for column, (name, history) in zip(grid.T, trained.items(), strict=True):
        for axes, kind in zip(column, kinds, strict=True):
            draw_curves(axes, history, kind, metrics["best_epoch"][name])
        column[0].set_title(name)
    for axes, kind in zip(grid[:, 0], kinds, strict=True):
        axes.set_ylabel(labels[kind])
    figure.supxlabel("Epoch")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return {"reviews.md": text}, {"curves": figure}
