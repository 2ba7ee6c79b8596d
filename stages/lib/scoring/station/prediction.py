"""A station's forecasts: a window's is the same to the last bit whatever the others are, as `predict` needs."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from stages.lib.nn.environment import keras
from stages.lib.windows.input_set import Inputs, Split, Windows

BATCH = 256  # windows; a batch of another size may be rounded differently


def predict_windows(model: keras.Model, windows: np.ndarray | Windows) -> np.ndarray:
    """What `model` gives for `windows` (n, lookback, columns) in their own units: (n, leads, 3) float32.

    Every batch has BATCH windows, the last one filled up with its own first.
    """
    run, found = compile_prediction(model), []
    for start in range(0, len(windows), BATCH):
        batch = np.ascontiguousarray(windows[start : start + BATCH])
        filling = np.repeat(batch[:1], BATCH - len(batch), axis=0)
        found.append(np.asarray(run(np.concatenate([batch, filling])))[: len(batch)])
    return np.concatenate(found)


def compile_prediction(model: keras.Model) -> Callable[[np.ndarray], Any]:
    """Return what runs `model` on a batch, without XLA, whose compilation takes seconds and saves less.

    On TensorFlow, members of one architecture share a graph that takes their weights: to trace one for each takes
    a second for five, ten times as long as a batch.
    """
    tensorflow = keras.backend.backend() == "tensorflow"
    members = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if not tensorflow or len(members) < 2 or len(set(map(describe_architecture, members))) > 1:
        model.compile(jit_compile=False if tensorflow else "auto")
        return model.predict_on_batch
    import tensorflow as tf

    first = members[0]

    @tf.function(autograph=False)
    def shared(values: list[Any], windows: Any) -> Any:
        with keras.StatelessScope(state_mapping=zip(first.variables, values, strict=True)):
            return type(first).call(first, windows, training=False)

    def call(member: keras.Model) -> Callable[..., Any]:
        return lambda windows, training=None, mask=None: shared([v.value for v in member.variables], windows)

    for member in members:
        member.call = call(member)
    return lambda windows: model(windows, training=False)


def describe_architecture(member: keras.Model) -> str:
    """What a member computes, without its weights and the numbers in its layers' names."""
    config = json.dumps(member.get_config() | {"name": ""})
    return re.sub(r'_\d+(?=")', "", config)


def predict_split(model: keras.Model, inputs: Inputs, split: Split) -> np.ndarray:
    """What `model` gives for the windows of `split`, in order: (n, leads, 3) float32."""
    return predict_windows(model, split.windows)
