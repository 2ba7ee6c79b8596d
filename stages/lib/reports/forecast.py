"""The report on the notebooks' forecasts: next to what they print, on their protocol."""

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
    """Return the first and the last time of every split that has rows in the record."""
    rows = {name: get_param("split", name) for name in ("train", "val", "test")}
    within = {name: times[first:last] for name, (first, last) in rows.items()}
    return {name: (part[0], part[-1]) for name, part in within.items() if len(part)}


def read_test_forecasts(name: str) -> pd.DataFrame:
    """Return the test forecasts of a model, a row a window: `time`, `truth` and `forecast`."""
    with open_input(f"data/evaluations/forecast/{name}/forecast.parquet", f"evaluate@{name}") as path:
        return pd.read_parquet(path)


def find_windows_with_sentinels(record: dict[str, np.ndarray], rows: np.ndarray, window: Window) -> np.ndarray:
    """Which of the windows that forecast from `rows` hold a sentinel, in any input or in the target: (n,) bool."""
    sentinels = get_param("dataset", "sentinels")
    _, *columns = (np.isin(values, sentinels) for values in record.values())
    anywhere = np.logical_or.reduce(columns)
    found = np.isin(record[get_param("dataset", "target")][rows + window.delay], sentinels)
    for offset in range(-window.lookback, 0, window.step):
        found |= anywhere[rows + offset]
    return found


def score_without_sentinels(names: Iterable[str]) -> tuple[list[float], list[int]]:
    """For each model, its MAE over the test windows that hold no sentinel, and how many do.

    Here and not in `evaluate`, because an input set is normalized: what was a sentinel is not in it.
    """
    record, split, found = read_record(), read_settings(Split, "split"), {}
    maes, counts = [], []
    for name in names:
        inputs, table = get_param("models", name, "inputs"), read_test_forecasts(name)
        if inputs not in found:
            window = read_settings(Window, "inputs", inputs)
            count = len(record[get_param("dataset", "target")])
            rows = choose_forecast_rows(count, split, window.lookback, window.delay)["test"]
            found[inputs] = find_windows_with_sentinels(record, rows, window)
        left_out = found[inputs]
        if len(table) != len(left_out):
            raise UserError(
                f"data/evaluations/forecast/{name}: expected {len(left_out):,} test windows, found {len(table):,}; "
                f"run ./run evaluate {name}"
            )
        maes.append(float((table["forecast"].astype(float) - table["truth"]).abs()[~left_out].mean()))
        counts.append(int(left_out.sum()))
    return maes, counts


def build_report(
    metrics: pd.DataFrame, histories: dict[str, pd.DataFrame]
) -> tuple[dict[str, str], dict[str, Figure]]:
    """Return the files in metrics/, one with the forecasting models' table, and the figures by name."""
    target = get_param("dataset", "target")
    metrics = metrics.sort_values("val_mae", kind="stable")
    maes = metrics.filter(regex="^(val|test)_mae_")  # in the target's own unit, validation first
    naive = maes / (1 - metrics[["val_skill", "test_skill"]].to_numpy())  # on every model's own windows
    limit = 3 * naive.max().max()  # an MAE beyond it is far off
    quality = read_json("data/quality.json", "parse")
    own = get_unit(target)
    clean, test = f"{maes.columns[1]}_without_sentinels", maes.columns[1]
    metrics[clean], metrics["windows_left_out"] = score_without_sentinels(metrics.index.astype(str))
    most = metrics["windows_left_out"].max()
    scores = metrics[[test, clean, "windows_left_out"]].to_dict(orient="index")
    columns = {
        "val MAE": ("val_mae", 4),
        f"val MAE {own}": (maes.columns[0], 3),
        f"test MAE {own}": (test, 3),
        **({f"test MAE {own} without sentinels": (clean, 3)} if most else {}),
        "val skill": ("val_skill", 3),
        "test skill": ("test_skill", 3),
    }
    first, last = (quality[key].replace("T", " ") for key in ("first", "last"))
    extent = f": {quality['rows']:,} rows from {first} to {last}"
    text = (
        f"# Forecasts of {target}\n\n{describe_source(quality['source'], extent)}\n\n"
        f"{format_leaderboard(metrics, columns, 'val MAE')}\n\n"
        "Sorted by validation MAE, best model in bold. Where no unit is given, MAE is in standard deviations of"
        f" {target} over the training rows. Skill is 1 - MAE / naive MAE; the naive forecast is scored on the same"
        " windows as the model.\n"
    )
    if most:
        found = [f"{col['sentinels']} in `{name}`" for name, col in quality["columns"].items() if col["sentinels"]]
        text += (
            f"\nThe record contains sentinels ({', '.join(found)}), left in as in the notebooks. They can throw a"
            f" model far off in the test windows that hold one ({most:,} at most), and its test MAE then"
            " says little else; the column without sentinels leaves these windows out.\n"
        )

    record = read_record()
    times = pd.DatetimeIndex(next(iter(record.values())))
    series = pd.Series(record[target], times)
    shown = [*metrics.index.intersection(["naive"]), *metrics.index[metrics.index != "naive"][:1]]
    forecasts = {name: read_test_forecasts(name) for name in shown}
    target, own = target.replace("degC", "°C"), own.replace("degC", "°C")
    note = " (synthetic)" * quality["source"]["synthetic"]
    texts = {"forecast.md": text, "forecast_without_sentinels.json": json.dumps(scores, indent=2) + "\n"}
    return texts, {
        "temperature": draw_record(series, get_split_times(times), target, note),
        "first_ten_days": draw_first_days(series, target, note),
        "losses": draw_losses(metrics, histories, note),
        "mae": draw_mae(maes, limit, own, note),
        "forecast": draw_forecast(forecasts, target, note),
    }
