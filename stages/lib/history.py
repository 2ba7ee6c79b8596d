"""A finished training's directory: `model.keras`, `history.csv` with a row an epoch, `training.json`."""

import csv
import json
from pathlib import Path
from typing import Any

from stages.lib.errors import UserError
from stages.lib.files import reading


def best_epoch(history: list[dict], monitor: str) -> int:
    """The first row of `history` with the best value of `monitor`: accuracies grow, losses fall."""
    choose = max if monitor.endswith("accuracy") else min
    return choose(range(len(history)), key=lambda row: history[row][monitor])


def write_history(directory: Path, history: list[dict], columns: list[str], training: dict[str, Any]) -> None:
    """Write history.csv, with `columns` where no epoch was trained, and training.json: how it was trained."""
    with (directory / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, history[0] if history else columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
    text = json.dumps({"epochs": len(history), **training}, indent=2) + "\n"
    (directory / "training.json").write_text(text)


def read_history(directory: Path, stage: str) -> list[dict[str, float]]:
    """The rows of history.csv; UserError where it is not as long as training.json says it was written."""
    with reading(directory / "training.json", stage) as path:
        epochs = json.loads(path.read_text())["epochs"]
    with reading(directory / "history.csv", stage) as path:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):  # a number cut short still is a number
            raise ValueError("the last line is cut off")
        history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(text.splitlines())]
    if [row.get("epoch") for row in history] != list(range(1, epochs + 1)):
        raise UserError(
            f"{directory / 'history.csv'}: expected {epochs} epochs, found {len(history)}; "
            f"make it again with `dvc repro -f {stage}`"
        )
    return history
