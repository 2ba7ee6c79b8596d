"""DVC over the whole graph, in a clone with tiny models: what runs after which edit, and what a killed run leaves.

The tests share one clone and go on from one another, in this order. DVC is called by its path, without its
environment being activated: the stages must find their Python by themselves.
"""

import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("demo", ROOT / "scripts/demo.py")
demo = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(demo)

DVC = str(Path(sys.executable).with_name("dvc"))
LIMIT = 300  # seconds that no command here may need

# The whole sample, but hours instead of days to look back and models of a few weights.
TINY = {
    "dataset": {"source": "sample", "size": None, "sha256": None},
    "split": {"train": [0, 6000], "val": [6001, 9000], "test": [9001, 12000]},
    "inputs": {
        "hourly": {"lookback": 144, "step": 6, "delay": 24},
        "half_hourly": {"lookback": 144, "step": 3, "delay": 24},
    },
    "reviews": {"source": "sample", "size": None, "sha256": None},
    "tokens": {"reviews": {"words": 1000, "length": 50}, "reviews_reversed": {"words": 1000, "length": 50}},
    "training": {"max_epochs": 1},
    "tasks": {"forecast": {"steps_per_epoch": 3}},
    "models": {
        "dense": {"units": 4},
        "conv1d": {"inputs": "half_hourly", "filters": 2, "kernel": 2, "pool": 2},
        "imdb_conv1d": {"embedding": 2, "filters": 2, "kernel": 3},
    },
}
MODELS = {"naive", "dense", "conv1d", "imdb_conv1d"}

FORECAST = {"download@dataset", "parse", "normalize", "inputs@hourly", "inputs@half_hourly", "report_forecast"}
FORECAST |= {f"{stage}@{model}" for stage in ("train", "evaluate") for model in MODELS - {"imdb_conv1d"}}
REVIEWS = {"download@reviews", "tokens@reviews", "train@imdb_conv1d", "evaluate@imdb_conv1d", "report_reviews"}


