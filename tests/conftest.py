"""A made-up weather record in a working directory of its own, with params.yaml and the stages' code."""

import copy
import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from stages.lib import files, params

hypothesis.settings.register_profile("unhurried", deadline=None)  # no test may fail on a busy machine
hypothesis.settings.load_profile("unhurried")

gc.disable()  # until all modules are imported: it would go through TensorFlow's objects again and again
for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # pytest-xdist runs one process per core

REPOSITORY = Path(__file__).parents[1]
PARAMS = {
    "records": {"jena": {"target": "T (degC)"}},
    "split": {"record": "jena", "train": [0, 120], "val": [121, 180], "test": [181, None], "val_batch": 8},
    "inputs": {"tiny": {"lookback": 16, "step": 2, "delay": 4}},
    "training": {"batch_size": 4, "learning_rate": 0.01, "max_epochs": None, "seed": 1, "threads": 1},
    "tasks": {"forecast": {"loss": "mae", "metric": "mae", "monitor": "val_loss", "steps_per_epoch": 3}},
    "models": {
        "naive": {"architecture": "naive", "task": "forecast", "inputs": "tiny", "epochs": 0},
        "dense": {"architecture": "dense", "task": "forecast", "inputs": "tiny", "epochs": 2, "units": 3},
        "gru_dropout": {
            **{"architecture": "gru_dropout", "task": "forecast", "inputs": "tiny", "epochs": 3, "units": 3},
            **{"dropout": 0.3, "recurrent_dropout": 0.3},
        },
    },
}


class Weather:
    """params.yaml as a dictionary, and the 300 rows (p, T, wv) of the record."""

    def __init__(self) -> None:
        self.params = copy.deepcopy(PARAMS)
        random = np.random.default_rng(0)
        self.rows = random.normal([990.0, 9.0, 2.0], [8.0, 7.0, 1.0], (300, 3))
        self.write_record(self.rows, ["p (mbar)", "T (degC)", "wv (m/s)"])
        self.write_params()

    def write_record(self, rows: np.ndarray, names: list[str]) -> None:
        """Write record.parquet and normalization.json, the latter with the statistics of the training rows."""
        Path("data/records/jena").mkdir(parents=True, exist_ok=True)
        times = pa.array(np.arange(len(rows)) * 600, pa.timestamp("s"))
        columns = {"Date Time": times} | dict(zip(names, map(pa.array, rows.T), strict=True))
        pq.write_table(pa.table(columns), "data/records/jena/record.parquet", row_group_size=70)
        first, last = self.params["split"]["train"]
        mean, std = rows[first:last].mean(axis=0), rows[first:last].std(axis=0)
        statistics = {name: {"mean": m, "std": s} for name, m, s in zip(names, mean, std, strict=True)}
        Path("data/normalization.json").write_text(json.dumps({"columns": statistics}))

    def write_params(self, section: str | None = None, key: str | None = None, **values: Any) -> None:
        """Write params.yaml after a change of `values` in params[section][key], or in params[section]."""
        if section:
            place = self.params[section]
            (place.setdefault(key, {}) if key else place).update(values)
        Path("params.yaml").write_text(json.dumps(self.params))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slow tests early, so that no core idles at the end.

    With `--dist worksteal`, each of two processes begins with half of `items`, in order: the longest test of all is
    at the beginning of the first half, the other slow ones are at the beginning of the second.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    slow.sort(key=lambda item: "test_the_graph_from_end_to_end" not in item.nodeid)
    others = [item for item in items if item not in slow]
    half = len(items) // 2 - 1
    items[:] = [*slow[:1], *others[:half], *slow[1:], *others[half:]]


def pytest_collection_finish() -> None:
    """Leave TensorFlow's hundreds of thousands of objects out of every later garbage collection."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def restore_state() -> Iterator[None]:
    """Undo what a test read, watched, imported, or set in the environment."""
    before = dict(os.environ)
    yield
    params._history.clear()
    files._input_states.clear()
    files._code_states.clear()
    for name, module in list(sys.modules.items()):  # made by a test, such as an architecture in a folder of its own
        file = getattr(module, "__file__", None)
        if name.startswith("stages.") and file and not Path(file).is_relative_to(REPOSITORY):
            del sys.modules[name]
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with the stages' code in it."""
    (tmp_path / "stages").symlink_to(REPOSITORY / "stages")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def weather(root: Path) -> Weather:
    """A working directory that the stage `inputs` can start from."""
    return Weather()


@pytest.fixture
def shared() -> Path:
    """The folder of real data next to the repository."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no {folder / 'data'}")
    return folder


@pytest.fixture
def reports(root: Path) -> Path:
    """Reports of two of the three tasks."""
    for task in ("forecast", "station"):
        (root / "data/report" / task / "loss").mkdir(parents=True)
        Figure(figsize=(10, 4)).savefig(root / f"data/report/{task}/skill_by_lead.png")
        (root / f"data/report/{task}/loss/gru.csv").write_text("epoch,loss\n")
        Path("metrics").mkdir(exist_ok=True)
        heads = "model | val MAE 24h, degC | val skill | test MAE 24h, degC | test skill | vs ridge | parameters"
        Path(f"metrics/{task}.md").write_text(
            f"# Forecasts <of> {task}\n\n| {heads} |\n{'|--' * 7}|\n| **damped_persistence** {'| 10,000 ' * 6}|\n"
        )
    return root
