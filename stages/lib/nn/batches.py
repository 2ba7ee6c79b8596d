"""Batches of windows: the rows stay on the device, a batch holds window starts, and a layer gathers the windows.

A batch of 128 windows is then 128 integers. Copying the windows on the host doubled the training time of `dense`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stages.lib.nn.compiling import choose_jit_compile
from stages.lib.nn.environment import get_device, keras
from stages.lib.nn.fast_gru import use_fast_loop
from stages.lib.windows.input_set import Inputs, Split, Windows

EVALUATION_BATCH = 1024  # windows; larger than in training, because no weight changes between batches
FEATURES = "features_"  # beginning of the names of layers that mark features
CHUNK = 512  # windows that `run_eagerly` computes at a time


class GatherWindows(keras.layers.Layer):
    """Gather the windows that begin at the given rows of `inputs`.

    Input: int32 window starts, shape (batch,).
    Output: float32 (batch, time, features), or int32 (batch, time) for tokens. With `inputs.ahead`, a list of this
    and of what was known ahead at the end of each window, float32 (batch, leads, columns).
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.time = inputs.meta.time
        rows = inputs.rows if inputs.rows.dtype == np.float32 else inputs.rows.astype(np.int32)
        self.rows = self.add_weight(shape=rows.shape, dtype=rows.dtype.name, initializer="zeros", trainable=False)
        self.rows.assign(rows)
        self.ahead = None
        if inputs.ahead is not None:
            self.ahead = self.add_weight(shape=inputs.ahead.shape, initializer="zeros", trainable=False)
            self.ahead.assign(inputs.ahead)

    def call(self, starts: Any) -> Any:
        past = keras.ops.take(self.rows, starts[:, None] + keras.ops.arange(self.time, dtype="int32"), axis=0)
        if self.ahead is None:
            return past
        return [past, keras.ops.take(self.ahead, starts + (self.time - 1), axis=0)]


class GatherRows(keras.layers.Layer):
    """Look up the rows of the array `table` at the given positions: (batch,) to (batch, ...)."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.table = self.add_weight(shape=table.shape, initializer="zeros", trainable=False)
        self.table.assign(table)

    def call(self, positions: Any) -> Any:
        return keras.ops.take(self.table, positions, axis=0)


def wrap_with_gather(model: keras.Model, inputs: Inputs, splits: Sequence[Split] = ()) -> keras.Model:
    """Return a model that takes window starts (batch,) instead of windows and shares the weights of `model`.

    If `splits` are given, the returned model is for their windows only: what `model` marks by `mark_features` is
    computed here, once for each window. On a CPU, this function also gives the GRU layers of `model` the faster
    loop of fast_gru.py.
    """
    if get_device().startswith("cpu"):
        use_fast_loop(model)
    starts = keras.Input((), dtype="int32")
    arrays = keras.tree.flatten(GatherWindows(inputs)(starts))
    if splits:
        features, model = split_at_features(model)
        used = np.unique(np.concatenate([split.windows.starts for split in splits]))
        windows = Windows(inputs.rows, used, inputs.meta.time, inputs.ahead)
        for values in run_eagerly(features, windows) if features else ():
            table = np.zeros((len(inputs.rows), *values.shape[1:]), np.float32)  # by window start
            table[used] = values
            arrays.append(GatherRows(table)(starts))
    return keras.Model(starts, model(pack_inputs(arrays)))


def pack_inputs(arrays: list[Any]) -> Any:
    """Return the inputs of a Keras model as it takes them: a list, or the only one by itself."""
    return arrays if len(arrays) > 1 else arrays[0]


def mark_features(values: Any, name: str) -> Any:
    """Mark `values` as features: they depend neither on trained weights nor on chance, so that a training needs to
    compute them only once for each window. `name` is unique in the model."""
    return keras.layers.Identity(name=f"{FEATURES}{name}")(values)


def split_at_features(model: keras.Model) -> tuple[keras.Model | None, keras.Model]:
    """Return the part of `model` from its inputs to the marked features, and the part from both to its output.

    The first part is None and the second `model` itself if it marks none.
    """
    features = [layer.output for layer in model.layers if layer.name.startswith(FEATURES)]
    if not features:
        return None, model
    # In this order, as Keras changes the inputs of `model` when it makes the second part. For the same reason, only
    # the parts of the last call can be saved.
    head = keras.Model([*model.inputs, *features], model.output)
    return keras.Model(model.input, features), head


def run_eagerly(model: keras.Model, windows: Windows) -> list[np.ndarray]:
    """Return the outputs of `model` for `windows`.

    The operations run one by one: to trace and compile them takes longer than one pass over the windows does.
    """
    chunks = []
    for start in range(0, len(windows), CHUNK):
        arrays = list(windows.get_inputs(slice(start, start + CHUNK)).values())
        outputs = keras.tree.flatten(model(pack_inputs(arrays)))
        chunks.append([np.asarray(output) for output in outputs])
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def make_batches(starts: np.ndarray, targets: np.ndarray, batch_size: int) -> dict[str, Any]:
    """Return the data arguments of Keras' `fit`, `evaluate` and `predict`, in the given order.

    On TensorFlow, `x` is a dataset of whole batches without autotuning, which is faster than the dataset that Keras
    makes from arrays: that one joins single windows, which costs more than gathering them, and waits for its
    autotuning thread at the end of each pass. That thread sleeps twice as long after each wake-up, so a pass took
    up to twice as long as its steps.
    """
    if keras.backend.backend() != "tensorflow":
        return {"x": starts, "y": targets, "batch_size": batch_size}
    import tensorflow as tf

    arrays, end = (starts, targets), len(starts) // batch_size * batch_size  # end of the last full batch
    batches = tuple(array[:end].reshape(-1, batch_size, *array.shape[1:]) for array in arrays)
    dataset = tf.data.Dataset.from_tensor_slices(batches)
    if end < len(starts):
        dataset = dataset.concatenate(tf.data.Dataset.from_tensors(tuple(array[end:] for array in arrays)))
    options = tf.data.Options()
    options.autotune.enabled = False
    return {"x": dataset.with_options(options)}


def make_predictor(model: keras.Model, inputs: Inputs) -> Callable[[Split], np.ndarray]:
    """Return a function from a split to the outputs of `model` for its windows, in order: float32, (windows, ...).

    The function is compiled once for all splits.
    """
    learner = wrap_with_gather(model, inputs)
    windows = sum(len(split.windows) for split in (inputs.val, inputs.test))  # what is evaluated
    steps = 8 * windows // EVALUATION_BATCH  # a batch here takes as long as eight of a training's size
    learner.compile(jit_compile=choose_jit_compile(model, get_device(), steps))

    def predict(split: Split) -> np.ndarray:
        arguments = make_batches(split.windows.starts, split.targets, EVALUATION_BATCH)
        arguments.pop("y", None)  # `predict` takes no targets
        return learner.predict(**arguments, verbose=0)

    return predict


def predict_in_batches(model: keras.Model, inputs: Inputs, split: Split) -> np.ndarray:
    """Return the outputs of `model` for the windows of one split; see `make_predictor`."""
    return make_predictor(model, inputs)(split)
