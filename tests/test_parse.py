"""Parsing: what is read equals csv.reader and float, and every bad input is named by place."""

import csv
import gzip
import io
import json
import math
import re
import shutil
import zipfile
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dvc.repo import Repo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages import parse as stage
from stages.lib.errors import UserError
from stages.lib.weather import csv_files as tables
from stages.lib.weather import times

FORMAT = "%d.%m.%Y %H:%M:%S"
HEADER = '"Date Time","p (mbar)","T (degC)"'
ROWS = [
    "01.01.2009 00:10:00,996.52,-8.02",
    "01.01.2009 00:20:00,996.45,-7.83",
    "01.01.2009 00:30:00,996.42,-7.69",
]
REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"
FOLDER = Path("data/records/jena")
RAW, RECORD, QUALITY = FOLDER / "raw", FOLDER / "record.parquet", FOLDER / "quality.json"
OPTIONS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(rows=ROWS, header=HEADER, end="\n"):
    """Return a CSV as text: `rows` under `header`, each ended by `end`."""
    return end.join([header, *rows, ""])


def place(contents, **changes):
    """Write data/records/jena/raw as the download stage does, from {name: text or bytes}, and params.yaml."""
    RAW.mkdir(parents=True, exist_ok=True)
    files = []
    for name, content in contents.items():
        data = content if isinstance(content, bytes) else content.encode()
        (RAW / name).write_bytes(data)
        files.append({"name": name, "size": len(data), "sha256": "0" * 64})
    source = {"source": "a test", "synthetic": False, "files": files}
    (RAW / "source.json").write_text(json.dumps(source))
    section = {"time": "Date Time", "format": FORMAT, "encoding": "utf-8", "target": "T (degC)"}
    section |= {"sentinels": [-9999]} | changes
    Path("params.yaml").write_text(json.dumps({"records": {"jena": section}}))  # JSON is YAML


def parsed(contents, **changes):
    """Run the stage on `contents`; return the table and the report."""
    place(contents, **changes)
    stage.parse("jena")
    return pq.read_table(RECORD), json.loads(QUALITY.read_text())


def refused(contents, *expected, **changes):
    """Assert that the stage refuses `contents` with every text of `expected`, and leaves nothing behind."""
    place(contents, **changes)
    with pytest.raises(UserError) as raised:
        stage.parse("jena")
    message = str(raised.value)
    for text in expected:
        assert text in message, message
    assert [path.name for path in FOLDER.iterdir()] == ["raw"]
    return message


