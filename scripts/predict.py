"""`./run predict FILE`: tomorrow's temperature from a station's latest file, by a model of the station track.

No stage: DVC does not know of it. The file goes through the code that made the training data.
"""

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.files import open_input
from stages.lib.params import get_param
from stages.lib.reports.prediction import format_screen, summarize_forecast, write_forecast
from stages.lib.settings.training import read_schedule
from stages.lib.weather.latest import Description, read_latest_window, warn_if_old


def predict(
    file: Annotated[str, "CSV as `parse` reads it (.csv, .csv.zip, .csv.gz), of at least one lookback"],
    model: Annotated[str, "a station model of params.yaml; without it the one with the lowest validation MAE"] = "",
    at: Annotated[
        str, "forecast from this time of the file, such as 2016-12-30T12:00, not from the last hour"
    ] = "",
    output: Annotated[
        str, "folder for forecast.csv, forecast.json and forecast.html; without it that of FILE"
    ] = "",
) -> None:
    """Forecast the next hours from the last complete hour of FILE, with an interval that holds 80 %."""
    path = resolve_path(file)
    folder = resolve_path(output) if output else path.parent
    if not path.is_file():
        raise UserError(f"{path}: not found; expected a station's CSV file")
    name, chosen = (model, "as asked") if model else (choose_best_model(), "the best on validation")
    description = read_description(name)
    latest = read_latest_window(path, description, parse_time(at))
    old = [] if at else warn_if_old(latest.end, str(path), np.datetime64(datetime.now(), "s"))
    warnings = latest.warnings + old
    quantiles = predict_window(name, latest.window)
    with open_input(f"data/evaluations/station/{name}/by_lead.parquet", f"evaluate@{name}") as table:
        by_lead = pd.read_parquet(table)
    result = summarize_forecast(description, latest.origin, quantiles, by_lead, path.name, warnings)
    write_forecast(folder, result, latest.measured, by_lead)
    print(format_screen(result, chosen))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"\nWritten: {folder / 'forecast.csv'}, forecast.json and, to look at, {folder / 'forecast.html'}")


def resolve_path(path: str) -> Path:
    """`path` as the caller means it: relative to where `run` was called from, which is not where it runs."""
    called_from = Path(os.environ.get("CALLED_FROM", "."))
    expanded = Path(path).expanduser()
    return expanded if called_from.resolve() == Path.cwd() else called_from / expanded


def parse_time(at: str) -> np.datetime64 | None:
    """The time that --at names; UserError where it is none."""
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
    return [name for name, model in (get_param("models") or {}).items() if model.get("task") == "station"]


def choose_best_model() -> str:
    """The evaluated station model with the lowest MAE at the headline lead on validation; UserError if none."""
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
    """What model.json says of the station model `name`; UserError where there is none."""
    known = list_station_models()
    if name not in known:
        raise UserError(
            f"--model: expected a station model of params.yaml, found {name!r}; it has {', '.join(known) or 'none'}"
        )
    with open_input(f"data/models/station/{name}/model.json", f"train@{name}") as path:
        description = json.loads(path.read_text(encoding="utf-8"))
    target = get_param("dataset", "target")
    if description["target"] != target:
        raise UserError(
            f"{path}: expected a model of {target!r} (dataset.target in params.yaml), found one of "
            f"{description['target']!r}; train it again with `dvc repro train@{name}`"
        )
    return description


def predict_window(name: str, window: np.ndarray) -> np.ndarray:
    """The quantiles (leads, 3) that model `name` gives for one window; TensorFlow is imported only here."""
    from stages.lib.nn.environment import keras, set_threads
    from stages.lib.scoring.station.prediction import predict_windows

    set_threads(read_schedule(name)["threads"])
    with open_input(f"data/models/station/{name}/model.keras", f"train@{name}") as path:
        network = keras.models.load_model(path, compile=False)
    return predict_windows(network, window[None])[0]
