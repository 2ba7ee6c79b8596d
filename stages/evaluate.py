"""Stage `evaluate`: score one model on validation and test, and keep its forecasts for the test windows."""

import importlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.files import atomic_output
from stages.lib.nn.history import find_best_epoch, read_history, read_parameters
from stages.lib.settings.training import INPUTS, read_schedule
from stages.lib.windows.input_set import load_input_set


def evaluate(name: str) -> None:
    """Evaluate the trained model `name` of params.yaml `models`.

    Writes the metrics to metrics/TASK/NAME.json and the test forecasts to data/evaluations/TASK/NAME.
    """
    schedule = read_schedule(name)
    task = schedule["task"]
    inputs = load_input_set(Path("data/inputs", schedule["inputs"]), stage=INPUTS[task])
    model_directory = Path("data/models", task, name)
    history = read_history(model_directory, f"train@{name}")
    scoring = importlib.import_module(f"stages.lib.scoring.{task}.scores")
    metrics, forecasts = scoring.score_model(name, inputs, schedule)
    if schedule["members"] == 1:
        best_epoch = int(find_best_epoch(history, schedule["monitor"])["epoch"]) if history else 0
        metrics |= {"best_epoch": best_epoch, "epochs": len(history)}
    metrics["parameters"] = read_parameters(model_directory, f"train@{name}")
    with (
        atomic_output(Path("data/evaluations", task, name)) as directory,
        atomic_output(Path("metrics", task, f"{name}.json")) as metrics_path,
    ):
        directory.mkdir()
        for file_name, columns in forecasts.items():
            pq.write_table(pa.table(columns), directory / f"{file_name}.parquet")
        metrics_path.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"{name}: " + "  ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
