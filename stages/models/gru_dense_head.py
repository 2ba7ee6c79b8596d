"""`gru_dropout` with dense layers, each followed by dropout, between the state and the forecast."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int, dropout: float, recurrent_dropout: float, dense: list[int]) -> keras.Model:
    model = keras.Sequential([keras.Input(inputs.shape)])
    model.add(layers.GRU(units, dropout=dropout, recurrent_dropout=recurrent_dropout, use_cudnn=False))
    for width in dense:
        model.add(layers.Dense(width, activation="relu"))
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(1))
    return model
