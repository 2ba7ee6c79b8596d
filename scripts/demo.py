"""The whole graph on the embedded sample, in `demo/`, a clone of this repository: no data, no network.

`make demo` runs this. The clone's params.yaml names the synthetic sample and a short schedule; the run is
committed there, so that `dvc metrics diff`, `dvc exp run` and the rest can be tried at once. Where demo/
exists it is only brought up to date: whatever was edited there stays.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

DEMO = Path("demo")
DVC = str(Path(sys.executable).with_name("dvc"))  # of this environment, activated or not

# Where the sample and the short schedule differ from params.yaml.
SHORT = {
    "dataset": {"source": "sample", "size": None, "sha256": None},
    "split": {"train": [0, 30000], "val": [30001, 45000], "test": [45001, None]},
    "reviews": {"source": "sample", "size": None, "sha256": None},
    "training": {"max_epochs": 2},
    "tasks": {"forecast": {"steps_per_epoch": 50}},
}


def update(path: Path, changes: dict) -> None:
    """Merge `changes` into the YAML file `path`; comments and order stay."""

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
    yaml.preserve_quotes = True
    yaml.representer.add_representer(
        type(None), lambda dump, _: dump.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    content = yaml.load(path)
    merge(content, changes)
    yaml.dump(content, path)


def git(*arguments: str) -> str:
    """Run git in the clone, with an identity in case the user has set none; return what it prints."""
    identity = ["-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(DEMO), *identity, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def clone() -> None:
    """Make demo/, whole or not at all."""
    temporary = Path("demo.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ".", str(temporary)], check=True)
    update(temporary / "params.yaml", SHORT)
    temporary.rename(DEMO)
    git("commit", "--quiet", "--all", "--message", "The embedded sample and a short schedule")


def main() -> None:
    if not DEMO.exists():
        clone()
    elif git("rev-parse", "--show-toplevel") != str(DEMO.resolve()):
        sys.exit("error: demo/ is not a clone of this repository; move it away")
    elif subprocess.run(
        ["git", "-C", "demo", "merge-base", "--is-ancestor", head(), "HEAD"], capture_output=True
    ).returncode:
        print("demo/ is of an older commit; to have it made anew: rm -rf demo && make demo\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    if code := subprocess.run([DVC, "repro"], cwd=DEMO, env=environment).returncode:
        sys.exit(code)
    git("add", "dvc.lock", "metrics")
    if git("status", "--porcelain", "dvc.lock", "metrics"):
        git("commit", "--quiet", "--message", "Results on the sample", "--", "dvc.lock", "metrics")
    print("\n" + (DEMO / "metrics/leaderboard.md").read_text())
    print(NEXT)


def head() -> str:
    """The commit that this repository is at."""
    return subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


NEXT = """All of this is in demo/, a repository of its own; its pictures are in demo/data/report/. Try, there:

  cd demo && export PATH=$PWD/../.venv/bin:$PATH
  dvc repro                                               # nothing has changed: nothing runs
  dvc exp run -S inputs.half_hourly.lookback=720          # reruns that input set and the models that use it
  dvc metrics diff                                        # beside the committed run
  dvc exp show --only-changed"""

if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ndemo: interrupted; `make demo` goes on from here")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(error.cmd)} failed")
