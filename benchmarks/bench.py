"""Ours next to the alternatives, on this machine: `make bench`. README.md says what each section means.

Every contender is a process of its own that waits for its turn, so that they measure A B C A B C ... under
the same load; the tables hold medians. Ours gets the environment that ./run gives a stage, the others none.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
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

from benchmarks.contenders import WARM, Figures
from scripts.demo import DVC, SETTINGS, merge_yaml
from stages.lib.errors import UserError
from stages.lib.params import get_param
from stages.lib.weather.record import read_record

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = ("csv", "windows", "training", "rerun", "estimate")
RECURRENT = ("gru", "gru_dropout", "reversed_gru", "bidirectional_gru", "stacked_gru", "conv1d_gru")
# Steps in a round: some seconds, for Keras' wait at the end of a pass grows with its length (README.md).
STEPS = {"naive": 300, "dense": 300, "conv1d": 150, "imdb_conv1d": 150, "bidirectional_gru": 30, "stacked_gru": 30}
STEPS |= {"imdb_reversed_lstm": 20, "imdb_bidirectional_lstm": 20}
STEP_GOALS = {"gru": 2.5, "gru_dropout": 2.5, "reversed_gru": 2.5, "bidirectional_gru": 2, "stacked_gru": 2}
STEP_GOALS |= {"conv1d": 1.5, "conv1d_gru": 1.5, "dense": 5}


# --- Processes ----------------------------------------------------------------------------------------------


def environment(ours: bool = False, threads: int = 0) -> dict[str, str]:
    """The environment of a process: as ./run sets it for ours, as `training.threads` where they are given."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "TF_", "OMP_", "GLIBC_"))
    }
    kept |= {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if ours:
        kept["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    if threads:
        kept |= dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), str(threads))
    return kept


def start(folder: Path, contender: tuple, threads: int = 0) -> subprocess.Popen:
    """Start a contender, (name of its function, arguments...); it prepares when first asked."""
    ours = contender[0].endswith(("_ours", "_host", "_device"))
    with (folder / "stderr.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", json.dumps(contender)],
            **{"cwd": folder, "env": environment(ours, threads), "text": True, "stderr": log},
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE},
        )


def send(process: subprocess.Popen) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


def answer(process: subprocess.Popen, folder: Path) -> Figures:
    """The answer to what was sent; ends the run where the process has died."""
    line = process.stdout.readline()
    if not line:
        tail = (folder / "stderr.txt").read_text(errors="replace")[-2000:]
        raise UserError(f"a contender ended with code {process.wait()}:\n{tail}")
    return json.loads(line)


def medians(rounds: list[Figures]) -> Figures:
    """The median of every figure over the rounds; what is no number, or missing in one, as in the last."""
    return {
        key: statistics.median(entry[key] for entry in rounds)
        if all(isinstance(entry[key], int | float) for entry in rounds)
        else value
        for key, value in rounds[-1].items()
    }


def compete(folder: Path, contenders: dict[str, tuple], rounds: int, threads: int = 0) -> dict[str, Figures]:
    """Medians of each contender's figures over `rounds` turns; `start` is its seconds from start to ready.

    With `threads` given, all run at once with so many threads each, instead of in turn.
    """
    say("   " + ", ".join(contenders))
    processes, ready, found = {}, {}, {label: [] for label in contenders}
    try:
        for label, contender in contenders.items():
            began = time.perf_counter()
            processes[label] = start(folder, contender, threads)
            send(processes[label])
            answer(processes[label], folder)
            ready[label] = time.perf_counter() - began
        for _ in range(rounds):
            for group in [list(processes)] if threads else [[label] for label in processes]:
                for label in group:
                    send(processes[label])
                for label in group:
                    found[label].append(answer(processes[label], folder))
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return {label: medians(values) | {"start": ready[label]} for label, values in found.items()}


# --- The record ---------------------------------------------------------------------------------------------


def local(section: str) -> list[str] | str:
    """The files of data/raw/SECTION of the working copy, or `sample` where there are none but generated ones."""
    note = ROOT / "data/raw" / section / "source.json"
    source = json.loads(note.read_text()) if note.exists() else {"synthetic": True}
    return "sample" if source["synthetic"] else [str(note.with_name(file["name"])) for file in source["files"]]


