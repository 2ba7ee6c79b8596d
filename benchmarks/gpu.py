"""Time training on a GPU with Keras on JAX: `python -m benchmarks.gpu`, in the root of the repository.

It needs neither TensorFlow nor a network nor data: the weather is a random walk, in input sets of the real shapes.
If a machine has JAX but not Keras, benchmarks/gpu_wheels.sh brings the other packages. The parts, in order:

1. the machine, and its peak in large matrix products;
2. whether an epoch of `gru` gives the losses that the CPU gives;
3. the training step of every trained model of params.yaml, at the model's batch size;
4. all epochs of `gru`, as `train` runs them;
5. the step of two models with a partly unrolled loop, and of all models with other batch sizes.

The programs of a part are compiled in parallel before the first one is timed. Results are written after each part.
"""

import argparse
import contextlib
import importlib
import json
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

os.environ["KERAS_BACKEND"] = "jax"  # before the first import of Keras

import jax
import jax.numpy as jnp
import numpy as np

from stages.lib.nn.build import build_model
from stages.lib.nn.environment import describe_machine, keras
from stages.lib.nn.fitting import fit_model, make_learner
from stages.lib.params import get_param
from stages.lib.settings.base import read_settings
from stages.lib.settings.clock import Clock
from stages.lib.settings.inputs import Window
from stages.lib.settings.split import Split as SplitRows
from stages.lib.settings.tokens import Tokens
from stages.lib.settings.training import SCHEDULE, read_schedule
from stages.lib.windows.input_set import Inputs, Meta, Split, Windows
from stages.lib.windows.splits_by_row import choose_forecast_rows

ROWS, COLUMNS = 420_551, 14  # of the notebooks' record
STATION_HOURS, STATION_COLUMNS = 70_000, 15  # measurements, with the wind's direction as a vector
REVIEWS = 25_000  # for training and validation
CHECK_STEPS, CHECK_WINDOWS = 40, 1024  # of the epoch that is compared with the CPU's
# Largest relative difference from the CPU's losses, by precision of the matrix products. JAX's default on a recent
# GPU is TF32, which keeps 10 bits of the mantissa.
TOLERANCES = {"highest": 1e-3, "default": 1e-2}
PEAK = "TFLOP/s, float32 by default"
WARM_UP, SECONDS = 5, 0.4  # calls before the clock starts; seconds that a measurement takes, about
UNROLLED_MODELS = ("gru", "gru_dropout")  # JAX has no cuDNN kernel for a GRU, so their time steps are a loop


def generate_random_walk(rows: int, columns: int) -> np.ndarray:
    """Return a random walk (rows, columns) float32, each column with mean 0 and standard deviation 1."""
    walk = np.cumsum(np.random.default_rng(1).normal(size=(rows, columns)), axis=0)
    return ((walk - walk.mean(axis=0)) / walk.std(axis=0)).astype(np.float32)


