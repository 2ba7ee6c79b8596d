"""Gaps in a record: which are short enough to be interpolated."""

import numpy as np
import pandas as pd


def find_runs(mask: np.ndarray) -> np.ndarray:
    """Return the stretches of True in `mask` (n,) as (stretches, 2): first index, and the one after the last."""
    edges = np.diff(mask.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges).reshape(-1, 2)


def drop_short_runs(mask: np.ndarray, limit: float) -> np.ndarray:
    """Return `mask` (n,) less its stretches of True that are no longer than `limit` rows."""
    found = np.zeros(len(mask), bool)
    for first, last in find_runs(mask):
        found[first:last] = last - first > limit
    return found


def find_short_gaps(missing: np.ndarray, limit: float, breaks: np.ndarray | None = None) -> np.ndarray:
    """Return which rows of `missing` (n,) may be interpolated: stretches up to `limit`, measured on either side.

    Not so pandas' own `limit`, which fills the first rows of a long gap too. `breaks` are rows at which something
    new begins: no stretch is filled from both sides of one.
    """
    piece = np.searchsorted([] if breaks is None else breaks, np.arange(len(missing)), side="right")
    found = np.zeros(len(missing), bool)
    for first, last in find_runs(missing):
        inside = first > 0 and last < len(missing) and piece[first - 1] == piece[last]
        found[first:last] = inside and last - first <= limit
    return found


def interpolate_short_gaps(grid: pd.DataFrame, limit: float, breaks: np.ndarray | None = None) -> pd.DataFrame:
    """Return `grid` with its `short_gaps` interpolated linearly; the longer ones stay NaN."""
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
