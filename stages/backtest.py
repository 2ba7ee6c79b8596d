"""Train one model on what was before a test period, and forecast that period."""

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


def fold_inputs(own: Backtest, fold: str) -> Inputs:
    """The input set with the splits of `fold`; raises UserError where one of them has no window."""
    bounds = own.get_bounds(fold, get_param("periods", "train"))
    inputs = load_input_set(Path("data/inputs", own.inputs), bounds, stage="clock")
    for name, first, last in zip(SPLITS, bounds, bounds[1:], strict=False):
        if not len(getattr(inputs, name).windows):
            raise UserError(
                f"params.yaml: backtest.folds: expected windows for {name} from {first} to {last}, found none; "
                f"choose another day than {fold}, or other months"
            )
    return inputs


def backtest(name: str, fold: str) -> None:
    """Write data/backtest/NAME/FOLD.parquet: its forecasts at the headline lead, a row a window and seed."""
    own, schedule = read_settings(Backtest, "backtest"), read_schedule(name)
    set_threads(schedule["threads"])
    inputs = fold_inputs(own, fold)
    tables, done = list[Any](), []
    for seed in own.seeds if schedule["epochs"] else own.seeds[:1]:  # no seed enters where nothing is trained
        keras.utils.clear_session()
        label, one = f"{name}.{fold}.{seed}", schedule | {"seed": seed, "members": 1}
        members, _, labels = fit_members(name, label, inputs, one, training)
        model, _ = training.finish_model(name, members, inputs, one)
        found = tabulate_forecasts(predict_in_batches(model, inputs, inputs.test), inputs.test, inputs.meta.every)
        lead = get_headline_lead(inputs.meta)
        tables.append(found[found["lead"] == lead].assign(seed=seed))
        done += labels
    forecast = pd.concat(tables)
    forecast.attrs = describe_machine(schedule["threads"])  # in the file: its last digits depend on them
    with atomic_output(Path("data/backtest", name, f"{fold}.parquet")) as path:
        forecast.to_parquet(path, index=False)
    for label in done:
        Checkpoint(label, "").path.unlink(missing_ok=True)
    error = (tables[0]["q0.5"] - tables[0]["truth"]).abs().mean()
    print(f"{name} {fold}: {len(tables[0]):,} windows, MAE {error:.3f} at {lead:g} hours")