@cache
def make_inputs(name: str, task: str) -> Inputs:
    """Return an input set with the shapes of the one that params.yaml describes; its test split is that of val."""
    if task == "forecast":
        window, rows = read_settings(Window, "inputs", name), generate_random_walk(ROWS, COLUMNS)
        row = choose_forecast_rows(ROWS, read_settings(SplitRows, "split"), window.lookback, window.delay)
        starts = [row[key] - window.lookback for key in ("train", "val")]
        targets = [rows[row[key] + window.delay, 1] for key in ("train", "val")]
        meta = Meta(window.lookback // window.step, [f"T{number} (degC)" for number in range(COLUMNS)], 1)
    elif task == "station":
        clock = read_settings(Clock, "clock", name)
        hours = np.arange(0, STATION_HOURS, clock.every)
        calendar = np.column_stack([hours % 24, hours / 24 % 365.25]).astype(np.float32)
        rows = np.hstack([generate_random_walk(len(hours), STATION_COLUMNS), calendar])
        columns = [*(f"T{number} (degC)" for number in range(STATION_COLUMNS)), "hour", "day"]
        leads = clock.leads // clock.every
        meta = Meta(clock.lookback // clock.every, columns, 1, leads=leads, every=clock.every)
        all_targets = np.lib.stride_tricks.sliding_window_view(rows[meta.time :, 1], leads)
        starts = np.split(np.arange(len(all_targets)), [len(all_targets) * 4 // 5])
        targets = [all_targets[start] for start in starts]
    else:
        tokens, generator = read_settings(Tokens, "tokens", name), np.random.default_rng(1)
        rows = generator.integers(0, tokens.words, REVIEWS * tokens.length, np.int16)
        starts = np.split(np.arange(REVIEWS) * tokens.length, [int(REVIEWS * (1 - tokens.val))])
        targets = [generator.integers(0, 2, len(start)).astype(np.float32) for start in starts]
        meta = Meta(tokens.length, words=tokens.words)
    train, val = (
        Split(Windows(rows, start.astype(np.int32), meta.time), target, np.full(len(start), "NaT", "M8[s]"))
        for start, target in zip(starts, targets, strict=True)
    )
    return Inputs(rows, meta, train, val, val)


def build_training(name: str, schedule: dict[str, Any], val_windows: int | None = None) -> tuple:
    """Return (model, learner, inputs, schedule), which `fit_model` takes; `val_windows` shortens the validation."""
    inputs = make_inputs(schedule["inputs"], schedule["task"])
    Path("data/inputs", schedule["inputs"]).mkdir(parents=True, exist_ok=True)  # the resume file depends on it
    if val_windows:
        windows, targets, times = inputs.val
        windows = Windows(inputs.rows, windows.starts[:val_windows], inputs.meta.time)
        inputs = replace(inputs, val=Split(windows, targets[:val_windows], times[:val_windows]))
    keras.utils.set_random_seed(schedule["seed"])
    model = build_model(
        name,
        schedule["architecture"],
        inputs,
        {key: value for key, value in schedule.items() if key not in SCHEDULE},
    )
    task = importlib.import_module(f"stages.lib.tasks.{schedule['task']}.training")
    return model, make_learner(model, inputs, schedule, task), inputs, schedule


class Case(NamedTuple):
    """A training step to time."""

    model: str
    batch: int
    unroll: int = 1  # time steps per iteration of a loop


class Program(NamedTuple):
    """A training step that is being compiled."""

    compiled: Future
    state: Any
    batches: list[Any]
    flops: float  # of the matrix products and convolutions of one step


def trace_step(pool: ThreadPoolExecutor, case: Case) -> Program:
    """Trace the step that Keras' `fit` runs, and have `pool` compile it.

    Keras cannot unroll a loop partly, so this replaces `jax.lax.scan` during the trace. The state is a copy of the
    model's, because a step overwrites the memory of the state that it is given.
    """
    _, learner, inputs, _ = build_training(case.model, read_schedule(case.model))
    index = np.random.default_rng(1).integers(0, len(inputs.train.windows), (8, case.batch))
    batches = [(inputs.train.windows.starts[row], inputs.train.targets[row]) for row in index]
    learner._symbolic_build(data_batch=batches[0])
    variables = [learner.trainable_variables, learner.non_trainable_variables, learner.optimizer.variables]
    state = tuple([jnp.array(v.value) for v in group] for group in (*variables, learner.metrics_variables))
    with mock.patch.object(jax.lax, "scan", partial(jax.lax.scan, unroll=case.unroll)):
        traced = jax.jit(learner.train_step, donate_argnums=0).trace(state, batches[0])
        compiled = pool.submit(traced.lower().compile)
    return Program(compiled, state, jax.device_put(batches), count_flops(traced.jaxpr))


def count_flops(jaxpr: Any) -> float:
    """Return the floating point operations of the matrix products and convolutions in `jaxpr`, loops included."""
    jaxpr, total = getattr(jaxpr, "jaxpr", jaxpr), 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
            total += 2 * equation.outvars[0].aval.size * kernel.size / outputs
        elif name in ("rnn_fwd", "rnn_bwd"):  # cuDNN's LSTM: four gates, and twice the work backwards
            batch, time_steps = equation.invars[0].aval.shape[:2]
            units, directions = params["hidden_size"], 2 if params["bidirectional"] else 1
            work = 2 * batch * time_steps * 4 * units * (params["input_size"] + units) * directions
            total += work if name == "rnn_fwd" else 2 * work
        iterations = params.get("length", 1) if name == "scan" else 1
        for value in params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
                    total += iterations * count_flops(inner)
    return total


def time_calls(run: Callable[[int], None], max_calls: int) -> float:
    """Return the seconds per call. `run(count)` makes `count` calls and waits for the device to finish them."""
    count = min(WARM_UP, max_calls)
    run(count)
    for _ in range(2):  # the first round gives the number of calls of the second
        start = time.perf_counter()
        run(count)
        seconds = (time.perf_counter() - start) / count
        count = max(1, min(max_calls, int(SECONDS / seconds)))
    return seconds


def time_step(program: Program, max_steps: int) -> float:
    """Return the seconds per call of the compiled step, with its batches on the device."""
    compiled, state = program.compiled.result(), program.state

    def run(count: int) -> None:
        nonlocal state
        for number in range(count):
            _, state = compiled(state, program.batches[number % len(program.batches)])
        jax.block_until_ready(state)

    return time_calls(run, max_steps)


def measure_peaks(max_calls: int) -> dict[str, float]:
    """Return the TFLOP/s of a large matrix product: in float32, as JAX multiplies it by default, in bfloat16."""
    size = 8192 if jax.default_backend() == "gpu" else 512
    peaks = {}
    for name, dtype, precision in (
        ("TFLOP/s, float32", jnp.float32, "highest"),
        (PEAK, jnp.float32, "default"),
        ("TFLOP/s, bfloat16", jnp.bfloat16, "default"),
    ):
        left, right = (jax.random.normal(jax.random.key(number), (size, size), dtype) for number in (1, 2))
        product = jax.jit(partial(jnp.matmul, precision=precision))

        def run(count: int, product: Any = product, left: Any = left, right: Any = right) -> None:
            jax.block_until_ready([product(left, right) for _ in range(count)][-1])

        peaks[name] = 2 * size**3 / time_calls(run, min(max_calls, 20)) / 1e12
    return peaks


def train_one_epoch(steps: int, precision: str, run_name: str) -> dict[str, float]:
    """Return the losses of a short epoch of `gru`, with this precision of matrix products."""
    schedule = read_schedule("gru") | {"epochs": 1, "steps_per_epoch": steps}
    with jax.default_matmul_precision(precision):
        (row,) = fit_model(run_name, *build_training("gru", schedule, CHECK_WINDOWS))
    return {key: row[key] for key in ("loss", "val_loss")}


def compare_losses(steps: int) -> list[dict[str, Any]]:
    """Return a row per precision: the losses on the default device and on the CPU, and whether they agree."""
    with keras.device("cpu:0"):
        cpu_losses = train_one_epoch(steps, "highest", "check on the CPU")
    rows = []
    for precision, tolerance in TOLERANCES.items():
        losses = train_one_epoch(steps, precision, f"check, {precision}")
        difference = max(abs(losses[key] - cpu_losses[key]) / abs(cpu_losses[key]) for key in losses)
        row = {"precision": precision} | losses | {f"{key} on the CPU": value for key, value in cpu_losses.items()}
        rows.append(row | {"difference": difference, "tolerance": tolerance, "agree": difference <= tolerance})
    return rows


class Benchmark:
    """The results so far and the time that is left."""

    def __init__(self, output: Path | None, budget: float, max_steps: int) -> None:
        self.output, self.max_steps, self.start = output, max_steps, time.perf_counter()
        self.deadline = self.start + budget
        self.pool = ThreadPoolExecutor(min(8, os.cpu_count()))
        self.results: dict[str, Any] = {"machine": {}, "check": [], "training": {}, "steps": [], "missing": {}}

    def get_seconds_left(self) -> float:
        return max(self.deadline - time.perf_counter(), 0)

    def report(self, row: dict[str, Any]) -> None:
        """Print a row of the results, and write all results to the output file."""
        numbers = {key: f"{value:.4g}" for key, value in row.items() if isinstance(value, float)}
        text = ", ".join(f"{key} {value}" for key, value in (row | numbers).items())
        print(f"[{time.perf_counter() - self.start:5.0f} s] {text}", flush=True)
        if self.output:
            self.output.write_text(json.dumps(self.results, indent=2) + "\n")

    @contextlib.contextmanager
    def catch_failure(self, measurement: str) -> Iterator[None]:
        """Continue after an error, and keep it as the reason why `measurement` is missing."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.results["missing"][measurement] = f"failed: {type(error).__name__}: {str(error)[:200]}"

    def time_cases(self, cases: list[Case]) -> None:
        """Time these steps. Compilation gets half of the time that is left."""
        programs = {}
        for case in cases:
            with self.catch_failure(str(case)):
                if self.get_seconds_left() > 20:
                    programs[case] = trace_step(self.pool, case)
        wait([program.compiled for program in programs.values()], timeout=self.get_seconds_left() / 2)
        for case in cases:
            if case not in programs or not programs[case].compiled.done() or self.get_seconds_left() < 3:
                self.results["missing"].setdefault(str(case), "out of time")
                continue
            with self.catch_failure(str(case)):
                program = programs.pop(case)
                seconds = time_step(program, self.max_steps)
                row = case._asdict() | {"ms a step": 1e3 * seconds, "windows/s": round(case.batch / seconds)}
                row["GFLOP a window"] = program.flops / case.batch / 1e9
                row["% of the peak"] = 100 * program.flops / seconds / (1e12 * self.results["machine"][PEAK])
                self.results["steps"].append(row)
                self.report(row)

    def train_gru(self) -> None:
        """Train `gru` with validation for all of its epochs, or for those that fit into half of the time left."""
        schedule = read_schedule("gru")
        steps = min(schedule["steps_per_epoch"], self.max_steps)
        val_windows = CHECK_WINDOWS if steps < schedule["steps_per_epoch"] else None  # a smoke test
        step = next(row["ms a step"] / 1e3 for row in self.results["steps"] if row["model"] == "gru")
        epochs = int(self.get_seconds_left() / 2 / (1.3 * steps * step))  # validation takes the 0.3, about
        epochs = max(1, min(schedule["epochs"], epochs, self.max_steps))
        schedule |= {"epochs": epochs, "steps_per_epoch": steps}
        start = time.perf_counter()
        history = fit_model("gru", *build_training("gru", schedule, val_windows))
        row = {"epochs": len(history), "steps an epoch": steps, "seconds": time.perf_counter() - start}
        self.results["training"] = row | {"lowest val_loss": min(entry["val_loss"] for entry in history)}
        self.report(self.results["training"])

    def run(self, models: list[str], batch_sizes: list[int], unroll: list[int]) -> None:
        machine = {"device kind": jax.devices()[0].device_kind} | describe_machine(os.cpu_count())
        self.results["machine"] = machine | measure_peaks(self.max_steps)
        self.report(self.results["machine"])
        with self.catch_failure("check"):
            self.results["check"] = compare_losses(min(CHECK_STEPS, self.max_steps))
        for row in self.results["check"]:
            self.report(row)
        default_sizes = {name: read_schedule(name)["batch_size"] for name in models}
        self.time_cases([Case(name, size) for name, size in default_sizes.items()])
        if "gru" in models:
            with self.catch_failure("training"):
                self.train_gru()
        unrolled = [name for name in UNROLLED_MODELS if name in models]
        self.time_cases([Case(name, default_sizes[name], count) for name in unrolled for count in unroll])
        for size in batch_sizes:
            self.time_cases([Case(name, size) for name in models if size != default_sizes[name]])
        for measurement, reason in self.results["missing"].items():
            self.report({"missing": measurement, "reason": reason})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file for the results (default: print only)")
    parser.add_argument("--budget", type=float, default=330, help="seconds after which nothing new is started")
    parser.add_argument(
        "--steps",
        type=int,
        default=500,
        help="most steps of a measurement, and most epochs of the training; 2 for a smoke test",
    )
    parser.add_argument("--models", nargs="+", help="names in params.yaml (default: all that are trained)")
    parser.add_argument("--batches", nargs="*", type=int, default=[2048, 8192, 512], help="other batch sizes")
    parser.add_argument("--unroll", nargs="*", type=int, default=[8, 24], help="time steps per iteration of a loop")
    options = parser.parse_args(arguments)
    models = options.models or [name for name, settings in get_param("models").items() if settings["epochs"]]
    output = options.output.resolve() if options.output else None
    params, benchmark = Path("params.yaml").read_bytes(), Benchmark(output, options.budget, options.steps)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.chdir(folder):
        Path("params.yaml").write_bytes(params)
        jax.config.update("jax_compilation_cache_dir", str(Path(folder, "cache")))
        try:
            benchmark.run(models, options.batches, options.unroll)
        finally:
            benchmark.pool.shutdown(wait=False, cancel_futures=True)
    failed = any(reason.startswith("failed") for reason in benchmark.results["missing"].values())
    return int(failed or not all(row["agree"] for row in benchmark.results["check"]))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # without waiting for programs that are still being compiled
