"""A recurrent layer over the window, its state joined with what the window sums up to and the calendar."""

import keras
from keras import layers, ops

from stages.lib.tasks.station.training import normalized, quantiles, summary
from stages.lib.windows import Inputs


def build(inputs: Inputs, units: int, dense: int, dropout: float) -> keras.Model:
    window = keras.Input(inputs.shape)
    values = normalized(window, inputs)
    state = layers.GRU(units)(values)
    state = layers.Dropout(dropout)(ops.concatenate([state, summary(window, values)], -1))
    state = layers.Dropout(dropout)(layers.Dense(dense, activation="relu")(state))
    return quantiles(window, state, inputs)
