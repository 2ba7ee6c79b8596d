"""The normal temperature of the hour and the season, whatever the weather: harmonics in closed form."""

import keras
import numpy as np

from stages.lib.tasks.station.training import climatology, forecast
from stages.lib.windows import Inputs


def build(inputs: Inputs) -> keras.Model:
    window = keras.Input(inputs.shape)
    return forecast(window, climatology(window, inputs, np.arange(1, inputs.meta.leads + 1)))
