"""Training: its draws, its bytes, and that a stopped training ends as one that was not stopped."""

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import stages.models
from stages import train as stage
from stages.evaluate import evaluate
from stages.inputs import inputs
from stages.lib.errors import UserError
from stages.lib.nn import fitting
from stages.lib.nn.history import find_best_epoch
from stages.lib.windows.input_set import load_input_set


@pytest.fixture
def data(weather):
    """A working directory with the input set `tiny`."""
    inputs("tiny")
    return weather


def train_and_read(name):
    """Train as a new process would, whose layers are named from the beginning; return the files' bytes."""
    keras.utils.clear_session()
    stage.train(name)
    folder = Path("data/models/forecast", name)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def train_until(name, monkeypatch, after):
    """Train until the checkpoint of epoch `after` is written."""

    def describe(_name, history, *_):
        if len(history) == after:
            raise KeyboardInterrupt
        return ""

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fitting, "format_epoch", describe)
        train_and_read(name)
    assert not Path("data/models").exists()
    assert [path.name for path in Path(".resume").iterdir()] == [f"{name}.npz"]


# --- Building ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "options", "expected"),
    [
        ("dense", {"units": 3, "unit": 4}, ["models.mine", "'unit'", "stages/models/dense.py takes units"]),
        ("dense", {}, ["models.mine", "'units'", "takes units"]),
        ("gru_dropout", {"units": 3}, ["models.mine", "takes units, dropout, recurrent_dropout"]),
        ("dense", {"units": -1}, ["models.mine", "Keras rejects these settings"]),
        ("stacked_gru", {"units": [3], "dropout": 0.0, "recurrent_dropout": 0.0}, ["models.mine"]),
        ("stacked_gru", {"units": 3, "dropout": 0.0, "recurrent_dropout": 0.0}, ["models.mine"]),
        ("transformer", {}, ["models.mine.architecture: expected a file stages/models/transformer.py"]),
    ],
)
def test_build_names_what_is_wrong(data, architecture, options, expected):
    with pytest.raises(UserError) as raised:
        fitting.build_model("mine", architecture, load_input_set("data/inputs/tiny"), options)
    for text in ["params.yaml: ", *expected]:
        assert text in str(raised.value), str(raised.value)


def test_a_failing_import_of_a_model_is_no_missing_file(data, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.setattr(stages.models, "__path__", [str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        fitting.build_model("any", "broken", load_input_set("data/inputs/tiny"), {})


# --- Draws and choices ---------------------------------------------------------------------------


@given(st.integers(1, 50), st.integers(0, 9), st.integers(0, 2**40), st.integers(1, 6), st.integers(1, 8))
def test_draw(windows, epoch, seed, steps, batch):
    schedule = {"seed": seed, "steps_per_epoch": steps, "batch_size": batch}
    result = fitting.sample_windows(windows, epoch, schedule)
    assert len(result) == steps * batch and result.min() >= 0 and result.max() < windows
    np.testing.assert_array_equal(result, fitting.sample_windows(windows, epoch, schedule | {"units": 3}))
    whole = fitting.sample_windows(windows, epoch, schedule | {"steps_per_epoch": None})
    assert sorted(whole.tolist()) == list(range(windows))


def test_draws_differ_between_epochs_and_seeds_and_reach_every_window():
    schedules = [{"seed": seed, "steps_per_epoch": 500, "batch_size": 4} for seed in range(3)]
    draws = [tuple(fitting.sample_windows(100, epoch, schedule)) for epoch in range(3) for schedule in schedules]
    assert len(set(draws)) == 9
    assert all(set(indices) == set(range(100)) for indices in draws)


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("val_loss", [3, 1, 2], 1),
        ("val_loss", [2, 1, 1], 1),
        ("loss", [1, 1], 0),
        ("val_accuracy", [0.5, 0.75, 0.75], 1),
        ("accuracy", [0.9, 0.8], 0),
    ],
)
def test_best_epoch_is_the_first_of_the_best(monitor, values, best):
    history = [{monitor: value, "row": row} for row, value in enumerate(values)]
    assert find_best_epoch(history, monitor)["row"] == best


# --- Files ---------------------------------------------------------------------------------------


def test_save_model_depends_on_the_model_alone(tmp_path):
    def saved(name, seed=3):
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        regularizer = keras.regularizers.L2(0.1)  # an object that occurs more than once
        hidden = [layers.Dense(3, kernel_regularizer=regularizer), layers.Dense(2, kernel_regularizer=regularizer)]
        model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5), *hidden])
        stage.save_model(model, tmp_path / name)
        return model, (tmp_path / name).read_bytes()

    (model, first), (_, second), (_, third) = saved("a.keras"), saved("b.keras"), saved("c.keras", seed=4)
    assert first == second != third
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras", "c.keras"]
    x = np.ones((2, 4), np.float32)
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(model(x)))
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        assert all(entry.date_time == (1980, 1, 1, 0, 0, 0) for entry in archive.infolist())


