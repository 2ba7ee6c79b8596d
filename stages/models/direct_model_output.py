"""The weather model's forecast as it is: the reference where one forecasts the target. Nothing is trained."""

import keras

from stages.lib.tasks.station.references import build_direct_model_output
from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs) -> keras.Model:
    return build_direct_model_output(inputs)
