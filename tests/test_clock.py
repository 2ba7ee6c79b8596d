"""Input sets by the clock: rows, targets and windows, against a slow version written from the description."""

import json
import re
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import clock as stage
from stages.lib.errors import UserError
from stages.lib.settings.clean import Clean
from stages.lib.settings.clock import Clock
from stages.lib.settings.periods import Periods
from stages.lib.settings.records import Record
from stages.lib.weather.cleaning import clean_record as cleaned_grid
from stages.lib.weather.csv_files import read_csv_files
from stages.lib.weather.hourly import CALENDAR, to_hourly_rows
from stages.lib.weather.record import ISSUE_TIME, to_numpy
from stages.lib.windows.clock_rows import CleanRecord, assemble_clock_rows, find_window_starts, join_forecasts
from stages.lib.windows.input_set import load_input_set

SOURCE = {"source": "a test", "synthetic": False}
TARGET, START = "T (degC)", datetime(2009, 12, 31)
OPTIONS = settings(max_examples=60)
PERIODS = {"train": "2009-01-01", "val": "2009-12-31 20:00", "test": "2010-01-01 07:00", "end": None}


def make_grid(minutes, T, p, start=START):
    """Return a grid as lib.cleaning makes it, with a row every `minutes` from `start`."""
    index = pd.date_range(start, periods=len(T), freq=f"{minutes}min", name="Date Time")
    return pd.DataFrame({"p (mbar)": np.array(p, float), TARGET: np.array(T, float)}, index=index)


def make_settings(every=1, lookback=2, leads=2, **others):
    """Return a line of `clock`; `lookback` and `leads` are in rows, and may be too short for the real settings."""
    values = {"record": "jena", "neighbours": [], "ahead": [], "max_missing": 0.0, "max_missing_neighbours": 0.5}
    values |= {"every": every, "lookback": lookback * every, "leads": leads * every}
    return Clock.model_construct(**values | others)


def assemble(grid, settings, max_gap, bounds, **records):
    """Return the rows of a station with the cleaned `grid`, and of other `records`."""
    named = {"jena": CleanRecord(grid, TARGET)} | {k: CleanRecord(r, TARGET) for k, r in records.items()}
    return assemble_clock_rows(settings, named, max_gap, bounds)


def test_a_row_is_the_mean_of_the_hour_that_ends_with_it_and_the_target_its_last_value():
    values = np.arange(12.0)
    table = to_hourly_rows(make_grid(10, values, values, datetime(2009, 1, 1, 0, 10)), TARGET, 1, 3)
    assert table.columns == ["p (mbar)", TARGET, "hour of day (h)", "day of year (d)"]
    np.testing.assert_allclose(table.rows, [[2.5, 5, 1, 1 + 1 / 24], [8.5, 11, 2, 1 + 2 / 24]], rtol=1e-6)
    assert table.targets.tolist() == [5, 11] and table.rows.dtype == table.targets.dtype == np.float32
    assert table.time.astype(str).tolist() == ["2009-01-01T01:00:00", "2009-01-01T02:00:00"]
    assert table.start.astype(str).tolist() == ["2009-01-01T00:10:00", "2009-01-01T01:10:00"]


def test_rows_are_at_the_phase_of_the_record():
    table = to_hourly_rows(make_grid(60, range(9), range(9), datetime(2009, 1, 1, 0, 20)), TARGET, 3, 3)
    assert table.time.astype(str).tolist() == ["2009-01-01T03:20:00", "2009-01-01T06:20:00"]
    assert table.rows[:, :2].tolist() == [[2, 3], [5, 6]]


@pytest.mark.parametrize(
    ("minutes", "rows", "every", "expected"),
    [(40, 9, 1, "a multiple of the record's interval, 0.666667 hours, found 1"), (60, 3, 6, "shorter .* 3 hours")],
)
def test_rows_that_the_record_cannot_give(minutes, rows, every, expected):
    with pytest.raises(UserError, match=rf"params.yaml: clock: expected every to be {expected}"):
        to_hourly_rows(make_grid(minutes, range(rows), range(rows)), TARGET, every, 3)


# --- Against the description -------------------------------------------------------------------------


