"""The spread over seeds: what counts as a run, the table and its verdict, on made-up metrics."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from scripts import spread


def commit(seed, scores, settings=None, others=None):
    """The files of a commit as `runs` reads them; `scores` maps a model to its metrics."""
    stages = {"parse@jena": {"params": {}}}
    files = {}
    for name, metrics in scores.items():
        params = {"training": {"seed": seed, "threads": 1}, f"models.{name}": {"units": 32} | (settings or {})}
        deps = [{"path": "data/inputs/hourly", "md5": "abc.dir"}, {"path": "stages/evaluate.py", "md5": "d"}]
        stages[f"evaluate@{name}"] = {"params": {"params.yaml": params}, "deps": deps}
        files[f"metrics/forecast/{name}.json"] = json.dumps(metrics)
    if others:
        files["metrics/forecast_without_sentinels.json"] = json.dumps(others)
    files["dvc.lock"] = json.dumps({"stages": stages})
    return lambda path: files.get(path, "")


def labels(runs):
    """What the table tells apart: model, seed and validation MAE of every run, sorted."""
    found = spread.label_settings(runs)
    return sorted(zip(found["model"], found["seed"], found["val_mae"], strict=True))


def frame(**maes):
    """Runs of models by name, a validation MAE a seed."""
    rows = [
        {"name": name, "model": name, "seed": n, "val_mae": m} for name, v in maes.items() for n, m in enumerate(v)
    ]
    return spread.rank_models(pd.DataFrame(rows))


def test_a_model_that_did_not_run_again_counts_once_and_other_settings_apart():
    commits = [
        commit(1, {"gru": {"val_mae": 0.25}, "naive": {"val_mae": 0.29}}),
        commit(1, {"gru": {"val_mae": 0.25}}),  # another commit of the same run
        commit(2, {"gru": {"val_mae": 0.27}}),
        commit(1, {"gru": {"val_mae": 0.24}}, {"units": 64, "learning_rate": 0.01}),
        lambda path: "",  # nothing there
    ]
    found = pd.DataFrame([run for read in commits for run in spread.collect_runs("forecast", read)])
    assert labels(spread.drop_repeats(found)) == [
        ("gru, units 32", 1, 0.25),
        ("gru, units 32", 2, 0.27),
        ("gru, units 64, learning_rate 0.01", 1, 0.24),
        ("naive", 1, 0.29),
    ]


def test_a_file_and_a_branch_of_other_settings_are_told_apart(tmp_path: Path, monkeypatch):
    path = str(tmp_path / "runs.csv")

    def saved(read, files):
        """What --save leaves in the file when these `files` and a commit are named."""
        monkeypatch.setattr(spread, "read_experiments", lambda _: ["a commit"])
        monkeypatch.setattr(spread, "read_committed_file", lambda _, path: read(path))
        spread.save_runs(spread.gather_runs([*files, "branch"], "forecast"), path)
        return labels(spread.gather_runs([path], "forecast"))

    assert saved(commit(1, {"gru": {"val_mae": 0.25}}), []) == [("gru", 1, 0.25)]
    expected = [("gru, units 32", 1, 0.25), ("gru, units 64", 1, 0.24)]
    wide = commit(1, {"gru": {"val_mae": 0.24}}, {"units": 64})
    assert saved(wide, [path]) == expected
    assert saved(wide, [path]) == expected  # nothing new


def test_long_settings_are_shown_in_full():
    lists = [[64, 64, 64, 64], [64, 64, 64, 32]]
    commits = [commit(1, {"gru": {"val_mae": 0.25}}, {"dense": dense}) for dense in lists]
    found = pd.DataFrame([run for read in commits for run in spread.collect_runs("forecast", read)])
    assert [label for label, _, _ in labels(spread.drop_repeats(found))] == [
        "gru, dense [64, 64, 64, 32]",
        "gru, dense [64, 64, 64, 64]",
    ]


def test_scores_without_sentinels_are_taken_from_a_report_on_the_same_run_alone():
    scores = {"gru": {"test_mae_degc": 2.5}, "dense": {"test_mae_degc": 7.0}}
    others = {
        "gru": {"test_mae_degc": 2.5, "test_mae_degc_without_sentinels": 2.4},
        "dense": {"test_mae_degc": 8.0, "test_mae_degc_without_sentinels": 3.0},
    }
    found = {run["name"]: run for run in spread.collect_runs("forecast", commit(1, scores, others=others))}
    assert found["gru"]["test_mae_degc_without_sentinels"] == 2.4
    assert "test_mae_degc_without_sentinels" not in found["dense"]


def test_the_table_has_the_best_mean_first_with_its_standard_deviation():
    text = spread.format_spread(frame(naive=[0.29], dense=[0.30, 0.34], gru=[0.25, 0.26, 0.27]))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert cells[0] == ["model", "seeds", "val MAE", "notebooks' best (epoch)"]
    assert cells[2] == ["gru", "3", "0.2600 ± 0.0100", "0.2635 (5)"]
    assert cells[3] == ["naive", "1", "0.2900", "0.2897"]
    assert cells[4] == ["dense", "2", f"0.3200 ± {np.std([0.30, 0.34], ddof=1):.4f}", "0.3101 (3)"]


def test_the_figure_has_every_run_and_the_means():
    figure = spread.draw_spread(frame(a=[0.2, 0.3], b=[0.5]))
    dots, means = figure.axes[0].lines
    assert dots.get_xdata().tolist() == [0.2, 0.3, 0.5] and dots.get_ydata().tolist() == [0, 0, 1]
    assert means.get_xdata() == pytest.approx([0.25, 0.5])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]


def test_branches_of_a_repository(root: Path, monkeypatch, capsys):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True, capture_output=True
        )

    git("init", "-b", "main")
    Repo.init().close()
    YAML().dump(
        {"stages": {"evaluate": {"cmd": "true", "metrics": [{"m.json": {"cache": False}}]}}}, Path("dvc.yaml")
    )
    for seed, mae in ((1, 0.25), (2, 0.27)):
        git("checkout", "-b", f"seed{seed}")
        read = commit(seed, {"gru": {"val_mae": mae}})
        for path in ("dvc.lock", "metrics/forecast/gru.json"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(read(path))
        git("add", "dvc.yaml", "dvc.lock", "metrics", ".dvc")
        git("commit", "-m", f"seed {seed}")
    monkeypatch.setattr("sys.argv", ["spread", "seed1", "seed2", "--figure", "seeds.png"])
    spread.main()
    assert "| gru     |       2 | 0.2600 ± 0.0141 |" in capsys.readouterr().out
    assert Path("seeds.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr("sys.argv", ["spread", "seed1", "--save", "runs.csv"])
    spread.main()
    monkeypatch.setattr("sys.argv", ["spread", "runs.csv", "seed2", "--save", "runs.csv"])
    spread.main()
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["spread", "runs.csv"])
    spread.main()
    assert "| gru     |       2 | 0.2600 ± 0.0141 |" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["spread", "seed1", "--figure", "seeds.pdx"])
    with pytest.raises(SystemExit, match="2"):
        spread.main()
    monkeypatch.setattr("sys.argv", ["spread", "--task", "reviews"])
    with pytest.raises(SystemExit, match="metrics/reviews"):
        spread.main()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "runs.csv: .*No such file"),
        ("", "runs.csv: "),
        ("name,seed,val_accuracy,settings\ngru,1,0.5,{}\n", "no column val_mae"),
        ("name,seed,val_mae,settings\ngru,1,0.5,{\n", "runs.csv: "),
        ("name,seed,val_mae,settings\ngru,1,0.5,\n", "runs.csv: "),
    ],
)
def test_a_file_that_holds_no_runs_of_the_task_is_refused_by_name(tmp_path: Path, content, message):
    path = tmp_path / "runs.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=message):
        spread.gather_runs([str(path)], "forecast")


def test_a_run_without_a_score_leaves_it_out_of_the_mean():
    runs = pd.DataFrame(
        {
            "model": ["a", "a", "b"],
            "seed": [1, 2, 1],
            "val_mae": [0.2, 0.3, 0.4],
            "test_mae_degc": [1.0, None, None],
        }
    )
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in spread.format_spread(spread.rank_models(runs)).splitlines()
    ]
    assert [row[3] for row in rows[2:]] == ["1.000", ""]
