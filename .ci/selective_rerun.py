"""What a changed input set reruns in demo/: `check`, itself, its models, their reports and the index, no more.

What must rerun is worked out from the demo's own params.yaml, so editing models or input sets does not break this.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from demo import DEMO, DVC, git, merge_yaml


def choose(params: dict[str, Any]) -> tuple[str, set[str]]:
    """Return the input set used by the fewest models, at least one if any is used, and the stages it reruns."""
    users = {
        name: {model: line["task"] for model, line in params["models"].items() if line["inputs"] == name}
        for name in params["inputs"]
    }
    chosen = min(users, key=lambda name: (not users[name], len(users[name])))
    stages = {"check", f"inputs@{chosen}", *(f"report_{task}" for task in users[chosen].values())}
    stages |= {"index"} if users[chosen] else set()
    return chosen, stages | {f"{stage}@{model}" for model in users[chosen] for stage in ("train", "evaluate")}


def main() -> None:
    path = DEMO / "params.yaml"
    git("checkout", "--quiet", "--", "params.yaml")
    params = YAML(typ="safe").load(path)
    name, expected = choose(params)
    window = params["inputs"][name]
    merge_yaml(path, {"inputs": {name: {"lookback": window["lookback"] + window["step"]}}})
    try:
        run = subprocess.run([DVC, "repro"], cwd=DEMO, stdout=subprocess.PIPE, text=True)
        print(run.stdout)
        if run.returncode:
            sys.exit(f"error: dvc repro failed after a longer lookback for inputs.{name}")
        ran = set(re.findall(r"^Running stage '(.*)':$", run.stdout, re.MULTILINE))
        if ran != expected:
            sys.exit(f"error: a longer lookback for inputs.{name}: expected {sorted(expected)}, ran {sorted(ran)}")
        subprocess.run([DVC, "metrics", "diff"], cwd=DEMO, check=True)
    finally:
        git("checkout", "--quiet", "--", "params.yaml", "dvc.lock", "metrics")
        # Of the graph alone: the rolling test's folds are in no cache until they have been asked for.
        subprocess.run([DVC, "checkout", "--quiet", "dvc.yaml"], cwd=DEMO, check=True)
    print(f"selective rerun: a longer lookback for inputs.{name} ran {len(ran)} stages, as expected")


if __name__ == "__main__":
    main()
