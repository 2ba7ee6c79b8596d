"""DVC over the whole graph, in a clone with tiny models: what runs after which edit, and what a killed run leaves.

DVC is called by its path, without its environment being activated: the stages must find their Python by themselves.
"""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
DVC = str(Path(PYTHON).with_name("dvc"))
LIMIT = 900  # seconds that no command here may need

# The whole sample, but hours instead of days to look back and models of a few weights.
PARAMS = {
    "records": {
        "jena": {
            "source": "sample",
            "size": None,
            "sha256": None,
            "time": "Date Time",
            "format": "%d.%m.%Y %H:%M:%S",
            "encoding": "utf-8",
            "target": "T (degC)",
            "sentinels": [-9999],
            "separator": ",",
            "rename": {},
            "leave_out": [],
            "missing": [],
            "wind": None,
        },
    },
    "split": {"record": "jena", "train": [0, 6000], "val": [6001, 9000], "test": [9001, 12000], "val_batch": 128},
    "inputs": {
        "hourly": {"lookback": 144, "step": 6, "delay": 24},
        "half_hourly": {"lookback": 144, "step": 3, "delay": 24},
    },
    "clean": {"max_gap": 3, "checks": {"wind": {"columns": ["wv (m/s)"], "limits": [0, 75]}}},
    "periods": {"train": "2009-01-01", "val": "2009-06-01", "test": "2009-09-01", "end": None},
    "clock": {"station": {"record": "jena", "every": 1, "lookback": 24, "leads": 24}},
    "reviews": {"source": "sample", "size": None, "sha256": None, "vocabulary": 88584},
    "tokens": {"reviews": {"words": 1000, "length": 50, "reverse": False, "val": 0.2}},
    "training": {"batch_size": 128, "learning_rate": 0.001, "max_epochs": 1, "seed": 1, "threads": 1},
    "tasks": {
        "forecast": {"loss": "mae", "metric": "mae", "monitor": "val_loss", "steps_per_epoch": 3},
        "reviews": {"loss": "binary_crossentropy", "metric": "accuracy", "monitor": "val_accuracy"},
        "station": {"loss": "pinball", "metric": "pinball", "monitor": "val_loss"},
    },
    "models": {
        "dense": {"architecture": "dense", "task": "forecast", "inputs": "hourly", "epochs": 1, "units": 4},
        "imdb_conv1d": {
            **{"architecture": "imdb_conv1d", "task": "reviews", "inputs": "reviews", "epochs": 1},
            **{"logits": True, "embedding": 2, "filters": 2, "kernel": 3, "pool": 5},
        },
        "persistence": {"architecture": "persistence", "task": "station", "inputs": "station", "epochs": 0},
        "ridge": {"architecture": "ridge", "task": "station", "inputs": "station", "epochs": 0},
    },
    "backtest": {
        "inputs": "station",
        "models": ["persistence", "ridge"],
        "folds": ["2009-09-01", "2009-10-01", "2009-12-01"],
        **{"months": 1, "val": 1, "train": None, "seeds": [1]},
    },
}

DENSE = {"train@dense", "evaluate@dense"}
FORECAST = {"download@jena", "parse@jena", "normalize", "inputs@hourly", *DENSE, "report_forecast"}
REVIEWS = {"download_reviews", "tokens@reviews", "train@imdb_conv1d", "evaluate@imdb_conv1d", "report_reviews"}
REPORTS = {"report_forecast", "report_reviews", "report_station", "index"}

# Edits, and the stages that each of them reaches directly, without `check`, which every edit reaches.
REACHED = [
    ({"training": {"batch_size": 64}}, {"train", "evaluate"}),
    ({"tasks": {"forecast": {"steps_per_epoch": 4}}}, DENSE),
    ({"split": {"test": [9001, 11000]}}, {"normalize", "inputs", "report_forecast"}),
    (
        {"records": {"jena": {"target": "p (mbar)"}}},
        {"parse", "normalize", "inputs", "clean", "report_forecast"},
    ),
    ({"reviews": {"vocabulary": 90000}}, {"tokens"}),
    ({"tokens": {"reviews": {"length": 40}}}, {"tokens"}),
    ({"inputs": {"half_hourly": {"lookback": 72}}}, {"inputs@half_hourly", "report_forecast"}),
    ({"clean": {"max_gap": 2}}, {"clean", "clock"}),
]


def merge(target: dict, changes: dict) -> dict:
    """`target` with `changes`, mapping by mapping."""
    inner = {k: merge(target[k], v) for k, v in changes.items() if isinstance(v, dict) and k in target}
    return target | changes | inner


