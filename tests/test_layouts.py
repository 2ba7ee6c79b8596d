"""Every kind of layout: the recipes of docs/layouts.md read the files of tests/layouts.py."""

import math
import re
import tempfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from layouts import LAYOUTS
from ruamel.yaml import YAML

from stages.lib.errors import UserError
from stages.lib.settings.base import validate_settings
from stages.lib.settings.records import Record
from stages.lib.weather.csv_files import read_csv_files
from stages.lib.weather.record import to_numpy

PAGE = Path(__file__).parents[1] / "docs/layouts.md"
RECIPES = dict(re.findall(r"^### [^\n]*\(`(\w+)`\)\n.*?^```yaml\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S))
DEFAULTS = {"encoding": "utf-8", "target": "T (degC)", "sentinels": []}


def place(name, folder):
    """Write the files of the layout `name`; return their paths."""
    for file, content in LAYOUTS[name].files.items():
        (folder / file).write_bytes(content)
    return [folder / file for file in LAYOUTS[name].files]


def check(name, table, sentinels):
    """Assert that `table` is what the layout `name` was written from."""
    expected = LAYOUTS[name]
    np.testing.assert_array_equal(to_numpy(table[0]), expected.times)
    for column, values in expected.weather.items():
        found = to_numpy(table[column])
        found = np.where(np.isin(found, sentinels), np.nan, found)
        rounding = expected.tolerance if column == "wd (deg)" else min(expected.tolerance, 0.06)
        np.testing.assert_allclose(found, values, rtol=0, atol=rounding, err_msg=column)


def test_every_layout_has_a_recipe():
    assert sorted(RECIPES) == sorted(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_recipe_reads_the_file(name, tmp_path):
    settings = DEFAULTS | YAML(typ="safe").load(RECIPES[name])["records"]["station"]
    settings.pop("source", None)
    record = validate_settings(Record, settings, "records", "station")
    check(name, read_csv_files(place(name, tmp_path), record), record.sentinels)


# --- Each kind, against a slow reader written from its description -------------------------------------

OPTIONS = hypothesis.settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FORMAT = "%Y-%m-%d %H:%M"


def read(text, folder=None, **changes):
    """Read `text` as a file with the columns `time` and `T`; return times and values."""
    settings = {"time": "time", "format": FORMAT, "encoding": "utf-8", "target": "T", "sentinels": [-9999]}
    record = validate_settings(Record, settings | changes, "records.x")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        table = read_csv_files([path], record, "records.x")
    return to_numpy(table[0]).tolist(), {name: to_numpy(table[name]) for name in table.column_names[1:]}


def refused(text, *expected, **changes):
    with pytest.raises(UserError) as raised:
        read(text, **changes)
    message = str(raised.value)
    assert "\n" not in message
    for part in expected:
        assert part in message, message


moments = st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)).map(
    lambda time: time.replace(second=0, microsecond=0)
)


@OPTIONS
@given(
    st.lists(moments, min_size=1, max_size=6, unique=True).map(sorted),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
)
def test_local_times_become_utc_as_zoneinfo_has_it(times, zone):
    local = [time.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) for time in times]
    lines = ["time,T", *(f"{time:{FORMAT}},1" for time in local)]
    offsets = [{time.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1)} for time in local]
    if all(len(both) == 1 for both in offsets):
        assert read("\n".join(lines), zone=zone)[0] == times


