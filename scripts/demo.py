"""Run the whole of dvc.yaml on the embedded sample in `demo/`, a clone of this repository, without any download.

`make demo` runs this script. The clone's params.yaml selects the synthetic sample and a short schedule. The results
are committed there, so that you can try `dvc metrics diff`, `dvc exp run` and other commands at once. If demo/
exists, the script only runs what is out of date and keeps your edits.
"""

import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

DEMO = Path("demo")
LATEST_ROWS = 100 * 24 * 6  # of the sample, one every ten minutes, for intervals of the last 90 days
ROWS_AFTER = 60 * 6  # that the sample goes on, since its weather model's last forecasts are for them
DVC = str(Path(sys.executable).with_name("dvc"))  # of this environment, whether it is activated or not

# The changes to params.yaml: the sample as the source, with a neighbour and a weather model, and a short schedule.
SAMPLE = {"size": None, "sha256": None}
LAYOUT = {"time": "Date Time", "format": "%d.%m.%Y %H:%M:%S", "target": "T (degC)"}
STATION = {"task": "station", "inputs": "mos"}
NETWORK = {"architecture": "station_mlp", "task": "station", "epochs": 10, "units": 64, "bins": 6, "curves": 16} | {
    "noise": 0.3,
    "dropout": 0.3,
}
SETTINGS: dict[str, Any] = {
    "records": {
        "jena": {"source": "sample"} | SAMPLE,
        "upwind": {"source": "sample upwind"} | SAMPLE | LAYOUT,
        "weather_model": {"source": "sample forecast", "issued": "issued"} | SAMPLE | LAYOUT,
    },
    "clock": {
        "region": {"record": "jena", "neighbours": ["upwind"], "every": 1, "lookback": 72, "leads": 48},
        "mos": {"record": "jena", "neighbours": ["upwind"], "ahead": ["weather_model"]}
        | {"every": 1, "lookback": 72, "leads": 48},
    },
    "models": {
        "region_mlp": NETWORK | {"inputs": "region"},
        "mos_mlp": NETWORK | {"inputs": "mos"},
        "mos_ridge": {"architecture": "ridge", "epochs": 0} | STATION,
        "direct_model_output": {"architecture": "direct_model_output", "epochs": 0} | STATION,
    },
    "split": {"train": [0, 30000], "val": [30001, 38000], "test": [45001, None]},
    "periods": {"train": "2009-01-01", "val": "2009-10-01", "test": "2009-12-01", "end": None},
    "reviews": {"source": "sample", "size": None, "sha256": None},
    "training": {"max_epochs": 2},
    "tasks": {"forecast": {"steps_per_epoch": 50}, "station": {"max_epochs": None, "members": 2}},
    "backtest": {"models": ["persistence", "ridge"], "folds": ["2009-12-01", "2010-01-01"], "months": 1, "val": 2},
}


def merge_yaml(path: Path, changes: dict) -> None:
    """Merge `changes` into the YAML file `path` and keep its comments, order and layout."""

    def merge(target: dict, source: dict) -> None:
        for key, value in source.items():
            if isinstance(value, dict) and isinstance(target.get(key), dict):
                merge(target[key], value)
            elif isinstance(value, list) and isinstance(target.get(key), list):
                target[key].clear()
                target[key].extend(value)  # in place, which keeps the list on one line
            else:
                target[key] = value

    yaml = YAML()
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    yaml.representer.add_representer(
        type(None), lambda dump, _: dump.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    content = yaml.load(path)
    merge(content, changes)
    yaml.dump(content, path)


def git(*arguments: str, directory: Path = DEMO) -> str:
    """Run git in `directory` and return its output.

    The identity is given here because the user may not have configured one.
    """
    identity = ["-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def make_demo() -> None:
    """Create demo/. It appears only when it is complete."""
    temporary = Path("demo.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    git("clone", "--quiet", ".", str(temporary), directory=Path())
    merge_yaml(temporary / "params.yaml", SETTINGS)
    git("commit", "--quiet", "--all", "--message", "The embedded sample and a short schedule", directory=temporary)
    temporary.rename(DEMO)


def predict_sample() -> int:
    """Run `./run predict` on 100 days of the sample and the files of its neighbours; return the exit code."""
    folder = DEMO / "data/forecast"
    samples = {name: Path(f"data/records/{name}/raw/sample.csv") for name in SETTINGS["records"]}
    if not all((DEMO / path).is_file() for path in samples.values()):  # the user has set other sources
        return 0
    folder.mkdir(exist_ok=True)
    header, *rows = (DEMO / samples.pop("jena")).read_text(encoding="utf-8").splitlines()
    rows = rows[-LATEST_ROWS - ROWS_AFTER : -ROWS_AFTER]
    (folder / "last_100_days.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    # The sample is years old, so `predict` needs the time of its last full hour as the present.
    last_hour = next(row.split(",")[0] for row in reversed(rows) if ":00:00," in row)
    origin = datetime.strptime(last_hour, "%d.%m.%Y %H:%M:%S").isoformat()
    others = [f"{name}={path}" for name, path in samples.items()]
    command = ["./run", "predict", "data/forecast/last_100_days.csv", *others, "--at", origin]
    if code := subprocess.run(command, cwd=DEMO).returncode:
        return code
    print("\nThis forecast as a page: demo/data/forecast/forecast.html")
    return 0


def main() -> None:
    if not DEMO.exists():
        make_demo()
    elif git("rev-parse", "--show-toplevel") != str(DEMO.resolve()):
        sys.exit("error: demo/: expected a clone of this repository, found something else; move it away")
    elif git("rev-parse", "HEAD", directory=Path()) not in git("rev-list", "HEAD").split():
        print("demo/ is a clone of another commit; to make it anew: rm -rf demo && make demo\n")
    # The first run executes two stages at a time: these trainings are mostly start-up, which uses one core.
    is_first_run = not (DEMO / "dvc.lock").exists()
    commands = [[sys.executable, "scripts/repro.py"]] if is_first_run else [["./run", "check"], [DVC, "repro"]]
    for command in commands:
        if code := subprocess.run(command, cwd=DEMO).returncode:
            sys.exit(code)
    if not git("ls-files", "dvc.lock"):
        git("add", "dvc.lock", "metrics")
        git("commit", "--quiet", "--message", "Results on the sample")
    leaderboards = [(DEMO / f"metrics/{task}.md").read_text() for task in ("forecast", "reviews", "station")]
    print("\n" + "\n".join(leaderboards))
    if code := predict_sample():
        sys.exit(code)
    print(NEXT_STEPS)


NEXT_STEPS = """
The results are in demo/, a separate repository; demo/data/report/index.html shows all figures. Things to try there:

  cd demo && export PATH=$PWD/../.venv/bin:$PATH
  dvc repro                                               # runs nothing, since nothing has changed
  dvc exp run -S inputs.half_hourly.lookback=720          # reruns this input set and the model that uses it
  dvc metrics diff                                        # compares with the committed run
  dvc exp show --only-changed"""

if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ndemo: interrupted; `make demo` continues from here")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(error.cmd)} failed")
