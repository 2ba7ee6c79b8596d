"""Comparison of a station's model with a reference on the same test windows."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scores.processing import block_bootstrap
from scores.stats.statistical_tests import diebold_mariano

from stages.lib.files import open_input

REFERENCES = ("direct_model_output", "ridge", "persistence")  # architectures
BLOCK_DAYS = 7  # length of a block of the bootstrap
ITERATIONS = 1000  # of the bootstrap


def read_evaluation_table(model: str, name: str) -> pd.DataFrame:
    """Read a table that `evaluate` writes; `name` is forecast, by_lead, by_month, by_hour or importance."""
    with open_input(f"data/evaluations/station/{model}/{name}.parquet", f"evaluate@{model}") as path:
        return pd.read_parquet(path)


def read_absolute_errors(model: str, lead: float) -> pd.Series:
    """Return the absolute errors of the median at `lead` hours, indexed by origin, for origins with a truth."""
    table = read_evaluation_table(model, "forecast")
    table = table[(table["lead"] == lead) & table["truth"].notna()]
    return (table["q0.5"] - table["truth"]).abs().set_axis(table["origin"])


def compare_errors(
    model_errors: pd.Series, reference_errors: pd.Series, lead: float, every: float
) -> dict[str, float]:
    """Compare the MAE of a model with that of a reference.

    Both series are absolute errors at `lead` hours, indexed by origin; `every` is the interval between origins in
    hours. Returns:

    - `difference`: MAE of the reference minus MAE of the model;
    - `low`, `high`: its 95 % interval by a block bootstrap of daily means, with blocks of a week;
    - `confidence`: the probability that it is positive, by the test of Diebold and Mariano (1995) as modified by
      Harvey, Leybourne and Newbold (1997) for overlapping forecasts.
    """
    gain = (reference_errors - model_errors).dropna()
    steps = round(lead / every)
    series = xr.DataArray(gain.to_numpy()[None], {"pair": [0], "h": ("pair", [steps])}, ("pair", "origin"))
    test = diebold_mariano(series, "pair", "h", method="HLN", statistic_distribution="t")
    np.random.seed(0)  # `scores` draws from numpy's global generator
    # Daily means, because the bootstrap of hourly values would take minutes.
    days = xr.DataArray(gain.resample("D").mean().dropna().to_numpy(), dims="day")
    samples = block_bootstrap(days, blocks={"day": min(BLOCK_DAYS, len(days))}, n_iteration=ITERATIONS)
    low, high = np.quantile(samples.mean("day"), [0.025, 0.975])
    return {
        "difference": float(gain.mean()),
        "low": float(low),
        "high": float(high),
        "confidence": float(test["confidence_gt_0"][0]),
    }


def format_verdict(model: str, reference: str, comparison: dict[str, float], lead: float, unit: str) -> str:
    """Return a sentence on whether `model` beats `reference`, from the result of `compare_errors`."""
    if comparison["low"] > 0 and comparison["confidence"] > 0.975:
        verdict = "beats"
    elif comparison["high"] < 0 and comparison["confidence"] < 0.025:
        verdict = "loses to"
    else:
        verdict = "does not differ significantly from"
    is_lower = comparison["difference"] > 0
    low, high = sorted(comparison[end] if is_lower else -comparison[end] for end in ("low", "high"))
    probability = min(comparison["confidence"] if is_lower else 1 - comparison["confidence"], 0.9999)
    return (
        f"At {lead:g} hours `{model}` {verdict} {reference}: its MAE is {abs(comparison['difference']):.3f} {unit} "
        f"{'lower' if is_lower else 'higher'} (95 % interval {low:.3f} to {high:.3f}, Diebold-Mariano probability "
        f"{probability:.4f})."
    )


def choose_references(names: list[str], inputs: str, models: dict[str, Any]) -> list[str]:
    """Return the model of each architecture in REFERENCES to compare with, if there is one among `names`.

    A model with the input set `inputs` goes before others. `models` is the section of params.yaml.
    """
    references = []
    for architecture in REFERENCES:
        candidates = [name for name in names if models[name]["architecture"] == architecture]
        references += sorted(candidates, key=lambda name: models[name]["inputs"] != inputs)[:1]
    return references
