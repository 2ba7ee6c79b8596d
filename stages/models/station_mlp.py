"""A dense layer over the last values and their differences from earlier ones."""

import keras
from keras import layers

from stages.lib.tasks.station.features import difference_features, make_window
from stages.lib.tasks.station.quantiles import build_quantile_model
from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, units: int, noise: float, dropout: float) -> keras.Model:
    window = make_window(inputs)
    state = layers.GaussianNoise(noise)(difference_features(window, inputs))
    state = layers.Dropout(dropout)(layers.Dense(units, activation="relu")(state))
    return build_quantile_model(window, state, inputs)
