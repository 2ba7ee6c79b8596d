"""Stage `backtest`: train one model on the data before a test period, and forecast that period."""

from pathlib import Path
from typing import Any

import pandas as pd

from stages.lib.errors import UserError
from stages.lib.files import atomic_output
from stages.lib.nn.batches import predict_in_batches
from stages.lib.nn.environment import describe_machine, keras, set_threads
from stages.lib.nn.fitting import fit_members
from stages.lib.nn.resume import Checkpoint
from stages.lib.params import get_param
from stages.lib.scoring.station.scores import get_headline_lead, tabulate_forecasts
from stages.lib.settings.backtest import Backtest
from stages.lib.settings.base import read_settings
from stages.lib.settings.training import read_schedule
from stages.lib.tasks.station import training
from stages.lib.windows.input_set import SPLITS, Inputs, load_input_set


def load_fold_inputs(settings: Backtest, fold: str) -> Inputs:
    """Load the input set with the splits of `fold`; raises UserError if one of them has no windows."""
    bounds = settings.get_bounds(fold, get_param("periods", "train"))
    inputs = load_input_set(Path("data/inputs", settings.inputs), bounds, stage="clock")
    for name, first, last in zip(SPLITS, bounds, bounds[1:], strict=False):
        if not len(getattr(inputs, name).windows):
            raise UserError(
                f"params.yaml: backtest.folds: expected windows for {name} from {first} to {last}, found none; "
                f"choose another day than {fold}, or change `months` or `val`"
            )
    return inputs


def backtest(name: str, fold: str) -> None:
    """Train the model `name` on the data before the day `fold`, and forecast the test period that begins there.

    Writes the forecasts at the headline lead, one row per window and seed, to data/backtest/NAME/FOLD.parquet.
    """
    settings, schedule = read_settings(Backtest, "backtest"), read_schedule(name)
    set_threads(schedule["threads"])
    inputs = load_fold_inputs(settings, fold)
    lead = get_headline_lead(inputs.meta)
    frames, all_run_names = list[Any](), []
    for seed in (
        settings.seeds if schedule["epochs"] else settings.seeds[:1]
    ):  # without epochs, no seed has an effect
        keras.utils.clear_session()
        run_name, seed_schedule = f"{name}.{fold}.{seed}", schedule | {"seed": seed, "members": 1}
        members, _, run_names = fit_members(name, run_name, inputs, seed_schedule, training)
        model, _ = training.finish_model(name, members, inputs, seed_schedule)
        outputs = predict_in_batches(model, inputs, inputs.test)
        frame = tabulate_forecasts(outputs, inputs.test, inputs.meta.every)
        frames.append(frame[frame["lead"] == lead].assign(seed=seed))
        all_run_names += run_names
    forecasts = pd.concat(frames)
    forecasts.attrs = describe_machine(schedule["threads"])  # stored in the file, since rounding depends on them
    with atomic_output(Path("data/backtest", name, f"{fold}.parquet")) as path:
        forecasts.to_parquet(path, index=False)
    for run_name in all_run_names:
        Checkpoint(run_name, "").path.unlink(missing_ok=True)
    mae = (frames[0]["q0.5"] - frames[0]["truth"]).abs().mean()
    print(f"{name} {fold}: {len(frames[0]):,} windows, MAE {mae:.3f} at {lead:g} hours")
