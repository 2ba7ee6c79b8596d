"""Why reversed_gru is better here than in the notebooks: what Keras of 2018 did otherwise, one change at a time.

    python -m benchmarks.reversed_gru                                # every variant with seed 1, then the table
    python -m benchmarks.reversed_gru --seeds 1,2,3 as_is gates      # these alone

Needs data/inputs/hourly (`dvc repro inputs@hourly`). Each run follows the line of reversed_gru in params.yaml and
ends with a file in data/reversed_gru/, so that a second call trains only what is missing; a killed run continues
after its last epoch. The table holds all that is there.
"""

import stages.lib.nn.environment  # noqa: F401, before Keras

# isort: split

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from stages.lib.errors import UserError
from stages.lib.files import whole
from stages.lib.history import best_row
from stages.lib.leaderboard import PUBLISHED
from stages.lib.nn.environment import use_threads
from stages.lib.nn.fitting import fit
from stages.lib.nn.resume import Checkpoint
from stages.lib.settings.training import settings
from stages.lib.tasks.forecast import training
from stages.lib.windows import Inputs, load

RUNS = Path("data/reversed_gru")


def hard_sigmoid(x: Any) -> Any:
    """The gates of 2018: 0.2 x + 0.5 between 0 and 1. Keras 3's function of this name is x / 6 + 0.5."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


class RMSprop2018(keras.optimizers.RMSprop):
    """With epsilon added to the root of the mean square, not under it: tiny gradients make full steps."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        square = self._velocities[self._get_variable_index(variable)]
        self.assign(square, self.rho * square + (1 - self.rho) * ops.square(gradient))
        step = ops.cast(learning_rate, variable.dtype) * gradient / (ops.sqrt(square) + self.epsilon)
        self.assign_sub(variable, step)


GATES, RESET, ROOT = {"recurrent_activation": hard_sigmoid}, {"reset_after": False}, RMSprop2018
VARIANTS: dict[str, tuple[str, dict[str, Any], Callable[..., Any]]] = {
    "as_is": ("as it is: Keras 3", {}, keras.optimizers.RMSprop),
    "gates": ("piecewise linear gates", GATES, keras.optimizers.RMSprop),
    "reset": ("reset gate before the recurrent product", RESET, keras.optimizers.RMSprop),
    "optimizer": ("RMSprop's epsilon outside the root", {}, ROOT),
    "gates_reset": ("gates and reset", GATES | RESET, keras.optimizers.RMSprop),
    "all": ("all three: Keras of 2018", GATES | RESET, ROOT),
}


def model_of(variant: str, inputs: Inputs, units: int) -> keras.Model:
    """reversed_gru with one change, for windows of `inputs`."""
    gru = layers.GRU(units, go_backwards=True, **VARIANTS[variant][1])
    return keras.Sequential([keras.Input(inputs.shape), gru, layers.Dense(1)])


def task_of(variant: str) -> ModuleType:
    """The notebooks' task with the variant's optimizer."""
    task = ModuleType(variant)

    def prepare(learner: keras.Model, model: keras.Model, inputs: Inputs, schedule: dict[str, Any]) -> None:
        training.prepare(learner, model, inputs, schedule)
        optimizer = VARIANTS[variant][2](schedule["learning_rate"])
        learner.compile(
            optimizer,
            learner.loss,
            jit_compile=learner.jit_compile,
            steps_per_execution=learner.steps_per_execution,
        )

    task.prepare = prepare  # type: ignore[attr-defined]
    return task


def run(variant: str, seed: int) -> None:
    """Train a variant and write its history to data/reversed_gru/VARIANT.SEED.json."""
    schedule, began = settings("reversed_gru") | {"seed": seed}, time.perf_counter()
    inputs, label = load(Path("data/inputs", schedule["inputs"])), f"reversed_gru.{variant}.{seed}"
    keras.utils.set_random_seed(seed)
    history = fit(label, model_of(variant, inputs, schedule["units"]), inputs, schedule, task_of(variant))
    with whole(RUNS / f"{variant}.{seed}.json") as path:
        seconds = round(time.perf_counter() - began)
        path.write_text(json.dumps({"variant": variant, "seed": seed, "seconds": seconds, "history": history}))
    Checkpoint(label, "").path.unlink(missing_ok=True)


def table() -> str:
    """All runs that there are as a Markdown table, a line a variant."""
    lines = ["| variant | seeds | best val MAE (epoch) | mean | training loss at that epoch | last val MAE |"]
    lines.append("|---|--:|---|--:|--:|--:|")
    for variant, (what, *_) in VARIANTS.items():
        histories = [json.loads(path.read_text())["history"] for path in sorted(RUNS.glob(f"{variant}.*.json"))]
        best = [best_row(history, "val_loss") for history in histories]
        if not histories:
            continue
        each = ", ".join(f"{row['val_loss']:.4f} ({row['epoch']})" for row in best)
        means = [np.mean([row[key] for row in rows]) for rows, key in ((best, "val_loss"), (best, "loss"))] + [
            np.mean([history[-1]["val_loss"] for history in histories])
        ]
        lines.append(f"| {what} | {len(best)} | {each} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")
    lines.append(f"| the notebooks' run, printed | 1 | {PUBLISHED['reversed_gru']} | | 0.3109 | 0.4727 |")
    return "\n".join(lines)


def seeds(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"of {', '.join(VARIANTS)}; default: all")
    parser.add_argument("--seeds", default="1", type=seeds, help="whole numbers, comma-separated (1)")
    arguments = parser.parse_args()
    if unknown := set(arguments.variants) - set(VARIANTS):
        parser.error(f"VARIANT: expected {', '.join(VARIANTS)}, found {', '.join(sorted(unknown))}")
    use_threads(settings("reversed_gru")["threads"])
    for seed in arguments.seeds:
        for variant in arguments.variants or VARIANTS:
            if not (RUNS / f"{variant}.{seed}.json").exists():
                run(variant, seed)
    print(table())


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the same command continues after the last epoch")
