"""How a station's forecast is verified: by lead, by month and by valid hour, each with its sample size.

`scores` computes every score. Means are over windows and, where no lead is named, over all leads.
"""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scores.continuous import additive_bias, mae, mse, quantile_score

from stages.lib.scoring.station.prediction import predict_split
from stages.lib.tasks.station.quantiles import QUANTILES
from stages.lib.tasks.station.references import build_persistence, build_ridge
from stages.lib.windows.input_set import Inputs, Meta, Split

HEADLINE = 24  # hours ahead


def get_headline_lead(meta: Meta) -> int:
    """The lead in hours that is reported by itself: HEADLINE, or the last one of shorter forecasts."""
    return min(HEADLINE, meta.leads * meta.every)


def score_each_forecast(targets: np.ndarray, outputs: np.ndarray, split: Split, every: float) -> pd.DataFrame:
    """The scores of every forecast value: a row for each window and lead whose target was measured.

    `targets` is (n, leads), `outputs` (n, leads, 3). Columns: lead (hours), valid (time), error, absolute, squared,
    pinball (mean over quantiles), inside (the interval holds the truth), width; all in the target's unit.
    """
    leads = (np.arange(targets.shape[1]) + 1) * every
    place = {"window": np.arange(len(targets)), "lead": leads}
    truth = xr.DataArray(targets.astype(np.float64), place, ("window", "lead"))
    low, median, high = (truth.copy(data=outputs[:, :, k].astype(np.float64)) for k in range(3))
    each = {"preserve_dims": "all"}
    pinball = sum(
        quantile_score(forecast, truth, level, **each)
        for forecast, level in zip((low, median, high), QUANTILES, strict=True)
    )
    table = {
        "error": additive_bias(median, truth, **each),
        "absolute": mae(median, truth, **each),
        "squared": mse(median, truth, **each),
        "pinball": pinball / len(QUANTILES),
        "inside": (truth >= low) & (truth <= high),
        "width": high - low,
    }
    frame = pd.DataFrame({name: values.to_numpy().ravel() for name, values in table.items()})
    frame.insert(0, "lead", np.tile(leads, len(targets)))
    ahead = (leads * 3600).astype("timedelta64[s]")
    frame.insert(1, "valid", (split.times[:, None] + ahead).ravel())
    return frame[np.isfinite(targets).ravel()]


def average_scores(group: Any) -> pd.DataFrame:
    """The mean scores of `cells`, grouped: n, mae, rmse, bias, pinball, coverage, width."""
    means = group[["error", "absolute", "squared", "pinball", "inside", "width"]].mean()
    means["squared"] **= 0.5
    names = {"error": "bias", "absolute": "mae", "squared": "rmse", "inside": "coverage"}
    return means.rename(columns=names).assign(n=group.size())


def skill_by_lead(targets: np.ndarray, median: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """1 - MAE / MAE of the reference, by lead and, last, over all: three times (n, leads) -> (leads + 1,)."""
    own, other = (np.abs(targets - forecast) for forecast in (median, reference))
    ratio = np.nanmean(own, axis=0) / np.nanmean(other, axis=0)
    return 1 - np.append(ratio, np.nanmean(own) / np.nanmean(other))


def score_outputs(
    outputs: dict[str, np.ndarray], inputs: Inputs, schedule: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """The metrics of `outputs`, (n, leads, 3) each of val and test; tables of the test forecasts and their scores.

    The metrics are at HEADLINE hours (suffix `_24h`) and over all leads. The tables: `forecast`, a row for each
    origin and lead, and the scores `by_lead`, and at HEADLINE hours `by_month` and `by_hour`, of the valid time.
    """
    every, unit, test = inputs.meta.every, inputs.meta.unit, inputs.test
    lead = get_headline_lead(inputs.meta)
    position = lead // every - 1
    label = f"_{lead:g}h"
    references = {"": build_persistence(inputs), "_vs_ridge": build_ridge(inputs)}
    skill = {
        (part, key): skill_by_lead(
            getattr(inputs, part).targets,
            outputs[part][:, :, 1],
            predict_split(model, inputs, getattr(inputs, part))[:, :, 1],
        )
        for part in ("val", "test")
        for key, model in references.items()
    }
    frame = score_each_forecast(test.targets, outputs["test"], test, every)
    at_headline = frame[frame["lead"] == lead]
    val_error = np.abs(inputs.val.targets - outputs["val"][:, :, 1])[:, position]
    metrics = {
        f"val_mae_{unit}{label}": float(np.nanmean(val_error)),
        f"val_skill{label}": skill["val", ""][position],
    }
    for suffix, chosen, index in ((label, at_headline, position), ("", frame, -1)):
        means = average_scores(chosen.groupby(np.zeros(len(chosen)))).iloc[0]
        metrics |= {f"test_{key}_{unit}{suffix}": means[key] for key in ("mae", "rmse", "bias", "pinball", "width")}
        metrics[f"test_coverage{suffix}"] = means["coverage"]
        metrics |= {f"test_skill{key}{suffix}": skill["test", key][index] for key in references}
    by_lead = average_scores(frame.groupby("lead")).assign(
        skill=skill["test", ""][:-1], skill_vs_ridge=skill["test", "_vs_ridge"][:-1]
    )
    valid = at_headline["valid"].dt
    tables = {
        "forecast": tabulate_forecasts(outputs["test"], test, every),
        "by_lead": by_lead.reset_index(),
        "by_month": average_scores(at_headline.groupby(valid.month.rename("month"))).reset_index(),
        "by_hour": average_scores(at_headline.groupby(valid.hour.rename("hour"))).reset_index(),
    }
    return {key: float(value) for key, value in metrics.items()}, tables


def tabulate_forecasts(outputs: np.ndarray, split: Split, every: float) -> pd.DataFrame:
    """The forecasts of `split` as they were given, a row for each origin and lead, in the target's unit."""
    leads = (np.arange(outputs.shape[1]) + 1) * every
    columns = {"origin": np.repeat(split.times, len(leads)), "lead": np.tile(leads, len(outputs))}
    columns["truth"] = split.targets.ravel()
    return pd.DataFrame(columns | {f"q{level:g}": outputs[:, :, k].ravel() for k, level in enumerate(QUANTILES)})