class Plain:
    """The description, a value at a time: slow and obviously right."""

    def __init__(self, grid, every, max_gap, bounds):
        self.grid, self.bounds = grid, bounds
        self.interval = grid.index[1] - grid.index[0]
        self.every, self.max_gap = timedelta(hours=every), timedelta(hours=max_gap)
        self.table = {name: dict(zip(grid.index, grid[name].tolist(), strict=True)) for name in grid}

    def measured(self, name, time):
        value = self.table[name].get(time)
        return None if value is None or np.isnan(value) else value

    def neighbours(self, name, time):
        """The grid points of the measured values before and after the gap at `time`; None at the record's ends."""
        result = []
        for step in (-self.interval, self.interval):
            other = time
            while other in self.table[name] and self.measured(name, other) is None:
                other += step
            result.append(other if other in self.table[name] else None)
        return result

    def long_gap(self, name, time, first, last):
        """Whether what is missing at `time`, within [first, last), is more than max_gap."""

        def missing(moment):
            within = moment >= first and (last is None or moment < last)
            return within and moment in self.table[name] and self.measured(name, moment) is None

        if not missing(time):
            return False
        length, other = timedelta(0), time
        while missing(other):
            other -= self.interval
        other += self.interval
        while missing(other):
            length += self.interval
            other += self.interval
        return length > self.max_gap

    def value(self, name, time, first, last):
        """Measured, or on the line between its neighbours, both of them within [first, last); else None."""
        if (value := self.measured(name, time)) is not None:
            return value
        before, after = self.neighbours(name, time)
        if self.long_gap(name, time, first, last) or before is None or after is None:
            return None
        if before < first or (last is not None and after >= last):
            return None
        share = (time - before) / (after - before)
        return self.measured(name, before) * (1 - share) + self.measured(name, after) * share

    def points(self, time):
        """The grid points of the row at `time`: every hours that end with it."""
        return [time - self.interval * back for back in range(self.every // self.interval)]

    def row(self, time, first, last):
        row = []
        for name in self.grid:
            times = [time] if name == TARGET else self.points(time)
            row.append([self.value(name, moment, first, last) for moment in times])
        return None if any(None in values for values in row) else [sum(values) / len(values) for values in row]

    def window(self, origin, lookback, leads, first, last):
        """The (rows, targets) from `origin`, or None where that is no window of the split [first, last)."""
        inputs = [origin - self.every * back for back in reversed(range(lookback))]
        after = [origin + self.every * (lead + 1) for lead in range(leads)]
        everything = [point for time in (*inputs, *after) for point in self.points(time)]
        if any(point not in self.grid.index or point < first or (last and point >= last) for point in everything):
            return None
        if any(self.measured(name, origin) is None for name in self.grid):
            return None
        if any(self.long_gap(TARGET, point, first, last) for time in after for point in self.points(time)):
            return None
        rows = [self.row(time, first, last) for time in inputs]
        targets = [self.measured(TARGET, time) for time in after]
        if None in rows or targets == [None] * leads:
            return None
        return rows, [np.nan if target is None else target for target in targets]


@st.composite
def draw_grids(draw):
    """A grid with gaps: over the new year, hourly with a phase or at finer intervals."""
    minutes = draw(st.sampled_from([20, 30, 60, 60]))
    count = draw(st.integers(2, 26)) * 60 // minutes + draw(st.integers(0, 2))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = random.normal([990, 0], [8, 7], (count, 2))
    gaps = st.tuples(
        st.integers(0, count - 1), st.integers(1, 5 * 60 // minutes), st.sampled_from([[0], [1], [0, 1]])
    )
    for first, length, columns in draw(st.lists(gaps, max_size=4)):
        values[first : first + length, columns] = np.nan
    start = START + timedelta(hours=12, minutes=draw(st.integers(0, 59)) * (minutes == 60))
    return make_grid(minutes, values[:, 1], values[:, 0], start)


@OPTIONS
@given(draw_grids(), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
def test_windows_are_those_of_the_description(grid, every, lookback, leads, max_gap):
    bounds = Periods.model_validate(PERIODS).get_bounds()
    window_settings = make_settings(every, lookback, leads)
    try:
        clock_rows = assemble(grid, window_settings, max_gap, bounds)
    except UserError:
        assert len(grid) * (grid.index[1] - grid.index[0]) < timedelta(hours=2 * every)
        return
    plain, table = Plain(grid, every, max_gap, bounds), clock_rows.hourly
    phase = (grid.index[0] - pd.Timestamp(0)) % (grid.index[1] - grid.index[0])
    for first, last in pairwise(bounds):
        begin, end = pd.Timestamp(first), last if last is None else pd.Timestamp(last)
        expected = {}
        for time in grid.index:
            if (time - pd.Timestamp(0) - phase) % timedelta(hours=every) == timedelta(0):
                expected[time] = plain.window(time, lookback, leads, begin, end)
        expected = {time: window for time, window in expected.items() if window}
        start = find_window_starts(clock_rows, window_settings, first, last)
        assert pd.DatetimeIndex(table.time[start + lookback - 1]).tolist() == list(expected)
        for position, (rows, targets) in zip(start, expected.values(), strict=True):
            after = position + lookback
            np.testing.assert_allclose(table.rows[position:after, :2], rows, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(table.targets[after : after + leads], np.float32(targets))


def select_windows(grid, bounds, split, every=1):
    """The inputs and targets of the split number `split`, by origin, for windows of two rows and two leads."""
    clock_rows = assemble(grid, make_settings(every), 3, bounds)
    table, start = (
        clock_rows.hourly,
        find_window_starts(clock_rows, make_settings(every), *bounds[split : split + 2]),
    )
    return {
        str(table.time[row + 1]): (table.rows[row : row + 2].tobytes(), table.targets[row + 2 : row + 4].tobytes())
        for row in start
    }


def perturb_grid(grid, rows, random):
    """Return `grid` with other values, and other gaps, in `rows`."""
    other = grid.copy()
    noise = random.normal(0, 9, (len(grid), 2))
    noise[random.random(noise.shape) < 0.2] = np.nan
    other.iloc[rows] = noise[rows]
    return other


@OPTIONS
@given(draw_grids(), st.integers(0, 2**32))
def test_what_comes_after_the_origin_changes_no_input(grid, seed):
    bounds, random = Periods.model_validate(PERIODS).get_bounds(), np.random.default_rng(seed)
    clock_rows = assemble(grid, make_settings(), 3, bounds)
    table = clock_rows.hourly
    for split in range(3):
        for position in find_window_starts(clock_rows, make_settings(), bounds[split], bounds[split + 1]):
            origin = grid.index.searchsorted(table.time[position + 1], side="right")
            other = to_hourly_rows(perturb_grid(grid, slice(origin, None), random), TARGET, 1, 3, bounds)
            window = slice(position, position + 2)
            assert other.rows[window].tobytes() == table.rows[window].tobytes() and other.measured[position + 1]


@OPTIONS
@given(draw_grids(), st.integers(0, 2**32))
def test_no_row_of_the_record_serves_two_splits(grid, seed):
    bounds, random = Periods.model_validate(PERIODS).get_bounds(), np.random.default_rng(seed)
    for split in range(3):
        first, last = bounds[split], bounds[split + 1]
        within = grid.index >= first if last is None else (grid.index >= first) & (grid.index < last)
        outside = np.flatnonzero(~within)
        other = perturb_grid(grid, outside, random)
        assert select_windows(other, bounds, split) == select_windows(grid, bounds, split)


# --- Several records ---------------------------------------------------------------------------------


@st.composite
def draw_forecasts(draw):
    """Forecasts as `clean` leaves them: issued at any time before the hour they are valid at, some missing."""
    valid = st.integers(-2, 30).map(lambda hour: START + timedelta(hours=12 + hour))
    row = st.tuples(valid, st.integers(0, 600), st.floats(-9, 9, width=32) | st.just(np.nan))
    rows = draw(st.lists(row, min_size=1, max_size=40, unique_by=lambda row: row[:2]))
    frame = pd.DataFrame(rows, columns=["valid", ISSUE_TIME, TARGET])
    frame[ISSUE_TIME] = pd.to_datetime(frame["valid"]) - pd.to_timedelta(frame[ISSUE_TIME].astype(float), "min")
    frame = frame.astype({"valid": "M8[s]", ISSUE_TIME: "M8[s]", TARGET: float})
    return frame.sort_values(["valid", ISSUE_TIME]).set_index("valid")


def describe_ahead(forecasts, origin, leads):
    """The description: for each hour, the forecast issued last, but by the origin, and its age in hours."""
    known = {}
    for valid, issued, value in forecasts:
        if issued <= origin:
            known[valid] = (value, (valid - issued) / timedelta(hours=1))  # the newest one comes last
    valid_times = [origin + timedelta(hours=lead) for lead in range(1, leads + 1)]
    return np.array([known.get(valid, (np.nan, np.nan)) for valid in valid_times], np.float32)


@OPTIONS
@given(draw_grids(), draw_forecasts(), st.integers(24, 48))
def test_at_an_origin_each_hour_has_the_newest_forecast_known_then(grid, forecasts, lookback):
    rows = assemble(grid, make_settings(1, lookback, 3, ahead=["icon"]), 3, (), icon=forecasts)
    assert rows.ahead_columns == [f"icon {TARGET}", "icon age (h)", "icon mean error of 1 days"]
    assert rows.ahead_targets == [0]
    plain = [(valid.to_pydatetime(), *values) for valid, *values in forecasts.itertuples()]
    known = [describe_ahead(plain, time.item(), 3) for time in rows.hourly.time]
    np.testing.assert_array_equal(rows.ahead[:, :, :2], known)
    for position in range(len(known)):
        for lead in range(1, 4):  # the errors of the last day: measured, minus the forecast of that lead
            errors = []
            for row in range(max(position - 23, 0), position + 1):
                made = rows.hourly.time[row].item() - timedelta(hours=lead)
                errors.append(rows.hourly.targets[row] - describe_ahead(plain, made, lead)[lead - 1, 0])
            measured = [float(error) for error in errors if np.isfinite(error)]
            expected = np.mean(measured) if measured else np.nan
            np.testing.assert_allclose(rows.ahead[position, lead - 1, 2], expected, atol=1e-4)


@OPTIONS
@given(draw_grids(), draw_forecasts(), st.integers(0, 2**32))
def test_records_of_one_weather_model_are_as_one(grid, forecasts, seed):
    """However its forecasts are spread over records, whose time columns may have different names."""
    part = np.random.default_rng(seed).random(len(forecasts)) < 0.5
    settings = make_settings(1, 24, 3, ahead=[["day1", "day2"]])
    parts = {"day1": forecasts[part], "day2": forecasts[~part].rename_axis("other")}
    joined = assemble(grid, settings, 3, (), **parts)
    expected = assemble(grid, make_settings(1, 24, 3, ahead=["day1"]), 3, (), day1=forecasts)
    assert joined.ahead.tobytes() == expected.ahead.tobytes()
    assert joined.ahead_columns == expected.ahead_columns


def test_records_of_one_weather_model_have_the_same_columns():
    frame = pd.DataFrame({ISSUE_TIME: [pd.Timestamp(START)], TARGET: [1.0]}, index=[pd.Timestamp(START)])
    with pytest.raises(UserError, match="found day1 and day2, which do not both have 'cloud'; rename"):
        join_forecasts({"day1": frame, "day2": frame.assign(cloud=1.0)})


@OPTIONS
@given(draw_grids(), draw_grids(), st.integers(1, 2), st.integers(0, 3))
def test_a_row_has_what_a_neighbour_measured_by_its_time(grid, other, every, max_gap):
    window_settings = make_settings(every, neighbours=["kassel"])
    try:
        rows = assemble(grid, window_settings, max_gap, (), kassel=other)
    except UserError:
        return
    columns = [f"kassel {name}" for name in other.columns]
    assert [name for name in rows.columns if name.startswith("kassel")] == columns
    assert rows.neighbours == {"kassel": [2, 4]}
    interval = other.index[1] - other.index[0]
    length = timedelta(hours=every)
    limit = max(timedelta(hours=max_gap), interval) // length * length
    expected = []
    for time in rows.hourly.time:  # the description: its last hours' readings, or those of the last hours before
        expected.append([])
        for name in other.columns:
            value = np.nan
            for end in pd.date_range(pd.Timestamp(time), pd.Timestamp(time) - limit, freq=-length):
                readings = other[name][(other.index > end - length) & (other.index <= end)].dropna()
                if len(readings):
                    value = readings.iloc[-1] if name == TARGET else readings.mean()
                    break
            expected[-1].append(value)
    np.testing.assert_allclose(rows.rows[:, 2:4], np.array(expected), rtol=1e-5, atol=1e-5)


@OPTIONS
@given(draw_grids(), draw_grids(), draw_forecasts(), st.booleans(), st.integers(0, 2**32))
def test_what_becomes_known_after_the_origin_changes_nothing_of_any_record(grid, other, forecasts, tolerant, seed):
    """Values planted after an origin, and forecasts issued after it, leave its window as it is."""
    random = np.random.default_rng(seed)
    window_settings = make_settings(1, 24, 3, neighbours=["kassel"], ahead=["icon"], max_missing=0.5 * tolerant)
    rows = assemble(grid, window_settings, 3, (), kassel=other, icon=forecasts)
    position = random.integers(len(rows.hourly.time))
    origin = rows.hourly.time[position]
    planted = [
        perturb_grid(g, slice(g.index.searchsorted(origin, side="right"), None), random) for g in (grid, other)
    ]
    late = (forecasts[ISSUE_TIME] > origin).to_numpy()
    changed = forecasts.assign(**{TARGET: np.where(late, 99.0, forecasts[TARGET])})
    again = assemble(planted[0], window_settings, 3, (), kassel=planted[1], icon=changed)
    assert again.ahead[: position + 1].tobytes() == rows.ahead[: position + 1].tobytes()
    if tolerant or rows.hourly.measured[position]:
        assert again.rows[: position + 1].tobytes() == rows.rows[: position + 1].tobytes()
    else:  # a gap at the origin may be interpolated: no window begins there
        assert again.rows[: position + 1, 2:].tobytes() == rows.rows[: position + 1, 2:].tobytes()


@OPTIONS
@given(draw_grids(), draw_grids(), st.sampled_from([0.0, 0.2, 0.5]), st.sampled_from([0.0, 0.5, 1.0]))
def test_windows_may_lack_the_share_of_values_that_is_set(grid, other, max_missing, max_missing_neighbours):
    window_settings = make_settings(
        neighbours=["kassel"], max_missing=max_missing, max_missing_neighbours=max_missing_neighbours
    )
    rows = assemble(grid, window_settings, 0, (), kassel=other)
    starts = find_window_starts(rows, window_settings, rows.hourly.start[0], None)
    expected = []
    for first in range(len(rows.rows) - 3):
        station, neighbour = rows.rows[first : first + 2, :2], rows.rows[first : first + 2, 2:4]
        targets = rows.hourly.targets[first + 2 : first + 4]
        fits = np.isnan(station).mean() <= max_missing and np.isnan(neighbour).mean() <= max_missing_neighbours
        if not max_missing:  # then targets may not touch a gap either
            fits &= not np.isnan(targets).any() and not rows.hourly.in_gap[first + 2 : first + 4].any()
        if fits and np.isfinite(targets).any():
            expected.append(first)
    assert starts.tolist() == expected


# --- The stage ---------------------------------------------------------------------------------------


@pytest.fixture
def cleaned(root):
    """A working directory with a cleaned record of ten days, hourly, and its params.yaml."""
    hour = np.arange(240.0)
    T = hour.copy()
    T[[100, 101, 200]] = np.nan
    write_clean("jena", pd.DataFrame({TARGET: T, "p": hour}, pd.to_datetime(hour, unit="h")))
    return {
        "clean": {"max_gap": 1},
        "periods": {"train": "1970-01-01", "val": "1970-01-04", "test": "1970-01-08", "end": None},
        "clock": set_window(1, 24, 3),
    }


def write_clean(name, frame, target=TARGET):
    """Write data/clean/NAME.parquet as `clean` does it, of a frame that is indexed by time."""
    Path("data/clean").mkdir(parents=True, exist_ok=True)
    columns = {"Date Time": frame.index.to_numpy().astype("M8[s]")}
    columns |= {column: values.to_numpy() for column, values in frame.items()}
    metadata = {"source": json.dumps(SOURCE | {"files": []}), "target": json.dumps(target)}
    pq.write_table(pa.table(columns, metadata=metadata), f"data/clean/{name}.parquet")


def set_window(every, lookback, leads):
    return {"station": {"record": "jena", "every": every, "lookback": lookback, "leads": leads}}


def run_clock(params, **changes):
    for section, change in changes.items():
        params[section] = params[section] | change
    Path("params.yaml").write_text(json.dumps(params))
    stage.clock("station")
    return load_input_set("data/inputs/station")


def test_the_input_set(cleaned, capsys):
    inputs = run_clock(cleaned)
    assert "station: train 46, val 42, test 45 windows" in capsys.readouterr().out
    assert inputs.shape == (24, 4) and inputs.rows.dtype == np.float32
    meta = inputs.meta
    assert (meta.time, meta.leads, meta.every, meta.target, meta.std, meta.unit) == (24, 3, 1, 0, 1, "degc")
    assert (meta.record, meta.source) == ("jena", SOURCE)
    for split in (inputs.train, inputs.val, inputs.test):
        assert split.targets.shape == (len(split.windows), 3) and split.targets.dtype == np.float32
        assert split.targets.flags.c_contiguous
        origin = split.times.astype("M8[h]").astype(float)
        np.testing.assert_array_equal(split.windows[:][:, -1, 1], origin)
        lead = origin[:, None] + [1, 2, 3]
        np.testing.assert_array_equal(split.targets, np.where(lead == 200, np.nan, lead))
    assert np.isnan(inputs.test.targets).sum() == 3


@pytest.mark.parametrize(
    ("section", "change", "expected"),
    [
        ("clock", set_window(1, 200, 41), r"periods.train: .* 200 rows and 41 targets"),
        ("periods", {"test": "1970-01-11"}, r"periods.test: .* to the end, found none; .* to 1970-01-10T23:00:00"),
        ("periods", {"val": "1970-01-09"}, r"periods.test: expected a date after periods.val"),
        ("clock", set_window(2, 25, 2), r"clock.station.lookback: .* multiple"),
    ],
)
def test_an_input_set_that_cannot_be_made_is_refused(cleaned, section, change, expected):
    with pytest.raises(UserError, match=expected):
        run_clock(cleaned, **{section: change})
    assert not Path("data/inputs/station").exists()


def test_a_lead_that_is_never_measured_is_refused(cleaned):
    """The target comes every other hour, the other column every hour."""
    table = pq.read_table("data/clean/jena.parquet")
    T = np.where(np.arange(240) % 2, np.nan, np.arange(240.0))
    pq.write_table(table.set_column(1, TARGET, pa.array(T)), "data/clean/jena.parquet")
    message = r"periods.train: .* none at 2 of 3, the first of them 1; .* a longer `every`"
    with pytest.raises(UserError, match=message):
        run_clock(cleaned)
    assert len(run_clock(cleaned, clock=set_window(2, 24, 4)).train.windows)


# --- The stage, with several records -------------------------------------------------------------------

HOURS = 480


def make_forecasts(T, error=1.0):
    """Forecasts of the temperatures `T` (n,), hourly from START on: four issues a day, each for ten hours."""
    random, rows = np.random.default_rng(2), []
    for issue in range(0, len(T), 6):
        for lead in range(1, min(11, len(T) - issue)):
            times = [START + timedelta(hours=hour) for hour in (issue + lead, issue)]
            rows.append((*times, T[issue + lead] + random.normal(0, error) if error else T[issue + lead]))
    frame = pd.DataFrame(rows, columns=["Date Time", ISSUE_TIME, TARGET]).set_index("Date Time")
    return frame.astype({ISSUE_TIME: "M8[s]"}).sort_values(["Date Time", ISSUE_TIME])


@pytest.fixture
def several(root):
    """A working directory with twenty days of a station, a neighbour and a weather model; its params.yaml."""
    random, hour = np.random.default_rng(1), np.arange(HOURS)
    T, other = (8 + 5 * np.sin(2 * np.pi * hour / 24) + np.cumsum(random.normal(0, 0.4, HOURS)) for _ in range(2))
    index = pd.date_range(START, periods=HOURS, freq="h")
    frames = {
        "jena": pd.DataFrame({TARGET: T, "p": random.normal(990, 5, HOURS)}, index),
        "kassel": pd.DataFrame({TARGET: other, "rh": random.uniform(0, 99, HOURS)}, index),
        "icon": make_forecasts(T),
    }
    for name, frame in frames.items():
        write_clean(name, frame)
    dates = {"train": "2009-12-31", "val": "2010-01-08", "test": "2010-01-14", "end": None}
    line = set_window(1, 24, 12)["station"] | {"neighbours": ["kassel"], "ahead": ["icon"]}
    return {"clean": {"max_gap": 1}, "periods": dates, "clock": {"station": line}}, frames


def test_an_input_set_of_several_records(several, capsys):
    params, frames = several
    frames["kassel"].iloc[400:420, 1] = np.nan
    write_clean("kassel", frames["kassel"])
    inputs = run_clock(params)
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out == "station: train 157, val 109, test 109 windows\n"
    meta = inputs.meta
    assert meta.columns == [TARGET, "p", f"kassel {TARGET}", "kassel rh", *CALENDAR]
    assert (meta.target, meta.record, meta.neighbours) == (0, "jena", {"kassel": [2, 4]})
    assert meta.ahead_columns == [f"icon {TARGET}", "icon age (h)", "icon mean error of 1 days"]
    assert meta.ahead_targets == [0] and meta.clock == Clock(**params["clock"]["station"]).model_dump()
    assert meta.windows == {"train": 157, "val": 109, "test": 109, "all": 445}
    assert meta.windows_lacking_values == {
        "train": 0,
        "val": 0,
        "test": 19 + 23,
        "all": 19 + 23,
    }  # one hour is what it was before
    named = {name: CleanRecord(frame, TARGET) for name, frame in frames.items()}
    expected = assemble_clock_rows(Clock(**params["clock"]["station"]), named, 1)
    np.testing.assert_array_equal(inputs.rows, expected.rows)
    np.testing.assert_array_equal(inputs.ahead, expected.ahead)
    for split in (inputs.train, inputs.val, inputs.test):
        last = np.searchsorted(frames["jena"].index, split.times)
        np.testing.assert_array_equal(split.windows[:][:, -1, 0], frames["jena"][TARGET].iloc[last].astype("f4"))
        np.testing.assert_array_equal(split.windows.get_ahead(slice(None)), expected.ahead[last])
    reached = np.isfinite(inputs.test.windows.get_ahead(slice(None))[:, :, 0])
    assert meta.reach == reached.mean(axis=0).tolist()
    assert meta.reach[0] == 1 and 0 < meta.reach[8] < meta.reach[5] and meta.reach[-2:] == [0, 0]


def test_the_records_of_one_weather_model_are_one(several):
    """The newest of both counts; a second model stays apart."""
    params, frames = several
    icon, later = frames["icon"], frames["icon"][frames["icon"][ISSUE_TIME] >= pd.Timestamp("2010-01-05")]
    write_clean("icon", icon[icon[ISSUE_TIME] < pd.Timestamp("2010-01-05")])
    write_clean("icon2", later)
    write_clean("gfs", icon.assign(rain=1.0))
    params["clock"]["station"]["ahead"] = ["gfs", ["icon", "icon2"]]
    inputs = run_clock(params)
    assert inputs.meta.ahead_columns[4:] == [f"icon {TARGET}", "icon age (h)", "icon mean error of 1 days"]
    assert inputs.meta.ahead_targets == [0, 4]
    np.testing.assert_array_equal(inputs.ahead[:, :, 4:], inputs.ahead[:, :, [0, 2, 3]])


def test_forecasts_of_something_else_need_not_reach(several):
    params, frames = several
    rain = frames["icon"].rename(columns={TARGET: "rain"})
    write_clean("icon", rain[rain.index < pd.Timestamp("2010-01-02")], target=None)
    inputs = run_clock(params)
    assert inputs.meta.ahead_columns == ["icon rain", "icon age (h)"]
    assert (inputs.meta.ahead_targets, inputs.meta.reach) == ([], []) and np.isnan(inputs.ahead[100:]).all()
    assert len(inputs.test.windows)


def test_perfect_forecasts_are_warned_of(several, capsys):
    params, frames = several
    write_clean("icon", make_forecasts(frames["jena"][TARGET].to_numpy(), error=0))
    assert len(run_clock(params).test.windows)
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: 'icon {TARGET}': equals the measured value in 100% of the rows; are ")
    assert warning.endswith("from the moment it was known (records.NAME.issued in params.yaml)")


@pytest.mark.parametrize(
    ("hours", "shift"), [(-1, "1 hour later"), (1, "1 hour earlier"), (2, "2 hours earlier"), (-5, "5 hours later")]
)
def test_a_neighbour_on_another_clock_is_warned_of(several, capsys, hours, shift):
    """Its readings come `hours` later than they were made."""
    params, frames = several
    kassel = frames["kassel"].assign(**{TARGET: frames["jena"][TARGET] + frames["kassel"]["rh"] / 200})
    kassel.index += pd.Timedelta(hours=hours)
    write_clean("kassel", kassel)
    run_clock(params)
    message = f"warning: records.kassel: its changes fit those of jena better {shift} (correlation 0."
    assert capsys.readouterr().err.startswith(message)


def test_a_neighbour_of_other_years_is_refused(several):
    params, frames = several
    frames["kassel"].index += pd.Timedelta(days=400)
    write_clean("kassel", frames["kassel"])
    message = r"^params.yaml: records.kassel: expected hours at which jena was measured too, found none; choose a "
    with pytest.raises(UserError, match=message):
        run_clock(params)
    assert not Path("data/inputs").exists()


@pytest.mark.parametrize("rows", [1, 3, 24, 48])
@pytest.mark.parametrize("record", ["jena", "kassel"])
def test_the_targets_later_values_are_refused_as_an_input(several, record, rows):
    params, frames = several
    later = frames["jena"][TARGET].shift(-rows)
    later.iloc[[70, 200]] = np.nan
    write_clean(record, frames[record].assign(tomorrow=later))
    params["clock"]["station"] |= {"max_missing": 0.5}
    name = "tomorrow" if record == "jena" else "kassel tomorrow"
    message = f"params.yaml: clock: expected inputs that were known at their time, found '{name}', which has "
    message += f"'{TARGET}' of {rows} rows later; leave the column out, or make it a record with `issued`"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        run_clock(params)
    assert not Path("data/inputs").exists()


@pytest.mark.parametrize("rows", [0, 1, 24])
def test_the_targets_own_and_earlier_values_are_inputs_as_any(several, capsys, rows):
    params, frames = several
    write_clean("jena", frames["jena"].assign(before=frames["jena"][TARGET].shift(rows)))
    params["clock"]["station"] |= {"max_missing": 0.5}
    assert len(run_clock(params).train.windows) and capsys.readouterr().err == ""


def test_a_split_without_forecasts_is_refused_for_their_lack(several):
    params, frames = several
    write_clean("icon", frames["icon"][frames["icon"].index < pd.Timestamp("2010-01-10")])
    message = r"periods.test: expected a window .* 12 targets without a gap, .*, with a forecast of the target, "
    with pytest.raises(UserError, match=message):
        run_clock(params)


def test_a_split_without_a_neighbour_is_refused_for_its_lack(several):
    params, frames = several
    write_clean("kassel", frames["kassel"][frames["kassel"].index < pd.Timestamp("2010-01-10")])
    message = r"periods.test: expected a window .*, with at most 50% of the neighbours' values missing, with a fore"
    with pytest.raises(UserError, match=message):
        run_clock(params)
    params["clock"]["station"]["max_missing_neighbours"] = 1.0
    assert len(run_clock(params).test.windows) > 100


def test_a_new_file_becomes_rows_without_the_pipeline(tmp_path):
    """As a forecast from a file of the last days does it."""
    moments = [datetime(2017, 1, 1) + timedelta(minutes=10 * row) for row in range(2016)]
    lines = [f"{time:%d.%m.%Y %H:%M};{row / 100};{row}" for row, time in enumerate(moments)]
    (tmp_path / "new.csv").write_text("\n".join(["time;T;no", *lines]) + "\n")
    section = {"time": "time", "format": "%d.%m.%Y %H:%M", "encoding": "utf-8", "target": "T", "sentinels": []}
    section = Record.model_validate(section | {"separator": ";", "leave_out": ["no"]})
    table = read_csv_files([tmp_path / "new.csv"], section)
    record = {name: to_numpy(table[name]) for name in table.column_names}
    clean = Clean.model_validate({"max_gap": 3, "checks": {}})
    grid, _ = cleaned_grid(record, clean, section, "new.csv", "records.new")
    result = to_hourly_rows(grid, "T", 1, 3)
    assert result.columns == ["T", *CALENDAR] and result.rows.shape == (335, 3)
    np.testing.assert_allclose(result.rows[:, 0], np.arange(6, 2016, 6) / 100, rtol=1e-6)