@OPTIONS
@given(
    year=st.integers(1996, 2030),
    zone=st.sampled_from(["Europe/Berlin", "Europe/London", "America/New_York"]),
    minutes=st.sampled_from([10, 15, 30, 60]),
    newest_first=st.booleans(),
)
def test_the_hour_that_comes_twice_is_told_apart_by_order(year, zone, minutes, newest_first):
    start = datetime(year, 10, 20, tzinfo=UTC)
    times = [start + timedelta(minutes=minutes * n) for n in range(24 * 20 * 60 // minutes)]
    lines = [f"{time.astimezone(ZoneInfo(zone)):{FORMAT}},1" for time in times]
    lines = lines[::-1] if newest_first else lines
    assert read("\n".join(["time,T", *lines]), zone=zone)[0] == [time.replace(tzinfo=None) for time in times]


def test_times_of_a_zone_that_cannot_be():
    spring = "time,T\n2024-03-31 01:30,1\n2024-03-31 02:30,1\n2024-03-31 03:30,1\n"
    refused(
        spring, "a.csv, line 3, column 'time'", "exists in Europe/Berlin", "records.x.zone", zone="Europe/Berlin"
    )
    once = "time,T\n2024-10-27 01:30,1\n2024-10-27 02:30,1\n2024-10-27 03:30,1\n"
    refused(once, "line 3", "both passes", "nothing that tells which", zone="Europe/Berlin")
    thrice = "time,T\n" + "2024-10-27 02:30,1\n" * 3
    refused(thrice, "line 4", "at most two rows", zone="Europe/Berlin")
    ends = "time,T\n2024-10-27 00:30,1\n2024-10-27 01:30,1\n2024-10-27 02:30,1\n"
    assert read(ends, zone="Europe/Berlin")[0][-1] == datetime(2024, 10, 27, 0, 30)


@OPTIONS
@given(st.lists(moments, min_size=1, max_size=5, unique=True).map(sorted), st.integers(-12 * 4, 14 * 4), st.data())
def test_offsets_become_utc_as_fromisoformat_has_it(times, quarters, data):
    offset = timezone(timedelta(minutes=15 * quarters))
    local = [time.replace(tzinfo=UTC).astimezone(offset) for time in times]
    timespec = data.draw(st.sampled_from(["minutes", "seconds", "milliseconds"]))
    texts = [time.isoformat(data.draw(st.sampled_from("T ")), timespec) for time in local]
    lines = ["time,T", *(f"{text},1" for text in texts)]
    assert read("\n".join(lines), format="ISO8601")[0] == times
    if timespec == "seconds":
        format = "%Y-%m-%dT%H:%M:%S%z"
        assert read("\n".join(lines).replace(" ", "T"), format=format)[0] == times


def test_an_offset_that_changes_without_a_zone():
    text = "time,T\n2024-10-27T02:00+02:00,1\n2024-10-27T02:00+01:00,1\n"
    refused(
        text, "line 3", "one offset from UTC", "'2024-10-27T02:00+01:00'", "records.x.zone: UTC", format="ISO8601"
    )
    assert read(text, format="ISO8601", zone="UTC")[0] == [datetime(2024, 10, 27, 0), datetime(2024, 10, 27, 1)]
    mixed = "time,T\n2024-10-27T02:00+02:00,1\n2024-10-27T02:00,1\n"
    refused(mixed, "line 3", "in every time or in none", format="ISO8601")


@OPTIONS
@given(st.integers(0, 2**32), st.sampled_from(["", ".5", ".999"]), st.booleans())
def test_epoch_seconds(second, fraction, milliseconds):
    text = f"{second}{'000' if milliseconds else fraction}"
    times, _ = read(f"time,T\n{text},1\n", format="epoch_ms" if milliseconds else "epoch")
    assert times == [datetime.fromtimestamp(second, UTC).replace(tzinfo=None)]


@OPTIONS
@given(st.dates(), st.integers(0, 24), st.sampled_from(["%Y-%m-%d %H", "%d.%m.%Y %H:%M", "%Y%m%d %H:%M:%S"]))
def test_hour_24_is_the_next_day(day, hour, format):
    if day.year < 1000 or (day.year, day.month) == (9999, 12):
        return
    pattern = datetime(day.year, day.month, day.day).strftime(format.replace("%H", "@"))
    expected = datetime(day.year, day.month, day.day) + timedelta(hours=hour)
    assert read(f"time,T\n{pattern.replace('@', f'{hour:02}')},1\n", format=format)[0] == [expected]
    refused(f"time,T\n{pattern.replace('@', '25')},1\n", "line 2, column 'time'", format=format)


def test_hour_24_has_no_minutes():
    refused("time,T\n2024-01-01 24:10,1\n", "line 2, column 'time'", "'2024-01-01 24:10'")


fields = st.tuples(st.integers(-5000, 5000), st.integers(0, 3), st.sampled_from(["", "s", "V", " s", "x"]))


@OPTIONS
@given(st.lists(fields, min_size=1, max_size=6), st.booleans())
def test_decimal_commas_and_flags(values, comma):
    start, lines, expected, wrong = datetime(2024, 1, 1), ["time;T"], [], None
    for n, (number, digits, flag) in enumerate(values):
        text = f"{number / 10**digits:.{digits}f}"
        lines.append(f"{start + timedelta(hours=n):{FORMAT}}; {text.replace('.', ',' if comma else '.')}{flag} ")
        expected.append(float(text))
        wrong = n + 2 if flag == "x" and wrong is None else wrong
    options = {"separator": ";", "decimal": "," if comma else ".", "flags": ["s", "V"]}
    if wrong:
        refused("\n".join(lines), f"line {wrong}, column 'T'", 'records.x.flags: ["x"]', **options)
    else:
        assert read("\n".join(lines), **options)[1]["T"].tolist() == expected


@OPTIONS
@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from("ab"), st.integers(-9, 9)), min_size=1, max_size=12))
def test_one_value_a_line(rows):
    """Each sensor's values at each time, in the file's order."""
    names = {name for _, name, _ in rows}
    start = datetime(2024, 1, 1)
    lines = [
        "s,v,time",
        *(f"{name},{value},{start + timedelta(hours=hour):{FORMAT}}" for hour, name, value in rows),
    ]
    options = {"pivot": {"columns": "s", "values": "v"}, "target": "T"}
    if "a" not in names:
        refused("\n".join(lines), "column 's'", "'T'", **options)
        return
    times, columns = read("\n".join(lines), rename={"a": "T"}, **options)
    assert times == sorted(times) and set(columns) == {"T" if name == "a" else name for name in names}
    for name in names:
        values = columns["T" if name == "a" else name]
        found = [(time, value) for time, value in zip(times, values, strict=True) if not math.isnan(value)]
        expected = [(start + timedelta(hours=hour), value) for hour, n, value in rows if n == name]
        assert found == sorted(expected, key=lambda pair: pair[0])


