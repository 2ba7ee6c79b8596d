"""`./run export MODEL FOLDER`: a station's model and a program that runs it, for computers without this project."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

from scripts.predict import check_model, read_description
from stages.lib.errors import UserError
from stages.lib.files import atomic_output, resolve_path
from stages.lib.scoring.station.prediction import load_session
from stages.lib.settings.base import read_settings
from stages.lib.settings.clean import Clean
from stages.lib.settings.clock import Clock
from stages.lib.settings.records import EPOCH, Record, has_offset
from stages.lib.weather.cleaning import WIND_VECTOR, find_check
from stages.lib.weather.latest import Description, list_columns, read_training_grid, select_columns

PROGRAM = Path(__file__).with_name("forecast.py")
FILES = ("model.onnx", "model.json", "settings.json", "forecast.py", "README.md")
CALCULATED = ("age (h)", "mean error of ")  # beginnings of the columns that forecasts get in `tabulate_ahead`
README = """# {target}: a forecast by the model `{model}`

`forecast.py` forecasts {target} for the {hours:g} hours after the last row of a station's file, with 80 %
intervals. It needs Python 3.10 or later with numpy and onnxruntime (`pip install numpy onnxruntime`), no network:

    python forecast.py {files}
    python forecast.py {files} --json

Each file is CSV with a header, commas, a decimal point, and times such as 2016-12-30 12:00. An empty field is a
missing value. Other columns are ignored. The station's file has at least {rows} rows.

{records}

A row has the target as measured at its time, and the mean of every other column since the row before it.
{wind}Times are {clock}.
A weather model's file has the time that a row is valid at and the time when it was issued. What is from after the
station's last row is not used.

A file that no sound forecast can start from is refused with one sentence and exit code 1: it is too short, or has
a gap of more than {max_gap:g} hours, an impossible value or a sensor that is stuck. `model.json` says what the
model was trained on, `settings.json` how the files are read.
"""
WIND = """`wind east (m/s)` and `wind north (m/s)` are means of -speed times the direction's sine and cosine.
"""


def export(
    model: Annotated[str, "station model in params.yaml"],
    folder: Annotated[str, "a new folder, or an earlier export, which is replaced"],
) -> None:
    """Write MODEL with a program that runs it, which needs numpy and onnxruntime only, to FOLDER."""
    description = read_description(check_model(model, "MODEL"))
    load_session(model, 1)  # refuses a damaged file
    target = resolve_path(folder).resolve()
    check_is_replaceable(target)
    settings = collect_settings(description)
    source = Path("data/models/station", model)
    with atomic_output(target) as directory:
        directory.mkdir()
        for name in ("model.onnx", "model.json"):
            shutil.copyfile(source / name, directory / name)
        shutil.copyfile(PROGRAM, directory / PROGRAM.name)
        text = json.dumps(settings, indent=2, ensure_ascii=False)
        (directory / "settings.json").write_text(text + "\n", encoding="utf-8")
        (directory / "README.md").write_text(format_readme(description, settings), encoding="utf-8")
    print(f"{target}: {', '.join(FILES)}; try: python {target / PROGRAM.name} {list_arguments(settings)}")


def check_is_replaceable(folder: Path) -> None:
    """Raise UserError if `folder` is a file, or has other files than an export."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder, found a file")
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if strays := sorted(set(names) - set(FILES)):
        raise UserError(f"{folder}: expected a new folder or an earlier export, found {strays[0]!r} in it")


def collect_settings(description: Description) -> dict[str, Any]:
    """Return what forecast.py needs of params.yaml: `max_gap`, and how each record of the model is read."""
    settings, clean = Clock(**description["clock"]), read_settings(Clean, "clean")
    groups = {name: names[0] for names in settings.ahead_groups for name in names}
    records = {}
    for name in settings.records:
        record = read_settings(Record, "records", name)
        if name in groups:
            columns, (interval, phase) = list_ahead_columns(description, groups[name]), (0, 0)
        else:
            columns, (interval, phase) = list_columns(description, name), read_training_grid(name)
        has_wind = WIND_VECTOR[0] in columns
        raw = [column for column in columns if column not in WIND_VECTOR]
        raw += [record.wind.direction] if has_wind else []
        checks = {column: find_check(column, clean.checks) for column in raw}
        records[name] = {
            "time": record.time if isinstance(record.time, str) else "time",
            "utc": record.zone is not None or has_offset(record.format) or record.format in EPOCH,
            "issued": record.issued,
            "target": record.target,
            "interval_minutes": interval / 60,
            "phase_minutes": phase / 60,
            "wind": record.wind.model_dump() if has_wind else None,
            "columns": {
                column: {
                    "limits": check.limits,
                    "missing": [*record.sentinels, *check.missing],
                    "stuck": check.stuck,
                }
                for column, check in checks.items()
            },
        }
    return {"max_gap": clean.max_gap, "records": records}


def list_ahead_columns(description: Description, name: str) -> list[str]:
    """Return the columns of the forecasts `name` that come from their file, by their names there."""
    columns = select_columns(description["ahead_columns"], name)
    return [column for column in columns if not column.startswith(CALCULATED)]


def list_arguments(settings: dict[str, Any]) -> str:
    """Return the arguments of forecast.py."""
    station, *others = settings["records"]
    return " ".join([f"{station}.csv", *(f"{name}={name}.csv" for name in others)])


def format_readme(description: Description, settings: dict[str, Any]) -> str:
    """Return README.md of an export."""
    every, records = description["every_hours"], settings["records"]
    lines, wind = [], ""
    for name, record in records.items():
        is_finer = not record["issued"] and record["interval_minutes"] < 60 * every
        phase = records[description["record"] if is_finer else name]["phase_minutes"]
        first = f"{int(phase // 60):02}:{int(phase % 60):02}"
        rows = f"a row every {max(record['interval_minutes'] / 60, every):g} h, at {first} and so on"
        rows = "a row for each issue and time" if record["issued"] else rows
        times = [record["time"], *([record["issued"]] if isinstance(record["issued"], str) else [])]
        names = list(record["columns"])
        if is_finer and record["wind"]:  # a mean of directions says nothing
            names.remove(record["wind"]["direction"])
            names += WIND_VECTOR
            wind = WIND
        columns = ", ".join(f"`{name}`" for name in [*times, *names])
        lines.append(f"- {name}, {rows}: {columns}")
    return README.format(
        target=description["target"],
        model=description["model"],
        hours=description["lead_hours"][-1],
        files=list_arguments(settings),
        rows=description["lookback"],
        records="\n".join(lines),
        wind=wind,
        clock="UTC"
        if records[description["record"]]["utc"]
        else "those of the station's clock, without summer time",
        max_gap=settings["max_gap"],
    )
