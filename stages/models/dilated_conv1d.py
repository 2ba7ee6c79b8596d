"""Causal convolutions, the dilation doubling from each to the next, until the last step sees the whole window."""

import keras
from keras import layers

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs, filters: int, kernel: int) -> keras.Model:
    steps = window = keras.Input(inputs.shape)
    dilation = 1
    while dilation < inputs.meta.time:  # a kernel of 2 sees as many steps as the next dilation, a longer one more
        conv = layers.Conv1D(filters, kernel, padding="causal", dilation_rate=dilation, activation="relu")
        steps, dilation = conv(steps), 2 * dilation
    return keras.Model(window, layers.Dense(1)(steps[:, -1]))