def prepare(folder: Path, source: Path | None) -> str:
    """Run the stages up to `inputs` and `tokens` in `folder`, on its own params.yaml; return the record's name."""
    shutil.copy(ROOT / "params.yaml", folder)
    record, reviews = [str(source.resolve())] if source else local("dataset"), local("reviews")
    changes = {"dataset": {"source": record, "size": None, "sha256": None}, "reviews": {"source": reviews}}
    if reviews == "sample":
        changes["reviews"] |= {"size": None, "sha256": None}
    merge_yaml(folder / "params.yaml", changes)

    def run(*command: str) -> None:
        say("   " + " ".join(command[1:]))
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env=environment(), capture_output=True, text=True
        )
        if done.returncode:
            raise UserError(done.stderr.strip().removeprefix("error: "))

    for stage in ("download dataset", "download reviews", "parse"):
        run("-m", "stages.lib.command", *stage.split())
    if json.loads((folder / "data/quality.json").read_text())["rows"] <= get_param("split", "test")[0]:
        merge_yaml(folder / "params.yaml", {"split": SETTINGS["split"]})
    stages = [
        "normalize",
        *(f"inputs {key}" for key in get_param("inputs")),
        *(f"tokens {key}" for key in get_param("tokens")),
    ]
    for stage in stages:
        run("-m", "stages.lib.command", *stage.split())
    run("-c", "from benchmarks.bench import write_plain; write_plain()")
    return "the synthetic sample" if record == "sample" else ", ".join(Path(path).name for path in record)


def write_plain() -> None:
    """The normalized record as the notebooks hold it, (rows, columns) float64, in file order: plain.npy."""
    columns = json.loads(Path("data/normalization.json").read_text())["columns"]
    record = read_record()
    np.save(
        "plain.npy", np.column_stack([(record[name] - how["mean"]) / how["std"] for name, how in columns.items()])
    )


# --- Sections -----------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


