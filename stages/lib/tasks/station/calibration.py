"""Calibrate the prediction intervals of the station's models on the validation windows."""

from typing import Any

import numpy as np
from keras import ops

from stages.lib.tasks.station.quantiles import QUANTILES


def conformal_margins(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return how far to move the lower and upper quantile of each lead outwards: (2, leads), in the target's unit.

    Conformalized quantile regression with separate margins for the two sides (Romano, Patterson and Candes, 2019,
    "Conformalized Quantile Regression"). `targets` (n, leads) may contain NaN; `outputs` (n, leads, 3) are the
    quantiles. A margin is the ceil((n + 1) * level)-th smallest distance by which a target lies outside the
    quantile. It is negative if the interval is too wide.
    """
    margins = []
    for level, distance in (
        (1 - QUANTILES[0], outputs[:, :, 0] - targets),
        (QUANTILES[-1], targets - outputs[:, :, -1]),
    ):
        count = np.isfinite(distance).sum(axis=0)
        rank = np.clip(np.ceil((count + 1) * level).astype(int), 1, count) - 1
        ordered = np.sort(distance, axis=0)  # NaN sorts last
        margins.append(np.take_along_axis(ordered, rank[None], axis=0)[0])
    return np.stack(margins)


def apply_margins(outputs: Any, margins: np.ndarray) -> Any:
    """Move the outer quantiles of `outputs` (batch, leads, 3) outwards by `margins` (2, leads).

    A negative margin moves a quantile at most to the median.
    """
    low, median, high = (outputs[:, :, k : k + 1] for k in range(3))
    below, above = (side[:, None] for side in margins.astype(np.float32))
    return ops.concatenate([ops.minimum(low - below, median), median, ops.maximum(high + above, median)], -1)
