"""`./run predict`: from a station's file to a forecast, the same that `evaluate` gave, or a clear refusal."""

import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from scripts import predict as command
from stages.clock import clock
from stages.evaluate import evaluate
from stages.lib.errors import UserError
from stages.lib.files import check_is_file
from stages.lib.reports import prediction, recent_errors
from stages.lib.scoring.station import prediction as onnx_prediction
from stages.lib.settings.base import validate_settings
from stages.lib.settings.clean import Clean
from stages.lib.settings.clock import Clock
from stages.lib.settings.records import Sensors, Wind
from stages.lib.settings.training import read_schedule
from stages.lib.tasks.station import recalibration
from stages.lib.weather import fetching, latest
from stages.lib.weather.cleaning import clean_forecasts, clean_record
from stages.lib.weather.hourly import CALENDAR
from stages.lib.windows.clock_rows import CleanRecord, assemble_clock_rows, find_window_starts
from stages.lib.windows.input_set import load_input_set

ROOT = Path(__file__).parents[1]
COLUMNS = ["p (mbar)", "T (degC)", "wv (m/s)"]
T, WIND = COLUMNS[1:]
LOOKBACK, LEADS = 24, 6
LINE = {"record": "jena", "every": 1, "lookback": LOOKBACK, "leads": LEADS}
DESCRIPTION = {
    "model": "station_gru",
    "record": "jena",
    "clock": Clock(**LINE).model_dump(),
    "columns": [*COLUMNS, *CALENDAR],
    "ahead_columns": [],
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
    sections["clock"] = {"station": LINE}
    sections["periods"] = {"train": "2009-01-01", "val": "2009-01-16", "test": "2009-01-21", "end": None}
    Path("params.yaml").write_text(json.dumps(sections))
    write_grid("jena")
    return root


def write_grid(name: str, interval: float = 60.0, phase: float = 0.0) -> None:
    """Write what `predict` needs of the report of `clean` on a record."""
    Path("data/clean").mkdir(parents=True, exist_ok=True)
    report = {"interval_minutes": interval, "phase_minutes": phase}
    Path(f"data/clean/{name}.json").write_text(json.dumps(report))


def read_latest_window(files: dict[str, Path], description: Any, origin: np.datetime64 | None) -> latest.Latest:
    """Return what a forecast starts from, read from the file of each record that the model needs."""
    contents = {
        name: latest.read_content(name, files[name], str(files[name]))
        for name in Clock(**description["clock"]).records
    }
    return latest.make_latest_window(contents, description, origin)


def read_latest(table: pd.DataFrame, at: str = "", **description: Any) -> latest.Latest:
    files = {"jena": Path(write(table))}
    return read_latest_window(files, DESCRIPTION | description, command.parse_time(at))


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
    write_grid("jena", 10.0)
    table = make_weather(40, minutes=10)
    outcome = read_latest(table)
    assert (str(table.index[-1]), str(outcome.origin)) == ("2009-03-02 15:50:00", "2009-03-02T15:00:00")
    means = table["p (mbar)"].to_numpy()[1 : 15 * 6 + 24 * 6 + 1].reshape(-1, 6).mean(axis=1)
    np.testing.assert_allclose(outcome.window[:, 0], means[-LOOKBACK:].astype(np.float32))


def test_the_hours_are_those_of_the_training_data(project: Path) -> None:
    """Of a record that drifts, the grid is the one that the model has learnt, whatever the file's own is."""
    write_grid("jena", phase=30.0)
    outcome = read_latest(make_weather(80, start="2009-03-01 00:10"))
    assert str(outcome.origin) == "2009-03-04T07:30:00"
    assert outcome.window[-1, 3] == 7.5


CLEAN = validate_settings(Clean, {"max_gap": 3, "checks": {}}, "clean")


def to_record(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the rows of a file as `parse` leaves them."""
    times = {"Date Time": table.index.to_numpy().astype("datetime64[s]")}
    return times | {name: table[name].to_numpy() for name in table}


def clean_table(table: pd.DataFrame, wind: Wind | None = None) -> CleanRecord:
    """Return measurements as `clean` leaves them."""
    sensors = Sensors(target=T, wind=wind)
    frame, _ = clean_record(to_record(table), CLEAN, sensors, "record", "records.x", (3600, 0))
    return CleanRecord(frame, T)


def make_forecasts(start: str = "2009-03-01 00:00", hours: int = 120) -> pd.DataFrame:
    """Rows of a weather model's file: every five hours, forecasts for the next nine; `issued` in seconds."""
    random, first, rows = np.random.default_rng(5), pd.Timestamp(start), []
    for hour in range(-10, hours, 5):
        for lead in range(1, 10):
            issue = first + pd.Timedelta(hours=hour)
            rows.append((issue + pd.Timedelta(hours=lead), issue.timestamp(), round(random.normal(8, 4), 2)))
    table = pd.DataFrame(rows, columns=["Date Time", "issued", T]).set_index("Date Time")
    return table.sort_values(["Date Time", "issued"])


def clean_forecast_table(table: pd.DataFrame) -> CleanRecord:
    """Return forecasts as `clean` leaves them."""
    sensors = Sensors(target=T, issued="issued")
    frame, _ = clean_forecasts(to_record(table), CLEAN, sensors, "record", "records.icon")
    return CleanRecord(frame, T)


def lose_values(data: st.DataObject, table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` with gaps, and without some of its rows but the first and the last."""
    table = table.copy()
    for _ in range(data.draw(st.integers(0, 5))):
        first = data.draw(st.integers(0, 110))
        column = data.draw(st.integers(0, len(table.columns) - 1))
        table.iloc[first : first + data.draw(st.integers(1, 5)), column] = np.nan
    return table.drop(table.index[data.draw(st.lists(st.integers(1, len(table) - 2), max_size=4))])


@OPTIONS
@given(data=st.data())
def test_a_window_is_that_of_the_training_data_to_the_last_bit(data: st.DataObject) -> None:
    """Whatever parts of records with gaps are in the files, as long as the window is in them."""
    neighbours, ahead = data.draw(st.sampled_from([[], ["kassel"]])), data.draw(st.sampled_from([[], ["icon"]]))
    line = LINE | {"neighbours": neighbours, "ahead": ahead, "max_missing": data.draw(st.sampled_from([0.0, 0.4]))}
    wind = Wind(speed="wv (m/s)", direction="wd (deg)") if data.draw(st.booleans()) else None
    table = make_weather(120)
    if wind:
        table["wd (deg)"] = np.random.default_rng(1).uniform(0, 360, len(table)).round(1)
    table = lose_values(data, table)
    other, forecasts = lose_values(data, make_weather(120)[[T, "p (mbar)"]]), make_forecasts()
    records = {
        "jena": clean_table(table, wind),
        "kassel": clean_table(other),
        "icon": clean_forecast_table(forecasts),
    }
    clock_settings = Clock(**line)
    expected = assemble_clock_rows(clock_settings, records, CLEAN.max_gap)
    description = DESCRIPTION | {"clock": clock_settings.model_dump(), "ahead_columns": expected.ahead_columns}
    time = expected.hourly.time
    windows = find_window_starts(expected, clock_settings, np.datetime64("2009-01-01"), None)
    event("windows" if len(windows) else "no windows")
    for start in windows[:: max(1, len(windows) // 5)]:
        origin = time[start + LOOKBACK - 1]
        before, end = data.draw(st.integers(0, int(start))), origin + np.timedelta64(5, "h")
        part = table[(table.index >= time[before]) & (table.index <= end)]
        if part.index[0] > time[start] or part.notna().sum().min() < LOOKBACK // 2:
            continue  # the file begins with hours that are missing
        station = clean_table(part, wind)
        if not line["max_missing"] and before and np.isnan(station.frame.iloc[0]).any():
            continue  # a gap that the whole record fills from both sides
        if not np.isfinite(expected.rows[start + LOOKBACK - 1, :2]).any():
            continue  # windows may lack values, but `predict` starts from an hour that has one
        known = other[(other.index >= time[start] - np.timedelta64(4, "h")) & (other.index <= end)]
        newest = forecasts[
            (forecasts.index >= time[start]) & (forecasts["issued"] <= pd.Timestamp(end).timestamp())
        ]
        files = {"jena": station, "kassel": clean_table(known), "icon": clean_forecast_table(newest)}
        locations = {name: Path(f"{name}.csv") for name in files}
        outcome = latest.select_window(files, to_record(part), description, CLEAN, [], origin, locations)
        assert outcome.window.tobytes() == expected.rows[start : start + LOOKBACK].tobytes()
        assert outcome.origin == origin
        if ahead:
            assert outcome.ahead.tobytes() == expected.ahead[start + LOOKBACK - 1].tobytes()
        event(f"compared, with {len(neighbours) + len(ahead)} other records")


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
    required = ["p (mbar)", "T (degC)", *latest.WIND_VECTOR]
    latest.check_required_columns([*COLUMNS, "wd (deg)"], required, "station_gru", wind, "latest.csv")
    with pytest.raises(UserError, match=r"line 1: expected the columns .* found none called 'wd \(deg\)'"):
        latest.check_required_columns(COLUMNS, required, "station_gru", wind, "latest.csv")


def test_a_damaged_file_is_refused_without_advice_on_the_record(project: Path) -> None:
    Path("latest.csv.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(UserError, match=r"^latest.csv.gz: cannot be read \(.*\)$"):
        read_latest_window({"jena": Path("latest.csv.gz")}, DESCRIPTION, None)


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
    write_grid("jena", 10.0)
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
        command.check_model("gru")
    assert command.check_model("ridge") == "ridge"
    with pytest.raises(UserError, match=r"model.json: not found; make it with `dvc repro train@ridge`"):
        command.read_description("ridge")
    Path("data/models/station/ridge").mkdir(parents=True)
    Path("data/models/station/ridge/model.json").write_text(json.dumps({"target": "T (degC)"}))
    with pytest.raises(UserError, match=r"model.json: cannot be read .*'record'.*`dvc repro -f train@ridge`"):
        command.read_description("ridge")
    description = {"record": "jena", "target": "Tdew (degC)"}  # from before models had several records
    Path("data/models/station/ridge/model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"model.json: cannot be read .*'clock'.*`dvc repro -f train@ridge`"):
        command.read_description("ridge")
    Path("data/models/station/ridge/model.json").write_text(json.dumps(description | {"clock": LINE}))
    with pytest.raises(UserError, match=r"expected a model of 'T .*found one of 'Tdew"):
        command.read_description("ridge")
    with pytest.raises(UserError, match="expected the scores of a station's model, found none"):
        command.rank_models()


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


def make_latest(window: np.ndarray, ahead: np.ndarray | None = None) -> latest.Latest:
    """Return what a forecast starts from, with no more than its inputs."""
    origin = np.datetime64("2009-03-04T07:00:00")
    return latest.Latest(window, ahead, origin, pd.Series(dtype=float), origin, [])


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
            onnx_prediction.load_session("ridge", 1)
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


def write_scores(**maes: float) -> None:
    """Write the metrics of models with these validation MAE."""
    Path("metrics/station").mkdir(parents=True, exist_ok=True)
    for name, mae in maes.items():
        metrics = {"val_mae_degc_24h": mae, "test_mae_degc_24h": 3 - mae}
        Path(f"metrics/station/{name}.json").write_text(json.dumps(metrics))


def test_models_are_ranked_by_their_scores_on_validation(project: Path) -> None:
    write_scores(persistence=2.0, ridge=1.5, station_gru=1.7, unknown=0.1)
    assert command.rank_models() == ["ridge", "station_gru", "persistence"]


# --- Several records ---------------------------------------------------------------------------------

AHEAD = ["icon T (degC)", "icon age (h)", "icon mean error of 1 days"]
REGION = DESCRIPTION | {
    "model": "region",
    "clock": Clock(**LINE, neighbours=["kassel"], ahead=["icon"]).model_dump(),
    "columns": [*COLUMNS, "kassel T (degC)", "kassel p (mbar)", *CALENDAR],
    "ahead_columns": AHEAD,
}
OTHER = {"record": "kassel", "clock": Clock(**LINE | {"record": "kassel"}).model_dump()}


@pytest.fixture
def region(project: Path) -> Path:
    """A project with a neighbour and a weather model."""
    sections = json.loads(Path("params.yaml").read_text())
    jena = sections["records"]["jena"]
    sections["records"] |= {"kassel": jena, "icon": jena | {"issued": "issued"}}
    Path("params.yaml").write_text(json.dumps(sections))
    write_grid("kassel")
    return project


def write_forecasts(table: pd.DataFrame, path: str = "icon.csv") -> Path:
    issued = pd.to_datetime(table["issued"], unit="s").dt.strftime("%d.%m.%Y %H:%M:%S")
    return Path(write(table.assign(issued=issued), path))


def make_tables() -> dict[str, pd.DataFrame]:
    """The content of a file of each record, of 120 hours."""
    neighbour = make_weather(119)[[T, "p (mbar)"]]
    return {"jena": make_weather(120), "kassel": neighbour, "icon": make_forecasts()}


def read_region(tables: dict[str, pd.DataFrame], at: str, **description: Any) -> latest.Latest:
    files = {name: Path(write(tables[name], f"{name}.csv")) for name in ("jena", "kassel")}
    files["icon"] = write_forecasts(tables["icon"])
    return read_latest_window(files, REGION | description, command.parse_time(at))


def test_the_files_of_all_records_become_one_window(region: Path) -> None:
    tables = make_tables()
    outcome = read_region(tables, "")
    assert str(outcome.origin) == "2009-03-05T23:00:00" and outcome.warnings == []
    names = ["jena", "kassel"]
    window = pd.concat([tables[name] for name in names], axis=1).ffill().to_numpy(np.float32)[-LOOKBACK:]
    np.testing.assert_array_equal(outcome.window[:, :5], window)
    icon = tables["icon"][tables["icon"]["issued"] <= pd.Timestamp("2009-03-05T23:00").timestamp()]
    newest = icon.groupby(level=0).last()["2009-03-06T00:00":"2009-03-06T05:00"]
    np.testing.assert_array_equal(outcome.ahead[: len(newest), 0], newest[T].astype(np.float32))
    age = (newest.index - pd.Timestamp(0)) / pd.Timedelta(seconds=1) - newest["issued"]
    np.testing.assert_array_equal(outcome.ahead[: len(newest), 1], age / 3600)
    assert 0 < len(newest) <= LEADS and np.isnan(outcome.ahead[len(newest) :, :2]).all()
    assert np.isfinite(outcome.ahead[:, 2]).all()


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hour=st.integers(LOOKBACK, 115), seed=st.integers(0, 2**32 - 1))
def test_what_became_known_after_the_time_changes_no_bit(region: Path, hour: int, seed: int) -> None:
    """Measurements after the origin, and forecasts issued after it, for whatever hour."""
    tables, random = make_tables(), np.random.default_rng(seed)
    origin = tables["jena"].index[hour]
    before = read_region(tables, origin.isoformat())
    for name, table in tables.items():
        late = table["issued"] > origin.timestamp() if name == "icon" else table.index > origin
        for column in table.columns.drop("issued", errors="ignore"):
            planted = random.normal(table[column].median(), 3, len(table)).round(2)
            tables[name].loc[late, column] = np.where(random.random(len(table)) < 0.1, np.nan, planted)[late]
    extra = make_forecasts()  # of more issues, one an hour, for the hours that count
    extra["issued"] = origin.timestamp() + 1 + 3600 * random.integers(0, 3, len(extra))
    extra = extra[extra["issued"] <= (extra.index - pd.Timestamp(0)) / pd.Timedelta(seconds=1)]
    tables["icon"] = pd.concat([tables["icon"], extra]).sample(frac=1, random_state=seed)
    after = read_region(tables, origin.isoformat())
    assert after.window.tobytes() == before.window.tobytes()
    assert after.ahead.tobytes() == before.ahead.tobytes()
    assert (after.origin, before.origin) == (origin.to_numpy(), origin.to_numpy())


@pytest.mark.parametrize(("hours", "missing"), [(1, 0), (3, 0), (10, 7), (15, 12), (16, None)])
def test_a_neighbours_file_that_ends_early_is_used_as_long_as_the_model_allows(
    region: Path, hours: int, missing: int | None
) -> None:
    """Its last values stand for clean.max_gap hours; of what then is missing, training allowed half."""
    tables = make_tables()
    at, end = "2009-03-04T12:00", pd.Timestamp("2009-03-04T12:00") - pd.Timedelta(hours=hours)
    complete = read_region(tables, at).window
    tables["kassel"] = tables["kassel"][:end]
    if missing is None:
        message = (
            "kassel.csv: expected at most 50% of the values missing in the 24 rows up to the origin, as region"
        )
        message += " was trained (`max_missing_neighbours` of its input set in params.yaml), found 54%"
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            read_region(tables, at)
        return
    window = read_region(tables, at).window
    kept = LOOKBACK - hours
    np.testing.assert_array_equal(window[:kept], complete[:kept])
    np.testing.assert_array_equal(window[kept:, [0, 1, 2, 5, 6]], complete[kept:, [0, 1, 2, 5, 6]])
    np.testing.assert_array_equal(
        window[kept : LOOKBACK - missing, 3:5], [complete[kept - 1, 3:5]] * (hours - missing)
    )
    assert np.isnan(window[LOOKBACK - missing :, 3:5]).all()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "icon",
            lambda rows: rows[:"2009-03-05 23:00"],
            "icon.csv: expected forecasts for the 6 hours after 2009-03-05T2",
        ),
        (
            "icon",
            lambda rows: rows[rows.index > "2009-03-06"].assign(
                issued=pd.Timestamp("2009-03-05T23:30").timestamp()
            ),
            "icon.csv: expected forecasts for the 6 hours after 2009-03-05T23:00:00 that were issued by then, ",
        ),
        (
            "icon",
            lambda rows: rows.assign(rain=1.0),
            "icon.csv: expected the forecasts that region was trained on, found a difference in 'icon rain'",
        ),
        (
            "icon",
            lambda rows: rows.assign(issued=2e9),
            "icon.csv, line 2, column 'issued': expected a forecast issued before its own time, 2009-02-28T1",
        ),
        (
            "kassel",
            lambda rows: rows[["p (mbar)", T]],
            "kassel.csv: expected the columns in the order that region was t",
        ),
        (
            "kassel",
            lambda rows: rows.assign(rain=1.0),
            "kassel.csv: expected the columns that region was trained on, found also 'rain'; another station's "
            "file? Or name them in records.kassel.leave_out",
        ),
        (
            "kassel",
            lambda rows: rows.drop(columns="p (mbar)"),
            "kassel.csv, line 1: expected the columns that region",
        ),
        (
            "kassel",
            lambda rows: rows[::2],
            "kassel.csv: expected a row every 60 minutes, as in the record that region",
        ),
        (
            "jena",
            lambda rows: rows.rename(columns={WIND: "wind"}),
            "jena.csv, line 1: expected the columns that region",
        ),
    ],
    ids=lambda value: "" if callable(value) else value[:40],
)
def test_an_unfit_file_of_another_record_is_refused_by_its_name(
    region: Path, name: str, change: Any, message: str
) -> None:
    tables = make_tables()
    tables[name] = change(tables[name])
    with pytest.raises(UserError) as error:
        read_region(tables, "2009-03-05T23:00")
    assert str(error.value).startswith(message), str(error.value)
    assert "\n" not in str(error.value)


def test_a_window_that_may_lack_values_starts_from_an_hour_with_any(region: Path) -> None:
    tables, line = make_tables(), REGION["clock"] | {"max_missing": 0.4}
    tables["jena"].iloc[-1, [0, 1]] = np.nan
    tables["jena"].iloc[-10:-3, 2] = np.nan
    outcome = read_region(tables, "", clock=line)
    assert str(outcome.origin) == "2009-03-05T23:00:00"
    np.testing.assert_array_equal(outcome.window[:, :3], tables["jena"].to_numpy(np.float32)[-LOOKBACK:])
    tables["jena"].iloc[-20:, :2] = np.nan
    with pytest.raises(UserError, match=r"^jena.csv: expected at most 40% .*\(`max_missing` of .*, found 6[0-9]%$"):
        read_region(tables, "", clock=line)


def test_files_are_told_apart_by_their_records(region: Path) -> None:
    for name in ("a.csv", "b.csv", "x=y.csv", "kassel=z.csv"):
        Path(name).touch()

    def name_files(*texts: str, stations: set[str] = frozenset({"jena"})) -> dict[str, str]:
        paths = command.name_files([command.split_name(text) for text in texts], stations)
        return {name: str(path) for name, path in paths.items()}

    assert name_files("a.csv", "kassel=no.csv") == {"jena": "a.csv", "kassel": "no.csv"}  # another model may answer
    assert name_files("a.csv") == name_files("jena=a.csv") == {"jena": "a.csv"}
    assert name_files("kassel=b.csv", "a.csv") == {"kassel": "b.csv", "jena": "a.csv"}
    assert name_files("x=y.csv", "icon=kassel=z.csv") == {"jena": "x=y.csv", "icon": "kassel=z.csv"}
    assert name_files("kassel=b.csv", "jena=a.csv", stations={"jena", "kassel"}) == {
        "kassel": "b.csv",
        "jena": "a.csv",
    }


@pytest.mark.parametrize(
    ("files", "stations", "message"),
    [
        ([], ["jena"], "expected the file of a station, jena: ./run predict FILE"),
        (["kassel=b.csv"], ["jena"], "expected the file of a station, jena: ./run predict FILE"),
        ([], ["kassel", "jena"], "expected the file of a station, jena or kassel: ./run predict FILE"),
        (
            ["a.csv"],
            ["kassel", "jena"],
            "a.csv: expected NAME=FILE, as the models are of several stations, jena, kassel",
        ),
        (
            ["a.csv", "b.csv"],
            ["jena"],
            "b.csv: expected one file of jena, found a second; name the files of other rec",
        ),
        (["a.csv", "jena=b.csv"], ["jena"], "b.csv: expected one file of jena, found a second"),
        (["a.csv", "kassel=a.csv", "kassel=b.csv"], ["jena"], "b.csv: expected one file of kassel, found a second"),
        (["c.csv"], ["jena"], "c.csv: not found; expected a station's CSV file"),
        (
            ["a.csv", "kasel=b.csv"],
            ["jena"],
            "kasel=b.csv: expected a name in records, found kasel; did you mean kassel?",
        ),
        (["day/x=1/a.csv"], ["jena"], "day/x=1/a.csv: not found; expected a station's CSV file"),
    ],
)
def test_files_that_belong_to_no_record_or_to_one_that_has_another_are_refused(
    region: Path, files: list[str], stations: list[str], message: str
) -> None:
    for name in ("a.csv", "b.csv"):
        Path(name).touch()
    with pytest.raises(UserError) as error:
        command.name_files([command.split_name(text) for text in files], set(stations))
    assert str(error.value).startswith(message)


def test_models_whose_files_are_there_are_candidates_of_the_first_station(region: Path) -> None:
    mos = REGION | {"clock": Clock(**LINE, ahead=["icon"]).model_dump()}
    models = {"kassel": OTHER, "mos": mos, "region": REGION, "ridge": DESCRIPTION}

    def choose(*names: str, models: dict[str, Any] = models) -> tuple[list[str], dict[str, list[str]]]:
        candidates, lacking = command.list_candidates(models, {name: f"{name}.csv" for name in names})
        return list(candidates), lacking

    assert choose("jena") == (["ridge"], {"mos": ["icon"], "region": ["kassel", "icon"]})
    assert choose("jena", "kassel") == (["ridge"], {"mos": ["icon"], "region": ["icon"]})
    assert choose("jena", "icon") == (["mos", "ridge"], {"region": ["kassel"]})
    assert choose("icon", "jena", "kassel") == (["mos", "region", "ridge"], {})
    assert choose("kassel", "jena", "icon") == (["kassel"], {})
    assert choose("kassel", "jena", "icon", models={"region": REGION}) == (["region"], {})
    with pytest.raises(
        UserError, match=r"^mos: expected files of jena, icon, found none of icon; add icon=FILE, or"
    ):
        choose("jena", models={"region": REGION, "mos": mos})
    message = (
        "region: expected files of jena, kassel, icon, found none of kassel and icon; add kassel=FILE icon=FILE, or"
    )
    with pytest.raises(UserError, match=f"^{message}"):
        choose("jena", models={"region": REGION})


# --- Every morning -----------------------------------------------------------------------------------

MODELS = {  # the best on validation first
    "region": REGION,
    "mos": REGION | {"clock": Clock(**LINE, ahead=["icon"]).model_dump(), "columns": DESCRIPTION["columns"]},
    "near": REGION | {"clock": Clock(**LINE, neighbours=["kassel"]).model_dump(), "ahead_columns": []},
    "alone": DESCRIPTION,
}


@pytest.fixture
def morning(region: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with MODELS, whose forecasts are made up, and today's files as `latest` of each record."""
    monkeypatch.setattr(command, "load_session", lambda *_: None)
    monkeypatch.setattr(command, "predict_window", lambda *_: np.array([[1, 2, 3]] * LEADS, np.float32))
    sections = json.loads(Path("params.yaml").read_text())
    sections["models"] = {name: sections["models"]["ridge"] for name in MODELS}
    tables = make_tables()
    for name in ("jena", "kassel"):
        write(tables[name], f"{name}.csv")
    write_forecasts(tables["icon"])
    for name in tables:
        sections["records"][name] |= {"latest": f"{name}.csv"}
    Path("params.yaml").write_text(json.dumps(sections))
    scores = {"lead": np.arange(1.0, LEADS + 1), "mae": 1.0, "bias": 0.0, "coverage": 0.8, "skill": 0.1, "n": 9}
    scores["recalibrated_coverage"] = np.nan
    for position, (name, description) in enumerate(MODELS.items()):
        Path(f"data/models/station/{name}").mkdir(parents=True)
        text = json.dumps(description | {"model": name})
        Path(f"data/models/station/{name}/model.json").write_text(text)
        write_scores(**{name: 1 + position / 10})
        Path(f"data/evaluations/station/{name}").mkdir(parents=True)
        pd.DataFrame(scores).to_parquet(f"data/evaluations/station/{name}/by_lead.parquet")
    return region


def run_predict(capsys: pytest.CaptureFixture[str], *files: str, **options: str) -> tuple[str, list[str], str]:
    """Return the model that answered, the lines on stderr but those on the age, and what was printed."""
    folder = Path(options.get("output", "" if files else "data/forecast"))
    command.predict(*files, **options)
    done = capsys.readouterr()
    lines = [line for line in done.err.splitlines() if "this is no forecast for tomorrow" not in line]
    return json.loads((folder / "forecast.json").read_text())["model"], lines, done.out


def set_latest(**latest: str | None) -> None:
    sections = json.loads(Path("params.yaml").read_text())
    for name, source in latest.items():
        sections["records"][name]["latest"] = source
    Path("params.yaml").write_text(json.dumps(sections))


def test_without_a_file_the_best_model_forecasts_from_the_latest_of_each_record(morning: Path, capsys) -> None:
    model, warnings, printed = run_predict(capsys)
    assert (model, warnings) == ("region", [])
    assert "Model: region (the best on validation), trained on" in printed
    assert "Written to data/forecast: forecast.csv" in printed
    assert json.loads(Path("data/forecast/forecast.json").read_text())["file"] == "jena.csv"
    set_latest(kassel=None)
    model, warnings, printed = run_predict(capsys)
    assert (model, warnings) == ("mos", [])
    assert "Model: mos (the best on validation that can answer: region needs kassel), trained on" in printed
    set_latest(jena=None)
    message = r"^params.yaml: records.jena.latest: expected a path or URL of the station's recent rows, found none"
    with pytest.raises(UserError, match=message):
        command.predict()


@pytest.mark.parametrize(
    ("names", "break_file", "model", "warning"),
    [
        (["kassel"], Path.unlink, "mos", "kassel.csv: not found; expected a station's CSV file"),
        (["kassel"], lambda path: path.write_text(""), "mos", "kassel.csv"),
        (["icon"], lambda path: path.write_text("Date Time,issued\n"), "near", "icon.csv, line 1"),
        (["icon", "kassel"], Path.unlink, "alone", "kassel.csv: not found"),
    ],
)
def test_a_missing_or_unreadable_file_of_another_record_does_not_stop_the_morning(
    morning: Path, capsys, names: list[str], break_file: Any, model: str, warning: str
) -> None:
    for name in names:
        break_file(Path(f"{name}.csv"))
    for files in ([], ["jena.csv", "kassel=kassel.csv", "icon=icon.csv"]):
        answered, warnings, printed = run_predict(capsys, *files)
        assert answered == model and len(warnings) == len(names)
        assert warnings[0].startswith(f"warning: {warning}")
        unable = {"kassel": "region, near", "icon": "region, mos"}[names[0]]
        if len(names) == 1:
            assert warnings[0].endswith(f"; not used: {unable}") or model == "mos"
        assert f"Model: {model} (the best on validation that can answer: region cannot, see the warnings" in printed
        assert "; not used: region" in warnings[0]


def test_a_late_file_is_used_by_the_models_that_allow_it(morning: Path, capsys) -> None:
    tables = make_tables()
    write(tables["kassel"][:-14], "kassel.csv")  # ends 15 hours before the origin
    write_forecasts(tables["icon"][:"2009-03-05 23:00"])
    model, warnings, _ = run_predict(capsys)
    assert model == "near"
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: icon.csv: expected forecasts for the 6 hours after 2009-03-05T23:00:00")
    assert warnings[0].endswith("; not used: region, mos")
    write(tables["kassel"][:-16], "kassel.csv")
    assert run_predict(capsys)[0] == "alone"


def test_a_station_that_no_forecast_can_start_from_is_refused_and_nothing_is_written(morning: Path, capsys) -> None:
    write(make_tables()["jena"][-20:], "jena.csv")
    with pytest.raises(UserError, match=r"^jena.csv: expected at least 24 hours .* of region, found 20,"):
        command.predict()
    assert capsys.readouterr().err == "" and not Path("data/forecast").exists()
    Path("jena.csv").unlink()
    with pytest.raises(UserError, match=r"^jena.csv: not found; expected a station's CSV file$"):
        command.predict()
    with pytest.raises(UserError, match=r"^kassel.csv: not found; expected a station's CSV file$"):
        Path("kassel.csv").unlink()
        command.predict(write(make_tables()["jena"], "jena.csv"), "kassel=kassel.csv", model="near")


def test_the_output_says_what_the_other_records_brought(morning: Path, capsys) -> None:
    tables = make_tables()
    tables["kassel"].iloc[-2:, 0] = np.nan
    write(tables["kassel"], "kassel.csv")
    _, _, printed = run_predict(capsys)
    result = json.loads(Path("data/forecast/forecast.json").read_text())
    assert (result["record"], result["choice"]) == ("jena", "the best on validation")
    kassel = {"record": "kassel", "file": "kassel.csv", "kind": "measurements", "known": "2009-03-05T20:00:00"}
    icon = {"record": "icon", "file": "icon.csv", "kind": "forecasts", "known": "2009-03-05T19:00:00"}
    assert result["others"] == [kassel | {"hours_before_origin": 3.0}, icon | {"hours_before_origin": 4.0}]
    late = "kassel: until 2009-03-05 20:00, 3 h before the origin; icon: issued 2009-03-05 19:00, 4 h before the "
    late += "origin"
    assert f"Also used: {late}." in printed
    assert late.replace("; ", ". ") in Path("data/forecast/forecast.html").read_text()
    icon = tables["icon"]
    newest = icon[icon["issued"] == pd.Timestamp("2009-03-05T19:00").timestamp()]["2009-03-06":][T]
    outputs = [row["weather_model"] for row in result["forecast"]]
    assert outputs == [*newest, *[None] * (LEADS - len(newest))]
    written = pd.read_csv("data/forecast/forecast.csv")
    np.testing.assert_array_equal(written["weather_model"], np.array(outputs, float))


@pytest.mark.parametrize(
    ("last", "reach", "leads", "model"),
    [
        ("06 05:00", [1.0] * LEADS, [1, 2, 3, 4, 5, 6], "mos"),
        ("06 03:00", [1.0] * LEADS, [1, 2, 3, 4], "mos"),
        ("06 03:00", [1.0] * 5 + [0.5], [1, 2, 3, 4, 6], "mos"),
        ("06 02:00", [1.0] * LEADS, [1, 2, 3, 4, 5, 6], "near"),
        ("06 02:00", [0.5] * LEADS, [1, 2, 3, 4, 5, 6], "mos"),
    ],
)
def test_leads_that_a_forecast_file_does_not_reach_are_left_out_where_the_model_needs_it(
    morning: Path, capsys, last: str, reach: list[float], leads: list[int], model: str
) -> None:
    set_latest(kassel="kassel.csv")
    icon = make_forecasts()
    icon = icon[icon["issued"] == pd.Timestamp("2009-03-05T19:00").timestamp()]
    times = pd.date_range("2009-03-05 20:00", "2009-03-06 05:00", freq="h", name="Date Time")
    icon = pd.DataFrame({"issued": icon["issued"].iloc[0], T: np.arange(len(times)) / 2.0}, times)
    write_forecasts(icon[: f"2009-03-{last}"])
    Path("metrics/station/region.json").unlink()
    Path("data/models/station/mos/model.json").write_text(
        json.dumps(MODELS["mos"] | {"model": "mos", "reach": reach})
    )
    answered, warnings, _ = run_predict(capsys)
    rows = json.loads(Path("data/forecast/forecast.json").read_text())["forecast"]
    assert answered == model and [row["lead_hours"] for row in rows] == leads
    assert len(pd.read_csv("data/forecast/forecast.csv")) == len(leads)
    if model == "near":
        assert "more than half of the 6 leads after 2009-03-05T23:00:00, found them for 3; fetch a" in warnings[0]
    elif len(leads) < LEADS:
        (warning,) = warnings
        missing = f"for {LEADS - len(leads)} of 6 leads after 2009-03-05T23:00:00, the first of them 5 hours ahead"
        assert warning == f"warning: icon.csv: forecasts are missing {missing}; these leads are left out"
    else:
        assert warnings == []


def test_a_file_whose_clock_is_ahead_is_refused(region: Path) -> None:
    parts = read_region(make_tables(), "").parts
    end = np.datetime64("2009-03-05T23:00:00")
    latest.check_clocks(parts, end, end)  # the weather model is issued at 19:00 and next day, 4:00
    parts = [parts[0]._replace(end=end + np.timedelta64(2, "h")), parts[1]]
    latest.check_clocks(parts, end, end + np.timedelta64(1, "h"))
    with pytest.raises(UserError) as error:
        latest.check_clocks(parts, end, end)
    assert str(error.value) == (
        "kassel.csv: expected measurements up to now, found one at 2009-03-06T01:00:00, while the station's file "
        "ends on 2009-03-05T23:00:00; do both have the times of one clock? See records.kassel.zone in params.yaml"
    )


def test_a_forecast_that_turned_out_wrong_is_warned_of_next_morning(morning: Path, capsys) -> None:
    hours, tables = 48, make_tables()
    times = pd.date_range("2009-03-05 12:00", periods=hours, freq="h")[1:]
    rows = [{"valid": time.isoformat(), "lead_hours": lead, "median": 8.0} for lead, time in enumerate(times, 1)]
    scores = [{"lead_hours": lead, "mae": 1.0 if lead < 9 else 3.0} for lead in range(1, hours)]
    last = {"record": "jena", "target": T, "unit": "degC", "origin": "2009-03-05T12:00:00", "model": "mos"}
    last |= {"forecast": rows, "verification": scores}
    station = tables["jena"]
    end = np.datetime64("2009-03-06T12:00:00")

    def warn(shift: float, hours: int = 24, missing: int = 0) -> list[str]:
        measured = pd.Series(8.0 + shift, times[:hours])
        measured.iloc[:missing] = np.nan
        return recent_errors.warn_about_errors(last, measured, end)

    promise = (8 * 1.0 + 16 * 3.0) / 24
    assert warn(2 * promise - 0.01) == []
    assert warn(2 * promise + 0.01) == warn(-2 * promise - 0.01) == warn(2 * promise + 0.01, hours=40)
    assert warn(2 * promise + 0.01)[0].startswith(
        "the last forecast, from 2009-03-05T12:00:00 by mos, was wrong by 4.68 degC on average over 24 hours; the "
        "test period promised 2.33 degC; if this comes often, "
    )
    assert warn(9, hours=11) == warn(9, missing=13) == [] != warn(9, missing=12)

    Path("data/forecast").mkdir()
    path = Path("data/forecast/forecast.json")
    station.loc["2009-03-05 12:00":, T] += 30  # the file ends at 23:00; 11 hours are too few
    write(station, "jena.csv")
    last["origin"] = "2009-03-05T10:00:00"
    for row in rows:
        row["valid"] = (pd.Timestamp(row["valid"]) - pd.Timedelta(hours=2)).isoformat()
    for content, count in (
        (last, 1),
        (last | {"record": "kassel"}, 0),
        (last | {"target": "p (mbar)"}, 0),
        (last | {"forecast": [{}]}, 0),
        (last | {"verification": 5}, 0),
        ([], 0),
    ):
        path.write_text(json.dumps(content))
        _, warnings, _ = run_predict(capsys)
        assert sum("the last forecast, from" in warning for warning in warnings) == count
    assert run_predict(capsys)[1] == []  # forecast.json is that of the same origin by now


def test_a_damaged_model_leaves_the_answer_to_the_next_one(morning: Path, capsys, monkeypatch) -> None:
    def refuse(name: str, _: int) -> None:
        if name == "region":
            raise UserError("data/models/station/region/model.onnx: expected the file that")

    monkeypatch.setattr(command, "load_session", refuse)
    Path("data/models/station/mos/model.json").write_text("{}")
    model, warnings, printed = run_predict(capsys)
    assert model == "near" and len(warnings) == 2
    assert "mos/model.json: cannot be read (KeyError: 'record')" in warnings[0]
    assert warnings[1].endswith("region/model.onnx: expected the file that; not used: region")
    assert "region cannot, see the warnings; mos cannot, see the warnings" in printed


def test_latest_may_be_an_address_and_one_that_does_not_answer_is_left_out(
    morning: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {f"/{path.name}": path.read_bytes() for path in Path().glob("*.csv")}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = contents.get(self.path.partition("?")[0])
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    monkeypatch.setattr(fetching, "BACKOFF", 0)
    monkeypatch.setenv("NO_PROXY", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        set_latest(**{name: f"{address}/{name}.csv?key=secret" for name in ("jena", "kassel", "icon")})
        command.predict(output="here")
        assert json.loads(Path("here/forecast.json").read_text())["file"] == "jena.csv"
        contents["/kassel.csv"] = b"<html>"
        del contents["/icon.csv"]
        capsys.readouterr()
        model, warnings, _ = run_predict(capsys)
        assert model == "alone"
        assert warnings == [
            f"warning: {address}/kassel.csv: cannot be fetched (this is an HTML or XML page, not the file itself); "
            "see records.kassel.latest; not used: region, near",
            f"warning: {address}/icon.csv: cannot be fetched (HTTP 404 Not Found); see records.icon.latest; not "
            "used: mos",
        ]
        contents["/jena.csv"] = contents["/jena.csv"].replace(b"05.03.2009 01", b"no time 01")
        with pytest.raises(UserError, match=f"^{address}/jena.csv, line 99, column 'Date Time': "):
            command.predict()
        server.shutdown()
    with pytest.raises(UserError, match=rf"^{address}/jena.csv: cannot be fetched \(connection refused\); see"):
        command.predict()


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
    by_lead, output = pd.DataFrame({"lead": [1.0], "mae": [1.0]}), given[:, 0].copy()
    output[0] = np.nan
    start = make_latest(given)._replace(model_output=output)
    result = prediction.summarize_forecast(
        DESCRIPTION, start, given, np.empty(0, "M8[s]"), by_lead, "f", [], "as asked"
    )
    result = json.loads(json.dumps(result))
    outcome = [[row[key] for key in ("low", "median", "high")] for row in result["forecast"]]
    np.testing.assert_array_equal(np.array(outcome, np.float32), given)
    assert [row["valid"] for row in result["forecast"]][::5] == ["2009-03-04T08:00:00", "2009-03-04T13:00:00"]
    outputs = [row["weather_model"] for row in result["forecast"]]
    assert outputs[0] is None
    np.testing.assert_array_equal(np.array(outputs[1:], np.float32), output[1:])


# --- All of it ---------------------------------------------------------------------------------------


def write_clean(name: str, columns: dict[str, np.ndarray]) -> None:
    """Write data/clean/NAME.parquet as `clean` does it."""
    source = json.dumps({"source": "some.csv", "synthetic": False})
    table = pa.table(columns, metadata={"source": source, "target": json.dumps(T)})
    pq.write_table(table, f"data/clean/{name}.parquet")


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
    write_clean("jena", columns)
    clock("station")
    train("station_mlp")
    evaluate("station_mlp")
    return table


@pytest.mark.slow
@pytest.mark.parametrize("columns", [0, 2], ids=["past", "past and ahead"])
def test_what_a_window_gets_does_not_depend_on_the_others(project: Path, columns: int) -> None:
    """Not so what onnxruntime gives for batches of different sizes."""
    import keras

    from stages.lib.nn.exporting import convert_model

    window, random = keras.Input((LOOKBACK, 5), name="past"), np.random.default_rng(0)
    values = keras.layers.Normalization(mean=[1.0] * 5, variance=[2.0] * 5)(window)
    parts, inputs = [keras.layers.GRU(12)(values), keras.ops.sin(window[:, -1])], [window]
    if columns:
        inputs.append(keras.Input((LEADS, columns), name="ahead"))
        parts.append(keras.layers.Flatten()(keras.layers.Dense(3)(inputs[1])))
    state = keras.layers.Concatenate()(parts)
    dense = keras.layers.Dense(LEADS * 3)(keras.layers.Dense(16, activation="relu")(state))
    model = keras.Model(inputs if columns else window, keras.layers.Reshape((LEADS, 3))(dense))
    model.save("model.keras")
    convert_model(Path("model.keras"), Path("model.onnx"))
    write_onnx("ridge", Path("model.onnx").read_bytes())
    session = onnx_prediction.load_session("ridge", 1)
    size = onnx_prediction.BATCH_SIZE
    shapes = {"past": (2 * size + 37, LOOKBACK, 5), "ahead": (2 * size + 37, LEADS, columns)}
    arrays = {
        value.name: random.normal(size=shapes[value.name]).astype(np.float32) for value in session.get_inputs()
    }

    def predict(rows: slice) -> np.ndarray:
        chosen = {name: values[rows] for name, values in arrays.items()}
        count = len(chosen["past"])
        return onnx_prediction.predict_windows(session, count, lambda i: {name: v[i] for name, v in chosen.items()})

    together = predict(slice(None))
    np.testing.assert_allclose(together, model(list(arrays.values()) if columns else arrays["past"]), atol=1e-5)
    for position in (0, 5, size - 1, size, 2 * size + 36):
        alone = command.predict_window(session, make_latest(*(values[position] for values in arrays.values())))
        np.testing.assert_array_equal(alone, together[position])
    np.testing.assert_array_equal(predict(slice(size - 3, size + 5)), together[size - 3 : size + 5])


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


@pytest.mark.slow
def test_from_a_long_file_the_interval_is_the_recalibrated_one_of_evaluate(
    trained: pd.DataFrame, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recalibration, "DAYS", np.timedelta64(5, "D"))
    evaluate("station_mlp")
    folder = Path("data/evaluations/station/station_mlp")
    table = pd.read_parquet(folder / "forecast.parquet")
    origins = table["origin"].drop_duplicates().to_numpy().astype("M8[s]")
    outputs, targets = (
        table[names].to_numpy().reshape(len(origins), LEADS, -1) for names in (["q0.1", "q0.5", "q0.9"], ["truth"])
    )
    expected = recalibration.recalibrate_intervals_by_day(outputs, targets[:, :, 0], origins, 1)
    by_lead = pd.read_parquet(folder / "by_lead.parquet")
    for at in (origins[-30], origins[-1]):  # the five days before them are all of the test period
        command.predict(write(trained), at=str(at), output="out")
        outcome = pd.read_csv("out/forecast.csv").astype({"low": "f4", "median": "f4", "high": "f4"})
        np.testing.assert_array_equal(outcome[["low", "median", "high"]], expected[origins == at][0])
        result = json.loads(Path("out/forecast.json").read_text())
        chosen = recalibration.find_latest_origins(origins, at.astype("M8[D]"), LEADS, 1)
        assert result["recalibration"] == [str(time) for time in origins[chosen][[0, -1]]]
        printed = capsys.readouterr().out
        coverage = f"{100 * by_lead['recalibrated_coverage'].iloc[2]:.0f} %"
        assert f"Its 80 % interval 3 h ahead, recalibrated daily, held the truth in {coverage} of" in printed
        assert f"Intervals: recalibrated on the forecasts from {origins[chosen][0].astype('M8[D]')} to" in printed

    # Its score is that of the test forecasts, for the first of which validation has the errors.
    inputs, predictor = load_input_set("data/inputs/station"), onnx_prediction.load_predictor
    splits = (inputs.val, inputs.test)
    quantiles = np.concatenate(list(map(predictor("station_mlp", inputs, read_schedule("station_mlp")), splits)))
    truth, times = (np.concatenate([getattr(split, key) for split in splits]) for key in ("targets", "times"))
    low, _, high = np.moveaxis(recalibration.recalibrate_intervals_by_day(quantiles, truth, times, 1), -1, 0)
    is_scored = np.isfinite(low + truth) & (times >= origins[0])[:, None]
    inside = ((low <= truth) & (truth <= high))[is_scored[:, 2], 2]
    assert len(inside) > 150 and by_lead["recalibrated_coverage"].iloc[2] == pytest.approx(inside.mean())

    # Of two days, there is too little to learn from: the intervals stay as they are.
    at = origins[-1]
    command.predict(write(trained[at - np.timedelta64(60, "h") :]), at=str(at), output="out")
    outcome = pd.read_csv("out/forecast.csv").astype({"low": "f4", "median": "f4", "high": "f4"})
    np.testing.assert_array_equal(outcome[["low", "median", "high"]], outputs[-1])
    assert json.loads(Path("out/forecast.json").read_text())["recalibration"] is None


@pytest.mark.slow
def test_from_the_files_of_several_records_the_forecast_is_that_of_evaluate(
    region: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stages.train import train

    start = "2009-01-01 00:00"
    tables = {"jena": make_weather(720, start), "kassel": make_weather(719, start)[[T, "p (mbar)"]]}
    tables["kassel"].iloc[600:640, 1] = np.nan
    tables["icon"] = make_forecasts(start, 720)
    sections = json.loads(Path("params.yaml").read_text())
    line = {"architecture": "station_mlp", "task": "station", "inputs": "station", "epochs": 1, "members": 2}
    sections["models"] = {"region": line | {"units": 4, "bins": 3, "curves": 2, "noise": 0.1, "dropout": 0.1}}
    sections["clock"] = {"station": LINE | {"neighbours": ["kassel"], "ahead": ["icon"]}}
    Path("params.yaml").write_text(json.dumps(sections))
    for name, record in (("jena", tables["jena"]), ("kassel", tables["kassel"])):
        write_clean(name, to_record(record))
    forecasts = clean_forecast_table(tables["icon"]).frame.reset_index()
    write_clean("icon", {name: values.to_numpy() for name, values in forecasts.items()})
    clock("station")
    train("region")
    evaluate("region")
    evaluated = pd.read_parquet("data/evaluations/station/region/forecast.parquet")
    origins = evaluated["origin"].drop_duplicates()
    for position in (0, len(origins) // 2, len(origins) - 1):
        at = origins.iloc[position]
        files = [
            write(tables["jena"][at - pd.Timedelta(hours=LOOKBACK - 1) :]),
            "kassel=" + write(tables["kassel"][at - pd.Timedelta(hours=LOOKBACK + 3) :], "kassel.csv"),
            f"icon={write_forecasts(tables['icon'][at - pd.Timedelta(hours=LOOKBACK - 1) :])}",
        ]
        command.predict(*files, at=at.isoformat(), output="out")
        outcome = pd.read_csv("out/forecast.csv").astype({"low": "f4", "median": "f4", "high": "f4"})
        expected = evaluated[evaluated["origin"] == at]
        assert [list(outcome[name]) for name in ("low", "median", "high")] == [
            list(expected[name]) for name in ("q0.1", "q0.5", "q0.9")
        ]
    assert "Model: region (the best on validation), trained on" in capsys.readouterr().out
    with pytest.raises(
        UserError, match=r"^region: expected files of jena, kassel, icon, found none of kassel; add "
    ):
        command.predict(files[0], files[2], output="out")
    with pytest.raises(
        UserError, match=r"^latest.csv: expected one file of jena, found a second; name the files of"
    ):
        command.predict(files[0], "latest.csv", output="out")


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
