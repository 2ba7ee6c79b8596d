"""A dense layer over the last values and their differences from earlier ones."""

import keras
from keras import layers

from stages.lib.tasks.station.training import differences, quantiles
from stages.lib.windows import Inputs


def build(inputs: Inputs, units: int, noise: float, dropout: float) -> keras.Model:
    window = keras.Input(inputs.shape)
    state = layers.GaussianNoise(noise)(differences(window, inputs))
    state = layers.Dropout(dropout)(layers.Dense(units, activation="relu")(state))
    return quantiles(window, state, inputs)
