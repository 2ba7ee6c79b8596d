"""Write and read the records of a finished training: `history.csv`, one row per epoch, and `model.json`."""

import csv
import json
from pathlib import Path
from typing import Any

from stages.lib.errors import UserError
from stages.lib.files import open_input


def find_best_epoch(history: list[dict], monitor: str) -> dict:
    """Return the row of the epoch with the highest accuracy or the lowest loss `monitor`; the first of equals."""
    choose = max if monitor.endswith("accuracy") else min
    return choose(history, key=lambda row: row[monitor])


def write_description(directory: Path, histories: list[list[dict]], description: dict[str, Any]) -> None:
    """Write model.json: the numbers of members and epochs of `histories`, and the `description` of the model."""
    counts = {"members": len(histories), "epochs": len(histories[0])}
    (directory / "model.json").write_text(json.dumps(counts | description, indent=2, ensure_ascii=False) + "\n")


def write_history(directory: Path, histories: list[list[dict]], columns: list[str]) -> None:
    """Write `histories`, one per member of a model, to history.csv.

    If there are several members, history.csv has a column `member`. `columns` are the header of a model that is
    trained without epochs.
    """
    rows = histories[0]
    if len(histories) > 1:
        rows = [{"member": number} | row for number, history in enumerate(histories, 1) for row in history]
    with (directory / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_parameters(directory: Path, stage: str) -> int:
    """Return the number of weights that model.json declares; raise UserError if it is missing or damaged."""
    with open_input(directory / "model.json", stage) as path:
        return int(json.loads(path.read_text(encoding="utf-8"))["parameters"])


def read_history(directory: Path, stage: str) -> list[dict[str, float]]:
    """Return the rows of history.csv.

    Raises UserError if a file is missing or damaged, or if the rows are not those that model.json declares. `stage`
    is the DVC stage that makes them.
    """
    with open_input(directory / "model.json", stage) as path:
        description = json.loads(path.read_text(encoding="utf-8"))
        expected_epochs = list(range(1, description["epochs"] + 1)) * description["members"]
    with open_input(directory / "history.csv", stage) as path:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):  # a truncated number would still be a number
            raise ValueError("the last line is cut off")
        history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(text.splitlines())]
    if [row.get("epoch") for row in history] != expected_epochs:
        raise UserError(
            f"{directory / 'history.csv'}: expected {len(expected_epochs)} epochs, found {len(history)}; "
            f"make it again with `dvc repro -f {stage}`"
        )
    return history
