"""The station's leaderboard, whether its best model beats the references, and its figures."""

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
WEEK = 7  # days: a block of the bootstrap
DRAWS = 1000  # of the bootstrap
FORTNIGHT = 14  # days of forecasts in the figure


def read_evaluation_table(model: str, name: str) -> pd.DataFrame:
    """One of the tables that `evaluate` writes: forecast, by_lead, by_month, by_hour."""
    with open_input(f"data/evaluations/station/{model}/{name}.parquet", f"evaluate@{model}") as path:
        return pd.read_parquet(path)


def read_absolute_errors(model: str, lead: float) -> pd.Series:
    """The absolute errors of the median at `lead` hours, by origin; those without a truth left out."""
    table = read_evaluation_table(model, "forecast")
    table = table[(table["lead"] == lead) & table["truth"].notna()]
    return (table["q0.5"] - table["truth"]).abs().set_axis(table["origin"])


def compare_errors(own: pd.Series, other: pd.Series, lead: float, every: float) -> dict[str, float]:
    """How much lower the mean of a model's absolute errors is than that of a reference's, and how sure that is.

    Both are `errors` at `lead` hours, by origin, of which there is one `every` so many hours.
    `difference` is the mean, `low` and `high` its 95 % interval by a bootstrap of daily means in blocks of a week.
    `confidence` is the probability that it is above 0 by the test of Diebold and Mariano (1995), in the form of
    Harvey, Leybourne and Newbold (1997) for forecasts that overlap.
    """
    gain = (other - own).dropna()
    steps = round(lead / every)
    series = xr.DataArray(gain.to_numpy()[None], {"pair": [0], "h": ("pair", [steps])}, ("pair", "origin"))
    test = diebold_mariano(series, "pair", "h", method="HLN", statistic_distribution="t")
    np.random.seed(0)  # `scores` draws from numpy's global generator
    days = xr.DataArray(
        gain.resample("D").mean().dropna().to_numpy(), dims="day"
    )  # `scores` takes minutes over hours
    drawn = block_bootstrap(days, blocks={"day": min(WEEK, len(days))}, n_iteration=DRAWS)
    low, high = np.quantile(drawn.mean("day"), [0.025, 0.975])
    return {
        "difference": float(gain.mean()),
        "low": float(low),
        "high": float(high),
        "confidence": float(test["confidence_gt_0"][0]),
    }


def format_verdict(model: str, reference: str, found: dict[str, float], lead: float, unit: str) -> str:
    """Whether `model` beats `reference`, by what `compare` found."""
    if found["low"] > 0 and found["confidence"] > 0.975:
        says = "beats"
    elif found["high"] < 0 and found["confidence"] < 0.025:
        says = "loses to"
    else:
        says = "cannot be told from"
    lower = found["difference"] > 0
    low, high = sorted(found[end] if lower else -found[end] for end in ("low", "high"))
    probability = min(found["confidence"] if lower else 1 - found["confidence"], 0.9999)
    return (
        f"At {lead:g} hours `{model}` {says} {reference}: its MAE is {abs(found['difference']):.3f} {unit} "
        f"{'lower' if lower else 'higher'} (95 % interval {low:.3f} to {high:.3f}, Diebold-Mariano probability "
        f"{probability:.4f})."
    )


def compare_with_references(best: str, lead: float, every: float, unit: str, references: list[str]) -> str:
    """Whether the model that is best on validation beats the references on the test windows, in a sentence each."""
    own = read_absolute_errors(best, lead)
    return " ".join(
        format_verdict(best, name, compare_errors(own, read_absolute_errors(name, lead), lead, every), lead, unit)
        for name in references
    )


def draw_skill(tables: dict[str, pd.DataFrame], note: str) -> Figure:
    """Skill against persistence by lead, a line a model."""
    figure, ((axes,),) = make_titled_figure(f"Skill against persistence by lead, test{note}")
    for name, table in tables.items():
        look = {"color": NAIVE, "linestyle": "--"} if name == "persistence" else {}
        axes.plot(table["lead"], table["skill"], label=name, **look)
    low = min(0.0, *(float(table["skill"].quantile(0.1)) for table in tables.values()))
    axes.set(xlabel="Lead (hours)", ylabel="Skill", xmargin=0.01, ylim=(max(low, -0.5) - 0.05, None))
    figure.legend(loc="outside lower center", ncols=6)
    return figure


def draw_when(models: list[str], lead: str, unit: str, note: str) -> Figure:
    """MAE at the headline lead by month and by valid hour."""
    figure, ((left, right),) = make_titled_figure(
        f"MAE {lead} ahead by month and by hour, test{note}", columns=2, sharey=True
    )
    for axes, kind in ((left, "month"), (right, "hour")):
        for name in models:
            table = read_evaluation_table(name, f"by_{kind}")
            look = {"color": NAIVE, "linestyle": "--"} if name == "persistence" else {}
            axes.plot(table[kind], table["mae"], marker=".", label=name, **look)
        axes.set(xlabel={"month": "Month", "hour": "Hour of day"}[kind])
    left.set(ylabel=f"MAE ({unit})", ylim=(0, None))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=4)
    return figure


