"""Cleaning: the grid and what is missing on it, against a slow version written from the description."""

import json
import math
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import clean as stage
from stages.lib.errors import UserError
from stages.lib.settings.clean import Clean
from stages.lib.settings.records import Sensors
from stages.lib.weather.cleaning import clean_forecasts, clean_record
from stages.lib.weather.gaps import find_short_gaps, interpolate_short_gaps
from stages.lib.weather.record import ISSUE_TIME

START = datetime(2009, 1, 1)
CHECKS = {
    "temperature": {"columns": ["T*", "temperature"], "limits": [-50, 50], "step": 3, "stuck": 2},
    "humidity": {"columns": ["rh (%)"], "limits": [0, 104], "missing": [0]},
}
OPTIONS = settings(max_examples=60)
NONE = {1: [-9999], 2: [-9999, 0]}  # what stands for no temperature, and no humidity, in a row


def make_settings(**changes):
    """Return the section `clean` with `changes`."""
    return Clean.model_validate({"max_gap": 3, "checks": CHECKS} | changes)


def make_record(times, **columns):
    """Return a record with a column a keyword; `T` and `rh` get the names of the Jena record."""
    names = {"T": "T (degC)", "rh": "rh (%)"}
    table = {names.get(name, name): np.array(values, float) for name, values in columns.items()}
    return {"Date Time": np.array(times, "M8[s]"), **table}


def run_clean(table, target="T (degC)", wind=None, **changes):
    sensors = Sensors.model_validate({"target": target, "sentinels": [-9999], "wind": wind})
    return clean_record(table, make_settings(**changes), sensors, "a record", "records.jena")


def make_times(minutes, count, start=START):
    return [start + timedelta(minutes=minutes * row) for row in range(count)]


# --- The grid ----------------------------------------------------------------------------------------


def find_most_common(values):
    counts = Counter(values)
    return min(values, key=lambda value: (-counts[value], value))


def build_plain_grid(rows):
    """Return {grid point: row} of (seconds, values ...) rows, and the counts; None for a point without a row."""
    moments = sorted({row[0] for row in rows})
    interval = find_most_common([b - a for a, b in pairwise(moments)])
    phase = find_most_common([moment % interval for moment in moments])
    unique = list(dict.fromkeys(rows))
    points = {}
    for row in unique:
        point = math.floor((row[0] - phase) / interval + 0.5) * interval + phase
        points.setdefault(point, []).append(row)
    grid = {
        point: min(points[point], key=lambda row: abs(row[0] - point)) if point in points else None
        for point in range(min(points), max(points) + interval, interval)
    }
    moved = sum(row is not None and row[0] != point for point, row in grid.items())
    counts = {"duplicates": len(rows) - len(unique), "conflicts": len(unique) - len(points), "moved": moved}
    return grid, interval, counts


few_values = st.sampled_from([-9999.0, -50.5, -50.0, 0.0, 1.0, 4.5, 50.0, 60.0, 104.0, 105.0])
some_rows = st.lists(
    st.tuples(st.integers(0, 24), st.sampled_from([0, 0, 0, 0, 60, 299, 300, -300, 301]), few_values, few_values),
    min_size=3,
    max_size=30,
)


@OPTIONS
@given(some_rows)
def test_the_grid_is_that_of_the_description(drawn):
    rows = [(600 * step + late + 1_230_768_000, T, rh) for step, late, T, rh in sorted(drawn)]
    if len({row[0] for row in rows}) < 2:
        return
    grid, interval, counts = build_plain_grid(rows)
    expected = []
    for row in grid.values():
        _, T, rh = row or (0, -9999, 0)
        expected.append([T if -50 <= T <= 50 else np.nan, rh if 0 < rh <= 104 else np.nan])
    expected = np.array(expected)
    moments, T, rh = zip(*rows, strict=True)
    table = make_record(np.array(moments, "M8[s]"), T=T, rh=rh)
    try:
        result, report = run_clean(table)
    except UserError as error:
        kept = [[row[k] for row in grid.values() if row and row[k] not in none] for k, none in NONE.items()]
        odd = [
            bool(own) and not low <= np.median(own) <= high
            for own, (low, high) in zip(kept, [(-50, 50), (0, 104)], strict=True)
        ]
        assert (
            ("times too few" in str(error) and len(grid) > 20 * len(rows))
            or ("found none" in str(error) and np.isnan(expected[:, 0]).all())
            or ("found a median of" in str(error) and any(odd))
        )
        return
    assert report["interval_minutes"] * 60 == pytest.approx(interval)
    assert result.index.to_numpy().astype("M8[s]").astype(int).tolist() == list(grid)
    assert {key: report[key] for key in counts} == counts
    assert sum(gap["missing"] for gap in report["gaps"]) == sum(row is None for row in grid.values())
    for position, name in enumerate(["T (degC)", "rh (%)"]):
        if name in result:
            np.testing.assert_array_equal(result[name], expected[:, position])
        else:
            assert report["dropped"] == [name] and np.isnan(expected[:, position]).all()


