"""The architectures: each builds from its own line of params.yaml, with the sources' number of weights."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from ruamel.yaml import YAML

from stages.lib.nn.build import build
from stages.lib.settings.training import SCHEDULE
from stages.lib.windows import Inputs, Meta, Split, Windows
from stages.models import naive, reversed_gru

REPOSITORY = Path(__file__).parents[1]
FILES = sorted((REPOSITORY / "stages" / "models").glob("*.py"))
PARAMS = YAML(typ="safe").load(REPOSITORY / "params.yaml")
COLUMNS = ["p (mbar)", "T (degC)", *(f"column {i}" for i in range(2, 14))]


def input_set(name=None):
    """An input set with one window, of the shape that params.yaml gives `name`; without a name of (9, 14)."""
    if name in PARAMS["tokens"]:
        settings = PARAMS["tokens"][name]
        rows = np.zeros(settings["length"], np.int16)
        meta = Meta(time=settings["length"], words=settings["words"])
    else:
        window = PARAMS["inputs"].get(name, {"lookback": 9, "step": 1})
        rows = np.zeros((window["lookback"] // window["step"], 14), np.float32)
        meta = Meta(time=len(rows), columns=COLUMNS, target=1)
    split = Split(Windows(rows, np.zeros(1, np.int32), meta.time), np.zeros(1, np.float32), np.zeros(1, "M8[s]"))
    return Inputs(rows, meta, split, split, split)


def gru_weights(features, units):
    """Kernel, recurrent kernel and two biases for three gates."""
    return 3 * (features * units + units * units + 2 * units)


def lstm_weights(features, units):
    """Kernel, recurrent kernel and one bias for four gates."""
    return 4 * (features * units + units * units + units)


CONV1D = (5 * 14 * 32 + 32) + (5 * 32 * 32 + 32)  # the first two layers
WEIGHTS = {
    "naive": 0,
    "dense": 107_585,
    "gru": gru_weights(14, 32) + 33,
    "gru_dropout": gru_weights(14, 32) + 33,
    "stacked_gru": gru_weights(14, 32) + gru_weights(32, 64) + 65,
    "reversed_gru": gru_weights(14, 32) + 33,
    "bidirectional_gru": 2 * gru_weights(14, 32) + 65,
    "conv1d": CONV1D + (5 * 32 * 32 + 32) + 33,
    "conv1d_gru": CONV1D + gru_weights(32, 32) + 33,
    "imdb_conv1d": 1_315_937,
    "imdb_reversed_lstm": 1_280_000 + lstm_weights(128, 32) + 33,
    "imdb_bidirectional_lstm": 320_000 + 2 * lstm_weights(32, 32) + 65,
}


@pytest.mark.parametrize("name", PARAMS["models"])
def test_builds_from_its_line(name):
    line = PARAMS["models"][name]
    inputs = input_set(line["inputs"])
    model = build(name, inputs, {key: value for key, value in line.items() if key not in SCHEDULE})
    assert model.input_shape == (None, *inputs.shape) and model.output_shape == (None, 1)
    assert model.count_params() == WEIGHTS.get(name, model.count_params())  # of the sources' models
    ends = getattr(model.layers[-1], "activation", None)
    assert (ends is keras.activations.sigmoid) == (line["task"] == "reviews" and not line.get("logits"))


def code_lines(path):
    """How many lines hold code, without docstring and empty lines."""
    text = path.read_text()
    docstring = ast.parse(text).body[0]
    lines = text.splitlines()[docstring.end_lineno :]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_is_short_and_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert 5 <= code_lines(path) <= 25


def test_naive_gives_the_last_target_value():
    inputs = input_set()
    windows = np.random.default_rng(0).normal(size=(3, *inputs.shape)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(naive.build(inputs)(windows)), windows[:, -1, 1:2])


def test_reversed_gru_is_a_gru_on_reversed_windows():
    inputs = input_set()
    model = reversed_gru.build(inputs, units=4)
    plain = keras.Sequential([keras.Input(inputs.shape), layers.GRU(4), layers.Dense(1)])
    plain.set_weights(model.get_weights())
    windows = np.random.default_rng(0).normal(size=(3, *inputs.shape)).astype(np.float32)
    found = np.asarray(model(windows))
    np.testing.assert_allclose(found, np.asarray(plain(windows[:, ::-1])), rtol=1e-4, atol=1e-6)
    assert np.abs(found - np.asarray(plain(windows))).max() > 1e-3
