"""Metrics against plain numpy and Keras, and the files of the stage."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest

from stages import evaluate as stage
from stages.inputs import inputs
from stages.lib.errors import UserError
from stages.lib.nn.outputs import write_outputs
from stages.lib.scoring.forecast.scores import mean_absolute_error, naive_forecast, score_splits
from stages.lib.scoring.reviews.scores import score_reviews
from stages.lib.windows.input_set import Inputs, Meta, Split, Windows, load_input_set, save_input_set
from stages.train import train

ROOT = Path(__file__).parents[1]
COLUMNS = ["p (mbar)", "T (degC)"]


def make_forecasts(mean=9.0, std=7.0):
    """An input set for forecasts, windows of 3 rows, and made-up outputs for validation and test."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(20, 2)).astype(np.float32)

    def split(count):
        starts = random.integers(0, 18, count).astype(np.int32)
        targets = random.normal(size=count).astype(np.float32)
        return Split(Windows(rows, starts, 3), targets, np.arange(count).astype("M8[s]"))

    meta = Meta(time=3, columns=COLUMNS, target=1, mean=mean, std=std)
    made = Inputs(rows, meta, split(4), split(6), split(9))
    return made, {"val": made.val.targets + np.float32(0.25), "test": random.normal(size=9).astype(np.float32)}


def test_mae_is_summed_in_float64():
    targets = np.full(300_000, 0.1, np.float32)
    assert mean_absolute_error(targets, np.zeros_like(targets)) == pytest.approx(float(np.float32(0.1)), rel=1e-12)
    assert mean_absolute_error(np.float32([1, 2]), np.float32([2, 4])) == 1.5


def test_naive_is_the_last_value_of_the_target():
    made, _ = make_forecasts()
    np.testing.assert_array_equal(naive_forecast(made.test, 1), made.test.windows[:][:, -1, 1])


def test_forecast_metrics():
    made, outputs = make_forecasts()
    scores = score_splits(made, outputs)
    assert list(scores) == [f"{s}_{m}" for s in ("val", "test") for m in ("mae", "mae_degc", "skill")]
    for name, output in outputs.items():
        split = getattr(made, name)
        error = np.mean(np.abs(split.targets.astype(float) - output.astype(float)))
        last = np.mean(np.abs(split.targets.astype(float) - split.windows[:][:, -1, 1].astype(float)))
        assert scores[f"{name}_mae"] == pytest.approx(error, rel=1e-12)
        assert scores[f"{name}_mae_degc"] == pytest.approx(error * 7, rel=1e-12)
        assert scores[f"{name}_skill"] == pytest.approx(1 - error / last, rel=1e-9)
    assert scores["val_mae"] == pytest.approx(0.25, rel=1e-6)


def test_skill_of_naive_is_zero_of_the_truth_one_and_undefined_where_naive_is_perfect():
    made, _ = make_forecasts()
    last = score_splits(made, {name: naive_forecast(getattr(made, name), 1) for name in ("val", "test")})
    assert (last["val_skill"], last["test_skill"]) == (0, 0)
    truth = score_splits(made, {"val": made.val.targets, "test": made.test.targets})
    assert (truth["val_skill"], truth["test_skill"], truth["test_mae_degc"]) == (1, 1, 0)
    made.val.targets[:] = naive_forecast(made.val, 1)
    with pytest.raises(UserError, match=r"split\.val: .* constant in the val windows"):
        score_splits(made, {"val": made.val.targets, "test": made.test.targets})


@pytest.mark.parametrize("logits", [False, True])
def test_review_metrics_equal_keras(logits):
    random = np.random.default_rng(1)
    rows = np.zeros(8, np.int16)
    splits = {}
    for name, count in (("train", 2), ("val", 50), ("test", 30)):
        labels = random.integers(0, 2, count).astype(np.float32)
        splits[name] = Split(Windows(rows, np.zeros(count, np.int32), 4), labels, np.full(count, "NaT", "M8[s]"))
    made = Inputs(rows, Meta(time=4, words=9), **splits)
    outputs = {"val": random.normal(0, 3, 50), "test": random.normal(0, 3, 30)}
    outputs = {key: np.float32(x if logits else 1 / (1 + np.exp(-x))) for key, x in outputs.items()}
    scores = score_reviews(made, outputs, logits)
    assert sorted(scores) == ["test_accuracy", "val_accuracy", "val_loss"]
    for name, output in outputs.items():
        accuracy = keras.metrics.BinaryAccuracy(threshold=0.0 if logits else 0.5)
        accuracy.update_state(splits[name].targets[:, None], output[:, None])
        assert scores[f"{name}_accuracy"] == pytest.approx(float(accuracy.result()), rel=1e-6)
    y, p = splits["val"].targets.astype(float), outputs["val"].astype(float)
    p = 1 / (1 + np.exp(-p)) if logits else p
    assert scores["val_loss"] == pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)), rel=1e-4)


@pytest.fixture
def data(weather):
    """A working directory with the input set `tiny`."""
    inputs("tiny")
    return weather


