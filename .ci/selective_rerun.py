"""Check that a change of params.yaml reruns only `check` and the stages that depend on it.

A changed input set reruns its own stage, its models, their reports and the index. A record that is added or changed
reruns its own stages; if the cleaned records differ, also `clock`, which depends on all of them, but no training.
The check runs in demo/ and derives the expected stages from demo/params.yaml, so that it survives changes of models
and input sets.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from demo import DEMO, DVC, git, merge_yaml

PARAMS = DEMO / "params.yaml"
SECOND = "second"  # the record that is added


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


def compare_rerun_stages(change: str, settings: dict[str, Any], expected: set[str]) -> None:
    """Merge `settings` into demo/params.yaml and run `dvc repro`; exit unless it runs the stages `expected`."""
    merge_yaml(PARAMS, settings)
    run = subprocess.run([DVC, "repro"], cwd=DEMO, stdout=subprocess.PIPE, text=True)
    print(run.stdout)
    if run.returncode:
        sys.exit(f"error: dvc repro failed after {change}")
    stages = set(re.findall(r"^Running stage '(.*)':$", run.stdout, re.MULTILINE))
    if stages != expected:
        sys.exit(f"error: {change}: expected the stages {sorted(expected)}, found {sorted(stages)}")
    print(f"selective rerun: {change} ran {len(stages)} stages, as expected")


def restore_demo() -> None:
    """Restore the committed settings and results of demo/."""
    git("checkout", "--quiet", "--", "params.yaml", "dvc.lock", "metrics")
    shutil.rmtree(DEMO / "data/records" / SECOND, ignore_errors=True)
    for path in (DEMO / "data/clean").glob(f"{SECOND}.*"):
        path.unlink()
    # dvc.yaml only, because the folds of the backtest may not have run yet and are then in no cache.
    subprocess.run([DVC, "checkout", "--quiet", "dvc.yaml"], cwd=DEMO, check=True)


def main() -> None:
    git("checkout", "--quiet", "--", "params.yaml")
    params = YAML(typ="safe").load(PARAMS)
    record = params["records"]["jena"] | {"source": "sample", "size": None, "sha256": None}
    record_stages = {"check", f"parse@{SECOND}", f"clean@{SECOND}"}
    name, expected = choose_input_set(params)
    window = params["inputs"][name]
    longer = {"inputs": {name: {"lookback": window["lookback"] + window["step"]}}}
    try:
        added = {"records": {SECOND: record}}
        clock_stages = {f"clock@{name}" for name in params["clock"]}
        compare_rerun_stages("another record", added, record_stages | clock_stages | {f"download@{SECOND}"})
        sentinels = {"records": {SECOND: {"sentinels": [*record["sentinels"], -8888]}}}
        compare_rerun_stages(f"another sentinel of records.{SECOND}", sentinels, record_stages)
        restore_demo()
        compare_rerun_stages(f"a longer lookback for inputs.{name}", longer, expected)
        subprocess.run([DVC, "metrics", "diff"], cwd=DEMO, check=True)
    finally:
        restore_demo()


if __name__ == "__main__":
    main()
