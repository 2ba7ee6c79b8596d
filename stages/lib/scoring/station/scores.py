"""Verification of the station's forecasts by lead, month and hour of the valid time, each with its sample size.

The package `scores` computes each score. Means are over windows and, unless a lead is named, over all leads.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scores.continuous import additive_bias, mae, mse, quantile_score

from stages.lib.scoring.station.importance import assess_importance
from stages.lib.scoring.station.prediction import load_predictor
from stages.lib.tasks.station.levels import QUANTILES
from stages.lib.tasks.station.persistence import forecast_persistence
from stages.lib.tasks.station.recalibration import recalibrate_intervals_by_day
from stages.lib.windows.input_set import Inputs, Meta, Split

HEADLINE = 24  # lead in hours


def get_headline_lead(meta: Meta) -> int:
    """Return the lead, in hours, that models are ranked by: HEADLINE, or the last lead of a shorter forecast."""
    return min(HEADLINE, meta.leads * meta.every)


def score_each_forecast(targets: np.ndarray, outputs: np.ndarray, split: Split, every: float) -> pd.DataFrame:
    """Score each forecast value: one row per window and lead whose target was measured.

    `targets` is (n, leads) and `outputs` (n, leads, 3), in the target's unit; `every` is the time step in hours.
    Columns: lead (hours), valid (time), error (forecast - truth), absolute, squared, pinball (mean over quantiles),
    inside (whether the interval contains the truth) and width (of the interval).
    """
    leads = (np.arange(targets.shape[1]) + 1) * every
    coordinates = {"window": np.arange(len(targets)), "lead": leads}
    truth = xr.DataArray(targets.astype(np.float64), coordinates, ("window", "lead"))
    low, median, high = (truth.copy(data=outputs[:, :, k].astype(np.float64)) for k in range(3))
    options = {"preserve_dims": "all"}
    pinball = sum(
        quantile_score(forecast, truth, level, **options)
        for forecast, level in zip((low, median, high), QUANTILES, strict=True)
    )
    columns = {
        "error": additive_bias(median, truth, **options),
        "absolute": mae(median, truth, **options),
        "squared": mse(median, truth, **options),
        "pinball": pinball / len(QUANTILES),
        "inside": (truth >= low) & (truth <= high),
        "width": high - low,
    }
    frame = pd.DataFrame({name: values.to_numpy().ravel() for name, values in columns.items()})
    frame.insert(0, "lead", np.tile(leads, len(targets)))
    lead_times = (leads * 3600).astype("timedelta64[s]")
    frame.insert(1, "valid", (split.times[:, None] + lead_times).ravel())
    return frame[np.isfinite(targets).ravel()]


def average_scores(group: Any) -> pd.DataFrame:
    """Average a grouped result of `score_each_forecast`; columns: bias, mae, rmse, pinball, coverage, width, n."""
    means = group[["error", "absolute", "squared", "pinball", "inside", "width"]].mean()
    means["squared"] **= 0.5
    names = {"error": "bias", "absolute": "mae", "squared": "rmse", "inside": "coverage"}
    return means.rename(columns=names).assign(n=group.size())


def skill_by_lead(targets: np.ndarray, median: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return 1 - MAE / MAE of the reference at each lead, followed by the value over all leads: (leads + 1,).

    `targets`, `median` and `reference` are (n, leads); targets may be NaN.
    """
    errors, reference_errors = (np.abs(targets - forecast) for forecast in (median, reference))
    ratio = np.nanmean(errors, axis=0) / np.nanmean(reference_errors, axis=0)
    return 1 - np.append(ratio, np.nanmean(errors) / np.nanmean(reference_errors))


