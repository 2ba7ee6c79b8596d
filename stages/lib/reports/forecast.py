"""Report on the notebooks' forecasts: their protocol, and their published scores next to the measured ones."""

import json
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.lib.errors import UserError
from stages.lib.files import open_input
from stages.lib.params import get_param
from stages.lib.reports.figures import Spans, draw_first_days, draw_forecast, draw_losses, draw_mae, draw_record
from stages.lib.reports.leaderboard import describe_source, format_leaderboard, read_json
from stages.lib.settings.base import read_settings
from stages.lib.settings.inputs import Window
from stages.lib.settings.split import Split
from stages.lib.weather.record import read_record
from stages.lib.weather.units import get_unit
from stages.lib.windows.splits_by_row import choose_forecast_rows


def get_split_times(times: pd.DatetimeIndex) -> Spans:
    """Return the first and last time of each split that has rows in the record."""
    bounds = {name: get_param("split", name) for name in ("train", "val", "test")}
    split_times = {name: times[first:last] for name, (first, last) in bounds.items()}
    return {name: (values[0], values[-1]) for name, values in split_times.items() if len(values)}


def read_test_forecasts(name: str) -> pd.DataFrame:
    """Read the test forecasts of the model `name`, one row per window: `time`, `truth` and `forecast`."""
    with open_input(f"data/evaluations/forecast/{name}/forecast.parquet", f"evaluate@{name}") as path:
        return pd.read_parquet(path)


def find_windows_with_sentinels(record: dict[str, np.ndarray], rows: np.ndarray, window: Window) -> np.ndarray:
    """Return which windows that forecast from `rows` (n,) have a sentinel in an input or in the target: (n,) bool.

    `record` maps columns to values, the time first; `window` has the settings of the input set.
    """
    sentinels = get_param("dataset", "sentinels")
    _, *columns = (np.isin(values, sentinels) for values in record.values())
    any_column = np.logical_or.reduce(columns)
    mask = np.isin(record[get_param("dataset", "target")][rows + window.delay], sentinels)
    for offset in range(-window.lookback, 0, window.step):
        mask |= any_column[rows + offset]
    return mask


def score_without_sentinels(names: Iterable[str]) -> tuple[list[float], list[int]]:
    """Return for each model the MAE over the test windows without sentinels, and the number of windows with one.

    The stage `evaluate` cannot do this, because sentinels are no longer recognizable in normalized input sets.
    Raises UserError if a model's forecasts are not those of its input set.
    """
    record, split = read_record(), read_settings(Split, "split")
    masks: dict[str, np.ndarray] = {}  # by input set
    maes, counts = [], []
    for name in names:
        inputs, forecasts = get_param("models", name, "inputs"), read_test_forecasts(name)
        if inputs not in masks:
            window = read_settings(Window, "inputs", inputs)
            count = len(record[get_param("dataset", "target")])
            rows = choose_forecast_rows(count, split, window.lookback, window.delay)["test"]
            masks[inputs] = find_windows_with_sentinels(record, rows, window)
        has_sentinel = masks[inputs]
        if len(forecasts) != len(has_sentinel):
            raise UserError(
                f"data/evaluations/forecast/{name}: expected {len(has_sentinel):,} test windows, found "
                f"{len(forecasts):,}; run ./run evaluate {name}"
            )
        errors = (forecasts["forecast"].astype(float) - forecasts["truth"]).abs()
        maes.append(float(errors[~has_sentinel].mean()))
        counts.append(int(has_sentinel.sum()))
    return maes, counts


def build_report(
    metrics: pd.DataFrame, histories: dict[str, pd.DataFrame]
) -> tuple[dict[str, str], dict[str, Figure]]:
    """Return the texts of the files in metrics/, among them the leaderboard, and the figures by name."""
    target = get_param("dataset", "target")
    metrics = metrics.sort_values("val_mae", kind="stable")
    maes = metrics.filter(regex="^(val|test)_mae_")  # in the target's unit, validation first
    naive = maes / (1 - metrics[["val_skill", "test_skill"]].to_numpy())  # on the windows of each model
    limit = 3 * naive.max().max()  # bars end here
    quality = read_json("data/quality.json", "parse")
    unit = get_unit(target)
    clean, test = f"{maes.columns[1]}_without_sentinels", maes.columns[1]
    metrics[clean], metrics["windows_left_out"] = score_without_sentinels(metrics.index.astype(str))
    max_left_out = metrics["windows_left_out"].max()
    scores = metrics[[test, clean, "windows_left_out"]].to_dict(orient="index")
    columns = {
        "val MAE": ("val_mae", 4),
        f"val MAE {unit}": (maes.columns[0], 3),
        f"test MAE {unit}": (test, 3),
        **({f"test MAE {unit} without sentinels": (clean, 3)} if max_left_out else {}),
        "val skill": ("val_skill", 3),
        "test skill": ("test_skill", 3),
    }
    first, last = (quality[key].replace("T", " ") for key in ("first", "last"))
    extent = f": {quality['rows']:,} rows from {first} to {last}"
    text = (
        f"# Forecasts of {target}\n\n{describe_source(quality['source'], extent)}\n\n"
        f"{format_leaderboard(metrics, columns, 'val MAE')}\n\n"
        "Sorted by validation MAE, best model in bold. An MAE without a unit is in standard deviations of"
        f" {target} over the training rows. Skill is 1 - MAE / MAE of the naive forecast on the same windows.\n"
    )
    if max_left_out:
        sentinels = [
            f"{col['sentinels']} in `{name}`" for name, col in quality["columns"].items() if col["sentinels"]
        ]
        text += (
            f"\nThe record contains sentinels ({', '.join(sentinels)}), which stay in the data as in the notebooks."
            f" In test windows with a sentinel (up to {max_left_out:,} per model), forecasts can be far off and"
            " dominate the test MAE; the column without sentinels leaves these windows out.\n"
        )

    record = read_record()
    times = pd.DatetimeIndex(next(iter(record.values())))
    series = pd.Series(record[target], times)
    names = [*metrics.index.intersection(["naive"]), *metrics.index[metrics.index != "naive"][:1]]
    forecasts = {name: read_test_forecasts(name) for name in names}
    target, unit = target.replace("degC", "°C"), unit.replace("degC", "°C")
    note = " (synthetic)" * quality["source"]["synthetic"]
    texts = {"forecast.md": text, "forecast_without_sentinels.json": json.dumps(scores, indent=2) + "\n"}
    return texts, {
        "temperature": draw_record(series, get_split_times(times), target, note),
        "first_ten_days": draw_first_days(series, target, note),
        "losses": draw_losses(metrics, histories, note),
        "mae": draw_mae(maes, limit, unit, note),
        "forecast": draw_forecast(forecasts, target, note),
    }
