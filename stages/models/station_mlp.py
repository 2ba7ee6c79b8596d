"""A dense layer over the last values and their differences from earlier ones, and a learned curve of each."""

import keras
from keras import layers, ops

from stages.lib.tasks.station.features import (
    HARMONICS,
    difference_features,
    lead_features,
    make_window,
    piecewise_linear_encoding,
)
from stages.lib.tasks.station.quantiles import build_quantile_model
from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int, bins: int, curves: int, noise: float, dropout: float) -> keras.Model:
    window = make_window(inputs)
    features, sample = difference_features(window, inputs)
    features = layers.GaussianNoise(noise)(features)
    state = layers.Dropout(dropout)(layers.Dense(units, activation="relu")(features))
    additive = layers.Dropout(dropout)(piecewise_linear_encoding(features[:, :-HARMONICS], sample, bins))
    state = ops.concatenate([state, layers.Dense(curves)(additive / 2)], -1)
    lead_state = None
    if window.ahead is not None:
        lead_state = layers.GaussianNoise(noise)(lead_features(window, inputs))
        lead_state = layers.Dropout(dropout)(layers.Dense(units, activation="relu")(lead_state))
    return build_quantile_model(window, state, inputs, lead_state)
