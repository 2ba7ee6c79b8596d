"""How the notebooks train a forecast: RMSprop on one value a window, in standard deviations."""

from typing import Any

import keras

from stages.lib.nn.compiling import choose_jit_compile, compile_learner
from stages.lib.nn.environment import get_device
from stages.lib.windows.input_set import Inputs


def compile_for_training(
    learner: keras.Model, model: keras.Model, inputs: Inputs, schedule: dict[str, Any]
) -> None:
    """Compile `learner`, which wraps `model`; any loss and metric of Keras will do."""
    optimizer = keras.optimizers.RMSprop(schedule["learning_rate"])
    metrics = [schedule["metric"]] if schedule["metric"] != schedule["loss"] else []
    compiled = choose_jit_compile(model, get_device())
    compile_learner(learner, optimizer, schedule["loss"], metrics, compiled)


def finish_model(
    name: str, members: list[keras.Model], inputs: Inputs, schedule: dict[str, Any]
) -> tuple[keras.Model, dict[str, Any]]:
    """The trained model as it is; there is nothing more to say about it."""
    return members[0], {}
