"""Recalibrate the prediction intervals of a station's model on its latest errors.

The margins in a model are those of its validation period, so that the intervals of a later season or year may hold
more or fewer of the measurements than they promise. After recalibration, the margins are those of the DAYS before a
forecast. `evaluate` scores such intervals, and `predict` gives them if its files reach back far enough. Nothing
here imports Keras.
"""

import numpy as np

from stages.lib.tasks.station.margins import compute_margins, move_quantiles

DAYS = np.timedelta64(90, "D")
STEP = 3  # hours between the origins that count; the errors of neighbouring hours are much the same
MIN_SHARE = 0.5  # of these origins that must have a forecast


def find_latest_origins(times: np.ndarray, day: np.datetime64, leads: int, every: int) -> np.ndarray:
    """Return which of the origins `times`, datetime64[s], count for the forecasts of `day`: (n,) bool.

    They are STEP hours apart, in the last DAYS whose targets, `leads` of them every `every` hours, were all
    measured by the beginning of `day`. A whole day has one answer, so that `evaluate` computes margins daily.
    """
    end = day.astype("datetime64[s]") - np.timedelta64(leads * every, "h")
    rows = times.astype("datetime64[h]").astype(int) // every
    return (times > end - DAYS) & (times <= end) & (rows % count_rows(every) == 0)


def count_rows(every: int) -> int:
    """Return how many rows, every `every` hours, lie between origins that count."""
    return max(STEP // every, 1)


def has_enough_targets(targets: np.ndarray, every: int) -> bool:
    """Return whether the measured values among `targets` (n, leads) suffice for margins, at each lead.

    They are those of the origins that `find_latest_origins` chose.
    """
    expected = DAYS / np.timedelta64(count_rows(every) * every, "h")
    return bool((np.isfinite(targets).sum(axis=0) >= MIN_SHARE * expected).all())


def recalibrate_intervals_by_day(
    outputs: np.ndarray, targets: np.ndarray, times: np.ndarray, every: int, first: int = 0
) -> np.ndarray:
    """Return the forecasts `outputs` (n, leads, 3), from number `first` on, with the margins of each day.

    `times` are their origins and `targets` is (n, leads). The forecasts before `first` only supply errors. Those of
    a day without enough targets before it become NaN.
    """
    recalibrated = np.full_like(outputs, np.nan)
    days = times.astype("datetime64[D]")
    for day in np.unique(days[first:]):
        chosen = find_latest_origins(times, day, outputs.shape[1], every)
        if has_enough_targets(targets[chosen], every):
            margins = compute_margins(targets[chosen], outputs[chosen])
            recalibrated[days == day] = move_quantiles(outputs[days == day], margins)
    return recalibrated[first:]
