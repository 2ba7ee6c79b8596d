"""Scores of the notebooks' review classifiers: accuracy and cross-entropy."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_expit, logit

from stages.lib.nn.outputs import read_outputs
from stages.lib.windows.input_set import Inputs

EPSILON = 1e-7  # distance that Keras' cross-entropy keeps probabilities from 0 and 1


def score_reviews(inputs: Inputs, outputs: dict[str, np.ndarray], logits: bool) -> dict[str, float]:
    """Return the accuracy on each split of `outputs`, and the mean binary cross-entropy on validation.

    `outputs` maps a split's name to logits (n,) if `logits`, otherwise to probabilities (n,).
    """
    metrics = {
        f"{name}_accuracy": float(np.mean((output > (0 if logits else 0.5)) == getattr(inputs, name).targets))
        for name, output in outputs.items()
    }
    output = outputs["val"].astype(np.float64)
    evidence = output if logits else logit(output.clip(EPSILON, 1 - EPSILON))
    signs = 2 * inputs.val.targets - 1  # 1 or -1
    return metrics | {"val_loss": float(-log_expit(signs * evidence).mean())}


def score_model(
    name: str, inputs: Inputs, schedule: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Return the metrics of the model `name`, and the columns of the table `forecast`: labels and outputs on test.

    The outputs, as `train` stores them, are (n, 1).
    """
    stored = read_outputs(Path("data/models/reviews", name), inputs, f"train@{name}")
    outputs = {split: output[:, 0] for split, output in stored.items()}
    columns = {"truth": inputs.test.targets, "forecast": outputs["test"]}
    return score_reviews(inputs, outputs, schedule["logits"]), {"forecast": columns}
