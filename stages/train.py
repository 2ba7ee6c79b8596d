"""Train one model, keep the weights of its best epoch and its history; go on where a killed run stopped."""

import stages.quiet  # noqa: F401, before Keras

# isort: split

import csv
import hashlib
import importlib
import inspect
import json
import os
import re
import sys
import time
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from stages.batches import EVALUATION_BATCH, compilation, device, feed, windowed
from stages.common import UserError, command, params, whole
from stages.windows import Inputs, load

# A model's keys in params.yaml that are about its training; the others go to its `build`.
SCHEDULE = {"task", "inputs", "epochs", "batch_size", "learning_rate", "seed", "max_epochs", "logits"}
SCHEDULE |= {"loss", "metric", "monitor", "steps_per_epoch"}


def settings(name: str) -> dict[str, Any]:
    """All settings of one model: `training`, overridden by its task's, overridden by its own.

    Raises UserError on a value of the wrong kind.
    """
    own, merged = params("models", name), {}
    if not isinstance(own, dict):
        raise UserError(f"params.yaml: models.{name} must be a line of settings, not {own!r}")
    task = own.get("task")
    for where, shared in (("training", params("training")), (f"tasks.{task}", params("tasks", task))):
        if not isinstance(shared, dict):
            raise UserError(f"params.yaml: {where} must hold settings, not {shared!r}")
        if strays := shared.keys() - SCHEDULE:
            raise UserError(f"params.yaml: {where}: no such setting: {', '.join(sorted(strays))}")
        merged |= shared
    merged |= own
    for key in ("inputs", "loss", "metric", "monitor"):
        if not isinstance(merged.get(key), str):
            raise UserError(f"params.yaml: {key} of {name} must be a name, not {merged.get(key)!r}")
    optional = ("steps_per_epoch", "max_epochs")
    for key, least in (("epochs", 0), ("max_epochs", 0), ("batch_size", 1), ("seed", 0), ("steps_per_epoch", 1)):
        value = merged.get(key)
        if (type(value) is not int or not least <= value < 2**32) and not (key in optional and value is None):
            raise UserError(f"params.yaml: {key} of {name} must be a whole number from {least}, not {value!r}")
    if merged.get("max_epochs") is not None:
        merged["epochs"] = min(merged["epochs"], merged["max_epochs"])
    if not isinstance(merged.get("learning_rate"), int | float) or merged["learning_rate"] <= 0:
        raise UserError(
            f"params.yaml: learning_rate of {name} must be a number above 0, not {merged.get('learning_rate')!r}"
        )
    logits = merged.setdefault("logits", False)
    if type(logits) is not bool or (logits and merged["loss"] != "binary_crossentropy"):
        raise UserError(
            f"params.yaml: logits of {name} must be false, or true with binary_crossentropy, not {logits!r}"
        )
    return merged


def build(name: str, inputs: Inputs, options: dict[str, Any]) -> keras.Model:
    """Build the model of stages/models/<name>.py for windows of `inputs`.

    Raises UserError where there is no such file or its `build` does not take the options.
    """
    try:
        architecture = importlib.import_module(f"stages.models.{name}").build
    except ModuleNotFoundError as error:
        if error.name != f"stages.models.{name}":
            raise  # an import of that file
        raise UserError(f"params.yaml: models.{name} needs a file stages/models/{name}.py") from None
    try:
        inspect.signature(architecture).bind(inputs, **options)
    except TypeError as error:
        raise UserError(
            f"params.yaml: models.{name}: {error}; stages/models/{name}.py takes "
            + ", ".join(list(inspect.signature(architecture).parameters)[1:])
        ) from None
    try:
        return architecture(inputs, **options)
    except (TypeError, ValueError, IndexError) as error:
        raise UserError(f"params.yaml: models.{name}: Keras refuses these settings: {error}") from None


def draw(windows: int, epoch: int, schedule: dict[str, Any]) -> np.ndarray:
    """The windows of one epoch: steps x batch_size with replacement, or all of them once, shuffled."""
    random = np.random.default_rng([schedule["seed"], epoch])
    if schedule["steps_per_epoch"] is None:
        return random.permutation(windows)
    return random.integers(0, windows, schedule["steps_per_epoch"] * schedule["batch_size"])


def best_epoch(history: list[dict], monitor: str) -> int:
    """The first row of `history` with the best value of `monitor`: accuracies grow, losses fall."""
    choose = max if monitor.endswith("accuracy") else min
    return choose(range(len(history)), key=lambda row: history[row][monitor])


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


