"""The contenders of benchmarks/bench.py: each function prepares one and returns a function that measures a round.

Run as `python -m benchmarks.contenders '["FUNCTION", ARGUMENT...]'` in a folder that the stages have filled;
`serve` describes the protocol.
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

BATCH, WARM_UP = 128, 10  # windows in a batch, batches before the clock starts
BUNDLE = 10  # steps per execution, as in stages.train
# Modules to import before the memory of a contender is measured, by the first word of its name.
IMPORTS = {
    "csv": ("pandas", "stages.parse"),
    "windows": ("tensorflow", "stages.train"),
    "steps": ("tensorflow", "stages.train"),
}
Figures = dict[str, Any]


def measure_csv(read: Callable[[Path], Any]) -> Callable[[], Figures]:
    """Measure `read` on the unpacked files of the record."""
    from stages.lib.weather.archives import read_packed_csv

    paths, raw = [], Path("data/records/jena/raw")
    for file in json.loads((raw / "source.json").read_text())["files"]:
        paths.append(Path("csv", f"{Path(file['name']).stem}.csv"))
        if not paths[-1].exists():
            paths[-1].parent.mkdir(exist_ok=True)
            paths[-1].write_bytes(read_packed_csv(raw / file["name"])[1])

    def measure() -> Figures:
        start = time.perf_counter()
        arrays = [read(path) for path in paths]  # all in memory at once
        return {"seconds": time.perf_counter() - start, "files": len(arrays)}

    return measure


def csv_ours() -> Callable[[], Figures]:
    from stages.lib.settings.base import read_settings
    from stages.lib.settings.records import Record
    from stages.lib.weather.csv_files import read_csv_files
    from stages.lib.weather.record import to_numpy

    settings = read_settings(Record, "records", "jena")
    return measure_csv(lambda path: [to_numpy(column) for column in read_csv_files([path], settings).columns])


def csv_notebooks() -> Callable[[], Figures]:
    encoding = get_param("records", "jena", "encoding")

    def read(path: Path) -> np.ndarray:
        header, *lines = path.read_text(encoding).strip().split("\n")
        values = np.zeros((len(lines), header.count(",")))
        for index, line in enumerate(lines):
            values[index] = [float(field) for field in line.split(",")[1:]]
        return values

    return measure_csv(read)


def csv_pandas(times: bool) -> Callable[[], Figures]:
    import pandas as pd

    settings = get_param("records", "jena")
    options = {"parse_dates": [settings["time"]], "date_format": settings["format"]} if times else {}

    def read(path: Path) -> list[np.ndarray]:
        frame = pd.read_csv(path, encoding=settings["encoding"], **options)
        return [frame[name].to_numpy() for name in frame]

    return measure_csv(read)


def notebooks_generator(name: str, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches as the notebooks do: float64, one window after the other, at random positions for `train`."""
    data, column, (first, last), (lookback, step, delay) = read_plain_task(name, split)
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
def read_plain_task(name: str, split: str) -> tuple[np.ndarray, int, list[int], list[int]]:
    """Return the normalized record (rows, columns) float64, the target's column, the rows of `split`, and lengths.

    The lengths are lookback, step and delay in rows.
    """
    column = json.loads(Path("data/inputs", name, "meta.json").read_text())["target"]
    window = get_param("inputs", name)
    lengths = [window[key] for key in ("lookback", "step", "delay")]
    return np.load("plain.npy"), column, get_param("split", split), lengths


def time_batches(batches: Iterator, count: int, size: int = BATCH) -> Figures:
    """Return the microseconds per window over `count` items of `batches`, each of `size` windows."""
    for _ in range(WARM_UP):
        next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return {"us": (time.perf_counter() - start) / count / size * 1e6}


def windows_host(name: str, count: int) -> Callable[[], Figures]:
    from stages.lib.windows.input_set import load_input_set

    train, random = load_input_set(Path("data/inputs", name)).train, np.random.default_rng(1)

    def batches() -> Iterator:
        while True:
            index = random.integers(0, len(train.windows), BATCH)
            yield train.windows[index], train.targets[index]

    return lambda: time_batches(batches(), count)


