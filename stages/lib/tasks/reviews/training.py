"""Training of the notebooks' review classifiers: RMSprop on cross-entropy, with accuracy as the metric."""

from typing import Any

import keras

from stages.lib.nn.compiling import choose_jit_compile, compile_learner, count_steps
from stages.lib.nn.environment import get_device
from stages.lib.windows.input_set import Inputs

EXPORTS_ONNX = False  # whether `evaluate` runs model.onnx; if not, it reads outputs.npz


def compile_for_training(
    learner: keras.Model, model: keras.Model, inputs: Inputs, schedule: dict[str, Any]
) -> None:
    """Compile `learner`, which wraps `model`, with the loss and metric of `schedule`.

    With schedule["logits"], the output of the model is a logit: the loss takes it as such, and the decision
    threshold is 0 instead of 0.5.
    """
    loss: Any = schedule["loss"]
    if schedule["logits"]:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    metrics: list[Any] = [schedule["metric"]] if schedule["metric"] != schedule["loss"] else []
    if schedule["metric"] == "accuracy":
        metrics = [keras.metrics.BinaryAccuracy("accuracy", threshold=0.0 if schedule["logits"] else 0.5)]
    optimizer = keras.optimizers.RMSprop(schedule["learning_rate"])
    jit_compile = choose_jit_compile(model, get_device(), count_steps(inputs, schedule))
    compile_learner(learner, optimizer, loss, metrics, jit_compile)


def finish_model(
    name: str, members: list[keras.Model], inputs: Inputs, schedule: dict[str, Any]
) -> tuple[keras.Model, dict[str, Any]]:
    """Return the single trained model, and no additions to model.json."""
    return members[0], {}
