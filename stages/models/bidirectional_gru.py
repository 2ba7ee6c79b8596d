"""A GRU in each direction of time, as `gru` and `reversed_gru`, with their states concatenated."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int) -> keras.Model:
    return keras.Sequential([keras.Input(inputs.shape), layers.Bidirectional(layers.GRU(units)), layers.Dense(1)])