def test_a_phase_that_shifts_after_a_gap_moves_rows_to_the_nearest_point():
    times = [*make_times(60, 5), *make_times(60, 3, START + timedelta(hours=7, minutes=20))]
    result, report = run_clean(make_record(times, T=range(8)))
    assert result.index.minute.tolist() == [0] * 10
    assert report["moved"] == 3 and report["phase_minutes"] == 0
    assert report["gaps"] == [{"first": "2009-01-01T05:00:00", "last": "2009-01-01T06:00:00", "missing": 2}]
    np.testing.assert_array_equal(result["T (degC)"], [0, 1, 2, 3, 4, np.nan, np.nan, 5, 6, 7])


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows(count):
    with pytest.raises(UserError, match=f"a record: expected rows at two times at least, found {count}"):
        run_clean(make_record(make_times(10, count), T=[1] * count))


def test_a_time_of_another_century_is_named():
    with pytest.raises(UserError, match=r"from 1009-01-01 .* to 2009-01-01 .* correct the times that are wrong"):
        run_clean(make_record([datetime(1009, 1, 1), *make_times(10, 30)], T=[1] * 31))


# --- Values ------------------------------------------------------------------------------------------


def test_a_column_that_nobody_named_is_taken_as_it_is():
    result, report = run_clean(make_record(make_times(60, 3), T=[1, 2, 3], rain=[0, 5000, -9999]))
    np.testing.assert_array_equal(result["rain"], [0, 5000, np.nan])
    assert report["columns"]["rain"]["sentinels"] == 1


def test_what_was_taken_out_is_counted_once():
    rows = make_record(make_times(60, 8), T=[1, -9999, 51, 1, 2, -9999, -9999, 1], rh=[5, 0, 5, 0, 5, 5, 5, 5])
    _, report = run_clean(rows, max_gap=2)
    T, rh = report["columns"]["T (degC)"], report["columns"]["rh (%)"]
    assert T == {"sentinels": 3, "out_of_limits": 1, "steps": 0, "stuck": 0, "missing": 4, "interpolated": 4}
    assert (rh["sentinels"], rh["out_of_limits"], rh["missing"]) == (2, 0, 2)


@pytest.mark.parametrize(("minutes", "steps"), [(1, 1), (10, 1), (11, 0), (60, 0)])
def test_steps_are_counted_up_to_ten_minutes_and_stay(minutes, steps):
    result, report = run_clean(make_record(make_times(minutes, 6), T=[1, 4, 1, 4.5, -9999, 20]))
    assert report["columns"]["T (degC)"]["steps"] == steps
    assert result["T (degC)"].tolist()[:4] == [1, 4, 1, 4.5]


@pytest.mark.parametrize(
    ("minutes", "runs", "stuck"),
    [
        (60, [5, 6], 6),  # four hours are more than two, but five rows may agree by chance
        (20, [7, 8], 8),  # the seven rows last two hours and no more
        (10, [13, 14], 14),
        (240, [2, 6, 2, 7], 13),
    ],
)
def test_a_stuck_sensor_is_counted_beyond_its_hours_and_rows_and_stays(minutes, runs, stuck):
    values = [value for number, length in enumerate(runs) for value in [number] * length]
    values += [-9999] * 15  # nothing measured is not stuck
    result, report = run_clean(make_record(make_times(minutes, len(values)), T=values))
    assert report["columns"]["T (degC)"]["stuck"] == stuck
    assert result["T (degC)"].notna().sum() == sum(runs)


def test_another_unit_is_an_error_that_names_the_column():
    with pytest.raises(UserError, match=r"a record, column 'T \(degC\)': expected values from -50 to 50 .* 285"):
        run_clean(make_record(make_times(60, 3), T=[284, 285, 286]))


