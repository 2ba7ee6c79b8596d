"""Features that the station's models compute from the raw values of a window.

The past of a window is (lookback, columns) in the units of the measurements: the columns of the station and of its
neighbours, then the calendar, which is hour of day and day of year. What is known ahead is (leads, ahead columns).
NaN stands for what is missing. All features are plain Keras operations, so that a saved model loads without this
project.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from stages.lib.nn.batches import mark_features, pack_inputs, run_eagerly
from stages.lib.windows.input_set import Inputs, Split

CALENDAR = 2  # columns at the end of each row
HARMONICS = 24  # features made from the calendar
STATISTICS = 4000  # approximate number of windows to estimate means and standard deviations from
HOUR, DAY = 2 * np.pi / 24, 2 * np.pi / 365.25  # radians per hour of the day and per day of the year


class Window(NamedTuple):
    """The inputs of a station's model."""

    past: Any  # (batch, lookback, columns)
    ahead: Any  # (batch, leads, ahead columns); None without weather models


def make_window(inputs: Inputs) -> Window:
    """Return the inputs of a model for the windows of `inputs`."""
    ahead = None if inputs.ahead is None else keras.Input(inputs.ahead.shape[1:], name="ahead")
    return Window(keras.Input(inputs.shape, name="past"), ahead)


def list_arrays(window: Window) -> list[Any]:
    """Return the past of `window`, and what is known ahead if there is any."""
    return [values for values in window if values is not None]


def make_model(window: Window, outputs: Any, name: str | None = None) -> keras.Model:
    """Return the model from `window` to `outputs`."""
    return keras.Model(pack_inputs(list_arrays(window)), outputs, name=name)


def select_training_rows(inputs: Inputs) -> np.ndarray:
    """Return the rows that belong to at least one training window, each once: (rows, columns)."""
    changes = np.zeros(len(inputs.rows) + 1, int)  # in the number of windows that a row belongs to
    np.add.at(changes, inputs.train.windows.starts, 1)
    np.add.at(changes, inputs.train.windows.starts + inputs.meta.time, -1)
    return inputs.rows[np.cumsum(changes)[:-1] > 0]