def save_model(model: keras.Model, path: Path) -> None:
    """Write `model` as a .keras archive whose bytes depend on the model alone.

    Keras puts the date into it, and memory addresses as ids of objects that occur more than once.
    """
    dated = path.with_name(f"dated.{path.name}")
    model.save(dated)
    numbers: dict[str, int] = {}
    with zipfile.ZipFile(dated) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "date_saved": ""})
            if name == "config.json":
                content = re.sub(
                    r'(?<="shared_object_id": )\d+',
                    lambda match: str(numbers.setdefault(match[0], len(numbers))),
                    content.decode(),
                )
            target.writestr(zipfile.ZipInfo(name), content)
    dated.unlink()


def fingerprint(name: str, schedule: dict[str, Any]) -> str:
    """A hash of what an epoch depends on: settings, data, the project's code in use, Keras, backend and device.

    The number of epochs is no part of it: a training that was stopped may be ended with fewer, or with more.
    """
    files = sorted(Path("data/inputs", schedule["inputs"]).iterdir())
    code = {module.__file__ for key, module in sys.modules.items() if key.startswith("stages.") and module.__file__}
    files += [Path(file) for file in sorted(code | {__file__})]
    epoch = {key: value for key, value in schedule.items() if key not in ("epochs", "max_epochs")}
    backend = keras.backend.backend()
    state = [name, epoch, device(), *((package, version(package)) for package in ("keras", backend))]
    digest = hashlib.sha256(json.dumps(state).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


class Checkpoint:
    """What a killed training goes on from: `.resume/NAME.npz`, outside DVC's outputs, replaced every epoch."""

    def __init__(self, name: str, identity: str) -> None:
        self.path = Path(".resume", f"{name}.npz")
        self.identity = identity

    def save(self, history: list[dict], variables: list, best: list[np.ndarray]) -> None:
        arrays = {f"variable_{i}": np.asarray(variable) for i, variable in enumerate(variables)}
        arrays |= {f"best_{i}": weight for i, weight in enumerate(best)}
        with whole(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, identity=self.identity, history=json.dumps(history), **arrays)

    def restore(self, variables: list, epochs: int) -> tuple[list[dict], list[np.ndarray]]:
        """Assign the saved values to `variables` and return the history and the best weights.

        Both are empty, and nothing is assigned, where there is nothing of this identity and at most `epochs`.
        """
        try:
            with np.load(self.path) as saved:
                history = json.loads(str(saved["history"]))
                if str(saved["identity"]) != self.identity or len(history) > epochs:
                    return [], []
                values = [saved[f"variable_{i}"] for i in range(len(variables))]
                best = [saved[f"best_{i}"] for i in range(sum(key.startswith("best_") for key in saved))]
        except (OSError, EOFError, zipfile.BadZipFile, KeyError, ValueError):
            return [], []
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return history, best


def compile_for(learner: keras.Model, model: keras.Model, schedule: dict[str, Any]) -> None:
    """Compile `learner`, which wraps `model`.

    Raises UserError on a loss or metric that Keras does not have, or where `monitor` is neither.
    """
    loss, metrics, logits = schedule["loss"], [], schedule["logits"]
    try:
        if logits:
            loss = keras.losses.BinaryCrossentropy(from_logits=True)
        if schedule["metric"] == "accuracy":
            metrics = [keras.metrics.BinaryAccuracy("accuracy", threshold=0.0 if logits else 0.5)]
        elif schedule["metric"] != schedule["loss"]:
            metrics = [keras.metrics.get(schedule["metric"])]
        learner.compile(
            keras.optimizers.RMSprop(schedule["learning_rate"]),
            keras.losses.get(loss),
            metrics=metrics,
            jit_compile=compilation(model, device()),
            steps_per_execution=10,  # fewer returns to Python; still prompt on Ctrl-C
        )
    except ValueError as error:
        raise UserError(f"params.yaml: loss or metric: {error}") from None
    scores = ["val_loss", *(f"val_{getattr(metric, 'name', None) or metric.__name__}" for metric in metrics)]
    monitor = schedule["monitor"]
    if monitor not in scores or not monitor.endswith(("loss", "error", "accuracy")):  # of others, is more better?
        listed = ", ".join(scores)
        raise UserError(f"params.yaml: monitor: expected a loss, error or accuracy among {listed}, not {monitor!r}")


def own_unit(inputs: Inputs, schedule: dict[str, Any]) -> str | None:
    """The target's unit, where the loss can be told in it."""
    return inputs.meta.unit if schedule["loss"] in ("mae", "mean_absolute_error") else None


def fit(name: str, model: keras.Model, inputs: Inputs, schedule: dict[str, Any]) -> list[dict]:
    """Train `model` in place and leave it with the weights of its best epoch; return one row an epoch.

    A row holds epoch, loss, val_loss (and the metric's where it is not the loss); for a forecast's MAE the losses
    again in the target's unit. Every epoch draws its windows from (seed, epoch), so that a resumed training
    ends with the very numbers of an uninterrupted one.
    """
    learner = windowed(model, inputs)
    compile_for(learner, model, schedule)
    learner.optimizer.build(learner.trainable_variables)
    variables = [*model.variables, *learner.optimizer.variables]
    checkpoint = Checkpoint(name, fingerprint(name, schedule))
    history, best = checkpoint.restore(variables, schedule["epochs"])
    if history:
        print(f"{name}: going on after epoch {len(history)}", flush=True)

    monitor, std, unit = schedule["monitor"], inputs.meta.std, own_unit(inputs, schedule)
    validation = feed(inputs.val.windows.starts, inputs.val.targets, EVALUATION_BATCH)
    for epoch in range(len(history), schedule["epochs"]):
        began = time.perf_counter()
        index = draw(len(inputs.train.windows), epoch, schedule)
        data = feed(inputs.train.windows.starts[index], inputs.train.targets[index], schedule["batch_size"])
        progress = Progress(f"{name} {epoch + 1}/{schedule['epochs']}", -(-len(index) // schedule["batch_size"]))
        trained = learner.fit(**data, shuffle=False, verbose=0, callbacks=[progress]).history
        validated = learner.evaluate(**validation, verbose=0, return_dict=True)
        row = {"epoch": epoch + 1} | {key: values[-1] for key, values in trained.items()}
        row |= {f"val_{key}": value for key, value in validated.items()}
        if unit:
            row |= {f"{key}_{unit}": row[key] * std for key in ("loss", "val_loss")}
        if not np.isfinite(list(row.values())).all():
            raise UserError(f"{name}: epoch {epoch + 1}: the loss is not a number; try a lower learning_rate")
        history.append(row)
        if best_epoch(history, monitor) == epoch:
            best = model.get_weights()
        checkpoint.save(history, variables, best)
        print(describe(name, history, schedule, unit), f"  {time.perf_counter() - began:.1f} s", flush=True)
    if history:
        model.set_weights(best)
    return history


def describe(name: str, history: list[dict], schedule: dict[str, Any], unit: str | None) -> str:
    """One line on the last epoch of `history`."""
    row, best = history[-1], history[best_epoch(history, schedule["monitor"])]
    scores = "  ".join(
        f"{key} {value:.4f}" for key, value in row.items() if key != "epoch" and not key.endswith(f"_{unit}")
    )
    own = f" = {row[f'val_loss_{unit}']:.2f} {unit}" if unit else ""
    return f"{name} {row['epoch']}/{schedule['epochs']}  {scores}{own}  (best: epoch {best['epoch']})"


def train(name: str) -> None:
    """Train the model `name` of params.yaml `models`; write data/models/TASK/NAME/{model.keras,history.csv}."""
    schedule = settings(name)
    inputs = load(Path("data/inputs", schedule["inputs"]))
    if (inputs.meta.target is None) != (schedule["task"] == "reviews"):
        raise UserError(
            f"params.yaml: models.{name}: the inputs {schedule['inputs']} do not fit the task {schedule['task']}"
        )
    keras.utils.set_random_seed(schedule["seed"])
    model = build(name, inputs, {key: value for key, value in schedule.items() if key not in SCHEDULE})
    print(
        f"{name}: {model.count_params():,} weights, {schedule['epochs']} epochs, "
        f"on {device()} with {keras.backend.backend()}",
        flush=True,
    )
    history = fit(name, model, inputs, schedule)
    unit = own_unit(inputs, schedule)
    columns = ["epoch", "loss", "val_loss"] + ([f"loss_{unit}", f"val_loss_{unit}"] if unit else [])
    with whole(Path("data/models", schedule["task"], name)) as directory:
        directory.mkdir()
        save_model(model, directory / "model.keras")
        with (directory / "history.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, history[0] if history else columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
    Checkpoint(name, "").path.unlink(missing_ok=True)


if __name__ == "__main__":
    command(train, "name")