def test_a_target_that_was_never_measured_is_an_error_and_another_column_is_dropped():
    rows = make_record(make_times(60, 2), T=[1, 2], rh=[0, 0])
    result, report = run_clean(rows)
    assert list(result) == ["T (degC)"] and report["dropped"] == ["rh (%)"]
    with pytest.raises(UserError, match=r"column 'rh \(%\)': expected measured values of the target, found none"):
        run_clean(rows, target="rh (%)")


def test_a_column_in_two_checks_is_an_error():
    twice = {"one": {"columns": ["T (degC)"]}, "other": {"columns": ["T*"]}}
    message = r"clean.checks: expected every column in one .*'T \(degC\)' in one and other"
    with pytest.raises(UserError, match=message):
        run_clean(make_record(make_times(60, 2), T=[1, 2]), checks=twice)


# --- Wind --------------------------------------------------------------------------------------------

WIND = {"speed": "wv", "direction": "wd"}


def test_the_wind_is_a_vector_that_points_where_it_blows_to():
    rows = make_record(make_times(60, 6), T=range(6), wv=[2] * 5 + [0], wd=[0, 90, 180, 270, -9999, -9999])
    result, _ = run_clean(rows, wind=WIND)
    assert list(result) == ["T (degC)", "wv", "wind east (m/s)", "wind north (m/s)"]
    np.testing.assert_allclose(result["wind east (m/s)"], [0, -2, 0, 2, np.nan, 0], atol=1e-12)
    np.testing.assert_allclose(result["wind north (m/s)"], [-2, 0, 2, 0, np.nan, 0], atol=1e-12)
    assert result["wv"].tolist() == [2] * 5 + [0]


@pytest.mark.parametrize("column", ["wv", "wd"])
def test_wind_columns_that_are_not_there(column):
    rows = make_record(make_times(60, 2), T=[1, 2], wv=[1, 1], wd=[1, 1])
    del rows[column]
    with pytest.raises(
        UserError, match=rf"records.jena.wind.(speed|direction): .* found '{column}'; .* `wind: null`"
    ):
        run_clean(rows, wind=WIND)


def test_a_direction_is_no_target():
    with pytest.raises(UserError, match=r"records.jena.wind.direction: expected another column than the target"):
        run_clean(make_record(make_times(60, 2), wv=[1, 1], wd=[1, 1]), target="wd", wind=WIND)


# --- Gaps --------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 4), st.lists(st.integers(0, 30), max_size=3))
def test_short_gaps_are_measured_on_either_side_of_one_piece(missing, limit, breaks):
    expected = []
    for row in range(len(missing)):
        before = next((i for i in range(row, -1, -1) if not missing[i]), None)
        after = next((i for i in range(row, len(missing)) if not missing[i]), None)
        inside = None not in (before, after) and not any(before < point <= after for point in breaks)
        expected.append(missing[row] and inside and after - before - 1 <= limit)
    result = find_short_gaps(np.array(missing, bool), limit, np.sort(np.array(breaks, int)))
    assert result.tolist() == expected


def test_long_gaps_stay_whole_where_pandas_would_fill_their_first_hours():
    values = pd.DataFrame({"T": [0, np.nan, np.nan, 3, np.nan, np.nan, np.nan, 7, np.nan]})
    filled = interpolate_short_gaps(values, 2)["T"]
    np.testing.assert_array_equal(filled, [0, 1, 2, 3, np.nan, np.nan, np.nan, 7, np.nan])
    assert values["T"].interpolate(limit=2).notna().sum() > filled.notna().sum()  # the trap


# --- Forecasts ---------------------------------------------------------------------------------------


def run_clean_forecasts(table, issued, target="T (degC)", wind=None, **changes):
    sensors = {"target": target, "sentinels": [-9999], "wind": wind, "issued": issued}
    settings, sensors = make_settings(**changes), Sensors.model_validate(sensors)
    return clean_forecasts(table, settings, sensors, "a record", "records.icon")


def make_forecasts(rows):
    """Return a record of forecasts as `parse` leaves it, of (hour valid at, hours before that, T, rh) rows."""
    valid = np.array([START + timedelta(hours=hour) for hour, *_ in rows], "M8[s]")
    issued = [
        (START + timedelta(hours=hour - lead) - datetime(1970, 1, 1)).total_seconds() for hour, lead, *_ in rows
    ]
    table = make_record(valid, T=[T for *_, T, _ in rows], rh=[rh for *_, rh in rows])
    return {"Date Time": valid, "run": np.array(issued)} | table


