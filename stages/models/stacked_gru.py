"""Two recurrent layers, the second over the states of the first."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: list[int], dropout: float, recurrent_dropout: float) -> keras.Model:
    first, second = units
    masks = {"dropout": dropout, "recurrent_dropout": recurrent_dropout, "use_cudnn": False}
    return keras.Sequential(
        [
            keras.Input(inputs.shape),
            layers.GRU(first, return_sequences=True, **masks),
            layers.GRU(second, activation="relu", **masks),
            layers.Dense(1),
        ]
    )