def subsample(split: Split) -> Split:
    """Return about STATISTICS evenly spaced windows of `split`, or all if there are fewer."""
    every = slice(None, None, max(len(split.windows) // STATISTICS, 1))
    return Split(split.windows.select(every), split.targets[every], split.times[every])


def replace_missing(values: Any) -> Any:
    """Return `values` with 0 for NaN.

    Only `where(isnan(x), y, x)` survives the export to ONNX. With any other condition, such as its negation, NaN
    stays NaN there.
    """
    return ops.where(ops.isnan(values), 0, values)


def flag_measured(values: Any) -> Any:
    """Return 1 where `values` are measured and 0 where they are NaN, as float32."""
    return ops.cast(ops.logical_not(ops.isnan(values)), "float32")


def make_standardizer(sample: np.ndarray, name: str) -> Callable[[Any], Any]:
    """Return a function that standardizes features (..., k) by mean and deviation of `sample` (n, ..., k).

    It replaces NaN by 0, the mean. Keras stores the statistics in the model. A constant feature becomes zeros.
    """
    sample = sample.reshape(-1, sample.shape[-1]).astype(np.float64)
    is_measured = np.isfinite(sample).any(axis=0)
    mean, std = np.zeros((2, sample.shape[1]))
    mean[is_measured], std[is_measured] = (f(sample[:, is_measured], axis=0) for f in (np.nanmean, np.nanstd))
    std = np.where(std > 1e-6, std, 1)
    normalization = layers.Normalization(mean=mean, variance=std**2, name=name)
    return lambda features: replace_missing(normalization(features))


def normalize_window(window: Window, inputs: Inputs) -> Any:
    """Standardize the measurements by statistics of the training rows: (batch, lookback, columns - CALENDAR)."""
    rows = select_training_rows(inputs)[:, :-CALENDAR]
    return make_standardizer(rows, "normalization")(window.past[:, :, :-CALENDAR])


def last_measured(values: Any, fallback: float) -> Any:
    """Return the last of `values` (batch, rows) that is not NaN, or `fallback`: (batch, 1)."""
    measured = flag_measured(values)
    numbers = measured * np.arange(1, values.shape[1] + 1, dtype=np.float32)  # of the rows, 0 where NaN
    last = ops.max(numbers, axis=1, keepdims=True)
    is_last = ops.cast(ops.equal(numbers, last), "float32") * measured
    value = ops.sum(replace_missing(values) * is_last, axis=1, keepdims=True)
    return ops.where(last > 0, value, np.float32(fallback))


def last_target(window: Window, inputs: Inputs) -> Any:
    """Return the last measured value of the target: (batch, 1); its mean in training where none was measured."""
    values = window.past[:, :, inputs.meta.target]
    if not inputs.meta.may_lack_target:
        return values[:, -1:]
    return last_measured(values, np.nanmean(select_training_rows(inputs)[:, inputs.meta.target]))


def last_target_at_hour(window: Window, inputs: Inputs) -> Any:
    """Return the latest value of the target at the hour of the day of each lead: (batch, leads).

    Where none was measured at that hour, it is the last value.
    """
    rows_per_day = round(24 / inputs.meta.every)
    lead = np.arange(1, inputs.meta.leads + 1)
    rows = inputs.meta.time - 1 + lead - rows_per_day * -(-lead // rows_per_day)
    values = window.past[:, :, inputs.meta.target]
    latest = ops.take(values, rows, axis=1)
    if not inputs.meta.may_lack_target:
        return latest
    for rows_back in range(rows_per_day, inputs.meta.time, rows_per_day):
        earlier = np.where(rows >= rows_back, rows - rows_back, rows % rows_per_day)  # or the window's first one
        latest = ops.where(ops.isnan(latest), ops.take(values, earlier, axis=1), latest)
    return ops.where(ops.isnan(latest), last_target(window, inputs), latest)


def get_calendar(window: Window) -> tuple[Any, Any]:
    """Return the hour of the day and the day of the year of the origin, both (batch, 1)."""
    return window.past[:, -1, -2:-1], window.past[:, -1, -1:]


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


def climatological_normal(window: Window, inputs: Inputs, leads: Any) -> Any:
    """Return the climatological normal of the target at `leads` rows after the origin: (batch, leads).

    The normal is a least-squares fit of `calendar_harmonics` and a constant to the training rows.
    """
    rows = select_training_rows(inputs)
    rows = rows[np.isfinite(rows[:, inputs.meta.target])]
    hour, day = rows[:, -2:-1], rows[:, -1:]
    features = np.asarray(calendar_harmonics(hour, day), np.float64)
    features = np.concatenate([features, np.ones_like(features[:, :1])], axis=1)
    # Less than a year of data does not determine the annual harmonics: `rcond` sets such directions to 0.
    coefficients, *_ = np.linalg.lstsq(features, rows[:, inputs.meta.target].astype(np.float64), rcond=0.1)
    lead_hours = np.asarray(leads, np.float32)[:, None] * np.float32(inputs.meta.every)
    hour, day = (time[:, None] for time in get_calendar(window))
    hour, day = hour + lead_hours, day + lead_hours / 24
    dense = layers.Dense(1, trainable=False)
    normal = dense(calendar_harmonics(hour, day))
    dense.set_weights([coefficients[:-1, None], coefficients[-1:]])
    return normal[:, :, 0]


def base_forecast(window: Window, inputs: Inputs) -> Any:
    """Return the forecast that models correct, in the target's unit: (batch, leads).

    It is what a weather model forecasts; where none does, the last value plus the change of the climatological
    normal.
    """
    normal = climatological_normal(window, inputs, np.arange(inputs.meta.leads + 1))
    return prefer_forecasts(window, last_target(window, inputs) + normal[:, 1:] - normal[:, :1], inputs)


def prefer_forecasts(window: Window, fallback: Any, inputs: Inputs) -> Any:
    """Return what the preferred weather model forecasts, and `fallback` where none does: (batch, leads)."""
    for column in reversed(inputs.meta.ahead_targets):
        forecast = window.ahead[:, :, column]
        fallback = ops.where(ops.isnan(forecast), fallback, forecast)
    return fallback


def sample_features(window: Window, features: Any, inputs: Inputs) -> np.ndarray:
    """Return the values of `features` for about STATISTICS training windows."""
    (values,) = run_eagerly(make_model(window, features), subsample(inputs.train).windows)
    return values


def average_measured(values: Any) -> Any:
    """Return the mean over the rows of `values` (batch, rows, columns), NaN left out: (batch, columns)."""
    return ops.sum(replace_missing(values), axis=1) / ops.sum(flag_measured(values), axis=1)


def find_extremes(values: Any) -> tuple[Any, Any]:
    """Return the maximum and minimum over the rows of `values` (batch, rows, columns), NaN left out."""
    missing = ops.isnan(values)
    extremes = (
        ops.max(ops.where(missing, -np.inf, values), axis=1),
        ops.min(ops.where(missing, np.inf, values), axis=1),
    )
    return tuple(ops.where(ops.isfinite(value), value, np.nan) for value in extremes)


def difference_features(window: Window, inputs: Inputs) -> tuple[Any, np.ndarray]:
    """Return the last values and their differences from earlier ones: (batch, features), in standard deviations.

    For the station's columns these are all features of `summarize_changes`; for each neighbour's columns, and for
    the differences of its columns from the station's of the same name, all but the extremes. At the end are
    `calendar_harmonics`. A feature that lacks a value is 0, its mean. The second result holds the values of all but
    `calendar_harmonics` for about STATISTICS training windows.
    """
    columns, neighbours = inputs.meta.columns[:-CALENDAR], inputs.meta.neighbours
    end = min((first for first, _ in neighbours.values()), default=len(columns))  # of the station's columns
    parts = [summarize_changes(window.past[:, :, :end], inputs, extremes=True)]
    for name, (first, last) in neighbours.items():
        parts.append(summarize_changes(window.past[:, :, first:last], inputs, extremes=False))
        names = [column.removeprefix(f"{name} ") for column in columns[first:last]]
        shared = [column for column in names if column in columns[:end]]
        if shared:
            theirs, own = ([first + names.index(c) for c in shared], [columns.index(c) for c in shared])
            difference = ops.take(window.past, theirs, axis=-1) - ops.take(window.past, own, axis=-1)
            parts.append(summarize_changes(difference, inputs, extremes=False))
    features = ops.concatenate(parts, -1)
    sample = sample_features(window, features, inputs)
    standardize = make_standardizer(sample, "differences")
    features, sample = (ops.clip(standardize(values), -5, 5) for values in (features, sample))
    features = ops.concatenate([features, calendar_harmonics(*get_calendar(window))], -1)
    return mark_features(features, "differences"), np.asarray(sample)


def summarize_changes(values: Any, inputs: Inputs, extremes: bool) -> Any:
    """Return the last of `values` (batch, rows, columns) and its differences from earlier ones: (batch, features).

    These are its changes over 1, 3, 6, 12 and 24 hours, and its differences from the mean of the last one, two and
    three days and, if `extremes`, from their maximum and minimum. With earlier values in place of differences, the
    models lose a fifth of their skill.
    """
    last_values = values[:, -1]
    steps = {round(hours / inputs.meta.every) for hours in (1, 3, 6, 12, 24)} - {0}
    features = [last_values]
    features += [last_values - values[:, -1 - step] for step in sorted(steps) if step < inputs.meta.time]
    spans = {min(round(hours / inputs.meta.every), inputs.meta.time) for hours in (24, 48, 72)} - {0}
    for span in sorted(spans):
        recent = values[:, -span:]
        statistics = [average_measured(recent), *(find_extremes(recent) if extremes else ())]
        features += [last_values - statistic for statistic in statistics]
    return ops.concatenate(features, -1)


def lead_features(window: Window, inputs: Inputs) -> Any:
    """Return what is known ahead about each lead, in standard deviations: (batch, leads, features).

    The features are the ahead columns; for each weather model that forecasts the target, the last measured value
    minus the forecast; a flag for each of these that is missing; `calendar_harmonics` of the valid time; and the
    lead as a fraction of the last one.
    """
    columns, last = [window.ahead], last_target(window, inputs)[:, :, None]
    columns += [last - window.ahead[:, :, column : column + 1] for column in inputs.meta.ahead_targets]
    values = ops.concatenate(columns, -1)
    sample = sample_features(window, values, inputs)
    features = [ops.clip(make_standardizer(sample, "forecasts")(values), -5, 5)]
    may_lack = np.flatnonzero(np.isnan(sample).any(axis=(0, 1)))
    if len(may_lack):
        features.append(1 - flag_measured(ops.take(values, may_lack, axis=-1)))
    features = [mark_features(ops.concatenate(features, -1), "forecasts")]
    lead = np.arange(1, inputs.meta.leads + 1, dtype=np.float32)[:, None]
    hour, day = (time[:, None] for time in get_calendar(window))
    hours = lead * np.float32(inputs.meta.every)
    features.append(calendar_harmonics(hour + hours, day + hours / 24))
    features.append(ops.zeros_like(values[:, :, :1]) + lead / inputs.meta.leads)
    return ops.concatenate(features, -1)


def piecewise_linear_encoding(features: Any, sample: np.ndarray, bins: int) -> Any:
    """Encode each of `features` (batch, n) by its position in `bins` quantile bins of `sample`: (batch, n * bins).

    Each value of the encoding rises from 0 at the lower edge of its bin to 1 at the upper edge, so that a linear
    layer can represent any piecewise linear function of a feature (Gorishniy, Rubachev and Babenko, 2022, "On
    Embeddings for Numerical Features in Tabular Deep Learning").
    """
    edges = np.quantile(sample, np.linspace(0, 1, bins + 1), axis=0).astype(np.float32)
    widths = np.maximum(np.diff(edges, axis=0), 1e-3)
    return layers.Flatten()(ops.clip((features[:, None] - edges[:-1]) / widths, 0, 1))
