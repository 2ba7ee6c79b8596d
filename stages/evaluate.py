"""Metrics of one model on validation and test, and its forecasts for the test windows."""

import importlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.files import reading, whole
from stages.lib.history import best_row, read_history
from stages.lib.nn.batches import forecasts
from stages.lib.nn.environment import keras, use_threads
from stages.lib.settings.training import INPUTS, settings
from stages.lib.windows import load


def evaluate(name: str) -> None:
    """Write metrics/TASK/NAME.json, and the test forecasts to data/evaluations/TASK/NAME."""
    schedule = settings(name)
    use_threads(schedule["threads"])
    task = schedule["task"]
    inputs = load(Path("data/inputs", schedule["inputs"]), stage=INPUTS[task])
    trained = Path("data/models", task, name)
    history = read_history(trained, f"train@{name}")
    with reading(trained / "model.keras", f"train@{name}") as path:
        model = keras.models.load_model(path, compile=False)
    scoring = importlib.import_module(f"stages.lib.tasks.{task}.scoring")
    run = getattr(scoring, "forecasts", forecasts)  # a station's are those that `predict` gives
    outputs = {split: run(model, inputs, getattr(inputs, split)) for split in ("val", "test")}
    metrics, tables = scoring.score(outputs, inputs, schedule)
    if schedule["members"] == 1:
        best = int(best_row(history, schedule["monitor"])["epoch"]) if history else 0
        metrics |= {"best_epoch": best, "epochs": len(history)}
    metrics["parameters"] = model.count_params()
    with (
        whole(Path("data/evaluations", task, name)) as directory,
        whole(Path("metrics", task, f"{name}.json")) as path,
    ):
        directory.mkdir()
        for file, table in tables.items():
            pq.write_table(pa.table(table), directory / f"{file}.parquet")
        path.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"{name}: " + "  ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
