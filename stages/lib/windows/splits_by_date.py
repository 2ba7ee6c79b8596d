"""The windows that a split by date holds."""

import numpy as np

from stages.lib.weather.hourly import HourlyRows


def find_window_starts(
    table: HourlyRows, lookback: int, leads: int, first: np.datetime64, last: np.datetime64 | None
) -> np.ndarray:
    """Return the first rows of the windows that lie within [first, last), their targets included, in time order.

    A window is `lookback` rows, the last of which is the origin, and the `leads` targets after it. It has no row
    with a value missing, no value measured after the origin, and no target in a gap that is too long.
    """
    count = len(table.time) - lookback - leads + 1  # of all windows, valid or not
    if count <= 0:
        return np.zeros(0, np.int32)
    bad = np.concatenate([[0], np.cumsum(~np.isfinite(table.rows).all(axis=1))])
    lost = np.concatenate([[0], np.cumsum(table.lost)])
    found = np.concatenate([[0], np.cumsum(np.isfinite(table.targets))])
    start = np.arange(count)
    after, end = start + lookback, start + lookback + leads
    valid = (bad[after] == bad[start]) & (lost[end] == lost[after]) & (found[end] > found[after])
    valid &= table.now[after - 1] & (table.start[start] >= first)
    if last is not None:
        valid &= table.time[end - 1] < last
    return start[valid].astype(np.int32)
