"""Quantile forecasts: the output layer of the station's models, and the loss that trains them.

A forecast is (leads, 3): the QUANTILES of each lead, in the target's unit.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from stages.lib.nn.batches import predict_in_batches
from stages.lib.tasks.station.features import climatological_normal, last_value, subsample
from stages.lib.tasks.station.levels import QUANTILES
from stages.lib.windows.input_set import Inputs

OUTER = 0.3  # weight of the outer quantiles in the loss


def build_quantile_model(window: Any, state: Any, inputs: Inputs) -> keras.Model:
    """Return the model from `window` to quantiles (batch, leads, 3): a dense layer over `state` (batch, features).

    The dense layer predicts the difference from a base forecast, which is the last value plus the change of the
    climatological normal, in standard deviations of that difference at each lead. The outer quantiles are the
    median minus and plus a positive distance, so that quantiles never cross.
    """
    leads = inputs.meta.leads
    base = climatological_normal(window, inputs, np.arange(leads + 1))
    base = last_value(window, inputs.meta.target) + base[:, 1:] - base[:, :1]
    sample = subsample(inputs.train)
    differences = sample.targets - predict_in_batches(keras.Model(window, base), inputs, sample)
    scale = np.nanstd(differences, axis=0).astype(np.float32)
    changes = layers.Reshape((leads, len(QUANTILES)))(layers.Dense(leads * len(QUANTILES))(state))
    below, median, above = (changes[:, :, k : k + 1] for k in range(3))
    changes = ops.concatenate([median - ops.softplus(below), median, median + ops.softplus(above)], -1)
    return keras.Model(window, base[:, :, None] + changes * scale[:, None])


def build_point_model(window: Any, median: Any) -> keras.Model:
    """Return the model from `window` to quantiles that all equal `median` (batch, leads).

    The calibration in `finish_model` then gives it an interval.
    """
    return keras.Model(window, ops.repeat(median[:, :, None], len(QUANTILES), axis=2))


def make_pinball_loss(weights: np.ndarray) -> Any:
    """Return the pinball loss over QUANTILES (Koenker and Bassett, 1978), with `weights` (leads,) for the leads.

        loss(q) = 2 max(q (y - f), (q - 1) (y - f))         of the quantile q, the target y and the forecast f

    The factor of 2 makes the loss of the median the absolute error. The outer quantiles have the weight OUTER; a
    larger one would reduce the skill of the median. NaN targets contribute nothing.
    """
    levels = np.array(QUANTILES, np.float32)
    weights = (weights[:, None] * np.array([OUTER, 1, OUTER])).astype(np.float32)

    def pinball_loss(targets: Any, outputs: Any) -> Any:
        measured = ops.logical_not(ops.isnan(targets))[:, :, None]
        error = ops.where(measured, targets[:, :, None] - outputs, 0)
        return 2 * ops.mean(ops.maximum(levels * error, (levels - 1) * error) * weights, axis=(1, 2))

    return pinball_loss
