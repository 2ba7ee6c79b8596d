"""`./run describe FILE`: what it prints, pasted into params.yaml, reads the file."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS, zipped
from ruamel.yaml import YAML
from test_layouts import check, place

from scripts.describe import describe
from stages.lib.errors import UserError
from stages.lib.settings.base import validate_settings
from stages.lib.settings.records import Record
from stages.lib.weather.csv_files import read_csv_files

SINGLE = [name for name in LAYOUTS if len(LAYOUTS[name].files) == 1]
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", SINGLE)
def test_the_section_that_is_printed_reads_the_file(name, tmp_path, capsys, monkeypatch):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    files = place(name, tmp_path)
    describe(str(files[0]))
    printed = capsys.readouterr().out
    print(printed)
    section = YAML(typ="safe").load(printed)["records"]["station"]
    assert "Not read yet" not in printed
    values = {key: value for key, value in section.items() if key in Record.model_fields}
    record = validate_settings(Record, values, "records", "station")
    check(name, read_csv_files(files, record), record.sentinels)


def described(text, capsys, name="a.csv"):
    """What `describe` prints about a file, and its settings."""
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    describe(name)
    printed = capsys.readouterr().out
    return printed, YAML(typ="safe").load(printed)["records"]["station"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)


def test_all_settings_are_printed_so_that_the_section_can_be_pasted(folder, capsys):
    _, section = described(LAYOUTS["open_meteo"].files["open-meteo-52.55N13.41E38m.csv"], capsys)
    assert section.keys() == YAML(typ="safe").load(ROOT / "params.yaml")["records"]["jena"].keys()


def test_what_the_file_does_not_tell_is_asked_for(folder, capsys):
    rows = "".join(f"2024-01-01 {hour:02}:00,{hour},5\n" for hour in range(24))
    printed, section = described(rows, capsys)
    assert "the file has no header: write the columns' names" in printed and "set `zone`" in printed
    assert (
        section["header"] == ["column 1", "column 2", "column 3"] and "which column is to be forecast?" in printed
    )


def test_the_names_of_this_project_stay(folder, capsys):
    rows = "".join(f"01.01.2009 {hour:02}:00:00,999.9,{hour}\n" for hour in range(24))
    printed, section = described(f'"Date Time","p (mbar)","T (degC)"\n{rows}', capsys)
    assert (section["rename"], section["target"], section["sentinels"]) == ({}, "T (degC)", [])
    assert "clean.checks.temperature: T (degC)" in printed and "a row every 60 minutes" in printed


def test_a_column_with_times_of_issue_is_named(folder, capsys):
    rows = "".join(f"2024-01-{day:02} 00:00,2024-01-{day + 1:02} 06:00,{day}\n" for day in range(1, 28))
    printed, section = described(f"run,valid,temp\n{rows}", capsys)
    assert (section["time"], section["issued"], section["leave_out"]) == ("valid", "run", [])
    assert "For measurements: null" in printed and "init_time" not in printed
    _, section = described(f"logged,sent,temp\n{rows}", capsys)
    assert (section["time"], section["issued"], section["leave_out"]) == ("logged", None, ["sent"])


def test_gaps_and_times_are_told(folder, capsys):
    rows = "".join(f"2024-01-01 {hour:02}:00,{hour}\n" for hour in range(24) if hour not in (7, 8))
    printed, _ = described(f"time,temp\n{rows}", capsys)
    assert "22 rows, 2024-01-01T00:00:00 to 2024-01-01T23:00:00; 1 gaps of 2 rows" in printed


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"<html></html>", b"a,b\n1,2\n", bytes(range(256)), b"\xff\xfea"]
)
def test_a_file_without_a_table_of_times_is_refused(folder, content):
    Path("a.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"^a\.csv: "):
        describe("a.csv")


def test_an_archive_with_two_tables_asks_for_one(folder, capsys):
    text = LAYOUTS["open_meteo"].files["open-meteo-52.55N13.41E38m.csv"].decode()
    Path("a.zip").write_bytes(zipped({"a.csv": text, "b.csv": text}))
    with pytest.raises(UserError, match=r"found 2; it holds a\.csv, b\.csv; name it in --entry"):
        describe("a.zip")
    describe("a.zip", "b.csv")
    assert "entry: b.csv" in capsys.readouterr().out


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(SINGLE))
def test_a_damaged_file_is_described_or_refused_without_a_traceback(folder, data, name):
    ((file, content),) = LAYOUTS[name].files.items()
    lines = content.split(b"\n")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["drop", "twice", "cut", "junk"]))
        if change == "drop" and len(lines) > 1:
            del lines[at]
        elif change == "twice":
            lines.insert(at, lines[at])
        elif change == "cut":
            lines[at] = lines[at][: data.draw(st.integers(0, 30))]
        else:
            lines[at] = data.draw(st.binary(max_size=30))
    Path(file).write_bytes(b"\n".join(lines))
    with contextlib.suppress(UserError):
        describe(file)


def test_a_line_beyond_what_csv_takes_is_no_traceback(folder):
    Path("long.csv").write_text("time,T\n" + "x" * 300_000 + "\n")
    with pytest.raises(UserError, match=r"long\.csv: expected a table with a time in every row"):
        describe("long.csv")


def test_wind_speed_and_direction_become_a_vector(folder, capsys):
    rows = "".join(f"2024-01-01 {hour:02}:00,{hour},{10 * hour}\n" for hour in range(24))
    _, section = described("time,wv (m/s),wd (deg)\n" + rows, capsys)
    assert section["wind"] == {"speed": "wv (m/s)", "direction": "wd (deg)"}
    _, section = described("time,wv (m/s),T (degC)\n" + rows, capsys)
    assert section["wind"] is None
