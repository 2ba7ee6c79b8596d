"""Quantile forecasts: the output layer of the station's models, and the loss that trains them.

A forecast is (leads, 3): the QUANTILES of each lead, in the target's unit.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from stages.lib.nn.batches import mark_features
from stages.lib.tasks.station.features import Window, base_forecast, make_model, sample_features, subsample
from stages.lib.tasks.station.levels import QUANTILES
from stages.lib.windows.input_set import Inputs

OUTER = 0.3  # weight of the outer quantiles in the loss


def build_quantile_model(window: Window, state: Any, inputs: Inputs, lead_state: Any | None = None) -> keras.Model:
    """Return the model from `window` to quantiles (batch, leads, 3): a dense layer over `state` (batch, features).

    To its output is added that of a dense layer over `lead_state` (batch, leads, features), the same for all leads.
    The sum is the difference from `base_forecast`, in standard deviations of that difference at each lead. The
    outer quantiles are the median minus and plus a positive distance, so that quantiles never cross.
    """
    leads = inputs.meta.leads
    base = base_forecast(window, inputs)
    differences = subsample(inputs.train).targets - sample_features(window, base, inputs)
    scale = np.nanstd(differences, axis=0).astype(np.float32)
    if inputs.meta.ahead_targets:  # a weather model may be off by several standard deviations
        base = base + np.nanmean(differences, axis=0).astype(np.float32)
    base = mark_features(base, "base")
    changes = layers.Reshape((leads, len(QUANTILES)))(layers.Dense(leads * len(QUANTILES))(state))
    if lead_state is not None:
        changes = changes + layers.Dense(len(QUANTILES))(lead_state)
    below, median, above = (changes[:, :, k : k + 1] for k in range(3))
    changes = ops.concatenate([median - ops.softplus(below), median, median + ops.softplus(above)], -1)
    return make_model(window, base[:, :, None] + changes * scale[:, None])


def build_point_model(window: Window, median: Any) -> keras.Model:
    """Return the model from `window` to quantiles that all equal `median` (batch, leads).

    The calibration in `finish_model` then gives it an interval.
    """
    return make_model(window, ops.repeat(median[:, :, None], len(QUANTILES), axis=2))


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