def score_model(
    name: str, inputs: Inputs, schedule: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Return what `score_outputs` does for the forecasts of the model `name`."""
    predict = load_predictor(name, inputs, schedule)
    outputs = {split: predict(getattr(inputs, split)) for split in ("val", "test")}
    return score_outputs(outputs, inputs, predict)


def score_outputs(
    outputs: dict[str, np.ndarray], inputs: Inputs, predict: Callable[[Split], np.ndarray]
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Return the metrics, and the tables of the test forecasts and their scores.

    `outputs` maps "val" and "test" to quantiles (n, leads, 3). The metrics are at the headline lead (suffix `_24h`)
    and over all leads. The tables are `forecast`, with one row per origin and lead; the mean scores `by_lead`; and
    those at the headline lead `by_month` and `by_hour` of the valid time; and, if the model reads other records
    than the station's, their `importance`. `predict` is the model.
    """
    every, unit, test = inputs.meta.every, inputs.meta.unit, inputs.test
    lead = get_headline_lead(inputs.meta)
    position = lead // every - 1
    lead_suffix = f"_{lead:g}h"
    skill = {
        name: skill_by_lead(split.targets, outputs[name][:, :, 1], forecast_persistence(split, inputs.meta))
        for name, split in (("val", inputs.val), ("test", test))
    }
    frame = score_each_forecast(test.targets, outputs["test"], test, every)
    at_headline = frame[frame["lead"] == lead]
    val_error = np.abs(inputs.val.targets - outputs["val"][:, :, 1])[:, position]
    metrics = {
        f"val_mae_{unit}{lead_suffix}": float(np.nanmean(val_error)),
        f"val_skill{lead_suffix}": skill["val"][position],
    }
    for suffix, scores, index in ((lead_suffix, at_headline, position), ("", frame, -1)):
        means = average_scores(scores.groupby(np.zeros(len(scores)))).iloc[0]
        metrics |= {f"test_{key}_{unit}{suffix}": means[key] for key in ("mae", "rmse", "bias", "pinball", "width")}
        metrics[f"test_coverage{suffix}"] = means["coverage"]
        metrics[f"test_skill{suffix}"] = skill["test"][index]
    by_lead = average_scores(frame.groupby("lead")).assign(skill=skill["test"][:-1])
    intervals = score_recalibrated_intervals(outputs, inputs)
    by_lead[intervals.columns] = intervals.to_numpy()
    if np.isfinite(intervals.to_numpy()).all():
        metrics |= {f"test_{key}{lead_suffix}": values.iloc[position] for key, values in intervals.items()}
    valid = at_headline["valid"].dt
    tables = {
        "forecast": tabulate_forecasts(outputs["test"], test, every),
        "by_lead": by_lead.reset_index(),
        "by_month": average_scores(at_headline.groupby(valid.month.rename("month"))).reset_index(),
        "by_hour": average_scores(at_headline.groupby(valid.hour.rename("hour"))).reset_index(),
    }
    importance = assess_importance(predict, outputs["val"], inputs, position)
    if len(importance):
        tables["importance"] = importance
    return {key: float(value) for key, value in metrics.items()}, tables


def score_recalibrated_intervals(outputs: dict[str, np.ndarray], inputs: Inputs) -> pd.DataFrame:
    """Score the intervals of the test forecasts after `recalibrate_intervals_by_day`, at each lead.

    `outputs` maps "val" and "test" to quantiles (n, leads, 3). Columns: recalibrated_coverage and
    recalibrated_width, in the target's unit; NaN if no forecast has enough others before it.
    """
    val, test = inputs.val, inputs.test
    recalibrated = recalibrate_intervals_by_day(
        np.concatenate([outputs["val"], outputs["test"]]),
        np.concatenate([val.targets, test.targets]),
        np.concatenate([val.times, test.times]),
        inputs.meta.every,
        first=len(val.times),
    )
    (low, _, high), truth = np.moveaxis(recalibrated, -1, 0), test.targets
    is_scored = pd.DataFrame(np.isfinite(truth) & np.isfinite(low))
    scores = {"coverage": (truth >= low) & (truth <= high), "width": high - low}
    return pd.DataFrame(
        {
            f"recalibrated_{key}": pd.DataFrame(values.astype(np.float64)).where(is_scored).mean()
            for key, values in scores.items()
        }
    )


def tabulate_forecasts(outputs: np.ndarray, split: Split, every: float) -> pd.DataFrame:
    """Tabulate the forecasts of `split`, one row per origin and lead: origin, lead (hours), truth and quantiles.

    `outputs` is (n, leads, 3) in the target's unit; `every` is the time step in hours.
    """
    leads = (np.arange(outputs.shape[1]) + 1) * every
    columns = {"origin": np.repeat(split.times, len(leads)), "lead": np.tile(leads, len(outputs))}
    columns["truth"] = split.targets.ravel()
    return pd.DataFrame(columns | {f"q{level:g}": outputs[:, :, k].ravel() for k, level in enumerate(QUANTILES)})
