"""A recurrent layer over the last hours, joined with station_mlp's features and with a learned curve of each."""

import keras
from keras import layers, ops

from stages.lib.tasks.station.training import HARMONICS, differences, normalized, pieces, quantiles
from stages.lib.windows import Inputs


def build(
    inputs: Inputs,
    hours: int,
    units: int,
    dense: int,
    bins: int,
    curves: int,
    noise: float,
    dropout: float,
    recurrent_dropout: float,
) -> keras.Model:
    window = keras.Input(inputs.shape)
    recent = normalized(window, inputs)[:, -max(round(hours / inputs.meta.every), 1) :]
    state = layers.GRU(units, dropout=recurrent_dropout, recurrent_dropout=recurrent_dropout, use_cudnn=False)(
        recent
    )
    features = layers.GaussianNoise(noise)(differences(window, inputs))
    state = ops.concatenate([state, features], -1)
    state = layers.Dropout(dropout)(layers.Dense(dense, activation="relu")(state))
    additive = layers.Dropout(dropout)(pieces(window, features[:, :-HARMONICS], inputs, bins))
    state = ops.concatenate([state, layers.Dense(curves)(additive / 2)], -1)
    return quantiles(window, state, inputs)