forecast_rows = st.tuples(st.integers(0, 6), st.integers(0, 9), few_values, few_values)


@OPTIONS
@given(st.lists(forecast_rows, min_size=1, max_size=20), st.sampled_from(["run", 6, 0.5]), st.booleans())
def test_forecasts_are_those_of_the_description(drawn, issued, has_target):
    """Each row once, in the order of the valid times and then of the issues, without what is impossible.

    A row without the target, or without any value, is left out.
    """
    rows = sorted(drawn) if issued == "run" else [(hour, issued, T, rh) for hour, _, T, rh in sorted(drawn)]
    table = make_forecasts(rows)
    if issued != "run":
        table.pop("run")
    rows = list(dict.fromkeys(rows))
    rows.sort(key=lambda row: (row[0], -row[1]))
    columns = {"T (degC)": ([row[2] for row in rows], -50, 50, NONE[1])}
    columns["rh (%)"] = ([row[3] for row in rows], 0, 104, NONE[2])
    kept = {name: [x for x in values if x not in none] for name, (values, _, _, none) in columns.items()}
    try:
        result, report = run_clean_forecasts(table, issued, "T (degC)" if has_target else None)
    except UserError as error:
        odd = [bool(x) and not columns[name][1] <= np.median(x) <= columns[name][2] for name, x in kept.items()]
        nothing = [not any(low <= x <= high for x in kept[name]) for name, (_, low, high, _) in columns.items()]
        assert (
            ("found a median of" in str(error) and any(odd))
            or ("of the target, found none" in str(error) and has_target and nothing[0])
            or ("values in a column at least, found none" in str(error) and not has_target and all(nothing))
        )
        return
    measured = {
        name: np.array([x if x not in none and low <= x <= high else np.nan for x in values])
        for name, (values, low, high, none) in columns.items()
    }
    lacking = np.isnan(measured["T (degC)"])
    if not has_target:
        lacking = lacking & np.isnan(measured["rh (%)"])
    used = [row for row, lacks in zip(rows, lacking, strict=True) if not lacks]
    assert result.index.name == "Date Time" and result.columns[0] == ISSUE_TIME
    assert result.index.tolist() == [START + timedelta(hours=hour) for hour, *_ in used]
    assert result[ISSUE_TIME].tolist() == [START + timedelta(hours=hour - lead) for hour, lead, *_ in used]
    for name, (values, _, _, none) in columns.items():
        counts = {"sentinels": sum(x in none for x in values), "missing": int(np.isnan(measured[name]).sum())}
        if name in result:
            np.testing.assert_array_equal(result[name], measured[name][~lacking])
            assert {key: report["columns"][name][key] for key in counts} == counts
        else:
            assert name in report["dropped"] and np.isnan(measured[name]).all()
    assert (report["rows"], report["forecasts"]) == (len(drawn), len(rows))
    assert report["issues"] == len({hour - lead for hour, lead, *_ in rows})
    first, last = (START + timedelta(hours=rows[position][0]) for position in (0, -1))
    assert (report["first"], report["last"]) == (first.isoformat(), last.isoformat())


def test_the_last_of_two_forecasts_of_one_issue_stays_the_last():
    """As which of them is right cannot be told, the later row of the file counts."""
    result, _ = run_clean_forecasts(make_forecasts([(1, 1, 5, 50), (1, 1, 4, 50), (0, 0, 3, 50)]), "run")
    assert result["T (degC)"].tolist() == [3, 5, 4]


def test_forecast_winds_are_vectors_too():
    record = make_forecasts([(0, 6, 5, 50), (1, 6, 5, 50)]) | {
        "wv": np.array([2.0, 0]),
        "wd": np.array([90.0, -9999]),
    }
    result, _ = run_clean_forecasts(record, "run", wind=WIND)
    assert list(result) == [ISSUE_TIME, "T (degC)", "rh (%)", "wv", "wind east (m/s)", "wind north (m/s)"]
    np.testing.assert_allclose(result["wind east (m/s)"], [-2, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"target": "Tdew"},
            r"records.icon.target: expected a column of a record, found 'Tdew'; it has 'T \(degC\)', ",
        ),
        ({"wind": WIND}, r"records.icon.wind.speed: .* found 'wv'; .* `wind: null`"),
        (
            {"target": "rh (%)"},
            r"column 'rh \(%\)': expected measured values of the target, found none; look at record",
        ),
    ],
)
def test_forecasts_that_do_not_fit_the_settings(changes, expected):
    with pytest.raises(UserError, match=expected):
        run_clean_forecasts(make_forecasts([(0, 6, 5, 0), (1, 6, 5, 0)]), "run", **changes)


