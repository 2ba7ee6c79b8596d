"""`./run predict FILE [NAME=FILE ...]`: a forecast from a station's latest file, by a model of the task `station`.

A command, not a stage of DVC. The files go through the same code as the training data.
"""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.files import check_is_file, open_input, resolve_path
from stages.lib.params import get_param
from stages.lib.reports.prediction import format_screen, summarize_forecast, write_forecast
from stages.lib.scoring.station.prediction import load_session, predict_windows
from stages.lib.settings.base import suggest_name
from stages.lib.settings.clock import Clock
from stages.lib.settings.training import read_schedule
from stages.lib.weather.latest import Description, Latest, read_latest_window, warn_about_age


def predict(
    *files: Annotated[
        str,
        "the station's CSV file as `parse` reads it (.csv, .csv.zip, .csv.gz), at least one lookback long; then, "
        "as NAME=FILE, those of the other records in params.yaml that the model needs",
    ],
    model: Annotated[
        str, "station model in params.yaml (default: the one with the lowest validation MAE whose files are given)"
    ] = "",
    at: Annotated[
        str, "time in the file to forecast from, such as 2016-12-30T12:00 (default: its last complete hour)"
    ] = "",
    output: Annotated[
        str, "folder for forecast.csv, forecast.json and forecast.html (default: the folder of the station's file)"
    ] = "",
) -> None:
    """Forecast the next hours from the last complete hour of the station's file, with 80 % prediction intervals."""
    named_files = [split_name(text) for text in files]
    descriptions = {name: read_description(name) for name in ([check_model(model)] if model else list_evaluated())}
    paths = name_files(named_files, {description["record"] for description in descriptions.values()})
    name = choose_model(descriptions, paths)
    choice = (
        "as asked" if model else "the best on validation" + ("" if len(paths) == 1 else " whose files are given")
    )
    description = descriptions[name]
    path = paths[description["record"]]
    folder = resolve_path(output) if output else path.parent
    latest = read_latest_window(paths, description, parse_time(at))
    now = np.datetime64(datetime.now(), "s")
    warnings = latest.warnings + ([] if at else warn_about_age(latest.end, str(path), now))
    quantiles = predict_window(name, latest)
    with open_input(f"data/evaluations/station/{name}/by_lead.parquet", f"evaluate@{name}") as scores:
        by_lead = pd.read_parquet(scores)
    result = summarize_forecast(description, latest.origin, quantiles, by_lead, path.name, warnings)
    write_forecast(folder, result, latest.measured, by_lead)
    print(format_screen(result, choice))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"\nWritten to {folder}: forecast.csv, forecast.json and, to look at, {folder / 'forecast.html'}")


def split_name(text: str) -> tuple[str, Path]:
    """Return the record, or "" if it is not named, and the path in `text`, which is FILE or NAME=FILE.

    Raises UserError where there is no such file or record.
    """
    records, (name, separator, file) = get_param("records"), text.partition("=")
    if not separator or name not in records:
        path = resolve_path(text)
        if separator and "/" not in name and not path.exists():
            raise UserError(f"{text}: expected a name in records, found {name}{suggest_name(name, records)}")
        check_is_file(path)
        return "", path
    path = resolve_path(file)
    check_is_file(path)
    return name, path


def name_files(files: Sequence[tuple[str, Path]], stations: set[str]) -> dict[str, Path]:
    """Return the file of each record; the one without a name is that of the station.

    Raises UserError where none is of a station or two are of one record, or where there are several `stations` to
    forecast and a file does not say which it is of.
    """
    paths = dict[str, Path]()
    for name, path in files:
        if not name and len(stations) > 1:
            names = ", ".join(sorted(stations))
            raise UserError(f"{path}: expected NAME=FILE, as the models are of several stations, {names}")
        record = name or next(iter(stations))
        if record in paths:
            raise UserError(
                f"{path}: expected one file of {record}, found a second; name the files of other records, as in "
                f"NAME={path}"
            )
        paths[record] = path
    if not stations & paths.keys():
        raise UserError(f"expected the file of a station, {' or '.join(sorted(stations))}: ./run predict FILE")
    return paths


