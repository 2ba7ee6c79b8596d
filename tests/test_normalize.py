"""Normalization: bit for bit the notebooks' numpy, over the training rows alone."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages import normalize as stage
from stages.lib.errors import UserError

RECORD = Path("data/records/jena/record.parquet")
SPLIT = {"record": "jena", "train": [0, 4], "val": [5, 7], "test": [8, None], "val_batch": 1}
OPTIONS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
tables = arrays(
    np.float64, st.tuples(st.integers(9, 60), st.integers(1, 5)), elements=st.floats(-1e4, 1e4), fill=st.nothing()
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_normalize(rows, split=SPLIT):
    """Run the stage on a record of `rows` (rows, columns), named a, b, ...; return what it wrote."""
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    columns = {"Date Time": pa.array(np.arange(len(rows)) * 600, pa.timestamp("s"))}
    columns |= {chr(ord("a") + i): pa.array(column) for i, column in enumerate(np.asarray(rows, float).T)}
    pq.write_table(pa.table(columns), RECORD, row_group_size=7)  # columns in several chunks
    record = {"target": "a", "sentinels": [-9999]}
    sections = {"split": {"record": "jena", **split}, "records": {"jena": record}}
    Path("params.yaml").write_text(json.dumps(sections))
    stage.NORMALIZATION.unlink(missing_ok=True)
    stage.normalize()
    return json.loads(stage.NORMALIZATION.read_text())


def assert_refused(rows, split, *expected):
    """Assert that the stage refuses with every text of `expected`, and writes nothing."""
    with pytest.raises(UserError) as raised:
        run_normalize(rows, split)
    for text in expected:
        assert text in str(raised.value), str(raised.value)
    assert [path for path in Path("data").rglob("*") if path.is_file()] == [RECORD]


def compute_notebook_statistics(data, n):
    """Return the notebooks' mean and std of the first `n` rows of `data`, in their own statements."""
    data = np.array(data, np.float64, order="C")
    mean = data[:n].mean(axis=0)
    data -= mean
    return mean, data[:n].std(axis=0)


@OPTIONS
@given(data=tables, order=st.sampled_from("CF"), n=st.integers(1, 9))
def test_statistics_are_those_of_the_notebooks_bit_for_bit(data, order, n):
    result = stage.compute_statistics(np.array(data, order=order)[:n])
    for ours, theirs in zip(result, compute_notebook_statistics(data, n), strict=True):
        assert ours.tobytes() == theirs.tobytes()


@OPTIONS
@given(data=tables)
def test_statistics_equal_exact_sums(data):
    mean, std = stage.compute_statistics(data)
    for i, column in enumerate(data.T.tolist()):
        exact = math.fsum(column) / len(column)
        spread = math.sqrt(math.fsum((value - exact) ** 2 for value in column) / len(column))
        largest = max(map(abs, column))
        assert mean[i] == pytest.approx(exact, rel=1e-12, abs=1e-12 * largest)
        assert std[i] == pytest.approx(spread, rel=1e-12, abs=1e-12 * largest)


def test_statistics_leave_their_input_alone():
    data = np.arange(12.0).reshape(6, 2)
    data.flags.writeable = False
    mean, std = stage.compute_statistics(data)
    assert mean.tolist() == [5, 6] and std.tolist() == [math.sqrt(35 / 3)] * 2


@settings(OPTIONS, max_examples=15)
@given(data=tables, later=st.floats(-1e300, 1e300))
def test_only_training_rows_matter(root, data, later):
    data[:2] = [[0.1], [0.7]]  # no column is constant
    result = run_normalize(data)
    mean, std = compute_notebook_statistics(data, 4)
    assert result["rows"] == [0, 4]
    assert [entry["mean"] for entry in result["columns"].values()] == mean.tolist()
    assert [entry["std"] for entry in result["columns"].values()] == std.tolist()
    assert list(result["columns"]) == [chr(ord("a") + i) for i in range(data.shape[1])]
    data[4:] = later
    assert run_normalize(data) == result
    data[3] += 1
    assert run_normalize(data) != result


