"""Training of the station's models: pinball loss over all leads, average of the members, calibrated intervals."""

from typing import Any

import keras
import numpy as np
from keras import layers

from stages.lib.nn.batches import pack_inputs, predict_in_batches, split_at_features
from stages.lib.nn.compiling import compile_learner, count_steps
from stages.lib.tasks.station.calibration import apply_margins, smooth_widths
from stages.lib.tasks.station.features import list_arrays, make_model, make_window, subsample
from stages.lib.tasks.station.levels import QUANTILES
from stages.lib.tasks.station.margins import compute_margins
from stages.lib.tasks.station.persistence import forecast_persistence
from stages.lib.tasks.station.quantiles import make_pinball_loss
from stages.lib.windows.input_set import Inputs

WARMUP = 100  # steps over which the learning rate rises
FLOOR = 0.2  # final fraction of the learning rate; above 0, so that the weights to average still differ
EXPORTS_ONNX = True  # whether `evaluate` runs model.onnx; if not, it reads outputs.npz


def compile_for_training(
    learner: keras.Model, model: keras.Model, inputs: Inputs, schedule: dict[str, Any]
) -> None:
    """Compile `learner`, which wraps `model`, with AdamW and the pinball loss.

    The learning rate rises linearly over WARMUP steps and then decays as a cosine to FLOOR. The weight of a lead is
    inversely proportional to the standard deviation of the target's change up to that lead, or of the weather
    model's error, and up to seven times as large near 24 hours, the lead that the models are ranked by.
    """
    steps = count_steps(inputs, schedule)
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
    sample = subsample(inputs.train)
    reference = sample.windows[:][:, -1, inputs.meta.target][:, None]
    for column in reversed(inputs.meta.ahead_targets):
        forecast = sample.windows.get_ahead(slice(None))[:, :, column]
        reference = np.where(np.isnan(forecast), reference, forecast)
    loss = make_pinball_loss(weights / weights.mean() / np.nanstd(sample.targets - reference, axis=0))
    # The GRU compiles its own loops; with XLA around them, a step takes 50 ms instead of 23.
    jit_compile = False if keras.backend.backend() == "tensorflow" else "auto"
    compile_learner(learner, optimizer, loss, [], jit_compile)


def finish_model(
    name: str, members: list[keras.Model], inputs: Inputs, schedule: dict[str, Any]
) -> tuple[keras.Model, dict[str, Any]]:
    """Return one model, the average of `members` with calibrated intervals, and its description for model.json.

    The members share the part that computes the features, which is the same in all of them.
    """
    window = make_window(inputs)
    arrays = list_arrays(window)
    parts = [split_at_features(member) for member in members]
    if features := parts[0][0]:
        arrays += keras.tree.flatten(features(pack_inputs(arrays)))
    outputs = [head(pack_inputs(arrays)) for _, head in parts]
    mean = outputs[0] if len(outputs) == 1 else layers.Average()(outputs)
    mean = smooth_widths(mean, inputs.meta.leads)
    average = make_model(window, mean)
    validation = predict_in_batches(average, inputs, inputs.val)
    margins = compute_margins(inputs.val.targets, validation)
    model = make_model(window, apply_margins(mean, margins), name)
    return model, describe_model(name, validation[:, :, 1], inputs, schedule)


def describe_model(name: str, median: np.ndarray, inputs: Inputs, schedule: dict[str, Any]) -> dict[str, Any]:
    """Return the content of model.json: inputs, outputs and periods of the model, MAE and skill on validation.

    `median` (n, leads) are the model's validation forecasts. There is no coverage, because the intervals were
    calibrated on the same windows.
    """
    meta, val = inputs.meta, inputs.val
    reference = forecast_persistence(val, meta)
    mae, reference_mae = (np.nanmean(np.abs(val.targets - q), axis=0) for q in (median, reference))
    horizon = np.timedelta64(round(meta.leads * meta.every * 3600), "s")
    lookback = np.timedelta64(round((meta.time - 1) * meta.every * 3600), "s")
    periods = {
        period: [str(split.times[0] - lookback), str(split.times[-1] + horizon)]
        for period, split in (("training", inputs.train), ("validation", val))
    }
    return {
        "model": name,
        "record": meta.record,
        "source": meta.source,
        "clock": meta.clock,
        "columns": meta.columns,
        "ahead_columns": meta.ahead_columns,
        "reach": meta.reach,
        "windows": meta.windows,
        "windows_lacking_values": meta.windows_lacking_values,
        "target": meta.columns[meta.target],
        "every_hours": meta.every,
        "lookback": meta.time,
        "lead_hours": [lead * meta.every for lead in range(1, meta.leads + 1)],
        "quantiles": list(QUANTILES),
        "seeds": [schedule["seed"] + member for member in range(schedule["members"])],
        **periods,
        "validation_mae": mae.round(4).tolist(),
        "validation_skill": (1 - mae / reference_mae).round(4).tolist(),
    }
