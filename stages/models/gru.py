"""One GRU, from the oldest step to the newest."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int) -> keras.Model:
    return keras.Sequential([keras.Input(inputs.shape), layers.GRU(units), layers.Dense(1)])