@OPTIONS
@given(
    st.lists(
        st.tuples(st.integers(0, 7200), st.sampled_from([1.0, 2.5, -9999.0, math.nan])), min_size=1, max_size=20
    ),
    st.sampled_from(["mean", "last"]),
)
def test_irregular_readings_on_a_grid(readings, by):
    readings.sort(key=lambda reading: reading[0])
    start = datetime(2024, 1, 1)
    format = "%Y-%m-%d %H:%M:%S"
    lines = [f"{start + timedelta(seconds=s):{format}},{'NA' if math.isnan(v) else v}" for s, v in readings]
    points = {}
    for second, value in dict.fromkeys(readings):  # a row written twice counts once
        if value == value and value != -9999:
            points.setdefault(start + timedelta(minutes=10 * math.ceil(second / 600)), []).append(value)
    times, columns = read(
        "\n".join(["time,T", *lines]), format=format, resample={"minutes": 10, "by": by}, missing=["NA"]
    )
    assert times == sorted(points)
    expected = [points[time][-1] if by == "last" else math.fsum(points[time]) / len(points[time]) for time in times]
    np.testing.assert_allclose(columns["T"], expected, rtol=1e-12)


def test_a_block_that_a_logger_wrote_twice_counts_once_on_a_grid():
    block = "2024-01-01 00:01,1\n2024-01-01 00:02,5\n"
    text = f"time,T\n{block}{block}2024-01-01 00:03,6\n"
    assert read(text, resample={"minutes": 10})[1]["T"] == [4]
    late = f"time,T\n{block}2024-01-01 00:01,2\n"
    refused(late, "line 4, column 'time'", "a time not before", resample={"minutes": 10})


def test_the_mean_of_directions_goes_round_north():
    text = "time,T,wd (deg)\n2024-01-01 00:01,1,350\n2024-01-01 00:02,3,10\n"
    _, columns = read(text, resample={"minutes": 10, "by": "mean"})
    assert columns["T"] == [2] and min(columns["wd (deg)"][0], 360 - columns["wd (deg)"][0]) < 1e-9


@OPTIONS
@given(st.floats(-100, 150), st.sampled_from(["degF", "K", "0.1 degC", "degC"]))
def test_units_as_by_hand(value, unit):
    by_hand = {"degF": (value - 32) / 1.8, "K": value - 273.15, "0.1 degC": value / 10, "degC": value}[unit]
    text = f"time,x\n2024-01-01 00:00,{value!r}\n2024-01-01 01:00,-9999\n"
    _, columns = read(text, target="T (degC)", rename={"x": ["T (degC)", unit]})
    np.testing.assert_allclose(columns["T (degC)"], [by_hand, -9999], rtol=1e-12, atol=1e-12)


def test_start_labels_become_end_labels():
    text = "time,T\n2024-01-01 00:00,1\n2024-01-01 01:00,2\n2024-01-01 03:00,3\n"
    assert [time.hour for time in read(text, label="start")[0]] == [1, 2, 4]


# --- Bad input ---------------------------------------------------------------------------------------

GOOD = "time,T\n2024-01-01 00:00,1\n2024-01-01 01:00,2\n"


