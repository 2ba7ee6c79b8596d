"""The contenders of benchmarks/bench.py: each function prepares one, and returns what measures one round.

Run as `python -m benchmarks.contenders '["FUNCTION", ARGUMENT...]'` in a folder that the stages have filled;
`serve` says how to talk to it.
"""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.params import get_param

BATCH, WARM = 128, 10  # windows in a batch, batches before the clock starts
BUNDLE = 10  # steps_per_execution of stages.train
# Imported before the memory of a contender is counted, by the first word of its name.
IMPORTS = {
    "csv": ("pandas", "stages.parse"),
    "windows": ("tensorflow", "stages.train"),
    "steps": ("tensorflow", "stages.train"),
}
Figures = dict[str, Any]


def csv_contender(read: Callable[[Path], Any]) -> Callable[[], Figures]:
    """Measures `read` over the record's files, unpacked."""
    from stages.lib.weather.archives import read_packed_csv
    from stages.parse import RAW

    paths = []
    for file in json.loads((RAW / "source.json").read_text())["files"]:
        paths.append(Path("csv", f"{Path(file['name']).stem}.csv"))
        if not paths[-1].exists():
            paths[-1].parent.mkdir(exist_ok=True)
            paths[-1].write_bytes(read_packed_csv(RAW / file["name"])[1])

    def measure() -> Figures:
        began = time.perf_counter()
        arrays = [read(path) for path in paths]
        return {"seconds": time.perf_counter() - began, "files": len(arrays)}

    return measure


def csv_ours() -> Callable[[], Figures]:
    from stages.lib.settings.base import read_settings
    from stages.lib.settings.dataset import Record
    from stages.lib.weather.csv_files import read_csv_files
    from stages.lib.weather.record import to_numpy

    section = read_settings(Record, "dataset")
    return csv_contender(lambda path: [to_numpy(column) for column in read_csv_files([path], section).columns])


def csv_notebooks() -> Callable[[], Figures]:
    encoding = get_param("dataset", "encoding")

    def read(path: Path) -> np.ndarray:
        header, *lines = path.read_text(encoding).strip().split("\n")
        values = np.zeros((len(lines), header.count(",")))
        for index, line in enumerate(lines):
            values[index] = [float(field) for field in line.split(",")[1:]]
        return values

    return csv_contender(read)


def csv_pandas(times: bool) -> Callable[[], Figures]:
    import pandas as pd

    section = get_param("dataset")
    options = {"parse_dates": [section["time"]], "date_format": section["format"]} if times else {}

    def read(path: Path) -> list[np.ndarray]:
        frame = pd.read_csv(path, encoding=section["encoding"], **options)
        return [frame[name].to_numpy() for name in frame]

    return csv_contender(read)


