"""Forecasts as quantiles: a model's last layer, and the loss that trains it.

A forecast is (leads, 3): QUANTILES of every lead, in the target's unit.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from stages.lib.nn.batches import predict_in_batches
from stages.lib.tasks.station.features import climatological_normal, last_value, subsample
from stages.lib.windows.input_set import Inputs

QUANTILES = (0.1, 0.5, 0.9)
OUTER = 0.3  # weight of the outer quantiles in the loss


def build_quantile_model(window: Any, state: Any, inputs: Inputs) -> keras.Model:
    """The model from `window` to quantiles of every lead by a dense layer over `state` (batch, features).

    It gives changes, in the standard deviation of each lead, from the last value carried along the climatology. The
    outer quantiles are distances from the median, so that they never cross.
    """
    leads = inputs.meta.leads
    base = climatological_normal(window, inputs, np.arange(leads + 1))
    base = last_value(window, inputs.meta.target) + base[:, 1:] - base[:, :1]
    some = subsample(inputs.train)
    scale = np.nanstd(some.targets - predict_in_batches(keras.Model(window, base), inputs, some), axis=0).astype(
        np.float32
    )
    changes = layers.Reshape((leads, len(QUANTILES)))(layers.Dense(leads * len(QUANTILES))(state))
    below, median, above = (changes[:, :, k : k + 1] for k in range(3))
    changes = ops.concatenate([median - ops.softplus(below), median, median + ops.softplus(above)], -1)
    return keras.Model(window, base[:, :, None] + changes * scale[:, None])


def build_point_model(window: Any, median: Any) -> keras.Model:
    """The model of a forecast without an interval, (batch, leads): all quantiles are the same until `finish`."""
    return keras.Model(window, ops.repeat(median[:, :, None], len(QUANTILES), axis=2))


def make_pinball_loss(weights: np.ndarray) -> Any:
    """The pinball loss over QUANTILES (Koenker and Bassett, 1978), each lead's weighed by `weights` (leads,).

    Doubled, so that the median alone would give the absolute error; the outer quantiles count for OUTER, as more
    would cost the median skill. Targets that are not a number are skipped.
    """
    levels = np.array(QUANTILES, np.float32)
    weights = (weights[:, None] * np.array([OUTER, 1, OUTER])).astype(np.float32)

    def pinball_loss(targets: Any, outputs: Any) -> Any:
        measured = ops.logical_not(ops.isnan(targets))[:, :, None]
        error = ops.where(measured, targets[:, :, None] - outputs, 0)
        return 2 * ops.mean(ops.maximum(levels * error, (levels - 1) * error) * weights, axis=(1, 2))

    return pinball_loss
