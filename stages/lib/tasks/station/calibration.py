"""Calibration of a station's intervals on validation."""

from typing import Any

import numpy as np
from keras import ops

from stages.lib.tasks.station.quantiles import QUANTILES


def conformal_margins(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """How far the outer quantiles of every lead must move outwards to hold what they promise: (2, leads).

    Conformalized quantile regression, each side by itself (Romano, Patterson and Candes, 2019): of n validation
    windows, the ceil((n + 1) * level)-th smallest distance by which the truth, `targets` (n, leads), lies outside
    the quantile of `outputs` (n, leads, 3). Negative where an interval is too wide.
    """
    found = []
    for level, distance in (
        (1 - QUANTILES[0], outputs[:, :, 0] - targets),
        (QUANTILES[-1], targets - outputs[:, :, -1]),
    ):
        count = np.isfinite(distance).sum(axis=0)
        rank = np.clip(np.ceil((count + 1) * level).astype(int), 1, count) - 1
        ordered = np.sort(distance, axis=0)  # those that are not a number last
        found.append(np.take_along_axis(ordered, rank[None], axis=0)[0])
    return np.stack(found)


def apply_margins(outputs: Any, distance: np.ndarray) -> Any:
    """`outputs` (batch, leads, 3), the outer quantiles moved by `distance` (2, leads) but not past the median."""
    low, median, high = (outputs[:, :, k : k + 1] for k in range(3))
    below, above = (side[:, None] for side in distance.astype(np.float32))
    return ops.concatenate([ops.minimum(low - below, median), median, ops.maximum(high + above, median)], -1)
