"""The naive forecast: the value of the target at the last step of the window. Nothing is trained."""

import keras

from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs) -> keras.Model:
    window = keras.Input(inputs.shape)
    return keras.Model(window, window[:, -1, inputs.meta.target : inputs.meta.target + 1])
