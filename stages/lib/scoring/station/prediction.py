"""Forecasts from model.onnx, the file that a station's model is shipped as.

Nothing here imports TensorFlow. The forecast for a window does not depend on which other windows share its batch,
so that `predict` and `evaluate` agree bit for bit.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from stages.lib.errors import UserError
from stages.lib.files import open_input
from stages.lib.windows.input_set import Inputs, Split

BATCH_SIZE = 128  # windows; batches of another size may be rounded differently


def load_session(name: str, threads: int) -> onnxruntime.InferenceSession:
    """Load model.onnx of the station's model `name`, to run on `threads` CPU threads.

    Raises UserError if there is no such file, or if it is not the file that model.json was written with.
    """
    directory, stage = Path("data/models/station", name), f"train@{name}"
    with open_input(directory / "model.onnx", stage) as path:
        content = path.read_bytes()
    with open_input(directory / "model.json", stage) as description:
        expected = json.loads(description.read_text(encoding="utf-8"))["onnx_sha256"]
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(
            f"{path}: expected the file that {description} was written with, found a damaged one or another model; "
            f"make both again with `dvc repro -f {stage}`"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only
    with open_input(path, stage):
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def predict_windows(
    session: onnxruntime.InferenceSession, count: int, get_inputs: Callable[[slice], dict[str, np.ndarray]]
) -> np.ndarray:
    """Return the quantiles (count, leads, 3), float32, that the model of `session` forecasts.

    `get_inputs` returns the model's inputs for a slice of the `count` windows, as `Windows.get_inputs` does. Every
    batch has BATCH_SIZE windows; the last one is padded with copies of its first window.
    """
    outputs = []
    for start in range(0, count, BATCH_SIZE):
        inputs = get_inputs(slice(start, start + BATCH_SIZE))
        batch = {name: pad_batch(values) for name, values in inputs.items()}
        outputs.append(session.run(None, batch)[0][: count - start])
    return np.concatenate(outputs)


def pad_batch(values: np.ndarray) -> np.ndarray:
    """Append copies of the first of `values` (n, ...) up to BATCH_SIZE."""
    return np.concatenate([values, np.repeat(values[:1], BATCH_SIZE - len(values), axis=0)])


def load_predictor(name: str, inputs: Inputs, schedule: dict[str, Any]) -> Callable[[Split], np.ndarray]:
    """Load the model `name`; return a function from a split to its forecasts, in order: (n, leads, 3) float32.

    Raises UserError if the model was trained for windows of another shape.
    """
    session = load_session(name, schedule["threads"])
    shapes = {value.name: tuple(value.shape[1:]) for value in session.get_inputs()}
    expected = {key: values.shape[1:] for key, values in inputs.test.windows.get_inputs(slice(0, 1)).items()}
    if shapes != expected:
        raise UserError(
            f"data/models/station/{name}/model.onnx: expected a model for the windows of "
            f"data/inputs/{schedule['inputs']}, {expected}, found one for {shapes}; train it again with "
            f"`dvc repro train@{name}`"
        )
    return lambda split: predict_windows(session, len(split.windows), split.windows.get_inputs)
