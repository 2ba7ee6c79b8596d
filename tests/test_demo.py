"""The demo: what it changes in params.yaml, that all else stays as it was written, and what comes out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from scripts import demo
from stages.check import check

ROOT = Path(__file__).parents[1]

TEXT = """\
# A comment on top.

first: {b: 1, a: "two"}   # after a mapping
# Between the sections.
second:
  list: [1, 2]            # after a list
  quoted: "%d.%m"
  deep: {inner: {x: 1, y: 0.0001}, other: null}
  block:
    - one
    - two
  last: 5
"""


def update_yaml(tmp_path, text, changes):
    """Return `text` after demo.merge_yaml with `changes`."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    demo.merge_yaml(path, changes)
    return path.read_text()


def list_keys(value):
    """Yield every key of the nested mapping `value`, and the items of its lists."""
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from list_keys(inner)
    elif isinstance(value, list):
        yield from value


@pytest.mark.parametrize(
    ("changes", "before", "after"),
    [
        ({}, "one", "one"),
        ({"first": {"b": 7}}, "{b: 1,", "{b: 7,"),
        ({"second": {"list": [8, None]}}, "list: [1, 2]            #", "list: [8, null]         #"),
        ({"second": {"last": None}}, "last: 5", "last: null"),
        ({"second": {"deep": {"inner": {"x": 3}}}}, "{x: 1,", "{x: 3,"),
        ({"second": {"block": "sample"}}, "block:\n    - one\n    - two\n", "block: sample\n"),
        ({"second": {"new": "key"}}, "last: 5\n", "last: 5\n  new: key\n"),
    ],
)
def test_a_change_touches_its_value_alone(tmp_path, changes, before, after):
    assert TEXT.count(before) == 1
    assert update_yaml(tmp_path, TEXT, changes) == TEXT.replace(before, after)


