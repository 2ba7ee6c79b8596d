"""Stage `report_backtest`: skill by fold and model, and comparisons with the references over all folds."""

from pathlib import Path

import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure

from stages.lib.errors import UserError
from stages.lib.files import atomic_output, open_input
from stages.lib.params import get_param
from stages.lib.reports.comparison import choose_references, compare_errors, format_verdict
from stages.lib.reports.figures import NAIVE, STYLE, make_titled_figure
from stages.lib.reports.leaderboard import describe_source, format_markdown, read_json
from stages.lib.settings.backtest import Backtest
from stages.lib.settings.base import read_settings
from stages.lib.tasks.station.levels import QUANTILES
from stages.lib.weather.units import get_unit

FORECASTS = Path("data/backtest")


def read_fold_errors(settings: Backtest) -> pd.DataFrame:
    """Read the absolute errors at the headline lead, and which intervals hold the truth, for origins with a truth.

    Columns: model, fold, seed, origin, lead, error, inside. Raises UserError if a forecast is missing, or if there
    are forecasts of models or folds that `settings` do not name.
    """
    expected = {
        FORECASTS / name / f"{fold}.parquet": (name, fold) for name in settings.models for fold in settings.folds
    }
    if stray := sorted(set(FORECASTS.glob("[!.]*/[!.]*")) - expected.keys()):
        raise UserError(
            "forecasts of models or folds that params.yaml `backtest` does not name; name them again, or remove "
            f"them:\n  rm -r {' '.join(map(str, stray))}"
        )
    frames = []
    for path, (name, fold) in expected.items():
        with open_input(path, f"backtest/dvc.yaml:backtest@{name}-{fold}") as file:
            frame = pd.read_parquet(file)
        frame["error"] = (frame["q0.5"] - frame["truth"]).abs()
        frame["inside"] = frame["truth"].between(frame[f"q{QUANTILES[0]:g}"], frame[f"q{QUANTILES[-1]:g}"])
        frame = frame.dropna(subset="error").assign(model=name, fold=fold)
        frames.append(frame[["model", "fold", "seed", "origin", "lead", "error", "inside"]])
    return pd.concat(frames)


def score_folds(errors: pd.DataFrame, persistence: str) -> pd.DataFrame:
    """Return n, mae, coverage, and skill against `persistence` on the same windows, by model, fold and seed."""
    groups = errors.groupby(["model", "fold", "seed"], sort=False)
    scores = groups.agg(n=("error", "size"), mae=("error", "mean"), coverage=("inside", "mean")).reset_index()
    reference = scores[scores["model"] == persistence].set_index("fold")["mae"]
    return scores.assign(skill=1 - scores["mae"] / scores["fold"].map(reference))


