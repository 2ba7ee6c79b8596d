"""A recurrent layer over the window, a step for several rows, its state joined with what station_mlp looks at."""

import keras
from keras import layers, ops

from stages.lib.tasks.station.training import differences, normalized, quantiles
from stages.lib.windows import Inputs


def build(
    inputs: Inputs, units: int, pool: int, dense: int, noise: float, dropout: float, recurrent_dropout: float
) -> keras.Model:
    window = keras.Input(inputs.shape)
    steps = layers.AveragePooling1D(pool)(normalized(window, inputs))
    state = layers.GRU(units, dropout=recurrent_dropout, recurrent_dropout=recurrent_dropout, use_cudnn=False)(
        steps
    )
    state = ops.concatenate([state, layers.GaussianNoise(noise)(differences(window, inputs))], -1)
    state = layers.Dropout(dropout)(layers.Dense(dense, activation="relu")(state))
    return quantiles(window, state, inputs)
