"""`./run predict FILE`: a forecast from a station's latest file, by a model of the task `station`.

A command, not a stage of DVC. The file goes through the same code as the training data.
"""

import json
import sys
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
from stages.lib.settings.training import read_schedule
from stages.lib.weather.latest import Description, read_latest_window, warn_about_age


def predict(
    file: Annotated[str, "CSV file as `parse` reads it (.csv, .csv.zip, .csv.gz), at least one lookback long"],
    model: Annotated[str, "station model in params.yaml (default: the one with the lowest validation MAE)"] = "",
    at: Annotated[
        str, "time in the file to forecast from, such as 2016-12-30T12:00 (default: its last complete hour)"
    ] = "",
    output: Annotated[
        str, "folder for forecast.csv, forecast.json and forecast.html (default: the folder of FILE)"
    ] = "",
) -> None:
    """Forecast the next hours from the last complete hour of FILE, with 80 % prediction intervals."""
    path = resolve_path(file)
    folder = resolve_path(output) if output else path.parent
    check_is_file(path)
    name, choice = (model, "as asked") if model else (choose_best_model(), "the best on validation")
    description = read_description(name)
    latest = read_latest_window(path, description, parse_time(at))
    now = np.datetime64(datetime.now(), "s")
    warnings = latest.warnings + ([] if at else warn_about_age(latest.end, str(path), now))
    quantiles = predict_window(name, latest.window)
    with open_input(f"data/evaluations/station/{name}/by_lead.parquet", f"evaluate@{name}") as scores:
        by_lead = pd.read_parquet(scores)
    result = summarize_forecast(description, latest.origin, quantiles, by_lead, path.name, warnings)
    write_forecast(folder, result, latest.measured, by_lead)
    print(format_screen(result, choice))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"\nWritten to {folder}: forecast.csv, forecast.json and, to look at, {folder / 'forecast.html'}")


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


def choose_best_model() -> str:
    """Return the evaluated station model with the lowest validation MAE at the headline lead."""
    scores = {}
    for name in list_station_models():
        if Path(f"metrics/station/{name}.json").is_file():
            with open_input(f"metrics/station/{name}.json", f"evaluate@{name}") as path:
                metrics = json.loads(path.read_text(encoding="utf-8"))
                scores[name] = next(value for key, value in metrics.items() if key.startswith("val_mae_"))
    if not scores:
        raise UserError(
            "metrics/station: expected the scores of a station's model, found none; train and evaluate "
            "them with `dvc repro report_station`"
        )
    return min(scores, key=scores.__getitem__)


def read_description(name: str) -> Description:
    """Return model.json of the station model `name`; raise UserError if it does not fit params.yaml."""
    names = list_station_models()
    if name not in names:
        raise UserError(
            f"--model: expected a station model of params.yaml, found {name!r}; it has {', '.join(names) or 'none'}"
        )
    with open_input(f"data/models/station/{name}/model.json", f"train@{name}") as path:
        description = json.loads(path.read_text(encoding="utf-8"))
        record = description["record"]  # here, where a file without it is refused in one sentence
    target = get_param("records", record, "target")
    if description["target"] != target:
        raise UserError(
            f"{path}: expected a model of {target!r} (records.{record}.target in params.yaml), found one of "
            f"{description['target']!r}; train it again with `dvc repro train@{name}`"
        )
    return description


def predict_window(name: str, window: np.ndarray) -> np.ndarray:
    """Return the quantiles (leads, 3) of the model `name` for one window."""
    session = load_session(name, read_schedule(name)["threads"])
    return predict_windows(session, {"window": window[None]})[0]
