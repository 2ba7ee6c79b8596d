"""How the notebooks train a review classifier: RMSprop on cross-entropy, with accuracy."""

from typing import Any

import keras

from stages.lib.nn.compiling import choose_jit_compile, compile_learner
from stages.lib.nn.environment import get_device
from stages.lib.windows.input_set import Inputs


def compile_for_training(
    learner: keras.Model, model: keras.Model, inputs: Inputs, schedule: dict[str, Any]
) -> None:
    """Compile `learner`, which wraps `model`; where its output is a logit, the loss and the threshold know it."""
    loss: Any = schedule["loss"]
    if schedule["logits"]:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    metrics: list[Any] = [schedule["metric"]] if schedule["metric"] != schedule["loss"] else []
    if schedule["metric"] == "accuracy":
        metrics = [keras.metrics.BinaryAccuracy("accuracy", threshold=0.0 if schedule["logits"] else 0.5)]
    optimizer = keras.optimizers.RMSprop(schedule["learning_rate"])
    compile_learner(learner, optimizer, loss, metrics, choose_jit_compile(model, get_device()))


def finish_model(
    name: str, members: list[keras.Model], inputs: Inputs, schedule: dict[str, Any]
) -> tuple[keras.Model, dict[str, Any]]:
    """The trained model as it is; there is nothing more to say about it."""
    return members[0], {}