class Clone:
    """A copy of the working tree, committed, with its own params.yaml and a home of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0")
        results = ("dvc.lock", "metrics/")
        for name in names:
            if (ROOT / name).is_file() and (not name.startswith(results) or name.endswith(".gitkeep")):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, path / name)
        (path / ".venv").symlink_to(sys.prefix)
        self.home = path.with_name(f"{path.name}-home")
        self.home.mkdir()
        self.environment = {
            "PATH": f"{Path(shutil.which('git')).parent}:/usr/bin:/bin",
            "HOME": str(self.home),
            "DVC_SITE_CACHE_DIR": str(self.home / "site"),
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        self.edit(TINY)
        yaml = YAML()
        params = yaml.load(path / "params.yaml")
        for model in set(params["models"]) - MODELS:
            del params["models"][model]
        yaml.dump(params, path / "params.yaml")
        self.run("git", "init", "--quiet")
        self.run("git", "config", "user.name", "test")
        self.run("git", "config", "user.email", "test@localhost")
        self.commit()

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "state")

    def edit(self, changes: dict) -> None:
        demo.update(self.path / "params.yaml", changes)

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
        """Return the names of the stages that `dvc repro` ran."""
        return ran(self.run(DVC, "repro", *arguments))

    def files(self, folder: str) -> list[str]:
        """The files under `folder`, hidden ones too."""
        found = (self.path / folder).rglob("*")
        return sorted(file.relative_to(self.path).as_posix() for file in found if file.is_file())


def ran(output: str) -> set[str]:
    """The stages that a `dvc repro` with this output ran."""
    return set(re.findall(r"^Running stage '(.*)':$", output, re.MULTILINE))


def changed(output: str) -> set[str]:
    """The stages that `dvc status` with this output would run; those below them are not among these."""
    return set(re.findall(r"^(\S+):$", output, re.MULTILINE))


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    return Clone(tmp_path_factory.mktemp("end_to_end") / "clone")


def test_the_forecasts_need_no_reviews(clone):
    clone.edit({"reviews": {"source": "/nowhere/imdb.npz"}})
    assert clone.repro("report_forecast") == FORECAST
    assert clone.files("data/raw/reviews") == []


def test_the_reviews_need_no_weather(clone):
    clone.edit({**TINY, "dataset": {"source": "/nowhere/jena.csv"}})
    assert clone.repro("report_reviews") == REVIEWS


def test_the_rest_of_the_graph_follows(clone):
    clone.edit(TINY)
    # The second set of reviews belongs to models that are left out here.
    assert clone.repro() == {"tokens@reviews_reversed", "leaderboard"}
    leaderboard = (clone.path / "metrics/leaderboard.md").read_text()
    assert all(model in leaderboard for model in MODELS)
    assert leaderboard.count("SYNTHETIC") == 2
    clone.commit()


def test_git_holds_the_metrics_and_not_the_data(clone):
    tracked = clone.run("git", "ls-files", "data", "metrics").split()
    assert tracked == sorted(["metrics/.gitkeep", "metrics/leaderboard.md", *(f"metrics/{m}.json" for m in MODELS)])


def test_nothing_runs_where_nothing_changed(clone):
    assert clone.repro() == set()
    assert clone.run("git", "status", "--porcelain") == ""


def test_an_experiment_reruns_its_model_and_is_shown(clone):
    output = clone.run(DVC, "exp", "run", "--name", "narrow", "--set-param", "models.dense.units=3")
    # Both reports take the list of models from params.yaml; that of the reviews comes out as it was.
    assert ran(output) == {"train@dense", "evaluate@dense", "report_forecast", "report_reviews", "leaderboard"}
    with (clone.path / "metrics/dense.json").open() as file:
        assert '"parameters": 1015' in file.read()  # 24 x 14 x 3 + 3, and 3 + 1
    table = list(csv.DictReader(clone.run(DVC, "exp", "show", "--csv").splitlines()))
    units = {row["Experiment"] or row["rev"]: row["models.dense.units"] for row in table}
    assert units["narrow"] == units["workspace"] == "3"
    assert "4" in units.values()


@pytest.mark.parametrize("what", ["metrics", "params", "plots"])
def test_dvc_compares_the_workspace_with_the_commit(clone, what):
    output = clone.run(DVC, what, "diff")
    if what != "plots":
        assert {"metrics": "metrics/dense.json", "params": "models.dense.units"}[what] in output.replace("\\", "/")
    else:
        assert (clone.path / "dvc_plots/index.html").is_file()
        shutil.rmtree(clone.path / "dvc_plots")


def test_a_lookback_reruns_its_input_set_and_the_models_that_use_it(clone):
    clone.edit({"inputs": {"half_hourly": {"lookback": 72}}})
    expected = {"inputs@half_hourly", "train@conv1d", "evaluate@conv1d", "report_forecast", "leaderboard"}
    assert clone.repro() == expected


def test_a_review_length_reruns_the_texts_alone(clone):
    clone.edit({"tokens": {"reviews": {"length": 40}}})
    assert clone.repro() == REVIEWS - {"download@reviews"} | {"leaderboard"}


def test_a_sentinel_that_does_not_occur_changes_nothing_after_parse(clone):
    clone.edit({"dataset": {"sentinels": [-9999, -8888]}})
    assert clone.repro() == {"parse", "normalize"}


def test_another_sentinel_reaches_the_report_of_the_record_alone(clone):
    clone.edit({"dataset": {"sentinels": [-8888]}})
    # The record is the same, its quality report is not; the table that the leaderboard takes is the same again.
    assert clone.repro() == {"parse", "normalize", "report_forecast"}


def test_a_schedule_for_all_reruns_every_training(clone):
    clone.edit({"training": {"batch_size": 64}})
    output = clone.run(DVC, "status")
    assert changed(output) == {f"train@{model}" for model in MODELS}
    clone.edit({"training": {"batch_size": 128}})


def test_what_a_task_and_a_split_and_a_target_reach(clone):
    edits = {
        "tasks": {"forecast": {"steps_per_epoch": 4}},
        "split": {"test": [9001, 11000]},
        "dataset": {"target": "p (mbar)"},
        "reviews": {"vocabulary": 90000},
    }
    reached = {
        "tasks": {f"{stage}@{model}" for stage in ("train", "evaluate") for model in MODELS - {"imdb_conv1d"}},
        "split": {"normalize", "inputs@hourly", "inputs@half_hourly"},
        "dataset": {"parse", "inputs@hourly", "inputs@half_hourly", "report_forecast"},
        "reviews": {"tokens@reviews", "tokens@reviews_reversed"},
    }
    before = (clone.path / "params.yaml").read_text()
    for section, change in edits.items():
        clone.edit({section: change})
        assert changed(clone.run(DVC, "status")) == reached[section]
        (clone.path / "params.yaml").write_text(before)


def test_a_model_that_fails_is_named_and_stops_no_other(clone):
    before = (clone.path / "params.yaml").read_text()
    clone.edit({"models": {"conv1d": {"filters": 0}, "dense": {"units": 5}}})  # in this order
    output = clone.run("scripts/repro.sh", "1", "forecast", code=1)
    assert re.findall(r"^error: .*", output, re.MULTILINE)[0].startswith("error: params.yaml: models.conv1d: ")
    assert re.findall(r"^error: (\w+) failed$", output, re.MULTILINE) == ["conv1d"]
    assert "dense 1/1" in output and "Traceback" not in output
    (clone.path / "params.yaml").write_text(before)
    clone.run("scripts/repro.sh", "2", "forecast")
    assert clone.repro() == set()


@pytest.mark.parametrize("arguments", [["0"], ["two"], ["2", "weather"]])
def test_what_is_no_job_or_task_is_refused(clone, arguments):
    assert "error: " in clone.run("scripts/repro.sh", *arguments, code=2)


def test_a_comment_in_a_model_reruns_its_training_and_no_more(clone):
    with (clone.path / "stages/models/dense.py").open("a") as file:
        file.write("# A comment that changes no weight.\n")
    assert clone.repro() == {"train@dense"}


def test_running_again_leaves_the_lock_file_as_it_is(clone):
    lock = (clone.path / "dvc.lock").read_bytes()
    upstream = {"download@dataset", "parse", "normalize", "inputs@hourly", "train@dense"}
    assert clone.repro("--force", "train@dense") == upstream
    assert (clone.path / "dvc.lock").read_bytes() == lock


def test_an_earlier_state_comes_from_the_cache(clone):
    clone.commit()
    clone.edit({"inputs": {"half_hourly": {"lookback": 144}}, "models": {"dense": {"units": 4}}})
    clone.edit({"tokens": {"reviews": {"length": 50}}, "dataset": {"sentinels": [-9999]}})
    assert clone.repro("train@conv1d") == set()


# --- Interruptions -------------------------------------------------------------------------------------

MODEL = "data/models/forecast/dense"
CHECKPOINT = ".resume/dense.npz"
EPOCHS = 1_000_000  # it cannot end before it is interrupted


def stop(clone: Clone, sign: signal.Signals) -> tuple[int, str]:
    """Start the training of dense, send `sign` to all of its processes once an epoch is saved; see how it ends."""
    before = saved(clone)
    process = clone.start(DVC, "repro", "--single-item", "train@dense")
    deadline = time.monotonic() + LIMIT
    while saved(clone) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, sign)
    output, _ = process.communicate(timeout=LIMIT)
    return process.returncode, output


def saved(clone: Clone) -> int | None:
    """When the checkpoint was written, None where there is none."""
    path = clone.path / CHECKPOINT
    return path.stat().st_mtime_ns if path.exists() else None


def nothing_half_written(clone: Clone) -> bool:
    return clone.files(MODEL) == [] and [file for file in clone.files("data/models") if "tmp" in file] == []


def test_ctrl_c_ends_a_training_in_one_line(clone):
    clone.edit({"training": {"max_epochs": EPOCHS}, "models": {"dense": {"epochs": EPOCHS}}})
    clone.repro("inputs@hourly")
    code, output = stop(clone, signal.SIGINT)
    assert code not in (0, -signal.SIGINT)
    assert "Traceback" not in output
    assert "train: interrupted" in output
    assert nothing_half_written(clone)


def test_a_killed_training_leaves_no_output(clone):
    code, output = stop(clone, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert "dense: resuming after epoch" in output
    assert nothing_half_written(clone)


def test_a_training_goes_on_where_it_was_killed(clone):
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


# --- Bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "stage", "where"),
    [
        ("<!doctype html>\n<title>Not found</title>\n", "download@dataset", "x.csv: this is an HTML"),
        ('"Date Time","T (degC)"\n01.01.2009 00:10:00,1.5\n01.01.2009 00:20:00,warm\n', "parse", "x.csv, line 3"),
    ],
    ids=["html", "word"],
)
def test_a_bad_file_is_named_and_leaves_nothing(tmp_path, text, stage, where):
    clone = Clone(tmp_path / "clone")
    (tmp_path / "x.csv").write_text(text)
    clone.edit({"dataset": {"source": str(tmp_path / "x.csv")}})
    output = clone.run(DVC, "repro", "parse", code=None)
    assert where in output
    assert f"failed to reproduce '{stage}'" in output
    assert "Traceback" not in output
    assert [file for file in clone.files("data") if not file.startswith("data/raw/") and "git" not in file] == []
