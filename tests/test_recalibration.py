"""Recalibrated intervals: the margins of the latest errors, and of nothing that was not known by then."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lib.tasks.station import recalibration

START = np.datetime64("2009-01-01T00:30:00", "s")
LEADS = 3
HOUR, DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")
Forecasts = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def draw_forecasts(draw: st.DrawFn) -> tuple[int, Forecasts]:
    """Draw the time step in hours, and quantiles, targets with gaps, and origins, some of which are missing."""
    every, seed = draw(st.sampled_from([3, 6, 12])), draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    count = draw(st.sampled_from([1, 40, 70, 130])) * 24 // every
    outputs = np.sort(random.normal(size=(count, LEADS, 3)), axis=2).astype(np.float32)
    targets = random.normal(size=(count, LEADS)).astype(np.float32)
    targets[random.random(targets.shape) < draw(st.sampled_from([0, 0.1, 0.5]))] = np.nan
    kept = random.random(count) >= draw(st.sampled_from([0, 0.2, 0.6]))
    times = START + np.arange(count) * every * HOUR
    return every, (outputs[kept], targets[kept], times[kept])


def recalibrate_plainly(forecasts: Forecasts, every: int, position: int) -> np.ndarray:
    """The forecast at `position` after recalibration (LEADS, 3), written from the description."""
    outputs, targets, times = forecasts
    midnight = times[position].astype("M8[D]")
    past = [
        k
        for k, time in enumerate(times)
        if time + LEADS * every * HOUR <= midnight and time + LEADS * every * HOUR > midnight - 90 * DAY
    ]
    margins = np.zeros((2, LEADS))
    for lead in range(LEADS):
        distances = [(outputs[k, lead, 0] - targets[k, lead], targets[k, lead] - outputs[k, lead, 2]) for k in past]
        distances = [pair for pair in distances if np.isfinite(pair[0])]
        if len(distances) < 0.5 * 90 * 24 / every:
            return np.full((LEADS, 3), np.nan)
        for side in (0, 1):
            ordered = sorted(pair[side] for pair in distances)
            margins[side, lead] = ordered[min(int(np.ceil((len(ordered) + 1) * 0.9)), len(ordered)) - 1]
    for _ in range(2):
        padded = np.concatenate([margins[:, :1], margins, margins[:, -1:]], axis=1)
        margins = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    low, median, high = outputs[position].T
    return np.stack([np.minimum(low - margins[0], median), median, np.maximum(high + margins[1], median)], 1)


@settings(deadline=None)
@given(draw_forecasts(), st.data())
def test_margins_are_those_of_the_last_ninety_days(drawn: tuple[int, Forecasts], data: st.DataObject) -> None:
    every, forecasts = drawn
    result = recalibration.recalibrate_intervals_by_day(*forecasts, every)
    assert result.shape == forecasts[0].shape and result.dtype == np.float32
    count = len(forecasts[0])
    positions = {0, count - 1, data.draw(st.integers(0, count - 1))} if count else {}
    for position in positions:
        expected = recalibrate_plainly(forecasts, every, position)
        np.testing.assert_allclose(result[position], expected, atol=1e-5)


@settings(deadline=None)
@given(draw_forecasts(), st.data())
def test_nothing_measured_after_the_day_has_begun_moves_an_interval(
    drawn: tuple[int, Forecasts], data: st.DataObject
) -> None:
    every, (outputs, targets, times) = drawn
    before = recalibration.recalibrate_intervals_by_day(outputs, targets, times, every)
    days = np.unique(times[np.isfinite(before[:, 0, 0])].astype("M8[D]"))
    midnight = data.draw(st.sampled_from([START.astype("M8[D]"), *days]))
    valid = times[:, None] + np.arange(1, LEADS + 1) * every * HOUR
    far = np.random.default_rng(0).choice([-99, 99], targets.shape)
    after = recalibration.recalibrate_intervals_by_day(
        outputs, np.where(valid > midnight, far, targets).astype(np.float32), times, every
    )
    is_earlier = times < midnight + DAY
    np.testing.assert_array_equal(after[is_earlier], before[is_earlier])


@pytest.mark.parametrize(("every", "chosen"), [(1, [0, 3, 6, 9]), (2, [0, 2, 4, 6, 8, 10]), (3, [0, 3, 6, 9])])
def test_origins_that_count_are_three_hours_apart(every: int, chosen: list[int]) -> None:
    times = START + np.arange(0, 12, every) * HOUR
    found = recalibration.find_latest_origins(times, np.datetime64("2009-01-09"), LEADS, every)
    assert np.arange(0, 12, every)[found].tolist() == chosen
