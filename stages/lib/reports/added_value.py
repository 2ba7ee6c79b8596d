"""What neighbours and weather models add to a station's forecast: a part of the station's report."""

from typing import Any

import pandas as pd

from stages.lib.reports.comparison import (
    compare_errors,
    format_verdict,
    read_absolute_errors,
    read_evaluation_table,
)
from stages.lib.reports.leaderboard import format_markdown
from stages.lib.settings.clock import group_records

LEADS = (1, 3, 6, 12, 24, 36, 48)  # hours, of the tables


def list_forecast_records(description: dict[str, Any]) -> list[str]:
    """Return the records of forecasts that the model of `description` reads."""
    return [name for names in group_records(description["clock"]["ahead"]) for name in names]


def format_input_sets(descriptions: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table with a row per input set: its records and windows.

    `descriptions` are the contents of model.json by the name of the input set.
    """
    rows = [
        {
            "inputs": name,
            "record": description["record"],
            "neighbours": ", ".join(description["clock"]["neighbours"]) or "-",
            "known ahead": ", ".join(list_forecast_records(description)) or "-",
            **{
                f"{split} windows": f"{description['windows'][split]:,}"
                + (f" ({count:,} lack values)" if (count := description["windows_lacking_values"][split]) else "")
                for split in ("train", "val", "test")
            },
        }
        for name, description in descriptions.items()
    ]
    return format_markdown(pd.DataFrame(rows))


def format_reach(name: str, description: dict[str, Any]) -> str:
    """Return a sentence on the leads that no forecast of a weather model reaches; empty if all are reached."""
    leads = [
        lead for lead, share in zip(description["lead_hours"], description["reach"], strict=False) if not share
    ]
    if not leads:
        return ""
    return (
        f"No weather model of `{name}` reaches {'the lead' if len(leads) == 1 else 'the leads'} "
        f"{', '.join(f'{lead:g}' for lead in leads)} h; there, its models correct the last value instead."
    )


def format_gains(models: dict[str, str], base: str, lead: float, every: float, unit: str) -> str:
    """Return a Markdown table of how much lower the MAE is with other records than without, by lead.

    `models` is the best model of each input set with other records, and `base` the best without. Each cell has the
    difference on the test windows that both have, with its 95 % interval; below it, a sentence tests the headline
    lead.
    """
    horizons = sorted(read_evaluation_table(base, "by_lead")["lead"])
    leads = [float(horizon) for horizon in LEADS if horizon in horizons] or [lead]
    base_errors = {horizon: read_absolute_errors(base, horizon) for horizon in leads}
    rows, verdicts = [], []
    for name, model in models.items():
        cells = {"inputs": name, "model": model}
        for horizon in leads:
            comparison = compare_errors(read_absolute_errors(model, horizon), base_errors[horizon], horizon, every)
            cells[f"{horizon:g} h"] = "{difference:.2f} ({low:.2f} to {high:.2f})".format(**comparison)
            if horizon == lead:
                verdicts.append(format_verdict(model, f"`{base}`", comparison, lead, unit))
        rows.append(cells)
    return f"{format_markdown(pd.DataFrame(rows))}\n\n{' '.join(verdicts)}"


def format_importance(models: dict[str, str], headline_lead: str, unit: str) -> str:
    """Return a Markdown table of how much each record matters to the best model of each input set."""
    rows = []
    for name, model in models.items():
        for _, row in read_evaluation_table(model, "importance").iterrows():
            increase = row["mae_swapped"] - row["mae"]
            rows.append(
                {
                    "inputs": name,
                    "model": model,
                    "record": row["record"],
                    f"val MAE {headline_lead}, {unit}": f"{row['mae']:.3f}",
                    "with the values of another week": f"{row['mae_swapped']:.3f}",
                    "increase": f"{increase:.3f}",
                }
            )
    return format_markdown(pd.DataFrame(rows))


def format_added_value(
    metrics: pd.DataFrame, descriptions: dict[str, dict[str, Any]], inputs: pd.Series, headline_lead: str, unit: str
) -> str:
    """Return the section on what other records bring; empty if no model reads any.

    `metrics` has a row per model, the best first; `descriptions` are the contents of model.json by model, and
    `inputs` (models,) the input sets. `headline_lead` is the lead that models are ranked by, as in `24h`.
    """
    best = {str(name): str(models.index[0]) for name, models in metrics.groupby(inputs, sort=False)}
    sets = {name: descriptions[model] for name, model in best.items()}
    others = {
        name: model
        for name, model in best.items()
        if sets[name]["clock"]["neighbours"] or list_forecast_records(sets[name])
    }
    if not others:
        return ""
    lead, every = float(headline_lead.removesuffix("h")), float(next(iter(sets.values()))["every_hours"])
    parts = ["## What other records bring", format_input_sets(sets)]
    parts += [reach for name in others if (reach := format_reach(name, sets[name]))]
    base = next((model for name, model in best.items() if name not in others), None)
    if base is not None:
        parts += [
            f"How much lower the test MAE ({unit}) of the best model of each input set is than that of `{base}`, "
            "the best with the station's own past alone, by lead, with 95 % intervals:",
            format_gains(others, base, lead, every, unit),
        ]
    parts += [
        "How much each record matters: the validation MAE when its values are replaced by those of the window a "
        "week later, which fit the season and the hour of the day but say nothing about tomorrow.",
        format_importance(others, headline_lead, unit),
    ]
    return "\n\n".join(parts) + "\n"
