"""Rows put into the shape of a record: one column a quantity, one row a time, labelled by the interval's end."""

import numpy as np

from stages.lib.weather.units import get_unit

DEGREES = ("deg", "degrees", "°")
Columns = dict[str, np.ndarray]


def pivot_to_columns(
    moments: np.ndarray, names: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, Columns, np.ndarray]:
    """Return times in order, `values` (n,) as one column for each of `names` (n,), and the first value of each row.

    NaN where a name has no value at a time. A name's second value at one time makes a second row of that time.
    """
    distinct, codes = np.unique(names, return_inverse=True)
    order = np.lexsort((codes, moments))  # stable: equal ones stay in the file's order
    times, codes, values = moments[order], codes[order], values[order]
    again = (times[1:] == times[:-1]) & (codes[1:] == codes[:-1])
    position = np.arange(len(times))
    starts = np.maximum.accumulate(np.where(np.append(True, ~again), position, 0))
    occurrence = position - starts
    keys = np.stack([times.astype("M8[s]").astype(np.int64), occurrence])
    rows, first, row = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    table = np.full((len(distinct), rows.shape[1]), np.nan)
    table[codes, row.ravel()] = values
    return rows[0].astype("M8[s]"), dict(zip(distinct.tolist(), table, strict=True)), order[first]


def resample_to_grid(
    moments: np.ndarray, columns: Columns, minutes: float, by: str, sentinels: list[float]
) -> tuple[np.ndarray, Columns]:
    """Return the mean or the last value of each column over the `minutes` that end with each point of the grid.

    Points lie at multiples of the interval from the clock's midnight; those without any value are left out. Means
    ignore NaN and `sentinels`. The mean of directions (unit deg) is that of unit vectors.
    """
    step = round(minutes * 60)
    points, index = np.unique(-(-moments.astype("M8[s]").astype(np.int64) // step) * step, return_inverse=True)
    means = {}
    for name, values in columns.items():
        valid = ~(np.isnan(values) | np.isin(values, sentinels))
        at, numbers = index[valid], values[valid]
        means[name] = np.full(len(points), np.nan)
        if by == "last":
            means[name][at] = numbers  # of several, numpy keeps the last
            continue
        counts = np.bincount(at, minlength=len(points))
        filled = counts > 0
        if get_unit(name) in DEGREES:
            angles = np.deg2rad(numbers)
            east, north = (np.bincount(at, f(angles), len(points))[filled] for f in (np.sin, np.cos))
            means[name][filled] = np.rad2deg(np.arctan2(east, north)) % 360
        else:
            means[name][filled] = np.bincount(at, numbers, len(points))[filled] / counts[filled]
    measured = ~np.all([np.isnan(values) for values in means.values()], axis=0)
    return points[measured].astype("M8[s]"), {name: values[measured] for name, values in means.items()}


def label_interval_end(moments: np.ndarray) -> np.ndarray:
    """Return the starts of intervals as their ends: later by the most common step between two times."""
    steps, counts = np.unique(np.diff(np.unique(moments)), return_counts=True)
    return moments + steps[counts.argmax()] if len(steps) else moments


def join_side_by_side(records: list[tuple[np.ndarray, Columns]]) -> tuple[np.ndarray, Columns, int]:
    """Return the columns of all `records`, (times, columns) each, by time, and the number of rows left out.

    A time that one of them lacks is NaN there; of several rows of one time in a record, only the first stays.
    """
    moments = np.unique(np.concatenate([times for times, _ in records]))
    joined, lost = {}, 0
    for times, columns in records:
        unique, first = np.unique(times, return_index=True)
        lost += len(times) - len(unique)
        rows = np.searchsorted(moments, unique)
        for name, values in columns.items():
            joined[name] = np.full(len(moments), np.nan)
            joined[name][rows] = values[first]
    return moments, joined, lost
