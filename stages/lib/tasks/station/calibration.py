"""Layers of a station's model that smooth its prediction intervals and move them by fixed margins."""

from typing import Any

import numpy as np
from keras import ops

from stages.lib.tasks.station.margins import make_smoothing_matrix


def smooth_widths(outputs: Any, leads: int) -> Any:
    """Smooth the distances of the outer quantiles of `outputs` (batch, leads, 3) from the median over the leads."""
    matrix = make_smoothing_matrix(leads).astype(np.float32)
    low, median, high = (outputs[:, :, k] for k in range(3))
    below, above = (ops.matmul(width, matrix) for width in (median - low, high - median))
    return ops.stack([median - below, median, median + above], -1)


def apply_margins(outputs: Any, margins: np.ndarray) -> Any:
    """Move the outer quantiles of `outputs` (batch, leads, 3) outwards by `margins` (2, leads).

    A negative margin moves a quantile at most to the median.
    """
    low, median, high = (outputs[:, :, k : k + 1] for k in range(3))
    below, above = (side[:, None] for side in margins.astype(np.float32))
    return ops.concatenate([ops.minimum(low - below, median), median, ops.maximum(high + above, median)], -1)
