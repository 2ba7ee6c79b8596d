"""The climatological normal of the hour and the season: harmonics fitted in closed form."""

import keras
import numpy as np

from stages.lib.tasks.station.features import climatological_normal, make_window
from stages.lib.tasks.station.quantiles import build_point_model
from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs) -> keras.Model:
    window = make_window(inputs)
    return build_point_model(window, climatological_normal(window, inputs, np.arange(1, inputs.meta.leads + 1)))
