"""What a weather model had forecast by an origin: for each valid time, the newest value known then."""

import numpy as np
import pandas as pd

from stages.lib.weather.hourly import HOUR
from stages.lib.weather.record import ISSUE_TIME

ERROR_DAYS = (1, 3, 7, 30)  # over which the recent errors of a weather model are averaged
RESOLUTION = 2.0**-20  # of an error, in the target's unit


def select_newest_forecasts(forecasts: pd.DataFrame, origins: np.ndarray, lead_times: np.ndarray) -> np.ndarray:
    """Return the row of `forecasts` to use at each origin and lead, or -1 where there is none: (origins, leads).

    It is the row valid at the origin plus the lead that was issued last, but not after the origin. `forecasts` are
    as `clean_forecasts` returns them, sorted by valid time and then by time of issue; `origins`, (origins, 1) or
    (origins, leads), are datetime64[s], `lead_times` (leads,) timedelta64[s].
    """
    valid, issued = (
        times.to_numpy().astype("M8[s]").astype(np.int64) for times in (forecasts.index, forecasts[ISSUE_TIME])
    )
    # Both times in one sorted integer: the rank of the valid time, then the seconds since the first issue.
    valid_times, ranks = np.unique(valid, return_inverse=True)
    first, span = issued.min(), np.ptp(issued) + 2
    keys = ranks * span + issued - first + 1
    wanted_times = (origins + lead_times).astype(np.int64)
    rank = np.minimum(np.searchsorted(valid_times, wanted_times), len(valid_times) - 1)
    known_by = np.clip(origins.astype(np.int64) - first + 1, 0, span - 1)
    rows = np.searchsorted(keys, rank * span + known_by, side="right") - 1
    return np.where((rows >= 0) & (valid[rows] == wanted_times), rows, -1)


def tabulate_ahead(
    forecasts: pd.DataFrame,
    target: str | None,
    measured: np.ndarray,
    times: np.ndarray,
    every: int,
    leads: int,
    lookback: int,
) -> tuple[list[str], np.ndarray]:
    """Return what `forecasts` say at each of `times` (n,) about the `leads` rows after it: (n, leads, columns).

    The first value returned names the columns. They are those of `forecasts`; the age of the forecast at its valid
    time, in hours; and, if the column `target` forecasts the station's own, its mean errors over the last
    ERROR_DAYS, as far as `lookback` rows reach. An error is `measured` (n,) minus the forecast for that row at the
    same lead. NaN where there is nothing. `times` are datetime64[s], `every` hours apart.
    """
    lead_times = np.arange(1, leads + 1) * np.timedelta64(every * HOUR, "s")
    rows = select_newest_forecasts(forecasts, times[:, None], lead_times)
    valid, issued = forecasts.index.to_numpy(), forecasts[ISSUE_TIME].to_numpy()
    age = (valid - issued) / np.timedelta64(HOUR, "s")
    values = forecasts.drop(columns=ISSUE_TIME).assign(**{"age (h)": age})
    ahead = np.where(rows[:, :, None] >= 0, values.to_numpy(np.float32)[rows], np.float32(np.nan))
    columns = list(values.columns)
    if target is None:
        return columns, ahead
    # By the time they are for, of the same lead: they are known even where the station's first row comes later.
    rows = select_newest_forecasts(forecasts, times[:, None] - lead_times, lead_times)
    past = np.where(rows >= 0, values[target].to_numpy(np.float32)[rows], np.float32(np.nan))
    errors = measured[:, None] - past
    days = [day for day in ERROR_DAYS if day * 24 // every and day * 24 <= lookback * every]
    means = [average_recent(errors, day * 24 // every) for day in days]
    return [*columns, *(f"mean error of {day} days" for day in days)], np.concatenate(
        [ahead, *(mean[:, :, None] for mean in means)], axis=2
    )


def average_recent(values: np.ndarray, count: int) -> np.ndarray:
    """Return the means of the last `count` rows of `values` (n, leads) at each row, NaN where all are missing.

    The sums are exact, of whole multiples of RESOLUTION, so that a mean does not depend on the rows before it.
    """
    is_measured = np.isfinite(values)
    multiples = np.rint(np.where(is_measured, values, 0) / RESOLUTION)
    sums, counts = (
        np.concatenate([np.zeros((1, values.shape[1]), int), np.cumsum(x, axis=0, dtype=int)])
        for x in (multiples, is_measured)
    )
    first = np.maximum(np.arange(len(values)) + 1 - count, 0)
    with np.errstate(invalid="ignore"):
        return ((sums[1:] - sums[first]) * RESOLUTION / (counts[1:] - counts[first])).astype(np.float32)