def notebooks_generator(name: str, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The notebooks' way to a batch: float64, one list of indices after the other; train is drawn at random."""
    data, column, (first, last), (lookback, step, delay) = plain_task(name, split)
    begin = row = first + lookback
    while True:
        if split == "train":
            rows = np.random.randint(begin, last, BATCH)
        else:
            row = begin if row + BATCH >= last else row
            rows = np.arange(row, row + BATCH)
            row += BATCH
        samples, targets = np.zeros((BATCH, lookback // step, data.shape[1])), np.zeros(BATCH)
        for index, end in enumerate(rows):
            samples[index] = data[range(end - lookback, end, step)]
            targets[index] = data[end + delay][column]
        yield samples, targets


@cache
def plain_task(name: str, split: str) -> tuple[np.ndarray, int, list[int], list[int]]:
    """The normalized record (rows, columns) float64, the target's column, a split's rows; lookback, step, delay."""
    column = json.loads(Path("data/inputs", name, "meta.json").read_text())["target"]
    window = get_param("inputs", name)
    lengths = [window[key] for key in ("lookback", "step", "delay")]
    return np.load("plain.npy"), column, get_param("split", split), lengths


def pace(batches: Iterator, count: int, size: int = BATCH) -> Figures:
    """Microseconds a window over `count` batches, or bundles of them, of `size` windows together."""
    for _ in range(WARM):
        next(batches)
    began = time.perf_counter()
    for _ in range(count):
        next(batches)
    return {"us": (time.perf_counter() - began) / count / size * 1e6}


def windows_host(name: str, count: int) -> Callable[[], Figures]:
    from stages.lib.windows.input_set import load_input_set

    train, random = load_input_set(Path("data/inputs", name)).train, np.random.default_rng(1)

    def batches() -> Iterator:
        while True:
            index = random.integers(0, len(train.windows), BATCH)
            yield train.windows[index], train.targets[index]

    return lambda: pace(batches(), count)


def windows_device(name: str, count: int, jit: bool) -> Callable[[], Figures]:
    import tensorflow as tf

    from stages.lib.nn.batches import GatherWindows, make_batches
    from stages.lib.nn.fitting import sample_windows
    from stages.lib.windows.input_set import load_input_set

    inputs = load_input_set(Path("data/inputs", name))
    schedule = {"seed": 1, "batch_size": BATCH, "steps_per_epoch": (count // BUNDLE + WARM) * BUNDLE}
    gather = tf.function(GatherWindows(inputs), jit_compile=jit)

    @tf.function
    def run(iterator: Any) -> Any:
        windows = gather(next(iterator)[0])
        for _ in tf.range(BUNDLE - 1):
            windows = gather(next(iterator)[0])
        return windows

    def measure() -> Figures:
        index = sample_windows(len(inputs.train.windows), 0, schedule)
        iterator = iter(make_batches(inputs.train.windows.starts[index], inputs.train.targets[index], BATCH)["x"])
        return pace(iter(lambda: run(iterator), None), count // BUNDLE, BUNDLE * BATCH)

    return measure


def windows_generator(name: str, count: int) -> Callable[[], Figures]:
    batches = notebooks_generator(name, "train")
    return lambda: pace(batches, count)


def windows_timeseries(name: str, count: int) -> Callable[[], Figures]:
    import keras

    data, column, (first, last), (lookback, step, delay) = plain_task(name, "train")
    dataset = keras.utils.timeseries_dataset_from_array(
        data[first : last - 1].astype(np.float32),
        data[first + lookback + delay : last + delay, column].astype(np.float32),
        sequence_length=lookback // step,
        sampling_rate=step,
        batch_size=BATCH,
        shuffle=True,
    )
    return lambda: pace(iter(dataset.repeat()), count)


def windows_tfdata(name: str, count: int) -> Callable[[], Figures]:
    import tensorflow as tf

    data, column, (first, last), (lookback, step, delay) = plain_task(name, "train")
    rows, targets = tf.constant(data, tf.float32), tf.constant(data[:, column], tf.float32)
    before, ends = tf.range(-lookback, 0, step), np.arange(first + lookback, last, dtype=np.int32)
    dataset = tf.data.Dataset.from_tensor_slices(ends).shuffle(len(ends)).repeat().batch(BATCH, drop_remainder=True)
    dataset = dataset.map(
        lambda end: (tf.gather(rows, end[:, None] + before), tf.gather(targets, end + delay)), tf.data.AUTOTUNE
    ).prefetch(tf.data.AUTOTUNE)
    return lambda: pace(iter(dataset), count)


def clock() -> Any:
    """A Keras callback that notes when batches end; its `pace()` is seconds a batch from the first to the last."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict | None = None) -> None:
            self.ends: list[tuple[int, float]] = []

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            self.ends.append((batch, time.perf_counter()))

        def pace(self) -> float | None:
            (first, began), (last, ended) = self.ends[0], self.ends[-1]
            return (ended - began) / (last - first) if last > first else None

        on_test_begin, on_test_batch_end = on_train_begin, on_train_batch_end

    return Clock()


def timed(call: Callable[..., Any], size: int, windows: int, **arguments: Any) -> tuple[float, float | None]:
    """Seconds a window: in wall time, and between the ends of the first and the last batch, of fit or evaluate.

    `windows` in batches of `size`.
    """
    watch, began = clock(), time.perf_counter()
    call(**arguments, verbose=0, callbacks=[watch])
    wall, steps = time.perf_counter() - began, watch.pace()
    return wall / windows, steps and steps / size


def figures(step: tuple, window: tuple, **others: Any) -> Figures:
    """Of seconds a window in training and in validation: ms a step, us a window."""
    keys = ("step", "step_only", "window", "window_only")
    scale = (BATCH * 1e3, BATCH * 1e3, 1e6, 1e6)
    values = (*step, *window)
    return {k: v and v * s for k, v, s in zip(keys, values, scale, strict=True)} | others


def prepared(name: str) -> tuple[Any, Any, dict]:
    """A fresh model of stages/models, its inputs and its settings, as stages.train begins."""
    import keras

    from stages.lib.nn.build import build_model
    from stages.lib.settings.training import SCHEDULE, read_schedule
    from stages.lib.windows.input_set import load_input_set

    schedule = read_schedule(name)
    inputs = load_input_set(Path("data/inputs", schedule["inputs"]))
    keras.utils.set_random_seed(schedule["seed"])
    return build_model(name, inputs, {k: v for k, v in schedule.items() if k not in SCHEDULE}), inputs, schedule


def full_bundles(batches: int, windows: int, size: int) -> int:
    """How many of `windows` to take for `batches` batches, in full bundles: Keras counts a part of one as whole."""
    most = min(batches, windows // size)
    return (most // BUNDLE * BUNDLE or most) * size or windows


def steps_ours(name: str, steps: int, evaluations: int) -> Callable[[], Figures]:
    """An epoch of stages.lib.nn.fitting.fit, over `steps` steps and `evaluations` batches of validation."""
    from stages.lib.nn.batches import EVALUATION_BATCH, make_batches, wrap_with_gather
    from stages.lib.nn.fitting import sample_windows

    model, inputs, schedule = prepared(name)
    learner = wrap_with_gather(model, inputs)
    task = importlib.import_module(f"stages.lib.tasks.{schedule['task']}.training")
    task.compile_for_training(learner, model, inputs, schedule)
    learner.optimizer.build(learner.trainable_variables)
    train, val = inputs.train, inputs.val
    batch = schedule["batch_size"]
    full = schedule["steps_per_epoch"] or -(-len(train.windows) // batch)
    whole = (schedule["epochs"], full, len(val.windows), len(val.windows) + len(inputs.test.windows))

    def measure(steps: int = steps) -> Figures:
        index = sample_windows(len(train.windows), 0, schedule)
        index = index[: full_bundles(steps, len(index), batch)]
        data = make_batches(train.windows.starts[index], train.targets[index], batch)
        step = (None, None)
        if whole[0]:
            step = timed(learner.fit, batch, len(index), **data, shuffle=False)
        most = full_bundles(evaluations, len(val.windows), EVALUATION_BATCH)
        data = make_batches(val.windows.starts[:most], val.targets[:most], EVALUATION_BATCH)
        window = timed(learner.evaluate, EVALUATION_BATCH, most, **data)
        return figures(step, window, whole=whole)

    measure(2 * WARM)
    return measure


def steps_plain(name: str, steps: int, evaluations: int) -> Callable[[], Figures]:
    """Keras with its defaults on the notebooks' generator, or on arrays for reviews, as in the notebooks."""
    import keras

    model, inputs, schedule = prepared(name)
    logits = schedule.get("logits")
    loss = keras.losses.BinaryCrossentropy(from_logits=True) if logits else schedule["loss"]
    metrics = ["accuracy"] if schedule["metric"] == "accuracy" else None
    model.compile(keras.optimizers.RMSprop(schedule["learning_rate"]), loss, metrics=metrics)

    def data(split: str, count: int) -> tuple[int, dict]:
        if inputs.meta.target is not None:
            size = "steps_per_epoch" if split == "train" else "steps"
            return count * BATCH, {"x": notebooks_generator(schedule["inputs"], split), size: count}
        part = getattr(inputs, split)
        x, y = part.windows[: count * BATCH].astype(np.int32), part.targets[: count * BATCH]
        return len(x), {"x": x, "y": y, "batch_size": BATCH}

    def measure(steps: int = steps) -> Figures:
        step = (None, None)
        if schedule["epochs"]:
            windows, arguments = data("train", steps)
            step = timed(model.fit, BATCH, windows, **arguments)
        windows, arguments = data("val", evaluations)
        return figures(step, timed(model.evaluate, BATCH, windows, **arguments))

    measure(WARM)
    return measure


def steps_torch(name: str, steps: int, evaluations: int) -> Callable[[], Figures]:
    """PyTorch's nn.GRU and a linear layer of the same sizes, on our windows copied on the host."""
    import torch

    _, inputs, schedule = prepared(name)
    gru = torch.nn.GRU(inputs.shape[1], schedule["units"], batch_first=True)
    head = torch.nn.Linear(schedule["units"], 1)
    optimizer = torch.optim.RMSprop(
        [*gru.parameters(), *head.parameters()], lr=schedule["learning_rate"], alpha=0.9
    )

    def loss(split: Any, index: np.ndarray) -> Any:
        forecast = head(gru(torch.from_numpy(split.windows[index]))[1][0])[:, 0]
        return torch.nn.functional.l1_loss(forecast, torch.from_numpy(split.targets[index]))

    def train(index: np.ndarray) -> None:
        optimizer.zero_grad()
        loss(inputs.train, index).backward()
        optimizer.step()

    def measure(steps: int = steps) -> Figures:
        index = np.random.default_rng(1).integers(0, len(inputs.train.windows), (steps, BATCH))
        began = time.perf_counter()
        for batch in index:
            train(batch)
        step = (time.perf_counter() - began) / index.size
        index = np.arange(len(inputs.val.windows) // BATCH * BATCH)[: evaluations * BATCH]
        began = time.perf_counter()
        with torch.no_grad():
            for batch in index.reshape(-1, BATCH):
                loss(inputs.val, batch)
        window = (time.perf_counter() - began) / len(index)
        return figures((step, step), (window, window))

    measure(WARM)
    return measure


def peak_memory() -> float:
    """The most memory that this process has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def serve(function: str, *arguments: Any) -> None:
    """The life of a contender's process: prepare at the first line of stdin, measure at every further one."""
    answers, sys.stdout = sys.stdout, sys.stderr
    sys.stdin.readline()
    for module in IMPORTS[function.split("_")[0]]:
        importlib.import_module(module)
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].zeros(1)  # starts its threads
    before = peak_memory()
    measure = globals()[function](*arguments)
    print("{}", file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure() | {"memory": peak_memory() - before}), file=answers, flush=True)


if __name__ == "__main__":
    serve(*json.loads(sys.argv[1]))
