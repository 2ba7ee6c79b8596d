"""How a station's models are trained: pinball loss over every lead, members averaged, then calibrated."""

from typing import Any

import keras
import numpy as np
from keras import layers

from stages.lib.nn.batches import predict_in_batches
from stages.lib.nn.compiling import compile_learner
from stages.lib.tasks.station.calibration import apply_margins, conformal_margins
from stages.lib.tasks.station.features import subsample
from stages.lib.tasks.station.quantiles import QUANTILES, make_pinball_loss
from stages.lib.tasks.station.references import build_persistence
from stages.lib.windows.input_set import Inputs

WARMUP = 100  # steps
FLOOR = 0.2  # of the learning rate, where it ends: the weights that are averaged should still differ


def compile_for_training(
    learner: keras.Model, model: keras.Model, inputs: Inputs, schedule: dict[str, Any]
) -> None:
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
    some = subsample(inputs.train)
    origin = some.windows[:][:, -1, inputs.meta.target]
    change = np.nanstd(some.targets - origin[:, None], axis=0)
    loss = make_pinball_loss(weights / weights.mean() / change)
    # Without XLA around the GRU's own compiled loops: 23 ms a step instead of 50.
    compiled = False if keras.backend.backend() == "tensorflow" else "auto"
    compile_learner(learner, optimizer, loss, [], compiled)


def finish_model(
    name: str, members: list[keras.Model], inputs: Inputs, schedule: dict[str, Any]
) -> tuple[keras.Model, dict[str, Any]]:
    """The mean of `members` with calibrated intervals as one model, and what another program must know of it."""
    window = keras.Input(inputs.shape, name="window")
    outputs = [member(window) for member in members]
    mean = outputs[0] if len(outputs) == 1 else layers.Average()(outputs)
    average = keras.Model(window, mean)
    validation = predict_in_batches(average, inputs, inputs.val)
    distance = conformal_margins(inputs.val.targets, validation)
    model = keras.Model(window, apply_margins(mean, distance), name=name)
    return model, describe_model(name, validation[:, :, 1], inputs, schedule)


def describe_model(name: str, median: np.ndarray, inputs: Inputs, schedule: dict[str, Any]) -> dict[str, Any]:
    """What model.json says: the window that model.keras takes, what it gives, and how good that is on validation.

    `median` (n, leads) are its validation forecasts. The intervals were calibrated on these very windows, so that
    their coverage there would say nothing.
    """
    meta, val = inputs.meta, inputs.val
    reference = predict_in_batches(build_persistence(inputs), inputs, val)
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
