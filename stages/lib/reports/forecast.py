"""The report on the notebooks' forecasts: next to what they print, on their protocol."""

import pandas as pd
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from stages.lib.figures import Spans, draw_first_days, draw_forecast, draw_losses, draw_mae, draw_record
from stages.lib.files import reading
from stages.lib.leaderboard import provenance, read_json, table
from stages.lib.params import params
from stages.lib.units import unit


def split_times(times: pd.DatetimeIndex) -> Spans:
    """Return the first and the last time of every split that has rows in the record."""
    rows = {name: params("split", name) for name in ("train", "val", "test")}
    within = {name: times[first:last] for name, (first, last) in rows.items()}
    return {name: (part[0], part[-1]) for name, part in within.items() if len(part)}


def report(metrics: pd.DataFrame, histories: dict[str, pd.DataFrame]) -> tuple[str, dict[str, Figure]]:
    """Return the text with the forecasting models' table, and the figures by name."""
    target = params("dataset", "target")
    metrics = metrics.sort_values("val_mae", kind="stable")
    maes = metrics.filter(regex="^(val|test)_mae_")  # in the target's own unit, validation first
    naive = maes / (1 - metrics[["val_skill", "test_skill"]].to_numpy())  # on every model's own windows
    limit = 3 * naive.max().max()  # an MAE beyond it is far off
    quality = read_json("data/quality.json", "parse")
    own = unit(target)
    columns = {
        "val MAE": ("val_mae", 4),
        f"val MAE {own}": (maes.columns[0], 3),
        f"test MAE {own}": (maes.columns[1], 3),
        "val skill": ("val_skill", 3),
        "test skill": ("test_skill", 3),
    }
    first, last = (quality[key].replace("T", " ") for key in ("first", "last"))
    extent = f": {quality['rows']:,} rows from {first} to {last}"
    text = (
        f"# Forecasts of {target}\n\n{provenance(quality['source'], extent)}\n\n"
        f"{table(metrics, columns, 'val MAE')}\n\n"
        "Sorted by validation MAE, best model in bold. Where no unit is given, MAE is in standard deviations of"
        f" {target} over the training rows. Skill is 1 - MAE / naive MAE; the naive forecast is scored on the same"
        " windows as the model.\n"
    )
    found = [f"{col['sentinels']} in `{name}`" for name, col in quality["columns"].items() if col["sentinels"]]
    if found and maes.iloc[:, 1].max() > limit:
        text += (
            f"\nThe record contains sentinels ({', '.join(found)}), left in as in the notebooks. They can throw a"
            " model far off in the test windows that contain them; its test MAE then says little else.\n"
        )

    with reading("data/record.parquet", "parse") as path:
        time = pq.read_schema(path).names[0]
        series = pd.read_parquet(path, columns=[time, target]).set_index(time)[target]
    forecasts = {}
    for name in [*metrics.index.intersection(["naive"]), *metrics.index[metrics.index != "naive"][:1]]:
        with reading(f"data/evaluations/forecast/{name}/forecast.parquet", f"evaluate@{name}") as path:
            forecasts[name] = pd.read_parquet(path)
    target, own = target.replace("degC", "°C"), own.replace("degC", "°C")
    note = " (synthetic)" * quality["source"]["synthetic"]
    return text, {
        "temperature": draw_record(series, split_times(series.index), target, note),
        "first_ten_days": draw_first_days(series, target, note),
        "losses": draw_losses(metrics, histories, note),
        "mae": draw_mae(maes, limit, own, note),
        "forecast": draw_forecast(forecasts, target, note),
    }
