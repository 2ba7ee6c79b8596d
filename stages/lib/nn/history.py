"""A finished training's directory: `model.keras`, `history.csv` with a row an epoch, `model.json`."""

import csv
import json
from pathlib import Path
from typing import Any

from stages.lib.errors import UserError
from stages.lib.files import open_input


def find_best_epoch(history: list[dict], monitor: str) -> dict:
    """The row of the best epoch, the first with the best value of `monitor`: accuracies grow, losses fall."""
    choose = max if monitor.endswith("accuracy") else min
    return choose(history, key=lambda row: row[monitor])


def write_history(directory: Path, members: list[list[dict]], columns: list[str], training: dict[str, Any]) -> None:
    """Write history.csv and model.json, which says how the training was done.

    A row is an epoch of a member (its column is left out where there is one member); `columns` are those of a model
    without epochs.
    """
    rows = members[0]
    if len(members) > 1:
        rows = [{"member": number} | row for number, history in enumerate(members, 1) for row in history]
    with (directory / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    counts = {"members": len(members), "epochs": len(members[0])}
    (directory / "model.json").write_text(json.dumps(counts | training, indent=2, ensure_ascii=False) + "\n")


def read_history(directory: Path, stage: str) -> list[dict[str, float]]:
    """The rows of history.csv; UserError where they are not those that model.json says were written."""
    with open_input(directory / "model.json", stage) as path:
        training = json.loads(path.read_text())
        expected = list(range(1, training["epochs"] + 1)) * training["members"]
    with open_input(directory / "history.csv", stage) as path:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):  # a number cut short still is a number
            raise ValueError("the last line is cut off")
        history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(text.splitlines())]
    if [row.get("epoch") for row in history] != expected:
        raise UserError(
            f"{directory / 'history.csv'}: expected {len(expected)} epochs, found {len(history)}; "
            f"make it again with `dvc repro -f {stage}`"
        )
    return history
