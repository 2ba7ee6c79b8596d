"""Check that a changed input set reruns only `check`, its own stage, its models, their reports and the index.

The check runs in demo/ and derives the expected stages from demo/params.yaml, so that it survives changes of models
and input sets.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from demo import DEMO, DVC, git, merge_yaml


def choose_input_set(params: dict[str, Any]) -> tuple[str, set[str]]:
    """Return the input set with the fewest models, but at least one if possible, and the stages that it reruns."""
    tasks = {  # of the models of each input set
        name: {model: entry["task"] for model, entry in params["models"].items() if entry["inputs"] == name}
        for name in params["inputs"]
    }
    inputs = min(tasks, key=lambda name: (not tasks[name], len(tasks[name])))
    stages = {"check", f"inputs@{inputs}", *(f"report_{task}" for task in tasks[inputs].values())}
    stages |= {"index"} if tasks[inputs] else set()
    return inputs, stages | {f"{stage}@{model}" for model in tasks[inputs] for stage in ("train", "evaluate")}


def main() -> None:
    path = DEMO / "params.yaml"
    git("checkout", "--quiet", "--", "params.yaml")
    params = YAML(typ="safe").load(path)
    name, expected = choose_input_set(params)
    window = params["inputs"][name]
    merge_yaml(path, {"inputs": {name: {"lookback": window["lookback"] + window["step"]}}})
    try:
        run = subprocess.run([DVC, "repro"], cwd=DEMO, stdout=subprocess.PIPE, text=True)
        print(run.stdout)
        if run.returncode:
            sys.exit(f"error: dvc repro failed after a longer lookback for inputs.{name}")
        rerun_stages = set(re.findall(r"^Running stage '(.*)':$", run.stdout, re.MULTILINE))
        if rerun_stages != expected:
            sys.exit(
                f"error: a longer lookback for inputs.{name}: expected the stages {sorted(expected)}, found "
                f"{sorted(rerun_stages)}"
            )
        subprocess.run([DVC, "metrics", "diff"], cwd=DEMO, check=True)
    finally:
        git("checkout", "--quiet", "--", "params.yaml", "dvc.lock", "metrics")
        # dvc.yaml only, because the folds of the backtest may not have run yet and are then in no cache.
        subprocess.run([DVC, "checkout", "--quiet", "dvc.yaml"], cwd=DEMO, check=True)
    print(f"selective rerun: a longer lookback for inputs.{name} ran {len(rerun_stages)} stages, as expected")


if __name__ == "__main__":
    main()
