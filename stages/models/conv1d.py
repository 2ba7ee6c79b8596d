"""Convolutions over time with max pooling over the whole window, which find a pattern wherever it occurs."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, filters: int, kernel: int, pool: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(inputs.shape),
            layers.Conv1D(filters, kernel, activation="relu"),
            layers.MaxPooling1D(pool),
            layers.Conv1D(filters, kernel, activation="relu"),
            layers.MaxPooling1D(pool),
            layers.Conv1D(filters, kernel, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(1),
        ]
    )
