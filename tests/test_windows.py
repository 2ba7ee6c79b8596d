"""The input sets as the later stages see them: what is saved is loaded, and windows are views."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.lib.errors import UserError
from stages.lib.windows.input_set import Meta, Windows, load_input_set, save_input_set

SPLITS = {"train": [0, 1], "val": [3], "test": [5, 6, 7], "all": list(range(20))}  # window starts


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


@given(st.data())
def test_what_is_known_ahead_is_that_of_a_windows_last_entry(data):
    count, leads = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 4))
    time = data.draw(st.integers(1, count))
    starts = np.array(data.draw(st.lists(st.integers(0, count - time), min_size=1, max_size=9)), np.int32)
    rows = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    ahead = np.arange(count * leads * 3, dtype=np.float32).reshape(count, leads, 3)
    windows = Windows(rows, starts, time, ahead)
    chosen = np.arange(len(starts))[::-2]
    for part, index in ((windows, slice(1, None)), (windows.select(chosen), slice(None))):
        inputs = part.get_inputs(index)
        assert list(inputs) == ["past", "ahead"]
        last = part.starts[index] + time - 1
        np.testing.assert_array_equal(inputs["ahead"], ahead[last])
        np.testing.assert_array_equal(inputs["past"], part[index])
        assert [row.tolist() for row in inputs["past"][:, -1]] == rows[last].tolist()
    assert windows.select(chosen).starts.tolist() == starts[chosen].tolist()
    assert list(Windows(rows, starts, time).get_inputs(slice(None))) == ["past"]


@pytest.mark.parametrize("with_ahead", [False, True])
def test_an_input_set_by_the_clock_is_loaded_with_its_targets_and_what_is_known_ahead(tmp_path, with_ahead):
    rows, measured = np.arange(48, dtype=np.float32).reshape(24, 2), np.arange(24, dtype=np.float32)
    ahead = np.arange(24 * 2 * 3, dtype=np.float32).reshape(24, 2, 3) if with_ahead else None
    origins = np.datetime64("2009-01-01T02:00:00") + np.arange(20) * np.timedelta64(1, "h")
    splits = {name: (np.array(starts), None, origins[starts]) for name, starts in SPLITS.items()}
    columns = {"ahead_columns": ["icon T", "icon age (h)", "icon rain"], "ahead_targets": [0], "reach": [1.0, 0.5]}
    meta = Meta(3, ["p", "T (K)"], 1, leads=2, every=1, record="jena", clock={"max_missing": 0.0}, neighbours={})
    meta = replace(meta, **columns) if with_ahead else meta
    save_input_set(tmp_path / "set", rows, splits, meta, measured, ahead)
    begin = np.datetime64("2008-12-31T23:00:00")  # the first row covers the hour from here on
    bounds = [begin + np.timedelta64(hours, "h") for hours in (0, 8, 16, 25)]
    for options, expected in (
        ({}, SPLITS),
        ({"bounds": bounds}, {"train": [0, 1, 2], "val": [8, 9, 10], "test": [16, 17, 18, 19]}),
    ):
        result = load_input_set(tmp_path / "set", **options, stage="clock")
        assert result.meta == meta and (result.ahead is None) == (not with_ahead)
        for name in ("train", "val", "test"):
            windows, targets, times = getattr(result, name)
            assert windows.starts.tolist() == expected[name]
            np.testing.assert_array_equal(targets, measured[windows.starts[:, None] + [3, 4]])
            np.testing.assert_array_equal(times, origins[windows.starts])
            if with_ahead:
                np.testing.assert_array_equal(windows.get_ahead(slice(None)), ahead[windows.starts + 2])
    (tmp_path / "set/targets.npy").unlink()
    with pytest.raises(UserError, match=r"set/targets.npy: not found; make it with `dvc repro clock@set`"):
        load_input_set(tmp_path / "set", stage="clock")


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
