"""Windows over the weather record, against a plain loop over rows, batches and steps."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stages import download, normalize, parse
from stages import inputs as stage
from stages.lib.errors import UserError
from stages.lib.settings.split import Split
from stages.lib.windows.input_set import load_input_set

OPTIONS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def list_validation_rows(first, last, lookback, batch):
    """The rows that the notebooks' validation reads, each once, in order.

    It takes (last - first - lookback) // batch batches one after another, from first + lookback on, and begins
    again there before a batch that would reach `last` or go beyond it.
    """
    seen, row = [], first + lookback
    for _ in range((last - first - lookback) // batch):
        if row + batch >= last:
            row = first + lookback
        for r in range(row, min(row + batch, last)):
            if r not in seen:
                seen.append(r)
        row += batch
    return seen


def list_expected_rows(count, split, lookback, delay):
    """The rows that each split forecasts from."""
    rows = {}
    for name in ("train", "val", "test"):
        first, last = split[name]
        last = count - delay - 1 if last is None else last
        rows[name] = list(range(first + lookback, last))
    first, last = split["val"]
    rows["val"] = list_validation_rows(first, last, lookback, split["val_batch"])
    return rows


@st.composite
def draw_problems(draw):
    """A record's length, a split with at least one window in each part, and lookback, step and delay."""
    step = draw(st.integers(1, 6))
    lookback, delay = step * draw(st.integers(1, 6)), draw(st.integers(0, 9))
    batch, split, row = draw(st.integers(1, 7)), {}, 0
    for name in ("train", "val", "test"):
        windows = draw(st.integers(batch, 4 * batch) if name == "val" else st.integers(1, 20))
        first = row + draw(st.integers(0, 3))
        row = first + lookback + windows
        split[name] = [first, row]
    count = row + delay + draw(st.integers(0, 8))
    if draw(st.booleans()):
        split["test"][1], count = None, max(count, row + delay + 1)
    return count, split | {"val_batch": batch}, lookback, step, delay


def run_inputs(problem, columns=3, seed=0):
    """Run the stage on a random record; return its input set, the record normalized in float64, and its times."""
    count, split, lookback, step, delay = problem
    random = np.random.default_rng(seed)
    rows = random.normal(9, 7, (count, columns))
    times = np.cumsum(random.integers(1, 2000, count)).astype("M8[s]")
    names = [f"c{i} (K)" for i in range(columns)]
    mean, std = random.normal(9, 7, columns), random.uniform(0.1, 9, columns)
    Path("data/records/jena").mkdir(parents=True, exist_ok=True)
    table = {"Date Time": pa.array(times)} | dict(zip(names, map(pa.array, rows.T), strict=True))
    pq.write_table(pa.table(table), "data/records/jena/record.parquet", row_group_size=17)
    statistics = {name: {"mean": m, "std": s} for name, m, s in zip(names, mean, std, strict=True)}
    Path("data/normalization.json").write_text(json.dumps({"columns": statistics}))
    window = {"lookback": lookback, "step": step, "delay": delay}
    split, records = {"record": "jena", **split}, {"jena": {"target": names[1]}}
    sections = {"inputs": {"any": window}, "split": split, "records": records}
    Path("params.yaml").write_text(json.dumps(sections))
    stage.inputs("any")
    return load_input_set("data/inputs/any"), (rows - mean) / std, times


