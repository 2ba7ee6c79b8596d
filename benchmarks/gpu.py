"""Training on a GPU, by Keras on JAX: `python -m benchmarks.gpu --output FOLDER`, in the root of the repository.

It needs neither TensorFlow nor a network nor data: the weather is a random walk, in input sets of the real shapes.
On a machine that has JAX but not Keras, benchmarks/gpu_wheels.sh brings the rest. In order:

1. the device and its peak, measured by large matrix products;
2. whether an epoch of `gru` gives the losses that a CPU gives;
3. every trained model of params.yaml at its own batch size: Keras' fit, the compiled step alone, validation;
4. all epochs of `gru`, by stages.lib.nn.fitting as `train` runs it;
5. other ways to run the slow loops; then larger batches, as long as the budget lasts.

The programs of one part are compiled in parallel before any of them is timed. Results are written after each part.
"""

import argparse
import contextlib
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

os.environ["KERAS_BACKEND"] = "jax"  # before the first import of Keras

import jax
import jax.numpy as jnp
import numpy as np

from stages.lib.nn.batches import EVALUATION_BATCH, make_batches, wrap_with_gather
from stages.lib.nn.build import build_model
from stages.lib.nn.environment import describe_machine, keras
from stages.lib.nn.fitting import fit_model, make_learner
from stages.lib.params import get_param
from stages.lib.settings.base import read_settings
from stages.lib.settings.clock import Clock
from stages.lib.settings.inputs import Window
from stages.lib.settings.periods import Periods
from stages.lib.settings.split import Split as SplitRows
from stages.lib.settings.tokens import Tokens
from stages.lib.settings.training import SCHEDULE, read_schedule
from stages.lib.windows.input_set import SPLITS, Inputs, Meta, Split, Windows, load_input_set, save_input_set
from stages.lib.windows.splits_by_row import choose_forecast_rows

ROOT = Path(__file__).resolve().parents[1]
ROWS, COLUMNS = 420_551, 14  # of the notebooks' record
STATION_COLUMNS = 15  # measurements, after the wind's direction has become a vector
REVIEWS = 25_000  # for training and validation, and as many for testing
CHECK_STEPS, CHECK_WINDOWS = 40, 1024  # of the epoch that is compared with the CPU's
# Largest relative difference of a loss from the CPU's. By default JAX multiplies float32 as TF32 on a GPU that can,
# which keeps 10 bits of the mantissa.
TOLERANCES = {"highest": 1e-3, "default": 1e-2}
WARM, SECONDS = 5, 0.4  # calls before the clock starts; seconds, about, that a measurement takes
BATCHES = (2048, 8192, 512)  # in the order of interest
COMMAND_BUFFERS = {
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,WHILE,CONDITIONAL",
    "xla_gpu_graph_min_graph_size": "1",
}
# Other ways to run a loop: label -> model, and arguments of prepare_variant. On JAX, cuDNN runs no GRU, and no LSTM
# with recurrent dropout. GRAPHS come late, as XLA's flags are experimental and a crash would end the run; UNROLLED
# comes last, as it takes long to trace and to compile.
LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "gru, 8 time steps a turn of the loop": ("gru", {"unroll": 8}),
    "gru, 24 time steps a turn": ("gru", {"unroll": 24}),
    "gru_dropout, 8 time steps a turn": ("gru_dropout", {"unroll": 8}),
    "gru_dropout, 24 time steps a turn": ("gru_dropout", {"unroll": 24}),
    "lstm, scan instead of cuDNN": ("lstm", {"layer": {"use_cudnn": False}}),
}
GRAPHS: dict[str, tuple[str, dict[str, Any]]] = {
    "gru, loop as a CUDA graph": ("gru", {"flags": COMMAND_BUFFERS}),
    "gru, 24 time steps a turn, loop as a CUDA graph": ("gru", {"unroll": 24, "flags": COMMAND_BUFFERS}),
    "gru_dropout, loop as a CUDA graph": ("gru_dropout", {"flags": COMMAND_BUFFERS}),
}
UNROLLED: dict[str, tuple[str, dict[str, Any]]] = {
    "gru_dropout, unroll=True": ("gru_dropout", {"layer": {"unroll": True}}),
}


