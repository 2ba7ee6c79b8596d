"""`./run predict`: from a station's file to a forecast, the same that `evaluate` gave, or a clear refusal."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from stages.lib.windows.splits_by_date import find_window_starts

from scripts import predict as command
from stages.clock import clock
from stages.evaluate import evaluate
from stages.lib.errors import UserError
from stages.lib.files import check_is_file
from stages.lib.reports import prediction
from stages.lib.scoring.station import prediction as onnx_prediction
from stages.lib.settings.base import validate_settings
from stages.lib.settings.clean import Clean
from stages.lib.settings.records import Sensors, Wind
from stages.lib.settings.training import read_schedule
from stages.lib.weather import latest
from stages.lib.weather.cleaning import clean_record
from stages.lib.weather.hourly import CALENDAR, to_hourly_rows
from stages.lib.windows.input_set import load_input_set

ROOT = Path(__file__).parents[1]
COLUMNS = ["p (mbar)", "T (degC)", "wv (m/s)"]
T, WIND = COLUMNS[1:]
LOOKBACK, LEADS = 24, 6
DESCRIPTION = {
    "model": "station_gru",
    "record": "jena",
    "columns": [*COLUMNS, *CALENDAR],
    "target": "T (degC)",
    "every_hours": 1,
    "lookback": LOOKBACK,
    "lead_hours": list(range(1, LEADS + 1)),
    "quantiles": [0.1, 0.5, 0.9],
    "training": ["2009-01-01T00:00:00", "2009-01-15T23:00:00"],
    "validation": ["2009-01-16T00:00:00", "2009-01-20T23:00:00"],
}
OPTIONS = settings(max_examples=25)


def make_weather(hours: int = 80, start: str = "2009-03-01 00:00", minutes: int = 60) -> pd.DataFrame:
    """Rows of a station's file: times and COLUMNS."""
    random = np.random.default_rng(hours)
    times = pd.date_range(start, periods=hours * 60 // minutes, freq=f"{minutes}min", name="Date Time")
    drawn = random.normal([990, 8, 3], [5, 4, 0.5], (len(times), 3)).round(2)
    return pd.DataFrame(drawn, index=times, columns=COLUMNS)


def write(table: pd.DataFrame, path: str = "latest.csv") -> str:
    table.to_csv(path, date_format="%d.%m.%Y %H:%M:%S", lineterminator="\n")
    return path


@pytest.fixture
def project(root: Path) -> Path:
    """The committed settings but for a record without wind direction, and what `clean` and `train` leave."""
    sections = YAML(typ="safe").load(ROOT / "params.yaml")
    sections["records"]["jena"] |= {"missing": [""], "wind": None}
    sections["clock"] = {"station": {"record": "jena", "every": 1, "lookback": LOOKBACK, "leads": LEADS}}
    sections["periods"] = {"train": "2009-01-01", "val": "2009-01-16", "test": "2009-01-21", "end": None}
    Path("params.yaml").write_text(json.dumps(sections))
    Path("data/records/jena").mkdir(parents=True)
    Path("data/records/jena/clean.json").write_text(json.dumps({"interval_minutes": 60.0, "phase_minutes": 0.0}))
    return root


def read_latest(table: pd.DataFrame, at: str = "", **description: Any) -> latest.Latest:
    return latest.read_latest_window(Path(write(table)), DESCRIPTION | description, command.parse_time(at))


# --- The window --------------------------------------------------------------------------------------


def test_the_forecast_starts_from_the_last_complete_hour(project: Path) -> None:
    table = make_weather()
    outcome = read_latest(table)
    assert (str(outcome.origin), str(outcome.end)) == ("2009-03-04T07:00:00", "2009-03-04T07:00:00")
    np.testing.assert_array_equal(outcome.window[:, :3], table.to_numpy(np.float32)[-LOOKBACK:])
    assert outcome.window[:, 3].tolist() == [hour % 24 for hour in range(8, 32)]
    table.iloc[-2:, 1] = np.nan
    assert str(read_latest(table).origin) == "2009-03-04T05:00:00"


def test_an_hour_that_has_not_ended_is_no_origin(project: Path) -> None:
    Path("data/records/jena/clean.json").write_text(json.dumps({"interval_minutes": 10.0, "phase_minutes": 0.0}))
    table = make_weather(40, minutes=10)
    outcome = read_latest(table)
    assert (str(table.index[-1]), str(outcome.origin)) == ("2009-03-02 15:50:00", "2009-03-02T15:00:00")
    means = table["p (mbar)"].to_numpy()[1 : 15 * 6 + 24 * 6 + 1].reshape(-1, 6).mean(axis=1)
    np.testing.assert_allclose(outcome.window[:, 0], means[-LOOKBACK:].astype(np.float32))


def test_the_hours_are_those_of_the_training_data(project: Path) -> None:
    """Of a record that drifts, the grid is the one that the model has learnt, whatever the file's own is."""
    Path("data/records/jena/clean.json").write_text(json.dumps({"interval_minutes": 60.0, "phase_minutes": 30.0}))
    outcome = read_latest(make_weather(80, start="2009-03-01 00:10"))
    assert str(outcome.origin) == "2009-03-04T07:30:00"
    assert outcome.window[-1, 3] == 7.5


@OPTIONS
@given(data=st.data())
def test_a_window_is_that_of_the_training_data_to_the_last_bit(data: st.DataObject) -> None:
    """Whatever part of a record with gaps is in the file, as long as the window is in it."""
    table = make_weather(120)
    wind = Wind(speed="wv (m/s)", direction="wd (deg)") if data.draw(st.booleans()) else None
    if wind:
        table["wd (deg)"] = np.random.default_rng(1).uniform(0, 360, len(table)).round(1)
    for _ in range(data.draw(st.integers(0, 5))):
        first = data.draw(st.integers(0, 110))
        table.iloc[first : first + data.draw(st.integers(1, 5)), data.draw(st.integers(0, 2))] = np.nan
    lost = data.draw(st.lists(st.integers(1, 118), max_size=4))
    table = table.drop(table.index[lost])
    clean = validate_settings(Clean, {"max_gap": 3, "checks": {}}, "clean")
    sensors = Sensors(target="T (degC)", wind=wind)
    record = {"Date Time": table.index.to_numpy().astype("datetime64[s]")}
    record |= {name: table[name].to_numpy() for name in table}
    grid, _ = clean_record(record, clean, sensors, "record", "records.jena", (3600, 0))
    expected = to_hourly_rows(grid, "T (degC)", 1, clean.max_gap)
    windows = find_window_starts(expected, LOOKBACK, 1, np.datetime64("2009-01-01"), None)
    event("windows" if len(windows) else "no windows")
    for start in windows[:: max(1, len(windows) // 5)]:
        origin = expected.time[start + LOOKBACK - 1]
        before = data.draw(st.integers(0, int(start)))
        part = table[(table.index >= expected.time[before]) & (table.index <= origin + np.timedelta64(5, "h"))]
        if part.index[0] > expected.time[start] or part.notna().sum().min() < LOOKBACK:
            continue  # the file begins with hours that are missing
        cut = {"Date Time": part.index.to_numpy().astype("datetime64[s]")}
        cut |= {name: part[name].to_numpy() for name in table}
        grid, _ = clean_record(cut, clean, sensors, "part", "records.jena", (3600, 0))
        if before and np.isnan(grid.iloc[0]).any():
            continue  # a gap that the whole record fills from both sides
        outcome = latest.select_window(grid, cut, DESCRIPTION, clean, [], origin, "part")
        np.testing.assert_array_equal(outcome.window, expected.rows[start : start + LOOKBACK])
        assert outcome.origin == origin
        event("compared")


# --- Refusals ----------------------------------------------------------------------------------------


def set_rows(first: int | None, last: int | None, column: str, value: float) -> Any:
    """Return a function that sets rows of a column to `value`."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[frame.index[first:last], column] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.iloc[:20], "expected at least 24 hours up to the origin, the lookback .* found 20,"),
        (lambda rows: rows.iloc[:1], "expected rows at two times at least"),
        (lambda rows: rows.drop(columns=WIND), "line 1: expected the columns .* found none called 'wv (m/s)'"),
        (set_rows(0, None, WIND, np.nan), "expected measured values in every column .* found none in 'wv (m/s)'"),
        (lambda rows: rows.assign(**{"rain (mm)": 1.0}), "found also 'rain (mm)'; another station's file?"),
        (lambda rows: rows[[T, "p (mbar)", WIND]], "expected the columns in the order that station_gru"),
        (
            set_rows(-4, None, T, np.nan),
            "a gap of at most 3 hours at the end .* found 4: the last hour .* 03:00:00",
        ),
        (
            set_rows(-15, -11, "p (mbar)", np.nan),
            "column 'p (mbar)': expected no gap of more than 3 hours .* found one",
        ),
        (
            set_rows(-14, None, T, 5.5),
            "column 'T (degC)': expected values that change, found 5.5 in each of the last 14",
        ),
        (
            set_rows(-9, -8, T, 61.5),
            "column 'T (degC)': expected values from -50 to 50 .* found 61.5 at 2009-03-03T23:00",
        ),
        (set_rows(0, None, T, 281.0), "column 'T (degC)': .* found a median of 281; is it in another unit"),
        (lambda _: make_weather(20, minutes=10), "expected a row every 60 minutes, .* found one every 10"),
        (
            lambda rows: rows.rename(columns={T: "Temp"}),
            "line 1: expected the column 'T (degC)' (records.jena.target",
        ),
    ],
    ids=lambda value: "" if callable(value) else value[:30],
)
def test_an_unfit_file_is_refused(project: Path, change: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_latest(change(make_weather()))
    assert re.search(".*".join(map(re.escape, message.split(" .* "))), str(error.value)), str(error.value)
    assert "\n" not in str(error.value) and "latest.csv" in str(error.value)


def test_a_file_without_the_direction_that_the_model_knows_is_refused() -> None:
    wind = Wind(speed="wv (m/s)", direction="wd (deg)")
    description = DESCRIPTION | {"columns": ["p (mbar)", "T (degC)", *latest.WIND_VECTOR, *CALENDAR]}
    latest.check_required_columns([*COLUMNS, "wd (deg)"], description, wind, "latest.csv")
    with pytest.raises(UserError, match=r"line 1: expected the columns .* found none called 'wd \(deg\)'"):
        latest.check_required_columns(COLUMNS, description, wind, "latest.csv")


def test_a_damaged_file_is_refused_without_advice_on_the_record(project: Path) -> None:
    Path("latest.csv.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(UserError, match=r"^latest.csv.gz: cannot be read \(.*\)$"):
        latest.read_latest_window(Path("latest.csv.gz"), DESCRIPTION, None)


def test_overcast_days_and_what_lies_before_the_window_are_no_reason_to_refuse(project: Path) -> None:
    table = make_weather().assign(cloudiness=8.0)
    table.iloc[:20, 1] = np.nan
    table.iloc[30, 1] = 61.5
    assert read_latest(table, columns=[*COLUMNS, "cloudiness", *CALENDAR]).warnings == []


def test_a_dry_week_gets_a_warning_and_its_forecast(project: Path) -> None:
    """No check says how long rain may stay the same."""
    table = make_weather().assign(**{"rain (mm)": 0.0})
    (warning,) = read_latest(table, columns=[*COLUMNS, "rain (mm)", *CALENDAR]).warnings
    message = "expected values that change, found 0 in each of the last 24 hours; is the sensor stuck?"
    assert warning == f"latest.csv, column 'rain (mm)': {message}"


def test_a_time_after_an_outage_names_the_columns_whose_mean_is_not_known(project: Path) -> None:
    Path("data/records/jena/clean.json").write_text(json.dumps({"interval_minutes": 10.0, "phase_minutes": 0.0}))
    table = make_weather(40, minutes=10)
    table.loc["2009-03-02 08:10":"2009-03-02 12:30", "wv (m/s)"] = np.nan
    with pytest.raises(UserError, match=r"found 2009-03-02T13:00:00 without 'wv \(m/s\)'$"):
        read_latest(table, "2009-03-02T13:00")


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("tomorrow", "--at: expected a time of the station's own clock such as 2016-12-30T12:00, found 'tomorrow'"),
        ("2009-03-02T12:00+01:00", "--at: expected a time of the station's own clock"),
        ("2010-03-02T12:00", "--at: expected a time of latest.csv, 2009-03-01 00:00:00 to 2009-03-04 07:00:00"),
        ("2009-03-03T12:20", "--at: expected a time at which latest.csv has an hour, such as 2009-03-03T12:00:00"),
        ("2009-03-03T14:00", "at which every column was measured, found 2009-03-03T14:00:00 without 'T (degC)'"),
        ("2009-03-01T22:00", "expected at least 24 hours up to the origin"),
    ],
)
def test_times_that_no_forecast_can_start_from(project: Path, at: str, message: str) -> None:
    table = make_weather()
    table.loc["2009-03-03 14:00", "T (degC)"] = np.nan
    with pytest.raises(UserError, match=re.escape(message)):
        read_latest(table, at)


def test_a_file_older_than_a_day_is_warned_of(project: Path) -> None:
    end = np.datetime64("2009-03-04T07:00:00")
    assert latest.warn_about_age(end, "latest.csv", end + np.timedelta64(24, "h")) == []
    (warning,) = latest.warn_about_age(end, "latest.csv", end + np.timedelta64(49, "h"))
    assert warning.startswith("latest.csv ends on 2009-03-04T07:00:00, 2 days ago")


def test_a_file_that_ends_in_the_future_is_warned_of(project: Path) -> None:
    end = np.datetime64("2009-03-04T07:00:00")
    assert latest.warn_about_age(end, "latest.csv", end - np.timedelta64(60, "m")) == []
    (warning,) = latest.warn_about_age(end, "latest.csv", end - np.timedelta64(90, "m"))
    assert warning.startswith("latest.csv ends on 2009-03-04T07:00:00, 1.5 hours from now")


def test_models_that_cannot_answer(project: Path) -> None:
    with pytest.raises(UserError, match=r"--model: expected a station model of params.yaml, found .gru.; it has "):
        command.read_description("gru")
    with pytest.raises(UserError, match=r"model.json: not found; make it with `dvc repro train@ridge`"):
        command.read_description("ridge")
    Path("data/models/station/ridge").mkdir(parents=True)
    Path("data/models/station/ridge/model.json").write_text(json.dumps({"target": "T (degC)"}))
    with pytest.raises(UserError, match=r"model.json: cannot be read .*'record'.*`dvc repro -f train@ridge`"):
        command.read_description("ridge")
    Path("data/models/station/ridge/model.json").write_text(json.dumps({"record": "jena", "target": "Tdew (degC)"}))
    with pytest.raises(UserError, match=r"expected a model of 'T .*found one of 'Tdew"):
        command.read_description("ridge")
    with pytest.raises(UserError, match="expected the scores of a station's model, found none"):
        command.choose_best_model()


def test_a_model_answers_with_its_own_number_of_threads(project: Path, monkeypatch) -> None:
    """As `evaluate` did: another number may change the last digits."""
    sections, asked = json.loads(Path("params.yaml").read_text()), []
    sections["tasks"]["station"]["threads"] = 2
    Path("params.yaml").write_text(json.dumps(sections))
    monkeypatch.setattr(
        onnx_prediction.onnxruntime, "InferenceSession", lambda _, options, **__: asked.append(options)
    )
    write_onnx("ridge", b"a model")
    onnx_prediction.load_session("ridge", read_schedule("ridge")["threads"])
    assert asked[0].intra_op_num_threads == 2


def write_onnx(name: str, content: bytes, sha256: str = "") -> Path:
    """Write model.onnx and a model.json that belongs to it, or to the file with the hash `sha256`."""
    folder = Path("data/models/station", name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    description = {"onnx_sha256": sha256 or hashlib.sha256(content).hexdigest()}
    (folder / "model.json").write_text(json.dumps(description))
    return folder / "model.onnx"


def test_a_file_that_is_no_model_or_another_one_is_refused_in_one_sentence(project: Path) -> None:
    def refuse(message: str) -> None:
        with pytest.raises(UserError, match=message) as raised:
            command.predict_window("ridge", np.zeros((LOOKBACK, 5), np.float32))
        assert "\n" not in str(raised.value)

    refuse(r"^data/models/station/ridge/model.onnx: not found; make it with `dvc repro train@ridge`$")
    write_onnx("ridge", b"of station_gru", sha256=hashlib.sha256(b"of ridge").hexdigest())
    refuse(
        r"^data.*model.onnx: expected the file that .*/model.json was written with, .* `dvc repro -f train@ridge`$"
    )
    write_onnx("ridge", b"no model at all")
    refuse(r"^data.*model.onnx: cannot be read \(.*\); make it again with `dvc repro -f train@ridge`$")
    Path("data/models/station/ridge/model.json").write_text("{}")
    refuse(r"^data.*model.json: cannot be read \(KeyError: 'onnx_sha256'\); make it again")


def test_the_model_that_is_best_on_validation_answers(project: Path) -> None:
    Path("metrics/station").mkdir(parents=True)
    for name, mae in {"persistence": 2.0, "ridge": 1.5, "station_gru": 1.7, "unknown": 0.1}.items():
        metrics = {"val_mae_degc_24h": mae, "test_mae_degc_24h": 3 - mae}
        Path(f"metrics/station/{name}.json").write_text(json.dumps(metrics))
    assert command.choose_best_model() == "ridge"


# --- The result --------------------------------------------------------------------------------------


def test_the_days_lowest_and_highest_values() -> None:
    rows = [
        {"valid": f"2009-03-{4 + hour // 24:02}T{hour % 24:02}:00:00", "median": median}
        for hour, median in zip(range(22, 49), [3, 2, *range(10, 34), 7], strict=True)
    ]
    first, second, third = prediction.summarize_days(rows, 1)
    assert (first["minimum"]["median"], first["maximum"]["median"], first["whole"]) == (2, 3, False)
    assert [second[key]["valid"][-8:] for key in ("minimum", "maximum")] == ["00:00:00", "23:00:00"]
    assert second["whole"] and third["first"] == third["last"] == "2009-03-06T00:00:00"


@given(st.lists(st.tuples(*[st.floats(-60, 60, width=32)] * 3), min_size=LEADS, max_size=LEADS))
def test_the_files_hold_the_numbers_to_the_last_bit(quantiles: list[tuple[float, ...]]) -> None:
    given = np.array(quantiles, np.float32)
    by_lead, origin = pd.DataFrame({"lead": [1.0], "mae": [1.0]}), np.datetime64("2009-03-04T07:00:00")
    result = prediction.summarize_forecast(DESCRIPTION, origin, given, by_lead, "f", [])
    result = json.loads(json.dumps(result))
    outcome = [[row[key] for key in ("low", "median", "high")] for row in result["forecast"]]
    np.testing.assert_array_equal(np.array(outcome, np.float32), given)
    assert [row["valid"] for row in result["forecast"]][::5] == ["2009-03-04T08:00:00", "2009-03-04T13:00:00"]


# --- All of it ---------------------------------------------------------------------------------------


@pytest.fixture
def trained(project: Path) -> pd.DataFrame:
    """A record, and a small station_mlp that was trained and evaluated on it."""
    from stages.train import train

    table = make_weather(720, start="2009-01-01 00:00")
    table.iloc[650:652, 0] = np.nan
    sections = json.loads(Path("params.yaml").read_text())
    small = {"epochs": 1, "members": 2, "units": 4}
    sections["models"] = {"station_mlp": {**sections["models"]["station_mlp"], **small}}
    Path("params.yaml").write_text(json.dumps(sections))
    columns = {"Date Time": table.index.to_numpy()} | {name: table[name].to_numpy() for name in COLUMNS}
    source = json.dumps({"source": "some.csv", "synthetic": False})
    pq.write_table(pa.table(columns, metadata={"source": source}), "data/records/jena/clean.parquet")
    clock("station")
    train("station_mlp")
    evaluate("station_mlp")
    return table


@pytest.mark.slow
def test_what_a_window_gets_does_not_depend_on_the_others(project: Path) -> None:
    """Not so what onnxruntime gives for batches of different sizes."""
    import keras

    from stages.lib.nn.exporting import convert_model

    window = keras.Input((LOOKBACK, 5), name="window")
    values = keras.layers.Normalization(mean=[1.0] * 5, variance=[2.0] * 5)(window)
    state = keras.layers.Concatenate()([keras.layers.GRU(12)(values), keras.ops.sin(window[:, -1])])
    dense = keras.layers.Dense(LEADS * 3)(keras.layers.Dense(16, activation="relu")(state))
    model = keras.Model(window, keras.layers.Reshape((LEADS, 3))(dense))
    model.save("model.keras")
    convert_model(Path("model.keras"), Path("model.onnx"))
    write_onnx("ridge", Path("model.onnx").read_bytes())
    session = onnx_prediction.load_session("ridge", 1)
    size = onnx_prediction.BATCH_SIZE
    windows = np.random.default_rng(0).normal(size=(2 * size + 37, LOOKBACK, 5)).astype(np.float32)
    together = onnx_prediction.predict_windows(session, {"window": windows})
    np.testing.assert_allclose(together, model(windows), atol=1e-5)
    for position in (0, 5, size - 1, size, 2 * size + 36):
        alone = command.predict_window("ridge", windows[position])
        np.testing.assert_array_equal(alone, together[position])
    few = onnx_prediction.predict_windows(session, {"window": windows[size - 3 : size + 5]})
    np.testing.assert_array_equal(few, together[size - 3 : size + 5])


@pytest.mark.slow
def test_the_onnx_file_is_scored_without_tensorflow_and_forecasts_what_the_keras_file_does(
    trained: pd.DataFrame,
) -> None:
    import keras

    folder = Path("data/models/station/station_mlp")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("history.csv", "model.json", "model.keras", "model.onnx")
    ]
    model = keras.models.load_model(folder / "model.keras")
    metrics = json.loads(Path("metrics/station/station_mlp.json").read_text())
    assert metrics["parameters"] == model.count_params()
    inputs = load_input_set("data/inputs/station")
    evaluated = pd.read_parquet("data/evaluations/station/station_mlp/forecast.parquet")
    quantiles = evaluated[["q0.1", "q0.5", "q0.9"]].to_numpy().reshape(-1, LEADS, 3)
    np.testing.assert_allclose(quantiles, model.predict(inputs.test.windows[:], verbose=0), rtol=0, atol=1e-4)

    write(trained)
    code = (
        "import sys; from scripts.predict import predict; from stages.evaluate import evaluate;"
        "evaluate('station_mlp'); predict('latest.csv');"
        "print('imported:', *sorted({'keras', 'tensorflow', 'xarray'} & sys.modules.keys()))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("imported: xarray\n")

    # A model of another window; `dvc repro` would have trained it again.
    sections = json.loads(Path("params.yaml").read_text())
    sections["clock"]["station"]["lookback"] = LOOKBACK + 1
    Path("params.yaml").write_text(json.dumps(sections))
    shutil.rmtree("data/inputs/station")
    clock("station")
    with pytest.raises(UserError, match=r"model.onnx: expected a model for the windows .*\(25, 5\).*\(24, 5\)"):
        evaluate("station_mlp")


@pytest.mark.slow
def test_from_a_time_of_the_test_period_the_forecast_is_that_of_evaluate(
    trained: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated = pd.read_parquet("data/evaluations/station/station_mlp/forecast.parquet")
    origins = evaluated["origin"].drop_duplicates()
    for position in (0, len(origins) // 2, len(origins) - 1):  # the last ones of evaluate are no whole batch
        at = origins.iloc[position]
        command.predict(write(trained[at - pd.Timedelta(days=3) :]), at=at.isoformat(), output="out")
        outcome = pd.read_csv("out/forecast.csv").astype({"low": "f4", "median": "f4", "high": "f4"})
        expected = evaluated[evaluated["origin"] == at]
        assert [list(outcome[name]) for name in ("low", "median", "high")] == [
            list(expected[name]) for name in ("q0.1", "q0.5", "q0.9")
        ]
        result = json.loads(Path("out/forecast.json").read_text())
        assert (result["origin"], result["model"], result["warnings"]) == (at.isoformat(), "station_mlp", [])
        assert len(result["verification"]) == LEADS
        assert "<svg" in Path("out/forecast.html").read_text()
    printed_output = capsys.readouterr().out
    assert "Model: station_mlp (the best on validation), trained on 2009-01-01 to 2009-01-15." in printed_output

    # Without a time and a folder the files lie next to the latest file.
    Path("from the logger").mkdir()
    command.predict(write(trained, "from the logger/latest.csv"))
    pages = [Path(f"from the logger/forecast.{kind}").read_bytes() for kind in ("csv", "json", "html")]
    printed_output = capsys.readouterr()
    assert "warning: from the logger/latest.csv ends on 2009-01-30T23:00:00" in printed_output.err
    assert (
        "Sat 31 Jan 02:00" in printed_output.out and "Sat 31 Jan 01:00" not in printed_output.out
    )  # every three hours
    command.predict("from the logger/latest.csv")
    assert pages == [Path(f"from the logger/forecast.{kind}").read_bytes() for kind in ("csv", "json", "html")]


def test_the_command_takes_a_file_from_where_it_is_called(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([ROOT / "run", "predict", *arguments], cwd=tmp_path, capture_output=True, text=True)

    shown = run("--help")
    assert shown.returncode == 0
    assert all(word in " ".join(shown.stdout.split()) for word in ("--model MODEL", "--at AT", "80 %", "file"))
    done = run("no.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {os.path.realpath(tmp_path)}/no.csv: not found; expected a station's CSV file\n"


def test_a_directory_or_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=f"^{tmp_path}: is a directory; expected a station's CSV file$"):
        check_is_file(tmp_path)
    with pytest.raises(UserError, match=r"pipe: is not a regular file; expected a station's CSV file$"):
        check_is_file(tmp_path / "pipe")
