"""From a line of params.yaml `models` to a Keras model."""

import importlib
import inspect
from typing import Any

from stages.lib.errors import UserError
from stages.lib.nn.environment import keras
from stages.lib.windows.input_set import Inputs


def build_model(name: str, inputs: Inputs, options: dict[str, Any]) -> keras.Model:
    """Build the model of stages/models/<name>.py for windows of `inputs`.

    Raises UserError if there is no such file or its `build` does not take the options.
    """
    try:
        architecture = importlib.import_module(f"stages.models.{name}").build
    except ModuleNotFoundError as error:
        if error.name != f"stages.models.{name}":
            raise  # something that file imports is missing
        raise UserError(f"params.yaml: models.{name} needs a file stages/models/{name}.py") from None
    try:
        inspect.signature(architecture).bind(inputs, **options)
    except TypeError as error:
        raise UserError(
            f"params.yaml: models.{name}: {error}; stages/models/{name}.py takes "
            + ", ".join(list(inspect.signature(architecture).parameters)[1:])
        ) from None
    try:
        return architecture(inputs, **options)
    except (TypeError, ValueError, IndexError) as error:
        raise UserError(f"params.yaml: models.{name}: Keras refuses these settings: {error}") from None
