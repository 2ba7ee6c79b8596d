"""The architectures, one file each: they build for windows of their kind, with the notebooks' number of weights."""

import ast
import importlib
import inspect
from dataclasses import replace
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from stages.lib.nn.build import build_model
from stages.lib.windows.input_set import Inputs, Meta, Split, Windows

FILES = sorted((Path(__file__).parents[1] / "stages/models").glob("*.py"))
COLUMNS = ["p (mbar)", "T (degC)", *(f"column {i}" for i in range(2, 12)), "hour of day (h)", "day of year (d)"]
SMALL = {int: 2, float: 0.25, list[int]: [2, 3]}  # an argument of each kind that `build` takes


@cache
def make_input_set(kind: str, time: int = 240) -> Inputs:
    """Windows of `time` rows with 14 columns, by the clock for a station, or of as many out of 10,000 words."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(600, 14)).astype(np.float32)
    rows[:, -2], rows[:, -1] = np.arange(600) % 24, np.arange(600) // 24
    targets, meta = random.normal(size=300).astype(np.float32), Meta(time, COLUMNS, target=1)
    if kind == "station":
        time = 48
        targets, meta = np.stack([targets] * 3, axis=1), Meta(time, COLUMNS, target=1, leads=3, every=1)
    if kind == "reviews":
        rows, meta = random.integers(0, 10_000, 600).astype(np.int16), Meta(time, words=10_000)
    split = Split(Windows(rows, np.arange(300, dtype=np.int32), time), targets, np.zeros(300, "M8[s]"))
    return Inputs(rows, meta, split, split, split)


def infer_kind(path: Path) -> str:
    """The task that an architecture is for, by what it imports and takes."""
    text = path.read_text(encoding="utf-8")
    return "station" if "stages.lib.tasks.station" in text else "reviews" if "embedding" in text else "forecast"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_builds_for_its_kind_of_windows(path):
    inputs = make_input_set(infer_kind(path))
    taken = inspect.signature(importlib.import_module(f"stages.models.{path.stem}").build).parameters
    options = {name: SMALL[taken[name].annotation] for name in list(taken)[1:]}
    model = build_model("mine", path.stem, inputs, options)
    assert model.input_shape == (None, *inputs.shape)
    leads = inputs.meta.leads
    assert model.output_shape == ((None, leads, 3) if leads else (None, 1))


def make_region_inputs() -> Inputs:
    """Windows by the clock with a neighbour and a weather model; a tenth of all values is missing."""
    random = np.random.default_rng(0)
    rows, ahead = (
        random.normal(size=(600, 6)).astype(np.float32),
        random.normal(size=(600, 3, 3)).astype(np.float32),
    )
    for values in (rows, ahead):
        values[random.random(values.shape) < 0.1] = np.nan
    rows[:, -2], rows[:, -1] = np.arange(600) % 24, np.arange(600) // 24
    columns = [*COLUMNS[:2], "kassel T (degC)", "kassel rh (%)", *COLUMNS[-2:]]
    meta = Meta(48, columns, target=1, leads=3, every=1, clock={"max_missing": 0.5}, neighbours={"kassel": [2, 4]})
    forecasts = {"ahead_columns": ["icon T (degC)", "icon age (h)", "icon rain"], "ahead_targets": [0]}
    windows = Windows(rows, np.arange(300, dtype=np.int32), 48, ahead)
    targets = random.normal(size=(300, 3)).astype(np.float32)
    split = Split(windows, targets, np.zeros(300, "M8[s]"))
    return Inputs(rows, replace(meta, **forecasts), split, split, split, ahead)


STATION = [path for path in FILES if infer_kind(path) == "station"]


@pytest.mark.parametrize("path", STATION, ids=lambda path: path.stem)
def test_a_stations_model_forecasts_from_several_records_whatever_is_missing(path):
    inputs = make_region_inputs()
    taken = inspect.signature(importlib.import_module(f"stages.models.{path.stem}").build).parameters
    model = build_model(
        "mine", path.stem, inputs, {name: SMALL[taken[name].annotation] for name in list(taken)[1:]}
    )
    assert {value.name: value.shape[1:] for value in model.inputs} == {"past": (48, 6), "ahead": (3, 3)}
    arrays = inputs.test.windows.get_inputs(slice(0, 20))
    arrays["past"][0, :, :-2] = np.nan  # nothing measured at all
    arrays["past"][1, :, 2:4] = np.nan  # no neighbour
    arrays["past"][2, :, :2] = np.nan  # no station
    arrays["ahead"][[0, 3]] = np.nan  # no forecast
    outputs = np.asarray(model(list(arrays.values())))
    assert outputs.shape == (20, 3, 3) and np.isfinite(outputs).all()
    assert (np.diff(outputs, axis=2) >= 0).all()


def count_gru_weights(features, units):
    """Kernel, recurrent kernel and two biases for three gates."""
    return 3 * (features * units + units * units + 2 * units)


def count_lstm_weights(features, units):
    """Kernel, recurrent kernel and one bias for four gates."""
    return 4 * (features * units + units * units + units)


CONV1D = (5 * 14 * 32 + 32) + (5 * 32 * 32 + 32)  # the first two layers
FILTERS, HALF = {"filters": 32, "kernel": 5, "pool": 3}, {"dropout": 0.1, "recurrent_dropout": 0.5}
DROPOUT = {"units": 32, "dropout": 0.2, "recurrent_dropout": 0.2}
NOTEBOOKS = {  # the arguments in the notebooks, and the weights that they print (for a GRU: 96 more per 32 units)
    "naive": ({}, 0),
    "dense": ({"units": 32}, 107_585),
    "gru": ({"units": 32}, count_gru_weights(14, 32) + 33),
    "gru_dropout": (DROPOUT, count_gru_weights(14, 32) + 33),
    "stacked_gru": ({"units": [32, 64], **HALF}, count_gru_weights(14, 32) + count_gru_weights(32, 64) + 65),
    "reversed_gru": ({"units": 32}, count_gru_weights(14, 32) + 33),
    "bidirectional_gru": ({"units": 32}, 2 * count_gru_weights(14, 32) + 65),
    "conv1d": (FILTERS, CONV1D + (5 * 32 * 32 + 32) + 33),
    "conv1d_gru": ({**FILTERS, "units": 32, **HALF}, CONV1D + count_gru_weights(32, 32) + 33),
    # Their suggestions, by our count.
    "lstm": ({"units": 32}, count_lstm_weights(14, 32) + 33),
    "lstm_dropout": (DROPOUT, count_lstm_weights(14, 32) + 33),
    "gru_dense_head": ({**DROPOUT, "dense": [64, 64]}, count_gru_weights(14, 32) + 33 * 64 + 65 * 64 + 65),
    "dilated_conv1d": ({"filters": 32, "kernel": 2}, (2 * 14 + 1) * 32 + 7 * (2 * 32 + 1) * 32 + 33),
    "imdb_conv1d": ({"embedding": 128, "filters": 32, "kernel": 7, "pool": 5}, 1_315_937),
    "imdb_reversed_lstm": ({"embedding": 128, "units": 32}, 1_280_000 + count_lstm_weights(128, 32) + 33),
    "imdb_bidirectional_lstm": ({"embedding": 32, "units": 32}, 320_000 + 2 * count_lstm_weights(32, 32) + 65),
}
PROBABILITIES = {"imdb_reversed_lstm", "imdb_bidirectional_lstm"}  # the others' last unit is linear


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in NOTEBOOKS], ids=lambda path: path.stem)
def test_is_the_notebooks_model(path):
    options, weights = NOTEBOOKS[path.stem]
    model = build_model("mine", path.stem, make_input_set(infer_kind(path)), options)
    assert model.count_params() == weights
    ends = getattr(model.layers[-1], "activation", None)
    assert (ends is keras.activations.sigmoid) == (path.stem in PROBABILITIES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_is_short_and_says_what_it_is(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert len(ast.unparse(ast.Module(tree.body[1:], [])).splitlines()) <= 25


def test_naive_gives_the_last_target_value():
    naive, inputs = pytest.importorskip("stages.models.naive"), make_input_set("forecast", time=9)
    windows = inputs.test.windows[:3]
    np.testing.assert_array_equal(np.asarray(naive.build(inputs)(windows)), windows[:, -1, 1:2])


def test_reversed_gru_is_a_gru_on_reversed_windows():
    reversed_gru, inputs = pytest.importorskip("stages.models.reversed_gru"), make_input_set("forecast", time=9)
    model = reversed_gru.build(inputs, units=4)
    plain = keras.Sequential([keras.Input(inputs.shape), layers.GRU(4), layers.Dense(1)])
    plain.set_weights(model.get_weights())
    windows = inputs.test.windows[:3]
    result = np.asarray(model(windows))
    np.testing.assert_allclose(result, np.asarray(plain(windows[:, ::-1])), rtol=1e-4, atol=1e-6)
    assert np.abs(result - np.asarray(plain(windows))).max() > 1e-3


@pytest.mark.parametrize(("time", "kernel"), [(240, 2), (240, 3), (9, 2), (8, 2)])
def test_dilated_conv1d_sees_the_whole_window_in_its_order(time, kernel):
    dilated, inputs = pytest.importorskip("stages.models.dilated_conv1d"), make_input_set("forecast", time)
    model = dilated.build(inputs, filters=4, kernel=kernel)
    for weight in model.weights:  # all positive: no unit is dead, and nothing cancels
        weight.assign(np.random.default_rng(0).uniform(0.2, 0.6, weight.shape))
    window = np.abs(inputs.test.windows[:1])
    base = float(np.asarray(model(window))[0, 0])
    changed = np.repeat(window, time, axis=0)
    changed[np.arange(time), np.arange(time)] *= 2  # one step in each
    assert (np.asarray(model(changed))[:, 0] > base).all()
    assert float(np.asarray(model(window[:, ::-1]))[0, 0]) != pytest.approx(base, rel=1e-6)


def test_dilated_conv1d_is_causal_and_no_layer_looks_ahead():
    dilated, inputs = pytest.importorskip("stages.models.dilated_conv1d"), make_input_set("forecast", 16)
    model = dilated.build(inputs, filters=3, kernel=2)
    steps = keras.Model(model.input, [layer.output for layer in model.layers if isinstance(layer, layers.Conv1D)])
    window = inputs.test.windows[:1]
    later = window.copy()
    later[:, 10:] += 1
    for before, after in zip(steps(window), steps(later), strict=True):
        np.testing.assert_allclose(np.asarray(before)[:, :10], np.asarray(after)[:, :10], rtol=1e-5, atol=1e-6)