def test_training_rows_may_begin_later(root):
    rows = [[9e9], [1], [2], [4], [9e9], [0], [0], [0], [0]]
    result = run_normalize(rows, SPLIT | {"train": [1, 4]})
    assert result["rows"] == [1, 4]
    assert result["columns"]["a"]["mean"] == np.array([[1.0], [2], [4]]).mean(axis=0)[0]


@pytest.mark.parametrize("value", [0.0, 0.1, -9999.0])
def test_constant_columns_are_named(root, value):
    rows = np.random.default_rng(1).normal(size=(2000, 3))
    rows[:1500, 1] = value  # the rounded mean of 1,500 times 0.1 is not 0.1
    split = {"train": [0, 1500], "val": [1500, 1600], "test": [1600, None], "val_batch": 8}
    assert_refused(
        rows, split, f"column 'b' ({value})", "constant in the training rows [0, 1500)", "drop it", "split.train"
    )


@pytest.mark.parametrize(
    ("train", "val", "test", "key", "needed"),
    [
        ([0, 31], [31, 32], [32, None], "train", "31"),
        ([0, 4], [5, 1000], [1000, None], "val", "1,000"),
        ([0, 4], [5, 7], [20, None], "test", "21"),
        ([0, 4], [5, 7], [8, 21], "test", "21"),
    ],
)
def test_too_few_rows(root, train, val, test, key, needed):
    split = {"train": train, "val": val, "test": test, "val_batch": 1}
    assert_refused(np.arange(20.0)[:, None], split, f"split.{key}", f"needs {needed} rows, but the record has 20")


def test_a_record_of_exactly_the_rows_needed(root):
    assert run_normalize(np.arange(9.0)[:, None])["rows"] == [0, 4]
    assert_refused(np.arange(8.0)[:, None], SPLIT, "split.test", "needs 9 rows, but the record has 8")


row = st.none() | st.integers(-1, 25) | st.just(4.5)
ranges = st.lists(row, min_size=1, max_size=3) | st.lists(st.integers(0, 20), min_size=2, max_size=2).map(sorted)


@settings(OPTIONS, max_examples=60)
@given(split=st.fixed_dictionaries({key: ranges for key in ("train", "val", "test")}))
def test_a_split_is_three_ranges_one_after_another_within_the_record(root, split):
    try:
        (a, b), (c, d), (e, f) = split.values()
        # Only the last may be open; a training row more than one, or the column is constant.
        good = 0 <= a < b - 1 and b <= c < d <= e < (20 if f is None else f) <= 20
        good = good and not any(isinstance(value, float) for pair in split.values() for value in pair)
    except (TypeError, ValueError):
        good = False
    if good:
        assert run_normalize(np.arange(20.0)[:, None], split | {"val_batch": 1})["rows"] == [a, b]
    else:
        with pytest.raises(UserError, match=r"split\.(train|val|test)"):
            run_normalize(np.arange(20.0)[:, None], split | {"val_batch": 1})


def test_missing_record(root):
    Path("params.yaml").write_text(json.dumps({"split": SPLIT}))
    with pytest.raises(
        UserError, match=r"data/records/jena/record\.parquet: not found; make it with `dvc repro parse@jena`"
    ):
        stage.normalize()


def test_sentinels_in_the_training_rows_are_named(root, capsys):
    rows = np.random.default_rng(0).normal(size=(10, 2))
    rows[8, 0] = -9999  # a test row
    run_normalize(rows)
    assert capsys.readouterr().err == ""
    rows[:2, 1] = -9999
    run_normalize(rows)
    assert "2 in 'b'" in capsys.readouterr().err


def test_values_that_are_missing_anywhere_are_refused(root):
    rows = np.random.default_rng(0).normal(size=(10, 2))
    rows[[8, 9], 0] = np.nan  # beyond the training rows: the windows have them all the same
    assert_refused(
        rows,
        SPLIT,
        "data/records/jena/record.parquet: expected a number in every row",
        "2 missing in 'a'",
        "the station's",
    )