@pytest.mark.parametrize(
    ("text", "expected", "changes"),
    [
        (GOOD, ["separator", "decimal mark, found ','"], {"decimal": ","}),
        (GOOD, ["format: epoch counts in UTC", "zone"], {"format": "epoch", "zone": "Europe/Berlin"}),
        (GOOD, ["label: expected end with `resample`"], {"label": "start", "resample": {"minutes": 5}}),
        (GOOD, ["pivot: expected two columns"], {"pivot": {"columns": "time", "values": "T"}}),
        (GOOD, ["header: expected the time column 'time'"], {"header": ["a", "T"]}),
        (GOOD, ["zone: expected a time zone", "'Europe/Bärlin'"], {"zone": "Europe/Bärlin"}),
        (
            GOOD,
            ["rename: T: expected a unit that converts to hPa, found 'degF'"],
            {"rename": {"T": ["p (hPa)", "degF"]}},
        ),
        (GOOD, ["rename: T: expected a unit such as", "'bogus'"], {"rename": {"T": ["T (degC)", "bogus"]}}),
        (GOOD, ["rename: T: expected a new name with the unit"], {"rename": {"T": ["T", "degF"]}}),
        (GOOD, ["a.csv: expected the header from line 10", "records.x.skiprows", "3 lines"], {"skiprows": 9}),
        ("time,T\nUTC,degC\n2024-01-01 00:00,1\n", ["line 2", "'UTC, degC'", "records.x.header: 2"], {}),
        ("a\ntime,T\n2024-01-01 00:00,1\n", ["line 1", "'time'", "(records.x.time"], {}),
        (
            "time,T\nh\n2024-01-01 00:00,1\n",
            ["line 2: expected as many fields in both lines", "2 and 1"],
            {"header": 2},
        ),
        (GOOD + "end data\n", ["line 4", "expected 2 fields, found 1"], {}),
        (GOOD.replace(",2", ",'2"), ["line 3, column 'T'", "records.x.leave_out"], {}),
        (GOOD.replace(",2", ",NNW"), ["line 3, column 'T'", "a number, found 'NNW'"], {}),
        (GOOD.replace(",2", ",M"), ["line 3, column 'T'", 'records.x.missing: ["M"]'], {}),
        ("time;T\n2024-01-01 00:00;1,5\n", ["line 2", 'decimal: ","'], {"separator": ";"}),
        (
            "s,v,q,time\na,1,2,2024-01-01 00:00\n",
            ["also 'q'", "leave_out"],
            {"pivot": {"columns": "s", "values": "v"}},
        ),
        (GOOD, ["line 1", "'s' (records.x.pivot"], {"pivot": {"columns": "s", "values": "v"}}),
    ],
)
def test_bad_input_is_one_sentence(text, expected, changes):
    refused(text, *expected, **changes)


def test_a_compass_point_that_is_none():
    text = "time,T,d\n2024-01-01 00:00,1,NNW\n2024-01-01 01:00,2,NNX\n"
    options = {"rename": {"d": ["wd (deg)", "compass"]}}
    refused(text, "line 3, column 'wd (deg)'", "a point of the compass, found 'NNX'", **options)
    assert read(text.replace("NNX", "s"), **options)[1]["wd (deg)"].tolist() == [337.5, 180]


def read_side_by_side(folder, *texts, **changes):
    settings = {"time": "time", "format": FORMAT, "encoding": "utf-8", "target": "T", "sentinels": []}
    record = validate_settings(Record, settings | {"side_by_side": True} | changes, "records.x")
    paths = [folder / f"{n}.csv" for n in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return read_csv_files(paths, record, "records.x")


def test_files_side_by_side(tmp_path):
    later = GOOD.replace("2024-01-01", "2024-01-02")
    humidity = "time,U\n2024-01-01 01:00,50\n2024-01-02 00:00,60\n"
    table = read_side_by_side(tmp_path, GOOD, later, humidity)
    assert [time.day for time in table["time"].to_pylist()] == [1, 1, 2, 2]
    np.testing.assert_array_equal(to_numpy(table["T"]), [1, 2, 1, 2])
    np.testing.assert_array_equal(to_numpy(table["U"]), [np.nan, 50, 60, np.nan])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((GOOD, "time,U\n2025-01-01 00:00,1\n"), "expected times that .*0.csv has too, found none in common"),
        ((GOOD, "time,T,U\n2024-01-01 00:00,1,2\n"), r"found 'T' in several; name it in records\.x\.leave_out"),
        ((GOOD.replace("T", "V"), "time,U\n2024-01-01 00:00,1\n"), r"column 'T' \(records\.x\.target .*'V', 'U'"),
    ],
)
def test_files_that_do_not_fit_side_by_side(tmp_path, texts, expected):
    with pytest.raises(UserError, match=expected):
        read_side_by_side(tmp_path, *texts)
