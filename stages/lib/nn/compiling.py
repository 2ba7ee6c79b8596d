"""How a model is compiled: loss, metric, optimizer, and whether XLA compiles the step."""

from typing import Any

from stages.lib.errors import UserError
from stages.lib.nn.environment import keras


def choose_jit_compile(model: keras.Model, device: str) -> bool | str:
    """The `jit_compile` that trains `model` fastest on `device` (measured in benchmarks/README.md).

    On a CPU, XLA halves the step of a recurrent layer and doubles that of a convolution, where oneDNN is faster;
    next to a convolution, the loops of `stages/lib/nn/fast_gru.py` compile themselves. On a GPU, Keras chooses
    between cuDNN and XLA. On JAX, False would mean a step that is not compiled at all.
    """
    if not device.startswith("cpu") or keras.backend.backend() != "tensorflow":
        return "auto"
    kinds = [type(layer) for layer in model.layers]
    return keras.layers.Conv1D not in kinds and any(
        issubclass(kind, keras.layers.RNN | keras.layers.Bidirectional) for kind in kinds
    )


def compile_learner(
    learner: keras.Model, optimizer: Any, loss: Any, metrics: list[Any], jit_compile: bool | str
) -> None:
    """Compile `learner` for training; raises UserError for a loss or metric that Keras does not have."""
    try:
        learner.compile(
            optimizer,
            keras.losses.get(loss),
            metrics=[keras.metrics.get(metric) for metric in metrics],
            jit_compile=jit_compile,
            steps_per_execution=10,  # returns to Python less often, yet Ctrl-C still works at once
        )
    except ValueError as error:
        raise UserError(f"params.yaml: loss or metric: {error}") from None