def table(header: str, rows: list[list[Any]]) -> str:
    """A Markdown table; `header` has its names between bars, floats get three figures, None a dash."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return "-" if value is None else str(value)

    names = header.split("|")
    ruler = ["---"] + ["---:"] * (len(names) - 1)
    lines = [names, ruler, *[[cell(value) for value in row] for row in rows]]
    return "\n".join("| " + " | ".join(name.strip() for name in line) + " |" for line in lines)


def over(theirs: float | None, ours: float | None) -> float | None:
    return theirs / ours if theirs and ours else None


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f}x"


def section_csv(folder: Path, rounds: int) -> str:
    ways = {"ours: times too, all checked": ("csv_ours",)}
    ways |= {"split, float()": ("csv_notebooks",), "pandas.read_csv": ("csv_pandas", False)}
    ways["pandas.read_csv, times too"] = ("csv_pandas", True)
    found = compete(folder, ways, rounds)
    ours = next(iter(found.values()))["seconds"]
    rows = [[way, f["seconds"], times(f["seconds"] / ours), f["memory"]] for way, f in found.items()]
    return table("way | s | times ours | peak MB", rows)


def section_windows(folder: Path, rounds: int, shrink: int, goals: list) -> str:
    many, few, rows = 4000 // shrink, 200 // shrink, []
    for name in get_param("inputs"):
        ways = {
            "ours, on the device, XLA": ("windows_device", name, many, True),
            "ours, on the device": ("windows_device", name, many, False),
            "ours, on the host": ("windows_host", name, many),
            "notebooks' generator": ("windows_generator", name, few),
            "timeseries_dataset_from_array": ("windows_timeseries", name, few),
            "tf.data, tf.gather": ("windows_tfdata", name, few),
        }
        found = compete(folder, ways, rounds)
        device = max(found[way]["us"] for way in list(ways)[:2])  # the slower one
        for way, f in found.items():
            rows.append([name, way, 1e6 / f["us"], f["us"], times(f["us"] / device), f["memory"], None, None])
        paths = list((folder / "data/inputs" / name).iterdir())
        size = sum(path.stat().st_size for path in paths)
        rows.append([name, "ours, stored", *[None] * 4, size / 1e6, dvc_add(folder, folder / "data/inputs" / name)])
        counts = [len(np.load(path)) for path in paths if path.stem in ("train", "val", "test")]
        written = sum(counts) * window_bytes(folder, name)
        rows.append([name, "every window written out (computed)", *[None] * 4, written / 1e6, None])
        for where, ours in (("device", device), ("host", found["ours, on the host"]["us"])):
            for way, least in (("notebooks' generator", 40), ("timeseries_dataset_from_array", 60)):
                goals.append((f"windows, {name}, on the {where}, to {way}", least, found[way]["us"] / ours, None))
    return table("inputs | way | windows/s | us/window | times ours | peak MB | MB on disk | s in dvc add", rows)


def window_bytes(folder: Path, name: str) -> int:
    """The size of one window in float32."""
    meta = json.loads((folder / "data/inputs" / name / "meta.json").read_text())
    return meta["time"] * len(meta["columns"]) * 4


def dvc_add(folder: Path, path: Path) -> float:
    """Median seconds of `dvc add` for a copy of `path`, over three fresh repositories."""
    taken = []
    variables = environment() | {"DVC_SITE_CACHE_DIR": str(folder / "site"), "DVC_NO_ANALYTICS": "1"}
    for _ in range(3):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            for command in (["git", "init", "-q"], [DVC, "init", "-q"]):
                subprocess.run(command, cwd=name, env=variables, check=True)
            (shutil.copytree if path.is_dir() else shutil.copy)(path, Path(name, "data"))
            began = time.perf_counter()
            subprocess.run([DVC, "add", "-q", "data"], cwd=name, env=variables, check=True)
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def steps_ours(name: str, shrink: int) -> tuple[str, str, int, int]:
    """The contender that trains and validates `name` our way: its function, name, steps, batches of validation."""
    steps = max(STEPS.get(name, 60) // shrink, 2 * WARM)
    return "steps_ours", name, steps, 2 * WARM if steps < 300 else 6 * WARM


def epoch_seconds(whole: tuple, f: Figures, key: str = "") -> tuple[float, float]:
    """Seconds that an epoch trains, and validates, of the `whole` schedule, by the figures `f`."""
    _, steps, validated, _ = whole
    step, window = (f[part + key] or f[part] or 0 for part in ("step", "window"))
    return steps * step / 1e3, validated * window / 1e6


def section_training(
    folder: Path, names: list[str], rounds: int, shrink: int, goals: list
) -> tuple[str, dict[str, dict[str, Figures]]]:
    """The table, and the figures of `ours` and `plain` for every model."""
    found, rows = {}, []
    for name in names:
        contender = steps_ours(name, shrink)
        steps = contender[2]
        ways = {f"{name}, ours": contender, f"{name}, plain": ("steps_plain", name, steps, steps // 2)}
        if name == "gru" and importlib.util.find_spec("torch"):
            ways["gru, PyTorch"] = ("steps_torch", name, steps, steps)
        ours, plain, *others = compete(folder, ways, rounds).values()
        found[name] = {"ours": ours, "plain": plain}
        keys = ("step", "step_only", "window", "window_only")
        for label, other in [(name, plain), *((f"{name}, PyTorch for plain", torch) for torch in others)]:
            pairs = [(ours[key], other[key], times(over(other[key], ours[key]))) for key in keys]
            rows.append([label, *pairs[0], *pairs[1], *pairs[2], *pairs[3]])
        step, step_only, window, window_only = (over(plain[key], ours[key]) for key in keys)
        if name in STEP_GOALS:
            goals.append((f"training step, {name}", STEP_GOALS[name], step, step_only))
        if name in RECURRENT:
            goals.append((f"validation window, {name}", 3, window, window_only))
        if ours["whole"][0]:
            training, validation = epoch_seconds(ours["whole"], ours)
            goals.append((f"epoch over its validation, {name}", 3, (training + validation) / validation, None))
    parts = ("step, ms", "step alone, ms", "window, us", "window alone, us")
    header = "model | " + " | ".join(f"{part}: ours | plain | ratio" for part in parts)
    return table(header, rows), found


def section_rerun(folder: Path, rounds: int) -> str:
    """Seconds of `dvc repro` in a copy of demo/, in all and outside of training."""
    if not (ROOT / "demo/dvc.lock").exists():
        return "Skipped: there is no completed demo/; `make demo` first."
    demo, log = folder / "demo", folder / "log.txt"
    wrapper = demo / ".venv/bin/python"  # which ./run takes
    shutil.copytree(ROOT / "demo", demo, symlinks=True, ignore=shutil.ignore_patterns(".venv"))
    wrapper.parent.mkdir(parents=True)
    code = (
        "import subprocess, sys, time; began = time.perf_counter(); "
        "code = subprocess.call([sys.executable, *sys.argv[2:]]); "
        "open(sys.argv[1], 'a').write(f'{sys.argv[4]} {time.perf_counter() - began}\\n'); sys.exit(code)"
    )
    wrapper.write_text(f"#!/bin/sh\nexec '{sys.executable}' -S -c \"{code}\" '{log}' \"$@\"\n")
    wrapper.chmod(0o755)
    variables = {key: value for key, value in environment().items() if not key.startswith(("PYTHONPATH", "KERAS"))}
    variables["DVC_SITE_CACHE_DIR"] = str(folder / "site")

    def repro(what: str, changes: dict) -> list:
        say(f"   dvc repro, {what}")
        merge_yaml(demo / "params.yaml", changes)
        log.write_text("")
        began = time.perf_counter()
        done = subprocess.run([DVC, "repro", "-q", "--no-run-cache"], cwd=demo, env=variables, capture_output=True)
        if done.returncode:
            raise UserError(f"dvc repro in a copy of demo/ failed: {done.stderr.decode()[-1000:]}")
        total = time.perf_counter() - began
        stages = [line.split() for line in log.read_text().splitlines()]
        training = sum(float(seconds) for stage, seconds in stages if stage == "train")
        return [what, len(stages), total, training, total - training]

    repro("brought up to date", {})
    unchanged = [repro("nothing changed", {}) for _ in range(rounds)]
    dense, half_hourly = {"models": {"dense": {"units": 37}}}, {"inputs": {"half_hourly": {"lookback": 1260}}}
    rows = [sorted(unchanged, key=lambda row: row[2])[rounds // 2], repro("dense.units", dense)]
    rows.append(repro("half_hourly.lookback", half_hourly))
    return table("changed | stages run | s in all | s in training | s outside training", rows)


def schedule(whole: tuple, f: Figures, key: str = "") -> float:
    """Minutes of a model from start to metrics, of its `whole` schedule and its figures in wall time or `_only`."""
    epochs, evaluated, window = whole[0], whole[3], f["window" + key] or f["window"] or 0
    return (f["start"] + epochs * sum(epoch_seconds(whole, f, key)) + evaluated * window / 1e6) / 60


def section_estimate(folder: Path, found: dict[str, dict[str, Figures]], shrink: int, goals: list) -> str:
    """Minutes of the whole schedule in both ways, from the figures of `section_training`.

    Ours also with two jobs: from each forecasting model's figures with two of it at once, `training.threads` each.
    """
    threads = get_param("training", "threads")
    minutes, rows = {}, []
    forecasts = [model for model in found if get_param("models", model, "task") == "forecast"]
    for model, ways in found.items():
        for way, f in ways.items():
            for key in ("", "_only"):
                minutes[model, way + key] = schedule(ways["ours"]["whole"], f, key)
        if model in forecasts:
            pair = {f"{model}, {i} of two": steps_ours(model, shrink) for i in (1, 2)}
            both = compete(folder, pair, 1, threads).values()
            minutes[model, "paired"] = statistics.mean(schedule(ways["ours"]["whole"], f) for f in both)

    def row(what: str, models: list[str], paired: float | None) -> list:
        ours, plain, ours_only, plain_only = (
            sum(minutes[model, way] for model in models) for way in ("ours", "plain", "ours_only", "plain_only")
        )
        only = (ours_only, plain_only, times(over(plain_only, ours_only)))
        return [what, ours, plain, times(over(plain, ours)), *only, paired]

    def two_jobs(models: list[str]) -> float:
        ends = [0.0, 0.0]
        for longest in sorted((minutes[model, "paired"] for model in models), reverse=True):
            ends[ends.index(min(ends))] += longest
        return max(ends)

    for model in found:
        rows.append(row(model, [model], minutes.get((model, "paired"))))
    rows.append(row("the forecasts", forecasts, two_jobs(forecasts)))
    rows.append(row("all", list(found), None))
    if len(forecasts) > 1:
        goals.append(("the forecasts, 75 minutes to two jobs", 1, 75 / two_jobs(forecasts), None))
    recurrent = [model for model in found if model in RECURRENT]
    if len(recurrent) > 1:
        serial = sum(minutes[model, "ours"] for model in recurrent)
        goals.append(("recurrent models, two jobs to one", 1.5, serial / two_jobs(recurrent), None))
    header = "model | min: ours | plain | ratio | alone, min: ours | plain | ratio | two jobs, min: ours"
    note = f"Two jobs: {threads} thread(s) each; each model twice at once, then the time to both ends."
    return table(header, rows) + f"\n\n{note}"


def section_goals(goals: list[tuple]) -> str:
    """The project's targets; met where the ratio of wall times is reached. The steps alone are shown too."""
    rows = []
    for what, least, ratio, alone in goals:
        verdicts = ["-" if value is None else "met" if value >= least else "not met" for value in (ratio, alone)]
        rows.append([what, f"{least}x", times(ratio), verdicts[0], times(alone), verdicts[1]])
    return table("target | at least | measured | | steps alone |", rows)


