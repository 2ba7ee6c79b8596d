"""An LSTM over word vectors in each direction, with their states concatenated."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, embedding: int, units: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(inputs.shape, dtype="int32"),
            layers.Embedding(inputs.meta.words, embedding),
            layers.Bidirectional(layers.LSTM(units)),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
