"""`./run predict [FILE] [NAME=FILE ...]`: a forecast from the latest files, by a model of the task `station`.

A command, not a stage of DVC. The files go through the same code as the training data.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from onnxruntime import InferenceSession

from stages.lib.errors import UserError
from stages.lib.files import check_is_file, open_input, resolve_path
from stages.lib.params import get_param
from stages.lib.reports.prediction import format_screen, summarize_forecast, write_forecast
from stages.lib.reports.recent_errors import warn_about_last_forecast
from stages.lib.scoring.station.prediction import load_session, predict_windows
from stages.lib.settings.base import read_settings, suggest_name
from stages.lib.settings.clock import Clock
from stages.lib.settings.source import LatestSource, hide_secrets, is_address
from stages.lib.settings.training import read_schedule
from stages.lib.tasks.station.margins import compute_margins, move_quantiles
from stages.lib.tasks.station.recalibration import find_latest_origins, has_enough_targets
from stages.lib.weather.latest import Description, Latest, check_clocks, make_latest_window, warn_about_age
from stages.lib.weather.latest_files import LatestFiles

OUTPUT = Path("data/forecast")  # where the forecast from each record's `latest` is written


class Answer(NamedTuple):
    """The forecast of one model."""

    model: str
    latest: Latest
    quantiles: np.ndarray  # (leads, 3)
    by_lead: pd.DataFrame  # the model's scores on the test period
    origins: np.ndarray  # of the forecasts whose errors gave the intervals; none: the validation period did


def predict(
    *files: Annotated[
        str,
        "the station's CSV file as `parse` reads it (.csv, .csv.zip, .csv.gz), at least one lookback long; then, "
        "as NAME=FILE, those of the other records in params.yaml (default: each record's `latest` there)",
    ],
    model: Annotated[
        str, "station model in params.yaml (default: the one with the lowest validation MAE that can answer)"
    ] = "",
    at: Annotated[
        str, "time in the file to forecast from, such as 2016-12-30T12:00 (default: its last complete hour)"
    ] = "",
    output: Annotated[
        str,
        "folder for forecast.csv, forecast.json and forecast.html (default: the folder of the station's file; "
        "without a file, data/forecast)",
    ] = "",
) -> None:
    """Forecast the next hours from the last complete hour of the station's file, with 80 % prediction intervals.

    If the file of another record is late, short, missing or unsound, the best model that does not need it answers.
    The intervals follow the errors of the last 90 days, if the files reach back that far.
    """
    origin, named_files = parse_time(at), [split_name(text) for text in files]
    names, failures = [check_model(model)] if model else rank_models(), dict[str, list[str]]()
    descriptions = dict[str, Description]()
    for name in names:
        with collect_failure(failures, name):
            descriptions[name] = read_description(name)
    if not descriptions:
        raise UserError(next(iter(failures)))
    stations = {description["record"] for description in descriptions.values()}
    sources = name_files(named_files, stations) if files else list_latest_sources(stations)
    candidates, lacking = list_candidates(descriptions, sources)
    with tempfile.TemporaryDirectory() as folder:
        now = np.datetime64(datetime.now(), "s")
        answer = find_answer(candidates, LatestFiles(sources, Path(folder)), origin, now, failures)
    notices = [f"{reason}; not used: {', '.join(models)}" for reason, models in failures.items()]
    if answer is None:
        *others, reason = failures
        print_warnings(notices[: len(others)])
        raise UserError(reason)
    source = hide_secrets(sources[candidates[answer.model]["record"]])
    choice = "as asked" if model else describe_choice(answer.model, names, lacking, failures)
    description, latest, by_lead = candidates[answer.model], answer.latest, answer.by_lead
    target = resolve_path(output) if output else Path(source).parent if files else OUTPUT
    warnings = notices + latest.warnings + ([] if at else warn_about_age(latest.end, source, now))
    warnings += warn_about_last_forecast(
        target, description["record"], description["target"], latest.measured, latest.origin
    )
    if len(answer.origins):
        by_lead = by_lead.assign(coverage=by_lead["recalibrated_coverage"])
    result = summarize_forecast(
        description, latest, answer.quantiles, answer.origins, by_lead, Path(source).name, warnings, choice
    )
    write_forecast(target, result, latest.measured, by_lead)
    print(format_screen(result))
    print_warnings(warnings)
    print(f"\nWritten to {target}: forecast.csv, forecast.json and, to look at, {target / 'forecast.html'}")


def print_warnings(warnings: list[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


@contextlib.contextmanager
def collect_failure(failures: dict[str, list[str]], name: str) -> Iterator[None]:
    """Turn a UserError of the block into an item of `failures`: the reason, and the models that cannot answer.

    Reasons that differ only in the model's `name` are one.
    """
    try:
        yield
    except UserError as error:
        reason = str(error)
        same = [
            known for known, models in failures.items() if known.replace(models[0], "") == reason.replace(name, "")
        ]
        failures.setdefault(same[0] if same else reason, []).append(name)


def find_answer(
    descriptions: dict[str, Description],
    latest_files: LatestFiles,
    origin: np.datetime64 | None,
    now: np.datetime64,
    failures: dict[str, list[str]],
) -> Answer | None:
    """Return the forecast of the first model in `descriptions` that can answer, or None if none of them can.

    The reasons why others cannot go into `failures`; see `collect_failure`.
    """
    for name, description in descriptions.items():
        with collect_failure(failures, name):
            contents = {record: latest_files.read(record) for record in Clock(**description["clock"]).records}
            latest = make_latest_window(contents, description, origin)
            if origin is None:
                check_clocks(latest.parts, latest.end, now)
            with open_input(f"data/evaluations/station/{name}/by_lead.parquet", f"evaluate@{name}") as scores:
                by_lead = pd.read_parquet(scores)
            session = load_session(name, read_schedule(name)["threads"])
            quantiles, origins = predict_window(session, latest), np.empty(0, "datetime64[s]")
            if by_lead["recalibrated_coverage"].notna().all():  # a score that the reader can be told
                quantiles, origins = recalibrate_latest_interval(
                    session, quantiles, latest, every=description["every_hours"]
                )
            return Answer(name, latest, quantiles, by_lead, origins)
    return None


def describe_choice(
    name: str, names: list[str], lacking: dict[str, list[str]], failures: dict[str, list[str]]
) -> str:
    """Return why the model `name` answered: which of `names`, the best first, could not.

    `lacking` has the records without a file that a model needs.
    """
    failed = {model for models in failures.values() for model in models}
    reasons = [
        f"{model} needs {' and '.join(lacking[model])}" if model in lacking else f"{model} cannot, see the warnings"
        for model in names[: names.index(name)]
        if model in lacking or model in failed
    ]
    return "the best on validation" + (f" that can answer: {'; '.join(reasons)}" if reasons else "")


def split_name(text: str) -> tuple[str, str]:
    """Return the record, or "" if it is not named, and the path in `text`, which is FILE or NAME=FILE.

    Raises UserError where there is no such FILE or record; the file of a named record may be missing.
    """
    records, (name, separator, file) = get_param("records"), text.partition("=")
    if separator and name in records:
        return name, str(resolve_path(file))
    path = resolve_path(text)
    if separator and "/" not in name and not path.exists():
        raise UserError(f"{text}: expected a name in records, found {name}{suggest_name(name, records)}")
    check_is_file(path)
    return "", str(path)


def name_files(files: Sequence[tuple[str, str]], stations: set[str]) -> dict[str, str]:
    """Return the file of each record; the one without a name is that of the station.

    Raises UserError where none is of a station or two are of one record, or where there are several `stations` to
    forecast and a file does not say which it is of.
    """
    paths = dict[str, str]()
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


def list_latest_sources(stations: set[str]) -> dict[str, str]:
    """Return `latest` of each record that has it; raise UserError if none of `stations` does.

    A path is relative to the repository.
    """
    latest = {name: read_settings(LatestSource, "records", name).latest for name in get_param("records")}
    sources = {
        name: text if is_address(text) else os.path.expanduser(text) for name, text in latest.items() if text
    }
    if not stations & sources.keys():
        settings = " or ".join(f"records.{name}.latest" for name in sorted(stations))
        raise UserError(
            f"params.yaml: {settings}: expected a path or URL of the station's recent rows, found none; set it, or "
            "name a file: ./run predict FILE"
        )
    return sources


def list_candidates(
    descriptions: dict[str, Description], sources: dict[str, str]
) -> tuple[dict[str, Description], dict[str, list[str]]]:
    """Return the models whose records all have `sources`; of other models of the station, the records without one.

    The station is the first record in `sources` that has a model. Raises UserError if none has all of its records.
    """
    stations = {description["record"] for description in descriptions.values()}
    station = next(record for record in sources if record in stations)
    needed = {
        name: Clock(**description["clock"]).records
        for name, description in descriptions.items()
        if description["record"] == station
    }
    lacking = {
        name: missing
        for name, records in needed.items()
        if (missing := [record for record in records if record not in sources])
    }
    if len(lacking) == len(needed):
        name, missing = min(lacking.items(), key=lambda item: len(item[1]))
        raise UserError(
            f"{name}: expected files of {', '.join(needed[name])}, found none of {' and '.join(missing)}; add "
            f"{' '.join(f'{record}=FILE' for record in missing)}, or set `latest` of these records in params.yaml "
            "and name no file"
        )
    return {name: descriptions[name] for name in needed if name not in lacking}, lacking


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


def rank_models() -> list[str]:
    """Return the evaluated station models, by their validation MAE; raise UserError if there is none."""
    names = [name for name in list_station_models() if Path(f"metrics/station/{name}.json").is_file()]
    if not names:
        raise UserError(
            "metrics/station: expected the scores of a station's model, found none; train and evaluate "
            "them with `dvc repro report_station`"
        )
    return sorted(names, key=read_validation_mae)


def read_validation_mae(name: str) -> float:
    """Return the validation MAE of the station model `name` at the headline lead."""
    with open_input(f"metrics/station/{name}.json", f"evaluate@{name}") as path:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        return next(value for key, value in metrics.items() if key.startswith("val_mae_"))


def check_model(name: str, argument: str = "--model") -> str:
    """Return `name`; raise UserError, which names the `argument`, unless it is a station model of params.yaml."""
    names = list_station_models()
    if name not in names:
        raise UserError(
            f"{argument}: expected a station model of params.yaml, found {name!r}; it has "
            f"{', '.join(names) or 'none'}"
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


def predict_window(session: InferenceSession, latest: Latest) -> np.ndarray:
    """Return the quantiles (leads, 3) of the model of `session` for one window."""
    inputs = {"past": latest.window} | ({} if latest.ahead is None else {"ahead": latest.ahead})
    return predict_windows(session, 1, lambda _: {key: values[None] for key, values in inputs.items()})[0]


def recalibrate_latest_interval(
    session: InferenceSession, quantiles: np.ndarray, latest: Latest, every: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return `quantiles` (leads, 3) with the margins of the latest errors, and the origins of these forecasts.

    If the files have too few earlier windows, `quantiles` stay as they are and there are no origins.
    """
    earlier, day = latest.earlier, latest.origin.astype("datetime64[D]")
    chosen = find_latest_origins(earlier.times, day, len(quantiles), every)
    targets, windows = earlier.targets[chosen], earlier.windows.select(chosen)
    if not has_enough_targets(targets, every):
        return quantiles, np.empty(0, "datetime64[s]")
    margins = compute_margins(targets, predict_windows(session, len(windows), windows.get_inputs))
    return move_quantiles(quantiles, margins), earlier.times[chosen]
