"""Measure how the time of the commands grows with the number of stations: a project of COUNT synthetic records.

    python -m benchmarks.many_stations COUNT [--jobs 2] [--folder many]

Each station has a record of the embedded sample, an input set, and three models: two references and a small
network. The project is made in a new folder, a clone of this repository's last commit, and remains there. The
output is a Markdown table of seconds. Only the first run trains; the commands after it have nothing to do.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from scripts.demo import LAYOUT, SAMPLE, SETTINGS
from stages.lib.reports.leaderboard import format_markdown

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "persistence": {"epochs": 0},
    "ridge": {"epochs": 0},
    "station_mlp": {"epochs": 2, "units": 16, "bins": 6, "curves": 4, "noise": 0.3, "dropout": 0.3},
}


def set_params(path: Path, count: int) -> None:
    """Write `count` stations and their models to the params.yaml at `path`, in place of those that it has."""
    yaml = YAML()
    params = yaml.load(path)
    stations = [f"station_{number:02}" for number in range(1, count + 1)]
    params["records"] = {name: {"source": "sample"} | SAMPLE | LAYOUT for name in stations}
    params["clock"] = {name: {"record": name, "every": 1, "lookback": 72, "leads": 48} for name in stations}
    params["models"] = {name: model for name, model in params["models"].items() if model["task"] != "station"} | {
        f"{station}_{architecture}": {"architecture": architecture, "task": "station", "inputs": station} | options
        for station in stations
        for architecture, options in ARCHITECTURES.items()
    }
    params["split"] |= SETTINGS["split"] | {"record": stations[0]}
    params["periods"] = SETTINGS["periods"]
    params["tasks"]["station"]["members"] = 1
    params["backtest"] |= {"inputs": stations[0], "models": [f"{stations[0]}_persistence", f"{stations[0]}_ridge"]}
    yaml.dump(params, path)


def time_command(folder: Path, *command: str) -> float:
    """Run `command` in `folder` and return its seconds; its output goes to log.txt there. Exits where it fails."""
    start = time.perf_counter()
    with (folder / "log.txt").open("a") as log:
        code = subprocess.run(command, cwd=folder, stdout=log, stderr=log).returncode
    if code:
        sys.exit(f"error: {' '.join(command)} failed; see {folder / 'log.txt'}")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="number of stations")
    parser.add_argument("--jobs", default="2", help="stages to run at a time (default: 2)")
    parser.add_argument("--folder", type=Path, default=Path("many"), help="new folder (default: many)")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if folder.exists():
        parser.error(f"--folder: expected a new one, found {folder}")
    subprocess.run(["git", "clone", "--quiet", ".", folder], check=True)
    (folder / ".venv").symlink_to(sys.prefix)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    set_params(folder / "params.yaml", arguments.count)
    repro = [sys.executable, "scripts/repro.py", "station", "--jobs", arguments.jobs]
    seconds = {
        "./run check": time_command(folder, "./run", "check"),
        f"make repro TASK=station JOBS={arguments.jobs}": time_command(folder, *repro),
        "the same again": time_command(folder, *repro),
        "dvc repro report_station, again": time_command(folder, "dvc", "repro", "report_station"),
        "dvc status": time_command(folder, "dvc", "status"),
    }
    rows = {"command": list(seconds), f"{arguments.count} stations": [f"{value:.1f}" for value in seconds.values()]}
    print(format_markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
