"""`lstm` with recurrent dropout, as in `gru_dropout`."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int, dropout: float, recurrent_dropout: float) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(inputs.shape),
            layers.LSTM(units, dropout=dropout, recurrent_dropout=recurrent_dropout, use_cudnn=False),
            layers.Dense(1),
        ]
    )
