"""The references that a station's models are compared with."""

import keras
import numpy as np
from keras import layers, ops

from stages.lib.nn.batches import predict_in_batches
from stages.lib.tasks.station.features import calendar_harmonics, last_value, last_value_at_hour, normalize_window
from stages.lib.tasks.station.quantiles import build_point_model
from stages.lib.windows.input_set import Inputs, Split, Windows

RIDGE = 0.003  # penalty of the ridge reference, chosen on validation


def build_persistence(inputs: Inputs) -> keras.Model:
    """The same hour yesterday; from the second day of leads on, of the last day measured."""
    window = keras.Input(inputs.shape)
    return build_point_model(window, last_value_at_hour(window, inputs))


def build_ridge(inputs: Inputs) -> keras.Model:
    """Linear in every value of the window and the calendar, as a change from the target's last value."""
    window = keras.Input(inputs.shape)
    values = layers.Flatten()(normalize_window(window, inputs))
    calendar = calendar_harmonics(last_value(window, -2), last_value(window, -1))
    features = ops.concatenate([values, calendar, ops.ones_like(calendar[:, :1])], -1)
    base = ops.repeat(last_value(window, inputs.meta.target), inputs.meta.leads, axis=1)
    weights = fit_ridge(keras.Model(window, features), inputs, keras.Model(window, base), RIDGE)
    dense = layers.Dense(inputs.meta.leads, use_bias=False, trainable=False)
    median = base + dense(features)
    dense.set_weights([weights])
    return build_point_model(window, median)


def fit_ridge(features: keras.Model, inputs: Inputs, base: keras.Model, alpha: float) -> np.ndarray:
    """The ridge regression from `features` (n, k) of the training windows to target - `base` (n, leads).

    Returns (k, leads): least squares with a penalty of `alpha` a window, for features of about unit variance.
    If at least half of the windows have every target, only those are used, in one regression for all leads, which
    is faster; otherwise each lead uses the windows that have its target.
    """
    measured = np.isfinite(inputs.train.targets)
    complete = measured.all(axis=1)
    together = 2 * complete.sum() >= len(complete)
    used = complete if together else measured.any(axis=1)
    starts, targets, times = inputs.train.windows.starts, inputs.train.targets, inputs.train.times
    split = Split(Windows(inputs.rows, starts[used], inputs.meta.time), targets[used], times[used])
    x = predict_in_batches(features, inputs, split).astype(np.float64)
    y = split.targets - predict_in_batches(base, inputs, split).astype(np.float64)
    if together:
        return solve_ridge(x, y, alpha)
    return np.stack(
        [solve_ridge(x[there], y[there, lead], alpha) for lead, there in enumerate(np.isfinite(y).T)], 1
    )


def solve_ridge(x: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
    """The weights (k,) or (k, leads) of the ridge regression from `x` (n, k) to `y` (n,) or (n, leads)."""
    penalty = alpha * len(x) * np.eye(x.shape[1])
    return np.linalg.solve(x.T @ x + penalty, x.T @ y)
