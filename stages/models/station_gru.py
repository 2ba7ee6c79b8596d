"""A GRU over the last hours, concatenated with the features of `station_mlp` and a learned curve of each."""

import keras
from keras import layers, ops

from stages.lib.tasks.station.features import (
    HARMONICS,
    difference_features,
    make_window,
    normalize_window,
    piecewise_linear_encoding,
)
from stages.lib.tasks.station.quantiles import build_quantile_model
from stages.lib.windows.input_set import Inputs


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
    window = make_window(inputs)
    recent = normalize_window(window, inputs)[:, -max(round(hours / inputs.meta.every), 1) :]
    state = layers.GRU(units, dropout=recurrent_dropout, recurrent_dropout=recurrent_dropout, use_cudnn=False)(
        recent
    )
    features, sample = difference_features(window, inputs)
    features = layers.GaussianNoise(noise)(features)
    state = ops.concatenate([state, features], -1)
    state = layers.Dropout(dropout)(layers.Dense(dense, activation="relu")(state))
    additive = layers.Dropout(dropout)(piecewise_linear_encoding(features[:, :-HARMONICS], sample, bins))
    state = ops.concatenate([state, layers.Dense(curves)(additive / 2)], -1)
    return build_quantile_model(window, state, inputs)
