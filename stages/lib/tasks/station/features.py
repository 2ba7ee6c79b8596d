"""Features that the station's models compute from the raw values of a window.

A window is (lookback, columns) in the units of the measurements. Its last two columns are the calendar: hour of day
and day of year. All features are plain Keras operations, so that a saved model loads without this project.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from stages.lib.nn.batches import predict_in_batches
from stages.lib.windows.input_set import Inputs, Split, Windows

CALENDAR = 2  # columns at the end of each row
HARMONICS = 24  # features made from the calendar
STATISTICS = 4000  # approximate number of windows to estimate means and standard deviations from
HOUR, DAY = 2 * np.pi / 24, 2 * np.pi / 365.25  # radians per hour of the day and per day of the year


def select_training_rows(inputs: Inputs) -> np.ndarray:
    """Return the rows that belong to at least one training window, each once: (rows, columns)."""
    changes = np.zeros(len(inputs.rows) + 1, int)  # in the number of windows that a row belongs to
    np.add.at(changes, inputs.train.windows.starts, 1)
    np.add.at(changes, inputs.train.windows.starts + inputs.meta.time, -1)
    return inputs.rows[np.cumsum(changes)[:-1] > 0]


def subsample(split: Split) -> Split:
    """Return about STATISTICS evenly spaced windows of `split`, or all if there are fewer."""
    step = max(len(split.windows) // STATISTICS, 1)
    windows = Windows(split.windows.rows, split.windows.starts[::step], split.windows.shape[1])
    return Split(windows, split.targets[::step], split.times[::step])


def normalize_window(window: Any, inputs: Inputs) -> Any:
    """Standardize the measurements by statistics of the training rows: (batch, lookback, columns - CALENDAR)."""
    rows = select_training_rows(inputs)[:, :-CALENDAR].astype(np.float64)
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    std = np.where(std > 0, std, 1)  # a constant column becomes zeros
    return layers.Normalization(mean=mean, variance=std**2, name="normalization")(window[:, :, :-CALENDAR])


def last_value(window: Any, column: int) -> Any:
    """Return the last value of `column`: (batch, 1)."""
    return window[:, -1, column : column + 1 or None]


def last_value_at_hour(window: Any, inputs: Inputs) -> Any:
    """Return the latest value of the target at the hour of the day of each lead: (batch, leads)."""
    rows_per_day = round(24 / inputs.meta.every)
    lead = np.arange(1, inputs.meta.leads + 1)
    rows = inputs.meta.time - 1 + lead - rows_per_day * -(-lead // rows_per_day)
    return ops.take(window[:, :, inputs.meta.target], rows, axis=1)


def calendar_harmonics(hour: Any, day: Any) -> Any:
    """Return two harmonics of the day, two of the year, and all products of the two: (..., HARMONICS).

    `hour` is the hour of the day and `day` the day of the year, both (..., 1).
    """
    harmonics = [
        ops.concatenate([f(k * angle) for k in (1, 2) for f in (ops.sin, ops.cos)], -1)
        for angle in (hour * np.float32(HOUR), day * np.float32(DAY))
    ]
    products = [harmonics[0][..., k : k + 1] * harmonics[1] for k in range(4)]
    return ops.concatenate([*harmonics, *products], -1)


def climatological_normal(window: Any, inputs: Inputs, leads: Any) -> Any:
    """Return the climatological normal of the target at `leads` rows after the origin: (batch, leads).

    The normal is a least-squares fit of `calendar_harmonics` and a constant to the training rows.
    """
    rows = select_training_rows(inputs)
    hour, day = rows[:, -2:-1], rows[:, -1:]
    features = np.asarray(calendar_harmonics(hour, day), np.float64)
    features = np.concatenate([features, np.ones_like(features[:, :1])], axis=1)
    # Less than a year of data does not determine the annual harmonics: `rcond` sets such directions to 0.
    coefficients, *_ = np.linalg.lstsq(features, rows[:, inputs.meta.target].astype(np.float64), rcond=0.1)
    lead_hours = np.asarray(leads, np.float32)[:, None] * np.float32(inputs.meta.every)
    hour = window[:, -1:, -2:-1] + lead_hours
    day = window[:, -1:, -1:] + lead_hours / 24
    dense = layers.Dense(1, trainable=False)
    normal = dense(calendar_harmonics(hour, day))
    dense.set_weights([coefficients[:-1, None], coefficients[-1:]])
    return normal[:, :, 0]


def difference_features(window: Any, inputs: Inputs) -> Any:
    """Return the last values and their differences from earlier ones: (batch, features), in standard deviations.

    The features are, for each measurement, the last value, its changes over 1, 3, 6, 12 and 24 hours, and its
    differences from the mean, maximum and minimum of the last one, two and three days; then `calendar_harmonics`.
    With earlier values in place of differences, the models lose a fifth of their skill.
    """
    values, last_values = window[:, :, :-CALENDAR], window[:, -1, :-CALENDAR]
    steps = {round(hours / inputs.meta.every) for hours in (1, 3, 6, 12, 24)} - {0}
    columns = [last_values]
    columns += [last_values - values[:, -1 - step] for step in sorted(steps) if step < inputs.meta.time]
    spans = {min(round(hours / inputs.meta.every), inputs.meta.time) for hours in (24, 48, 72)} - {0}
    for span in sorted(spans):
        recent = values[:, -span:]
        columns += [last_values - f(recent, axis=1) for f in (ops.mean, ops.max, ops.min)]
    features = ops.concatenate(columns, -1)
    sample = predict_in_batches(keras.Model(window, features), inputs, subsample(inputs.train)).astype(np.float64)
    std = np.maximum(sample.std(axis=0), 1e-6)
    standardized = layers.Normalization(mean=sample.mean(axis=0), variance=std**2, name="differences")(features)
    return ops.concatenate(
        [ops.clip(standardized, -5, 5), calendar_harmonics(last_value(window, -2), last_value(window, -1))], -1
    )


def piecewise_linear_encoding(window: Any, features: Any, inputs: Inputs, bins: int) -> Any:
    """Encode each of `features` (batch, n) by its position in `bins` quantile bins: (batch, n * bins).

    Each value of the encoding rises from 0 at the lower edge of its bin to 1 at the upper edge, so that a linear
    layer can represent any piecewise linear function of a feature (Gorishniy, Rubachev and Babenko, 2022, "On
    Embeddings for Numerical Features in Tabular Deep Learning").
    """
    sample = predict_in_batches(keras.Model(window, features), inputs, subsample(inputs.train))
    edges = np.quantile(sample, np.linspace(0, 1, bins + 1), axis=0).astype(np.float32)
    widths = np.maximum(np.diff(edges, axis=0), 1e-3)
    return layers.Flatten()(ops.clip((features[:, None] - edges[:-1]) / widths, 0, 1))