# --- Training ------------------------------------------------------------------------------------


@pytest.fixture
def dropout(data, tmp_path, monkeypatch):
    """A model `dropout` that draws masks at random in every step; a GRU's take seconds to compile."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "dropout.py").write_text(
        "import keras\n"
        "from keras import layers\n"
        "def build(inputs):\n"
        "    parts = [layers.Flatten(), layers.Dropout(0.5), layers.Dense(1)]\n"
        "    return keras.Sequential([keras.Input(inputs.shape), *parts])\n"
    )
    monkeypatch.setattr(stages.models, "__path__", [*stages.models.__path__, str(folder)])
    data.write_params("models", "dropout", architecture="dropout", task="forecast", inputs="tiny", epochs=3)


@pytest.mark.parametrize("name", ["dropout", pytest.param("gru_dropout", marks=pytest.mark.slow)])
def test_a_stopped_training_ends_as_one_that_was_not(data, dropout, name, monkeypatch, capsys):
    straight = train_and_read(name)
    assert sorted(straight) == ["history.csv", "model.json", "model.keras", "outputs.npz"]
    assert straight["history.csv"].count(b"\n") == 4
    assert list(Path(".resume").iterdir()) == []
    Path("data/models").rename("straight")
    train_until(name, monkeypatch, after=2)
    assert train_and_read(name) == straight
    assert "resuming after epoch 2" in capsys.readouterr().out
    assert list(Path(".resume").iterdir()) == []


def test_same_seed_same_bytes_and_more_epochs_after_a_stop(data, monkeypatch, capsys):
    data.write_params("models", "dense", epochs=3)
    straight = train_and_read("dense")
    assert train_and_read("dense") == straight
    Path("data/models").rename("straight")
    data.write_params("models", "dense", epochs=2)
    train_until("dense", monkeypatch, after=1)
    train_until("dense", monkeypatch, after=2)
    assert "resuming after epoch 1" in capsys.readouterr().out
    data.write_params("models", "dense", epochs=3)
    assert train_and_read("dense") == straight
    assert "resuming after epoch 2" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["units", "inputs"])  # for all that counts see test_resume.py
def test_the_checkpoint_of_another_configuration_is_not_used(data, monkeypatch, capsys, change):
    train_until("dense", monkeypatch, after=1)
    if change == "units":
        data.write_params("models", "dense", units=4)
    else:
        data.write_record(data.rows + np.arange(300)[:, None], ["p (mbar)", "T (degC)", "wv (m/s)"])
        inputs("tiny")
    files = train_and_read("dense")
    assert "resuming" not in capsys.readouterr().out
    assert files["history.csv"].count(b"\n") == 3


def test_history_and_console(data, capsys):
    files = train_and_read("dense")
    rows = list(csv.DictReader(files["history.csv"].decode().splitlines()))
    assert list(rows[0]) == ["epoch", "loss", "val_loss", "loss_degc", "val_loss_degc"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    std = load_input_set("data/inputs/tiny").meta.std
    assert all(float(row["val_loss_degc"]) == float(row["val_loss"]) * std for row in rows)
    output = capsys.readouterr().out.splitlines()
    assert any(line.startswith("dense: 79 weights, 2 epochs, on ") for line in output)
    assert any(line.startswith("dense 2/2  loss ") and " degc  (best: epoch " in line for line in output)
    data.write_params("models", "dense", loss="mse", epochs=1)  # not in degrees
    header = b"epoch,loss,mean_absolute_error,val_loss,val_mean_absolute_error\n"
    assert train_and_read("dense")["history.csv"].startswith(header)


def test_a_model_without_epochs_is_saved_as_it_is(data):
    files = train_and_read("naive")
    assert files["history.csv"] == b"epoch,loss,val_loss,loss_degc,val_loss_degc\n"
    assert not Path(".resume").exists()


def test_the_weights_of_the_best_epoch_are_kept(data):
    data.write_params("models", "dense", epochs=4, learning_rate=0.5)
    files = train_and_read("dense")
    rows = list(csv.DictReader(files["history.csv"].decode().splitlines()))
    result = load_input_set("data/inputs/tiny")
    model = keras.models.load_model("data/models/forecast/dense/model.keras")
    error = np.abs(np.asarray(model(result.val.windows[:]))[:, 0] - result.val.targets).mean()
    assert error == pytest.approx(min(float(row["val_loss"]) for row in rows), rel=1e-5)


def test_from_average_from_on_the_mean_of_the_epochs_is_kept(data, monkeypatch):
    epochs, save = [], fitting.Checkpoint.save

    def noting(checkpoint, history, variables, best):
        epochs.append([np.array(variable) for variable in variables[: len(best)]])
        save(checkpoint, history, variables, best)

    monkeypatch.setattr(fitting, "find_best_epoch", lambda history, _: history[-1])
    data.write_params("models", "dense", epochs=4)
    with monkeypatch.context() as patch:
        patch.setattr(fitting.Checkpoint, "save", noting)
        train_and_read("dense")
    data.write_params("models", "dense", average_from=2)
    whole = train_and_read("dense")
    kept = keras.models.load_model("data/models/forecast/dense/model.keras").get_weights()
    for mean, *own in zip(kept, *epochs[1:], strict=True):
        np.testing.assert_allclose(mean, np.mean(own, axis=0), atol=1e-6)
    shutil.rmtree("data/models")
    train_until("dense", monkeypatch, after=3)
    assert train_and_read("dense") == whole


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"learning_rate": 1e38}, ["dense: epoch 1: the loss is not a number", "lower learning_rate"]),
        ({"metric": "mea"}, ["params.yaml: models.dense.metric: expected a metric, found 'mea'"]),
        ({"inputs": "hourly"}, ["data/inputs/hourly/meta.json: not found"]),
    ],
)
def test_a_training_that_cannot_be(data, change, expected):
    data.write_params("models", "dense", **change)
    with pytest.raises(UserError) as raised:
        stage.train("dense")
    for text in expected:
        assert text in str(raised.value), str(raised.value)
    assert not Path("data/models").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_trains_and_evaluates_on_jax(data):
    data.write_params("training", max_epochs=2)
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    code = "from stages import train, evaluate; train.train('gru_dropout'); evaluate.evaluate('gru_dropout')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 epochs, on cpu:0 with jax" in done.stdout
    assert "gru_dropout: val_mae" in done.stdout
    history = Path("data/models/forecast/gru_dropout/history.csv").read_text()
    rows = list(csv.DictReader(history.splitlines()))
    assert len(rows) == 2 and all(0 < float(row["val_loss"]) < 10 for row in rows)
    keras.models.load_model("data/models/forecast/gru_dropout/model.keras")


@pytest.mark.parametrize(
    ("task", "loss", "maker"),
    [("forecast", "mae", "inputs"), ("station", "pinball", "clock"), ("reviews", "mae", "tokens")],
)
def test_a_missing_input_set_is_named_with_the_stage_that_makes_it(weather, task, loss, maker):
    weather.write_params("tasks", task, loss=loss, metric=loss, monitor="val_loss")
    weather.write_params("models", "dense", task=task, inputs="absent")
    for command in (stage.train, evaluate):
        with pytest.raises(UserError, match=rf"not found; make it with `dvc repro {maker}@absent`"):
            command("dense")
