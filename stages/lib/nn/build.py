"""Build the Keras model of an entry of params.yaml `models`."""

import importlib
import inspect
from typing import Any

from stages.lib.errors import UserError
from stages.lib.nn.environment import keras
from stages.lib.windows.input_set import Inputs


def build_model(name: str, architecture: str, inputs: Inputs, options: dict[str, Any]) -> keras.Model:
    """Build the model `name`, whose layers are in stages/models/ARCHITECTURE.py, for windows of `inputs`.

    `options` are the arguments of its `build` besides `inputs`. Raises UserError if there is no such file, or if
    its `build` or Keras does not accept the options.
    """
    try:
        build = importlib.import_module(f"stages.models.{architecture}").build
    except ModuleNotFoundError as error:
        if error.name != f"stages.models.{architecture}":
            raise  # an import inside that file failed
        raise UserError(
            f"params.yaml: models.{name}.architecture: expected a file stages/models/{architecture}.py, found "
            "none; add it, or name another architecture"
        ) from None
    try:
        inspect.signature(build).bind(inputs, **options)
    except TypeError as error:
        raise UserError(
            f"params.yaml: models.{name}: {error}; stages/models/{architecture}.py takes "
            + ", ".join(list(inspect.signature(build).parameters)[1:])
        ) from None
    try:
        return build(inputs, **options)
    except (TypeError, ValueError, IndexError) as error:
        raise UserError(f"params.yaml: models.{name}: Keras rejects these settings: {error}") from None
