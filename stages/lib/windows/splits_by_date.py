"""The windows of a split by date."""

import numpy as np

from stages.lib.weather.hourly import HourlyRows


def find_window_starts(
    hourly: HourlyRows, lookback: int, leads: int, start: np.datetime64, end: np.datetime64 | None
) -> np.ndarray:
    """Return the first rows of the valid windows within [start, end), targets included, in time order.

    A window has `lookback` rows, the last of which is the origin, followed by `leads` targets. It is valid if no
    value is missing, every column was measured at the origin, and its targets touch no gap that is too long and are
    not all missing.
    """
    count = len(hourly.time) - lookback - leads + 1  # of all windows, valid or not
    if count <= 0:
        return np.zeros(0, np.int32)
    # Cumulative counts: the difference between two rows is the count between them.
    incomplete = np.concatenate([[0], np.cumsum(~np.isfinite(hourly.rows).all(axis=1))])
    in_gap = np.concatenate([[0], np.cumsum(hourly.in_gap)])
    targets = np.concatenate([[0], np.cumsum(np.isfinite(hourly.targets))])
    first = np.arange(count)
    first_target, stop = first + lookback, first + lookback + leads
    is_valid = incomplete[first_target] == incomplete[first]
    is_valid &= (in_gap[stop] == in_gap[first_target]) & (targets[stop] > targets[first_target])
    is_valid &= hourly.measured[first_target - 1] & (hourly.start[first] >= start)
    if end is not None:
        is_valid &= hourly.time[stop - 1] < end
    return first[is_valid].astype(np.int32)
