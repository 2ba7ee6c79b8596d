"""The report on the notebooks' review classifiers."""

import pandas as pd
from matplotlib.figure import Figure

from stages.lib.figures import draw_curves, titled
from stages.lib.leaderboard import provenance, read_json, table


def report(metrics: pd.DataFrame, histories: dict[str, pd.DataFrame]) -> tuple[str, dict[str, Figure]]:
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