# --- Synthetic input sets ---------------------------------------------------------------------------------------


def random_walk(rows: int, columns: int) -> np.ndarray:
    """A random walk (rows, columns) float32 with mean 0 and standard deviation 1 in each column."""
    walk = np.cumsum(np.random.default_rng(1).normal(size=(rows, columns)), axis=0)
    return ((walk - walk.mean(axis=0)) / walk.std(axis=0)).astype(np.float32)


def write_input_set(name: str, task: str) -> None:
    """Write data/inputs/NAME with the number and the shape of the windows that params.yaml gives it."""
    directory = Path("data/inputs", name)
    columns = ["p (mbar)", "T (degC)", *(f"column {number}" for number in range(3, STATION_COLUMNS + 1))]
    if task == "forecast":
        window, rows = read_settings(Window, "inputs", name), random_walk(ROWS, COLUMNS)
        chosen = choose_forecast_rows(ROWS, read_settings(SplitRows, "split"), window.lookback, window.delay)
        splits = {key: (row - window.lookback, rows[row + window.delay, 1], None) for key, row in chosen.items()}
        save_input_set(directory, rows, splits, Meta(window.lookback // window.step, columns[:COLUMNS], 1))
    elif task == "station":
        clock, bounds = read_settings(Clock, "clock", name), read_settings(Periods, "periods").get_bounds()
        lookback, leads, hours = clock.lookback // clock.every, clock.leads // clock.every, np.timedelta64(1, "h")
        end = np.datetime64("2017-01-01", "s") if bounds[-1] is None else bounds[-1]
        limits = [int((bound - bounds[0]) / hours) // clock.every for bound in (*bounds[:-1], end)]
        hour = np.arange(limits[-1]) * clock.every
        calendar = np.column_stack([hour % 24, hour / 24 % 365.25]).astype(np.float32)
        rows = np.hstack([random_walk(len(hour), STATION_COLUMNS), calendar])
        splits = {
            key: (np.arange(first, last - lookback - leads), None, None)
            for key, first, last in zip(SPLITS, limits, limits[1:], strict=False)
        }
        meta = Meta(lookback, [*columns, "hour", "day"], 1, leads=leads, every=clock.every)
        save_input_set(directory, rows, splits, meta, rows[:, 1])
    else:
        tokens, random = read_settings(Tokens, "tokens", name), np.random.default_rng(1)
        rows = random.integers(0, tokens.words, 2 * REVIEWS * tokens.length, np.int16)
        labels = random.integers(0, 2, 2 * REVIEWS)
        limits = [0, int(REVIEWS * (1 - tokens.val)), REVIEWS, 2 * REVIEWS]
        splits = {
            key: (np.arange(first, last) * tokens.length, labels[first:last], None)
            for key, first, last in zip(SPLITS, limits, limits[1:], strict=False)
        }
        save_input_set(directory, rows, splits, Meta(tokens.length, words=tokens.words))


def shorten_validation(inputs: Inputs, count: int) -> Inputs:
    """`inputs` with the first `count` windows of validation."""
    windows, targets, times = inputs.val
    short = Windows(inputs.rows, windows.starts[:count], inputs.meta.time)
    return replace(inputs, val=Split(short, targets[:count], times[:count]))


# --- Steps --------------------------------------------------------------------------------------------------------


@dataclass
class Trainee:
    """A model of params.yaml that is ready to train."""

    model: keras.Model
    learner: keras.Model
    inputs: Inputs
    schedule: dict[str, Any]


class Program(NamedTuple):
    """A step of training or of validation, being compiled."""

    compiled: Future
    state: Any
    batches: list[Any]
    size: int  # of a batch
    flops: float  # of the matrix products and convolutions of one step


def build_trainee(
    name: str, inputs: Inputs, schedule: dict[str, Any], layer: dict[str, Any] | None = None
) -> Trainee:
    """Build and compile the model `name`; `layer` sets attributes of its recurrent layers."""
    keras.utils.set_random_seed(schedule["seed"])
    model = build_model(name, inputs, {key: value for key, value in schedule.items() if key not in SCHEDULE})
    for recurrent in model.layers:
        if isinstance(recurrent, keras.layers.RNN):
            for key, value in (layer or {}).items():
                setattr(recurrent, key, value)
    learner = wrap_with_gather(model, inputs)
    task = importlib.import_module(f"stages.lib.tasks.{schedule['task']}.training")
    task.compile_for_training(learner, model, inputs, schedule)
    learner.optimizer.build(learner.trainable_variables)
    return Trainee(model, learner, inputs, schedule)


def draw_batches(split: Split, size: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` batches of `size` windows, drawn with replacement: (starts, targets) each."""
    index = np.random.default_rng(1).integers(0, len(split.windows), (count, size))
    return [(split.windows.starts[row], split.targets[row]) for row in index]


def prepare_step(
    pool: ThreadPoolExecutor,
    trainee: Trainee,
    size: int,
    training: bool = True,
    unroll: int = 1,
    flags: dict[str, str] | None = None,
) -> Program:
    """Trace the step that Keras' fit or evaluate runs on batches of `size`, and have `pool` compile it.

    `unroll` is the number of time steps in one turn of a loop, `flags` are XLA's. The state is a copy of the
    model's present one, since a step overwrites the memory of the state it is given.
    """
    learner = trainee.learner
    batches = draw_batches(trainee.inputs.train if training else trainee.inputs.val, size, 8)
    learner._symbolic_build(data_batch=batches[0])
    variables = [learner.trainable_variables, learner.non_trainable_variables]
    variables += [learner.optimizer.variables] if training else []
    state = tuple([jnp.array(v.value) for v in part] for part in (*variables, learner.metrics_variables))

    # Named as Keras' own, so that fit and evaluate find this program in the compilation cache.
    def train_step(state: Any, data: Any) -> Any:
        return learner.train_step(state, data)

    def test_step(state: Any, data: Any) -> Any:
        return learner.test_step(state, data)

    with mock.patch.object(jax.lax, "scan", partial(jax.lax.scan, unroll=unroll)):
        traced = jax.jit(train_step if training else test_step, donate_argnums=0).trace(state, batches[0])
        lowered = traced.lower()
    compiled = pool.submit(lowered.compile, flags) if flags else pool.submit(lowered.compile)
    return Program(compiled, state, jax.device_put(batches), size, count_flops(traced.jaxpr))


def count_flops(jaxpr: Any) -> float:
    """Floating point operations of the products and convolutions in `jaxpr`, a loop's in each of its turns."""
    jaxpr, total = getattr(jaxpr, "jaxpr", jaxpr), 0.0
    for equation in jaxpr.eqns:
        name, settings = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = settings["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            outputs = kernel.shape[settings["dimension_numbers"].rhs_spec[0]]
            total += 2 * equation.outvars[0].aval.size * kernel.size / outputs
        elif name in ("rnn_fwd", "rnn_bwd"):  # cuDNN's LSTM: four gates, and twice the work backwards
            batch, time_steps = equation.invars[0].aval.shape[:2]
            units, directions = settings["hidden_size"], 2 if settings["bidirectional"] else 1
            work = 2 * batch * time_steps * 4 * units * (settings["input_size"] + units) * directions
            total += work if name == "rnn_fwd" else 2 * work
        turns = settings.get("length", 1) if name == "scan" else 1
        for value in settings.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
                    total += turns * count_flops(inner)
    return total


def time_calls(run: Callable[[int], None], most: int) -> float:
    """Seconds a call of what `run` calls so many times and waits for; `most` limits the calls that are timed."""
    run(min(WARM, most))
    began = time.perf_counter()
    run(min(WARM, most))
    each = (time.perf_counter() - began) / min(WARM, most)
    count = max(1, min(most, int(SECONDS / each)))
    began = time.perf_counter()
    run(count)
    return (time.perf_counter() - began) / count


def time_step(program: Program, most: int) -> float:
    """Seconds that the compiled step takes, with its batches on the device."""
    compiled, state = program.compiled.result(), program.state

    def run(count: int) -> None:
        nonlocal state
        for number in range(count):
            _, state = compiled(state, program.batches[number % len(program.batches)])
        jax.block_until_ready(state)

    return time_calls(run, most)


def time_keras(method: Callable, split: Split, size: int, step: float, most: int) -> float:
    """Seconds a batch that Keras' fit or evaluate takes, given about how long the `step` alone does."""
    bundle = 10  # steps_per_execution
    for count in (min(bundle, most), min(most, max(bundle, int(2 * SECONDS / step) // bundle * bundle))):
        starts, targets = (np.concatenate(arrays) for arrays in zip(*draw_batches(split, size, count), strict=True))
        began = time.perf_counter()
        method(**make_batches(starts, targets, size), verbose=0)
        seconds = (time.perf_counter() - began) / count
    return seconds


# --- Parts --------------------------------------------------------------------------------------------------------


def measure_peaks(most: int) -> dict[str, float]:
    """FLOP/s of a large matrix product: of float32 as it is, as JAX multiplies it by default, and of bfloat16."""
    size = 8192 if jax.default_backend() == "gpu" else 512
    peaks = {}
    for label, kind, precision in (
        ("float32", jnp.float32, "highest"),
        ("float32 by default (TF32)", jnp.float32, "default"),
        ("bfloat16", jnp.bfloat16, "default"),
    ):
        left, right = (jax.random.normal(jax.random.key(number), (size, size), kind) for number in (1, 2))
        product = jax.jit(partial(jnp.matmul, precision=precision))

        def run(count: int, product: Any = product, left: Any = left, right: Any = right) -> None:
            jax.block_until_ready([product(left, right) for _ in range(count)][-1])

        peaks[label] = 2 * size**3 / time_calls(run, min(most, 20))
    return peaks


def train_briefly(steps: int, precision: str) -> dict[str, float]:
    """The losses of one epoch of `gru` over `steps` steps, with this precision of matrix products."""
    schedule = read_schedule("gru") | {"epochs": 1, "steps_per_epoch": steps}
    inputs = shorten_validation(load_input_set(f"data/inputs/{schedule['inputs']}"), CHECK_WINDOWS)
    jax.config.update("jax_default_matmul_precision", precision)
    try:
        keras.utils.set_random_seed(schedule["seed"])
        model = build_model("gru", inputs, {"units": schedule["units"]})
        task = importlib.import_module(f"stages.lib.tasks.{schedule['task']}.training")
        learner = make_learner(model, inputs, schedule, task)
        (row,) = fit_model(f"check-{precision}", model, learner, inputs, schedule)
    finally:
        jax.config.update("jax_default_matmul_precision", None)
    return {key: row[key] for key in ("loss", "val_loss")}


def start_on_cpu(steps: int) -> subprocess.Popen:
    """A process that prints the losses of `train_briefly` on the CPU."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu", "--losses", str(steps)],
        **{"cwd": ROOT, "text": True, "stdout": subprocess.PIPE},
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
    )


def compare_losses(process: subprocess.Popen, steps: int, seconds: float) -> list[dict[str, Any]]:
    """One row a precision: the losses here, the CPU's of `process`, and whether they agree."""
    rows = []
    precisions = TOLERANCES if jax.default_backend() != "cpu" else ["highest"]  # a CPU has one alone
    here = {precision: train_briefly(steps, precision) for precision in precisions}
    cpu = json.loads(process.communicate(timeout=seconds)[0].splitlines()[-1])
    for precision, losses in here.items():
        difference = max(abs(losses[key] - cpu[key]) / abs(cpu[key]) for key in cpu)
        row = {"matrix products": precision} | losses | {f"CPU {key}": value for key, value in cpu.items()}
        tolerance = TOLERANCES[precision]
        rows.append(row | {"difference": difference, "tolerance": tolerance, "agree": difference <= tolerance})
    return rows


def train_fully(trainee: Trainee, row: dict[str, Any], steps: int, seconds: float) -> dict[str, Any]:
    """The time of all epochs of `gru` with validation, as far as they fit into `seconds`: two if not all."""
    schedule, inputs = trainee.schedule | {"epochs": trainee.schedule["epochs"]}, trainee.inputs
    epochs, full = schedule["epochs"], schedule["steps_per_epoch"]
    each = full * row["fit ms"] / 1e3 + len(inputs.val.windows) / row["validation windows/s"]
    measured = epochs if epochs * each <= seconds and steps >= full else 2
    if steps < full:  # a smoke run
        schedule["steps_per_epoch"], inputs = steps, shorten_validation(inputs, CHECK_WINDOWS)
    task = importlib.import_module(f"stages.lib.tasks.{schedule['task']}.training")
    began = time.perf_counter()
    schedule |= {"epochs": measured}
    learner = make_learner(trainee.model, inputs, schedule, task)
    history = fit_model("gru", trainee.model, learner, inputs, schedule)
    taken = time.perf_counter() - began
    return {
        "epochs": epochs,
        "steps an epoch": full,
        "epochs measured": measured if steps >= full else 0,
        "seconds": taken + (epochs - measured) * each if steps >= full else epochs * each,
        "best val_loss": min(entry["val_loss"] for entry in history),
    }


def time_torch(trainee: Trainee, most: int) -> float:
    """Seconds a step of `gru` by PyTorch, which has cuDNN's GRU, with the windows gathered on the device."""
    import torch

    inputs, schedule = trainee.inputs, trainee.schedule
    rows = torch.from_numpy(inputs.rows).cuda()
    gru = torch.nn.GRU(inputs.shape[1], schedule["units"], batch_first=True).cuda()
    head = torch.nn.Linear(schedule["units"], 1).cuda()
    optimizer = torch.optim.RMSprop([*gru.parameters(), *head.parameters()], schedule["learning_rate"], alpha=0.9)
    offsets = torch.arange(inputs.meta.time, device="cuda")
    batches = [
        [torch.from_numpy(array).cuda() for array in batch]
        for batch in draw_batches(inputs.train, schedule["batch_size"], 8)
    ]

    def run(count: int) -> None:
        for number in range(count):
            starts, targets = batches[number % len(batches)]
            optimizer.zero_grad()
            forecast = head(gru(rows[starts[:, None] + offsets])[1][0])[:, 0]
            torch.nn.functional.l1_loss(forecast, targets).backward()
            optimizer.step()
        torch.cuda.synchronize()

    return time_calls(run, most)


# --- The run ------------------------------------------------------------------------------------------------------


MODELS_NOTE = (
    "`fit` is Keras' own, as `train` runs it; the step alone is the same program called in a loop, its batches on\n"
    "the device, and the following columns are about it. The peak is that of float32 by default."
)


class Report:
    """What has been measured so far, as Markdown and JSON."""

    def __init__(self, output: Path | None) -> None:
        self.output = output
        self.results: dict[str, Any] = {"machine": {}, "check": [], "models": {}, "variants": {}, "missing": {}}

    def write(self) -> None:
        if self.output:
            self.output.mkdir(parents=True, exist_ok=True)
            (self.output / "gpu.json").write_text(json.dumps(self.results, indent=2) + "\n")
            (self.output / "gpu.md").write_text(self.format())

    @contextlib.contextmanager
    def attempt(self, label: str) -> Iterator[None]:
        """Note a failure as the reason why `label` is missing, and go on: a GPU is at hand only briefly."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            lines = str(error).splitlines() or [""]
            self.results["missing"][label] = f"failed: {type(error).__name__}: {lines[0][:200]}"

    def format(self) -> str:
        results = self.results
        parts = [
            "# Training on this machine\n",
            format_table([{"machine": "", **results["machine"]}], across=False),
        ]
        parts += ["## An epoch of `gru` against the CPU's\n", format_table(results["check"])]
        rows = []
        for name, entry in results["models"].items():
            sizes = {size: step / 1e3 for size, step in entry["step ms"].items()}  # in seconds
            fastest = min(sizes, key=lambda size: sizes[size] / size)
            peak = results["machine"]["FLOP/s, float32 by default (TF32)"]
            rows.append(
                {
                    "model": name,
                    "batch": entry["batch"],
                    "fit, ms a step": entry.get("fit ms"),
                    "step alone, ms": 1e3 * sizes[entry["batch"]],
                    "windows/s": entry["batch"] / sizes[entry["batch"]],
                    "fastest batch": fastest,
                    "ms a step there": 1e3 * sizes[fastest],
                    "windows/s there": fastest / sizes[fastest],
                    "validation windows/s": entry.get("validation windows/s"),
                    "GFLOP a window": entry["FLOP a window"] / 1e9,
                    "% of peak": 100 * entry["FLOP a window"] * entry["batch"] / sizes[entry["batch"]] / peak,
                    "% there": 100 * entry["FLOP a window"] * fastest / sizes[fastest] / peak,
                }
            )
        parts += [f"## Models\n\n{MODELS_NOTE}\n", format_table(rows)]
        rows = [{"variant": label, "step alone, ms": value} for label, value in results["variants"].items()]
        parts += ["## Other ways to run the loops\n", format_table(rows)]
        if "training" in results:
            parts += ["## All epochs of `gru`\n", format_table([results["training"]])]
        missing = [{"not run": label, "reason": reason} for label, reason in results["missing"].items()]
        parts += ["## Not run\n", format_table(missing)] if missing else []
        return "\n".join(parts)


def format_table(rows: list[dict[str, Any]], across: bool = True) -> str:
    """A Markdown table of `rows`; with `across` False, of one row, written downwards."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        return "-" if value is None else str(value)

    if not rows:
        return "Not run.\n"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([cell(row[key]) for key in rows[0]] for row in rows)]
    if not across:
        first, *others = rows[0].items()
        lines = [list(first), ["---", "---"], *([key, cell(value)] for key, value in others)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def measure_all(options: argparse.Namespace, report: Report, pool: ThreadPoolExecutor) -> None:
    """Run the parts in order; the working directory is a folder with params.yaml that may be written to."""
    deadline, results, most = time.perf_counter() + options.budget, report.results, options.steps

    def remaining() -> float:
        return deadline - time.perf_counter()

    def say(text: str) -> None:
        print(f"[{options.budget - remaining():5.0f} s] {text}", flush=True)

    steps = min(CHECK_STEPS, most)
    process = start_on_cpu(steps)
    device = jax.devices()[0]
    results["machine"] = {"device kind": device.device_kind} | describe_machine(0)
    results["machine"] |= {"jax": jax.__version__, "numpy": np.__version__, "python": sys.version.split()[0]}
    del results["machine"]["threads"]
    say(f"{device.device_kind}; {results['machine']}")
    results["machine"] |= {f"FLOP/s, {label}": peak for label, peak in measure_peaks(most).items()}

    schedules = {name: read_schedule(name) for name in options.models}
    needed = [*schedules.values(), read_schedule("gru")]
    for name, task in {(schedule["inputs"], schedule["task"]) for schedule in needed}:
        write_input_set(name, task)
    sets = {name: load_input_set(f"data/inputs/{name}") for name in {schedule["inputs"] for schedule in needed}}
    with report.attempt("check"):
        results["check"] = compare_losses(process, steps, max(remaining(), 1))
        say(json.dumps(results["check"]))
    report.write()

    trainees, programs = {}, {}
    for name, schedule in schedules.items():
        with report.attempt(name):
            trainee = build_trainee(name, sets[schedule["inputs"]], schedule)
            programs[name, True] = prepare_step(pool, trainee, schedule["batch_size"])
            programs[name, False] = prepare_step(pool, trainee, EVALUATION_BATCH, training=False)
            trainees[name] = trainee
    say("models traced")
    wait([program.compiled for program in programs.values()], timeout=max(remaining() / 2, 0))
    say("models compiled")
    for name, trainee in trainees.items():
        if remaining() < 0 or not all(programs[name, key].compiled.done() for key in (True, False)):
            results["missing"][name] = "out of time"
            continue
        with report.attempt(name):
            program, size = programs[name, True], trainee.schedule["batch_size"]
            step, evaluation = time_step(program, most), time_step(programs[name, False], most)
            row = {"batch": size, "step ms": {size: 1e3 * step}, "FLOP a window": program.flops / size}
            results["models"][name] = row
            row["fit ms"] = 1e3 * time_keras(
                partial(trainee.learner.fit, shuffle=False), trainee.inputs.train, size, step, most
            )
            seconds = time_keras(trainee.learner.evaluate, trainee.inputs.val, EVALUATION_BATCH, evaluation, most)
            row["validation windows/s"] = EVALUATION_BATCH / seconds
            say(f"{name}: {row}")
    report.write()

    if "validation windows/s" in results["models"].get("gru", {}):
        with report.attempt("all epochs of gru"):
            trainee = build_trainee("gru", sets[schedules["gru"]["inputs"]], schedules["gru"])
            results["training"] = train_fully(trainee, results["models"]["gru"], most, remaining() / 3)
            say(f"all epochs of gru: {results['training']}")
        report.write()
        if jax.default_backend() == "gpu":
            with report.attempt("gru, PyTorch with cuDNN"):
                results["variants"]["gru, PyTorch with cuDNN"] = 1e3 * time_torch(trainees["gru"], most)

    def time_programs(preparations: Mapping[str, Callable[[], Program]], least: float) -> dict[str, float]:
        """Milliseconds a step of what is prepared while `least` seconds are left, and is compiled in time."""
        programs, measured = {}, {}
        for label, prepare in preparations.items():
            with report.attempt(label):
                if remaining() >= least:
                    programs[label] = prepare()
        wait([program.compiled for program in programs.values()], timeout=max(remaining() - 10, 0))
        for label in preparations:
            if label in programs and programs[label].compiled.done() and remaining() > 3:
                with report.attempt(label):
                    measured[label] = 1e3 * time_step(programs.pop(label), most)
                    say(f"{label}: {measured[label]:.3g} ms")
            else:
                results["missing"].setdefault(label, "out of time")
        return measured

    def prepare_variant(name: str, layer: dict[str, Any] | None = None, **arguments: Any) -> Program:
        trainee = build_trainee(name, sets[schedules[name]["inputs"]], schedules[name], layer)
        return prepare_step(pool, trainee, schedules[name]["batch_size"], **arguments)

    def try_variants(variants: dict[str, tuple[str, dict[str, Any]]], least: float) -> None:
        chosen = {label: variants[label] for label in variants if variants[label][0] in results["models"]}
        preparations = {
            label: partial(prepare_variant, name, **settings) for label, (name, settings) in chosen.items()
        }
        results["variants"] |= time_programs(preparations if options.variants else {}, least)
        report.write()

    def try_batch(size: int) -> None:
        labels = {f"{name}, batch {size}": name for name in results["models"]}
        preparations = {label: partial(prepare_step, pool, trainees[name], size) for label, name in labels.items()}
        for label, milliseconds in time_programs(preparations, 20).items():
            results["models"][labels[label]]["step ms"][size] = milliseconds
        report.write()

    try_variants(LOOPS, 30)
    for number, size in enumerate(options.batches):
        try_batch(size)
        if not number:
            try_variants(GRAPHS, 30)
    try_variants(UNROLLED, 60)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder for gpu.json and gpu.md (default: print only)")
    parser.add_argument("--budget", type=float, default=330, help="seconds after which nothing new is started")
    parser.add_argument("--steps", type=int, default=500, help="most steps of a measurement; 2 for a smoke run")
    parser.add_argument("--models", nargs="+", help="names in params.yaml (default: all that are trained)")
    parser.add_argument("--batches", nargs="*", type=int, default=BATCHES, help="larger batch sizes to try")
    parser.add_argument(
        "--variants",
        action=argparse.BooleanOptionalAction,
        default=jax.default_backend() == "gpu",
        help="try other ways to run the loops (default: on a GPU)",
    )
    parser.add_argument("--losses", type=int, metavar="STEPS", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.models = options.models or [name for name, own in get_param("models").items() if own["epochs"]]
    output = options.output.resolve() if options.output else None
    params = Path("params.yaml").read_bytes()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.chdir(folder):
        Path("params.yaml").write_bytes(params)
        Path("data/inputs").mkdir(parents=True)
        if options.losses:
            schedule = read_schedule("gru")
            write_input_set(schedule["inputs"], schedule["task"])
            print(json.dumps(train_briefly(options.losses, "highest")), flush=True)
            return 0
        jax.config.update("jax_compilation_cache_dir", str(Path(folder, "cache")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        report, pool = Report(output), ThreadPoolExecutor(min(8, os.cpu_count()))
        try:
            measure_all(options, report, pool)
        finally:
            report.write()
            print(report.format(), flush=True)
            pool.shutdown(wait=False, cancel_futures=True)
    disagree = not all(row["agree"] for row in report.results["check"]) or not report.results["check"]
    failed = [label for label, reason in report.results["missing"].items() if reason.startswith("failed")]
    return int(disagree or any(label in options.models for label in failed))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # without waiting for what is still being compiled
