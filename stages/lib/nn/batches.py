"""The batch path: rows stay on the device, a batch travels as window starts, and a layer gathers the windows.

A batch of 128 is 128 integers; with windows copied on the host, the dense model took twice as long.
"""

from typing import Any

import numpy as np

from stages.lib.nn.compiling import choose_jit_compile
from stages.lib.nn.environment import get_device, keras
from stages.lib.nn.fast_gru import use_fast_loop
from stages.lib.windows.input_set import Inputs, Split

EVALUATION_BATCH = 1024  # windows; may be larger than in training, as no weight changes between batches


class GatherWindows(keras.layers.Layer):
    """Look up windows: starts (batch,) -> (batch, time, features) or (batch, time)."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.time = inputs.meta.time
        rows = inputs.rows if inputs.rows.dtype == np.float32 else inputs.rows.astype(np.int32)
        self.rows = self.add_weight(shape=rows.shape, dtype=rows.dtype.name, initializer="zeros", trainable=False)
        self.rows.assign(rows)

    def call(self, starts: Any) -> Any:
        return keras.ops.take(self.rows, starts[:, None] + keras.ops.arange(self.time, dtype="int32"), axis=0)


def wrap_with_gather(model: keras.Model, inputs: Inputs) -> keras.Model:
    """Wrap `model` to take window starts (batch,) instead of windows; the weights are shared.

    On a CPU its GRU layers get the faster loop.
    """
    if get_device().startswith("cpu"):
        use_fast_loop(model)
    starts = keras.Input((), dtype="int32")
    return keras.Model(starts, model(GatherWindows(inputs)(starts)))


def make_batches(starts: np.ndarray, targets: np.ndarray, size: int) -> dict[str, Any]:
    """Arguments for Keras' fit, evaluate and predict: batches of `size` in the given order.

    On TensorFlow this is a dataset of whole batches without autotuning. Joining single windows costs more than
    gathering them. The autotuning thread is joined only at its next wake-up, and the time between wake-ups doubles,
    so each pass over Keras' own dataset took up to twice as long as its steps.
    """
    if keras.backend.backend() != "tensorflow":
        return {"x": starts, "y": targets, "batch_size": size}
    import tensorflow as tf

    pair, full = (starts, targets), len(starts) // size * size
    bundles = tuple(values[:full].reshape(-1, size, *values.shape[1:]) for values in pair)
    data = tf.data.Dataset.from_tensor_slices(bundles)
    if full < len(starts):
        data = data.concatenate(tf.data.Dataset.from_tensors(tuple(values[full:] for values in pair)))
    options = tf.data.Options()
    options.autotune.enabled = False
    return {"x": data.with_options(options)}


def predict_in_batches(model: keras.Model, inputs: Inputs, split: Split) -> np.ndarray:
    """What `model` gives for the windows of `split`, in order: (n, ...) float32."""
    learner = wrap_with_gather(model, inputs)
    learner.compile(jit_compile=choose_jit_compile(model, get_device()))
    data = make_batches(split.windows.starts, split.targets, EVALUATION_BATCH)
    data.pop("y", None)
    return learner.predict(**data, verbose=0)
