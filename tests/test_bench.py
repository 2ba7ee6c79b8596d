"""The benchmark: its stand-in for the notebooks' generator gives our windows; its arithmetic."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench, contenders
from stages.inputs import choose_forecast_rows, locate_windows, order_by_phase
from stages.lib.settings.split import Split
from stages.lib.windows.input_set import Meta, load_input_set, save_input_set

LOOKBACK, STEP, DELAY = 12, 3, 5
SPLIT = Split(record="jena", train=[0, 300], val=[301, 700], test=[701, None], val_batch=128)


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A folder with an input set `short` and plain.npy, the record (rows, 2) that it is from."""
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(900, 2))
    np.save("plain.npy", rows)
    Path("params.yaml").write_text(
        f"inputs: {{short: {{lookback: {LOOKBACK}, step: {STEP}, delay: {DELAY}}}}}\n"
        "split: {record: jena, train: [0, 300], val: [301, 700], test: [701, null]}\n"
    )
    splits = {
        name: (locate_windows(row, len(rows), LOOKBACK, STEP), rows[row + DELAY, 1], None)
        for name, row in choose_forecast_rows(len(rows), SPLIT, LOOKBACK, DELAY).items()
    }
    Path("data/inputs").mkdir(parents=True)
    meta = Meta(LOOKBACK // STEP, ["p", "T (degC)"], 1)
    save_input_set(Path("data/inputs/short"), order_by_phase(rows, STEP).astype(np.float32), splits, meta)
    contenders.read_plain_task.cache_clear()
    return rows


def test_generator_gives_our_validation_windows(record: np.ndarray) -> None:
    val = load_input_set("data/inputs/short").val
    batches = list(islice(contenders.notebooks_generator("short", "val"), 4))
    windows, targets = (np.concatenate(parts[:3]).astype(np.float32) for parts in zip(*batches, strict=True))
    assert len(val.windows) == 3 * 128
    np.testing.assert_array_equal(windows, val.windows[:])
    np.testing.assert_array_equal(targets, val.targets)
    np.testing.assert_array_equal(batches[3][0], batches[0][0])  # and begins anew


def test_generator_draws_training_windows(record: np.ndarray) -> None:
    np.random.seed(0)
    windows, targets = next(contenders.notebooks_generator("short", "train"))
    ours = load_input_set("data/inputs/short").train
    known = {window.tobytes(): target for window, target in zip(ours.windows[:], ours.targets, strict=True)}
    found = [known[window.tobytes()] for window in windows.astype(np.float32)]
    np.testing.assert_array_equal(found, targets.astype(np.float32))
    assert len({window.tobytes() for window in windows}) > 64  # drawn, not one after the other


def test_count_windows() -> None:
    assert contenders.count_windows(60, 64_000, 128) == 60 * 128
    assert contenders.count_windows(20, 1_600, 128) == 10 * 128  # 12.5 batches: one bundle
    assert contenders.count_windows(20, 5_000, 1_024) == 4 * 1_024  # no full bundle
    assert contenders.count_windows(20, 400, 1_024) == 400  # no full batch


def test_a_figure_that_a_round_lacks_has_no_median() -> None:
    rounds = [{"us": value, "alone": None} for value in (3.0, 1.0, 2.0)]
    assert bench.compute_medians(rounds) == {"us": 2.0, "alone": None}
