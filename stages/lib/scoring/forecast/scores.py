"""How the notebooks score a forecast: by MAE, and here also by skill against the naive forecast."""

from typing import Any

import numpy as np

from stages.lib.errors import UserError
from stages.lib.nn.batches import predict_in_batches as predict_split  # noqa: F401, the hook of `evaluate`
from stages.lib.windows.input_set import Inputs, Split


def mean_absolute_error(targets: np.ndarray, forecasts: np.ndarray) -> float:
    """Mean absolute error over (n,) arrays, accumulated in float64."""
    return float(np.abs(targets.astype(np.float64) - forecasts).mean())


def naive_forecast(split: Split, target: int) -> np.ndarray:
    """The target's value at the last input of every window, (n,): the forecast that skill is measured against."""
    last = split.windows.shape[1] - 1
    return split.windows.rows[split.windows.starts + last, target]


def score_splits(inputs: Inputs, outputs: dict[str, np.ndarray]) -> dict[str, float]:
    """MAE in standard deviations and in the target's unit, and skill = 1 - MAE / naive MAE, same windows.

    Raises UserError where the naive forecast is perfect, for then there is no skill.
    """
    metrics = {}
    for name, output in outputs.items():
        split = getattr(inputs, name)
        error = mean_absolute_error(split.targets, output)
        metrics[f"{name}_mae"] = error
        metrics[f"{name}_mae_{inputs.meta.unit}"] = error * inputs.meta.std
        reference = mean_absolute_error(split.targets, naive_forecast(split, inputs.meta.target))
        if not reference:
            raise UserError(
                f"params.yaml: split.{name}: the naive forecast is perfect, as if the target were constant in the "
                f"{name} windows, so that there is no skill; choose other rows"
            )
        metrics[f"{name}_skill"] = 1 - error / reference
    return metrics


def score_outputs(
    outputs: dict[str, np.ndarray], inputs: Inputs, schedule: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict]]:
    """The metrics of `outputs`, (n, 1) each of val and test, and the test forecasts in the target's unit."""
    table = {"truth": inputs.test.targets, "forecast": outputs["test"][:, 0]}
    scale, offset = np.float32(inputs.meta.std), np.float32(inputs.meta.mean)
    table = {"time": inputs.test.times} | {key: values * scale + offset for key, values in table.items()}
    metrics = score_splits(inputs, {split: output[:, 0] for split, output in outputs.items()})
    return metrics, {"forecast": table}
