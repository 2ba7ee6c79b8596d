"""The batch path: what `Gather` looks up, and what is chosen for a device, without having one."""

import keras
import numpy as np
import pytest
from keras import layers

from stages.lib.nn import batches
from stages.lib.nn.compiling import choose_jit_compile
from stages.lib.windows.input_set import Inputs, Meta, Split, Windows


def make_input_set(rows, time, ahead=None):
    """An input set of which every split holds six windows in no order."""
    starts = np.array([4, 0, 9, 4, 7, 1], np.int32)
    split = Split(Windows(rows, starts, time, ahead), np.arange(6, dtype=np.float32), np.full(6, "NaT", "M8[s]"))
    return Inputs(rows, Meta(time=time, words=500), split, split, split, ahead)


FLOATS = np.random.default_rng(0).normal(size=(14, 3)).astype(np.float32)
TOKENS = np.arange(300, 314).astype(np.int16)


@pytest.mark.parametrize("rows", [FLOATS, TOKENS], ids=["rows", "tokens"])
def test_gather_gives_the_windows(rows):
    inputs = make_input_set(rows, time=5)
    index = np.array([5, 0, 0, 2])
    result = np.asarray(batches.GatherWindows(inputs)(inputs.val.windows.starts[index]))
    assert result.dtype == ("float32" if rows.dtype == np.float32 else "int32")
    np.testing.assert_array_equal(result, inputs.val.windows[index])


def test_gather_gives_what_was_known_at_the_end_of_a_window_too():
    ahead = np.random.default_rng(1).normal(size=(14, 2, 3)).astype(np.float32)
    inputs = make_input_set(FLOATS, 5, ahead)
    index = np.array([5, 0, 0, 2])
    past, known = batches.GatherWindows(inputs)(inputs.val.windows.starts[index])
    np.testing.assert_array_equal(past, inputs.val.windows[index])
    np.testing.assert_array_equal(known, ahead[inputs.val.windows.starts[index] + 4])
    parts = [keras.Input((5, 3)), keras.Input((2, 3))]
    model = keras.Model(parts, layers.Dense(1)(layers.Concatenate()([layers.Flatten()(part) for part in parts])))
    result = batches.predict_in_batches(model, inputs, inputs.test)
    expected = model([inputs.test.windows[:], inputs.test.windows.get_ahead(slice(None))])
    np.testing.assert_allclose(result, np.asarray(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 4, 1024])
def test_forecasts_are_those_of_the_model_on_windows(size, monkeypatch):
    monkeypatch.setattr(batches, "EVALUATION_BATCH", size)
    keras.utils.set_random_seed(1)
    inputs = make_input_set(FLOATS, time=5)
    model = keras.Sequential([keras.Input(inputs.shape), layers.Flatten(), layers.Dense(1)])
    result = batches.predict_in_batches(model, inputs, inputs.test)
    assert result.shape == (6, 1) and result.dtype == np.float32
    np.testing.assert_allclose(result, np.asarray(model(inputs.test.windows[:])), rtol=1e-5)


def test_the_learner_shares_the_models_weights_and_does_not_train_the_rows():
    inputs = make_input_set(FLOATS, time=5)
    model = keras.Sequential([keras.Input(inputs.shape), layers.Flatten(), layers.Dense(1)])
    learner = batches.wrap_with_gather(model, inputs)
    assert [id(weight) for weight in learner.trainable_weights] == [id(weight) for weight in model.weights]
    assert len(learner.non_trainable_weights) == 1 and model.count_params() == 16


@pytest.mark.parametrize("size", [1, 4, 6, 100])
def test_feed_keeps_the_order(size):
    inputs = make_input_set(FLOATS, time=5)
    data = batches.make_batches(inputs.val.windows.starts, inputs.val.targets, size)
    if keras.backend.backend() != "tensorflow":
        assert data["x"] is inputs.val.windows.starts and data["batch_size"] == size
        return
    x, y = zip(*((x.numpy(), y.numpy()) for x, y in data["x"]), strict=True)
    assert [len(batch) for batch in x] == [size] * (6 // size) + [6 % size] * (6 % size > 0)
    np.testing.assert_array_equal(np.concatenate(x), inputs.val.windows.starts)
    np.testing.assert_array_equal(np.concatenate(y), inputs.val.targets)


RECURRENT = {
    "gru": lambda: [layers.GRU(2)],
    "lstm": lambda: [layers.LSTM(2)],
    "bidirectional": lambda: [layers.Bidirectional(layers.LSTM(2))],
    "convolution and gru": lambda: [layers.Conv1D(2, 2), layers.GRU(2)],
}
OTHERS = {
    "dense": lambda: [layers.Flatten()],
    "convolution": lambda: [layers.Conv1D(2, 2), layers.GlobalMaxPooling1D()],
}


@pytest.mark.parametrize("kind", [*RECURRENT, *OTHERS])
def test_compilation(kind, monkeypatch):
    build = (RECURRENT | OTHERS)[kind]
    model = keras.Sequential([keras.Input((5, 3)), *build(), layers.Dense(1)])
    assert choose_jit_compile(model, "gpu:0", 500) == "auto"
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    assert choose_jit_compile(model, "cpu:0", 500) is (kind in RECURRENT and kind != "convolution and gru")
    assert choose_jit_compile(model, "cpu:0", 499) is False
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")  # where False would mean: not compiled at all
    assert choose_jit_compile(model, "cpu:0", 500) == "auto"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replaces TensorFlow's loop")
@pytest.mark.parametrize(("device", "faster"), [("cpu:0", True), ("gpu:0", False), ("tpu:0", False)])
def test_the_faster_loop_is_for_the_cpu(device, faster, monkeypatch):
    monkeypatch.setattr(batches, "get_device", lambda: device)
    gru = layers.GRU(2)
    inputs = make_input_set(FLOATS, time=5)
    batches.wrap_with_gather(keras.Sequential([keras.Input(inputs.shape), gru, layers.Dense(1)]), inputs)
    assert ("inner_loop" in vars(gru)) is faster
