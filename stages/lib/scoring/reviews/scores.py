"""How the notebooks score a review classifier: by accuracy."""

from typing import Any

import keras
import numpy as np

from stages.lib.nn.batches import predict_in_batches as predict_split  # noqa: F401, the hook of `evaluate`
from stages.lib.windows.input_set import Inputs


def score_reviews(inputs: Inputs, outputs: dict[str, np.ndarray], logits: bool) -> dict[str, float]:
    """Accuracy on validation and test, and the validation loss (mean binary cross-entropy)."""
    metrics = {
        f"{name}_accuracy": float(np.mean((output > (0 if logits else 0.5)) == getattr(inputs, name).targets))
        for name, output in outputs.items()
    }
    loss = keras.losses.BinaryCrossentropy(from_logits=logits)
    return metrics | {"val_loss": float(loss(inputs.val.targets[:, None], outputs["val"][:, None]))}


def score_outputs(
    outputs: dict[str, np.ndarray], inputs: Inputs, schedule: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict]]:
    """The metrics of `outputs`, (n, 1) each of val and test, and the outputs for the test reviews."""
    flat = {split: output[:, 0] for split, output in outputs.items()}
    table = {"truth": inputs.test.targets, "forecast": flat["test"]}
    return score_reviews(inputs, flat, schedule["logits"]), {"forecast": table}
