"""The comparison of intervals over the years: what enters a margin, and what the margins are for."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.intervals import compute_margins, score_intervals

LEAD = 24


@pytest.fixture(scope="module")
def forecasts() -> pd.DataFrame:
    """Forecasts of noise, every six hours for two years; in the second year the noise is twice as large."""
    origin = pd.date_range("2015-01-01", periods=2 * 365 * 4, freq="6h")
    scale = np.where(origin < "2016-01-01", 1.0, 2.0)
    truth = np.random.default_rng(2).normal(0, scale)
    return pd.DataFrame({"origin": origin, "lead": LEAD, "truth": truth, "q0.1": -1.0, "q0.5": 0.0, "q0.9": 1.0})


@settings(max_examples=10, deadline=None)
@given(
    position=st.integers(365 * 4, 2 * 365 * 4 - 1),
    days=st.sampled_from([90, 365]),
    gamma=st.sampled_from([0.0, 0.02]),
)
def test_no_margin_depends_on_what_was_measured_after_its_origin(forecasts, position, days, gamma):
    changed = forecasts.copy()
    changed.loc[position, "truth"] += 100
    valid = forecasts["origin"][position] + pd.Timedelta(hours=LEAD)
    is_earlier = (forecasts["origin"] < valid).to_numpy()
    before, after = (compute_margins(table, days, gamma) for table in (forecasts, changed))
    np.testing.assert_array_equal(before[is_earlier], after[is_earlier])


def test_a_year_unlike_the_last_needs_margins_of_the_last_quarter_or_adaptive_ones(forecasts):
    is_second = (forecasts["origin"] >= "2016-01-15").to_numpy()
    year, quarter, adaptive = (
        score_intervals(forecasts, compute_margins(forecasts, days, gamma))["inside"][is_second].mean()
        for days, gamma in ((365, 0), (90, 0), (365, 0.02))
    )
    assert year < 0.77 and 0.78 < adaptive < 0.82 and 0.77 < quarter < 0.82