def choose_model(descriptions: dict[str, Description], paths: dict[str, Path]) -> str:
    """Return the model with the lowest validation MAE at the headline lead whose files are all in `paths`.

    It is a model of the first record in `paths` that has one. Raises UserError if none has all of its files.
    """
    stations = {description["record"] for description in descriptions.values()}
    station = next(record for record in paths if record in stations)
    needed = {
        name: Clock(**description["clock"]).records
        for name, description in descriptions.items()
        if description["record"] == station
    }
    candidates = [name for name, records in needed.items() if set(records) <= paths.keys()]
    if not candidates:
        name, records = min(needed.items(), key=lambda item: len(set(item[1]) - paths.keys()))
        missing = [record for record in records if record not in paths]
        raise UserError(
            f"{name}: expected files of {', '.join(records)}, found none of {' and '.join(missing)}; add "
            f"{' '.join(f'{record}=FILE' for record in missing)}"
        )
    return min(candidates, key=read_validation_mae) if len(candidates) > 1 else candidates[0]


def parse_time(at: str) -> np.datetime64 | None:
    """Return the time that --at gives, or None; raise UserError if it is not a time."""
    try:
        time = datetime.fromisoformat(at) if at else None
        if time is not None and time.tzinfo is not None:
            raise ValueError
    except ValueError:
        raise UserError(
            f"--at: expected a time of the station's own clock such as 2016-12-30T12:00, found {at!r}"
        ) from None
    return np.datetime64(time, "s") if time else None


def list_station_models() -> list[str]:
    """Return the names of the station models in params.yaml."""
    return [name for name, model in (get_param("models") or {}).items() if model.get("task") == "station"]


def list_evaluated() -> list[str]:
    """Return the names of the evaluated station models; raise UserError if there is none."""
    names = [name for name in list_station_models() if Path(f"metrics/station/{name}.json").is_file()]
    if not names:
        raise UserError(
            "metrics/station: expected the scores of a station's model, found none; train and evaluate "
            "them with `dvc repro report_station`"
        )
    return names


def read_validation_mae(name: str) -> float:
    """Return the validation MAE of the station model `name` at the headline lead."""
    with open_input(f"metrics/station/{name}.json", f"evaluate@{name}") as path:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        return next(value for key, value in metrics.items() if key.startswith("val_mae_"))


def check_model(name: str) -> str:
    """Return `name`; raise UserError unless it is a station model of params.yaml."""
    names = list_station_models()
    if name not in names:
        raise UserError(
            f"--model: expected a station model of params.yaml, found {name!r}; it has {', '.join(names) or 'none'}"
        )
    return name


def read_description(name: str) -> Description:
    """Return model.json of the station model `name`; raise UserError if it does not fit params.yaml."""
    with open_input(f"data/models/station/{name}/model.json", f"train@{name}") as path:
        description = json.loads(path.read_text(encoding="utf-8"))
        # Here, where a file without them is refused in one sentence.
        record, _ = description["record"], Clock(**description["clock"])
    target = get_param("records", record, "target")
    if description["target"] != target:
        raise UserError(
            f"{path}: expected a model of {target!r} (records.{record}.target in params.yaml), found one of "
            f"{description['target']!r}; train it again with `dvc repro train@{name}`"
        )
    return description


def predict_window(name: str, latest: Latest) -> np.ndarray:
    """Return the quantiles (leads, 3) of the model `name` for one window."""
    session = load_session(name, read_schedule(name)["threads"])
    inputs = {"past": latest.window} | ({} if latest.ahead is None else {"ahead": latest.ahead})
    return predict_windows(session, 1, lambda _: {key: values[None] for key, values in inputs.items()})[0]
