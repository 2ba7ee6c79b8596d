"""Neighbours and weather models in the station's models: features over what is there, references, importance."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from stages.lib.nn import exporting
from stages.lib.nn.batches import predict_in_batches
from stages.lib.reports import added_value
from stages.lib.scoring.station import importance
from stages.lib.scoring.station import scores as scoring
from stages.lib.tasks.station import features, references, training
from stages.lib.windows.input_set import Inputs, Meta, Split, Windows
from stages.models import direct_model_output, ridge, station_gru, station_mlp

LOOKBACK, LEADS, HOURS, T = 30, 26, 1100, 1
COLUMNS = ["p (mbar)", "T (degC)", "west T (degC)", "west wind (m/s)", "hour of day (h)", "day of year (d)"]
MLP = {"units": 8, "bins": 3, "curves": 2, "noise": 0.1, "dropout": 0.1}
GRU = {"hours": 6, "units": 3, "dense": 4, "bins": 3, "curves": 2, "noise": 0.1, "dropout": 0.1}
GRU |= {"recurrent_dropout": 0.1}
CLOCK = {"record": "home", "neighbours": ["west"], "ahead": [["icon", "icon2"]], "max_missing": 0.5}


def make_inputs() -> Inputs:
    """A station, a neighbour with its weather ten hours earlier, a forecast two degrees too cold; gaps in all."""
    random = np.random.default_rng(3)
    hour = np.arange(HOURS + 60)
    weather = np.cumsum(random.normal(0, 0.5, len(hour)))
    temperature = 8 + 5 * np.cos(2 * np.pi * (hour - 14) / 24) + weather
    rows = np.column_stack(
        [990 - weather[:HOURS], temperature[:HOURS], temperature[10 : HOURS + 10], random.normal(5, 1, HOURS)]
    )
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[300:340, 2:] = np.nan
    calendar = np.column_stack([hour % 24, 1 + hour / 24])[:HOURS]
    rows = np.hstack([rows, calendar]).astype(np.float32)
    lead = np.arange(1, LEADS + 1)
    forecast = temperature[np.arange(HOURS)[:, None] + lead] - 2 + random.normal(0, 0.5, (HOURS, LEADS))
    ahead = np.stack([forecast, np.full_like(forecast, 12.0), random.normal(2, 0.1, forecast.shape)], -1)
    ahead[random.random((HOURS, LEADS)) < 0.1, 0] = np.nan
    ahead[:, 20:, 0] = np.nan  # no forecast reaches these leads
    ahead = ahead.astype(np.float32)
    measured = rows[:, T].copy()
    columns = ["icon T (degC)", "icon age (h)", "icon mean error of 1 days"]
    meta = Meta(LOOKBACK, COLUMNS, T, leads=LEADS, every=1, clock=CLOCK, neighbours={"west": [2, 4]})
    meta = replace(meta, ahead_columns=columns, ahead_targets=[0])

    def split(first: int, last: int) -> Split:
        starts = np.arange(first, last - LOOKBACK - LEADS + 1, dtype=np.int32)
        targets = np.lib.stride_tricks.sliding_window_view(measured, LEADS)[starts + LOOKBACK]
        times = np.datetime64("2009-01-01T00:00:00") + (starts + LOOKBACK - 1).astype("timedelta64[h]")
        return Split(Windows(rows, starts, LOOKBACK, ahead), targets, times.astype("datetime64[s]"))

    return Inputs(rows, meta, split(0, 600), split(600, 850), split(850, HOURS), ahead)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return make_inputs()


def run(outputs, window, inputs, split) -> np.ndarray:
    return predict_in_batches(features.make_model(window, outputs), inputs, split)


def test_the_last_value_is_the_last_that_was_measured(inputs):
    window = features.make_window(inputs)
    result = run(features.last_target(window, inputs), window, inputs, inputs.val)
    for values, (last,) in zip(inputs.val.windows[:][:, :, T], result, strict=True):
        assert last == values[np.isfinite(values)][-1]


def test_persistence_goes_back_to_a_day_that_has_the_hour(inputs):
    result = predict_in_batches(references.build_persistence(inputs), inputs, inputs.val)[:, :, 1]
    for position, start in enumerate(inputs.val.windows.starts):
        values = inputs.rows[start : start + LOOKBACK, T]
        for lead in (1, 7, 24, LEADS):
            row = LOOKBACK - 1 + lead
            while row >= LOOKBACK or (row >= 0 and np.isnan(values[row])):
                row -= 24
            expected = values[row] if row >= 0 else values[np.isfinite(values)][-1]
            assert result[position, lead - 1] == expected
    np.testing.assert_array_equal(scoring.forecast_persistence(inputs.val, inputs.meta), result)


def test_features_are_taken_over_what_is_there(inputs):
    """Against a plain loop: of the neighbour, and of its difference from the station's column of the same name."""

    def summarize(values: np.ndarray, extremes: bool) -> list[float]:
        result = [values[-1], *(values[-1] - values[-1 - step] for step in (1, 3, 6, 12, 24))]
        for span in (24, 30):
            there = values[-span:][np.isfinite(values[-span:])]
            for f in (np.mean, np.max, np.min) if extremes else (np.mean,):
                result.append(values[-1] - f(there) if len(there) else np.nan)
        return result

    def plain(past: np.ndarray) -> np.ndarray:
        """The blocks of the features; each has the columns of one kind side by side."""
        groups = [(past[:, :2], True), (past[:, 2:4], False), (past[:, 2:3] - past[:, T : T + 1], False)]
        blocks = [np.array([summarize(column, extremes) for column in group.T]).T for group, extremes in groups]
        return np.concatenate([block.ravel() for block in blocks])

    window = features.make_window(inputs)
    result = run(features.difference_features(window, inputs)[0], window, inputs, inputs.val)
    seen, expected = (
        np.array([plain(values.astype(np.float64)) for values in split.windows[:]])
        for split in (inputs.train, inputs.val)
    )
    expected = np.clip((expected - np.nanmean(seen, axis=0)) / np.nanstd(seen, axis=0), -5, 5)
    assert np.isnan(expected).any()
    np.testing.assert_allclose(result[:, : expected.shape[1]], np.nan_to_num(expected), atol=2e-3)


