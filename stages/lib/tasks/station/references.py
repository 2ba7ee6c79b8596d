"""The reference forecasts that the station's models are compared with."""

import keras
import numpy as np
from keras import layers, ops

from stages.lib.nn.batches import run_eagerly
from stages.lib.tasks.station.features import (
    Window,
    base_forecast,
    calendar_harmonics,
    get_calendar,
    last_target,
    last_target_at_hour,
    lead_features,
    make_model,
    make_window,
    normalize_window,
    prefer_forecasts,
)
from stages.lib.tasks.station.quantiles import build_point_model
from stages.lib.windows.input_set import Inputs

RIDGE = 0.003  # penalty per window of the ridge reference, chosen on validation
FORECAST_RIDGE = 0.03  # the same where it corrects a weather model, chosen on the validation of two daily records


def build_persistence(inputs: Inputs) -> keras.Model:
    """Build the persistence forecast: the latest value measured at the same hour of the day."""
    window = make_window(inputs)
    return build_point_model(window, last_target_at_hour(window, inputs))


def build_direct_model_output(inputs: Inputs) -> keras.Model:
    """Build the forecast of the weather model as it is; where there is none, the persistence forecast."""
    window = make_window(inputs)
    return build_point_model(window, prefer_forecasts(window, last_target_at_hour(window, inputs), inputs))


def build_ridge(inputs: Inputs) -> keras.Model:
    """Build the ridge regression from all values of the window and the calendar to the change of the target.

    Where a weather model forecasts the target, it is a regression for each lead from `lead_features` to the error
    of the forecast: model output statistics (Glahn and Lowry, 1972, "The Use of Model Output Statistics").
    """
    window = make_window(inputs)
    if inputs.meta.ahead_targets:
        return build_forecast_ridge(window, inputs)
    values = layers.Flatten()(normalize_window(window, inputs))
    calendar = calendar_harmonics(*get_calendar(window))
    features = ops.concatenate([values, calendar, ops.ones_like(calendar[:, :1])], -1)
    base = ops.repeat(last_target(window, inputs), inputs.meta.leads, axis=1)
    weights = fit_ridge(window, features, base, inputs, RIDGE)
    dense = layers.Dense(inputs.meta.leads, use_bias=False, trainable=False)
    median = base + dense(features)
    dense.set_weights([weights])
    return build_point_model(window, median)


def build_forecast_ridge(window: Window, inputs: Inputs) -> keras.Model:
    """Build the ridge regression from `lead_features` to the target minus `base_forecast`."""
    features, base = lead_features(window, inputs), base_forecast(window, inputs)
    features = ops.concatenate([features, ops.ones_like(features[:, :, :1])], -1)
    x, y = run_eagerly(make_model(window, [features, base]), inputs.train.windows)
    x, y = x.astype(np.float64), inputs.train.targets - y.astype(np.float64)
    weights = np.stack(
        [solve_ridge(x[mask, lead], y[mask, lead], FORECAST_RIDGE) for lead, mask in enumerate(np.isfinite(y).T)]
    )
    dense = layers.EinsumDense("blf,lf->bl", inputs.meta.leads, trainable=False)
    median = base + dense(features)
    dense.set_weights([weights])
    return build_point_model(window, median)


def fit_ridge(window: Window, features: object, base: object, inputs: Inputs, alpha: float) -> np.ndarray:
    """Fit a ridge regression from `features` (n, k) to target - `base` (n, leads) on the training windows.

    Returns the weights (k, leads). The penalty is `alpha` per window; the features should have about unit variance.
    If at least half of the windows have all targets, one regression for all leads uses these windows, which is
    faster; otherwise each lead uses the windows that have its target.
    """
    measured = np.isfinite(inputs.train.targets)
    complete = measured.all(axis=1)
    one_regression = 2 * complete.sum() >= len(complete)
    mask = complete if one_regression else measured.any(axis=1)
    x, y = run_eagerly(make_model(window, [features, base]), inputs.train.windows.select(mask))
    x, y = x.astype(np.float64), inputs.train.targets[mask] - y.astype(np.float64)
    if one_regression:
        return solve_ridge(x, y, alpha)
    return np.stack([solve_ridge(x[mask], y[mask, lead], alpha) for lead, mask in enumerate(np.isfinite(y).T)], 1)


def solve_ridge(x: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
    """Solve (x'x + alpha n I) w = x'y for the weights w (k,) or (k, leads).

    `x` is (n, k), `y` (n,) or (n, leads).
    """
    penalty = alpha * len(x) * np.eye(x.shape[1])
    return np.linalg.solve(x.T @ x + penalty, x.T @ y)
