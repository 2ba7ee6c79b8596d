"""The rows of an input set by the clock: measurements of a station and its neighbours, and forecasts known then.

One rule holds for every value: it enters from the moment it was known. A measurement is known at its own time, a
forecast from the time it was issued.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.settings.clock import Clock
from stages.lib.weather.forecasts import tabulate_ahead
from stages.lib.weather.hourly import CALENDAR, HourlyRows, to_hourly_rows
from stages.lib.weather.neighbours import align_neighbour
from stages.lib.weather.record import ISSUE_TIME


class CleanRecord(NamedTuple):
    """A record as `clean` leaves it."""

    frame: pd.DataFrame  # indexed by time; of forecasts, with ISSUE_TIME as its first column
    target: str | None  # the column of the target's quantity


class ClockRows(NamedTuple):
    """n rows, one for every `every` hours."""

    hourly: HourlyRows  # of the station itself
    columns: list[str]
    rows: np.ndarray  # (n, columns) float32: the station's columns, the neighbours', the calendar
    neighbours: dict[str, list[int]]  # the first column of each neighbour, and the one after its last
    ahead: np.ndarray | None  # (n, leads, ahead columns) float32: what was known at each row about the next rows
    ahead_columns: list[str]
    ahead_targets: list[int]  # the ahead columns that forecast the target, the preferred one first


def assemble_clock_rows(
    settings: Clock, records: dict[str, CleanRecord], max_gap: float, breaks: Sequence[np.datetime64 | None] = ()
) -> ClockRows:
    """Return the rows of an input set with `settings` from the cleaned `records` that it names.

    Gaps of the station up to `max_gap` hours are interpolated as `to_hourly_rows` does it, unless windows may have
    missing values. Raises UserError as that function does.
    """
    station, every = records[settings.record], settings.every
    hourly = to_hourly_rows(station.frame, station.target, every, 0 if settings.max_missing else max_gap, breaks)
    columns, blocks, neighbours = list(hourly.columns[: -len(CALENDAR)]), [hourly.rows[:, : -len(CALENDAR)]], {}
    for name in settings.neighbours:
        aligned = align_neighbour(*records[name], hourly.time, every, max_gap)
        neighbours[name] = [len(columns), len(columns) + aligned.shape[1]]
        columns += [f"{name} {column}" for column in aligned.columns]
        blocks.append(aligned.to_numpy(np.float32))
    rows = np.hstack([*blocks, hourly.rows[:, -len(CALENDAR) :]])
    ahead_columns, ahead_blocks, ahead_targets = list[str](), [], []
    for names in settings.ahead_groups:
        target, forecasts = records[names[0]].target, join_forecasts({name: records[name].frame for name in names})
        group_columns, values = tabulate_ahead(
            forecasts,
            target,
            hourly.targets,
            hourly.time,
            every,
            settings.leads // every,
            settings.lookback // every,
        )
        if target is not None:
            ahead_targets.append(len(ahead_columns) + group_columns.index(target))
        ahead_columns += [f"{names[0]} {column}" for column in group_columns]
        ahead_blocks.append(values)
    ahead = np.concatenate(ahead_blocks, axis=2) if ahead_blocks else None
    return ClockRows(hourly, [*columns, *CALENDAR], rows, neighbours, ahead, ahead_columns, ahead_targets)


def join_forecasts(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the forecasts of all records of one weather model, sorted by valid time, then by time of issue.

    Raises UserError if they have different columns.
    """
    first, *others = frames
    for name in others:
        if set(frames[name].columns) != set(frames[first].columns):
            different = sorted(set(frames[name].columns) ^ set(frames[first].columns))
            raise UserError(
                f"params.yaml: clock: expected records of one weather model in each list of `ahead`, found {first} "
                f"and {name}, which do not both have {', '.join(map(repr, different))}; rename or leave out columns"
            )
    joined = pd.concat(frames.values())
    return joined.iloc[np.lexsort([joined[ISSUE_TIME].to_numpy(), joined.index.to_numpy()])]


