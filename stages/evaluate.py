"""Metrics of one model on validation and test, and its forecasts for the test windows."""

import stages.lib.nn.environment  # noqa: F401, before Keras

# isort: split

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.errors import UserError
from stages.lib.files import reading, whole
from stages.lib.history import best_epoch, read_history
from stages.lib.nn.batches import predict, windowed
from stages.lib.nn.compiling import compilation
from stages.lib.nn.environment import device, use_threads
from stages.lib.settings.training import settings
from stages.lib.windows import Inputs, Split, load


def mae(targets: np.ndarray, forecasts: np.ndarray) -> float:
    """Mean absolute error over (n,) arrays, accumulated in float64."""
    return float(np.abs(targets.astype(np.float64) - forecasts).mean())


def naive(split: Split, target: int) -> np.ndarray:
    """The target's value at the last input of every window, (n,): the forecast that skill is measured against."""
    last = split.windows.shape[1] - 1
    return split.windows.rows[split.windows.starts + last, target]


def forecast_metrics(inputs: Inputs, outputs: dict[str, np.ndarray]) -> dict[str, float]:
    """MAE in standard deviations and in the target's unit, and skill = 1 - MAE / naive MAE, same windows.

    Raises UserError where the naive forecast is perfect, for then there is no skill.
    """
    metrics = {}
    for name, output in outputs.items():
        split = getattr(inputs, name)
        error = mae(split.targets, output)
        metrics[f"{name}_mae"] = error
        metrics[f"{name}_mae_{inputs.meta.unit}"] = error * inputs.meta.std
        reference = mae(split.targets, naive(split, inputs.meta.target))
        if not reference:
            raise UserError(
                f"params.yaml: split.{name}: the naive forecast is perfect, as if the target were constant in the "
                f"{name} windows, so that there is no skill; choose other rows"
            )
        metrics[f"{name}_skill"] = 1 - error / reference
    return metrics


def review_metrics(inputs: Inputs, outputs: dict[str, np.ndarray], logits: bool) -> dict[str, float]:
    """Accuracy on validation and test, and the validation loss (mean binary cross-entropy)."""
    metrics = {
        f"{name}_accuracy": float(np.mean((output > (0 if logits else 0.5)) == getattr(inputs, name).targets))
        for name, output in outputs.items()
    }
    loss = keras.losses.BinaryCrossentropy(from_logits=logits)
    return metrics | {"val_loss": float(loss(inputs.val.targets[:, None], outputs["val"][:, None]))}


def evaluate(name: str) -> None:
    """Write metrics/TASK/NAME.json, and the test forecasts to data/evaluations/TASK/NAME."""
    schedule = settings(name)
    use_threads(schedule["threads"])
    inputs = load(Path("data/inputs", schedule["inputs"]))
    trained = Path("data/models", schedule["task"], name)
    history = read_history(trained, f"train@{name}")
    with reading(trained / "model.keras", f"train@{name}") as path:
        model = keras.models.load_model(path, compile=False)
    learner = windowed(model, inputs)
    learner.compile(jit_compile=compilation(model, device()))
    outputs = {split: predict(learner, getattr(inputs, split)) for split in ("val", "test")}

    table: dict[str, Any] = {"truth": inputs.test.targets, "forecast": outputs["test"]}
    if inputs.meta.target is None:
        metrics = review_metrics(inputs, outputs, schedule["logits"])
    else:
        metrics = forecast_metrics(inputs, outputs)
        scaled = {
            key: values * np.float32(inputs.meta.std) + np.float32(inputs.meta.mean)
            for key, values in table.items()
        }
        table = {"time": inputs.test.times, **scaled}
    best = int(history[best_epoch(history, schedule["monitor"])]["epoch"]) if history else 0
    metrics |= {"best_epoch": best, "epochs": len(history), "parameters": model.count_params()}

    with (
        whole(Path("data/evaluations", schedule["task"], name)) as directory,
        whole(Path("metrics", schedule["task"], f"{name}.json")) as path,
    ):
        directory.mkdir()
        pq.write_table(pa.table(table), directory / "forecast.parquet")
        path.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"{name}: " + "  ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
