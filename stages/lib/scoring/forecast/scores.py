"""Scores of the notebooks' forecasts: MAE, and skill against the naive forecast."""

from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.errors import UserError
from stages.lib.nn.outputs import read_outputs
from stages.lib.windows.input_set import Inputs, Split


def mean_absolute_error(targets: np.ndarray, forecasts: np.ndarray) -> float:
    """Return the mean absolute error of two (n,) arrays, accumulated in float64."""
    return float(np.abs(targets.astype(np.float64) - forecasts).mean())


def naive_forecast(split: Split, target: int) -> np.ndarray:
    """Return the value of column `target` at the last step of each window, the reference for skill: (n,)."""
    last = split.windows.shape[1] - 1
    return split.windows.rows[split.windows.starts + last, target]


def score_splits(inputs: Inputs, outputs: dict[str, np.ndarray]) -> dict[str, float]:
    """Return, for each split of `outputs`, the MAE in standard deviations and in the target's unit, and the skill.

        skill = 1 - MAE / MAE of the naive forecast on the same windows

    `outputs` maps a split's name to forecasts (n,). Raises UserError if the naive forecast is perfect, because the
    skill is then undefined.
    """
    metrics = {}
    for name, output in outputs.items():
        split = getattr(inputs, name)
        mae = mean_absolute_error(split.targets, output)
        metrics[f"{name}_mae"] = mae
        metrics[f"{name}_mae_{inputs.meta.unit}"] = mae * inputs.meta.std
        naive_mae = mean_absolute_error(split.targets, naive_forecast(split, inputs.meta.target))
        if not naive_mae:
            raise UserError(
                f"params.yaml: split.{name}: expected a naive forecast with errors, found none, so that skill is "
                f"undefined; the target may be constant in the {name} windows; choose other rows"
            )
        metrics[f"{name}_skill"] = 1 - mae / naive_mae
    return metrics


def score_model(
    name: str, inputs: Inputs, schedule: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Return the metrics of the model `name`, and the columns of the table `forecast`, its test forecasts.

    Those are in the target's unit; the model's outputs, as `train` stores them, are (n, 1) in standard deviations.
    """
    stored = read_outputs(Path("data/models/forecast", name), inputs, f"train@{name}")
    outputs = {split: output[:, 0] for split, output in stored.items()}
    standardized = {"truth": inputs.test.targets, "forecast": outputs["test"]}
    std, mean = np.float32(inputs.meta.std), np.float32(inputs.meta.mean)
    columns = {"time": inputs.test.times} | {key: values * std + mean for key, values in standardized.items()}
    return score_splits(inputs, outputs), {"forecast": columns}
