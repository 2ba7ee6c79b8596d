"""The persistence forecast in NumPy, which skill is measured against: it takes no model and no TensorFlow."""

import numpy as np

from stages.lib.windows.input_set import Meta, Split


def forecast_persistence(split: Split, meta: Meta) -> np.ndarray:
    """Return the persistence forecast, the latest value at the hour of the day of each lead: (n, leads).

    Where the window has none, it is the last value; NaN where the window has no value at all. It equals the median
    of the model `persistence`.
    """
    rows_per_day = round(24 / meta.every)
    leads = np.arange(1, meta.leads + 1)
    rows = meta.time - 1 + leads - rows_per_day * -(-leads // rows_per_day)
    values, first = split.windows.rows[:, meta.target], split.windows.starts[:, None]
    latest = values[first + rows]
    for _ in range(rows_per_day, meta.time, rows_per_day):  # where it is missing, the same hour of the days before
        rows = rows - rows_per_day
        latest = np.where(np.isnan(latest) & (rows >= 0), values[first + np.maximum(rows, 0)], latest)
    measured = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), -1))
    last = measured[first + meta.time - 1]
    return np.where(np.isnan(latest) & (last >= first), values[last], latest)
