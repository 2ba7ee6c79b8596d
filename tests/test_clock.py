"""Input sets by the clock: rows, targets and windows, against a slow version written from the description."""

import numpy as np
import pandas as pd

from stages.lib.hours import hours


def test_a_row_is_the_mean_of_the_hour_that_ends_with_it_and_the_target_its_last_value():
    index = pd.date_range("2009-01-01 00:10", periods=12, freq="10min")
    values = np.arange(12.0)
    table = hours(pd.DataFrame({"T": values, "p": values}, index=index), "T", 1, 3)
    assert table.columns == ["T", "p", "hour of day (h)", "day of year (d)"]
    np.testing.assert_allclose(table.rows, [[5, 2.5, 1, 1 + 1 / 24], [11, 8.5, 2, 1 + 2 / 24]])
    assert table.targets.tolist() == [5, 11]
