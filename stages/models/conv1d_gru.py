"""Convolutions that shorten a window of finer steps for a GRU."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(
    inputs: Inputs, filters: int, kernel: int, pool: int, units: int, dropout: float, recurrent_dropout: float
) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(inputs.shape),
            layers.Conv1D(filters, kernel, activation="relu"),
            layers.MaxPooling1D(pool),
            layers.Conv1D(filters, kernel, activation="relu"),
            layers.GRU(units, dropout=dropout, recurrent_dropout=recurrent_dropout, use_cudnn=False),
            layers.Dense(1),
        ]
    )
