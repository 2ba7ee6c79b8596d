"""Hourly rows and targets from the regular grid of measured values."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.weather.gaps import drop_short_runs, interpolate_short_gaps

HOUR = 3600  # s
CALENDAR = ("hour of day (h)", "day of year (d)")


class HourlyRows(NamedTuple):
    """n rows, one for every `every` hours."""

    columns: list[str]
    rows: np.ndarray  # (n, columns) float32, in their own units; NaN within a gap that is too long
    targets: np.ndarray  # (n,) float32: the target as measured at `time`, or NaN
    start: np.ndarray  # (n,) datetime64[s]: the first grid point that a row covers
    time: np.ndarray  # (n,) datetime64[s]: the last grid point that a row covers
    measured: np.ndarray  # (n,) bool: all columns were measured at `time`, so nothing comes from later values
    in_gap: np.ndarray  # (n,) bool: the row touches a gap in the target that is too long


def to_hourly_rows(
    grid: pd.DataFrame, target: str, every: int, max_gap: float, breaks: Sequence[np.datetime64 | None] = ()
) -> HourlyRows:
    """Return one row for every `every` hours of `grid`, the measured values from `clean_record`.

    A row has the target at its hour and the means of all other columns over the `every` hours that end there, after
    gaps up to `max_gap` hours were interpolated; then the hour of the day (0 <= h < 24) and the day of the year
    (1 January, 0:00, is 1.0). Nothing is interpolated across `breaks`, the times at which splits begin. Raises
    UserError if `every` hours are not a multiple of the grid's interval, or longer than the record.
    """
    moments = grid.index.to_numpy().astype("datetime64[s]").astype(np.int64)
    interval = int(moments[1] - moments[0])
    if every * HOUR % interval:
        raise UserError(
            f"params.yaml: clock: expected every to be a multiple of the record's interval, {interval / HOUR:g} "
            f"hours, found {every}"
        )
    points = every * HOUR // interval  # grid points per row
    ends = np.flatnonzero(moments % (every * HOUR) == moments[0] % interval)
    ends = ends[ends >= points - 1]
    if not len(ends):
        raise UserError(
            f"params.yaml: clock: expected every to be shorter than the record, {len(moments) * interval / HOUR:g} "
            f"hours, found {every}"
        )
    limit = max_gap * HOUR / interval
    break_rows = grid.index.searchsorted(pd.DatetimeIndex([time for time in breaks if time is not None]))
    values = interpolate_short_gaps(grid, limit, break_rows).to_numpy()
    blocks = slice(ends[0] - points + 1, ends[-1] + 1)
    rows = values[blocks].reshape(len(ends), points, -1).mean(axis=1)
    position = grid.columns.get_loc(target)
    rows[:, position] = values[ends, position]
    measured = grid.notna().to_numpy()
    # A gap is cut where a split begins, so that its length does not depend on the next split.
    gaps = np.concatenate(
        [drop_short_runs(missing, limit) for missing in np.split(~measured[:, position], break_rows)]
    )
    in_gap = np.any(gaps[blocks].reshape(len(ends), points), axis=1)
    index = pd.DatetimeIndex(grid.index[ends])
    time = index.to_numpy().astype("datetime64[s]")
    hour = (moments[ends] % (24 * HOUR)) / HOUR
    calendar = np.column_stack([hour, index.day_of_year + hour / 24])
    return HourlyRows(
        columns=[*grid.columns, *CALENDAR],
        rows=np.hstack([rows, calendar]).astype(np.float32),
        targets=grid[target].to_numpy()[ends].astype(np.float32),
        start=time - np.timedelta64((points - 1) * interval, "s"),
        time=time,
        measured=np.all(measured[ends], axis=1),
        in_gap=in_gap,
    )
