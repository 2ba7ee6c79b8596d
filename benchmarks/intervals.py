"""Compare ways to keep the station's intervals at 80 % over the years, on the forecasts of a backtest.

    python -m benchmarks.intervals MODEL [FOLDER]     # default: data/backtest of `make repro TASK=backtest`

Each way moves the two ends of an interval outwards by margins, from what was known at the forecast's origin:

- calibrated: as stored, with the margins of the validation period
- 365 days: the margins that would have been right over the year before the origin
- 90 days: the same over a quarter, as `predict` does it (stages/lib/tasks/station/recalibration.py)
- adaptive: adaptive conformal inference (Gibbs and Candes, 2021, "Adaptive Conformal Inference Under Distribution
  Shift"). The margins of the year, but at a level that each miss raises and each hit lowers, by a share GAMMA of
  the miss

The first year's forecasts only supply the first errors to learn from. The output is a Markdown table by fold: the
share of the measurements inside the intervals, and the mean interval score in the target's unit.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scores.continuous import interval_score

from stages.lib.errors import UserError
from stages.lib.reports.leaderboard import format_markdown
from stages.lib.tasks.station.levels import QUANTILES

LOW, _, HIGH = QUANTILES
MISS = 1 - (HIGH - LOW)  # share of the measurements that should lie outside
GAMMAS = (0.0005, 0.001, 0.002, 0.005)
DAY, YEAR = np.timedelta64(1, "D"), np.timedelta64(365, "D")
EVERY = 24  # origins after which the past errors are sorted anew


def read_forecasts(folder: Path) -> pd.DataFrame:
    """Read the forecasts in `folder`, which has a file for each fold, by origin; the first seed of each."""
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise UserError(f"{folder}: expected forecasts of a backtest, found none; run `make repro TASK=backtest`")
    frames = [pd.read_parquet(path).assign(fold=path.stem) for path in paths]
    frame = pd.concat([frame[frame["seed"] == frame["seed"].iloc[0]] for frame in frames])
    return frame.dropna(subset="truth").sort_values("origin", ignore_index=True)


def compute_margins(forecasts: pd.DataFrame, days: int = 365, gamma: float = 0) -> np.ndarray:
    """Return how far to move the low and the high end of each interval outwards (n, 2), NaN in the first year.

    They are quantiles of the errors of the last `days`; with `gamma` 0, their level is constant.
    """
    distances = np.stack(
        [forecasts[f"q{LOW:g}"] - forecasts["truth"], forecasts["truth"] - forecasts[f"q{HIGH:g}"]], 1
    )
    origins = forecasts["origin"].to_numpy()
    lead = (forecasts["lead"] * 3600).to_numpy().astype("timedelta64[s]")
    known = np.searchsorted(origins + lead, origins, side="right")  # forecasts whose truth is known at each origin
    oldest = np.searchsorted(origins + lead, origins - days * DAY, side="right")
    margins = np.full(distances.shape, np.nan)
    levels, past = np.full(2, MISS / 2), None
    verified = np.searchsorted(origins, origins[0] + YEAR)
    for position in range(verified, len(origins)):
        for miss in distances[verified : known[position]] > margins[verified : known[position]]:
            levels = levels + gamma * (MISS / 2 - miss)
        verified = max(verified, known[position])
        if past is None or position % EVERY == 0:
            past = np.sort(distances[oldest[position] : known[position]], axis=0)
        ranks = np.ceil((len(past) + 1) * (1 - levels)).astype(int).clip(1, len(past)) - 1
        margins[position] = past[ranks, [0, 1]]
    return margins


def score_intervals(forecasts: pd.DataFrame, margins: np.ndarray) -> pd.DataFrame:
    """Return whether each interval, moved outwards by `margins`, holds the truth, and its interval score."""
    low = np.minimum(forecasts[f"q{LOW:g}"] - margins[:, 0], forecasts["q0.5"])
    high = np.maximum(forecasts[f"q{HIGH:g}"] + margins[:, 1], forecasts["q0.5"])
    arrays = (xr.DataArray(values.to_numpy(float), dims="origin") for values in (low, high, forecasts["truth"]))
    score = interval_score(*arrays, HIGH - LOW, preserve_dims="all")["total"]
    return pd.DataFrame({"inside": forecasts["truth"].between(low, high), "score": score.to_numpy()})


def compare_ways(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return a table by fold, and over all of them, of the texts of both scores of each way."""
    ways: dict[str, np.ndarray] = {"calibrated": np.zeros((len(forecasts), 2))}
    ways |= {f"{days} days": compute_margins(forecasts, days) for days in (365, 90)}
    ways |= {f"adaptive, {gamma:g}": compute_margins(forecasts, gamma=gamma) for gamma in GAMMAS}
    tested = np.isfinite(ways["365 days"]).all(axis=1)
    folds = forecasts["fold"][tested]
    columns = {}
    for name, margins in ways.items():
        scores = score_intervals(forecasts, margins)[tested]
        means = pd.concat([scores.groupby(folds).mean(), scores.mean().to_frame("all").T])
        columns[name] = [f"{share:.3f}, {score:.2f}" for share, score in means.to_numpy()]
    return pd.DataFrame({"test from": [*folds.unique(), "all"]} | columns)


def main() -> None:
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        forecasts = read_forecasts(Path(sys.argv[2] if len(sys.argv) == 3 else "data/backtest", sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
    print(format_markdown(compare_ways(forecasts)))


if __name__ == "__main__":
    main()
