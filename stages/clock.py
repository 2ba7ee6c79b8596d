"""Windows by the clock over the cleaned record: raw hourly values, and the next hours' measured ones as targets."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.files import atomic_output
from stages.lib.params import get_param
from stages.lib.settings.base import read_settings
from stages.lib.settings.clean import Gaps
from stages.lib.settings.clock import Clock
from stages.lib.settings.periods import Periods
from stages.lib.weather.hourly import HourlyRows, to_hourly_rows
from stages.lib.weather.record import CLEAN, read_record
from stages.lib.windows.input_set import SPLITS, Meta, save_input_set
from stages.lib.windows.splits_by_date import find_window_starts


def choose_windows(
    table: HourlyRows, lookback: int, leads: int, bounds: list[np.datetime64 | None]
) -> dict[str, tuple[np.ndarray, None, np.ndarray]]:
    """Return the (starts, None, origins) of each split, for windows of `lookback` rows and `leads` targets.

    Raises UserError where a split has no window, or no target at some lead.
    """
    splits = {}
    for name, first, last in zip(SPLITS, bounds, bounds[1:], strict=False):
        start = find_window_starts(table, lookback, leads, first, last)
        if not len(start):
            raise UserError(
                f"params.yaml: periods.{name}: expected a window of {lookback} rows and {leads} targets without a "
                f"gap from {first} to {last or 'the end'}, found none; the record goes from {table.time[0]} to "
                f"{table.time[-1]}; choose other dates, or a shorter lookback or fewer leads in clock"
            )
        silent = [lead for lead in range(leads) if np.isnan(table.targets[start + lookback + lead]).all()]
        if silent:
            raise UserError(
                f"params.yaml: periods.{name}: expected a measured target at each lead, found none at "
                f"{len(silent)} of {leads}, the first of them {silent[0] + 1}; choose other dates, or, where the "
                "target is measured less often than `every` in clock, a longer `every`"
            )
        splits[name] = (start, None, table.time[start + lookback - 1])
    return splits


def clock(name: str) -> None:
    """Write the input set `name` of params.yaml `clock` to data/inputs/NAME."""
    window, bounds = read_settings(Clock, "clock", name), read_settings(Periods, "periods").get_bounds()
    target, max_gap = get_param("dataset", "target"), read_settings(Gaps, "clean").max_gap
    record = read_record(CLEAN, "clean")
    grid = pd.DataFrame(record).set_index(next(iter(record)))
    if target not in grid:
        raise UserError(
            f"params.yaml: dataset.target: expected a column of {CLEAN}, found {target!r}; it has "
            f"{', '.join(map(repr, grid.columns))}"
        )
    table = to_hourly_rows(grid, target, window.every, max_gap, bounds)
    lookback, leads = window.lookback // window.every, window.leads // window.every
    splits = choose_windows(table, lookback, leads, bounds)
    everywhere = find_window_starts(table, lookback, leads, table.start[0], None)
    splits["all"] = (everywhere, None, table.time[everywhere + lookback - 1])
    position = table.columns.index(target)
    meta = Meta(lookback, table.columns, position, leads=leads, every=window.every)
    with atomic_output(Path("data/inputs", name)) as directory:
        save_input_set(directory, table.rows, splits, meta, table.targets)
    print(f"{name}: " + ", ".join(f"{key} {len(splits[key][0]):,}" for key in SPLITS) + " windows")