def machine() -> str:
    """The machine in one line, without its name."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    elif sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        model = subprocess.run(command, capture_output=True, text=True).stdout.strip() or model
    system = f"{platform.system()} {platform.release()}"
    if Path("/etc/os-release").exists():
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    packages = [f"{name} {importlib.metadata.version(name)}" for name in ("keras", "tensorflow", "numpy", "dvc")]
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return ", ".join(
        [model, f"{os.cpu_count()} cores", load, system, f"Python {platform.python_version()}", *packages]
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, help="CSV(.zip) of the record (default: data/raw, else the sample)")
    parser.add_argument("--only", default="", help=f"sections, comma-separated: {','.join(SECTIONS)}")
    parser.add_argument("--models", default="", help="models, comma-separated (default: all of params.yaml)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (default: 3)")
    parser.add_argument("--quick", action="store_true", help="a try: one round, a tenth of the work, dense and gru")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results.md, for a complete run only")
    chosen = parser.parse_args()
    chosen.only = chosen.only.split(",") if chosen.only else list(SECTIONS)
    if unknown := set(chosen.only) - set(SECTIONS):
        parser.error(f"--only: no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    known = [name for name, model in get_param("models").items() if model["task"] != "station"]
    complete = chosen.only == list(SECTIONS) and not chosen.models and not chosen.quick
    chosen.models = chosen.models.split(",") if chosen.models else ["dense", "gru"] if chosen.quick else known
    if unknown := set(chosen.models) - set(known):
        parser.error(f"--models: no model {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if chosen.source and not chosen.source.is_file():
        parser.error(f"--source: {chosen.source} is not a file")
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    chosen.output = chosen.output or (ROOT / "benchmarks/results.md" if complete else None)
    return chosen


def bench(chosen: argparse.Namespace, folder: Path) -> str:
    """Run the sections in `folder`; return the text of results.md."""
    began, head = time.perf_counter(), machine()
    rounds, shrink = (1, 10) if chosen.quick else (chosen.rounds, 1)
    say("record")
    goals: list[tuple] = []
    parts = [f"# Measured {date.today()}\n\n{head}.\n\nRecord: {prepare(folder, chosen.source)}."]

    def add(title: str, text: str) -> None:
        say(f"\n{text}\n")
        parts.append(f"## {title}\n\n{text}")

    sections = {
        "csv": ("CSV to arrays", lambda: section_csv(folder, rounds)),
        "windows": ("Windows, batches of 128", lambda: section_windows(folder, rounds, shrink, goals)),
        "rerun": ("A rerun, of demo/", lambda: section_rerun(folder, rounds)),
    }
    for name in SECTIONS:
        if name not in chosen.only or (name == "estimate" and "training" in chosen.only):
            continue
        if name in sections:
            say(name)
            add(sections[name][0], sections[name][1]())
            continue
        say("training")
        text, found = section_training(folder, chosen.models, rounds, shrink, goals)
        add("A training step and a validation window", text)
        if "estimate" in chosen.only:
            say("estimate")
            add("The whole experiment, estimated", section_estimate(folder, found, shrink, goals))
    if goals:
        add("Targets", section_goals(goals))
    minutes, note = (time.perf_counter() - began) / 60, " with --quick: a try" if chosen.quick else ""
    parts.append(f"The run took {minutes:.0f} minutes, {rounds} round(s){note}.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    os.chdir(ROOT)
    chosen = arguments()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        text = bench(chosen, Path(folder))
    if chosen.output:
        chosen.output.write_text(text, encoding="utf-8")
        say(f"written: {chosen.output}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nbench: interrupted")
