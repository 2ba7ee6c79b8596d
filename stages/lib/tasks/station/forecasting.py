"""A station's forecasts: a window's is the same to the last bit whatever the others are, as `predict` needs."""

import stages.lib.nn.environment  # noqa: F401, before Keras

# isort: split

import keras
import numpy as np

from stages.lib.windows import Inputs, Split, Windows

BATCH = 256  # windows; a batch of another size may be rounded differently


def answers(model: keras.Model, windows: np.ndarray | Windows) -> np.ndarray:
    """What `model` gives for `windows` (n, lookback, columns) in their own units: (n, leads, 3) float32.

    Every batch has BATCH windows, the last one filled up with its own first. Without XLA, whose compilation takes
    seconds and saves less.
    """
    if not model.compiled:
        model.compile(jit_compile=False if keras.backend.backend() == "tensorflow" else "auto")
    found = []
    for start in range(0, len(windows), BATCH):
        batch = np.ascontiguousarray(windows[start : start + BATCH])
        filling = np.repeat(batch[:1], BATCH - len(batch), axis=0)
        found.append(np.asarray(model.predict_on_batch(np.concatenate([batch, filling])))[: len(batch)])
    return np.concatenate(found)


def forecasts(model: keras.Model, inputs: Inputs, split: Split) -> np.ndarray:
    """What `model` gives for the windows of `split`, in order: (n, leads, 3) float32."""
    return answers(model, split.windows)
