"""Skill by fold and model, whether each model beats the references over all folds, and a figure."""

from pathlib import Path

import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure

from stages.lib.errors import UserError
from stages.lib.files import atomic_output, open_input
from stages.lib.params import get_param
from stages.lib.reports.figures import NAIVE, STYLE, make_titled_figure
from stages.lib.reports.leaderboard import describe_source, format_markdown, read_json
from stages.lib.reports.station import REFERENCES, compare_errors, format_verdict
from stages.lib.settings.backtest import Backtest
from stages.lib.settings.base import read_settings
from stages.lib.weather.units import get_unit

FOLDER = Path("data/backtest")


def read_fold_errors(own: Backtest) -> pd.DataFrame:
    """The absolute errors at the headline lead: model, fold, seed, origin, lead, error; none without a truth.

    Raises UserError where a forecast is missing, or one lies there that no fold asks for.
    """
    wanted = {FOLDER / name / f"{fold}.parquet": (name, fold) for name in own.models for fold in own.folds}
    if stray := sorted(set(FOLDER.glob("[!.]*/[!.]*")) - wanted.keys()):
        raise UserError(
            "forecasts of models or folds that params.yaml `backtest` does not name; name them again, or remove "
            f"them:\n  rm -r {' '.join(map(str, stray))}"
        )
    tables = []
    for path, (name, fold) in wanted.items():
        with open_input(path, f"backtest/dvc.yaml:backtest@{name}-{fold}") as file:
            table = pd.read_parquet(file)
        table["error"] = (table["q0.5"] - table["truth"]).abs()
        table = table.dropna(subset="error").assign(model=name, fold=fold)
        tables.append(table[["model", "fold", "seed", "origin", "lead", "error"]])
    return pd.concat(tables)


def score_folds(errors: pd.DataFrame) -> pd.DataFrame:
    """A row for each model, fold and seed: n, mae, and skill against persistence on the same windows."""
    found = errors.groupby(["model", "fold", "seed"], sort=False)["error"].agg(n="size", mae="mean").reset_index()
    reference = found[found["model"] == "persistence"].set_index("fold")["mae"]
    return found.assign(skill=1 - found["mae"] / found["fold"].map(reference))


def format_tables(found: pd.DataFrame, own: str) -> str:
    """The Markdown tables: skill by fold, a column a model; then a row a model over all folds."""
    by_fold = found.groupby(["fold", "model"], sort=False)["skill"].agg(["mean", "std", "size"])
    texts = [
        f"{row['mean']:.3f}" + (f" ± {row['std']:.3f}" if row["size"] > 1 else "") for _, row in by_fold.iterrows()
    ]
    table = pd.Series(texts, by_fold.index).unstack("model")[list(found["model"].unique())]
    rows = []
    for name, part in found.groupby("model", sort=False):
        means = part.groupby("fold")["skill"].mean()
        spread = {"folds": means.std(), "seeds": part.groupby("fold")["skill"].std().mean()}
        rows.append(
            {
                "model": name,
                f"MAE, {own}": f"{(part['mae'] * part['n']).sum() / part['n'].sum():.3f}",
                "skill, mean of folds": f"{means.mean():.3f}",
                **{f"sd over {of}": "-" if pd.isna(sd) else f"{sd:.3f}" for of, sd in spread.items()},
                "worst fold": f"{means.idxmin()} ({means.min():.3f})",
                "best fold": f"{means.idxmax()} ({means.max():.3f})",
            }
        )
    return "\n\n".join(
        format_markdown(cells) for cells in (table.rename_axis("test from").reset_index(), pd.DataFrame(rows))
    )


def format_verdicts(errors: pd.DataFrame, own: str) -> str:
    """Whether each model beats the references over all folds, a line a model; a seed's errors are averaged."""
    lead = float(errors["lead"].iloc[0])
    series = {
        str(name): part.groupby("origin")["error"].mean() for name, part in errors.groupby("model", sort=False)
    }
    every = series["persistence"].index.to_series().diff().min() / pd.Timedelta(hours=1)
    lines = []
    for name in series:
        others = [other for other in REFERENCES if name not in (other, "persistence")]
        found = [compare_errors(series[name], series[other], lead, every) for other in others]
        if found:
            pairs = zip(others, found, strict=True)
            lines.append("- " + " ".join(format_verdict(name, other, result, lead, own) for other, result in pairs))
    return "\n".join(lines)


def draw_skill_by_fold(found: pd.DataFrame, lead: float, note: str) -> Figure:
    """Skill by fold, a line a model, with bars from the worst seed to the best."""
    figure, ((axes,),) = make_titled_figure(f"Skill against persistence {lead:g} hours ahead, by fold{note}")
    for name, part in found.groupby("model", sort=False):
        seeds = part.groupby("fold")["skill"].agg(["mean", "min", "max"])
        bars = [seeds["mean"] - seeds["min"], seeds["max"] - seeds["mean"]]
        look = {"color": NAIVE, "linestyle": "--"} if name == "persistence" else {"marker": "o"}
        axes.errorbar(seeds.index, seeds["mean"], bars, label=name, capsize=3, **look)
    low = max(found["skill"].min(), -0.2)  # what is far worse would leave the others no room
    axes.set(xlabel="First day of the test period", ylabel="Skill", ylim=(low - 0.02, None))
    axes.tick_params(axis="x", rotation=30)
    figure.legend(loc="outside lower center", ncols=6)
    return figure


def report_backtest() -> None:
    """Write metrics/backtest.md, and the figure and every fold's scores to data/report/backtest."""
    own, target = read_settings(Backtest, "backtest"), get_param("dataset", "target")
    errors = read_fold_errors(own)
    found, lead = score_folds(errors), float(errors["lead"].iloc[0])
    source = read_json("data/quality.json", "parse")["source"]
    before = f"the {own.train} months" if own.train else "all data"
    months, val = (f"{count} month{'s' * (count > 1)}" for count in (own.months, own.val))
    text = (
        f"# Rolling test of {target}, {lead:g} hours ahead\n\n{describe_source(source)}\n\n"
        f"{len(own.folds)} test period{'s' * (len(own.folds) > 1)} of {months}; for each, every model was trained "
        f"anew on {before} up to {val} before it, the time between for validation and calibration. Skill is "
        "1 - MAE / MAE of persistence on the same windows"
        f"{', mean ± standard deviation over seeds' * (len(own.seeds) > 1)}.\n\n"
        f"{format_tables(found, get_unit(target))}\n\n{format_verdicts(errors, get_unit(target))}\n"
    )
    with (
        matplotlib.style.context(["default", STYLE]),
        atomic_output("data/report/backtest") as directory,
        atomic_output("metrics/backtest.md") as path,
    ):
        directory.mkdir()
        found.to_csv(directory / "folds.csv", index=False, lineterminator="\n")
        figure = draw_skill_by_fold(found, lead, " (synthetic)" * source["synthetic"])
        figure.savefig(directory / "skill.png", metadata={"Software": None}, pil_kwargs={"optimize": True})
        path.write_text(text, encoding="utf-8")
    print(text, end="")
