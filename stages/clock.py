"""Input sets by the clock: hourly values of the cleaned records, with the next hours of the target."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.files import atomic_output
from stages.lib.settings.base import read_settings
from stages.lib.settings.clean import Gaps
from stages.lib.settings.clock import Clock
from stages.lib.settings.periods import Periods
from stages.lib.weather.neighbours import check_common_hours, warn_about_shift
from stages.lib.weather.record import read_note, read_record
from stages.lib.windows.clock_rows import (
    CleanRecord,
    ClockRows,
    assemble_clock_rows,
    calculate_reach,
    check_target_is_unknown,
    count_lacking,
    find_window_starts,
    warn_about_perfect_forecasts,
)
from stages.lib.windows.input_set import SPLITS, Meta, save_input_set


def read_clean_record(name: str) -> CleanRecord:
    """Return the record `name` as `clean` left it."""
    record = read_record(name, "clean")
    return CleanRecord(pd.DataFrame(record).set_index(next(iter(record))), read_note(name, "target"))


def choose_windows(
    clock_rows: ClockRows, settings: Clock, bounds: list[np.datetime64 | None]
) -> dict[str, tuple[np.ndarray, None, np.ndarray]]:
    """Return (starts, None, origins) for each split: its windows.

    Raises UserError if a split has no window, or no measured target at one of the leads.
    """
    splits, hourly, lookback = {}, clock_rows.hourly, settings.lookback_rows
    expected = f"a window of {lookback} rows and {settings.lead_rows} targets without a gap"
    if clock_rows.neighbours:
        expected += f", with at most {settings.max_missing_neighbours:.0%} of the neighbours' values missing"
    if clock_rows.ahead_targets:
        expected += ", with a forecast of the target"
    for name, start, end in zip(SPLITS, bounds, bounds[1:], strict=False):
        starts = find_window_starts(clock_rows, settings, start, end)
        if not len(starts):
            raise UserError(
                f"params.yaml: periods.{name}: expected {expected}, from {start} to {end or 'the end'}, found "
                f"none; the record goes from {hourly.time[0]} to {hourly.time[-1]}; choose other dates, or a "
                "shorter lookback, fewer leads or a larger max_missing in clock"
            )
        empty_leads = [
            lead for lead in range(settings.lead_rows) if np.isnan(hourly.targets[starts + lookback + lead]).all()
        ]
        if empty_leads:
            raise UserError(
                f"params.yaml: periods.{name}: expected a measured target at each lead, found none at "
                f"{len(empty_leads)} of {settings.lead_rows}, the first of them {empty_leads[0] + 1}; choose other "
                "dates, or, where the target is measured less often than `every` in clock, a longer `every`"
            )
        splits[name] = (starts, None, hourly.time[starts + lookback - 1])
    return splits


def check_records(settings: Clock, records: dict[str, CleanRecord], clock_rows: ClockRows) -> None:
    """Raise UserError if a record does not fit the station's; warn on stderr about what is doubtful."""
    target = pd.Series(clock_rows.hourly.targets)
    warnings = warn_about_perfect_forecasts(clock_rows)
    for name, (first, _) in clock_rows.neighbours.items():
        position = first + list(records[name].frame.columns).index(records[name].target)
        neighbour = pd.Series(clock_rows.rows[:, position])
        check_common_hours(target, neighbour, name, settings.record)
        warnings += warn_about_shift(target, neighbour, name, settings.record, settings.every)
    check_target_is_unknown(clock_rows, records[settings.record].target)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def clock(name: str) -> None:
    """Write the input set `name` of params.yaml `clock` to data/inputs/NAME."""
    settings, bounds = read_settings(Clock, "clock", name), read_settings(Periods, "periods").get_bounds()
    max_gap = read_settings(Gaps, "clean").max_gap
    records = {record: read_clean_record(record) for record in settings.records}
    clock_rows = assemble_clock_rows(settings, records, max_gap, bounds)
    check_records(settings, records, clock_rows)
    splits = choose_windows(clock_rows, settings, bounds)
    hourly, origin = clock_rows.hourly, settings.lookback_rows - 1
    all_starts = find_window_starts(clock_rows, settings, hourly.start[0], None)
    splits["all"] = (all_starts, None, hourly.time[all_starts + origin])
    source = read_note(settings.record, "source")
    meta = Meta(
        settings.lookback_rows,
        clock_rows.columns,
        clock_rows.columns.index(records[settings.record].target),
        leads=settings.lead_rows,
        every=settings.every,
        record=settings.record,
        source={key: source[key] for key in ("source", "synthetic")},
        clock=settings.model_dump(),
        neighbours=clock_rows.neighbours,
        ahead_columns=clock_rows.ahead_columns,
        ahead_targets=clock_rows.ahead_targets,
        windows={split: len(starts) for split, (starts, *_) in splits.items()},
        windows_lacking_values={
            split: count_lacking(clock_rows.rows, starts, settings.lookback_rows)
            for split, (starts, *_) in splits.items()
        },
        reach=calculate_reach(clock_rows, splits["test"][0] + origin),
    )
    with atomic_output(Path("data/inputs", name)) as directory:
        save_input_set(directory, clock_rows.rows, splits, meta, hourly.targets, clock_rows.ahead)
    print(f"{name}: " + ", ".join(f"{key} {len(splits[key][0]):,}" for key in SPLITS) + " windows")