def draw_reliability(best: str, forecasts: pd.DataFrame, note: str) -> Figure:
    """How often the truth lies below each quantile, and inside the interval, by lead."""
    figure, ((axes,),) = make_titled_figure(f"Reliability of {best}'s quantiles by lead, test{note}")
    measured = forecasts[forecasts["truth"].notna()]
    for column in (name for name in measured.columns if name.startswith("q")):
        level = float(column.removeprefix("q"))
        below = (measured["truth"] <= measured[column]).groupby(measured["lead"]).mean()
        (line,) = axes.plot(below, label=f"truth at most the {level:g} quantile")
        axes.axhline(level, color=line.get_color(), linestyle=":", linewidth=1)
    axes.set(xlabel="Lead (hours)", ylabel="Share of windows", xmargin=0.01, ylim=(0, 1))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_fortnight(best: str, forecasts: pd.DataFrame, target: str, note: str) -> Figure:
    """Two weeks in the middle of the test period: every day's forecast for the 24 hours after it, and the truth."""
    leads = np.sort(forecasts["lead"].unique())
    horizon = min(24.0, leads[-1])
    origins = forecasts["origin"].drop_duplicates()
    hour = origins.dt.hour.mode()[0]
    middle = origins.iloc[len(origins) // 2].normalize()
    days = pd.date_range(middle, periods=FORTNIGHT, freq="D")
    shown = forecasts[forecasts["origin"].dt.normalize().isin(days) & (forecasts["origin"].dt.hour == hour)]
    shown = shown[shown["lead"] <= horizon]
    shown = shown.assign(valid=shown["origin"] + pd.to_timedelta(shown["lead"], "h")).set_index("valid")
    figure, ((axes,),) = make_titled_figure(f"{target}, two weeks of forecasts by {best}, a day at a time{note}")
    for index, (_, day) in enumerate(shown.groupby("origin")):
        label = {"label": "80 % interval"} if not index else {}
        axes.fill_between(day.index, day["q0.1"], day["q0.9"], color=BAND, alpha=0.5, linewidth=0, **label)
        axes.plot(day["q0.5"], color=VALIDATION, linewidth=1.3, **({"label": "median"} if not index else {}))
    axes.plot(shown["truth"], color=TRUTH, linewidth=1.3, label="truth")
    axes.set(xlabel="Time", ylabel=target, xmargin=0.01)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def format_station_leaderboard(metrics: pd.DataFrame, label: str, unit: str) -> str:
    """The Markdown table of the station's models, the first in bold."""
    columns = {
        f"val MAE {label}, {unit}": (f"val_mae_{slugify(unit)}_{label}", 3),
        "val skill": (f"val_skill_{label}", 3),
        f"test MAE {label}, {unit}": (f"test_mae_{slugify(unit)}_{label}", 3),
        "test skill": (f"test_skill_{label}", 3),
        "vs ridge": (f"test_skill_vs_ridge_{label}", 3),
        "test skill, all leads": ("test_skill", 3),
        "coverage": (f"test_coverage_{label}", 3),
        f"width, {unit}": (f"test_width_{slugify(unit)}_{label}", 2),
    }
    cells = pd.DataFrame({"model": metrics.index}, index=metrics.index)
    for heading, (name, decimals) in columns.items():
        cells[heading] = metrics[name].map(f"{{:.{decimals}f}}".format)
    cells["parameters"] = metrics["parameters"].map("{:,.0f}".format)
    cells.iloc[0, :2] = "**" + cells.iloc[0, :2] + "**"
    return format_markdown(cells)


def build_report(
    metrics: pd.DataFrame, histories: dict[str, pd.DataFrame]
) -> tuple[dict[str, str], dict[str, Figure]]:
    """Return the file in metrics/ with the station's table and verdict, and the figures by name."""
    target, periods = get_param("dataset", "target"), get_param("periods")
    label = str(metrics.filter(regex="^val_skill_").columns[0]).removeprefix("val_skill_")
    lead, own = float(label.removesuffix("h")), get_unit(target)
    metrics = metrics.sort_values(f"val_mae_{slugify(own)}_{label}", kind="stable")
    best, source = metrics.index[0], read_json("data/quality.json", "parse")["source"]
    tables = {name: read_evaluation_table(name, "by_lead") for name in metrics.index}
    forecasts = read_evaluation_table(best, "forecast")
    references = [name for name in REFERENCES if name in metrics.index and name != best]
    every = float(tables[best]["lead"].iloc[0])
    windows, measured = forecasts["origin"].nunique(), int(tables[best].set_index("lead")["n"][lead])
    text = (
        f"# Forecasts of {target} by the clock\n\n{describe_source(source)}\n\n"
        f"Trained from {periods['train']}, validated from {periods['val']}, tested from {periods['test']} to "
        f"{periods['end'] or 'the end of the record'}: {windows:,} test windows, {measured:,} with a truth at "
        f"{lead:g} hours.\n\n{format_station_leaderboard(metrics, label, own)}\n\n"
        f"Sorted by validation MAE {lead:g} hours ahead, best model in bold. Skill is 1 - MAE / MAE of persistence,"
        " the last value measured at the same hour of the day, on the same windows; `vs ridge` is against the ridge"
        " regression. Coverage is the share of truths inside the 80 % interval, which was calibrated on"
        f" validation.\n\n{compare_with_references(best, lead, every, own, references)}\n"
    )
    note = " (synthetic)" * source["synthetic"]
    shown = [best, *references]
    pretty, degrees = (name.replace("degC", "°C") for name in (target, own))
    return {"station.md": text}, {
        "skill": draw_skill(tables, note),
        "when": draw_when(shown, f"{lead:g} hours", degrees, note),
        "reliability": draw_reliability(best, forecasts, note),
        "fortnight": draw_fortnight(best, forecasts, pretty, note),
    }
