"""The station's task: references in closed form, the loss, calibration and verification, against plain versions."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.lib.errors import UserError
from stages.lib.nn import exporting, fitting
from stages.lib.nn.batches import predict_in_batches
from stages.lib.reports import station as report
from stages.lib.scoring.station import scores as scoring
from stages.lib.tasks.station import calibration, features, margins, quantiles, references, training
from stages.lib.tasks.station.persistence import forecast_persistence
from stages.lib.windows.input_set import Inputs, Meta, Split, Windows
from stages.models import climatology, damped_persistence, persistence, ridge, station_gru, station_mlp

LOOKBACK, LEADS, HOURS = 48, 30, 1200
TRAINING = {"inputs": "station", "seed": 1, "batch_size": 64, "steps_per_epoch": 2, "learning_rate": 0.01}
TRAINING |= {
    "architecture": "station_mlp",
    "weight_decay": 0.0,
    "average_from": None,
    "loss": "pinball",
    "monitor": "val_loss",
}
SCHEDULE = {"seed": 1, "members": 2}
GRU = {"hours": 2, "units": 3, "dense": 4, "bins": 3, "curves": 2, "noise": 0.1}
GRU |= {"dropout": 0.1, "recurrent_dropout": 0.1}
MLP = {"units": 4, "bins": 3, "curves": 2, "noise": 0.1, "dropout": 0.1}
COLUMNS = ["p (mbar)", "T (degC)", "hour of day (h)", "day of year (d)"]


def make_station_inputs(missing: float = 0.05) -> Inputs:
    """Fifty days of a daily cycle and weather; some targets were not measured."""
    random = np.random.default_rng(7)
    hour = np.arange(HOURS)
    weather = np.cumsum(random.normal(0, 0.4, HOURS)) * 0.9
    temperature = 8 + 5 * np.cos(2 * np.pi * (hour - 14) / 24) + weather
    pressure = 990 + weather + random.normal(0, 1, HOURS)
    rows = np.column_stack([pressure, temperature, hour % 24, 1 + hour / 24]).astype(np.float32)
    measured = np.where(random.random(HOURS) < missing, np.nan, temperature).astype(np.float32)
    meta = Meta(time=LOOKBACK, columns=COLUMNS, target=1, leads=LEADS, every=1)

    def split(first: int, last: int) -> Split:
        starts = np.arange(first, last - LOOKBACK - LEADS + 1, dtype=np.int32)
        targets = np.stack([measured[start + LOOKBACK : start + LOOKBACK + LEADS] for start in starts])
        times = np.datetime64("2009-01-01T00:00:00") + (starts + LOOKBACK - 1).astype("timedelta64[h]")
        return Split(Windows(rows, starts, LOOKBACK), targets, times.astype("datetime64[s]"))

    return Inputs(rows, meta, split(0, 700), split(700, 950), split(950, HOURS))


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return make_station_inputs()


# --- Features -----------------------------------------------------------------------------


def test_training_rows_are_those_that_training_windows_look_at(inputs):
    seen = sorted({row for start in inputs.train.windows.starts for row in range(start, start + LOOKBACK)})
    np.testing.assert_array_equal(features.select_training_rows(inputs), inputs.rows[seen])


@given(hour=st.floats(0, 24), day=st.floats(1, 366))
def test_harmonics_are_waves_of_the_day_and_the_year_and_their_products(hour, day):
    daily = [f(k * hour * 2 * np.pi / 24) for k in (1, 2) for f in (np.sin, np.cos)]
    yearly = [f(k * day * 2 * np.pi / 365.25) for k in (1, 2) for f in (np.sin, np.cos)]
    expected = daily + yearly + [a * b for a in daily for b in yearly]
    result = features.calendar_harmonics(np.array([[hour]], "float32"), np.array([[day]], "float32"))
    np.testing.assert_allclose(np.asarray(result)[0], expected, atol=1e-4)


def test_persistence_is_the_last_value_at_the_same_hour(inputs):
    result = predict_in_batches(references.build_persistence(inputs), inputs, inputs.val)
    np.testing.assert_array_equal(forecast_persistence(inputs.val, inputs.meta), result[:, :, 1])
    for window in (0, 17, len(result) - 1):
        origin = inputs.val.windows.starts[window] + LOOKBACK - 1
        for lead in range(1, LEADS + 1):
            row = origin + lead
            while row > origin:
                row -= 24
            assert (result[window, lead - 1] == inputs.rows[row, 1]).all()


def predict_persistence(inputs: Inputs) -> dict[str, np.ndarray]:
    model = references.build_persistence(inputs)
    return {name: predict_in_batches(model, inputs, getattr(inputs, name)) for name in ("val", "test")}


def refuse(_: Split) -> np.ndarray:
    """Stand for a model whose importances are not asked for, as it reads no other record."""
    return pytest.fail("expected no further forecast")


def test_persistence_and_the_headline_of_rows_three_hours_apart(inputs):
    every = replace(inputs, meta=replace(inputs.meta, every=3))
    outputs = predict_persistence(every)
    np.testing.assert_array_equal(forecast_persistence(every.val, every.meta), outputs["val"][:, :, 1])
    for lead in range(1, LEADS + 1):
        row = inputs.val.windows.starts + LOOKBACK - 1 + lead - 8 * -(-lead // 8)  # eight rows a day
        assert (outputs["val"][:, lead - 1, 1] == inputs.rows[row, 1]).all()
    metrics, tables = scoring.score_outputs(outputs, every, refuse)
    error = abs(inputs.test.targets[:, 7] - outputs["test"][:, 7, 1])
    assert metrics["test_mae_degc_24h"] == pytest.approx(np.nanmean(error), rel=1e-6)
    assert list(tables["by_lead"]["lead"]) == list(range(3, 3 * LEADS + 1, 3))


def test_a_regression_finds_the_weights_that_made_the_targets(inputs):
    window = features.make_window(inputs)
    last = window.past[:, -1]
    predictors, base = last[:, :2] / 100, keras.ops.repeat(last[:, 1:2], LEADS, axis=1)
    weights = np.random.default_rng(0).normal(size=(2, LEADS))
    split = inputs.train
    last = inputs.rows[split.windows.starts + LOOKBACK - 1].astype(np.float64)
    targets = last[:, :2] / 100 @ weights + last[:, 1:2]
    targets[3, 5] = np.nan
    hour = (split.windows.starts[:, None] + LOOKBACK + np.arange(LEADS)) % 24
    for measured in (targets, np.where(hour == 7, np.nan, targets)):  # of the latter, no window is complete
        made = Inputs(inputs.rows, inputs.meta, split._replace(targets=measured), inputs.val, inputs.test)
        result = references.fit_ridge(window, predictors, base, made, 0.0)
        np.testing.assert_allclose(result, weights, atol=1e-3)


@pytest.mark.parametrize("module", [climatology, damped_persistence])
def test_a_reference_beats_a_constant(inputs, module):
    result = predict_in_batches(module.build(inputs), inputs, inputs.train)[:, :, 1]
    error = np.nanmean(abs(inputs.train.targets - result))
    assert error < np.nanmean(abs(inputs.train.targets - np.nanmean(inputs.train.targets)))


def test_ridge_beats_persistence_on_training(inputs):
    ridge, persistence = (
        np.nanmean(abs(inputs.train.targets - predict_in_batches(build(inputs), inputs, inputs.train)[:, :, 1]))
        for build in (references.build_ridge, references.build_persistence)
    )
    assert ridge < 0.9 * persistence


def test_differences_are_those_of_a_plain_loop(inputs):
    def plain(values: np.ndarray) -> np.ndarray:
        now, result = values[-1, :2], [values[-1, :2]]
        result += [now - values[-1 - lag, :2] for lag in (1, 3, 6, 12, 24)]
        result += [now - f(values[-span:, :2], axis=0) for span in (24, 48) for f in (np.mean, np.max, np.min)]
        return np.concatenate(result)

    window = features.make_window(inputs)
    model = features.make_model(window, features.difference_features(window, inputs)[0])
    result = predict_in_batches(model, inputs, inputs.val)
    seen, expected = (
        np.array([plain(values.astype(np.float64)) for values in split.windows[:]])
        for split in (inputs.train, inputs.val)
    )
    expected = np.clip((expected - seen.mean(axis=0)) / seen.std(axis=0), -5, 5)
    np.testing.assert_allclose(result[:, : expected.shape[1]], expected, atol=1e-3)
    assert result.shape[1] == expected.shape[1] + features.HARMONICS


def test_the_climatology_at_a_lead_is_that_of_the_later_hour(inputs):
    window = features.make_window(inputs)
    normal = features.make_model(window, features.climatological_normal(window, inputs, [0, 7]))
    result = predict_in_batches(normal, inputs, inputs.val)  # of windows an hour apart
    np.testing.assert_allclose(result[:-7, 1], result[7:, 0], atol=1e-2)


# --- Training ----------------------------------------------------------------------------------------


def test_a_member_is_the_model_that_its_seed_alone_trains(inputs, root):
    """Members are trained in the variables of the first; the second must not notice."""
    Path("data/inputs/station").mkdir(parents=True)
    schedule = TRAINING | MLP | {"epochs": 2, "average_from": 1, "members": 2}
    members, histories, run_names = fitting.fit_members("station_mlp", "x", inputs, schedule, training)
    single = schedule | {"seed": 2, "members": 1}
    (second,), (history,), _ = fitting.fit_members("station_mlp", "y", inputs, single, training)
    assert run_names == ["x.1", "x.2"] and histories[0] != histories[1] == history
    weights = [np.concatenate([w.ravel() for w in model.get_weights()]) for model in (*members, second)]
    assert (weights[0] != weights[1]).any() and (weights[1] == weights[2]).all()


@given(
    truth=arrays(np.float32, (3, 2), elements=st.one_of(st.floats(-40, 40, width=32), st.just(np.nan))),
    output=arrays(np.float32, (3, 2, 3), elements=st.floats(-40, 40, width=32)),
)
def test_the_loss_is_the_pinball_loss_of_what_was_measured(truth, output):
    weights = np.array([0.5, 1.5], np.float32)
    result = np.asarray(quantiles.make_pinball_loss(weights)(truth, output))
    for window in range(3):
        total = 0.0
        for lead in range(2):
            for k, (level, weight) in enumerate(((0.1, quantiles.OUTER), (0.5, 1), (0.9, quantiles.OUTER))):
                if not np.isnan(truth[window, lead]):
                    error = float(truth[window, lead]) - float(output[window, lead, k])
                    total += weight * weights[lead] * (level * error if error > 0 else (level - 1) * error)
        np.testing.assert_allclose(result[window], 2 * total / 6, rtol=1e-4, atol=1e-4)


# --- Calibration -------------------------------------------------------------------------------------


@given(st.data())
def test_margins_hold_what_the_quantiles_promise_and_no_more(data):
    count = data.draw(st.integers(12, 60))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    targets = random.normal(size=(count, 2))
    outputs = np.sort(random.normal(size=(count, 2, 3)), axis=2)
    targets[: data.draw(st.integers(0, 2)), 0] = np.nan
    low, high = margins.conformal_margins(targets, outputs)
    for lead in range(2):
        measured = np.isfinite(targets[:, lead])
        n = measured.sum()
        below = (targets[measured, lead] < outputs[measured, lead, 0] - low[lead] - 1e-9).sum()
        above = (targets[measured, lead] > outputs[measured, lead, 2] + high[lead] + 1e-9).sum()
        outside = n - min(n, int(np.ceil((n + 1) * 0.9 - 1e-9)))
        assert below <= outside and above <= outside
        assert max(below, above) >= outside - 1


@given(arrays(np.float64, st.integers(1, 9), elements=st.floats(0, 9)))
def test_smoothing_takes_twice_the_mean_of_a_lead_and_its_neighbours(widths):
    plain = list(widths)
    for _ in range(2):
        padded = [plain[0], *plain, plain[-1]]
        plain = [(a + 2 * b + c) / 4 for a, b, c in zip(padded, padded[1:], padded[2:], strict=False)]
    np.testing.assert_allclose(widths @ margins.make_smoothing_matrix(len(widths)), plain, atol=1e-12)
    outputs = np.stack([5 - widths, np.full(len(widths), 5.0), 5 + 2 * widths], -1)[None].astype(np.float32)
    smooth = np.asarray(calibration.smooth_widths(outputs, len(widths)))[0]
    np.testing.assert_allclose(smooth[:, 1] - smooth[:, 0], plain, atol=1e-5)
    np.testing.assert_allclose(smooth[:, 2] - smooth[:, 1], 2 * np.array(plain), atol=1e-5)
    assert (smooth[:, 1] == 5).all()


@pytest.mark.slow
def test_a_model_file_is_all_that_another_program_needs(inputs, tmp_path):
    expected = [save_model(inputs, tmp_path, *kind) for kind in ((station_mlp, MLP), (station_gru, GRU))]
    np.save(tmp_path / "window.npy", inputs.val.windows[:3])
    code = (
        "import sys, keras, numpy as np\n"
        "for name in ('station_mlp', 'station_gru'):\n"
        "    model = keras.models.load_model(name + '.keras')\n"
        "    np.save(name + '.npy', model.predict(np.load('window.npy'), verbose=0))\n"
        "assert not any(name.startswith('stages') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True)
    for name, outputs in zip(("station_mlp", "station_gru"), expected, strict=True):
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), outputs[:3], rtol=1e-4, atol=1e-3)


def save_model(inputs, folder, module, options) -> np.ndarray:
    """Save a model of two members, whose validation forecasts are ordered and calibrated; return these."""
    members = [module.build(inputs, **options) for _ in range(2)]
    model, description = training.finish_model("demo", members, inputs, SCHEDULE)
    result = predict_in_batches(model, inputs, inputs.val)
    assert (np.diff(result, axis=2) >= 0).all()
    mean = np.mean([predict_in_batches(member, inputs, inputs.val) for member in members], axis=0)
    np.testing.assert_allclose(result[:, :, 1], mean[:, :, 1], atol=1e-4)
    assert np.nanmean(inputs.val.targets < result[:, :, 0]) <= 0.1
    assert np.nanmean(inputs.val.targets > result[:, :, 2]) <= 0.1
    assert abs(result[:, 0, 1] - inputs.rows[inputs.val.windows.starts + LOOKBACK - 1, 1]).max() < 30  # degC
    assert description["columns"] == COLUMNS and len(description["validation_mae"]) == LEADS

    model.save(folder / f"{module.__name__.split('.')[-1]}.keras")
    return result


@pytest.mark.parametrize(
    ("module", "options"),
    [(module, {}) for module in (persistence, damped_persistence, climatology, ridge)]
    + [
        pytest.param(module, options, marks=pytest.mark.slow)
        for module, options in ((station_mlp, MLP), (station_gru, GRU))
    ],
    ids=lambda value: value.__name__.split(".")[-1] if hasattr(value, "__name__") else "",
)
def test_the_onnx_file_gives_the_forecasts_of_the_keras_file(inputs, tmp_path, module, options):
    """On every lead, for every size of a batch; and its bytes are those of the next conversion."""
    members = [module.build(inputs, **options) for _ in range(2 if module is station_mlp else 1)]
    model, _ = training.finish_model("demo", members, inputs, SCHEDULE)
    model.save(tmp_path / "model.keras")
    for name in ("first.onnx", "second.onnx"):
        exporting.convert_model(tmp_path / "model.keras", tmp_path / name)
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
    session = onnxruntime.InferenceSession(tmp_path / "first.onnx")
    assert [value.name for value in session.get_inputs()] == ["past"]
    assert [value.name for value in session.get_outputs()] == ["quantiles"]
    windows = inputs.val.windows[:]
    expected = predict_in_batches(model, inputs, inputs.val)
    for size in (1, 7, len(windows)):
        (outputs,) = session.run(None, {"past": windows[:size]})
        np.testing.assert_allclose(outputs, expected[:size], rtol=0, atol=1e-4)


def test_an_onnx_file_has_the_names_of_all_inputs(tmp_path):
    past, ahead = keras.Input((24, 5), name="past"), keras.Input((6, 2), name="ahead")
    normalized = keras.layers.Normalization(mean=[1.0] * 5, variance=[2.0] * 5)(past)
    features = keras.layers.Concatenate()([keras.layers.Flatten()(part) for part in (normalized, ahead)])
    model = keras.Model({"past": past, "ahead": ahead}, keras.layers.Dense(6)(features))
    model.save(tmp_path / "model.keras")
    exporting.convert_model(tmp_path / "model.keras", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    random = np.random.default_rng(0)
    arrays = {
        name: random.normal(size=(4, *size)).astype("f4") for name, size in (("past", (24, 5)), ("ahead", (6, 2)))
    }
    (outputs,) = session.run(None, arrays)
    np.testing.assert_allclose(outputs, model(arrays), atol=1e-5)


@pytest.mark.parametrize("device", ["cpu:0", "gpu:0"])
def test_a_model_that_cannot_be_exported_is_refused_in_one_sentence(tmp_path, root, monkeypatch, device):
    monkeypatch.setattr(exporting, "get_device", lambda: device)
    (tmp_path / "model.keras").write_bytes(b"cut off")
    with pytest.raises(
        UserError, match=r"^model\.onnx: this model cannot be converted to ONNX \(.*\); use other layers[^\n]*$"
    ):
        exporting.export_model(tmp_path / "model.keras", tmp_path / "model.onnx")


def test_pieces_are_the_part_of_every_bin_that_a_value_is_above(inputs):
    window = features.make_window(inputs)
    values = inputs.train.windows[:][:, -1]
    encoding = features.piecewise_linear_encoding(window.past[:, -1], values, 3)
    result = predict_in_batches(features.make_model(window, encoding), inputs, inputs.val)
    for row, last in zip(result, inputs.val.windows[:][:, -1], strict=True):
        for column, value in enumerate(last):
            edges = [np.quantile(values[:, column], part) for part in (0, 1 / 3, 2 / 3, 1)]
            plain = [(value - low) / (high - low) for low, high in pairwise(edges)]
            mine = row.reshape(3, -1)[:, column]
            np.testing.assert_allclose(mine, np.clip(plain, 0, 1), atol=1e-4)


def test_a_training_of_another_length_does_not_continue(inputs, root, capsys):
    """Its learning rate falls towards the last epoch, so that every epoch of it is another."""
    Path("data/inputs/station").mkdir(parents=True)

    def fit(epochs: int) -> str:
        model = station_mlp.build(inputs, **MLP)
        schedule = TRAINING | {"epochs": epochs}
        learner = fitting.make_learner(model, inputs, schedule, training)
        fitting.fit_model("mlp", model, learner, inputs, schedule)
        return capsys.readouterr().out

    assert "ignored" not in fit(1)
    assert "ignored, settings, data, code or machine have changed since" in fit(2)
    assert "resuming after epoch 2" in fit(2)


@pytest.mark.parametrize("steps", [None, 3, 300])
def test_the_learning_rate_falls_to_its_floor_with_the_last_epoch(inputs, steps):
    model = station_mlp.build(inputs, **MLP)
    schedule = {"epochs": 4, "batch_size": 64, "steps_per_epoch": steps, "learning_rate": 0.01}
    training.compile_for_training(model, model, inputs, schedule | {"weight_decay": 0.0})
    rate = model.optimizer.get_config()["learning_rate"]["config"]
    each = steps or -(-len(inputs.train.windows) // 64)
    assert rate["warmup_steps"] + rate["decay_steps"] == 4 * each and rate["alpha"] == training.FLOOR


# --- Verification ------------------------------------------------------------------------------------


def test_cells_and_summary_are_the_scores_of_what_was_measured(inputs):
    random = np.random.default_rng(3)
    split, few = inputs.test, slice(0, 40)
    targets = split.targets[few]
    outputs = np.sort(np.nan_to_num(targets)[:, :, None] + random.normal(size=(40, LEADS, 3)), axis=2)
    frame = scoring.score_each_forecast(targets, outputs, split._replace(times=split.times[few]), 1)
    assert len(frame) == np.isfinite(targets).sum()
    result = scoring.average_scores(frame.groupby("lead"))
    for lead in (1, 24, LEADS):
        truth, low, median, high = (targets[:, lead - 1], *(outputs[:, lead - 1, k] for k in range(3)))
        kept = [k for k in range(40) if not np.isnan(truth[k])]
        error = [median[k] - truth[k] for k in kept]
        pinball = [
            max(level * (truth[k] - quantile[k]), (level - 1) * (truth[k] - quantile[k]))
            for k in kept
            for level, quantile in ((0.1, low), (0.5, median), (0.9, high))
        ]
        expected = {
            "bias": np.mean(error),
            "mae": np.mean(np.abs(error)),
            "rmse": np.mean(np.square(error)) ** 0.5,
            "pinball": np.mean(pinball),
            "coverage": np.mean([low[k] <= truth[k] <= high[k] for k in kept]),
            "width": np.mean([high[k] - low[k] for k in kept]),
            "n": len(kept),
        }
        for name, value in expected.items():
            assert result.loc[lead, name] == pytest.approx(value), name
    measured = np.isfinite(targets[:, 23])
    valid = split.times[few][measured] + np.timedelta64(24, "h")
    assert frame[frame["lead"] == 24]["valid"].tolist() == list(pd.DatetimeIndex(valid))


def test_scores_against_the_references(inputs):
    outputs = predict_persistence(inputs)
    metrics, tables = scoring.score_outputs(outputs, inputs, refuse)
    assert metrics["test_skill_24h"] == metrics["val_skill_24h"] == metrics["test_skill"] == 0
    error = abs(inputs.test.targets[:, 23] - outputs["test"][:, 23, 1])
    assert metrics["test_mae_degc_24h"] == pytest.approx(np.nanmean(error), rel=1e-6)
    assert list(tables["by_lead"]["lead"]) == list(range(1, LEADS + 1))
    count = np.isfinite(error).sum()
    assert tables["by_hour"]["n"].sum() == tables["by_month"]["n"].sum() == count
    assert json.dumps(metrics)
    assert len(tables["forecast"]) == inputs.test.targets.size


@pytest.mark.parametrize(
    ("shift", "says"), [(0.5, "beats"), (-0.5, "loses to"), (0.001, "does not differ significantly from")]
)
def test_a_verdict_says_the_same_from_the_other_side(shift, says):
    random = np.random.default_rng(1)
    origins = pd.date_range("2016-01-01", periods=2400, freq="h")
    own, other = (pd.Series(2 + random.random(2400), origins) for _ in range(2))
    other += shift
    text = report.format_verdict("mine", "ridge", report.compare_errors(own, other, 24, 1), 24, "degC")
    assert text.startswith(f"At 24 hours `mine` {says} ridge: its MAE is ")
    low, high = map(float, re.search(r"interval (\S+) to (\S+),", text).groups())
    assert low <= abs((other - own).mean()) <= high
    mirrored = report.format_verdict("mine", "ridge", report.compare_errors(other, own, 24, 1), 24, "degC")
    swapped = {"beats": "loses to", "loses to": "beats", "lower": "higher", "higher": "lower"}
    words = r"beats|loses to|lower|higher"
    assert re.findall(words, mirrored) == [swapped[word] for word in re.findall(words, text)]
    numbers = [[float(number) for number in re.findall(r"\d+\.\d+", result)] for result in (text, mirrored)]
    np.testing.assert_allclose(*numbers, atol=0.002)
