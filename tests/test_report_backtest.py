"""The rolling test's report: skill by fold against plain arithmetic, what is named, what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.lib.errors import UserError
from stages.report_backtest import report_backtest

FOLDS = ["2011-01-01", "2011-07-01", "2012-01-01"]
SCALE = {"persistence": [2.0, 2.0, 2.0], "ridge": [1.6, 1.8, 1.4], "mlp": [1.0, 1.5, 1.2]}
PARAMS = {
    "backtest": {
        **{"inputs": "station", "models": list(SCALE), "folds": FOLDS, "months": 6, "val": 12, "train": None},
        "seeds": [1, 2],
    },
    "models": {name: {"architecture": name, "inputs": "station"} for name in SCALE},
}


@pytest.fixture
def tables(root) -> dict[tuple[str, str], pd.DataFrame]:
    Path("params.yaml").write_text(json.dumps(PARAMS))
    Path("data/inputs/station").mkdir(parents=True)
    source = {"source": "x.csv", "synthetic": False}
    meta = {"columns": ["p (mbar)", "T (degC)"], "target": 1, "record": "jena", "source": source}
    Path("data/inputs/station/meta.json").write_text(json.dumps(meta))
    random, made = np.random.default_rng(5), {}
    for name, scales in SCALE.items():
        for fold, scale in zip(FOLDS, scales, strict=True):
            origin = pd.date_range(fold, periods=24 * 40, freq="h")
            truth = random.normal(size=len(origin))
            truth[7] = np.nan
            parts = []
            for seed in (1, 2) if name == "mlp" else (1,):
                median = np.nan_to_num(truth) + random.normal(0, scale, len(origin))
                columns = {"origin": origin, "lead": 24.0, "truth": truth}
                quantiles = {"q0.1": median - 1, "q0.5": median, "q0.9": median + 1.5}
                parts.append(pd.DataFrame(columns | quantiles | {"seed": seed}))
            made[name, fold] = pd.concat(parts)
            path = Path("data/backtest", name, f"{fold}.parquet")
            path.parent.mkdir(parents=True, exist_ok=True)
            made[name, fold].to_parquet(path)
    return made


def test_skill_is_one_less_the_ratio_to_persistence_in_every_fold_and_seed(tables):
    report_backtest()
    result = pd.read_csv("data/report/backtest/folds.csv")
    assert len(result) == 3 + 3 + 6
    for row in result.itertuples():
        own, reference = tables[row.model, row.fold], tables["persistence", row.fold]
        own = own[own["seed"] == row.seed]
        mae, other = (float((table["q0.5"] - table["truth"]).abs().mean()) for table in (own, reference))
        assert row.mae == pytest.approx(mae) and row.n == 24 * 40 - 1
        assert row.skill == pytest.approx(1 - mae / other)
        inside = [low <= truth <= high for low, truth, high in own[["q0.1", "truth", "q0.9"]].to_numpy()]
        assert row.coverage == pytest.approx(sum(inside) / (24 * 40 - 1))
    assert Path("data/report/backtest/skill.png").stat().st_size > 10_000


def test_the_report_names_the_best_and_the_worst_fold_and_judges_every_model(tables):
    report_backtest()
    text = Path("metrics/backtest.md").read_text()
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert rows["mlp"].split("|")[-3].strip().startswith("2011-07-01")
    assert rows["mlp"].split("|")[-2].strip().startswith("2011-01-01")
    assert rows["ridge"].split("|")[-2].strip().startswith("2012-01-01")
    assert "±" in rows["2011-01-01"] and rows["persistence"].count("0.000") >= 2
    assert "`mlp` beats ridge" in text and "`mlp` beats persistence" in text
    assert "`ridge` beats persistence" in text and "`persistence`" not in text
    coverage = pd.read_csv("data/report/backtest/folds.csv").groupby(["fold", "model"])["coverage"].mean()
    assert f" {coverage['2011-07-01', 'ridge']:.3f} |" in text.split("80 % of them")[1]


def test_one_fold_has_no_spread(tables):
    Path("params.yaml").write_text(json.dumps(PARAMS | {"backtest": PARAMS["backtest"] | {"folds": FOLDS[:1]}}))
    for path in Path("data/backtest").glob("*/*"):
        if path.stem != FOLDS[0]:
            path.unlink()
    report_backtest()
    text = Path("metrics/backtest.md").read_text()
    assert "\n1 test period of 6 months." in text and "nan" not in text


def test_what_is_missing_or_left_over_is_named(tables):
    path = Path("data/backtest/mlp/2011-07-01.parquet")
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(UserError, match=r"backtest/dvc.yaml:backtest@mlp-2011-07-01"):
        report_backtest()
    path.write_bytes(content)
    path.with_name("2010-01-01.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"rm -r data/backtest/mlp/2010-01-01.parquet"):
        report_backtest()
