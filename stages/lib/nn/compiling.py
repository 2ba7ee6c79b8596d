"""Compile a model for training: loss, metrics, optimizer, and whether XLA compiles the training step."""

import math
from typing import Any

from stages.lib.errors import UserError
from stages.lib.nn.environment import keras
from stages.lib.windows.input_set import Inputs

MIN_STEPS = 500  # that repay XLA's compilation: it takes 2 to 10 s longer and saves 4 to 24 ms a step


def choose_jit_compile(model: keras.Model, device: str, steps: int) -> bool | str:
    """Return the `jit_compile` that runs `model` fastest for `steps` batches on `device` (benchmarks/README.md).

    On a CPU, XLA halves the training step of a recurrent layer but doubles that of a convolution, for which oneDNN
    is faster. Without it, the loops of fast_gru.py compile themselves. On a GPU, "auto" lets Keras choose between
    cuDNN and XLA. On JAX, False would disable compilation altogether.
    """
    if not device.startswith("cpu") or keras.backend.backend() != "tensorflow":
        return "auto"
    layer_types = [type(layer) for layer in model.layers]
    return (
        steps >= MIN_STEPS
        and keras.layers.Conv1D not in layer_types
        and any(issubclass(layer_type, keras.layers.RNN | keras.layers.Bidirectional) for layer_type in layer_types)
    )


def count_steps(inputs: Inputs, schedule: dict[str, Any]) -> int:
    """Return the number of training steps of all epochs of `schedule`."""
    steps = schedule["steps_per_epoch"] or math.ceil(len(inputs.train.windows) / schedule["batch_size"])
    return schedule["epochs"] * steps


def compile_learner(
    learner: keras.Model, optimizer: Any, loss: Any, metrics: list[Any], jit_compile: bool | str
) -> None:
    """Compile `learner` for training.

    Raises UserError if Keras has no such loss or metric.
    """
    try:
        learner.compile(
            optimizer,
            keras.losses.get(loss),
            metrics=[keras.metrics.get(metric) for metric in metrics],
            jit_compile=jit_compile,
            steps_per_execution=10,  # fewer returns to Python, while Ctrl-C still acts at once
        )
    except ValueError as error:
        raise UserError(f"params.yaml: loss or metric: {error}") from None
