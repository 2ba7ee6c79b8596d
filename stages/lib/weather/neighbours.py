"""Measurements of other stations at the hours of the target's rows: never a value from after that hour."""

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.weather.hourly import HOUR

MAX_SHIFT = 6  # hours by which two clocks are compared
MIN_GAIN = 0.05  # in correlation, of a shift that is worth a warning


def align_neighbour(grid: pd.DataFrame, target: str, times: np.ndarray, every: int, max_gap: float) -> pd.DataFrame:
    """Return the columns of `grid`, a cleaned record, at `times` (n,) datetime64[s], which lie `every` hours apart.

    A row has the last value of `target` and the means of the other columns over the `every` hours that end at its
    time. Where nothing was measured in them, it has the latest earlier row, if that is at most `max_gap` hours, or
    one interval of the grid, older. NaN elsewhere: gaps are not interpolated, because the value after a gap is not
    known within it.
    """
    length = np.timedelta64(every * HOUR, "s")
    moments = grid.index.to_numpy().astype("datetime64[s]")
    limit = int(max(max_gap / every, (moments[1] - moments[0]) / length))  # rows
    # With the rows before the first: what a row has does not depend on where the station's file begins.
    times = np.concatenate([times[0] - length * np.arange(limit, 0, -1), times])
    rows = np.searchsorted(times, moments)  # the first time not before a reading
    in_rows = rows < len(times)
    in_rows[in_rows] = times[rows[in_rows]] - moments[in_rows] < length
    groups = grid[in_rows].groupby(rows[in_rows])
    aligned = groups.mean()
    if len(aligned):
        aligned[target] = groups[target].last()
    aligned = aligned.reindex(range(len(times)))
    return (aligned.ffill(limit=limit) if limit else aligned)[limit:]


def check_common_hours(target: pd.Series, neighbour: pd.Series, name: str, record: str) -> None:
    """Raise UserError if `neighbour` (n,) was never measured at an hour at which `target` (n,) was."""
    if not (target.notna() & neighbour.notna()).any():
        raise UserError(
            f"params.yaml: records.{name}: expected hours at which {record} was measured too, found none; "
            f"choose a neighbour of the same years, or take {name} out of `neighbours` in clock"
        )


def warn_about_shift(target: pd.Series, neighbour: pd.Series, name: str, record: str, every: int) -> list[str]:
    """Return a warning if the changes of `neighbour` fit those of `target` better on another clock.

    Both are (n,), at the same times. The daily cycle dominates the changes from hour to hour, so that a clock that
    is an hour off lowers their correlation.
    """
    changes, steps = target.diff(), range(-(MAX_SHIFT // every), MAX_SHIFT // every + 1)
    correlations = {step * every: changes.corr(neighbour.diff().shift(step)) for step in steps}
    best = max(correlations, key=lambda shift: np.nan_to_num(correlations[shift], nan=-1))
    if not best or not correlations[best] > correlations[0] + MIN_GAIN:
        return []
    return [
        f"records.{name}: its changes fit those of {record} better {abs(best)} hour{'s' * (abs(best) > 1)} "
        f"{'later' if best > 0 else 'earlier'} (correlation {correlations[best]:.2f}, {correlations[0]:.2f} as it "
        "is); are the times of both records those of one clock? See `zone` in docs/layouts.md"
    ]