def test_direct_model_output_is_the_forecast_and_persistence_beyond_it(inputs):
    result = predict_in_batches(direct_model_output.build(inputs), inputs, inputs.val)[:, :, 1]
    forecast = inputs.val.windows.get_ahead(slice(None))[:, :, 0]
    persistence = scoring.forecast_persistence(inputs.val, inputs.meta)
    np.testing.assert_array_equal(result, np.where(np.isnan(forecast), persistence, forecast))


def test_model_output_statistics_remove_the_bias_of_the_forecast(inputs):
    direct, statistics = (
        np.nanmean(abs(inputs.val.targets - predict_in_batches(build(inputs), inputs, inputs.val)[:, :, 1])[:, :20])
        for build in (direct_model_output.build, ridge.build)
    )
    assert statistics < 0.5 * direct


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (direct_model_output, {}),
        (ridge, {}),
        (station_mlp, MLP),
        pytest.param(station_gru, GRU, marks=pytest.mark.slow),
    ],
    ids=lambda value: value.__name__.split(".")[-1] if hasattr(value, "__name__") else "",
)
def test_the_onnx_file_gives_the_forecasts_of_the_keras_file_where_values_are_missing(
    inputs, tmp_path, module, options
):
    members = [module.build(inputs, **options) for _ in range(2 if options else 1)]
    model, _ = training.finish_model("demo", members, inputs, {"seed": 1, "members": len(members)})
    expected = predict_in_batches(model, inputs, inputs.val)
    assert np.isfinite(expected).all()
    model.save(tmp_path / "model.keras")
    exporting.convert_model(tmp_path / "model.keras", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (outputs,) = session.run(None, inputs.val.windows.get_inputs(slice(None)))
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-4)


def test_importance_is_the_error_with_the_values_of_another_week(inputs):
    def predict(split: Split) -> np.ndarray:
        """Stand for a model that uses the forecast and the neighbour's last value."""
        given = split.windows.get_inputs(slice(0, len(split.windows)))
        median = given["ahead"][:, :, 0] + 0.1 * given["past"][:, -1, 2:3]
        return np.stack([median] * 3, -1)

    result = importance.assess_importance(predict, predict(inputs.val), inputs, 5).set_index("record")
    assert list(result.index) == ["west", "icon"]
    val = inputs.val
    later = [min(np.flatnonzero(val.times >= time + np.timedelta64(7, "D")), default=0) for time in val.times]
    for record in ("west", "icon"):
        past, ahead = val.windows[:], val.windows.get_ahead(slice(None))
        other_past, other_ahead = past[later], ahead[later]
        forecast = (other_ahead if record == "icon" else ahead)[:, 5, 0]
        forecast = forecast + np.float32(0.1) * (other_past if record == "west" else past)[:, -1, 2]
        expected = np.nanmean(np.abs(val.targets[:, 5] - forecast))
        assert result.loc[record, "mae_swapped"] == pytest.approx(expected, rel=1e-5)
    assert result.loc["icon", "mae_swapped"] > result.loc["icon", "mae"]


def test_the_report_says_which_leads_no_forecast_reaches():
    description = {"lead_hours": [1, 2, 3, 4], "reach": [1.0, 0.4, 0.0, 0.0]}
    assert added_value.format_reach("mos", description).startswith(
        "No weather model of `mos` reaches the leads 3, 4 h"
    )
    assert added_value.format_reach("mos", description | {"reach": [1.0] * 4}) == ""


def test_the_report_has_no_such_section_without_other_records():
    description = {"clock": {"neighbours": [], "ahead": []}, "every_hours": 1}
    metrics = pd.DataFrame({"val_mae_degc_24h": [2.0]}, index=["ridge"])
    inputs = pd.Series({"ridge": "station"})
    assert added_value.format_added_value(metrics, {"ridge": description}, inputs, "24h", "degC") == ""
