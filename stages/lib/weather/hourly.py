"""From the grid of measured values to the rows, targets and windows of a forecast by the clock."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.weather.gaps import drop_short_runs, interpolate_short_gaps

HOUR = 3600  # s
CALENDAR = ("hour of day (h)", "day of year (d)")


class HourlyRows(NamedTuple):
    """n rows at the hours; `start` and `time` are the first and the last grid point that a row covers."""

    columns: list[str]
    rows: np.ndarray  # (n, columns) float32, in their own units; NaN where a gap is too long
    targets: np.ndarray  # (n,) float32: the target as measured at the hour; NaN where it was not
    start: np.ndarray  # (n,) datetime64[s]
    time: np.ndarray  # (n,) datetime64[s]
    now: np.ndarray  # (n,) whether every column was measured at the hour: nothing is interpolated from later ones
    lost: np.ndarray  # (n,) whether a gap in the target that is too long touches the row


def to_hourly_rows(
    grid: pd.DataFrame, target: str, every: int, max_gap: float, breaks: Sequence[np.datetime64 | None] = ()
) -> HourlyRows:
    """Return one row for every `every` hours of `grid`, the frame of measured values of lib.cleaning.

    A row holds the target's value at its hour and the means of all other columns over the `every` hours that
    end with it, gaps up to `max_gap` hours interpolated, and then the hour of the day (0 <= h < 24) and the day of
    the year (1 January, 0:00, is 1.0). `breaks` are times across which nothing is interpolated, where a split
    ends. Raises UserError where `every` hours are no multiple of the grid's interval.
    """
    moments = grid.index.to_numpy().astype("datetime64[s]").astype(np.int64)
    interval = int(moments[1] - moments[0])
    if every * HOUR % interval:
        raise UserError(
            f"params.yaml: clock: expected every to be a multiple of the record's interval, {interval / HOUR:g} "
            f"hours, found {every}"
        )
    points = every * HOUR // interval  # in a row
    ends = np.flatnonzero(moments % (every * HOUR) == moments[0] % interval)
    ends = ends[ends >= points - 1]
    if not len(ends):
        raise UserError(
            f"params.yaml: clock: expected every to be shorter than the record, {len(moments) * interval / HOUR:g} "
            f"hours, found {every}"
        )
    limit = max_gap * HOUR / interval
    borders = grid.index.searchsorted(pd.DatetimeIndex([time for time in breaks if time is not None]))
    values = interpolate_short_gaps(grid, limit, borders).to_numpy()
    blocks = slice(ends[0] - points + 1, ends[-1] + 1)
    rows = values[blocks].reshape(len(ends), points, -1).mean(axis=1)
    position = grid.columns.get_loc(target)
    rows[:, position] = values[ends, position]
    measured = grid.notna().to_numpy()
    # A gap ends with its split, so that what the next one lacks decides on no window here.
    gaps = np.concatenate([drop_short_runs(part, limit) for part in np.split(~measured[:, position], borders)])
    lost = np.any(gaps[blocks].reshape(len(ends), points), axis=1)
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
        now=np.all(measured[ends], axis=1),
        lost=lost,
    )
