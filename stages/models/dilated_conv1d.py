"""Causal convolutions with doubling dilation, until the last step depends on the whole window."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, filters: int, kernel: int) -> keras.Model:
    steps = window = keras.Input(inputs.shape)
    dilation = 1
    while dilation < inputs.meta.time:  # after a kernel of 2, a step depends on 2 * dilation steps
        conv = layers.Conv1D(filters, kernel, padding="causal", dilation_rate=dilation, activation="relu")
        steps, dilation = conv(steps), 2 * dilation
    return keras.Model(window, layers.Dense(1)(steps[:, -1]))
