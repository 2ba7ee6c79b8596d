"""Gaps in a record: which of them are short enough to be interpolated."""

import numpy as np
import pandas as pd


def find_runs(mask: np.ndarray) -> np.ndarray:
    """Return the runs of True in `mask` (n,) as (runs, 2): the first index, and the one after the last."""
    edges = np.diff(mask.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges).reshape(-1, 2)


def drop_short_runs(mask: np.ndarray, limit: float) -> np.ndarray:
    """Return `mask` (n,) without its runs of True that are no longer than `limit` rows."""
    long_runs = np.zeros(len(mask), bool)
    for first, last in find_runs(mask):
        long_runs[first:last] = last - first > limit
    return long_runs


def find_short_gaps(missing: np.ndarray, limit: float, breaks: np.ndarray | None = None) -> np.ndarray:
    """Return which rows of `missing` (n,) may be interpolated: runs up to `limit` rows with a value on either side.

    `limit` in pandas' interpolate() would also fill the first rows of a long gap. `breaks` are rows at which a new
    split begins; a gap is not filled if its two sides belong to different splits.
    """
    split_numbers = np.searchsorted([] if breaks is None else breaks, np.arange(len(missing)), side="right")
    short_gaps = np.zeros(len(missing), bool)
    for first, last in find_runs(missing):
        has_sides = first > 0 and last < len(missing) and split_numbers[first - 1] == split_numbers[last]
        short_gaps[first:last] = has_sides and last - first <= limit
    return short_gaps


def interpolate_short_gaps(grid: pd.DataFrame, limit: float, breaks: np.ndarray | None = None) -> pd.DataFrame:
    """Return `grid` with its short gaps interpolated linearly (see `find_short_gaps`); longer ones stay NaN."""
    columns = {}
    for name in grid:
        values = grid[name].to_numpy(copy=True)
        missing = np.isnan(values)
        gaps = find_short_gaps(missing, limit, breaks)
        values[gaps] = (
            np.interp(np.flatnonzero(gaps), np.flatnonzero(~missing), values[~missing]) if gaps.any() else 0
        )
        columns[name] = values
    return pd.DataFrame(columns, index=grid.index)
