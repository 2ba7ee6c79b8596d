"""Two GRUs, the second over the states of the first."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: list[int], dropout: float, recurrent_dropout: float) -> keras.Model:
    first_units, second_units = units
    options = {"dropout": dropout, "recurrent_dropout": recurrent_dropout, "use_cudnn": False}
    return keras.Sequential(
        [
            keras.Input(inputs.shape),
            layers.GRU(first_units, return_sequences=True, **options),
            layers.GRU(second_units, activation="relu", **options),
            layers.Dense(1),
        ]
    )
