"""The experiment on reversed_gru: what differs between the variants, and that no run is made twice."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import reversed_gru as experiment
from stages.inputs import inputs
from stages.lib.nn.build import build
from stages.lib.windows import load
from stages.train import train


@pytest.fixture
def data(weather, monkeypatch):
    """A working directory with the input set `tiny`."""
    weather.write_params("models", "reversed_gru", task="forecast", inputs="tiny", epochs=2, units=3)
    monkeypatch.setattr(sys, "argv", ["reversed_gru", "as_is", "all"])
    inputs("tiny")
    return weather


def test_the_gates_of_2018():
    x = np.float32([-9, -2.5, -1, 0, 1, 2.5, 9])
    np.testing.assert_allclose(experiment.hard_sigmoid(x), [0, 0, 0.3, 0.5, 0.7, 1, 1], atol=1e-6)


def test_the_optimizer_of_2018_makes_full_steps_for_tiny_gradients():
    gradients = [np.float32([1e-6, 2.0]), np.float32([-3e-6, 0.5])]
    found = {}
    for kind in (experiment.RMSprop2018, keras.optimizers.RMSprop):
        variable, optimizer = keras.Variable(np.zeros(2, np.float32)), kind(0.001)
        optimizer.build([variable])
        for gradient in gradients:
            optimizer.apply_gradients([(keras.ops.convert_to_tensor(gradient), variable)])
        found[kind] = np.asarray(variable)
    value, square = np.zeros(2), np.zeros(2)
    for gradient in gradients:
        square = 0.9 * square + 0.1 * gradient.astype(float) ** 2
        value -= 0.001 * gradient / (np.sqrt(square) + 1e-7)
    np.testing.assert_allclose(found[experiment.RMSprop2018], value, rtol=1e-4)
    assert np.abs(found[keras.optimizers.RMSprop][0]) < 1e-4 < np.abs(value[0])  # of the tiny gradients


@pytest.mark.parametrize("variant", experiment.VARIANTS)
def test_a_variant_changes_what_it_says(data, variant):
    found = load("data/inputs/tiny")
    gru = experiment.model_of(variant, found, units=3).layers[0]
    assert (gru.recurrent_activation is not keras.activations.sigmoid) == (
        variant in ("gates", "gates_reset", "all")
    )
    assert gru.reset_after == (variant not in ("reset", "gates_reset", "all"))
    plain = build("reversed_gru", found, {"units": 3}).layers[0].get_config()
    assert (gru.go_backwards, gru.units) == (plain["go_backwards"], plain["units"])


@pytest.mark.slow
def test_as_it_is_equals_the_pipeline_and_nothing_is_trained_twice(data, capsys):
    experiment.main()
    printed = capsys.readouterr().out
    assert "| as it is: Keras 3 | 1 | " in printed and "| all three: Keras of 2018 | 1 | " in printed
    files = sorted(path.name for path in Path("data/reversed_gru").iterdir())
    assert files == ["all.1.json", "as_is.1.json"] and not list(Path(".resume").iterdir())
    history = json.loads(Path("data/reversed_gru/as_is.1.json").read_text())["history"]
    train("reversed_gru")
    rows = Path("data/models/forecast/reversed_gru/history.csv").read_text().splitlines()[1:]
    assert [[float(value) for value in row.split(",")] for row in rows] == [list(row.values()) for row in history]
    capsys.readouterr()
    experiment.main()
    assert "reversed_gru.as_is" not in capsys.readouterr().out
