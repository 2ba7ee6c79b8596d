"""`./run export`: a folder that forecasts what `predict` does, with numpy and onnxruntime alone."""

import hashlib
import json
import re
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from scripts import export as command
from scripts import predict
from stages.clean import clean
from stages.clock import clock
from stages.evaluate import evaluate
from stages.lib.errors import UserError

ROOT = Path(__file__).parents[1]
T = "T (degC)"
LINE = {"every": 1, "lookback": 24, "leads": 6}
RECORD = {
    **{"source": "x.csv", "size": None, "sha256": None, "time": "Date Time", "format": "%Y-%m-%d %H:%M"},
    **{"target": T, "sentinels": [-9999], "missing": [""]},
}
HOURS = 720  # of January 2009
PERIODS = {"train": "2009-01-01", "val": "2009-01-16", "test": "2009-01-21", "end": None}


def make_station(minutes: int = 60, hours: int = HOURS) -> pd.DataFrame:
    """Measurements with wind, some gaps, sentinels and an impossible value."""
    random, rows = np.random.default_rng(minutes), hours * 60 // minutes
    times = pd.date_range("2009-01-01", periods=rows, freq=f"{minutes}min", name="Date Time")
    season = 4 * np.sin(np.arange(rows) * minutes / 229)
    columns = {
        "p (mbar)": 990 + season + random.normal(0, 1, rows),
        T: 8 + season + random.normal(0, 1, rows),
        "wv (m/s)": random.uniform(0, 5, rows),
        "wd (deg)": random.uniform(0, 360, rows),
    }
    table = pd.DataFrame(columns, times).round(2)
    table.iloc[700 * 60 // minutes, 0] = -9999
    table.iloc[708 * 60 // minutes : 710 * 60 // minutes, 1] = np.nan
    table.iloc[-3, 2] = 0
    return table


def make_neighbour(minutes: int = 60) -> pd.DataFrame:
    table = make_station(minutes)[[T, "p (mbar)"]].iloc[::-1] + 1  # another weather
    table.index = table.index[::-1]
    table.iloc[650:653] = np.nan
    table.iloc[-2:] = np.nan
    return table


def make_forecasts() -> pd.DataFrame:
    """A weather model's forecasts, every six hours for the next fourteen, some of them missing."""
    random, rows = np.random.default_rng(5), []
    for hour in range(-12, HOURS, 6):
        for lead in range(1, 15):
            issue = pd.Timestamp("2009-01-01") + pd.Timedelta(hours=hour)
            rows.append((issue + pd.Timedelta(hours=lead), issue, *random.normal([8, 50], [4, 9]).round(2)))
    table = pd.DataFrame(rows, columns=["Date Time", "issued", T, "rain"]).set_index("Date Time")
    table.iloc[::17, 1] = np.nan
    return table.sort_values(["Date Time", "issued"])


def write(table: pd.DataFrame, name: str) -> str:
    table.to_csv(f"{name}.csv", date_format="%Y-%m-%d %H:%M", lineterminator="\n")
    return f"{name}.csv"


def store(name: str, table: pd.DataFrame) -> None:
    """Write the record as `parse` does, and clean it."""
    columns = {"Date Time": table.index.to_numpy().astype("datetime64[s]")}
    for column in table:
        values = table[column]
        columns[column] = (
            values.to_numpy().astype("M8[s]").astype(float) if column == "issued" else values.to_numpy()
        )
    Path(f"data/records/{name}").mkdir(parents=True)
    metadata = {"source": json.dumps({"source": "x.csv", "synthetic": True, "files": []})}
    pq.write_table(pa.table(columns, metadata=metadata), f"data/records/{name}/record.parquet")
    clean(name)


@pytest.fixture
def records(root: Path) -> dict[str, pd.DataFrame]:
    """A station, a neighbour and a weather model, cleaned."""
    sections = YAML(typ="safe").load(ROOT / "params.yaml")
    wind = {"speed": "wv (m/s)", "direction": "wd (deg)"}
    sections["records"] = {"jena": RECORD | {"wind": wind}, "kassel": RECORD, "icon": RECORD | {"issued": "issued"}}
    sections["periods"] = PERIODS
    sections["clock"] = {"station": LINE | {"record": "jena", "neighbours": ["kassel"], "ahead": ["icon"]}}
    write_sections(sections)
    tables = {"jena": make_station(), "kassel": make_neighbour(), "icon": make_forecasts()}
    for name, table in tables.items():
        store(name, table)
    return tables


def write_sections(sections: dict[str, Any]) -> None:
    Path("params.yaml").write_text(json.dumps(sections))


def train_small(architecture: str = "station_mlp") -> None:
    from stages.train import train

    sections = json.loads(Path("params.yaml").read_text())
    line = {"architecture": architecture, "task": "station", "inputs": "station", "epochs": 0}
    network = {"epochs": 1, "members": 1, "units": 4, "bins": 3, "curves": 2, "noise": 0.1, "dropout": 0.1}
    sections["models"] = {"small": line | (network if architecture == "station_mlp" else {})}
    write_sections(sections)
    clock("station")
    train("small")
    evaluate("small")


@pytest.fixture(scope="session")
def empty_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python environment with numpy and onnxruntime only."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    source, (target,) = Path(sysconfig.get_path("purelib")), folder.glob("lib/python*/site-packages")
    for name in ("numpy", "numpy.libs", "onnxruntime"):
        if (source / name).exists():  # numpy has no libraries of its own on some systems
            (target / name).symlink_to(source / name)
    return folder / "bin/python"


def forecast_in(python: Path, folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-I", f"{folder}/forecast.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def compare(python: Path, files: list[str], averaged: list[str] | None = None) -> dict[str, Any]:
    """Return the forecast of the folder `out`, after a comparison with `predict`'s from `files`.

    `averaged` are the files for the folder, where these are others.
    """
    predict.predict(*files, output="expected")
    expected = json.loads(Path("expected/forecast.json").read_text())
    done = forecast_in(python, "out", *(averaged or files), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["model"], result["origin"], result["target"]) == ("small", expected["origin"], T)
    assert len(result["warnings"]) == len(expected["warnings"])
    keys = ["valid", "lead_hours"]
    assert [[row[k] for k in keys] for row in result["forecast"]] == [
        [r[k] for k in keys] for r in expected["forecast"]
    ]
    for key in ("low", "median", "high"):
        numbers = ([row[key] for row in rows["forecast"]] for rows in (result, expected))
        np.testing.assert_allclose(*numbers, rtol=0, atol=1e-4)
    medians = [row["median"] for row in result["forecast"] if row["valid"][:10] == result["days"][0]["date"]]
    assert result["days"][0] == {
        "date": expected["days"][0]["date"],
        "minimum": min(medians),
        "maximum": max(medians),
    }
    return result


@pytest.mark.slow
def test_the_folder_forecasts_what_predict_does_without_this_project(
    records: dict[str, pd.DataFrame], empty_python: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = subprocess.run([empty_python, "-I", "-c", "import pandas"], capture_output=True)
    assert bare.returncode == 1  # nothing else is there
    train_small()
    command.export("small", "out")
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(command.FILES)
    printed = capsys.readouterr().out
    assert "out/forecast.py jena.csv kassel=kassel.csv icon=icon.csv" in printed

    columns = ["rain", "issued", T]  # in an order of their own, and with one that is not needed
    for end in (719, 700, 711, 600):
        station = records["jena"].iloc[end - 100 : end]
        late = records["kassel"].iloc[: end - 4]
        newest = records["icon"][records["icon"]["issued"] <= station.index[-1]]
        write(records["jena"].iloc[end - 30 : end].assign(**{"more": 1.0}), "ours")
        write(late.iloc[-150:], "kassel")
        write(newest[-300:], "icon")
        files = [write(station, "jena"), "kassel=kassel.csv", "icon=icon.csv"]
        result = compare(empty_python, files, ["jena.csv", *files[1:]])
        write(newest[-300:][columns].reset_index()[["issued", "Date Time", T, "rain"]].set_index("issued"), "icon")
        swapped = forecast_in(empty_python, "out", *files, "--json")
        assert json.loads(swapped.stdout)["forecast"] == result["forecast"]

    done = forecast_in(empty_python, "out", *files)
    lines = done.stdout.splitlines()
    assert lines[0] == "T (degC), forecast from 2009-01-25 23:00 by small" and len(lines) == 2 + LINE["leads"]
    assert re.fullmatch(r"2009-01-26 00:00 +-?\d+\.\d   -?\d+\.\d to -?\d+\.\d", lines[2])
    assert done.stderr.count("\n") == 1 and "this is no forecast for tomorrow" in done.stderr

    for files, message in (
        (["jena.csv"], "expected the files jena=FILE kassel=FILE icon=FILE, found jena.csv"),
        (["jena.csv", "ulm=kassel.csv", "icon=icon.csv"], "expected the files jena=FILE kassel=FILE icon=FILE, "),
        (["no.csv", "kassel=kassel.csv", "icon=icon.csv"], "no.csv: cannot be read ("),
        (
            ["jena.csv", "kassel=jena.csv", "icon=jena.csv"],
            "jena.csv: expected values in a column 'issued', found 'p",
        ),
    ):
        done = forecast_in(empty_python, "out", *files, "--json")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(f"error: {message}")
    shutil.copytree("out", "cut")
    content = Path("out/model.onnx").read_bytes()
    Path("cut/model.onnx").write_bytes(content[: len(content) // 2])
    done = forecast_in(empty_python, "cut", "jena.csv", "kassel=kassel.csv", "icon=icon.csv")
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: \S*/cut/model.onnx: expected the file of model.json, found none, .*\n", done.stderr
    )


@pytest.mark.slow
def test_records_of_one_weather_model_are_one_for_the_folder_too(
    records: dict[str, pd.DataFrame], empty_python: Path
) -> None:
    sections = json.loads(Path("params.yaml").read_text())
    sections["records"]["icon_later"] = sections["records"]["icon"]
    sections["clock"]["station"]["ahead"] = [["icon", "icon_later"]]
    write_sections(sections)
    shutil.rmtree("data/records/icon")
    is_later = records["icon"].index - records["icon"]["issued"] > pd.Timedelta(hours=7)
    parts = {"icon": records["icon"][~is_later], "icon_later": records["icon"][is_later]}
    for name, table in parts.items():
        store(name, table)
    train_small("ridge")
    command.export("small", "out")
    for end in (719, 600):
        files = [write(records["jena"].iloc[end - 100 : end], "jena")]
        files.append("kassel=" + write(records["kassel"].iloc[: end - 1].iloc[-150:], "kassel"))
        for name, table in parts.items():
            known = table[table["issued"] <= records["jena"].index[end - 1]]
            files.append(f"{name}=" + write(known[-300:], name))
        compare(empty_python, files)


@pytest.mark.slow
@pytest.mark.parametrize("max_missing", [0.0, 0.3])
def test_a_record_of_ten_minutes_needs_the_means_of_the_hours(
    root: Path, empty_python: Path, max_missing: float
) -> None:
    sections = YAML(typ="safe").load(ROOT / "params.yaml")
    sections["records"] = {"jena": RECORD | {"wind": {"speed": "wv (m/s)", "direction": "wd (deg)"}}}
    sections["periods"] = PERIODS
    sections["clock"] = {"station": LINE | {"record": "jena", "max_missing": max_missing}}
    write_sections(sections)
    table = make_station(10)[2:]  # an hour that is not whole
    store("jena", table)
    train_small("persistence" if max_missing else "station_mlp")
    command.export("small", "out")
    readme = Path("out/README.md").read_text()
    assert "`wind east (m/s)` and `wind north (m/s)` are means of -speed" in readme and "wd (deg)" not in readme
    table = table[3600:4197]  # without a gap, to half past an hour
    write(table, "jena")
    done = forecast_in(empty_python, "out", "jena.csv")
    message = (
        "error: jena.csv: expected a row every 1 hours, at 00:00 and so on, found 2009-01-26T00:20:00; average "
    )
    assert (done.returncode, done.stderr) == (1, f"{message}what lies between, as README.md says\n")
    angle = np.deg2rad(table["wd (deg)"])
    vector = {"wind east (m/s)": -np.sin(angle), "wind north (m/s)": -np.cos(angle)}
    means = table.drop(columns="wd (deg)").assign(**{name: table["wv (m/s)"] * v for name, v in vector.items()})
    hours = means.resample("h", closed="right", label="right").mean().assign(**{T: table[T]})[1:-1]
    write(hours, "hours")
    compare(empty_python, ["jena.csv"], ["hours.csv"])
    write(hours.drop(columns="wind north (m/s)"), "hours")
    done = forecast_in(empty_python, "out", "hours.csv")
    assert done.stderr.startswith(
        "error: hours.csv: expected values in a column 'wind north (m/s)', found 'p (mbar)'"
    )


def test_the_folder_appears_whole_or_not_at_all(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    Path("data/models/station/ridge").mkdir(parents=True)
    Path("data/clean").mkdir()
    Path("data/clean/jena.json").write_text(json.dumps({"interval_minutes": 10.0, "phase_minutes": 0.0}))
    content = b"a model"
    description = {
        **{"model": "ridge", "record": "jena", "target": T, "columns": [T, "rh (%)", "hour", "day"]},
        **{"clock": {"record": "jena", **LINE}, "every_hours": 1, "lookback": 24, "lead_hours": [1, 2]},
        **{"ahead_columns": [], "onnx_sha256": hashlib.sha256(content).hexdigest()},
    }
    Path("data/models/station/ridge/model.json").write_text(json.dumps(description))
    Path("data/models/station/ridge/model.onnx").write_bytes(content[1:])

    def refuse(message: str, model: str = "ridge", folder: str = "out") -> None:
        with pytest.raises(UserError, match=message) as raised:
            command.export(model, folder)
        assert "\n" not in str(raised.value)

    refuse("^MODEL: expected a station model of params.yaml, found 'gru'; it has persistence", "gru")
    refuse(r"ridge/model.onnx: expected the file that .* was written with, found a damaged one or another model")
    Path("data/models/station/ridge/model.onnx").write_bytes(content)
    monkeypatch.setattr(command, "load_session", lambda *_: None)
    Path("file").touch()
    refuse("/file: expected a folder, found a file$", folder="file")
    refuse("expected a new folder or an earlier export, found 'data' in it$", folder=".")
    program = command.PROGRAM
    monkeypatch.setattr(command, "PROGRAM", Path("absent"))
    with pytest.raises(FileNotFoundError):
        command.export("ridge", "out")
    assert not Path("out").exists() and list(Path().glob(".out*")) == []
    monkeypatch.setattr(command, "PROGRAM", program)
    for _ in range(2):  # the second one replaces the first
        command.export("ridge", "out")
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(command.FILES)
    assert Path("out/forecast.py").read_bytes() == program.read_bytes()
    readme = Path("out/README.md").read_text()
    assert "- jena, a row every 1 h, at 00:00 and so on: `Date Time`, `T (degC)`, `rh (%)`\n" in readme
    assert 20 <= len(readme.splitlines()) <= 25 and "wind east" not in readme
    Path("out/today.csv").touch()
    refuse("expected a new folder or an earlier export, found 'today.csv' in it$")
