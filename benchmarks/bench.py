"""Compare this project with the alternatives on this machine: `make bench`. README.md explains each section.

Each contender runs in its own process and waits for its turn, so that they measure A B C A B C ... under the same
load; the tables hold medians. Only our contenders get the environment that ./run gives a stage.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.contenders import WARM_UP, Figures
from scripts.demo import DVC, SETTINGS, merge_yaml
from stages.lib.errors import UserError
from stages.lib.params import get_param
from stages.lib.reports.leaderboard import format_markdown
from stages.lib.weather.record import read_record

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = ("csv", "windows", "training", "rerun")
# Steps in a round, which takes some seconds: Keras' wait at the end of a pass grows with its length (README.md).
STEPS = {"naive": 300, "dense": 300, "conv1d": 150, "imdb_conv1d": 150, "bidirectional_gru": 30, "stacked_gru": 30}
STEPS |= {"imdb_reversed_lstm": 20, "imdb_bidirectional_lstm": 20}


def make_environment(is_ours: bool = False) -> dict[str, str]:
    """Return the environment of a process; with `is_ours`, that of ./run."""
    prefixes = ("GIT_", "TF_", "OMP_", "GLIBC_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}
    environment |= {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return environment | ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} if is_ours else {})


def start_contender(folder: Path, contender: tuple) -> subprocess.Popen:
    """Start the process of a contender, (function, argument, ...), which waits for its first request."""
    is_ours = contender[0].endswith(("_ours", "_host", "_device"))
    with (folder / "stderr.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", json.dumps(contender)],
            **{"cwd": folder, "env": make_environment(is_ours), "text": True, "stderr": log},
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE},
        )


def request_figures(process: subprocess.Popen, folder: Path) -> Figures:
    """Ask a contender for its next figures; raises UserError if its process has ended."""
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        tail = (folder / "stderr.txt").read_text(errors="replace")[-2000:]
        raise UserError(f"a contender ended with code {process.wait()}:\n{tail}")
    return json.loads(line)


def compute_medians(rounds: list[Figures]) -> Figures:
    """Return the median of each figure over the rounds, or None if a round lacks it."""
    return {
        key: statistics.median(figures[key] for figures in rounds)
        if all(figures[key] is not None for figures in rounds)
        else None
        for key in rounds[-1]
    }


def measure_contenders(folder: Path, contenders: dict[str, tuple], rounds: int) -> dict[str, Figures]:
    """Return the median figures of each contender over `rounds` turns."""
    print("   " + ", ".join(contenders), flush=True)
    processes: dict[str, subprocess.Popen] = {}
    figures: dict[str, list[Figures]] = {name: [] for name in contenders}
    try:
        for name, contender in contenders.items():
            processes[name] = start_contender(folder, contender)
            request_figures(processes[name], folder)  # the first answer says that it is ready
        for _ in range(rounds):
            for name, process in processes.items():
                figures[name].append(request_figures(process, folder))
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return {name: compute_medians(values) for name, values in figures.items()}


def find_source(folder: str) -> list[str] | str:
    """Return the downloaded files in `folder`, or `sample` if there are none."""
    note = ROOT / folder / "source.json"
    source = json.loads(note.read_text()) if note.exists() else {"synthetic": True}
    return "sample" if source["synthetic"] else [str(note.with_name(file["name"])) for file in source["files"]]


def prepare_inputs(folder: Path, source: Path | None) -> str:
    """Run the stages up to `inputs` and `tokens` in `folder`; return the name of the record."""
    shutil.copy(ROOT / "params.yaml", folder)
    record, reviews = (
        [str(source.resolve())] if source else find_source("data/records/jena/raw"),
        find_source("data/raw/reviews"),
    )
    jena = {"source": record, "size": None, "sha256": None}
    changes: dict[str, Any] = {"records": {"jena": jena}, "reviews": {"source": reviews}}
    if reviews == "sample":
        changes["reviews"] |= {"size": None, "sha256": None}
    merge_yaml(folder / "params.yaml", changes)

    def run(*command: str) -> None:
        process = subprocess.run(
            [sys.executable, *command], cwd=folder, env=make_environment(), capture_output=True, text=True
        )
        if process.returncode:
            raise UserError(process.stderr.strip().removeprefix("error: "))

    for stage in ("download jena", "download reviews", "parse jena"):
        run("-m", "stages.lib.command", *stage.split())
    if json.loads((folder / "data/records/jena/quality.json").read_text())["rows"] <= get_param("split", "test")[0]:
        merge_yaml(folder / "params.yaml", {"split": SETTINGS["split"]})
    run("-m", "stages.lib.command", "normalize")
    for stage in ("inputs", "tokens"):
        for name in get_param(stage):
            run("-m", "stages.lib.command", stage, name)
    run("-c", "from benchmarks.bench import write_plain_record; write_plain_record()")
    return "the synthetic sample" if record == "sample" else ", ".join(Path(path).name for path in record)


def write_plain_record() -> None:
    """Write the normalized record as the notebooks hold it, (rows, columns) float64 in file order, to plain.npy."""
    columns = json.loads(Path("data/normalization.json").read_text())["columns"]
    record = read_record("jena")
    np.save(
        "plain.npy",
        np.column_stack([(record[name] - stats["mean"]) / stats["std"] for name, stats in columns.items()]),
    )


def format_table(header: str, rows: list[list[Any]]) -> str:
    """Return a Markdown table; `header` has the headings between bars. Floats get three digits, None a dash."""

    def format_cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return "-" if value is None else str(value)

    cells = [[format_cell(value) for value in row] for row in rows]
    return format_markdown(pd.DataFrame(cells, columns=[heading.strip() for heading in header.split("|")]))


def format_ratio(theirs: float | None, ours: float | None) -> str:
    return f"{theirs / ours:.1f}x" if theirs and ours else "-"


def compare_csv(folder: Path, rounds: int) -> str:
    """Compare the ways to read the CSV files."""
    contenders = {"ours: times too, all checked": ("csv_ours",), "split, float()": ("csv_notebooks",)}
    contenders |= {"pandas.read_csv": ("csv_pandas", False), "pandas.read_csv, times too": ("csv_pandas", True)}
    figures = measure_contenders(folder, contenders, rounds)
    ours = next(iter(figures.values()))["seconds"]
    rows = [[way, f["seconds"], format_ratio(f["seconds"], ours), f["memory"]] for way, f in figures.items()]
    return format_table("way | s | times ours | peak MB", rows)


def compare_windows(folder: Path, rounds: int, divisor: int) -> str:
    """Compare the ways to make batches of windows, and the bytes on disk with those of all windows written out."""
    many, few, rows = 4000 // divisor, 200 // divisor, []
    for name in get_param("inputs"):
        contenders = {
            "ours, on the device, XLA": ("windows_device", name, many, True),
            "ours, on the device": ("windows_device", name, many, False),
            "ours, on the host": ("windows_host", name, many),
            "notebooks' generator": ("windows_generator", name, few),
            "timeseries_dataset_from_array": ("windows_timeseries", name, few),
            "tf.data, tf.gather": ("windows_tfdata", name, few),
        }
        figures = measure_contenders(folder, contenders, rounds)
        ours = max(figures[way]["us"] for way in list(contenders)[:2])  # the slower one
        for way, f in figures.items():
            rows.append([name, way, 1e6 / f["us"], f["us"], format_ratio(f["us"], ours), f["memory"], None])
        paths = list((folder / "data/inputs" / name).iterdir())
        meta = json.loads((folder / "data/inputs" / name / "meta.json").read_text())
        windows = sum(len(np.load(path)) for path in paths if path.stem in ("train", "val", "test"))
        size = windows * meta["time"] * len(meta["columns"]) * 4  # bytes in float32
        stored = sum(path.stat().st_size for path in paths)
        rows.append([name, "ours, stored", *[None] * 4, stored / 1e6])
        rows.append([name, "every window written out (computed)", *[None] * 4, size / 1e6])
    return format_table("inputs | way | windows/s | us/window | times ours | peak MB | MB on disk", rows)


def compare_training(folder: Path, names: list[str], rounds: int, divisor: int) -> str:
    """Compare the training step and the validation window of each model with those of plain Keras."""
    rows, keys = [], ("step", "step_only", "window", "window_only")
    for name in names:
        steps = max(STEPS.get(name, 60) // divisor, 2 * WARM_UP)
        batches = 2 * WARM_UP if steps < 300 else 6 * WARM_UP  # of validation
        contenders = {
            name: ("steps_ours", name, steps, batches),
            f"{name}, plain": ("steps_plain", name, steps, steps // 2),
        }
        ours, plain = measure_contenders(folder, contenders, rounds).values()
        cells = [(ours[key], plain[key], format_ratio(plain[key], ours[key])) for key in keys]
        rows.append([name, *(value for triple in cells for value in triple)])
    headings = ("step, ms", "step alone, ms", "window, us", "window alone, us")
    return format_table("model | " + " | ".join(f"{h}: ours | {h}: plain | {h}: ratio" for h in headings), rows)


def measure_reruns(folder: Path, rounds: int) -> str:
    """Measure `dvc repro` in a copy of demo/: with nothing changed, with another model, with another input set."""
    if not (ROOT / "demo/dvc.lock").exists():
        return "Skipped: there is no complete demo/; run `make demo` first."
    demo = folder / "demo"
    shutil.copytree(ROOT / "demo", demo, symlinks=True, ignore=shutil.ignore_patterns(".venv"))
    (demo / ".venv").symlink_to(sys.prefix)  # where ./run expects its environment
    environment = {k: v for k, v in make_environment().items() if not k.startswith(("PYTHONPATH", "KERAS"))}
    environment["DVC_SITE_CACHE_DIR"] = str(folder / "site")

    def repro(change: str, settings: dict) -> list:
        print(f"   dvc repro, {change}", flush=True)
        merge_yaml(demo / "params.yaml", settings)
        start = time.perf_counter()
        process = subprocess.run(
            [DVC, "repro", "--no-run-cache"], cwd=demo, env=environment, capture_output=True, text=True
        )
        if process.returncode:
            raise UserError(f"dvc repro in a copy of demo/ failed: {process.stderr[-1000:]}")
        stages = re.findall("^Running stage ", process.stdout, re.MULTILINE)
        return [change, len(stages), time.perf_counter() - start]

    repro("nothing changed", {})  # brings the copy up to date
    unchanged = sorted((repro("nothing changed", {}) for _ in range(rounds)), key=lambda row: row[2])
    rows = [unchanged[rounds // 2], repro("dense.units", {"models": {"dense": {"units": 37}}})]
    rows.append(repro("half_hourly.lookback", {"inputs": {"half_hourly": {"lookback": 1260}}}))
    return format_table("changed | stages run | s", rows)


def describe_system() -> str:
    """Return the processor, the load, the system and the versions in one line."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor
        )
    packages = [f"{name} {importlib.metadata.version(name)}" for name in ("keras", "tensorflow", "numpy", "dvc")]
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return ", ".join([processor, f"{os.cpu_count()} cores", load, system, *packages])


