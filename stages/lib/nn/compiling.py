"""How a model is compiled: its loss, metric and optimizer, and whether XLA compiles its step."""

import stages.lib.nn.environment  # noqa: F401, before Keras

# isort: split

from typing import Any

import keras
from keras import layers

from stages.lib.errors import UserError
from stages.lib.nn.environment import device


def compilation(model: keras.Model, device: str) -> bool | str:
    """The `jit_compile` that trains `model` fastest on `device` (measured: benchmarks/README.md).

    On a CPU, XLA halves the step of a recurrent layer and doubles that of a convolution, for which oneDNN is
    faster; beside one, the loops of `stages/fast_gru.py` compile themselves. On a GPU, Keras chooses between
    cuDNN and XLA. On JAX, False would mean a step that is not compiled at all.
    """
    if not device.startswith("cpu") or keras.backend.backend() != "tensorflow":
        return "auto"
    kinds = [type(layer) for layer in model.layers]
    return layers.Conv1D not in kinds and any(issubclass(kind, layers.RNN | layers.Bidirectional) for kind in kinds)


def compile_for(learner: keras.Model, model: keras.Model, schedule: dict[str, Any]) -> None:
    """Compile `learner`, which wraps `model`.

    Raises UserError on a loss or metric that Keras does not have, or where `monitor` is neither.
    """
    loss, metrics, logits = schedule["loss"], [], schedule["logits"]
    try:
        if logits:
            loss = keras.losses.BinaryCrossentropy(from_logits=True)
        if schedule["metric"] == "accuracy":
            metrics = [keras.metrics.BinaryAccuracy("accuracy", threshold=0.0 if logits else 0.5)]
        elif schedule["metric"] != schedule["loss"]:
            metrics = [keras.metrics.get(schedule["metric"])]
        learner.compile(
            keras.optimizers.RMSprop(schedule["learning_rate"]),
            keras.losses.get(loss),
            metrics=metrics,
            jit_compile=compilation(model, device()),
            steps_per_execution=10,  # fewer returns to Python; still prompt on Ctrl-C
        )
    except ValueError as error:
        raise UserError(f"params.yaml: loss or metric: {error}") from None
    scores = ["val_loss", *(f"val_{getattr(metric, 'name', None) or metric.__name__}" for metric in metrics)]
    monitor = schedule["monitor"]
    if monitor not in scores or not monitor.endswith(("loss", "error", "accuracy")):  # of others, is more better?
        listed = ", ".join(scores)
        raise UserError(f"params.yaml: monitor: expected a loss, error or accuracy among {listed}, not {monitor!r}")
