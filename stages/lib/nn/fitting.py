"""The training loop: epoch by epoch, resumable, the best epoch's weights kept."""

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


def sample_windows(windows: int, epoch: int, schedule: dict[str, Any]) -> np.ndarray:
    """The windows of one epoch: steps x batch_size with replacement, or all of them once, shuffled."""
    random = np.random.default_rng([schedule["seed"], epoch])
    if schedule["steps_per_epoch"] is None:
        return random.permutation(windows)
    return random.integers(0, windows, schedule["steps_per_epoch"] * schedule["batch_size"])


class Progress(keras.callbacks.Callback):
    """A bar over the steps of one epoch; silent where nobody watches."""

    def __init__(self, label: str, steps: int) -> None:
        super().__init__()
        hidden = True if os.environ.get("TQDM_DISABLE") else None  # None: where nobody watches
        self.bar = tqdm(total=steps, desc=label, unit="step", disable=hidden, leave=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.bar.update(min(batch + 1, self.bar.total) - self.bar.n)  # Keras counts a last bundle as full

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.bar.close()


def get_loss_unit(inputs: Inputs, schedule: dict[str, Any]) -> str | None:
    """The target's unit, where the loss is in its standard deviations and can be told in it."""
    return inputs.meta.unit if schedule["loss"] in ("mae", "mean_absolute_error") else None


def fit_model(
    label: str, model: keras.Model, inputs: Inputs, schedule: dict[str, Any], task: ModuleType
) -> list[dict]:
    """Train `model` in place and leave it with the weights of its best epoch; return one row an epoch.

    A row holds epoch, loss, val_loss (and the metric's where it is not the loss); for a forecast's MAE the losses
    again in the target's unit. Every epoch draws its windows from (seed, epoch), so that a resumed training
    ends with the very numbers of an uninterrupted one. With schedule["average_from"], the mean of the weights at
    the end of that epoch and of each later one is validated and kept.
    """
    if not schedule["epochs"]:
        return []
    learner = wrap_with_gather(model, inputs)
    task.compile_for_training(learner, model, inputs, schedule)
    learner.optimizer.build(learner.trainable_variables)
    start = schedule["average_from"]
    average = [keras.Variable(weight, trainable=False) for weight in model.get_weights()] if start else []
    variables = [*model.variables, *learner.optimizer.variables, *average]
    used = {part: zlib.crc32(getattr(inputs, part).windows.starts) for part in ("train", "val")}
    used |= {"optimizer": learner.optimizer.get_config() | {"name": ""}}  # its rate may fall towards the last epoch
    checkpoint = Checkpoint(label, fingerprint_training(label, schedule | used))
    history, best = checkpoint.restore(variables, schedule["epochs"])
    if history:
        print(f"{label}: resuming after epoch {len(history)}", flush=True)

    monitor, std, unit = schedule["monitor"], inputs.meta.std, get_loss_unit(inputs, schedule)
    validation = make_batches(inputs.val.windows.starts, inputs.val.targets, EVALUATION_BATCH)
    for epoch in range(len(history), schedule["epochs"]):
        began = time.perf_counter()
        index = sample_windows(len(inputs.train.windows), epoch, schedule)
        data = make_batches(inputs.train.windows.starts[index], inputs.train.targets[index], schedule["batch_size"])
        progress = Progress(f"{label} {epoch + 1}/{schedule['epochs']}", -(-len(index) // schedule["batch_size"]))
        trained = learner.fit(**data, shuffle=False, verbose=0, callbacks=[progress]).history
        weights = model.get_weights()
        if start:
            count = max(epoch + 2 - start, 1)  # of epochs in the average
            for mean, weight in zip(average, weights, strict=True):
                mean.assign(mean + (weight - mean) / count)
            model.set_weights([np.asarray(mean) for mean in average])
        validated = learner.evaluate(**validation, verbose=0, return_dict=True)
        row = {"epoch": epoch + 1} | {key: values[-1] for key, values in trained.items()}
        row |= {f"val_{key}": value for key, value in validated.items()}
        if unit:
            row |= {f"{key}_{unit}": row[key] * std for key in ("loss", "val_loss")}
        if not np.isfinite(list(row.values())).all():
            raise UserError(f"{label}: epoch {epoch + 1}: the loss is not a number; try a lower learning_rate")
        history.append(row)
        if find_best_epoch(history, monitor) is row:
            best = model.get_weights()
        if start:
            model.set_weights(weights)  # training continues from its own
        checkpoint.save(history, variables, best)
        print(format_epoch(label, history, schedule, unit), f"  {time.perf_counter() - began:.1f} s", flush=True)
    if history:
        model.set_weights(best)
    return history


def format_epoch(name: str, history: list[dict], schedule: dict[str, Any], unit: str | None) -> str:
    """One line on the last epoch of `history`."""
    row, best = history[-1], find_best_epoch(history, schedule["monitor"])
    scores = "  ".join(
        f"{key} {value:.4f}" for key, value in row.items() if key != "epoch" and not key.endswith(f"_{unit}")
    )
    own = f" = {row[f'val_loss_{unit}']:.2f} {unit}" if unit else ""
    return f"{name} {row['epoch']}/{schedule['epochs']}  {scores}{own}  (best: epoch {best['epoch']})"


def fit_members(
    name: str, label: str, inputs: Inputs, schedule: dict[str, Any], task: ModuleType
) -> tuple[list[keras.Model], list[list[dict]], list[str]]:
    """Build and train the members of the model `name`, each with the next seed.

    Returns the models, the history of each, and the labels of their resume files: `label`, numbered where there are
    several.
    """
    options = {key: value for key, value in schedule.items() if key not in SCHEDULE}
    members, histories, labels = [], [], []
    for number in range(schedule["members"]):
        seed = schedule["seed"] + number
        labels.append(label if schedule["members"] == 1 else f"{label}.{number + 1}")
        keras.utils.set_random_seed(seed)
        model = build_model(name, inputs, options)
        print(
            f"{labels[-1]}: {model.count_params():,} weights, {schedule['epochs']} epochs, "
            f"on {get_device()} with {keras.backend.backend()}",
            flush=True,
        )
        histories.append(fit_model(labels[-1], model, inputs, schedule | {"seed": seed}, task))
        members.append(model)
    return members, histories, labels