def windows_device(name: str, count: int, jit: bool) -> Callable[[], Figures]:
    import tensorflow as tf

    from stages.lib.nn.batches import GatherWindows, make_batches
    from stages.lib.nn.fitting import sample_windows
    from stages.lib.windows.input_set import load_input_set

    inputs = load_input_set(Path("data/inputs", name))
    schedule = {"seed": 1, "batch_size": BATCH, "steps_per_epoch": (count // BUNDLE + WARM_UP) * BUNDLE}
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
        return time_batches(iter(lambda: run(iterator), None), count // BUNDLE, BUNDLE * BATCH)

    return measure


def windows_generator(name: str, count: int) -> Callable[[], Figures]:
    batches = notebooks_generator(name, "train")
    return lambda: time_batches(batches, count)


def windows_timeseries(name: str, count: int) -> Callable[[], Figures]:
    import keras

    data, column, (first, last), (lookback, step, delay) = read_plain_task(name, "train")
    dataset = keras.utils.timeseries_dataset_from_array(
        data[first : last - 1].astype(np.float32),
        data[first + lookback + delay : last + delay, column].astype(np.float32),
        sequence_length=lookback // step,
        sampling_rate=step,
        batch_size=BATCH,
        shuffle=True,
    )
    return lambda: time_batches(iter(dataset.repeat()), count)


def windows_tfdata(name: str, count: int) -> Callable[[], Figures]:
    import tensorflow as tf

    data, column, (first, last), (lookback, step, delay) = read_plain_task(name, "train")
    rows, targets = tf.constant(data, tf.float32), tf.constant(data[:, column], tf.float32)
    before, ends = tf.range(-lookback, 0, step), np.arange(first + lookback, last, dtype=np.int32)
    dataset = tf.data.Dataset.from_tensor_slices(ends).shuffle(len(ends)).repeat().batch(BATCH, drop_remainder=True)
    dataset = dataset.map(
        lambda end: (tf.gather(rows, end[:, None] + before), tf.gather(targets, end + delay)), tf.data.AUTOTUNE
    ).prefetch(tf.data.AUTOTUNE)
    return lambda: time_batches(iter(dataset), count)


def time_windows(call: Callable[..., Any], size: int, windows: int, **arguments: Any) -> list[float | None]:
    """Return the seconds per window of Keras' fit or evaluate over `windows` windows in batches of `size`.

    The first figure is wall time; the second is from the end of the first batch to that of the last, None if Keras
    reports a single end.
    """
    import keras

    ends: list[tuple[int, float]] = []

    def note_end(batch: int, logs: dict | None = None) -> None:
        ends.append((batch, time.perf_counter()))

    callback = keras.callbacks.Callback()
    callback.on_train_batch_end = callback.on_test_batch_end = note_end
    start = time.perf_counter()
    call(**arguments, verbose=0, callbacks=[callback])
    wall = time.perf_counter() - start
    (first, first_end), (last, last_end) = ends[0], ends[-1]
    return [wall / windows, (last_end - first_end) / (last - first) / size if last > first else None]


def make_figures(step: list, window: list) -> Figures:
    """Convert seconds per window in training and in validation to ms per step and us per window."""
    return {
        **{key: value and value * BATCH * 1e3 for key, value in zip(("step", "step_only"), step, strict=True)},
        **{key: value and value * 1e6 for key, value in zip(("window", "window_only"), window, strict=True)},
    }


def build_contender(name: str) -> tuple[Any, Any, dict]:
    """Return a new model of stages/models, its inputs and its settings, as in stages.train."""
    import keras

    from stages.lib.nn.build import build_model
    from stages.lib.settings.training import SCHEDULE, read_schedule
    from stages.lib.windows.input_set import load_input_set

    schedule = read_schedule(name)
    inputs = load_input_set(Path("data/inputs", schedule["inputs"]))
    keras.utils.set_random_seed(schedule["seed"])
    return (
        build_model(
            name, schedule["architecture"], inputs, {k: v for k, v in schedule.items() if k not in SCHEDULE}
        ),
        inputs,
        schedule,
    )


def count_windows(batches: int, windows: int, batch_size: int) -> int:
    """Return how many of `windows` make up to `batches` batches in full bundles, since Keras counts bundles."""
    batches = min(batches, windows // batch_size)
    return (batches // BUNDLE * BUNDLE or batches) * batch_size or windows


def steps_ours(name: str, steps: int, evaluations: int) -> Callable[[], Figures]:
    """Train and validate as stages.lib.nn.fitting does, for `steps` steps and `evaluations` validation batches."""
    from stages.lib.nn.batches import EVALUATION_BATCH, make_batches, wrap_with_gather
    from stages.lib.nn.fitting import sample_windows

    model, inputs, schedule = build_contender(name)
    learner = wrap_with_gather(model, inputs)
    task = importlib.import_module(f"stages.lib.tasks.{schedule['task']}.training")
    task.compile_for_training(learner, model, inputs, schedule)
    learner.optimizer.build(learner.trainable_variables)
    train, val = inputs.train, inputs.val
    batch_size = schedule["batch_size"]

    def measure(steps: int = steps) -> Figures:
        index = sample_windows(len(train.windows), 0, schedule)
        index = index[: count_windows(steps, len(index), batch_size)]
        data = make_batches(train.windows.starts[index], train.targets[index], batch_size)
        step: list[float | None] = [None, None]
        if schedule["epochs"]:
            step = time_windows(learner.fit, batch_size, len(index), **data, shuffle=False)
        count = count_windows(evaluations, len(val.windows), EVALUATION_BATCH)
        data = make_batches(val.windows.starts[:count], val.targets[:count], EVALUATION_BATCH)
        return make_figures(step, time_windows(learner.evaluate, EVALUATION_BATCH, count, **data))

    measure(2 * WARM_UP)
    return measure


def steps_plain(name: str, steps: int, evaluations: int) -> Callable[[], Figures]:
    """Train and validate with Keras' defaults on the notebooks' generator, or on arrays for reviews."""
    import keras

    model, inputs, schedule = build_contender(name)
    logits = schedule.get("logits")
    loss = keras.losses.BinaryCrossentropy(from_logits=True) if logits else schedule["loss"]
    metrics = ["accuracy"] if schedule["metric"] == "accuracy" else None
    model.compile(keras.optimizers.RMSprop(schedule["learning_rate"]), loss, metrics=metrics)

    def make_data(split: str, count: int) -> tuple[int, dict]:
        if inputs.meta.target is not None:
            steps_key = "steps_per_epoch" if split == "train" else "steps"
            return count * BATCH, {"x": notebooks_generator(schedule["inputs"], split), steps_key: count}
        data = getattr(inputs, split)
        x, y = data.windows[: count * BATCH].astype(np.int32), data.targets[: count * BATCH]
        return len(x), {"x": x, "y": y, "batch_size": BATCH}

    def measure(steps: int = steps) -> Figures:
        step: list[float | None] = [None, None]
        if schedule["epochs"]:
            windows, arguments = make_data("train", steps)
            step = time_windows(model.fit, BATCH, windows, **arguments)
        windows, arguments = make_data("val", evaluations)
        return make_figures(step, time_windows(model.evaluate, BATCH, windows, **arguments))

    measure(WARM_UP)
    return measure


def get_peak_memory() -> float:
    """Return the peak memory of this process in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def serve(function: str, *arguments: Any) -> None:
    """Serve a contender: prepare it at the first line of stdin, and measure a round at each further line."""
    output, sys.stdout = sys.stdout, sys.stderr
    sys.stdin.readline()
    for module in IMPORTS[function.split("_")[0]]:
        importlib.import_module(module)
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].zeros(1)  # starts its threads
    import_memory = get_peak_memory()
    measure = globals()[function](*arguments)
    print("{}", file=output, flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure() | {"memory": get_peak_memory() - import_memory}), file=output, flush=True)


if __name__ == "__main__":
    serve(*json.loads(sys.argv[1]))