def parse_arguments() -> argparse.Namespace:
    models = [name for name, model in get_param("models").items() if model["task"] != "station"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--source", type=Path, help="CSV(.zip) of the record (default: that of data/, or the sample)"
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections to run")
    parser.add_argument("--models", nargs="+", choices=models, help="models to train (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of the work, only dense and gru")
    parser.add_argument("--output", type=Path, help="file to write (default: results.md here, for a complete run)")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds: expected a whole number from 1, found {arguments.rounds}")
    if arguments.source and not arguments.source.is_file():
        parser.error(f"--source: {arguments.source} is not a file")
    if arguments.only == SECTIONS and not arguments.models and not arguments.quick:
        arguments.output = arguments.output or ROOT / "benchmarks/results.md"
    arguments.models = arguments.models or (["dense", "gru"] if arguments.quick else models)
    return arguments


def bench(arguments: argparse.Namespace, folder: Path) -> str:
    """Run the sections in `folder`; return the text of results.md."""
    start, system = time.perf_counter(), describe_system()
    rounds, divisor = (1, 10) if arguments.quick else (arguments.rounds, 1)
    texts = [f"# Measured {date.today()}\n\n{system}.\n\nRecord: {prepare_inputs(folder, arguments.source)}."]
    sections = {
        "csv": ("CSV to arrays", lambda: compare_csv(folder, rounds)),
        "windows": ("Windows, batches of 128", lambda: compare_windows(folder, rounds, divisor)),
        "training": (
            "A training step and a validation window",
            lambda: compare_training(folder, arguments.models, rounds, divisor),
        ),
        "rerun": ("A rerun, of demo/", lambda: measure_reruns(folder, rounds)),
    }
    for name, (title, measure) in sections.items():
        if name in arguments.only:
            print(title, flush=True)
            texts.append(f"## {title}\n\n{measure()}")
            print(f"\n{texts[-1]}\n", flush=True)
    texts.append(f"The run took {(time.perf_counter() - start) / 60:.0f} minutes, {rounds} round(s).")
    return "\n\n".join(texts) + "\n"


def main() -> None:
    os.chdir(ROOT)
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        text = bench(arguments, Path(folder))
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
        print(f"written: {arguments.output}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nbench: interrupted")
