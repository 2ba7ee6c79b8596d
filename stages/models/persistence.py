"""Tomorrow at this hour is like today at this hour. Nothing to learn."""

import keras

from stages.lib.tasks.station.references import build_persistence
from stages.lib.windows.input_set import Inputs


def build(inputs: Inputs) -> keras.Model:
    return build_persistence(inputs)