# --- The stage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("issued", "target"), [("run", "T (degC)"), (6, None)])
def test_the_stage_writes_forecasts_and_their_report(root, capsys, issued, target):
    Path("data/records/icon").mkdir(parents=True)
    table = make_forecasts([(1, 6, 5, 50), (1, 6, 5, 50), (0, 6, -9999, 50), (2, 6, 70, 50)])
    if issued == 6:
        table.pop("run")
    source = {"source": "a test", "synthetic": False}
    metadata = {"source": json.dumps(source)}
    pq.write_table(pa.table(table, metadata=metadata), "data/records/icon/record.parquet")
    record = {"target": target, "sentinels": [-9999], "issued": issued}
    settings = {"max_gap": 3, "checks": CHECKS}
    Path("params.yaml").write_text(json.dumps({"records": {"icon": record}, "clean": settings}))
    stage.clean("icon")
    result = pq.read_table("data/clean/icon.parquet")
    assert result.column_names == ["Date Time", ISSUE_TIME, "T (degC)", "rh (%)"]
    assert result.schema.types[:2] == [pa.timestamp("ms")] * 2
    hours = [1] if target else [0, 1, 2]  # the others have no target
    assert result[ISSUE_TIME].to_pylist() == [START + timedelta(hours=hour - 6) for hour in hours]
    np.testing.assert_array_equal(result["T (degC)"], [5 if hour == 1 else np.nan for hour in hours])
    assert json.loads(result.schema.metadata[b"source"]) == source
    assert json.loads(result.schema.metadata[b"target"]) == target
    assert json.loads(Path("data/clean/icon.json").read_text())["issues"] == 3
    line = "icon: 3 forecasts in 3 issues, valid from 2009-01-01T00:00:00 to 2009-01-01T02:00:00\n"
    assert capsys.readouterr().out == line + "sentinels 1 in 'T (degC)'; out of limits 1 in 'T (degC)'\n"


def test_the_stage_writes_the_grid_and_its_report(root, capsys):
    Path("data/records/jena").mkdir(parents=True)
    times = np.array([*make_times(10, 3), *make_times(10, 3, START + timedelta(hours=1))], "M8[s]")
    table = {"Date Time": pa.array(times), "T (degC)": pa.array([1.0, 2, -9999, 4, 5, 6])}
    source = {"source": "a test", "synthetic": False}
    metadata = {"source": json.dumps(source)}
    pq.write_table(pa.table(table, metadata=metadata), "data/records/jena/record.parquet")
    record = {"target": "T (degC)", "sentinels": [-9999]}
    settings = {"max_gap": 3, "checks": CHECKS}
    Path("params.yaml").write_text(json.dumps({"records": {"jena": record}, "clean": settings}))
    stage.clean("jena")
    result = pq.read_table("data/clean/jena.parquet")
    assert result.schema.types == [pa.timestamp("ms"), pa.float64()] and result["T (degC)"].null_count == 0
    np.testing.assert_array_equal(result["T (degC)"], [1, 2, np.nan, np.nan, np.nan, np.nan, 4, 5, 6])
    assert json.loads(result.schema.metadata[b"source"]) == source
    assert json.loads(result.schema.metadata[b"target"]) == "T (degC)"
    assert sorted(path.name for path in Path("data/clean").iterdir()) == ["jena.json", "jena.parquet"]
    report = json.loads(Path("data/clean/jena.json").read_text())
    assert report["columns"]["T (degC)"]["interpolated"] == 4
    assert "1 gaps of 3 points" in capsys.readouterr().out


def test_a_year_without_rows_is_just_a_gap():
    times = [*make_times(60, 2000), *make_times(60, 2000, START + timedelta(days=500))]
    result, report = run_clean(make_record(times, T=np.arange(4000) % 40))
    assert len(result) == 500 * 24 + 2000 and result["T (degC)"].isna().sum() == 500 * 24 - 2000
    assert [gap["missing"] for gap in report["gaps"]] == [500 * 24 - 2000]
    assert report["columns"]["T (degC)"]["interpolated"] == 0
