"""All of dvc.yaml on the embedded sample, in `demo/`, a clone of this repository: no data, no network.

`make demo` runs this. The clone's params.yaml asks for the synthetic sample and a short schedule, and the run is
committed there, so that `dvc metrics diff`, `dvc exp run` and the rest can be tried at once. If demo/ already
exists, it is only brought up to date; edits made there are kept.
"""

import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from ruamel.yaml import YAML

DEMO = Path("demo")
FORTNIGHT = 14 * 24 * 6  # rows of ten minutes
DVC = str(Path(sys.executable).with_name("dvc"))  # this environment's, activated or not

# Where the sample and the short schedule differ from params.yaml.
SHORT = {
    "dataset": {"source": "sample", "size": None, "sha256": None},
    "split": {"train": [0, 30000], "val": [30001, 38000], "test": [45001, None]},
    "periods": {"train": "2009-01-01", "val": "2009-10-01", "test": "2009-12-01", "end": None},
    "reviews": {"source": "sample", "size": None, "sha256": None},
    "training": {"max_epochs": 2},
    "tasks": {"forecast": {"steps_per_epoch": 50}, "station": {"max_epochs": None, "members": 2}},
    "backtest": {"models": ["persistence", "ridge"], "folds": ["2009-12-01", "2010-01-01"], "months": 1, "val": 2},
}


def merge_yaml(path: Path, changes: dict) -> None:
    """Merge `changes` into the YAML file `path`, keeping its comments and order."""

    def merge(target: dict, source: dict) -> None:
        for key, value in source.items():
            if isinstance(value, dict) and isinstance(target.get(key), dict):
                merge(target[key], value)
            elif isinstance(value, list) and isinstance(target.get(key), list):
                target[key].clear()
                target[key].extend(value)  # in place: keeps the list on its line
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


def git(*arguments: str, where: Path = DEMO) -> str:
    """Run git in `where` under an identity of its own, as the user may have set none; return what it prints."""
    identity = ["-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(where), *identity, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def make_demo() -> None:
    """Make demo/, complete or not at all."""
    temporary = Path("demo.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    git("clone", "--quiet", ".", str(temporary), where=Path())
    merge_yaml(temporary / "params.yaml", SHORT)
    git("commit", "--quiet", "--all", "--message", "The embedded sample and a short schedule", where=temporary)
    temporary.rename(DEMO)


def predict_sample() -> int:
    """Forecast from the sample's last two weeks, as the owner of a station would; return the exit code."""
    folder, sample = DEMO / "data/forecast", DEMO / "data/raw/dataset/sample.csv"
    if not sample.is_file():  # demo/params.yaml names another record by now
        return 0
    folder.mkdir(exist_ok=True)
    header, *rows = sample.read_text(encoding="utf-8").splitlines()
    rows = rows[-FORTNIGHT:]
    (folder / "last_two_weeks.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    # The sample ends years ago: the time of its last full hour, which no newer file would need.
    time = next(row.split(",")[0] for row in reversed(rows) if ":00:00," in row)
    at = datetime.strptime(time, "%d.%m.%Y %H:%M:%S").isoformat()
    command = ["./run", "predict", "data/forecast/last_two_weeks.csv", "--at", at]
    if code := subprocess.run(command, cwd=DEMO).returncode:
        return code
    print("\nThe page of this forecast is demo/data/forecast/forecast.html.")
    return 0


def main() -> None:
    if not DEMO.exists():
        make_demo()
    elif git("rev-parse", "--show-toplevel") != str(DEMO.resolve()):
        sys.exit("error: demo/: expected a clone of this repository, found something else; move it away")
    elif git("rev-parse", "HEAD", where=Path()) not in git("rev-list", "HEAD").split():
        print("demo/ is a clone of another commit; for a fresh one: rm -rf demo && make demo\n")
    if code := subprocess.run(["./run", "check"], cwd=DEMO).returncode:
        sys.exit(code)
    # The first time, two stages at once: most of such a short training is start-up, which uses one core.
    command = [DVC, "repro"] if (DEMO / "dvc.lock").exists() else [sys.executable, "scripts/repro.py"]
    if code := subprocess.run(command, cwd=DEMO).returncode:
        sys.exit(code)
    if not git("ls-files", "dvc.lock"):
        git("add", "dvc.lock", "metrics")
        git("commit", "--quiet", "--message", "Results on the sample")
    boards = [(DEMO / f"metrics/{task}.md").read_text() for task in ("forecast", "reviews", "station")]
    print("\n" + "\n".join(boards))
    if code := predict_sample():
        sys.exit(code)
    print(NEXT)


NEXT = """
All of this is in demo/, a repository of its own; all figures are in demo/data/report/index.html. Try this there:

  cd demo && export PATH=$PWD/../.venv/bin:$PATH
  dvc repro                                               # nothing has changed: nothing runs
  dvc exp run -S inputs.half_hourly.lookback=720          # reruns that input set and the model that uses it
  dvc metrics diff                                        # against the committed run
  dvc exp show --only-changed"""

if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ndemo: interrupted; `make demo` continues from here")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(error.cmd)} failed")