@OPTIONS
@example((30, {"train": [0, 8], "val": [8, 16], "test": [16, None], "val_batch": 4}, 4, 2, 3))
@example((30, {"train": [0, 8], "val": [8, 20], "test": [20, None], "val_batch": 4}, 4, 2, 3))
@given(draw_problems())
def test_equals_a_plain_loop(root, problem):
    count, split, lookback, step, delay = problem
    result, data, times = run_inputs(problem)
    for name, rows in list_expected_rows(count, split, lookback, delay).items():
        part = getattr(result, name)
        samples = np.zeros((len(rows), lookback // step, data.shape[1]))
        targets = np.zeros(len(rows))
        for j, row in enumerate(rows):
            for k in range(lookback // step):
                samples[j, k] = data[row - lookback + k * step]
            targets[j] = data[row + delay, 1]
        assert part.windows.shape == samples.shape, name
        assert part.windows[:].tobytes() == samples.astype(np.float32).tobytes(), name
        assert part.targets.tobytes() == targets.astype(np.float32).tobytes(), name
        assert part.times.tolist() == times[np.array(rows) + delay].tolist(), name


def test_the_notebooks_sizes():
    split = {"train": [0, 200_000], "val": [200_001, 300_000], "test": [300_001, None], "val_batch": 128}
    rows = stage.choose_forecast_rows(420_551, Split(record="jena", **split), lookback=1440, delay=144)
    assert {name: len(row) for name, row in rows.items()} == {"train": 198_560, "val": 98_432, "test": 118_965}
    assert [(row[0], row[-1]) for row in rows.values()] == [(1440, 199_999), (201_441, 299_872), (301_441, 420_405)]


def test_validation_is_what_the_notebooks_steps_reach():
    for windows in range(1, 25):
        split = {"train": [0, 9], "val": [9, 9 + 5 + windows], "test": [40, None], "val_batch": 6}
        expected = list_validation_rows(*split["val"], 5, 6)
        if windows < 6:
            with pytest.raises(UserError, match=r"split\.val"):
                stage.choose_forecast_rows(60, Split(record="jena", **split), lookback=5, delay=2)
        else:
            assert (
                stage.choose_forecast_rows(60, Split(record="jena", **split), lookback=5, delay=2)["val"].tolist()
                == expected
            )
            assert len(expected) == {6: 6, 12: 6, 18: 12, 24: 18}.get(windows, windows // 6 * 6)


def test_the_input_set_is_small_and_described(weather):
    stage.inputs("tiny")
    result = load_input_set("data/inputs/tiny")
    assert result.shape == (8, 3) and result.meta.time == 8
    assert result.meta.columns == ["p (mbar)", "T (degC)", "wv (m/s)"]
    assert (result.meta.target, result.meta.unit) == (1, "degc")
    statistics = json.loads(Path("data/normalization.json").read_text())["columns"]["T (degC)"]
    assert (result.meta.mean, result.meta.std) == (statistics["mean"], statistics["std"])
    assert result.rows.dtype == np.float32 and result.rows.shape == (300, 3)  # no row is stored twice
    for split in (result.train, result.val, result.test):
        assert np.shares_memory(split.windows.view, result.rows)


def test_the_same_bytes_again(weather):
    def content():
        stage.inputs("tiny")
        return {path.name: path.read_bytes() for path in Path("data/inputs/tiny").iterdir()}

    assert content() == content()
    assert sorted(content()) == ["meta.json", "rows.npy", "test.npy", "train.npy", "val.npy"]
    assert [path.name for path in Path("data/inputs").iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("section", "key", "change", "expected"),
    [
        ("inputs", "tiny", {"step": 3}, ["inputs.tiny.lookback: expected a multiple of step, 3, found 16"]),
        ("inputs", "tiny", {"lookback": 120}, ["split.train [0, 120)", "no window of lookback 120"]),
        ("split", None, {"val": [121, 144]}, ["split.val [121, 144)", "val_batch 8", "widen the split"]),
        ("split", None, {"test": [181, 197]}, ["split.test [181, 197)", "no window of lookback 16"]),
        ("split", None, {"test": [279, None]}, ["split.test [279, 295)", "no window"]),
        ("split", None, {"test": [181, 297]}, ["split.test", "row 297", "4 rows on", "300 rows", "longer record"]),
        ("split", None, {"val": [121, 5000], "test": [5000, None]}, ["split.val", "row 5,000", "smaller splits"]),
        ("records", "jena", {"target": "T (K)"}, ["records.jena.target", "T (K)", "p (mbar), T (degC), wv (m/s)"]),
    ],
)
def test_mistakes(weather, section, key, change, expected):
    weather.write_params(section, key, **change)
    with pytest.raises(UserError) as raised:
        stage.inputs("tiny")
    for text in ["params.yaml: ", *expected]:
        assert text in str(raised.value), str(raised.value)
    assert not Path("data/inputs").exists()


def test_the_largest_split_that_the_record_holds(weather):
    weather.write_params("split", test=[181, 296])
    stage.inputs("tiny")
    assert load_input_set("data/inputs/tiny").test.times[-1] == np.datetime64(299 * 600, "s")


def test_an_unknown_name_lists_the_known(weather):
    with pytest.raises(UserError, match="no `hourly` in inputs; it has tiny"):
        stage.inputs("hourly")


@pytest.mark.parametrize("lacking", ["records/jena/record.parquet", "normalization.json"])
def test_a_missing_input(weather, lacking):
    Path("data", lacking).unlink()
    with pytest.raises(UserError, match=f"data/{lacking}: not found"):
        stage.inputs("tiny")
    assert not Path("data/inputs").exists()


def test_the_record_at_hand(root, shared):
    split = {"record": "jena", "train": [0, 200_000], "val": [200_001, 300_000], "test": [300_001, None]}
    split["val_batch"] = 128
    source = str(shared / "data" / "jena_climate_2009_2016_rebuilt.csv.zip")
    record = {"source": source, "size": None, "sha256": None, "target": "T (degC)", "sentinels": [-9999]}
    record |= {"time": "Date Time", "format": "%d.%m.%Y %H:%M:%S", "encoding": "utf-8"}
    hourly = {"lookback": 1440, "step": 6, "delay": 144}
    sections = {"records": {"jena": record}, "split": split, "inputs": {"hourly": hourly}}
    Path("params.yaml").write_text(json.dumps(sections))
    download.download("jena")
    parse.parse("jena")
    normalize.normalize()
    stage.inputs("hourly")
    result = load_input_set("data/inputs/hourly")
    assert result.shape == (240, 14)
    assert [len(part.windows) for part in (result.train, result.val, result.test)] == [198_560, 98_432, 118_965]
    last = result.val.windows.view[result.val.windows.starts, -1, result.meta.target]
    assert round(float(np.abs(last.astype(float) - result.val.targets).mean()), 5) == 0.28918
    assert result.test.times[-1] == np.datetime64("2016-12-31T23:50:00")