def tabulate_by_fold(scores: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the texts of a table of `score` by fold, with a column per model."""
    by_fold = scores.groupby(["fold", "model"], sort=False)[score].agg(["mean", "std", "size"])
    texts = [
        f"{row['mean']:.3f}" + (f" ± {row['std']:.3f}" if row["size"] > 1 else "") for _, row in by_fold.iterrows()
    ]
    table = pd.Series(texts, by_fold.index).unstack("model")[list(scores["model"].unique())]
    return table.rename_axis("test from").reset_index()


def tabulate_models(scores: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Return the texts of a table with a row per model, over all folds."""
    rows = []
    for name, model_scores in scores.groupby("model", sort=False):
        means = model_scores.groupby("fold")["skill"].mean()
        deviations = {"folds": means.std(), "seeds": model_scores.groupby("fold")["skill"].std().mean()}
        rows.append(
            {
                "model": name,
                f"MAE, {unit}": f"{(model_scores['mae'] * model_scores['n']).sum() / model_scores['n'].sum():.3f}",
                "skill, mean of folds": f"{means.mean():.3f}",
                **{f"sd over {of}": "-" if pd.isna(sd) else f"{sd:.3f}" for of, sd in deviations.items()},
                "worst fold": f"{means.idxmin()} ({means.min():.3f})",
                "best fold": f"{means.idxmax()} ({means.max():.3f})",
            }
        )
    return pd.DataFrame(rows)


def format_verdicts(errors: pd.DataFrame, references: list[str], unit: str) -> str:
    """Return a line per model on whether it beats the references over all folds; errors are averaged over seeds.

    The last of `references` is persistence.
    """
    lead = float(errors["lead"].iloc[0])
    series = {
        str(name): group.groupby("origin")["error"].mean() for name, group in errors.groupby("model", sort=False)
    }
    *_, persistence = references
    every = series[persistence].index.to_series().diff().min() / pd.Timedelta(hours=1)
    lines = []
    for name in series:
        verdicts = [
            format_verdict(name, other, compare_errors(series[name], series[other], lead, every), lead, unit)
            for other in references
            if name not in (other, persistence)
        ]
        if verdicts:
            lines.append("- " + " ".join(verdicts))
    return "\n".join(lines)


def draw_skill_by_fold(scores: pd.DataFrame, persistence: str, lead: float, note: str) -> Figure:
    """Draw the skill by fold, one line per model, with bars from the worst seed to the best."""
    figure, ((axes,),) = make_titled_figure(f"Skill against persistence {lead:g} hours ahead, by fold{note}")
    for name, model_scores in scores.groupby("model", sort=False):
        seeds = model_scores.groupby("fold")["skill"].agg(["mean", "min", "max"])
        bars = [seeds["mean"] - seeds["min"], seeds["max"] - seeds["mean"]]
        style = {"color": NAIVE, "linestyle": "--"} if name == persistence else {"marker": "o"}
        axes.errorbar(seeds.index, seeds["mean"], bars, label=name, capsize=3, **style)
    low = max(scores["skill"].min(), -0.2)  # a much lower skill would compress all other lines
    axes.set(xlabel="First day of the test period", ylabel="Skill", ylim=(low - 0.02, None))
    axes.tick_params(axis="x", rotation=30)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def report_backtest() -> None:
    """Write metrics/backtest.md, and the figure and the scores of all folds to data/report/backtest."""
    settings = read_settings(Backtest, "backtest")
    meta = read_json(f"data/inputs/{settings.inputs}/meta.json", f"clock@{settings.inputs}")
    target, source = meta["columns"][meta["target"]], meta["source"]
    errors = read_fold_errors(settings)
    references = choose_references(settings.models, settings.inputs, get_param("models"))
    scores, lead = score_folds(errors, references[-1]), float(errors["lead"].iloc[0])
    before = f"the {settings.train} months" if settings.train else "all data"
    months, val = (f"{count} month{'s' * (count > 1)}" for count in (settings.months, settings.val))
    text = (
        f"# Rolling test of {target}, {lead:g} hours ahead\n\n{describe_source(source)}\n\n"
        f"{len(settings.folds)} test period{'s' * (len(settings.folds) > 1)} of {months}. For each period, every "
        f"model was trained anew on {before} up to {val} before it; the time between served for validation and "
        "calibration. Skill is 1 - MAE / MAE of persistence on the same windows"
        f"{', mean ± standard deviation over seeds' * (len(settings.seeds) > 1)}.\n\n"
        f"{format_markdown(tabulate_by_fold(scores, 'skill'))}\n\n"
        f"{format_markdown(tabulate_models(scores, get_unit(target)))}\n\n"
        f"{format_verdicts(errors, references, get_unit(target))}\n\n"
        "Share of the measurements inside the interval that should hold "
        f"{100 * (QUANTILES[-1] - QUANTILES[0]):.0f} % of them:\n\n"
        f"{format_markdown(tabulate_by_fold(scores, 'coverage'))}\n"
    )
    with (
        matplotlib.style.context(["default", STYLE]),
        atomic_output("data/report/backtest") as directory,
        atomic_output("metrics/backtest.md") as path,
    ):
        directory.mkdir()
        scores.to_csv(directory / "folds.csv", index=False, lineterminator="\n")
        figure = draw_skill_by_fold(scores, references[-1], lead, " (synthetic)" * source["synthetic"])
        figure.savefig(directory / "skill.png", metadata={"Software": None}, pil_kwargs={"optimize": True})
        path.write_text(text, encoding="utf-8")
    print(text, end="")
