"""`gru` with recurrent dropout: one mask per window for all time steps (Gal and Ghahramani, 2016)."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int, dropout: float, recurrent_dropout: float) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(inputs.shape),
            layers.GRU(units, dropout=dropout, recurrent_dropout=recurrent_dropout, use_cudnn=False),
            layers.Dense(1),
        ]
    )