class Clone:
    """A copy of the working tree, committed, with params.yaml and a home of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0")
        for name in names:
            result = name.startswith(("dvc.lock", "metrics/")) and not name.endswith(".gitkeep")
            if (ROOT / name).is_file() and not result:
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, path / name)
        (path / ".venv").symlink_to(sys.prefix)
        home = path.with_name(f"{path.name}-home")
        home.mkdir()
        self.environment = {
            "PATH": f"{Path(shutil.which('git')).parent}:/usr/bin:/bin",
            "HOME": str(home),
            "DVC_SITE_CACHE_DIR": str(home / "site"),
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        (path / "params.yaml").write_text(json.dumps(PARAMS))
        self.run("git", "init", "--quiet")
        self.run("git", "config", "user.name", "test")
        self.run("git", "config", "user.email", "test@localhost")
        self.commit()

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "state")

    def edit(self, changes: dict) -> None:
        content = YAML(typ="safe").load(self.path / "params.yaml")
        (self.path / "params.yaml").write_text(json.dumps(merge(content, changes)))

    def start(self, *command: str) -> subprocess.Popen:
        """Start a command in a process group of its own; its output, errors and all, goes to a pipe."""
        return subprocess.Popen(
            command,
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell's background job, and so its children, would ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *command: str, code: int | None = 0) -> str:
        """Return the output of a command, errors and all; it must exit with `code` (None: not with 0)."""
        process = self.start(*command)
        output, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == code or (code is None and process.returncode), output
        return output

    def repro(self, *arguments: str) -> set[str]:
        """Return the names of the stages that `dvc repro` ran, without `check`."""
        return list_run_stages(self.run(DVC, "repro", *arguments))

    def list_changed(self) -> set[str]:
        """The stages that would run, without `check` and without those that would only follow from others."""
        with Repo(str(self.path)) as repo:
            return {name.split(":")[-1] for name in repo.status() if "backtest/" not in name} - {"check"}

    def read_results(self) -> dict[str, dict[str, str]]:
        """The hash of every output in dvc.lock, by stage and path."""
        stages = YAML(typ="safe").load(self.path / "dvc.lock")["stages"]
        return {name: {out["path"]: out["md5"] for out in stage["outs"]} for name, stage in stages.items()}

    def list_files(self, folder: str) -> list[str]:
        """The files under `folder`, hidden ones too."""
        outcome = (self.path / folder).rglob("*")
        return sorted(file.relative_to(self.path).as_posix() for file in outcome if file.is_file())


def list_run_stages(output: str) -> set[str]:
    """The stages that a `dvc repro` with this output ran, without `check`."""
    return set(re.findall(r"^Running stage '(.*)':$", output, re.MULTILINE)) - {"check"}


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Clone:
    made = Clone(tmp_path / "clone")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", made.environment["DVC_SITE_CACHE_DIR"])
    return made


def test_forecasts_need_no_reviews_and_reviews_no_weather(clone):
    with Repo(str(clone.path)) as repo:
        graph = repo.index.graph
        for report, expected in (("report_forecast", FORECAST), ("report_reviews", REVIEWS)):
            (stage,) = (stage for stage in graph if stage.name == report)
            assert {other.name for other in nx.dfs_preorder_nodes(graph, stage)} == expected | {"check"}
    clone.edit({"reviews": {"source": "/nowhere/imdb.npz"}, "records": {"jena": {"source": "/nowhere/jena.csv"}}})
    clone.run("./run", "check")


@pytest.mark.slow
def test_the_graph_from_end_to_end(clone):
    # Two stages at a time: a stage that fails is named and stops only what needs it; then the rest follows.
    clone.edit({"tasks": {"forecast": {"learning_rate": 1e38}}})
    output = clone.run(PYTHON, "scripts/repro.py", "--jobs", "2", code=1)
    assert re.findall(r"^error: (.*) failed: see above$", output, re.MULTILINE) == ["train@dense"]
    assert "error: dense: epoch 1: the loss is not a number" in output and "Traceback" not in output
    completed = set(clone.read_results())
    assert {"clean@jena", "report_reviews", "report_station"} <= completed
    (clone.path / "params.yaml").write_text(json.dumps(PARAMS))
    assert clone.repro() == {*DENSE, "report_forecast", "index"}
    assert set(clone.read_results()) - completed == {*DENSE, "report_forecast", "index"}
    assert "synthetic" in (clone.path / "metrics/forecast.md").read_text().lower()
    assert "synthetic" in (clone.path / "metrics/reviews.md").read_text().lower()

    # Git tracks the metrics and not the data, and no stage is left to run.
    clone.commit()
    tracked = clone.run("git", "ls-files", "data", "metrics").split()
    assert {"metrics/forecast.md", "metrics/reviews.md"} <= set(tracked)
    assert {f"metrics/{model['task']}/{name}.json" for name, model in PARAMS["models"].items()} <= set(tracked)
    assert clone.run("git", "diff", "--name-only", "HEAD~1", "--", "data") == ""
    assert clone.list_changed() == set()
    results = clone.read_results()

    # DVC by itself makes the bytes that two stages at a time have made.
    again = ("clock@station", "tokens@reviews", "train@ridge", "evaluate@ridge")
    assert clone.repro("--force", "--single-item", *again) == set(again)
    assert clone.read_results() == results

    for changes, reached in REACHED:
        clone.edit(changes)
        expected = {name for name in results if {name, name.split("@")[0]} & reached}
        assert clone.list_changed() == expected, changes
        clone.edit(PARAMS)

    # After a new sentinel that does not occur and a comment in a model, the stages make the same bytes: nothing
    # downstream reruns.
    clone.edit({"records": {"jena": {"sentinels": [-9999, -8888]}}})
    with (clone.path / "stages/models/dense.py").open("a") as file:
        file.write("# A comment that changes no weight.\n")
    assert clone.repro() - {"index"} == {
        *{"parse@jena", "normalize", "inputs@hourly", "inputs@half_hourly", "clean@jena"},
        *{"train@dense", "report_forecast"},
    }

    # DVC runs an experiment with a narrower model and shows it.
    output = clone.run(DVC, "exp", "run", "--name", "narrow", "--set-param=models.dense.units=3", "evaluate@dense")
    assert list_run_stages(output) == DENSE
    metrics = json.loads((clone.path / "metrics/forecast/dense.json").read_text())
    assert metrics["parameters"] == 24 * 14 * 3 + 3 + 3 + 1
    table = list(csv.DictReader(clone.run(DVC, "exp", "show", "--csv").splitlines()))
    units = {row["Experiment"] or row["rev"]: row["models.dense.units"] for row in table}
    assert units["narrow"] == units["workspace"] == "3" and "4" in units.values()
    with Repo(str(clone.path)) as repo:
        assert "metrics/forecast/dense.json" in str(repo.metrics.diff())
        assert "models.dense.units" in str(repo.params.diff())
    clone.run(DVC, "plots", "diff")
    assert (clone.path / "dvc_plots/index.html").is_file()

    # An earlier state comes from the cache, except for the reports.
    clone.run("git", "checkout", "--quiet", "--", "stages")
    (clone.path / "params.yaml").write_text(json.dumps(PARAMS))
    assert clone.repro() <= REPORTS
    assert clone.read_results() == results


# --- Interruptions -------------------------------------------------------------------------------------

MODEL = "data/models/forecast/dense"
CHECKPOINT = ".resume/dense.npz"
EPOCHS = 1_000_000  # it cannot end before it is interrupted


def stop(clone: Clone, sign: signal.Signals) -> tuple[int, str]:
    """Start the training of dense, send `sign` to all of its processes once an epoch is saved; see how it ends."""
    before = get_save_time(clone)
    process = clone.start(DVC, "repro", "--single-item", "train@dense")
    deadline = time.monotonic() + LIMIT
    while get_save_time(clone) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, sign)
    output, _ = process.communicate(timeout=LIMIT)
    return process.returncode, output


def get_save_time(clone: Clone) -> int | None:
    """When the checkpoint was written, None where there is none."""
    path = clone.path / CHECKPOINT
    return path.stat().st_mtime_ns if path.exists() else None


def list_partial_outputs(clone: Clone) -> list[str]:
    return clone.list_files(MODEL) + [file for file in clone.list_files("data/models") if "tmp" in file]


@pytest.mark.slow
def test_a_training_that_is_stopped_leaves_no_output_and_is_resumed(clone):
    clone.edit({"training": {"max_epochs": EPOCHS}, "models": {"dense": {"epochs": EPOCHS}}})
    clone.repro("inputs@hourly")

    code, output = stop(clone, signal.SIGINT)
    assert code not in (0, -signal.SIGINT)
    assert "train: interrupted" in output and "Traceback" not in output
    assert list_partial_outputs(clone) == []

    code, output = stop(clone, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert "dense: resuming after epoch" in output
    assert list_partial_outputs(clone) == []

    with np.load(clone.path / CHECKPOINT) as state:
        done = len(json.loads(str(state["history"])))
    assert done >= 2  # one from each of the interrupted runs
    last = done + 3
    clone.edit({"training": {"max_epochs": last}})
    output = clone.run(DVC, "repro", "--single-item", "train@dense")
    assert f"dense: resuming after epoch {done}\n" in output
    assert re.findall(r"^dense (\d+)/", output, re.MULTILINE) == [str(n) for n in range(done + 1, last + 1)]
    with (clone.path / MODEL / "history.csv").open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, last + 1))
    assert not (clone.path / CHECKPOINT).exists()


@pytest.mark.slow
def test_a_bad_file_is_named_and_leaves_nothing(clone):
    text = '"Date Time","T (degC)"\n01.01.2009 00:10:00,1.5\n01.01.2009 00:20:00,warm\n'
    (clone.path / "x.csv").write_text(text)
    clone.edit({"records": {"jena": {"source": "x.csv"}}})
    output = clone.run(DVC, "repro", "parse@jena", code=None)
    assert "x.csv, line 3" in output and "failed to reproduce 'parse@jena'" in output
    assert "Traceback" not in output
    assert (
        not (clone.path / "data/records/jena/record.parquet").exists()
        and not (clone.path / "data/records/jena/quality.json").exists()
    )