def zipped(**members):
    """Return a zip of {name: text} as bytes; `_` in a name stands for a dot."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("_", "."), text)
    return memory.getvalue()


def test_types_order_and_source(root):
    rows = ["996.52,01.01.2009 00:10:00,-8.02", "996.45,01.01.2009 00:20:00,-7.83"]
    table, _ = parsed({"a.csv": document(rows, '"p (mbar)","Date Time","T (degC)"')})
    assert table.column_names == ["Date Time", "p (mbar)", "T (degC)"]
    assert table.schema.types == [pa.timestamp("ms"), pa.float64(), pa.float64()]
    assert table.schema.metadata[b"source"] == (RAW / "source.json").read_bytes()
    assert table["Date Time"].to_pylist() == [datetime(2009, 1, 1, 0, 10), datetime(2009, 1, 1, 0, 20)]
    assert table["T (degC)"].to_pylist() == [-8.02, -7.83]


numbers_written = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-10000, 10000, places=2).map(str),
    st.from_regex(r"[+-]?[0-9]{1,25}\.[0-9]{0,25}([eE][+-]?[0-9]{1,2})?", fullmatch=True),
)
stamps_drawn = st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31)).map(lambda t: t.replace(microsecond=0))


@OPTIONS
@given(data=st.data(), columns=st.integers(1, 4), count=st.integers(1, 8))
def test_equals_csv_reader_and_float(root, data, columns, count):
    names = ["T (degC)", "a µ²", 'say "x", y', "z"][:columns]
    memory = io.StringIO()
    writer = csv.writer(memory, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])))
    quote = data.draw(st.booleans())
    writer.writerow(["Date Time", *names])
    if quote:
        writer = csv.writer(memory, quoting=csv.QUOTE_ALL)
    for stamp in sorted(data.draw(st.lists(stamps_drawn, min_size=count, max_size=count))):
        writer.writerow([format(stamp, FORMAT)] + [data.draw(numbers_written) for _ in names])
    table, report = parsed({"a.csv": memory.getvalue()})
    header, *rows = csv.reader(io.StringIO(memory.getvalue()))
    assert table.column_names == header
    assert table["Date Time"].to_pylist() == [datetime.strptime(row[0], FORMAT) for row in rows]
    for i, name in enumerate(names, 1):
        expected = np.array([float(row[i]) for row in rows])
        assert table[name].to_numpy().tobytes() == expected.tobytes()  # bits: also the sign of zero
    assert report["rows"] == count


@OPTIONS
@given(field=st.one_of(st.text("0123456789+-.eE_ \tnaifxd", max_size=8), st.text(max_size=4)))
def test_a_field_is_read_as_float_or_named(root, field):
    memory = io.StringIO()
    csv.writer(memory).writerow([field])
    text = memory.getvalue().removesuffix("\r\n")
    contents = {"a.csv": document([ROWS[0], f"01.01.2009 00:20:00,1,{text}", ROWS[2]])}
    plain = re.fullmatch(r"[ \t]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t]*", field, re.ASCII)
    if plain and math.isfinite(float(field)):
        assert parsed(contents)[0]["T (degC)"][1].as_py() == float(field)
        RECORD.unlink()
        QUALITY.unlink()
    else:
        refused(contents, "a.csv, line 3")


@OPTIONS
@given(
    date=st.tuples(st.integers(0, 40), st.integers(0, 15), st.integers(0, 9999)),
    clock=st.tuples(st.integers(0, 26), st.integers(0, 62), st.integers(0, 62)),
    pad=st.booleans(),
)
def test_times_are_those_of_strptime(date, clock, pad):
    form = "{:02}.{:02}.{:04} {:02}:{:02}:{:02}" if pad else "{}.{}.{:04} {}:{}:{}"
    text = form.format(*date, *clock)
    texts = pa.array(["01.01.2009 00:00:00", text])
    try:
        expected = datetime.strptime(text, FORMAT)
    except ValueError:
        with pytest.raises(ValueError):
            times.parse_times(texts, FORMAT)
    else:
        assert times.parse_times(texts, FORMAT)[1].as_py() == expected


@pytest.mark.parametrize("irregular", range(5))
def test_an_irregular_time_in_any_block(root, monkeypatch, irregular):
    monkeypatch.setattr(times, "BLOCK", 2)
    stamps = [datetime(2009, 12, 9, 5, 7, second) for second in range(5)]
    rows = [f"{stamp:{FORMAT}},1,2" for stamp in stamps]
    rows[irregular] = rows[irregular].replace("09.12.2009 05:07:0", "9.12.2009 5:7:")
    assert parsed({"a.csv": document(rows)})[0]["Date Time"].to_pylist() == stamps
    RECORD.unlink()
    QUALITY.unlink()
    rows[irregular] = "31.11.2009 05:07:00,1,2"
    refused({"a.csv": document(rows)}, f"line {irregular + 2}, column 'Date Time'", "'31.11.2009 05:07:00'")


@pytest.mark.parametrize(
    ("format", "text", "expected"),
    [
        ("%d/%m/%y %I:%M %p", "02/03/09 01:05 PM", datetime(2009, 3, 2, 13, 5)),
        ("%Y-%j", "2012-366", datetime(2012, 12, 31)),
        ("%Y-%m-%d", "2012-02-29", datetime(2012, 2, 29)),
        ("%b %d %Y %H:%M", "Feb 3 2010 23:59", datetime(2010, 2, 3, 23, 59)),
    ],
)
def test_other_formats(root, format, text, expected):
    table, _ = parsed({"a.csv": f"Date Time,T (degC)\n{text},1\n"}, format=format)
    assert table["Date Time"].to_pylist() == [expected]


@pytest.mark.parametrize(
    "content",
    [
        document(),
        document(end="\r\n"),
        document().removesuffix("\n"),
        document() + "\n\n\r\n",
        "\ufeff" + document(),
        document([f"{row[:19]}, {row[20:]}\t" for row in ROWS]),
        document(header="Date Time,p (mbar),T (degC)"),
    ],
    ids=["plain", "crlf", "no final newline", "blank end", "bom", "blanks around numbers", "bare header"],
)
def test_harmless_differences(root, content):
    table, _ = parsed({"a.csv": content})
    assert table.column_names == ["Date Time", "p (mbar)", "T (degC)"]
    assert table["T (degC)"].to_pylist() == [-8.02, -7.83, -7.69]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.csv", str.encode),
        ("a.csv.gz", lambda text: gzip.compress(text.encode())),
        ("a.zip", lambda text: zipped(readme_txt="hello", inner_csv=text)),
    ],
)
def test_packings(root, name, pack):
    assert parsed({name: pack(document())})[0].num_rows == 3
    RECORD.unlink()
    QUALITY.unlink()
    refused({name: pack(document([*ROWS, "01.01.2009 00:40:00,x,1"]))}, name, "line 5, column 'p (mbar)'", "'x'")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "utf-8"])
def test_encodings(root, encoding):
    names = [f"c{i}" for i in range(20)]
    head = ",".join(["Date Time", "T (degC)", "SWDR (W/m²)", "PAR (µmol/m²/s)", *names])
    content = document([f"01.01.2020 00:10:00,1,2,3{',4' * 20}"], head).encode(encoding)
    table, _ = parsed({"mpi_roof_2020a.csv": content}, encoding=encoding)
    assert ",".join(table.column_names) == head
    assert table["PAR (µmol/m²/s)"].to_pylist() == [3.0]


def test_several_files_follow_one_another(root):
    later = [row.replace("2009", "2010") for row in ROWS]
    table, report = parsed({"b.csv": document(), "a.csv.gz": gzip.compress(document(later).encode())})
    assert table["Date Time"].to_pylist()[::3] == [datetime(2009, 1, 1, 0, 10), datetime(2010, 1, 1, 0, 10)]
    assert report["rows"] == 6
    assert [file["name"] for file in report["source"]["files"]] == ["b.csv", "a.csv.gz"]


def bad_line(line):
    """Return a CSV whose line 3 is `line`."""
    return document([ROWS[0], line, ROWS[2]])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            document(header="Time,p (mbar),T (degC)"),
            ["line 1", "'Date Time'", "records.jena.time", "'Time', 'p (mbar)'"],
        ),
        (
            document(header="Date Time,p (mbar),T"),
            ["line 1", "'T (degC)'", "records.jena.target", "'p (mbar)', 'T'"],
        ),
        (document(header="Date Time,T (degC),T (degC)"), ["line 1", "once", "'T (degC)', 'T (degC)'"]),
        (document(["01.01.2009 00:20:00,1,"], "Date Time,T (degC),"), ["line 2, column ''", "an empty field"]),
        (document(header='Date Time,"T (degC),p'), ["line 1", "the column 'T (degC)'"]),
        (bad_line("01.01.2009 00:20:00,abc,-7.83"), ["line 3, column 'p (mbar)'", "a number", "'abc'"]),
        (bad_line("01.01.2009 00:20:00,,-7.83"), ["line 3, column 'p (mbar)'", "a number", "an empty field"]),
        (bad_line('01.01.2009 00:20:00,"",-7.83'), ["line 3, column 'p (mbar)'", "an empty field"]),
        (bad_line("01.01.2009 00:20:00,1,nan"), ["line 3, column 'T (degC)'", "a number", "'nan'"]),
        (bad_line("01.01.2009 00:20:00,1,-Infinity"), ["line 3, column 'T (degC)'", "'-Infinity'"]),
        (bad_line("01.01.2009 00:20:00,1,1e400"), ["line 3, column 'T (degC)'", "'1e400'"]),
        (bad_line("01.01.2009 00:20:00,1_000,1"), ["line 3, column 'p (mbar)'", "'1_000'"]),
        (bad_line("31.02.2009 00:20:00,1,2"), ["line 3, column 'Date Time'", "'31.02.2009 00:20:00'", "day"]),
        (bad_line("01.01.2009 00:20:60,1,2"), ["line 3, column 'Date Time'", "'01.01.2009 00:20:60'"]),
        (
            bad_line("2009-01-01 00:20,1,2"),
            ["line 3, column 'Date Time'", "31.01.2009 00:10:00", "records.jena.format"],
        ),
        (bad_line(",1,2"), ["line 3, column 'Date Time'", "a time", "an empty field"]),
        (bad_line('01.01.2009 00:20:00,"1,2'), ["line 3", "3 fields"]),
        (bad_line("01.01.2009 00:20:00,1"), ["line 3, column 'T (degC)'", "3 fields, found 2"]),
        (bad_line("01.01.2009 00:20:00,1,2,7.5"), ["line 3", "3 fields, found 4", "1,2,7.5'"]),
        (bad_line(""), ["line 3", "3 fields", "an empty line"]),
        (bad_line("  "), ["line 3", "3 fields, found 1"]),
        (document()[:-13], ["line 4, column 'T (degC)'", "3 fields, found 2"]),
        (document()[:-26], ["line 4, column 'p (mbar)'", "3 fields, found 1"]),
        (document(end="\r\n").replace("-7.69", "-7,69"), ["line 4", "3 fields, found 4"]),
        ("<!DOCTYPE html>\n<html><body>404</body></html>\n", ["line 1", "'Date Time'", "found '<!DOCTYPE html>'"]),
        ("", ["line 1", "'Date Time'", "an empty line"]),
        ("\n\n", ["line 1", "an empty line"]),
        ("\n" + document(), ["line 1", "an empty line"]),
        (HEADER, ["line 2", "rows after the header"]),
        (HEADER + "\n\n", ["line 2", "rows after the header"]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_content(root, content, expected, packed):
    if packed:
        refused(
            {"record.zip": zipped(inner_csv=content)}, "data/records/jena/raw/record.zip (inner.csv)", *expected
        )
    else:
        refused({"record.csv": content}, "data/records/jena/raw/record.csv", *expected)


def test_the_first_bad_place_far_down_is_named(root):
    rows = [ROWS[0]] * 30000  # several of Arrow's blocks
    rows[25000] = "01.01.2009 00:20:00,1,?"
    rows[28000] = "01.01.2009 00:20:00,?,1"
    refused({"a.csv": document(rows)}, "a.csv, line 25002, column 'T (degC)'", "'?'")


def test_a_format_that_does_not_match_names_line_2(root):
    refused(
        {"a.csv": document()},
        "a.csv, line 2, column 'Date Time'",
        "2009-01-31 00:10",
        format="%Y-%m-%d %H:%M",
    )


def test_bytes_outside_the_encoding(root):
    header = "Date Time,T (degC),SWDR (W/m²)".encode("cp1252")
    refused({"a.csv": header + b"\n"}, "a.csv, line 1", "utf-8", "0xb2", "records.jena.encoding", "cp1252")
    field = document().encode().replace(b"-7.83", b"\xff")
    refused({"a.csv": field}, "a.csv, line 3", "utf-8", "0xff", "records.jena.encoding")
    time = document().encode().replace(b"00:20", b"\xe90:20")
    refused({"a.csv": time}, "a.csv, line 3", "0xe9", "records.jena.encoding")


def test_several_files_that_do_not_fit(root):
    later = [row.replace("2009", "2010") for row in ROWS]
    swapped = document(later, 'Date Time,T (degC),"p (mbar)"')
    refused(
        {"a.csv": document(), "b.csv": swapped},
        "b.csv, line 1",
        "columns of data/records/jena/raw/a.csv",
        "'T (degC)'",
    )
    message = refused({"b.csv": document(later), "a.csv": document()}, "a.csv, line 2, column 'Date Time'", "b.csv")
    assert "2010-01-01T00:30:00" in message and "2009-01-01T00:10:00" in message and "time order" in message


def test_line_ends_of_old_macs_and_endless_names(root):
    refused({"a.csv": document(end="\r")}, "a.csv", "line 1", "column names")
    refused({"a.csv": document(header=HEADER + "x" * 200_000)}, "a.csv", "line 1", "column names")


def test_damaged_and_missing_files(root):
    archive = zipped(inner_csv=document(ROWS * 50))
    flipped = bytearray(archive)
    flipped[60] ^= 255
    for data in (archive[:-30], bytes(flipped), b"<html>404</html>"):
        refused({"a.zip": data}, "data/records/jena/raw/a.zip", "cannot be read", "dvc repro -f download@jena")
    refused({"a.gz": gzip.compress(document(ROWS * 50).encode())[:-20]}, "a.gz", "cannot be read")
    place({"a.csv": document()})
    (RAW / "a.csv").unlink()
    with pytest.raises(UserError, match=r"data/records/jena/raw/a\.csv: .*`dvc repro (-f )?download@jena`"):
        stage.parse("jena")
    (RAW / "source.json").unlink()
    with pytest.raises(UserError, match=r"source\.json: not found; .*`dvc repro download@jena`"):
        stage.parse("jena")


def test_an_older_record_survives_a_failure(root):
    parsed({"a.csv": document()})
    before = RECORD.read_bytes(), QUALITY.read_bytes()
    place({"a.csv": bad_line("x")})
    with pytest.raises(UserError):
        stage.parse("jena")
    assert (RECORD.read_bytes(), QUALITY.read_bytes()) == before


def test_neither_output_where_the_report_cannot_be_written(root, monkeypatch):
    place({"a.csv": document()})
    monkeypatch.setattr(stage.json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stage.parse("jena")
    assert [path.name for path in FOLDER.iterdir()] == ["raw"]


def plain_quality(stamps, columns, sentinels):
    """Return the report, less its source, in plain Python."""
    rows = list(zip(stamps, *columns.values(), strict=True))
    unique = sorted(set(stamps))
    steps = [int((b - a).total_seconds()) for a, b in pairwise(unique)]
    interval = min(steps, key=lambda step: (-Counter(steps)[step], step)) if steps else None
    report = {"rows": len(rows), "first": unique[0].isoformat(), "last": unique[-1].isoformat()}
    report["interval_minutes"] = interval / 60 if steps else None
    report["duplicates"] = sum(row in rows[:i] for i, row in enumerate(rows))
    report["conflicts"] = len(set(rows)) - len(unique)
    report["out_of_order"] = sum(b < a for a, b in pairwise(stamps))
    report["gaps"] = [
        {"after": a.isoformat(), "until": b.isoformat(), "missing": math.floor(step / interval + 0.5) - 1}
        for a, b, step in zip(unique, unique[1:], steps, strict=False)
        if math.floor(step / interval + 0.5) > 1
    ]
    report["columns"] = {}
    for name, values in columns.items():
        kept = [value for value in values if value not in sentinels]
        report["columns"][name] = {
            "sentinels": len(values) - len(kept),
            "missing": 0,
            "min": min(kept, default=None),
            "max": max(kept, default=None),
            "mean": math.fsum(kept) / len(kept) if kept else None,
        }
    return report


few_values = st.sampled_from([-9999.0, -99.5, 0.0, -0.0, 1.25, 0.1, 7.0])


@OPTIONS
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 15), st.sampled_from([0, 0, 0, 60, 300]), few_values, few_values),
        min_size=1,
        max_size=14,
    ),
    sentinels=st.sampled_from([[], [-9999], [-9999, -99.5, 0]]),
)
def test_report_equals_plain_python(root, rows, sentinels):
    stamps = [datetime(2012, 2, 28, 23) + timedelta(minutes=10 * step, seconds=late) for step, late, *_ in rows]
    columns = {"p (mbar)": [row[2] for row in rows], "T (degC)": [row[3] for row in rows]}
    stamps.sort()
    lines = [f"{t:{FORMAT}},{p!r},{T!r}" for t, p, T in zip(stamps, *columns.values(), strict=True)]
    _, report = parsed({"a.csv": document(lines)}, sentinels=sentinels)
    expected = plain_quality(stamps, columns, sentinels)
    for column in expected["columns"].values():
        if column["mean"] is not None:
            column["mean"] = pytest.approx(column["mean"], rel=1e-12, abs=1e-12)
    assert report.pop("source")["source"] == "a test"
    assert report == expected


def test_report_of_one_row(root):
    _, report = parsed({"a.csv": document(ROWS[:1])})
    assert report["interval_minutes"] is None and report["gaps"] == []


def shared(name):
    """Return the bytes of a file of ../shared/data, or skip the test."""
    if not (SHARED / name).is_file():
        pytest.skip(f"../shared/data/{name} is not here")
    return (SHARED / name).read_bytes()


def test_known_truth_of_the_ten_minute_record(root):
    name = "jena_climate_2009_2016_rebuilt.csv.zip"
    table, report = parsed({name: shared(name)})
    assert table.num_rows == report["rows"] == 420551 and table.num_columns == 15
    assert (report["first"], report["last"]) == ("2009-01-01T00:10:00", "2017-01-01T00:00:00")
    assert (report["interval_minutes"], report["duplicates"]) == (10, 327)
    assert {gap["until"]: gap["missing"] for gap in report["gaps"]} == {
        "2009-10-08T10:10:00": 2,
        "2013-05-16T09:10:00": 1,
        "2014-07-30T08:20:00": 1,
        "2014-09-25T09:00:00": 95,
        "2016-10-28T12:50:00": 445,
    }
    counts = {column: entry["sentinels"] for column, entry in report["columns"].items() if entry["sentinels"]}
    assert counts == {"wv (m/s)": 18, "max. wv (m/s)": 20}
    assert report["columns"]["wv (m/s)"]["min"] >= 0


def test_hourly_record_equals_csv_reader(root):
    name = "jena_hourly_2009_2016.csv.zip"
    table, report = parsed({name: shared(name)})
    with zipfile.ZipFile(SHARED / name) as archive:
        header, *rows = csv.reader(io.StringIO(archive.read(archive.namelist()[0]).decode()))
    assert (table.column_names, table.num_rows, report["interval_minutes"]) == (header, 70038, 60)
    expected = np.array([[float(field) for field in row[1:]] for row in rows])
    found = np.column_stack([table[column].to_numpy() for column in header[1:]])
    np.testing.assert_array_equal(found, expected)
    assert [f"{t:{FORMAT}}" for t in table[0].to_pylist()[::97]] == [row[0] for row in rows[::97]]


# --- Other stations' files ---------------------------------------------------------------------------


def test_another_separator_and_columns_that_are_no_measurement(root):
    content = "no;when;temp, degC;station;rain\n1;01.01.2009 00:10;-8.5;Ulm;0\n2;01.01.2009 00:20;-8;x;1.5\n"
    options = {"time": "when", "format": "%d.%m.%Y %H:%M", "target": "temp, degC", "separator": ";"}
    table, report = parsed({"a.csv": content}, **options, leave_out=["no", "station"])
    assert table.column_names == ["when", "temp, degC", "rain"] == ["when", *report["columns"]]
    assert table["temp, degC"].to_pylist() == [-8.5, -8]
    named = options | {"target": "T (degC)", "rename": {"temp, degC": "T (degC)"}}
    assert parsed({"a.csv": content}, **named, leave_out=["no", "station"])[0].column_names[1:] == [
        "T (degC)",
        "rain",
    ]
    bad = content.replace("-8;x;1.5", "-8;y;z")
    for path in (RECORD, QUALITY):
        path.unlink()
    refused({"a.csv": bad}, "line 3, column 'rain'", "'z'", "leave_out", **options, leave_out=["no", "station"])
    refused({"a.csv": content}, "line 2, column 'station'", "'Ulm'", "leave_out", **options, leave_out=["no"])
    refused({"a.csv": content}, "line 1", "columns 'No', 'x'", "leave_out", **options, leave_out=["No", "x", "no"])
    refused({"a.csv": content}, "line 1", "columns 'No'", "rename", **options, rename={"No": "n"}, leave_out=["no"])
    options["separator"] = ","
    refused({"a.csv": content.replace(",", "")}, "line 1", "records.jena.separator, ','", **options)


def test_texts_that_stand_for_nothing_measured(root):
    rows = [
        "01.01.2009 00:10:00,,1",
        '01.01.2009 00:20:00,NA,""',
        "01.01.2009 00:30:00,5,3",
        "01.01.2009 00:40:00,NA,3",
    ]
    table, report = parsed({"a.csv": document(rows)}, missing=["", "NA"])
    np.testing.assert_array_equal(table["p (mbar)"], [np.nan, np.nan, 5, np.nan])
    np.testing.assert_array_equal(table["T (degC)"], [1, np.nan, 3, 3])
    assert report["columns"]["p (mbar)"] == {"sentinels": 0, "missing": 3, "min": 5, "max": 5, "mean": 5}
    for path in (RECORD, QUALITY):
        path.unlink()
    refused({"a.csv": document(rows)}, "line 2, column 'p (mbar)'", 'records.jena.missing: [""]', missing=["NA"])
    refused({"a.csv": document(rows)}, "line 3, column 'p (mbar)'", 'records.jena.missing: ["NA"]', missing=[""])
    refused({"a.csv": document(['01.01.2009 00:20:00,1,"5,5"'])}, "line 2, column 'T (degC)'", "decimal commas")


# --- Order -------------------------------------------------------------------------------------------


@OPTIONS
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([1.0, 2.0, math.nan])), min_size=1, max_size=8))
def test_a_row_out_of_order_is_let_through_only_where_it_equals_an_earlier_one(rows):
    stamps = np.array([row[0] for row in rows], "M8[s]")
    table = pa.table({"t": pa.array(stamps), "T": pa.array([row[1] for row in rows])})
    known = [str(row) for row in rows]
    wrong = [
        i for i, row in enumerate(rows) if known[i] not in known[:i] and row[0] < max(r[0] for r in rows[: i + 1])
    ]
    if not wrong:
        return tables.check_time_order(table, "a.csv", range(2, len(rows) + 2))
    with pytest.raises(UserError, match=rf"a.csv, line {wrong[0] + 2}, column 't': expected a time not before"):
        tables.check_time_order(table, "a.csv", range(2, len(rows) + 2))


def test_a_repeated_block_is_counted_and_a_step_back_is_named(root):
    table, report = parsed({"a.csv": document([*ROWS, *ROWS[1:], *ROWS[2:]])})
    assert table.num_rows == 6 and (report["duplicates"], report["out_of_order"]) == (3, 1)
    for path in (RECORD, QUALITY):
        path.unlink()
    autumn = ["25.10.2009 02:50:00,1,2", "25.10.2009 02:00:00,1,3"]
    refused({"a.csv": document(autumn)}, "line 3", "comes twice in autumn, use standard time")


def test_newest_first_is_turned_round_and_said(root, capsys):
    table, report = parsed({"a.csv": document(ROWS[::-1])})
    assert table["T (degC)"].to_pylist() == [-8.02, -7.83, -7.69] and report["out_of_order"] == 0
    assert "a.csv: the newest row comes first; turned round" in capsys.readouterr().out


def test_a_few_rows_of_one_time_are_counted_and_told_and_many_are_two_stations(root, capsys):
    twice = [f"01.01.2009 {hour // 60:02}:{hour % 60:02}:00,1,{value}" for hour in range(30) for value in (1, 2)]
    _, report = parsed({"a.csv": document(twice[:48])})
    assert (report["conflicts"], report["duplicates"]) == (24, 0)
    assert "warning: 24 rows share the time of another" in capsys.readouterr().out
    for path in (RECORD, QUALITY):
        path.unlink()
    refused({"a.csv": document(twice)}, "line 3", "01T00:00:00 again", "29 more such rows", "two stations")


# --- Two records -------------------------------------------------------------------------------------


def test_a_second_record_has_its_own_settings_folder_and_messages(root):
    place({"a.csv": document()})
    sections = json.loads(Path("params.yaml").read_text())
    second = sections["records"]["jena"] | {"separator": ";", "target": "t", "time": "when"}
    Path("params.yaml").write_text(json.dumps({"records": {**sections["records"], "second": second}}))
    shutil.copytree(RAW, FOLDER.with_name("second") / "raw")
    stage.parse("jena")
    file = FOLDER.with_name("second") / "raw/a.csv"
    file.write_text(document().replace(",", ";"))
    with pytest.raises(UserError, match=r"records/second/raw/a\.csv, line 1: .*'when' \(records\.second\.time"):
        stage.parse("second")
    file.write_text("when;t\n01.01.2009 00:10:00;5\n")
    stage.parse("second")
    assert pq.read_table(FOLDER.with_name("second") / "record.parquet")["t"].to_pylist() == [5]
    assert pq.read_table(RECORD)["T (degC)"].to_pylist() == [-8.02, -7.83, -7.69]
    file.unlink()
    with pytest.raises(UserError, match=r"`dvc repro (-f )?download@second`"):
        stage.parse("second")


def test_a_second_record_has_its_own_stages(root):
    params = YAML(typ="safe").load(REPOSITORY / "params.yaml")
    params["records"]["second"] = params["records"]["jena"]
    Path("params.yaml").write_text(json.dumps(params))
    shutil.copy(REPOSITORY / "dvc.yaml", "dvc.yaml")
    stages = {result.name: result for result in Repo.init(no_scm=True).index.stages}
    raw, record = "data/records/second/raw", "data/records/second/record.parquet"
    clean = "data/clean/second.parquet"
    for name, needed, made in (("download", None, raw), ("parse", raw, record), ("clean", record, clean)):
        result = stages[f"{name}@second"]
        assert result.cmd == f"./run {name} second"
        assert made in [out.def_path for out in result.outs]
        assert needed is None or needed in [dep.def_path for dep in result.deps]
        keys = [key for dep in result.deps if dep.def_path == "params.yaml" for key in dep.params]
        assert any(key.startswith("records.second") for key in keys)
        assert not any(key.startswith("records.jena") for key in keys)


# --- Forecasts ---------------------------------------------------------------------------------------

ISO = "ISO8601"


@st.composite
def draw_forecasts(draw):
    """Rows of (valid, issued, T), each time of issue for hours after it, in any order; some are there twice."""
    start = datetime(2024, 6, 1, 12)
    row = st.tuples(st.integers(0, 30), st.integers(0, 9), few_values)
    rows = draw(st.lists(row, min_size=1, max_size=20))
    rows = [(start + timedelta(hours=hour), start + timedelta(hours=hour - lead), T) for hour, lead, T in rows]
    return rows + draw(st.lists(st.sampled_from(rows), max_size=2))


def write_forecasts(rows, form, columns, flag=""):
    """Return a CSV of the `rows`; `form` formats a time."""
    lines = [
        {"Date Time": form(valid), "run": form(issued), "T (degC)": f"{T!r}{flag}"} for valid, issued, T in rows
    ]
    return "\n".join([",".join(columns), *(",".join(line[column] for column in columns) for line in lines), ""])


FORMS = {  # how times are written, and the settings that read them
    "plain": (lambda time: f"{time:{FORMAT}}", {}),
    "text": (lambda time: f"{time:{FORMAT}}", {"flags": ["s"]}),
    "ISO 8601": (lambda time: time.isoformat(), {"format": ISO}),
    "offset": (lambda time: f"{(time + timedelta(hours=2)).isoformat()}+02:00", {"format": ISO}),
    "zone": (lambda time: f"{time + timedelta(hours=2):{FORMAT}}", {"zone": "Europe/Berlin"}),
    "zone and ISO 8601": (
        lambda time: (time + timedelta(hours=2)).isoformat(),
        {"zone": "Europe/Berlin", "format": ISO},
    ),
}


@OPTIONS
@given(
    st.data(), draw_forecasts(), st.sampled_from(sorted(FORMS)), st.permutations(["Date Time", "run", "T (degC)"])
)
def test_forecasts_are_sorted_by_the_hour_they_are_for_and_then_by_issue(root, data, rows, kind, columns):
    """Whatever the order of rows, columns and files, which may overlap."""
    form, changes = FORMS[kind]
    cut = data.draw(st.integers(1, len(rows)))
    flags = ["s" * (kind == "text") for _ in range(2)]
    parts = [(rows[:cut], flags[0]), *([(rows[cut:], flags[1])] if cut < len(rows) else [])]
    files = {f"{n}.csv": write_forecasts(part, form, columns, flag) for n, (part, flag) in enumerate(parts)}
    table, report = parsed(files, issued="run", **changes)
    expected = sorted(rows, key=lambda row: row[:2])  # stable, as the later one of two counts
    assert table.column_names == ["Date Time", "run", "T (degC)"]
    assert table.schema.types == [pa.timestamp("ms"), pa.float64(), pa.float64()]
    assert table["Date Time"].to_pylist() == [valid for valid, *_ in expected]
    assert table["run"].to_pylist() == [
        (issued - datetime(1970, 1, 1)).total_seconds() for _, issued, _ in expected
    ]
    assert table["T (degC)"].to_pylist() == [T for *_, T in expected]
    assert (report["rows"], report["out_of_order"]) == (len(rows), 0)
    assert report["duplicates"] == len(rows) - len(set(rows))
    assert report["conflicts"] == len(set(rows)) - len({row[:2] for row in rows})
    assert list(report["columns"]) == ["T (degC)"]


def test_files_of_forecasts_are_read_alike_where_only_one_is_plain(root):
    """One line that Arrow does not read must not move a column."""
    header, columns = "Date Time,T (degC),run", {"issued": "run"}
    first = f"{header}\n01.01.2024 06:00:00,1,01.01.2024 00:00:00\n"
    second = f"{header}\n01.01.2024 06:00:00, 2 ,01.01.2024 03:00:00\n"
    table, _ = parsed({"a.csv": first, "b.csv": second}, **columns)
    assert table["T (degC)"].to_pylist() == [1, 2]


def test_forecasts_known_some_hours_ahead_stay_a_plain_record(root):
    table, _ = parsed({"a.csv": document()}, issued=24)
    assert table.column_names == ["Date Time", "p (mbar)", "T (degC)"]
    table, _ = parsed({"a.csv": document()}, issued=24.0, target=None)
    assert table["T (degC)"].to_pylist() == [-8.02, -7.83, -7.69]


def test_the_start_of_an_interval_becomes_its_end_and_the_issue_stays(root):
    rows = ["01.01.2024 06:00:00,01.01.2024 06:30:00,1", "01.01.2024 07:00:00,01.01.2024 07:00:00,2"]
    table, _ = parsed({"a.csv": document(rows, "Date Time,run,T (degC)")}, issued="run", label="start")
    assert table["Date Time"].to_pylist() == [datetime(2024, 1, 1, 7), datetime(2024, 1, 1, 8)]
    assert np.diff(table["run"].to_numpy()).tolist() == [1800]


EARLY = "01.01.2024 06:00:00,01.01.2024 00:00:00,1"
AFTER = (
    "a.csv, line 3, column 'run': expected a forecast issued before its own time, 2024-01-01T07:00:00, found one "
)
AFTER += (
    "issued at 2024-01-01T07:00:01; do records.jena.time and records.jena.issued in params.yaml name the right "
)


@pytest.mark.parametrize("changes", [{}, {"flags": ["s"]}], ids=["plain", "text"])
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("01.01.2024 07:00:00,01.01.2024 07:00:01,2", [AFTER]),
        ("01.01.2024 07:00:00,,2", ["a.csv, line 3, column 'run': expected a time such as", "an empty field"]),
        ("01.01.2024 07:00:00,midnight,2", ["a.csv, line 3, column 'run'", "found 'midnight'", "jena.format"]),
        ("01.01.2024 07:00:00,2,01.01.2024 00:00:00", ["a.csv, line 3, column 'run'", "found '2'"]),
    ],
)
def test_a_time_of_issue_that_cannot_be_is_named(root, row, expected, changes):
    header = "Date Time,run,T (degC)"
    files = {"0.csv": document([EARLY], header), "a.csv": document([EARLY, row], header)}
    refused(files, *expected, issued="run", **changes)


BERLIN = {"zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("row", "expected", "changes"),
    [
        (
            "2024-06-01T06:00+02:00,2024-06-01T00:00,1",
            "column 'run': expected an offset from UTC in both times of",
            {},
        ),
        ("2024-06-01T06:00,2024-06-01T00:00Z,1", "found '2024-06-01T00:00Z' and '2024-06-01T06:00'", {}),
        (
            "2024-03-31T06:00,2024-03-31T02:30,1",
            "column 'run': expected a time that exists in Europe/Berlin",
            BERLIN,
        ),
    ],
)
def test_times_of_issue_on_another_clock_are_refused(root, row, expected, changes):
    content = {"a.csv": document([row], "Date Time,run,T (degC)")}
    refused(content, "a.csv, line 2", expected, issued="run", format=ISO, **changes)


def test_a_file_without_the_column_of_issues_is_refused(root):
    message = "a.csv, line 1: expected the column 'run' (records.jena.issued in params.yaml), found 'Date Time', "
    refused({"a.csv": document()}, message, issued="run")
