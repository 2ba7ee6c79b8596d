"""Scores of the notebooks' review classifiers: accuracy and cross-entropy."""

from typing import Any

import numpy as np

from stages.lib.nn.batches import load_predictor  # noqa: F401, called by `evaluate`
from stages.lib.nn.environment import keras
from stages.lib.windows.input_set import Inputs


def score_reviews(inputs: Inputs, outputs: dict[str, np.ndarray], logits: bool) -> dict[str, float]:
    """Return the accuracy on each split of `outputs`, and the mean binary cross-entropy on validation.

    `outputs` maps a split's name to logits (n,) if `logits`, otherwise to probabilities (n,).
    """
    metrics = {
        f"{name}_accuracy": float(np.mean((output > (0 if logits else 0.5)) == getattr(inputs, name).targets))
        for name, output in outputs.items()
    }
    loss = keras.losses.BinaryCrossentropy(from_logits=logits)
    return metrics | {"val_loss": float(loss(inputs.val.targets[:, None], outputs["val"][:, None]))}


def score_outputs(
    outputs: dict[str, np.ndarray], inputs: Inputs, schedule: dict[str, Any], predict: Any
) -> tuple[dict[str, Any], dict[str, dict]]:
    """Return the metrics, and the columns of the table `forecast`: labels and outputs of the test reviews.

    `outputs` maps "val" and "test" to a model's outputs (n, 1).
    """
    vectors = {split: output[:, 0] for split, output in outputs.items()}
    columns = {"truth": inputs.test.targets, "forecast": vectors["test"]}
    return score_reviews(inputs, vectors, schedule["logits"]), {"forecast": columns}
