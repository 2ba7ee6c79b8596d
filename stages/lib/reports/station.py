"""Report on the station: leaderboard, comparison of the best model with the references, and figures."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from scores.processing import block_bootstrap
from scores.stats.statistical_tests import diebold_mariano

from stages.lib.files import open_input
from stages.lib.params import get_param
from stages.lib.reports.figures import BAND, NAIVE, TRUTH, VALIDATION, make_titled_figure
from stages.lib.reports.leaderboard import describe_source, format_markdown, read_json
from stages.lib.weather.units import get_unit, slugify

REFERENCES = ("ridge", "persistence")
BLOCK_DAYS = 7  # length of a block of the bootstrap
ITERATIONS = 1000  # of the bootstrap
FORTNIGHT = 14  # days of forecasts in the figure


def read_evaluation_table(model: str, name: str) -> pd.DataFrame:
    """Read a table that `evaluate` writes; `name` is forecast, by_lead, by_month or by_hour."""
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


def compare_with_references(best: str, lead: float, every: float, unit: str, references: list[str]) -> str:
    """Return a sentence per reference on whether the model `best` beats it on the test windows."""
    model_errors = read_absolute_errors(best, lead)
    return " ".join(
        format_verdict(
            best, name, compare_errors(model_errors, read_absolute_errors(name, lead), lead, every), lead, unit
        )
        for name in references
    )


def draw_skill(tables: dict[str, pd.DataFrame], note: str) -> Figure:
    """Draw the skill against persistence by lead, one line per model."""
    figure, ((axes,),) = make_titled_figure(f"Skill against persistence by lead, test{note}")
    for name, table in tables.items():
        style = {"color": NAIVE, "linestyle": "--"} if name == "persistence" else {}
        axes.plot(table["lead"], table["skill"], label=name, **style)
    low = min(0.0, *(float(table["skill"].quantile(0.1)) for table in tables.values()))
    axes.set(xlabel="Lead (hours)", ylabel="Skill", xmargin=0.01, ylim=(max(low, -0.5) - 0.05, None))
    figure.legend(loc="outside lower center", ncols=6)
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
        label = {"label": "80 % interval"} if not index else {}
        axes.fill_between(day.index, day["q0.1"], day["q0.9"], color=BAND, alpha=0.5, linewidth=0, **label)
        axes.plot(day["q0.5"], color=VALIDATION, linewidth=1.3, **({"label": "median"} if not index else {}))
    axes.plot(frame["truth"], color=TRUTH, linewidth=1.3, label="truth")
    axes.set(xlabel="Time", ylabel=target, xmargin=0.01)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def format_station_leaderboard(metrics: pd.DataFrame, lead: str, unit: str) -> str:
    """Return the Markdown table of the station's models, with the first in bold; `lead` is as in `24h`."""
    columns = {
        f"val MAE {lead}, {unit}": (f"val_mae_{slugify(unit)}_{lead}", 3),
        "val skill": (f"val_skill_{lead}", 3),
        f"test MAE {lead}, {unit}": (f"test_mae_{slugify(unit)}_{lead}", 3),
        "test skill": (f"test_skill_{lead}", 3),
        "vs ridge": ("skill_vs_ridge", 3),
        "test skill, all leads": ("test_skill", 3),
        "coverage": (f"test_coverage_{lead}", 3),
        f"width, {unit}": (f"test_width_{slugify(unit)}_{lead}", 2),
    }
    errors = metrics[f"test_mae_{slugify(unit)}_{lead}"]
    metrics = metrics.assign(skill_vs_ridge=1 - errors / errors.get("ridge", np.nan))
    cells = pd.DataFrame({"model": metrics.index}, index=metrics.index)
    for heading, (name, decimals) in columns.items():
        cells[heading] = [f"{value:.{decimals}f}" if np.isfinite(value) else "-" for value in metrics[name]]
    cells["parameters"] = metrics["parameters"].map("{:,.0f}".format)
    cells.iloc[0, :2] = "**" + cells.iloc[0, :2] + "**"
    return format_markdown(cells)


def build_report(
    metrics: pd.DataFrame, histories: dict[str, pd.DataFrame]
) -> tuple[dict[str, str], dict[str, Figure]]:
    """Return the text of metrics/station.md, with the leaderboard and the comparisons, and the figures by name."""
    periods = get_param("periods")
    label = str(metrics.filter(regex="^val_skill_").columns[0]).removeprefix("val_skill_")
    model = str(metrics.index[0])
    description = read_json(f"data/models/station/{model}/model.json", f"train@{model}")
    target, source = description["target"], description["source"]
    lead, unit = float(label.removesuffix("h")), get_unit(target)
    metrics = metrics.sort_values(f"val_mae_{slugify(unit)}_{label}", kind="stable")
    best = metrics.index[0]
    tables = {name: read_evaluation_table(name, "by_lead") for name in metrics.index}
    forecasts = read_evaluation_table(best, "forecast")
    references = [name for name in REFERENCES if name in metrics.index and name != best]
    every = float(tables[best]["lead"].iloc[0])
    windows, measured = forecasts["origin"].nunique(), int(tables[best].set_index("lead")["n"][lead])
    text = (
        f"# Forecasts of {target} by the clock\n\n{describe_source(source)}\n\n"
        f"Trained from {periods['train']}, validated from {periods['val']}, tested from {periods['test']} to "
        f"{periods['end'] or 'the end of the record'}: {windows:,} test windows, {measured:,} with a truth at "
        f"{lead:g} hours.\n\n{format_station_leaderboard(metrics, label, unit)}\n\n"
        f"Sorted by validation MAE {lead:g} hours ahead, best model in bold. Skill is 1 - MAE / MAE of persistence,"
        " the latest value measured at the same hour of the day, on the same windows; `vs ridge` is the skill"
        " against the ridge regression. Coverage is the share of truths inside the 80 % interval, which is"
        f" calibrated on the validation windows; width is its mean width.\n\n"
        f"{compare_with_references(best, lead, every, unit, references)}\n"
    )
    note = " (synthetic)" * source["synthetic"]
    target, unit = (name.replace("degC", "°C") for name in (target, unit))
    return {"station.md": text}, {
        "skill": draw_skill(tables, note),
        "when": draw_mae_by_time([best, *references], f"{lead:g} hours", unit, note),
        "reliability": draw_reliability(best, forecasts, note),
        "fortnight": draw_fortnight(best, forecasts, target, note),
    }
