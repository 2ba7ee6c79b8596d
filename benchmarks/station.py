"""Compare the station's models with LightGBM on the same windows and inputs: skill 24 hours ahead, training time.

    python -m benchmarks.station [FOLDER]     # an hourly input set of stage `clock`; default: data/inputs/station

Everything runs on one thread. The output is a Markdown table. LightGBM is optional (`pip install lightgbm`);
without it, its rows are empty.
"""

import stages.lib.nn.environment  # noqa: F401, import before Keras

# isort: split

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from stages.lib.errors import UserError
from stages.lib.nn.batches import predict_in_batches
from stages.lib.nn.environment import set_threads
from stages.lib.nn.fitting import fit_members
from stages.lib.nn.resume import Checkpoint
from stages.lib.settings.training import read_schedule
from stages.lib.tasks.station import features, references, training
from stages.lib.windows.input_set import Inputs, Split, load_input_set

LEAD = 24  # hours
TREES = {"objective": "mae", "n_estimators": 600, "learning_rate": 0.03, "subsample_freq": 1}
SETTINGS = {
    "LightGBM, levels": {"num_leaves": 31, "min_child_samples": 100, "subsample": 0.7, "colsample_bytree": 0.5},
    # The best of five settings on validation, with the features of the station's models added.
    "LightGBM, tuned": {"num_leaves": 8, "min_child_samples": 300, "subsample": 0.2, "colsample_bytree": 0.2},
}
Forecast = Callable[[Split], np.ndarray]


def make_features(inputs: Inputs, split: Split, tuned: bool) -> np.ndarray:
    """Return lags, means, maxima and minima over one and two days, and the calendar: (windows, features).

    If `tuned`, the features of the station's models are added.
    """
    window = features.make_window(inputs)
    values = window.past[:, :, : -features.CALENDAR]
    lags = [values[:, -1 - lag] for lag in (0, 1, 2, 3, 6, 9, 12, 18, 24, 48)]
    spans = [values[:, -span:] for span in (24, 48)]
    columns = lags + [f(span, axis=1) for span in spans for f in (ops.mean, ops.max, ops.min)]
    calendar = features.calendar_harmonics(*features.get_calendar(window))
    columns += [calendar, *([features.difference_features(window, inputs)[0]] if tuned else [])]
    return predict_in_batches(features.make_model(window, ops.concatenate(columns, -1)), inputs, split)


def train_lightgbm(inputs: Inputs, name: str) -> Forecast:
    """Train LightGBM on the change of the target from the last value to LEAD."""
    import lightgbm  # type: ignore[import-not-found]

    tuned = name.endswith("tuned")

    y = inputs.train.targets[:, LEAD - 1] - get_last_values(inputs, inputs.train)
    is_measured = np.isfinite(y)
    model = lightgbm.LGBMRegressor(**TREES | SETTINGS[name], n_jobs=1, verbose=-1, random_state=1)
    model.fit(make_features(inputs, inputs.train, tuned)[is_measured], y[is_measured])
    return lambda split: get_last_values(inputs, split) + model.predict(make_features(inputs, split, tuned))


def get_last_values(inputs: Inputs, split: Split) -> np.ndarray:
    return inputs.rows[split.windows.starts + inputs.meta.time - 1, inputs.meta.target]


def train_network(inputs: Inputs, folder: Path, name: str, members: int) -> Forecast:
    """Train the model `name` of params.yaml with `members` members on `inputs`, which are those of `folder`."""
    schedule: dict[str, Any] = read_schedule(name) | {"members": members, "inputs": str(folder.resolve())}
    networks, _, run_names = fit_members(name, f"bench.{name}", inputs, schedule, training)
    for run_name in run_names:
        Checkpoint(run_name, "").path.unlink(missing_ok=True)
    model, _ = training.finish_model(name, networks, inputs, schedule)
    return lambda split: predict_in_batches(model, inputs, split)[:, LEAD - 1, 1]


def fit_ridge(inputs: Inputs) -> Forecast:
    """Fit the ridge reference."""
    model = references.build_ridge(inputs)
    return lambda split: predict_in_batches(model, inputs, split)[:, LEAD - 1, 1]


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data/inputs/station")
    set_threads(1)
    inputs = load_input_set(folder, stage="clock")
    if inputs.meta.every != 1 or inputs.meta.time <= 48 or inputs.meta.leads < LEAD:
        raise UserError(f"{folder}: expected hourly windows of more than 48 hours with at least {LEAD} leads")
    contenders: dict[str, Callable[[], Forecast]] = {
        name: partial(train_lightgbm, inputs, name) for name in SETTINGS
    }
    contenders |= {
        "ridge": partial(fit_ridge, inputs),
        "station_mlp, one member": partial(train_network, inputs, folder, "station_mlp", 1),
        "station_gru, one member": partial(train_network, inputs, folder, "station_gru", 1),
        "station_gru": partial(
            train_network, inputs, folder, "station_gru", read_schedule("station_gru")["members"]
        ),
    }
    reference = references.build_persistence(inputs)
    errors = {
        name: np.nanmean(abs(split.targets - predict_in_batches(reference, inputs, split)[:, :, 1])[:, LEAD - 1])
        for name, split in (("val", inputs.val), ("test", inputs.test))
    }
    print("| | skill, validation | skill, test | seconds to train |\n|---|--:|--:|--:|")
    for name, train in contenders.items():
        start = time.perf_counter()
        try:
            forecast = train()
        except ImportError:
            print(f"| {name} | not installed | | |", flush=True)
            continue
        seconds = time.perf_counter() - start
        skill = [
            1 - np.nanmean(abs(split.targets[:, LEAD - 1] - forecast(split))) / errors[split_name]
            for split_name, split in (("val", inputs.val), ("test", inputs.test))
        ]
        print(f"| {name} | {skill[0]:.4f} | {skill[1]:.4f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
