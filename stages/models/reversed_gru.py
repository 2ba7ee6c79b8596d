"""One GRU, from the newest step to the oldest, so that it remembers the oldest steps best."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int) -> keras.Model:
    return keras.Sequential([keras.Input(inputs.shape), layers.GRU(units, go_backwards=True), layers.Dense(1)])
