"""Two dense layers over the last day's values, what the window sums up to, and the calendar."""

import keras
from keras import layers, ops

from stages.lib.tasks.station.training import normalized, quantiles, summary
from stages.lib.windows import Inputs


def build(inputs: Inputs, units: list[int], hours: int, dropout: float) -> keras.Model:
    window = keras.Input(inputs.shape)
    values = normalized(window, inputs)
    lags = layers.Flatten()(values[:, -round(hours / inputs.meta.every) :])
    state = layers.Dropout(dropout)(ops.concatenate([lags, summary(window, values)], -1))
    for width in units:
        state = layers.Dropout(dropout)(layers.Dense(width, activation="relu")(state))
    return quantiles(window, state, inputs)
