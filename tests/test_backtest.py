"""The rolling test of one model: its splits, that it sees nothing of its test period, and its seeds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.backtest import backtest
from stages.lib.errors import UserError
from stages.lib.settings.backtest import Backtest
from stages.lib.windows.input_set import SPLITS, Meta, load_input_set, save_input_set

LOOKBACK, LEADS, HOURS = 24, 30, 24 * 150
FIRST = np.datetime64("2011-01-01T00:00:00")
FOLD = {"inputs": "station", "folds": ["2011-04-01", "2011-05-01"], "months": 1, "val": 1, "train": None}
PARAMS = {
    "periods": {"train": "2011-01-01"},
    "backtest": FOLD | {"models": ["persistence", "ridge", "station_mlp"], "seeds": [1, 2]},
    "training": {"batch_size": 64, "learning_rate": 0.01, "max_epochs": 2, "seed": 1, "threads": 1},
    "tasks": {"station": {"loss": "pinball", "metric": "pinball", "monitor": "val_loss"}},
    "models": {
        "ridge": {"architecture": "ridge", "task": "station", "inputs": "station", "epochs": 0},
        "station_mlp": {
            **{"architecture": "station_mlp", "task": "station", "inputs": "station"},
            **{"epochs": 2, "members": 5},
            **{"units": 3, "bins": 2, "curves": 2, "noise": 0.1, "dropout": 0.1},
        },
    },
}


def write_record(change: int | None = None) -> None:
    """Write data/inputs/station: 150 days of weather; from the row `change` on, another one."""
    random = np.random.default_rng(3)
    hour = np.arange(HOURS)
    temperature = 8 + 5 * np.cos(2 * np.pi * (hour - 14) / 24) + np.cumsum(random.normal(0, 0.4, HOURS)) * 0.5
    pressure = 990 + random.normal(0, 3, HOURS)
    if change is not None:
        temperature[change:] += 70
        pressure[change:] = 0
    rows = np.column_stack([pressure, temperature, hour % 24, 1 + hour / 24]).astype(np.float32)
    columns = ["p (mbar)", "T (degC)", "hour of day (h)", "day of year (d)"]
    start = np.arange(HOURS - LOOKBACK - LEADS + 1)
    windows = start, None, FIRST + (start + LOOKBACK - 1).astype("timedelta64[h]")
    few = start[:5], None, windows[2][:5]
    meta = Meta(LOOKBACK, columns, 1, leads=LEADS, every=1)
    path = Path("data/inputs/station")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_input_set(path, rows, dict.fromkeys(SPLITS, few) | {"all": windows}, meta, temperature.astype(np.float32))


@pytest.fixture
def station(root):
    Path("params.yaml").write_text(json.dumps(PARAMS))
    write_record()


def run_backtest(name: str) -> pd.DataFrame:
    backtest(name, "2011-04-01")
    return pd.read_parquet(f"data/backtest/{name}/2011-04-01.parquet")


@pytest.mark.parametrize("name", ["ridge", pytest.param("station_mlp", marks=pytest.mark.slow)])
def test_nothing_from_a_forecasts_future_changes_it(station, name):
    params = PARAMS | {"backtest": PARAMS["backtest"] | {"seeds": [1]}}  # a second seed would take the same windows
    Path("params.yaml").write_text(json.dumps(params))
    before = run_backtest(name)
    middle = pd.Timestamp("2011-04-15")
    for moment in (pd.Timestamp("2011-04-01"), middle, pd.Timestamp("2011-05-01")):
        for file in Path("data/inputs/station").iterdir():
            file.unlink()
        Path("data/inputs/station").rmdir()
        write_record(int((moment - pd.Timestamp(FIRST)) / pd.Timedelta(hours=1)))
        after = run_backtest(name)
        known = before["origin"] < moment
        assert known.sum() == {4: 0, 5: len(before)}.get(moment.month if moment != middle else 0, known.sum())
        columns = ["origin", "lead", "q0.1", "q0.5", "q0.9", "seed"]
        pd.testing.assert_frame_equal(before.loc[known, columns], after.loc[known, columns])
        assert known.all() or not before["q0.5"].equals(after["q0.5"])


def test_a_seed_is_one_member_and_enters_only_where_something_is_trained(station):
    assert run_backtest("ridge")["seed"].unique().tolist() == [1]
    result = run_backtest("station_mlp")
    assert result["seed"].unique().tolist() == [1, 2]
    first, second = (part["q0.5"].to_numpy() for _, part in result.groupby("seed"))
    assert (first != second).any()
    assert list(result["lead"].unique()) == [24]
    assert result["origin"].min() >= pd.Timestamp("2011-04-01T23:00")
    assert result["origin"].max() + pd.Timedelta(hours=LEADS) < pd.Timestamp("2011-05-01")
    assert not list(Path(".resume").glob("*"))
    assert result.attrs["threads"] == 1 and result.attrs["processor"]


def test_a_fold_without_windows_is_named(station):
    with pytest.raises(UserError, match=r"backtest\.folds: expected windows for val from 2011-06-01T"):
        backtest("ridge", "2011-07-01")


@given(
    day=st.dates(pd.Timestamp("2011-03-01").date(), pd.Timestamp("2011-05-20").date()),
    **{name: st.integers(1, 3) for name in ("months", "val")},
    train=st.none() | st.integers(1, 3),
)
def test_bounds_are_months_before_and_after_the_first_test_day(day, months, val, train):
    own = Backtest(
        **FOLD | {"folds": [day.isoformat()], "months": months, "val": val, "train": train},
        **{"models": ["ridge"], "seeds": [1]},
    )
    begin, second, third, end = (pd.Timestamp(time) for time in own.get_bounds(day.isoformat(), "2010-11-15"))
    assert third == pd.Timestamp(day) and end == third + pd.DateOffset(months=months)
    assert second == third - pd.DateOffset(months=val)
    earliest = pd.Timestamp("2010-11-15")
    assert begin == (earliest if train is None else max(earliest, third - pd.DateOffset(months=val + train)))


def test_splits_by_other_dates_hold_the_windows_that_lie_within_them(station):
    bounds = [np.datetime64(f"2011-0{month}-01T00:00:00") for month in (2, 3, 4, 5)]
    inputs, hour = load_input_set("data/inputs/station", bounds), np.timedelta64(1, "h")
    for name, first, last in zip(SPLITS, bounds, bounds[1:], strict=False):
        times = getattr(inputs, name).times
        assert times.min() == first + LOOKBACK * hour and times.max() == last - (LEADS + 1) * hour
        assert (np.diff(times) == hour).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": ["2011-04-01", "2011-04-20"]}, "found 2011-04-20 after 2011-04-01"),
        ({"folds": ["2011-02-30"]}, "expected a list of first test days in quotes"),
        ({"seeds": [1, 1]}, "expected a list of different whole numbers"),
    ],
)
def test_what_is_no_backtest_is_refused(station, change, message):
    params = PARAMS | {"backtest": PARAMS["backtest"] | change}
    Path("params.yaml").write_text(json.dumps(params))
    with pytest.raises(UserError, match=message):
        backtest("ridge", "2011-04-01")
