"""How a station's forecast is trained: quantiles of every lead by pinball loss, members averaged, then calibrated.

Everything here works on raw values in their own units. A window is (lookback, columns); its last two columns are
the calendar of each row: hour of day and day of year. A forecast is (leads, 3): QUANTILES of every lead, in the
target's unit. All that is in a model is plain Keras, so that its file loads without this project.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from stages.lib.nn.batches import forecasts
from stages.lib.nn.compiling import compile_model
from stages.lib.windows import Inputs, Split, Windows

QUANTILES = (0.1, 0.5, 0.9)
CALENDAR = 2  # columns at the end of a row
RIDGE = 0.003  # penalty of the ridge reference, chosen on validation
OUTER = 0.3  # weight of the outer quantiles in the loss
WARMUP = 100  # steps
FLOOR = 0.2  # of the learning rate, where it ends: the weights that are averaged should still differ
HARMONICS = 24  # features of the calendar
STATISTICS = 4000  # windows, about, that means and spreads are taken over
HOUR, DAY = 2 * np.pi / 24, 2 * np.pi / 365.25  # radians an hour of the day, a day of the year


# --- What a window tells -----------------------------------------------------------------------------


def training_rows(inputs: Inputs) -> np.ndarray:
    """The rows that the training windows look at, each once: (rows, columns) in their own units."""
    used = np.zeros(len(inputs.rows) + 1, int)
    np.add.at(used, inputs.train.windows.starts, 1)
    np.add.at(used, inputs.train.windows.starts + inputs.meta.time, -1)
    return inputs.rows[np.cumsum(used)[:-1] > 0]


def normalized(window: Any, inputs: Inputs) -> Any:
    """The measurements of `window` in standard deviations of the training rows: (batch, lookback, columns - 2)."""
    rows = training_rows(inputs)[:, :-CALENDAR].astype(np.float64)
    spread = rows.std(axis=0)
    mean, std = rows.mean(axis=0), np.where(spread > 0, spread, 1)  # a constant column becomes zeros
    return layers.Normalization(mean=mean, variance=std**2, name="normalization")(window[:, :, :-CALENDAR])


def harmonics(hour: Any, day: Any) -> Any:
    """Two harmonics of the day, two of the year and their products, 24: hours and days (..., 1) -> (..., 24)."""
    waves = [
        ops.concatenate([f(k * angle) for k in (1, 2) for f in (ops.sin, ops.cos)], -1)
        for angle in (hour * np.float32(HOUR), day * np.float32(DAY))
    ]
    products = [waves[0][..., k : k + 1] * waves[1] for k in range(4)]
    return ops.concatenate([*waves, *products], -1)


def last(window: Any, column: int) -> Any:
    """The last value of a column: (batch, 1)."""
    return window[:, -1, column : column + 1 or None]


def same_hour(window: Any, inputs: Inputs) -> Any:
    """The target at the hour of the day of every lead, the last time that it was measured: (batch, leads)."""
    day = round(24 / inputs.meta.every)
    lead = np.arange(1, inputs.meta.leads + 1)
    rows = inputs.meta.time - 1 + lead - day * -(-lead // day)
    return ops.take(window[:, :, inputs.meta.target], rows, axis=1)


def differences(window: Any, inputs: Inputs) -> Any:
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
    seen = forecasts(keras.Model(window, features), inputs, thinned(inputs.train)).astype(np.float64)
    spread = np.maximum(seen.std(axis=0), 1e-6)
    scaled = layers.Normalization(mean=seen.mean(axis=0), variance=spread**2, name="differences")(features)
    return ops.concatenate([ops.clip(scaled, -5, 5), harmonics(last(window, -2), last(window, -1))], -1)


def pieces(window: Any, features: Any, inputs: Inputs, count: int) -> Any:
    """Where `features` (batch, n) lie in `count` bins, each with as many windows: (batch, n * count).

    A number goes from 0 at a bin's lower edge to 1 at its upper one, so that any curve of a feature is nearly
    linear in its numbers: piecewise linear encoding (Gorishniy, Rubachev and Babenko, 2022).
    """
    seen = forecasts(keras.Model(window, features), inputs, thinned(inputs.train))
    edges = np.quantile(seen, np.linspace(0, 1, count + 1), axis=0).astype(np.float32)
    widths = np.maximum(np.diff(edges, axis=0), 1e-3)
    return layers.Flatten()(ops.clip((features[:, None] - edges[:-1]) / widths, 0, 1))


def thinned(split: Split) -> Split:
    """Some windows of `split`, evenly spread: enough for a mean."""
    every = max(len(split.windows) // STATISTICS, 1)
    windows = Windows(split.windows.rows, split.windows.starts[::every], split.windows.shape[1])
    return Split(windows, split.targets[::every], split.times[::every])


def quantiles(window: Any, state: Any, inputs: Inputs) -> keras.Model:
    """The model from `window` to quantiles of every lead by a dense layer over `state` (batch, features).

    It gives changes, in the standard deviation of each lead, from the last value carried along the climatology. The
    outer quantiles are distances from the median, so that they never cross.
    """
    leads = inputs.meta.leads
    base = climatology(window, inputs, np.arange(leads + 1))
    base = last(window, inputs.meta.target) + base[:, 1:] - base[:, :1]
    some = thinned(inputs.train)
    scale = np.nanstd(some.targets - forecasts(keras.Model(window, base), inputs, some), axis=0).astype(np.float32)
    changes = layers.Reshape((leads, len(QUANTILES)))(layers.Dense(leads * len(QUANTILES))(state))
    below, median, above = (changes[:, :, k : k + 1] for k in range(3))
    changes = ops.concatenate([median - ops.softplus(below), median, median + ops.softplus(above)], -1)
    return keras.Model(window, base[:, :, None] + changes * scale[:, None])


def climatology(window: Any, inputs: Inputs, leads: Any) -> Any:
    """The normal target `leads` rows after the origin, by harmonics fitted on training rows: (batch, leads)."""
    rows = training_rows(inputs)
    hour, day = rows[:, -2:-1], rows[:, -1:]
    features = np.asarray(harmonics(hour, day), np.float64)
    features = np.concatenate([features, np.ones_like(features[:, :1])], axis=1)
    # Less than a year tells little of the year's waves: what it leaves open is 0, not anything.
    fitted, *_ = np.linalg.lstsq(features, rows[:, inputs.meta.target].astype(np.float64), rcond=0.1)
    ahead = np.asarray(leads, np.float32)[:, None] * np.float32(inputs.meta.every)  # hours
    hour = window[:, -1:, -2:-1] + ahead
    day = window[:, -1:, -1:] + ahead / 24
    weight = layers.Dense(1, trainable=False)
    normal = weight(harmonics(hour, day))
    weight.set_weights([fitted[:-1, None], fitted[-1:]])
    return normal[:, :, 0]


def regress(features: keras.Model, inputs: Inputs, base: keras.Model, alpha: float) -> np.ndarray:
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
    x = forecasts(features, inputs, split).astype(np.float64)
    y = split.targets - forecasts(base, inputs, split).astype(np.float64)
    if together:
        return solution(x, y, alpha)
    return np.stack([solution(x[there], y[there, lead], alpha) for lead, there in enumerate(np.isfinite(y).T)], 1)


def solution(x: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
    """The weights (k,) or (k, leads) of the ridge regression from `x` (n, k) to `y` (n,) or (n, leads)."""
    penalty = alpha * len(x) * np.eye(x.shape[1])
    return np.linalg.solve(x.T @ x + penalty, x.T @ y)


def forecast(window: Any, median: Any) -> keras.Model:
    """The model of a forecast without an interval, (batch, leads): all quantiles are the same until `finish`."""
    return keras.Model(window, ops.repeat(median[:, :, None], len(QUANTILES), axis=2))


def persistence(inputs: Inputs) -> keras.Model:
    """The same hour yesterday; from the second day of leads on, of the last day measured."""
    window = keras.Input(inputs.shape)
    return forecast(window, same_hour(window, inputs))


def ridge(inputs: Inputs) -> keras.Model:
    """Linear in every value of the window and the calendar, as a change from the target's last value."""
    window = keras.Input(inputs.shape)
    values = layers.Flatten()(normalized(window, inputs))
    calendar = harmonics(last(window, -2), last(window, -1))
    features = ops.concatenate([values, calendar, ops.ones_like(calendar[:, :1])], -1)
    base = ops.repeat(last(window, inputs.meta.target), inputs.meta.leads, axis=1)
    weights = regress(keras.Model(window, features), inputs, keras.Model(window, base), RIDGE)
    dense = layers.Dense(inputs.meta.leads, use_bias=False, trainable=False)
    median = base + dense(features)
    dense.set_weights([weights])
    return forecast(window, median)


