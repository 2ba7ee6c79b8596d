"""A dense layer over the flattened window, which ignores the order of time."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(inputs.shape),
            layers.Flatten(),
            layers.Dense(units, activation="relu"),
            layers.Dense(1),
        ]
    )