def test_naive_from_training_to_the_metrics(data, capsys):
    train("naive")
    stage.evaluate("naive")
    folder = Path("data/evaluations/forecast/naive")
    text = Path("metrics/forecast/naive.json").read_text()
    assert [path.name for path in folder.iterdir()] == ["forecast.parquet"]
    assert "naive: val_mae " in capsys.readouterr().out
    scores = json.loads(text)
    assert [scores[key] for key in ("val_skill", "test_skill", "best_epoch", "epochs", "parameters")] == [0] * 5
    rows, delay = data.rows[:, 1], 4  # the last input lies one step of 2 rows before the row of the forecast
    test = np.arange(181 + 16, 300 - delay - 1)
    error = np.abs(rows[test + delay] - rows[test - 2]).mean()
    assert scores["test_mae_degc"] == pytest.approx(error, rel=1e-5)

    table = pq.read_table(folder / "forecast.parquet")
    assert table.column_names == ["time", "truth", "forecast"]
    assert [str(kind) for kind in table.schema.types] == ["timestamp[ms]", "float", "float"]
    np.testing.assert_allclose(table["truth"].to_numpy(), rows[test + delay], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(table["forecast"].to_numpy(), rows[test - 2], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(table["time"].to_numpy().astype("M8[s]"), ((test + delay) * 600).astype("M8[s]"))


def test_a_trained_model_scores_as_its_best_epoch_did(data):
    train("dense")
    stage.evaluate("dense")
    scores = json.loads(Path("metrics/forecast/dense.json").read_text())
    with Path("data/models/forecast/dense/history.csv").open() as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    assert scores["val_mae"] == pytest.approx(min(losses), rel=1e-5)
    assert (scores["best_epoch"], scores["epochs"], scores["parameters"]) == (
        losses.index(min(losses)) + 1,
        2,
        79,
    )
    table = pq.read_table("data/evaluations/forecast/dense/forecast.parquet")
    error = np.abs(table["truth"].to_numpy() - table["forecast"].to_numpy()).mean()
    assert scores["test_mae_degc"] == pytest.approx(error, rel=1e-4)
    first = Path("data/evaluations/forecast/dense/forecast.parquet").read_bytes()
    stage.evaluate("dense")
    assert Path("data/evaluations/forecast/dense/forecast.parquet").read_bytes() == first


def test_outputs_of_other_windows_are_refused(data):
    train("naive")
    path = Path("data/models/forecast/naive/outputs.npz")
    with np.load(path) as archive:
        outputs = dict(archive)
    count = len(outputs["test"])
    write_outputs(path.parent, outputs | {"test": outputs["test"][1:]})
    message = rf"expected outputs for {count} test windows, found {count - 1}; make it again"
    with pytest.raises(UserError, match=message):
        stage.evaluate("naive")
    assert not Path("metrics").exists()


def test_the_evaluation_of_a_notebooks_model_needs_no_tensorflow(data):
    train("naive")
    code = "import sys; from stages.evaluate import evaluate; evaluate('naive'); sys.exit('keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_reviews_from_training_to_the_metrics(data):
    random = np.random.default_rng(2)
    labels = random.integers(0, 2, 60)
    rows = (random.integers(4, 10, (60, 30)) + 10 * labels[:, None]).astype(np.int16)  # words tell the label
    starts = np.arange(60) * 30
    bounds = {"train": slice(0, 30), "val": slice(30, 40), "test": slice(40, 60)}
    splits = {name: (starts[part], labels[part], None) for name, part in bounds.items()}
    save_input_set(Path("data/inputs/texts"), rows.ravel(), splits, Meta(time=30, words=30))
    task = {"loss": "binary_crossentropy", "metric": "accuracy", "monitor": "val_accuracy", "steps_per_epoch": None}
    data.write_params("tasks", "reviews", **task)
    line = {"architecture": "imdb_conv1d", "task": "reviews", "inputs": "texts"}
    line |= {"epochs": 2, "learning_rate": 0.05, "logits": True}
    data.write_params("models", "imdb_conv1d", **line, embedding=4, filters=4, kernel=3, pool=2)
    train("imdb_conv1d")
    stage.evaluate("imdb_conv1d")
    scores = json.loads(Path("metrics/reviews/imdb_conv1d.json").read_text())
    with Path("data/models/reviews/imdb_conv1d/history.csv").open() as file:
        best = list(csv.DictReader(file))[scores["best_epoch"] - 1]
    assert list(best) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert scores["val_accuracy"] == pytest.approx(float(best["val_accuracy"]))
    assert scores["val_loss"] == pytest.approx(float(best["val_loss"]), rel=1e-4)
    table = pq.read_table("data/evaluations/reviews/imdb_conv1d/forecast.parquet")
    assert table.column_names == ["truth", "forecast"]
    assert table["truth"].to_numpy().tolist() == labels[40:].tolist()
    assert ((table["forecast"].to_numpy() > 0) == labels[40:]).mean() == pytest.approx(scores["test_accuracy"])
    assert load_input_set("data/inputs/texts").meta.unit is None


def test_a_model_that_is_not_trained(data):
    with pytest.raises(UserError, match=r"data/models/forecast/dense/model\.json: not found"):
        stage.evaluate("dense")
    assert not Path("metrics").exists()
