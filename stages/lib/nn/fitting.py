"""Train models epoch by epoch: resumable, and with the weights of the best epoch."""

import os
import time
import zlib
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from stages.lib.errors import UserError
from stages.lib.nn.batches import EVALUATION_BATCH, make_batches, wrap_with_gather
from stages.lib.nn.build import build_model
from stages.lib.nn.environment import get_device, keras
from stages.lib.nn.history import find_best_epoch
from stages.lib.nn.resume import Checkpoint, fingerprint_training
from stages.lib.settings.training import SCHEDULE
from stages.lib.windows.input_set import Inputs


def sample_windows(count: int, epoch: int, schedule: dict[str, Any]) -> np.ndarray:
    """Return the indices of one epoch's windows, out of `count` windows, as they are drawn from (seed, epoch).

    With `steps_per_epoch`, these are steps x batch_size draws with replacement; otherwise a permutation of all.
    """
    random = np.random.default_rng([schedule["seed"], epoch])
    if schedule["steps_per_epoch"] is None:
        return random.permutation(count)
    return random.integers(0, count, schedule["steps_per_epoch"] * schedule["batch_size"])


class Progress(keras.callbacks.Callback):
    """Show a progress bar over the steps of one epoch if stderr is a terminal."""

    def __init__(self, run_name: str, steps: int) -> None:
        super().__init__()
        disable = True if os.environ.get("TQDM_DISABLE") else None  # None: unless stderr is a terminal
        self.bar = tqdm(total=steps, desc=run_name, unit="step", disable=disable, leave=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.bar.update(
            min(batch + 1, self.bar.total) - self.bar.n
        )  # Keras counts an incomplete bundle of steps as full

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.bar.close()


def get_loss_unit(inputs: Inputs, schedule: dict[str, Any]) -> str | None:
    """Return the target's unit if the loss is an MAE, which can be converted to that unit; otherwise None."""
    return inputs.meta.unit if schedule["loss"] in ("mae", "mean_absolute_error") else None


def make_learner(model: keras.Model, inputs: Inputs, schedule: dict[str, Any], task: ModuleType) -> keras.Model:
    """Return `model`, wrapped to take window starts and compiled for training as `task` does it."""
    learner = wrap_with_gather(model, inputs, (inputs.train, inputs.val))
    task.compile_for_training(learner, model, inputs, schedule)
    learner.optimizer.build(learner.trainable_variables)
    return learner


def fit_model(
    run_name: str, model: keras.Model, learner: keras.Model, inputs: Inputs, schedule: dict[str, Any]
) -> list[dict]:
    """Train `model` in place by its `learner`, set the weights of its best epoch, and return its history.

    There is one row per epoch: epoch, loss and val_loss, the metric if it differs from the loss, and for the MAE of
    a forecast both losses in the target's unit as well. The resume file is named after `run_name`. A resumed
    training gives the same numbers as an uninterrupted one, since the windows of an epoch depend only on (seed,
    epoch).

    With schedule["average_from"], validation uses the mean of the weights at the end of that epoch and of all later
    ones, and so do the weights of the best epoch. Raises UserError if the loss is not finite.
    """
    average_from = schedule["average_from"]
    average = [keras.Variable(weight, trainable=False) for weight in model.get_weights()] if average_from else []
    variables = [*model.variables, *learner.optimizer.variables, *average]
    identity = {name: zlib.crc32(getattr(inputs, name).windows.starts) for name in ("train", "val")}
    identity |= {
        "optimizer": learner.optimizer.get_config() | {"name": ""}
    }  # its rate may depend on the last epoch
    checkpoint = Checkpoint(run_name, fingerprint_training(run_name, schedule | identity))
    history, best_weights = checkpoint.restore(variables, schedule["epochs"])
    if history:
        print(f"{run_name}: resuming after epoch {len(history)}", flush=True)

    monitor, std, unit = schedule["monitor"], inputs.meta.std, get_loss_unit(inputs, schedule)
    validation = make_batches(inputs.val.windows.starts, inputs.val.targets, EVALUATION_BATCH)
    for epoch in range(len(history), schedule["epochs"]):
        start = time.perf_counter()
        index = sample_windows(len(inputs.train.windows), epoch, schedule)
        batches = make_batches(
            inputs.train.windows.starts[index], inputs.train.targets[index], schedule["batch_size"]
        )
        progress = Progress(
            f"{run_name} {epoch + 1}/{schedule['epochs']}", -(-len(index) // schedule["batch_size"])
        )
        train_logs = learner.fit(**batches, shuffle=False, verbose=0, callbacks=[progress]).history
        weights = model.get_weights()
        if average_from:
            count = max(epoch + 2 - average_from, 1)  # epochs in the average
            for mean, weight in zip(average, weights, strict=True):
                mean.assign(mean + (weight - mean) / count)
            model.set_weights([np.asarray(mean) for mean in average])
        val_logs = learner.evaluate(**validation, verbose=0, return_dict=True)
        row = {"epoch": epoch + 1} | {key: values[-1] for key, values in train_logs.items()}
        row |= {f"val_{key}": value for key, value in val_logs.items()}
        if unit:
            row |= {f"{key}_{unit}": row[key] * std for key in ("loss", "val_loss")}
        if not np.isfinite(list(row.values())).all():
            raise UserError(f"{run_name}: epoch {epoch + 1}: the loss is not a number; try a lower learning_rate")
        history.append(row)
        if find_best_epoch(history, monitor) is row:
            best_weights = model.get_weights()
        if average_from:
            model.set_weights(weights)  # training continues with these, not with their average
        checkpoint.save(history, variables, best_weights)
        print(format_epoch(run_name, history, schedule, unit), f"  {time.perf_counter() - start:.1f} s", flush=True)
    if history:
        model.set_weights(best_weights)
    return history


def format_epoch(run_name: str, history: list[dict], schedule: dict[str, Any], unit: str | None) -> str:
    """Return a line about the last epoch of `history`."""
    row, best = history[-1], find_best_epoch(history, schedule["monitor"])
    scores = "  ".join(
        f"{key} {value:.4f}" for key, value in row.items() if key != "epoch" and not key.endswith(f"_{unit}")
    )
    converted_loss = f" = {row[f'val_loss_{unit}']:.2f} {unit}" if unit else ""
    return (
        f"{run_name} {row['epoch']}/{schedule['epochs']}  {scores}{converted_loss}  (best: epoch {best['epoch']})"
    )


def fit_members(
    name: str, run_name: str, inputs: Inputs, schedule: dict[str, Any], task: ModuleType
) -> tuple[list[keras.Model], list[list[dict]], list[str]]:
    """Build and train the members of the model `name`, with consecutive seeds.

    Returns the members, their histories, and the names of their runs, which are `run_name` with the member's
    number if there are several. All are trained in the variables of the first, so that the training step is
    compiled once, which may take longer than the training itself.
    """
    options = {key: value for key, value in schedule.items() if key not in SCHEDULE}
    count = schedule["members"]
    run_names = [f"{run_name}.{number + 1}" for number in range(count)] if count > 1 else [run_name]
    members, histories, weights = list[keras.Model](), list[list[dict]](), []
    seeds = [schedule["seed"] + number for number in range(count if schedule["epochs"] else 1)]
    for seed in seeds:  # before the first training, as TensorFlow compiles everything again after a new seed
        keras.utils.set_random_seed(seed)
        members.append(build_model(name, schedule["architecture"], inputs, options))
    for member, member_name, seed in zip(members, run_names, seeds, strict=False):
        print(
            f"{member_name}: {member.count_params():,} weights, {schedule['epochs']} epochs, "
            f"on {get_device()} with {keras.backend.backend()}",
            flush=True,
        )
        if not schedule["epochs"]:
            return members, [[]], run_names
        model = members[0]
        if member is model:
            learner = make_learner(model, inputs, schedule, task)
            untrained = [np.array(variable) for variable in learner.optimizer.variables]
        else:
            values = [*member.variables, *untrained]
            for variable, value in zip([*model.variables, *learner.optimizer.variables], values, strict=True):
                variable.assign(value)
        histories.append(fit_model(member_name, model, learner, inputs, schedule | {"seed": seed}))
        weights.append(model.get_weights())
    for member, values in zip(members, weights, strict=True):
        member.set_weights(values)
    return members, histories, run_names
