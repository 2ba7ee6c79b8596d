"""Features of a station's window: what a model computes from raw values before its first layer.

A window is (lookback, columns), in its own units; its last two columns are the calendar: hour of day and
day of year. Everything is plain Keras, so that a model's file loads without this project.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from stages.lib.nn.batches import predict_in_batches
from stages.lib.windows.input_set import Inputs, Split, Windows

CALENDAR = 2  # columns at the end of a row
HARMONICS = 24  # features of the calendar
STATISTICS = 4000  # windows, about, that means and spreads are taken over
HOUR, DAY = 2 * np.pi / 24, 2 * np.pi / 365.25  # radians an hour of the day, a day of the year


def select_training_rows(inputs: Inputs) -> np.ndarray:
    """The rows that the training windows look at, each once: (rows, columns) in their own units."""
    used = np.zeros(len(inputs.rows) + 1, int)
    np.add.at(used, inputs.train.windows.starts, 1)
    np.add.at(used, inputs.train.windows.starts + inputs.meta.time, -1)
    return inputs.rows[np.cumsum(used)[:-1] > 0]


def subsample(split: Split) -> Split:
    """Some windows of `split`, evenly spread: enough for a mean."""
    every = max(len(split.windows) // STATISTICS, 1)
    windows = Windows(split.windows.rows, split.windows.starts[::every], split.windows.shape[1])
    return Split(windows, split.targets[::every], split.times[::every])


def normalize_window(window: Any, inputs: Inputs) -> Any:
    """The measurements of `window` in standard deviations of the training rows: (batch, lookback, columns - 2)."""
    rows = select_training_rows(inputs)[:, :-CALENDAR].astype(np.float64)
    spread = rows.std(axis=0)
    mean, std = rows.mean(axis=0), np.where(spread > 0, spread, 1)  # a constant column becomes zeros
    return layers.Normalization(mean=mean, variance=std**2, name="normalization")(window[:, :, :-CALENDAR])


def last_value(window: Any, column: int) -> Any:
    """The last value of a column: (batch, 1)."""
    return window[:, -1, column : column + 1 or None]


def last_value_at_hour(window: Any, inputs: Inputs) -> Any:
    """The target at the hour of the day of every lead, the last time that it was measured: (batch, leads)."""
    day = round(24 / inputs.meta.every)
    lead = np.arange(1, inputs.meta.leads + 1)
    rows = inputs.meta.time - 1 + lead - day * -(-lead // day)
    return ops.take(window[:, :, inputs.meta.target], rows, axis=1)


def calendar_harmonics(hour: Any, day: Any) -> Any:
    """Two harmonics of the day, two of the year and their products, 24: hours and days (..., 1) -> (..., 24)."""
    waves = [
        ops.concatenate([f(k * angle) for k in (1, 2) for f in (ops.sin, ops.cos)], -1)
        for angle in (hour * np.float32(HOUR), day * np.float32(DAY))
    ]
    products = [waves[0][..., k : k + 1] * waves[1] for k in range(4)]
    return ops.concatenate([*waves, *products], -1)


def climatological_normal(window: Any, inputs: Inputs, leads: Any) -> Any:
    """The normal target `leads` rows after the origin, by harmonics fitted on training rows: (batch, leads)."""
    rows = select_training_rows(inputs)
    hour, day = rows[:, -2:-1], rows[:, -1:]
    features = np.asarray(calendar_harmonics(hour, day), np.float64)
    features = np.concatenate([features, np.ones_like(features[:, :1])], axis=1)
    # Less than a year tells little of the year's waves: what it leaves open is 0, not anything.
    fitted, *_ = np.linalg.lstsq(features, rows[:, inputs.meta.target].astype(np.float64), rcond=0.1)
    ahead = np.asarray(leads, np.float32)[:, None] * np.float32(inputs.meta.every)  # hours
    hour = window[:, -1:, -2:-1] + ahead
    day = window[:, -1:, -1:] + ahead / 24
    weight = layers.Dense(1, trainable=False)
    normal = weight(calendar_harmonics(hour, day))
    weight.set_weights([fitted[:-1, None], fitted[-1:]])
    return normal[:, :, 0]


def difference_features(window: Any, inputs: Inputs) -> Any:
    """The last values, and how they differ from earlier ones: (batch, features), in standard deviations.

    The last value of every measurement, its changes over 1 to 24 hours, how far it lies from the mean, maximum and
    minimum of the last one, two and three days, and the calendar. Levels instead cost a fifth of the skill.
    """
    values, now = window[:, :, :-CALENDAR], window[:, -1, :-CALENDAR]
    steps = {round(hours / inputs.meta.every) for hours in (1, 3, 6, 12, 24)} - {0}
    found = [now, *(now - values[:, -1 - step] for step in sorted(steps) if step < inputs.meta.time)]
    spans = {min(round(hours / inputs.meta.every), inputs.meta.time) for hours in (24, 48, 72)} - {0}
    for span in sorted(spans):
        recent = values[:, -span:]
        found += [now - f(recent, axis=1) for f in (ops.mean, ops.max, ops.min)]
    features = ops.concatenate(found, -1)
    seen = predict_in_batches(keras.Model(window, features), inputs, subsample(inputs.train)).astype(np.float64)
    spread = np.maximum(seen.std(axis=0), 1e-6)
    scaled = layers.Normalization(mean=seen.mean(axis=0), variance=spread**2, name="differences")(features)
    return ops.concatenate(
        [ops.clip(scaled, -5, 5), calendar_harmonics(last_value(window, -2), last_value(window, -1))], -1
    )


def piecewise_linear_encoding(window: Any, features: Any, inputs: Inputs, count: int) -> Any:
    """Where `features` (batch, n) lie in `count` bins, each with as many windows: (batch, n * count).

    A number goes from 0 at a bin's lower edge to 1 at its upper one, so that any curve of a feature is nearly
    linear in its numbers: piecewise linear encoding (Gorishniy, Rubachev and Babenko, 2022).
    """
    seen = predict_in_batches(keras.Model(window, features), inputs, subsample(inputs.train))
    edges = np.quantile(seen, np.linspace(0, 1, count + 1), axis=0).astype(np.float32)
    widths = np.maximum(np.diff(edges, axis=0), 1e-3)
    return layers.Flatten()(ops.clip((features[:, None] - edges[:-1]) / widths, 0, 1))
