"""Convolutions over word vectors. The output is a logit, because the notebooks' last layer is linear."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, embedding: int, filters: int, kernel: int, pool: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(inputs.shape, dtype="int32"),
            layers.Embedding(inputs.meta.words, embedding),
            layers.Conv1D(filters, kernel, activation="relu"),
            layers.MaxPooling1D(pool),
            layers.Conv1D(filters, kernel, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(1),
        ]
    )
