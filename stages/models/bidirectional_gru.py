"""gru and reversed_gru side by side, their states joined."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int) -> keras.Model:
    return keras.Sequential([keras.Input(inputs.shape), layers.Bidirectional(layers.GRU(units)), layers.Dense(1)])