def find_window_starts(
    clock_rows: ClockRows, settings: Clock, start: np.datetime64, end: np.datetime64 | None
) -> np.ndarray:
    """Return the first rows of the valid windows within [start, end), targets included, in time order.

    A window has `lookback` rows, the last of which is the origin, followed by `leads` targets, which are not all
    missing. With settings.max_missing of 0, it is valid if no value of the station is missing, every column was
    measured at the origin, and its targets touch no gap that is too long. Otherwise, settings.max_missing of the
    station's values may be missing. In either case, settings.max_missing_neighbours of the neighbours' values may
    be. If weather models forecast the target, one of them must reach at least one lead.
    """
    hourly, lookback, leads = clock_rows.hourly, settings.lookback_rows, settings.lead_rows
    first = np.arange(max(len(hourly.time) - lookback - leads + 1, 0))
    if not len(first):
        return first.astype(np.int32)
    first_target, stop = first + lookback, first + lookback + leads

    def count_true(mask: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return how many values of `mask` (rows, ...) are true in the rows from `begins` to before `ends`."""
        sums = np.concatenate([[0], np.cumsum(mask.reshape(len(mask), -1).sum(axis=1))])
        return sums[ends] - sums[begins]

    is_valid = (count_true(np.isfinite(hourly.targets), first_target, stop) > 0) & (hourly.start[first] >= start)
    if end is not None:
        is_valid &= hourly.time[stop - 1] < end
    is_missing = ~np.isfinite(hourly.rows[:, : -len(CALENDAR)])
    missing = count_true(is_missing, first, first_target) / (lookback * is_missing.shape[1])
    is_valid &= missing <= settings.max_missing
    if not settings.max_missing:
        is_valid &= (count_true(hourly.in_gap, first_target, stop) == 0) & hourly.measured[first_target - 1]
    if clock_rows.neighbours:
        last = len(clock_rows.columns) - len(CALENDAR)
        is_missing = ~np.isfinite(clock_rows.rows[:, is_missing.shape[1] : last])
        missing = count_true(is_missing, first, first_target) / (lookback * is_missing.shape[1])
        is_valid &= missing <= settings.max_missing_neighbours
    if clock_rows.ahead_targets:
        forecasts = clock_rows.ahead[first_target - 1][:, :, clock_rows.ahead_targets]
        is_valid &= np.isfinite(forecasts).any(axis=(1, 2))
    return first[is_valid].astype(np.int32)


def count_lacking(rows: np.ndarray, starts: np.ndarray, lookback: int) -> int:
    """Return how many of the windows of `lookback` rows that begin at `starts` lack a value."""
    lacking = np.concatenate([[0], np.cumsum(np.isnan(rows).any(axis=1))])
    return int((lacking[starts + lookback] > lacking[starts]).sum())


def calculate_reach(clock_rows: ClockRows, origins: np.ndarray) -> list[float]:
    """Return the share of `origins`, rows, at which a weather model forecasts the target, by lead: (leads,).

    The list is empty if no weather model forecasts the target.
    """
    if not clock_rows.ahead_targets:
        return []
    forecasts = clock_rows.ahead[origins][:, :, clock_rows.ahead_targets]
    return np.isfinite(forecasts).any(axis=2).mean(axis=0).tolist()


def check_target_is_unknown(clock_rows: ClockRows, target: str) -> None:
    """Raise UserError if an input column has the target's later values.

    Such a column equals the target of some rows later wherever the target has changed by then.
    """
    targets, lead_rows = clock_rows.hourly.targets, range(1, 1 + min(48, len(clock_rows.hourly.time) // 2))
    inputs = {name: clock_rows.rows[:, k] for k, name in enumerate(clock_rows.columns[: -len(CALENDAR)])}
    for name, values in inputs.items():
        for lead in lead_rows:
            now, later = values[:-lead], targets[lead:]
            changed = np.isfinite(now) & np.isfinite(later) & (later != targets[:-lead])
            if changed.sum() > 48 and (now == later)[changed].mean() > 0.9:
                raise UserError(
                    f"params.yaml: clock: expected inputs that were known at their time, found {name!r}, which has "
                    f"{target!r} of {lead} rows later; leave the column out, or make it a record with `issued`"
                )


def warn_about_perfect_forecasts(clock_rows: ClockRows) -> list[str]:
    """Return a warning for each weather model whose forecasts of the target are too good to be forecasts."""
    warnings, targets = [], clock_rows.hourly.targets
    for column in clock_rows.ahead_targets:
        forecasts = clock_rows.ahead[:-1, 0, column]
        errors = np.abs(targets[1:] - forecasts)
        errors = errors[np.isfinite(errors)]
        share = (errors < 1e-4).mean() if len(errors) else 0.0
        if share > 0.5:
            warnings.append(
                f"{clock_rows.ahead_columns[column]!r}: equals the measured value in {share:.0%} of the rows; are "
                "these measurements? A value may enter only from the moment it was known (records.NAME.issued in "
                "params.yaml)"
            )
    return warnings
