"""Input sets by the clock: hourly values of the cleaned record, with the next hours of the target."""

from pathlib import Path
from typing import Any

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
from stages.lib.weather.record import read_record, read_source
from stages.lib.windows.input_set import SPLITS, Meta, save_input_set
from stages.lib.windows.splits_by_date import find_window_starts


def choose_windows(
    hourly: HourlyRows, lookback: int, leads: int, bounds: list[np.datetime64 | None]
) -> dict[str, tuple[np.ndarray, None, np.ndarray]]:
    """Return (starts, None, origins) for each split: its windows of `lookback` rows and `leads` targets.

    Raises UserError if a split has no window, or no measured target at one of the leads.
    """
    splits = {}
    for name, start, end in zip(SPLITS, bounds, bounds[1:], strict=False):
        starts = find_window_starts(hourly, lookback, leads, start, end)
        if not len(starts):
            raise UserError(
                f"params.yaml: periods.{name}: expected a window of {lookback} rows and {leads} targets without a "
                f"gap from {start} to {end or 'the end'}, found none; the record goes from {hourly.time[0]} to "
                f"{hourly.time[-1]}; choose other dates, or a shorter lookback or fewer leads in clock"
            )
        empty_leads = [lead for lead in range(leads) if np.isnan(hourly.targets[starts + lookback + lead]).all()]
        if empty_leads:
            raise UserError(
                f"params.yaml: periods.{name}: expected a measured target at each lead, found none at "
                f"{len(empty_leads)} of {leads}, the first of them {empty_leads[0] + 1}; choose other dates, or, "
                "where the target is measured less often than `every` in clock, a longer `every`"
            )
        splits[name] = (starts, None, hourly.time[starts + lookback - 1])
    return splits


def clock(name: str) -> None:
    """Write the input set `name` of params.yaml `clock` to data/inputs/NAME."""
    settings, bounds = read_settings(Clock, "clock", name), read_settings(Periods, "periods").get_bounds()
    target, max_gap = get_param("records", settings.record, "target"), read_settings(Gaps, "clean").max_gap
    record = read_record(settings.record, "clean")
    source = read_source(settings.record, "clean")
    provenance: dict[str, Any] = {
        "record": settings.record,
        "source": {key: source[key] for key in ("source", "synthetic")},
    }
    grid = pd.DataFrame(record).set_index(next(iter(record)))
    if target not in grid:
        raise UserError(
            f"params.yaml: records.{settings.record}.target: expected a column of the cleaned record, found "
            f"{target!r}; it has "
            f"{', '.join(map(repr, grid.columns))}"
        )
    hourly = to_hourly_rows(grid, target, settings.every, max_gap, bounds)
    lookback, leads = settings.lookback // settings.every, settings.leads // settings.every
    splits = choose_windows(hourly, lookback, leads, bounds)
    all_starts = find_window_starts(hourly, lookback, leads, hourly.start[0], None)
    splits["all"] = (all_starts, None, hourly.time[all_starts + lookback - 1])
    position = hourly.columns.index(target)
    meta = Meta(lookback, hourly.columns, position, leads=leads, every=settings.every, **provenance)
    with atomic_output(Path("data/inputs", name)) as directory:
        save_input_set(directory, hourly.rows, splits, meta, hourly.targets)
    print(f"{name}: " + ", ".join(f"{key} {len(splits[key][0]):,}" for key in SPLITS) + " windows")
