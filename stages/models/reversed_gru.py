"""gru from the newest input to the oldest: what it remembers best is what matters least."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int) -> keras.Model:
    return keras.Sequential([keras.Input(inputs.shape), layers.GRU(units, go_backwards=True), layers.Dense(1)])
