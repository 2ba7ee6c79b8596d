"""gru with an LSTM for the GRU: a third gate, and a memory apart from the output."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int) -> keras.Model:
    return keras.Sequential([keras.Input(inputs.shape), layers.LSTM(units), layers.Dense(1)])