def test_the_demo_changes_only_the_lines_of_its_keys(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    before, after = text.splitlines(), update_yaml(tmp_path, text, demo.SETTINGS).splitlines()
    changed, added = (
        {line.split(":")[0].strip(" -") for line in lines if line not in others}
        for lines, others in ((before, after), (after, before))
    )
    own = {"source", "size", "sha256", "train", "val", "test", "periods", "max_epochs", "forecast", "station"}
    assert changed <= own | {"models", "folds", "months", "https"}  # that of the addresses
    assert added <= set(list_keys(demo.SETTINGS))
    assert [line for line in before if line.lstrip().startswith("#")] == [
        line for line in after if line.lstrip().startswith("#")
    ]


def test_the_demos_settings_are_valid_and_those_of_the_repository_with_its_changes(root):
    text = update_yaml(root, (ROOT / "params.yaml").read_text(), demo.SETTINGS)

    def merge(value, change):
        return (
            (value or {}) | {k: merge((value or {}).get(k), v) for k, v in change.items()}
            if isinstance(change, dict)
            else change
        )

    expected = merge(YAML(typ="safe").load(ROOT / "params.yaml"), demo.SETTINGS)
    assert YAML(typ="safe").load(text) == expected
    check()


def test_a_demo_of_another_record_makes_no_forecast_of_the_sample(root, capsys):
    assert (
        demo.predict_sample() == 0 and capsys.readouterr().out == "" and list(root.iterdir()) == [root / "stages"]
    )


def test_git_and_dvc_ignore_the_demo():
    ignored = subprocess.run(["git", "-C", str(ROOT), "check-ignore", "--quiet", "demo/params.yaml"])
    assert ignored.returncode == 0
    assert "/demo" in (ROOT / ".dvcignore").read_text().splitlines()


# --- What comes out --------------------------------------------------------------------------------------

# Metrics of the demo on an AMD EPYC, one thread a model. Other processors round otherwise, which training
# amplifies; a change of the code that these tolerances do not show is none in the numbers.
COMMITTED = json.loads((ROOT / "tests/demo_metrics.json").read_text())
TOLERANCE = {"val_mae": {"rel": 0.02}, "val_loss": {"rel": 0.03}, "val_accuracy": {"abs": 0.03}}
TOLERANCE |= {"val_skill": {"abs": 0.03}, "parameters": {"abs": 0}, "epochs": {"abs": 0}}

# The demo's settings of some forecasting models, whatever params.yaml says today.
PARAMS = demo.SETTINGS | {
    "records": {
        "jena": demo.SETTINGS["records"]["jena"]
        | {"time": "Date Time", "format": "%d.%m.%Y %H:%M:%S", "encoding": "utf-8", "target": "T (degC)"}
        | {"sentinels": [-9999], "separator": ",", "rename": {}, "leave_out": [], "missing": []}
    },
    "split": demo.SETTINGS["split"] | {"record": "jena", "val_batch": 128},
    "inputs": {"hourly": {"lookback": 1440, "step": 6, "delay": 144}},
    "training": {"batch_size": 128, "learning_rate": 0.001, "max_epochs": 2, "seed": 1, "threads": 1},
    "tasks": {"forecast": {"loss": "mae", "metric": "mae", "monitor": "val_loss", "steps_per_epoch": 50}},
    "models": {
        "naive": {"architecture": "naive", "task": "forecast", "inputs": "hourly", "epochs": 0},
        "dense": {"architecture": "dense", "task": "forecast", "inputs": "hourly", "epochs": 20, "units": 32},
        "gru": {"architecture": "gru", "task": "forecast", "inputs": "hourly", "epochs": 20, "units": 32},
        "conv1d": {
            **{"architecture": "conv1d", "task": "forecast", "inputs": "hourly", "epochs": 20},
            **{"filters": 32, "kernel": 5, "pool": 3},
        },
    },
}
RUN = """
from stages import download, evaluate, inputs, normalize, parse, train
download.download("jena")
parse.parse("jena")
normalize.normalize()
inputs.inputs("hourly")
for name in MODELS:
    train.train(name)
    evaluate.evaluate(name)
"""


def assert_close(folder: Path) -> None:
    """Assert that the metrics in `folder` are those committed, as far as the models are known."""
    for path in folder.glob("*/*.json"):
        result, known = json.loads(path.read_text()), COMMITTED.get(path.parent.name, {}).get(path.stem, {})
        assert {key: result[key] for key in known} == {
            key: pytest.approx(value, **TOLERANCE[key]) for key, value in known.items()
        }, path


def run_code(code: str, root: Path, cores: set[int]) -> None:
    """Run Python code in `root` on these cores; only the code itself limits the threads."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        **{"cwd": root, "capture_output": True, "text": True},
        env={name: value for name, value in os.environ.items() if not name.endswith("_THREADS")},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are chosen as Linux does")
def test_the_sample_gives_the_committed_metrics_and_a_gru_beats_naive(root):
    cores = os.sched_getaffinity(0)
    (root / "params.yaml").write_text(json.dumps(PARAMS))
    run_code(RUN.replace("MODELS", repr(list(PARAMS["models"]))), root, cores)
    assert len(list((root / "metrics").glob("*/*.json"))) == 4
    assert_close(root / "metrics")
    gru = json.loads((root / "metrics/forecast/gru.json").read_text())
    assert gru["val_skill"] > 0.1 and gru["test_skill"] > 0.03

    # A convolution's numbers are those of training.threads, not of the cores at hand: two jobs change nothing.
    history = root / "data/models/forecast/conv1d/history.csv"
    before = history.read_text().splitlines()
    (root / "params.yaml").write_text(json.dumps(PARAMS | {"training": PARAMS["training"] | {"max_epochs": 1}}))
    run_code("from stages import train; train.train('conv1d')", root, {min(cores)})
    assert history.read_text().splitlines() == before[:2]


def test_the_demo_at_hand_gave_the_committed_metrics():
    if not (ROOT / "demo/metrics/reviews.md").is_file():
        pytest.skip("no finished demo/")
    assert_close(ROOT / "demo/metrics")
