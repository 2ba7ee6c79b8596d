"""The input sets as the later stages see them: what is saved is loaded, and windows are views."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.lib.errors import UserError
from stages.lib.windows.input_set import Meta, Windows, load_input_set, save_input_set


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("T (degC)", "degc"),
        ("H2OC (mmol/mol)", "mmol_mol"),
        ("rho (g/m**3) ", "g_m_3"),
        ("T (air) (K)", "k"),
        ("T (degC) mean", "own_unit"),
        ("T", "own_unit"),
        ("T ()", "own_unit"),
        ("T (°)", "own_unit"),
    ],
)
def test_unit_of_the_target(column, unit):
    assert Meta(time=3, columns=["p (mbar)", column], target=1).unit == unit
    assert Meta(time=3, words=10).unit is None  # reviews


@given(st.data())
def test_a_window_is_a_run_of_rows(data):
    features = data.draw(st.sampled_from([(), (1,), (3,)]))
    count = data.draw(st.integers(1, 30))
    time = data.draw(st.integers(1, count))
    starts = np.array(data.draw(st.lists(st.integers(0, count - time), max_size=9)), np.int32)
    rows = np.arange(count * int(np.prod(features)), dtype=np.float32).reshape(count, *features)
    windows = Windows(rows, starts, time)
    assert len(windows) == len(starts) and windows.shape == (len(starts), time, *features)
    for index, start in enumerate(starts):
        np.testing.assert_array_equal(windows[index], rows[start : start + time])
        assert np.shares_memory(windows[index], rows)
        with pytest.raises(ValueError, match="read-only"):
            windows[index][0] = 1
    chosen = np.arange(len(starts))[::-2]
    np.testing.assert_array_equal(
        windows[chosen], [rows[start : start + time] for start in starts[chosen]] or windows[:0]
    )
    assert windows[:].shape == windows.shape and windows[chosen].dtype == rows.dtype


@pytest.mark.parametrize("rows", [np.arange(24, dtype=np.float32).reshape(12, 2), np.arange(12, dtype=np.int16)])
def test_what_is_saved_is_loaded(tmp_path, rows):
    times = np.array(["2009-01-01T00:10:00", "2016-12-31T23:50:00"], "M8[s]")
    splits = {
        "train": (np.array([0, 5]), np.array([0.5, -1]), times),
        "val": (np.array([9]), np.array([1]), None),
        "test": (np.array([2, 2, 2]), np.array([1, 2, 3]), None),
    }
    meta = Meta(time=3, columns=["p", "T (K)"], target=1, mean=0.1, std=1 / 3)
    save_input_set(tmp_path / "set", rows, splits, meta)
    result = load_input_set(str(tmp_path / "set"))
    assert result.meta == meta and result.shape == (3, *rows.shape[1:])
    assert result.rows.dtype == rows.dtype and result.rows.tobytes() == rows.tobytes()
    for name, (starts, targets, when) in splits.items():
        split = getattr(result, name)
        assert split.windows.starts.dtype == np.int32 and split.windows.starts.tolist() == starts.tolist()
        assert split.targets.dtype == np.float32 and split.targets.tolist() == targets.tolist()
        assert split.times.dtype == "M8[s]" and len(split.times) == len(starts)
        assert np.isnat(split.times).all() if when is None else (split.times == when).all()
        assert all(part.flags.c_contiguous for part in (split.windows.starts, split.targets, split.times))


@pytest.mark.parametrize("lacking", [None, "rows.npy", "val.npy"])
def test_an_input_set_that_is_not_there(tmp_path, lacking):
    if lacking:
        nothing = dict.fromkeys(("train", "val", "test"), (np.array([0]), np.array([0]), None))
        save_input_set(tmp_path / "set", np.zeros((3, 1), np.float32), nothing, Meta(time=2))
        (tmp_path / "set" / lacking).unlink()
    with pytest.raises(
        UserError, match=rf"set/{lacking or 'meta.json'}: not found; make it with `dvc repro inputs@set`"
    ):
        load_input_set(tmp_path / "set")
