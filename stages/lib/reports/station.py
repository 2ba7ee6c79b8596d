"""Report on the station: leaderboard, comparison of the best model with the references, and figures."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.lib.params import get_param
from stages.lib.reports.added_value import format_added_value
from stages.lib.reports.comparison import (
    choose_references,
    compare_errors,
    format_verdict,
    read_absolute_errors,
    read_evaluation_table,
)
from stages.lib.reports.figures import BAND, NAIVE, TRUTH, VALIDATION, make_titled_figure
from stages.lib.reports.leaderboard import describe_source, format_markdown, read_json
from stages.lib.weather.units import get_unit, slugify

FORTNIGHT = 14  # days of forecasts in the figure


def compare_with_references(
    best: str, errors: dict[str, pd.Series], lead: float, every: float, unit: str, references: list[str]
) -> str:
    """Return a sentence per reference on whether the model `best` beats it on the test windows.

    `errors` has the absolute errors of each model at `lead` hours.
    """
    return " ".join(
        format_verdict(best, name, compare_errors(errors[best], errors[name], lead, every), lead, unit)
        for name in references
    )


def calculate_skill(errors: dict[str, pd.Series], reference: str) -> pd.Series:
    """Return the skill of each model against `reference`, on the test windows that both have.

    `errors` has the absolute errors of each model at one lead, as `read_absolute_errors` returns them.
    """
    skill = {}
    for name, model_errors in errors.items():
        both = pd.concat([errors[reference].rename("reference"), model_errors], axis=1, join="inner")
        skill[name] = 1 - both.iloc[:, 1].mean() / both["reference"].mean()
    return pd.Series(skill)


def draw_skill(tables: dict[str, pd.DataFrame], note: str) -> Figure:
    """Draw the skill against persistence by lead, one line per model."""
    figure, ((axes,),) = make_titled_figure(f"Skill against persistence by lead, test{note}")
    for name, table in tables.items():
        style = {"color": NAIVE, "linestyle": "--"} if name == "persistence" else {}
        axes.plot(table["lead"], table["skill"], label=name, **style)
    low = min(0.0, *(float(table["skill"].quantile(0.1)) for table in tables.values()))
    axes.set(xlabel="Lead (hours)", ylabel="Skill", xmargin=0.01, ylim=(max(low, -0.5) - 0.05, None))
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def draw_mae_by_time(models: list[str], lead: str, unit: str, note: str) -> Figure:
    """Draw the MAE at the headline lead by month and by hour of the valid time.

    The line over the months is broken where the test period has no forecasts.
    """
    figure, ((left, right),) = make_titled_figure(
        f"MAE {lead} ahead by month and by hour, test{note}", columns=2, sharey=True
    )
    for axes, kind in ((left, "month"), (right, "hour")):
        for name in models:
            mae = read_evaluation_table(name, f"by_{kind}").set_index(kind)["mae"]
            mae = mae.reindex(range(1, 13)) if kind == "month" else mae
            style = {"color": NAIVE, "linestyle": "--"} if name == "persistence" else {}
            axes.plot(mae, marker=".", label=name, **style)
    left.set(xlabel="Month", xlim=(0.5, 12.5), xticks=range(1, 13))
    right.set(xlabel="Hour of day")
    left.set(ylabel=f"MAE ({unit})", ylim=(0, None))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def draw_reliability(best: str, forecasts: pd.DataFrame, note: str) -> Figure:
    """Draw the share of truths at or below each quantile, by lead, and the share that is nominal."""
    figure, ((axes,),) = make_titled_figure(f"Reliability of {best}'s quantiles by lead, test{note}")
    measured = forecasts[forecasts["truth"].notna()]
    for column in (name for name in measured.columns if name.startswith("q")):
        level = float(column.removeprefix("q"))
        share = (measured["truth"] <= measured[column]).groupby(measured["lead"]).mean()
        (line,) = axes.plot(share, label=f"truth at most the {level:g} quantile")
        axes.axhline(level, color=line.get_color(), linestyle=":", linewidth=1)
    axes.set(xlabel="Lead (hours)", ylabel="Share of windows", xmargin=0.01, ylim=(0, 1))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_fortnight(best: str, forecasts: pd.DataFrame, target: str, note: str) -> Figure:
    """Draw the truth and the first 24 hours of daily forecasts, for two weeks in the middle of the test period."""
    leads = np.sort(forecasts["lead"].unique())
    horizon = min(24.0, leads[-1])
    origins = forecasts["origin"].drop_duplicates()
    hour = origins.dt.hour.mode()[0]
    middle = origins.iloc[len(origins) // 2].normalize()
    days = pd.date_range(middle, periods=FORTNIGHT, freq="D")
    frame = forecasts[forecasts["origin"].dt.normalize().isin(days) & (forecasts["origin"].dt.hour == hour)]
    frame = frame[frame["lead"] <= horizon]
    frame = frame.assign(valid=frame["origin"] + pd.to_timedelta(frame["lead"], "h")).set_index("valid")
    figure, ((axes,),) = make_titled_figure(f"{target}, two weeks of daily forecasts by {best}{note}")
    for index, (_, day) in enumerate(frame.groupby("origin")):
        legend = {"label": "80 % interval"} if not index else {}
        axes.fill_between(day.index, day["q0.1"], day["q0.9"], color=BAND, alpha=0.5, linewidth=0, **legend)
        axes.plot(day["q0.5"], color=VALIDATION, linewidth=1.3, **({"label": "median"} if not index else {}))
    axes.plot(frame["truth"], color=TRUTH, linewidth=1.3, label="truth")
    axes.set(xlabel="Time", ylabel=target, xmargin=0.01)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def format_station_leaderboard(
    metrics: pd.DataFrame, inputs: pd.Series, skill: dict[str, pd.Series], lead: str, unit: str
) -> str:
    """Return the Markdown table of the models of one station, with the first in bold; `lead` is as in `24h`.

    `inputs` (models,) has the input set of each model; `skill` maps references besides persistence to the skill
    against them, (models,).
    """
    recalibrated = f"test_recalibrated_coverage_{lead}"
    columns = {
        f"val MAE {lead}, {unit}": (metrics[f"val_mae_{slugify(unit)}_{lead}"], 3),
        "val skill": (metrics[f"val_skill_{lead}"], 3),
        f"test MAE {lead}, {unit}": (metrics[f"test_mae_{slugify(unit)}_{lead}"], 3),
        "test skill": (metrics[f"test_skill_{lead}"], 3),
        **{f"vs {name}": (values, 3) for name, values in skill.items()},
        "test skill, all leads": (metrics["test_skill"], 3),
        "coverage": (metrics[f"test_coverage_{lead}"], 3),
        **({"recalibrated": (metrics[recalibrated], 3)} if recalibrated in metrics else {}),
        f"width, {unit}": (metrics[f"test_width_{slugify(unit)}_{lead}"], 2),
    }
    cells = pd.DataFrame({"model": metrics.index}, index=metrics.index)
    if inputs.nunique() > 1:
        cells["inputs"] = inputs
    for heading, (values, decimals) in columns.items():
        cells[heading] = values.map(f"{{:.{decimals}f}}".format)
    cells["parameters"] = metrics["parameters"].map("{:,.0f}".format)
    first = ["model", f"val MAE {lead}, {unit}"]
    cells.loc[cells.index[0], first] = "**" + cells.loc[cells.index[0], first] + "**"
    return format_markdown(cells)


def build_report(
    metrics: pd.DataFrame, histories: dict[str, pd.DataFrame]
) -> tuple[dict[str, str], dict[str, Figure]]:
    """Return the text of metrics/station.md and the figures by name; both have a part for each station."""
    descriptions = {
        str(name): read_json(f"data/models/station/{name}/model.json", f"train@{name}") for name in metrics.index
    }
    records = pd.Series({name: description["record"] for name, description in descriptions.items()})
    texts, figures = list[str](), dict[str, Figure]()
    for record, names in records.groupby(records, sort=False):
        # Several stations may have other headline leads: a column without values is not theirs.
        text, drawings = report_on_station(metrics.loc[names.index].dropna(axis=1, how="all"), descriptions)
        texts.append(text)
        suffix = f"_{record}" if records.nunique() > 1 else ""
        figures |= {f"{key}{suffix}": figure for key, figure in drawings.items()}
    return {"station.md": "\n".join(texts)}, figures


def report_on_station(
    metrics: pd.DataFrame, descriptions: dict[str, dict[str, Any]]
) -> tuple[str, dict[str, Figure]]:
    """Return the leaderboard of one station's models with the comparisons, and the figures by name.

    `metrics` has a row per model; `descriptions` are the contents of model.json.
    """
    periods, models = get_param("periods"), get_param("models")
    headline_lead = str(metrics.filter(regex="^val_skill_").columns[0]).removeprefix("val_skill_")
    model = str(metrics.index[0])
    target, source = descriptions[model]["target"], descriptions[model]["source"]
    lead, unit = float(headline_lead.removesuffix("h")), get_unit(target)
    metrics = metrics.sort_values(f"val_mae_{slugify(unit)}_{headline_lead}", kind="stable")
    best, names = str(metrics.index[0]), list(map(str, metrics.index))
    inputs = pd.Series({name: models[name]["inputs"] for name in names})
    tables = {name: read_evaluation_table(name, "by_lead") for name in names}
    forecasts = read_evaluation_table(best, "forecast")
    references = choose_references(names, inputs[best], models)
    errors = {name: read_absolute_errors(name, lead) for name in names}
    skill = {
        name: calculate_skill(errors, name) for name in references if models[name]["architecture"] != "persistence"
    }
    compared = [name for name in references if name != best]
    every = float(tables[best]["lead"].iloc[0])
    windows, measured = forecasts["origin"].nunique(), int(tables[best].set_index("lead")["n"][lead])
    if f"test_recalibrated_coverage_{headline_lead}" in metrics:
        recalibration_note = " Recalibrated: the coverage with the margins of the 90 days before each day."
    else:
        recalibration_note = ""
    text = (
        f"# Forecasts of {target} by the clock\n\n{describe_source(source)}\n\n"
        f"Trained from {periods['train']}, validated from {periods['val']}, tested from {periods['test']} to "
        f"{periods['end'] or 'the end of the record'}: {windows:,} test windows, {measured:,} with a truth at "
        f"{lead:g} hours.\n\n{format_station_leaderboard(metrics, inputs, skill, headline_lead, unit)}\n\n"
        f"Sorted by validation MAE {lead:g} hours ahead, best model in bold. Skill is 1 - MAE / MAE of persistence,"
        " the latest value measured at the same hour of the day, on the same windows; `vs` is the skill against"
        " another reference, on the windows of both. Coverage is the share of truths inside the 80 % interval,"
        f" which is calibrated on the validation windows; width is its mean width."
        f"{recalibration_note}\n\n"
        f"{compare_with_references(best, errors, lead, every, unit, compared)}\n"
    )
    if added_value := format_added_value(metrics, descriptions, inputs, headline_lead, unit):
        text += f"\n{added_value}"
    note = " (synthetic)" * source["synthetic"]
    target, unit = (name.replace("degC", "°C") for name in (target, unit))
    return text, {
        "skill": draw_skill(tables, note),
        "when": draw_mae_by_time([best, *compared], f"{lead:g} hours", unit, note),
        "reliability": draw_reliability(best, forecasts, note),
        "fortnight": draw_fortnight(best, forecasts, target, note),
    }
