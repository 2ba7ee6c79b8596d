"""Input sets of the normalized weather record. The windows equal those of the notebooks' generator bit for bit."""

import json

import numpy as np

from stages.lib.errors import UserError
from stages.lib.files import atomic_output, open_input
from stages.lib.params import get_param
from stages.lib.settings.base import read_settings
from stages.lib.settings.inputs import Window
from stages.lib.settings.split import Split
from stages.lib.weather.record import read_record
from stages.lib.windows.input_set import Meta, save_input_set
from stages.lib.windows.splits_by_row import choose_forecast_rows


def order_by_phase(rows: np.ndarray, step: int) -> np.ndarray:
    """Order `rows` (n, features) as rows[0::step], rows[1::step], ...; so each window is contiguous."""
    return np.concatenate([rows[phase::step] for phase in range(step)])


def locate_windows(rows: np.ndarray, count: int, lookback: int, step: int) -> np.ndarray:
    """Return where the windows of `rows` begin after `order_by_phase`, for a record of `count` rows."""
    lengths = [len(range(phase, count, step)) for phase in range(step)]
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    first = rows - lookback
    return offsets[first % step] + first // step


def inputs(name: str) -> None:
    """Write the input set `name` of params.yaml `inputs` to data/inputs/NAME."""
    settings, split = read_settings(Window, "inputs", name), read_settings(Split, "split")
    target = get_param("dataset", "target")
    lookback, step, delay = settings.lookback, settings.step, settings.delay

    record = read_record()
    with open_input("data/normalization.json", "normalize") as path:
        statistics = json.loads(path.read_text())["columns"]
    times = next(iter(record.values()))
    columns = list(statistics)
    if target not in columns:
        raise UserError(f"params.yaml: dataset.target: no column {target!r}; the record has {', '.join(columns)}")
    # Computed in float64 and rounded once, as Keras does with the notebooks' float64 batches.
    rows = np.empty((len(times), len(columns)), np.float32)
    for index, column in enumerate(columns):
        rows[:, index] = (record[column] - statistics[column]["mean"]) / statistics[column]["std"]

    position = columns.index(target)
    splits = {
        split_name: (
            locate_windows(forecast_rows, len(rows), lookback, step),
            rows[forecast_rows + delay, position],
            times[forecast_rows + delay],
        )
        for split_name, forecast_rows in choose_forecast_rows(len(rows), split, lookback, delay).items()
    }
    meta = Meta(
        time=lookback // step,
        columns=columns,
        target=position,
        mean=statistics[target]["mean"],
        std=statistics[target]["std"],
    )
    with atomic_output(f"data/inputs/{name}") as directory:
        save_input_set(directory, order_by_phase(rows, step), splits, meta)
    print(f"{name}: " + ", ".join(f"{key} {len(value[0]):,}" for key, value in splits.items()) + " windows")
