"""Batch-invariant prediction for the station's models.

The forecast for a window does not depend on which other windows share its batch, so that `predict` and `evaluate`
agree bit for bit.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from stages.lib.nn.environment import keras
from stages.lib.windows.input_set import Inputs, Split

BATCH_SIZE = 256  # windows; batches of another size may be rounded differently


def predict_windows(model: keras.Model, arrays: list[np.ndarray]) -> np.ndarray:
    """Return the outputs of `model` for windows: (n, leads, 3) float32.

    `arrays` are its inputs: (n, lookback, columns) and, with weather models, (n, leads, ahead columns). Every batch
    has BATCH_SIZE windows; the last one is padded with copies of its first window.
    """
    return run_in_batches(
        compile_prediction(model), len(arrays[0]), lambda index: [array[index] for array in arrays]
    )


def run_in_batches(
    predict_batch: Callable[[Any], Any], count: int, get_batch: Callable[[slice], list[np.ndarray]]
) -> np.ndarray:
    """Return what `predict_batch`, made by `compile_prediction`, gives for `count` windows.

    `get_batch` returns the inputs for a slice of them; see `predict_windows`.
    """
    outputs = []
    for start in range(0, count, BATCH_SIZE):
        batch = [np.ascontiguousarray(array) for array in get_batch(slice(start, start + BATCH_SIZE))]
        padding = BATCH_SIZE - len(batch[0])
        padded = [np.concatenate([array, np.repeat(array[:1], padding, axis=0)]) for array in batch]
        output = predict_batch(padded if len(padded) > 1 else padded[0])
        outputs.append(np.asarray(output)[: BATCH_SIZE - padding])
    return np.concatenate(outputs)


def compile_prediction(model: keras.Model) -> Callable[[Any], Any]:
    """Return a function that runs `model` on a batch.

    It does without XLA, whose compilation takes seconds and saves less. On TensorFlow, members of the same
    architecture share one traced graph, which takes their weights as arguments: tracing five members separately
    takes a second, ten times as long as a batch.
    """
    tensorflow = keras.backend.backend() == "tensorflow"
    members = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if not tensorflow or len(members) < 2 or len(set(map(describe_architecture, members))) > 1:
        model.compile(jit_compile=False if tensorflow else "auto")
        return model.predict_on_batch
    import tensorflow as tf

    first = members[0]

    @tf.function(autograph=False)
    def call_shared(values: list[Any], windows: Any) -> Any:
        with keras.StatelessScope(state_mapping=zip(first.variables, values, strict=True)):
            return type(first).call(first, windows, training=False)

    def make_call(member: keras.Model) -> Callable[..., Any]:
        return lambda windows, training=None, mask=None: call_shared([v.value for v in member.variables], windows)

    for member in members:
        member.call = make_call(member)
    return lambda windows: model(windows, training=False)


def describe_architecture(member: keras.Model) -> str:
    """Return the configuration of `member` as JSON, without the numbers in the names of its layers."""
    config = json.dumps(member.get_config() | {"name": ""})
    return re.sub(r'_\d+(?=")', "", config)


def make_predictor(model: keras.Model, inputs: Inputs) -> Callable[[Split], np.ndarray]:
    """Return a function from a split to the outputs of `model` for its windows, in order: (n, leads, 3) float32."""
    predict_batch = compile_prediction(model)
    return lambda split: run_in_batches(predict_batch, len(split.windows), split.windows.get_inputs)