# --- Training ----------------------------------------------------------------------------------------


def pinball(weights: np.ndarray) -> Any:
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


def prepare(learner: keras.Model, model: keras.Model, inputs: Inputs, schedule: dict[str, Any]) -> None:
    """Compile `learner`, which wraps `model`: AdamW, its rate warmed up and then falling as a cosine to FLOOR.

    Leads count by how little they change, those near 24 hours up to seven times: they are what the model is for.
    """
    each = schedule["steps_per_epoch"] or -(-len(inputs.train.windows) // schedule["batch_size"])
    steps = schedule["epochs"] * each
    warmup = min(WARMUP, steps // 2)
    rate = keras.optimizers.schedules.CosineDecay(
        schedule["learning_rate"] / 10,
        steps - warmup,
        warmup_target=schedule["learning_rate"],
        warmup_steps=warmup,
        alpha=FLOOR,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=schedule["weight_decay"], global_clipnorm=1.0)
    lead = np.arange(1, inputs.meta.leads + 1) * inputs.meta.every
    weights = 1 + 6 * np.exp(-(((lead - 24) / 3) ** 2))
    some = thinned(inputs.train)
    origin = some.windows[:][:, -1, inputs.meta.target]
    change = np.nanstd(some.targets - origin[:, None], axis=0)
    loss = pinball(weights / weights.mean() / change)
    # Without XLA around the GRU's own compiled loops: 23 ms a step instead of 50.
    compiled = False if keras.backend.backend() == "tensorflow" else "auto"
    compile_model(learner, optimizer, loss, [], compiled)


def finish(
    name: str, members: list[keras.Model], inputs: Inputs, schedule: dict[str, Any]
) -> tuple[keras.Model, dict[str, Any]]:
    """The mean of `members` with calibrated intervals as one model, and what another program must know of it."""
    window = keras.Input(inputs.shape, name="window")
    outputs = [member(window) for member in members]
    mean = outputs[0] if len(outputs) == 1 else layers.Average()(outputs)
    average = keras.Model(window, mean)
    validation = forecasts(average, inputs, inputs.val)
    distance = margins(inputs.val.targets, validation)
    model = keras.Model(window, calibrated(mean, distance), name=name)
    return model, description(name, validation[:, :, 1], inputs, schedule)


def description(name: str, median: np.ndarray, inputs: Inputs, schedule: dict[str, Any]) -> dict[str, Any]:
    """What model.json says: the window that model.keras takes, what it gives, and how good that is on validation.

    `median` (n, leads) are its validation forecasts. The intervals were calibrated on these very windows, so that
    their coverage there would say nothing.
    """
    meta, val = inputs.meta, inputs.val
    reference = forecasts(persistence(inputs), inputs, val)
    own, other = (np.nanmean(np.abs(val.targets - q), axis=0) for q in (median, reference[:, :, 1]))
    ahead = np.timedelta64(round(meta.leads * meta.every * 3600), "s")
    behind = np.timedelta64(round((meta.time - 1) * meta.every * 3600), "s")
    periods = {
        part: [str(split.times[0] - behind), str(split.times[-1] + ahead)]
        for part, split in (("training", inputs.train), ("validation", val))
    }
    return {
        "model": name,
        "columns": meta.columns,
        "target": meta.columns[meta.target],
        "every_hours": meta.every,
        "lookback": meta.time,
        "lead_hours": [lead * meta.every for lead in range(1, meta.leads + 1)],
        "quantiles": list(QUANTILES),
        "seeds": [schedule["seed"] + member for member in range(schedule["members"])],
        **periods,
        "validation_mae": own.round(4).tolist(),
        "validation_skill": (1 - own / other).round(4).tolist(),
    }


# --- Calibration -------------------------------------------------------------------------------------


def margins(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """How far the outer quantiles of every lead must move outwards to hold what they promise: (2, leads).

    Conformalized quantile regression, each side by itself (Romano, Patterson and Candes, 2019): of n validation
    windows, the ceil((n + 1) * level)-th smallest distance by which the truth, `targets` (n, leads), lies outside
    the quantile of `outputs` (n, leads, 3). Negative where an interval is too wide.
    """
    found = []
    for level, distance in (
        (1 - QUANTILES[0], outputs[:, :, 0] - targets),
        (QUANTILES[-1], targets - outputs[:, :, -1]),
    ):
        count = np.isfinite(distance).sum(axis=0)
        rank = np.clip(np.ceil((count + 1) * level).astype(int), 1, count) - 1
        ordered = np.sort(distance, axis=0)  # those that are not a number last
        found.append(np.take_along_axis(ordered, rank[None], axis=0)[0])
    return np.stack(found)


def calibrated(outputs: Any, distance: np.ndarray) -> Any:
    """`outputs` (batch, leads, 3), the outer quantiles moved by `distance` (2, leads) but not past the median."""
    low, median, high = (outputs[:, :, k : k + 1] for k in range(3))
    below, above = (side[:, None] for side in distance.astype(np.float32))
    return ops.concatenate([ops.minimum(low - below, median), median, ops.maximum(high + above, median)], -1)
