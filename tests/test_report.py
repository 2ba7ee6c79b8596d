"""The report: its table, figures and curves on small made-up results."""

import json
import math
import re
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages.lib.errors import UserError
from stages.lib.nn.history import write_description, write_history
from stages.lib.reports import forecast, reviews, station
from stages.lib.reports.figures import draw_first_days, draw_forecast, draw_losses, draw_record
from stages.lib.reports.forecast import get_split_times
from stages.lib.settings.inputs import Window
from stages.report import read_results, report

ROOT = Path(__file__).parents[1]
SCORES = {"naive": 0.29, "mine": 0.31, "gru": 0.26}  # validation MAE; the notebooks have no `mine`
FIGURES = {"temperature.png", "first_ten_days.png", "losses.png", "forecast.png", "mae.png"}
SPLIT = {"record": "jena", "train": [0, 100], "val": [101, 150], "test": [160, None], "val_batch": 8}
WINDOW = {"lookback": 12, "step": 2, "delay": 3}
SENTINELS = 8  # rows after the first that is tested


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def write_models(task: str, metrics: dict[str, dict], histories: dict[str, list[list[dict]]]) -> None:
    """Write params.yaml, and what train and evaluate leave of the models."""
    models = {name: {"architecture": name, "task": task, "inputs": "tiny"} for name in metrics}
    records = {"jena": {"target": "p (mbar)", "sentinels": [-9999]}}
    params = {"records": records, "split": SPLIT, "inputs": {"tiny": WINDOW}, "models": models}
    write("params.yaml", json.dumps(params))
    for name in metrics:
        write(f"metrics/{task}/{name}.json", json.dumps(metrics[name]))
        directory = Path("data/models", task, name)
        directory.mkdir(parents=True, exist_ok=True)
        write_history(directory, histories[name], ["epoch", "loss", "val_loss"])
        write_description(directory, histories[name], {})


def write_forecasts(*names: str, rows: int = 3000, synthetic=False, test=2.0, sentinels=0) -> None:
    """Write what the forecast report reads, of a record with so many sentinels.

    `test` is the last model's test MAE in mbar.
    """
    metrics, histories = {}, {}
    for name in names:
        score, trained = SCORES[name], name != "naive"
        val = {"val_mae": score, "val_mae_mbar": 8 * score, "val_skill": 1 - score / 0.29}
        error = test if name == names[-1] else 2.0
        rest = {"test_mae_mbar": error, "test_skill": 1 - error / 2, "parameters": 12345}
        metrics[name] = val | rest | {"best_epoch": 2 * trained, "epochs": 3 * trained}
        losses = [(1, 0.4, 0.3), (2, 0.35, 0.26), (3, 0.3, 0.27)] * trained
        histories[name] = [[{"epoch": n, "loss": x, "val_loss": y, "val_loss_mbar": 8 * y} for n, x, y in losses]]
    write_models("forecast", metrics, histories)
    time = pd.date_range("2020-01-01 00:10", periods=rows, freq="10min", unit="ms")
    pressure = 1000 + 10 * np.sin(np.arange(rows) / 300)
    columns = {"rh (%)": {"sentinels": sentinels}, "p (mbar)": {"sentinels": 0}}
    quality = {"source": {"source": "some.csv", "synthetic": synthetic}, "rows": rows, "columns": columns}
    write("data/records/jena/quality.json", json.dumps(quality | {"first": "2020-01-01T00:10:00", "last": "END"}))
    humidity = np.full(rows, 50.0)
    first = SPLIT["test"][0] + WINDOW["lookback"] + SENTINELS
    humidity[first : first + sentinels] = -9999
    pd.DataFrame({"Date Time": time, "rh (%)": humidity, "p (mbar)": pressure}).to_parquet(
        "data/records/jena/record.parquet"
    )
    tested = slice(SPLIT["test"][0] + WINDOW["lookback"] + WINDOW["delay"], -1)  # the rows of the targets
    time, pressure = time[tested], pressure[tested]
    for name in names:
        table = pd.DataFrame({"time": time, "truth": pressure, "forecast": pressure + SCORES[name]})
        Path(f"data/evaluations/forecast/{name}").mkdir(parents=True, exist_ok=True)
        table.to_parquet(f"data/evaluations/forecast/{name}/forecast.parquet")


def read_files(directory: Path) -> dict[str, bytes]:
    """The bytes of every file under `directory`, by path from there."""
    result = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in result}


def split_cells(text: str) -> list[list[str]]:
    """Return the cells of a Markdown table's lines: the header, the rule and the rows."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three models, made once, in its project's root."""
    root = tmp_path_factory.mktemp("forecast")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_forecasts("naive", "mine", "gru")
        report("forecast")
    return root


def test_forecast_table_is_sorted_next_to_the_notebooks_with_the_best_in_bold(made: Path) -> None:
    text = (made / "metrics/forecast.md").read_text()
    header, _, first, second, third = split_cells(text)
    assert header[1:4] == ["val MAE", "val MAE mbar", "test MAE mbar"]
    assert header[-1] == "notebooks' val MAE (epoch)"
    assert first[:6] == ["**gru**", "**0.2600**", "2.080", "2.000", "0.103", "0.000"]
    assert first[6:] == ["2 / 3", "12,345", "0.2635 (5)"]
    assert (second[0], second[-3:]) == ("naive", ["-", "12,345", "0.2897"])
    assert (third[0], third[-1]) == ("mine", "")
    assert "`some.csv`: 3,000 rows from 2020-01-01 00:10:00 to END" in text
    assert "synthetic" not in text and "sentinels" not in text


def test_bytes_of_figures_and_curves_depend_on_the_results_alone(made: Path, monkeypatch) -> None:
    monkeypatch.chdir(made)
    first = read_files(made / "data/report/forecast")
    assert set(first) == {*FIGURES, "loss/gru.csv", "loss/mine.csv"}  # the naive model has no curves
    assert first["loss/gru.csv"] == b"epoch,loss,val_loss\n1,0.4,0.3\n2,0.35,0.26\n3,0.3,0.27\n"
    for name in FIGURES:
        assert first[name].startswith(b"\x89PNG\r\n\x1a\n")
        assert 5_000 < len(first[name]) < 150_000, name
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")  # a user's own setting
    report("forecast")
    assert read_files(made / "data/report/forecast") == first


def test_dvc_plots_every_figure_and_both_curves_of_every_model(made: Path, monkeypatch) -> None:
    monkeypatch.chdir(made)
    graph = YAML(typ="safe").load(ROOT / "dvc.yaml")
    YAML().dump({"plots": [entry for entry in graph["plots"] if "forecast" in str(entry)]}, made / "dvc.yaml")
    Repo.init(no_scm=True, force=True)
    result, drawn = Repo().plots.show()["workspace"], made / "data/report/forecast"
    plots = result["definitions"]["data"]["dvc.yaml"]["data"]
    assert {Path(path).relative_to("data/report/forecast").as_posix() for path in plots} == {*read_files(drawn)}
    for path, plot in plots.items():
        assert plot.get("y") == (["loss", "val_loss"] if path.endswith(".csv") else None)
        assert "error" not in result["sources"]["data"][path]


def test_artifacts_are_models_that_the_graph_makes() -> None:
    repo = Repo(ROOT)
    made = {out.def_path for stage in repo.index.stages for out in stage.outs}
    ((_, artifacts),) = repo.artifacts.read().items()
    assert {str(Path(artifact.path).parent) for artifact in artifacts.values()} <= made
    assert all(f"data/models/{task}/" in artifact.path for task, artifact in artifacts.items())


def test_reviews_table_is_printed_sorted_and_warns_of_synthetic_data(root: Path, capsys) -> None:
    scores = {"imdb_conv1d": math.nan, "mine": 0.81, "imdb_reversed_lstm": 0.88}
    rest = {"val_loss": 0.4, "best_epoch": 1, "epochs": 1, "parameters": 7}
    metrics = {name: {"val_accuracy": score, "test_accuracy": 0.8} | rest for name, score in scores.items()}
    epoch = {"epoch": 1, "loss": 0.5, "accuracy": 0.8, "val_loss": 0.4, "val_accuracy": 0.8}
    other = epoch | {"accuracy": 0.6, "val_accuracy": 0.5}
    write_models("reviews", metrics, {name: [[epoch]] for name in scores} | {"mine": [[epoch], [other]]})
    with pytest.raises(UserError, match=r"data/raw/reviews/source.json.*dvc repro download_reviews"):
        report("reviews")
    write("data/raw/reviews/source.json", json.dumps({"source": "imdb.npz", "synthetic": True}))
    report("reviews")
    text = Path("metrics/reviews.md").read_text()
    assert capsys.readouterr().out == text
    assert "**The sample is synthetic" in text
    best, *rest = split_cells(text)[2:]
    assert best == ["**imdb_reversed_lstm**", "**0.8800**", "0.8000", "0.4000", "1 / 1", "7", "0.8780 (6)"]
    assert [row[0] for row in rest] == ["mine", "imdb_conv1d"]
    curves = {f"{metric}/{name}.csv" for metric in ("loss", "accuracy") for name in scores}
    written = read_files(Path("data/report/reviews"))
    assert set(written) == {"curves.png", *curves}
    assert written["accuracy/imdb_conv1d.csv"] == b"epoch,accuracy,val_accuracy\n1,0.8,0.8\n"
    assert written["accuracy/mine.csv"] == b"epoch,accuracy,val_accuracy\n1,0.7,0.65\n"  # the mean of its members


@pytest.mark.parametrize(("columns", "panels"), [(["accuracy", "loss"], 4), (["loss"], 2), ([], 0)])
def test_review_curves_are_of_what_was_trained_and_measured(root: Path, columns: list[str], panels: int) -> None:
    """Another metric than accuracy, and no training at all."""
    scores = {"val_accuracy": 0.8, "test_accuracy": 0.8, "val_loss": 0.4, "best_epoch": 1, "epochs": 1}
    row = {"epoch": 1} | {f"{part}{name}": 0.5 for name in columns for part in ("", "val_")}
    epochs = [row] if columns else []
    write_models("reviews", {name: scores | {"parameters": 7} for name in "ab"}, {name: [epochs] for name in "ab"})
    write("data/raw/reviews/source.json", json.dumps({"source": "imdb.npz", "synthetic": False}))
    _, figures = reviews.build_report(*read_results("reviews"))
    assert sum(len(figure.axes) for figure in figures.values()) == panels


def test_a_report_that_fails_leaves_all_of_the_last_one(root: Path, monkeypatch) -> None:
    write_forecasts("naive", "gru", sentinels=3)
    report("forecast")
    write_forecasts("naive", "gru", sentinels=3, test=3.0)
    before, made = read_files(root), forecast.build_report

    def torn(*results):
        texts, figures = made(*results)
        return texts | {"last.json": None}, figures  # the last of all files cannot be written

    monkeypatch.setattr(forecast, "build_report", torn)
    with pytest.raises(TypeError):
        report("forecast")
    assert read_files(root) == before


PERIODS = {"train": "2010-01-01", "val": "2014-01-01", "test": "2016-01-01", "end": None}
OWN = {"record": "jena", "target": "T (degC)", "source": {"source": "some.csv", "synthetic": False}}
OWN |= {"clock": {"neighbours": [], "ahead": []}, "every_hours": 8, "lead_hours": [8, 16, 24], "reach": []}
OWN |= {"windows": {"train": 9000, "val": 800, "test": 1440}}
OWN |= {"windows_lacking_values": {"train": 0, "val": 0, "test": 0}}


def write_station(scores: dict[str, float], **descriptions: dict) -> None:
    """Write what the station's report reads of models with these validation MAE, which they have in the test too.

    `descriptions` has the changes to their model.json, and the `inputs` of their lines in params.yaml.
    """
    metrics, origins = {}, pd.date_range("2016-01-01", periods=1440, freq="h")
    every = pd.DataFrame({"origin": origins.repeat(3), "lead": np.tile([8.0, 16.0, 24.0], 1440), "truth": 10.0})
    every.loc[2, "truth"] = np.nan  # 24 hours after the first origin
    for number, (name, mae) in enumerate(scores.items()):
        metrics[name] = {f"{part}_{key}_24h": 0.5 for part in ("val", "test") for key in ("skill", "mae_degc")}
        metrics[name] |= {"val_mae_degc_24h": mae, "test_skill": 0.4, "parameters": 7}
        metrics[name] |= {"test_coverage_24h": 0.8, "test_width_degc_24h": 3.0}
        error = np.random.default_rng(number).normal(mae, 0.2, len(every))
        table = every.assign(**{"q0.1": 10 + error - 2, "q0.5": 10 + error, "q0.9": 10 + error + 2})
        folder = Path("data/evaluations/station", name)
        folder.mkdir(parents=True)
        table.to_parquet(folder / "forecast.parquet")
        leads = pd.DataFrame({"lead": [8.0, 16.0, 24.0], "skill": 0.1, "n": [1440, 1440, 1439]})
        leads.to_parquet(folder / "by_lead.parquet")
        pd.DataFrame({"month": [1, 2], "mae": 1.0}).to_parquet(folder / "by_month.parquet")
        pd.DataFrame({"hour": range(24), "mae": 1.0}).to_parquet(folder / "by_hour.parquet")
        importance = pd.DataFrame({"record": ["kassel"], "mae": mae, "mae_swapped": mae + 0.25})
        importance.to_parquet(folder / "importance.parquet")
    write_models("station", metrics, {name: [[]] for name in scores})
    params = json.loads(Path("params.yaml").read_text())
    for name in scores:
        description = OWN | descriptions.get(name, {})
        params["models"][name]["inputs"] = description.pop("inputs", "station")
        path = Path("data/models/station", name, "model.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | description))
    write("params.yaml", json.dumps(params | {"periods": PERIODS}))


@pytest.mark.parametrize("best", ["station_mlp", "ridge"])
def test_the_stations_table_begins_with_the_best_on_validation_and_tells_it_from_the_references(root, best) -> None:
    scores = {"persistence": 3.0, "ridge": 2.0, "station_mlp": 1.5} | {best: 1.0}
    write_station(scores)
    texts, figures = station.build_report(*read_results("station"))
    text = texts["station.md"]
    order = sorted(scores, key=scores.__getitem__)
    header, _, *rows = split_cells(text)
    assert [row[0] for row in rows] == [f"**{order[0]}**", *order[1:]] and "inputs" not in header
    assert rows[0][1] == "**1.000**"
    skill = [float(row[header.index("vs ridge")]) for row in rows]
    assert skill == pytest.approx([1 - scores[name] / scores["ridge"] for name in order], abs=0.05)
    assert "1,440 test windows, 1,439 with a truth at 24 hours" in text
    references = [name for name in ("ridge", "persistence") if name != best]
    said = re.findall(r"At 24 hours `(\w+)` beats (\w+): its MAE is (\S+) degC lower", text)
    assert [names for *names, _ in said] == [[best, name] for name in references]
    lower = [scores[name] - 1 for name in references]
    assert [float(number) for *_, number in said] == pytest.approx(lower, abs=0.03)
    assert set(figures) == {"skill", "when", "reliability", "fortnight"}
    assert "What other records bring" not in text


def test_the_station_report_says_what_other_records_bring(root) -> None:
    region = {"inputs": "region", "clock": {"neighbours": ["kassel"], "ahead": ["icon", ["gfs", "gfs2"]]}}
    region |= {"reach": [1.0, 0.5, 0.0], "windows_lacking_values": {"train": 0, "val": 5, "test": 0}}
    write_station(
        {"persistence": 3.0, "ridge": 2.0, "region_mlp": 1.0, "region_gru": 1.5},
        region_mlp=region,
        region_gru=region,
    )
    texts, _ = station.build_report(*read_results("station"))
    leaderboard, section = texts["station.md"].split("## What other records bring")
    header, _, *rows = split_cells(leaderboard)
    assert header[:2] == ["model", "inputs"]
    assert [row[:2] for row in rows] == [
        *(["**region_mlp**", "region"], ["region_gru", "region"], ["ridge", "station"], ["persistence", "station"])
    ]
    cells = split_cells(section)
    sets = [row for row in cells if len(row) == 7]
    assert sets[2] == ["region", "jena", "kassel", "icon, gfs, gfs2", "9,000", "800 (5 lack values)", "1,440"]
    assert sets[3] == ["station", "jena", "-", "-", "9,000", "800", "1,440"]
    assert "No weather model of `region` reaches the lead 24 h;" in section
    (gain,) = [row for row in cells if row[:2] == ["region", "region_mlp"] and len(row) == 3]
    assert float(gain[2].split()[0]) == pytest.approx(1.0, abs=0.05)
    assert "At 24 hours `region_mlp` beats `ridge`: its MAE is " in section
    assert ["region", "region_mlp", "kassel", "1.000", "1.250", "0.250"] in cells


def test_several_stations_have_a_part_of_the_report_each(root) -> None:
    kassel = {"record": "kassel", "inputs": "kassel", "source": {"source": "other.csv", "synthetic": False}}
    write_station({"persistence": 3.0, "ridge": 2.0, "kassel_ridge": 1.0}, kassel_ridge=kassel)
    texts, figures = station.build_report(*read_results("station"))
    parts = texts["station.md"].split("# Forecasts of T (degC) by the clock\n")
    assert [("some.csv" in part, "other.csv" in part) for part in parts] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    assert [row[0] for row in split_cells(parts[2])[2:]] == ["**kassel_ridge**"]
    assert {name.removeprefix("skill_") for name in figures if "skill" in name} == {"jena", "kassel"}


def test_naive_alone_on_fewer_synthetic_rows_than_the_figures_show(root: Path) -> None:
    write_forecasts("naive", synthetic=True, rows=200)
    texts, figures = forecast.build_report(*read_results("forecast"))
    text = texts["forecast.md"]
    assert "synthetic" in text and split_cells(text)[2][0] == "**naive**"
    assert {f"{name}.png" for name in figures} == FIGURES
    assert all("(synthetic)" in figure.get_suptitle() for figure in figures.values())


@pytest.mark.parametrize(("test", "sentinels"), [(40.0, 3), (40.0, 0), (2.0, 3)])
def test_mae_far_off_is_broken_bears_its_value_and_is_put_down_to_sentinels(root: Path, test, sentinels) -> None:
    write_forecasts("naive", "gru", rows=200, test=test, sentinels=sentinels)
    texts, figures = forecast.build_report(*read_results("forecast"))
    text = texts["forecast.md"]
    assert ("sentinels (3 in `rh (%)`)" in text) == ("test MAE mbar without sentinels" in text) == (sentinels > 0)
    (axes,) = figures["mae"].axes
    assert ("broken at 7.0 mbar" in figures["mae"].get_suptitle()) == (test > 10)
    assert axes.get_xlim()[1] == (pytest.approx(3 * 8 * 0.29) if test > 10 else pytest.approx(1.05 * 8 * 0.29))
    assert len(axes.lines) == 2 * (test > 10)  # the two strokes of a break
    assert all(line.get_ydata().mean() == pytest.approx(0.2) for line in axes.lines)
    assert [label.get_text() for label in axes.texts] == ["2.08", "2.32", f"{test:.2f}", "2.00"]


@pytest.mark.parametrize("target", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_windows_with_a_sentinel_are_those_of_the_generator(root: Path, step: int, target: bool) -> None:
    random = np.random.default_rng(step)
    record = {"Date Time": np.arange(120), **{name: random.normal(size=120) for name in ("p (mbar)", "T (degC)")}}
    record["T (degC)" if target else "p (mbar)"][random.integers(0, 120, 4)] = -9999
    records = {"jena": {"target": "T (degC)", "sentinels": [-9999, -999]}}
    write("params.yaml", json.dumps({"records": records, "split": {"record": "jena"}}))
    rows = np.arange(12, 115)
    result = forecast.find_windows_with_sentinels(record, rows, Window(lookback=12, step=step, delay=5))
    data = np.column_stack([record["p (mbar)"], record["T (degC)"]])
    expected = [-9999 in data[r - 12 : r : step] or data[r + 5, 1] == -9999 for r in rows]
    assert result.tolist() == expected and 0 < result.sum() < len(rows)


def test_mae_without_sentinels_is_that_of_the_other_windows(root: Path) -> None:
    write_forecasts("naive", "gru", rows=300, sentinels=2)
    path = Path("data/evaluations/forecast/gru/forecast.parquet")
    table = pd.read_parquet(path)
    first = SENTINELS + WINDOW["step"]  # of the windows that end with one of the two
    hit = table.index.isin(range(first, first + WINDOW["lookback"]))
    table["forecast"] = table["truth"] + np.where(hit, 700.0, 0.5)
    table.to_parquet(path)
    report("forecast")
    scores = json.loads(Path("metrics/forecast_without_sentinels.json").read_text())
    error, left_out = pytest.approx(0.5), WINDOW["lookback"]
    without = {"test_mae_mbar_without_sentinels": error, "windows_left_out": left_out}
    assert scores["gru"] == {"test_mae_mbar": 2.0} | without
    assert scores["naive"]["test_mae_mbar_without_sentinels"] == pytest.approx(SCORES["naive"])
    header, _, first, _ = split_cells(Path("metrics/forecast.md").read_text())
    assert (header[4], first[4]) == ("test MAE mbar without sentinels", "0.500")
    table[:-1].to_parquet(path)
    message = r"forecast/gru: expected 124 test windows, found 123; run ./run evaluate gru"
    with pytest.raises(UserError, match=message):
        report("forecast")


def test_daily_range_takes_rows_in_any_order_and_leaves_days_without_rows_blank() -> None:
    time = pd.to_datetime(["2020-01-03 01:00", "2020-01-01 05:00", *["2020-01-01 01:00"] * 2, "2020-01-03 02:00"])
    (axes,) = draw_record(pd.Series([7.0, 1.0, 3.0, 5.0, np.nan], time), {}, "T").axes
    days, mean = axes.lines[0].get_data()
    assert list(days) == list(pd.date_range("2020-01-01", periods=3).to_numpy())
    np.testing.assert_equal(np.asarray(mean), [3, np.nan, 7])
    span = axes.collections[0].get_datalim(axes.transData)
    assert (span.y0, span.y1) == (1, 7)


@pytest.mark.parametrize("test", [[160, None], [160, 999], [160, 200]])
def test_splits_have_their_borders_in_the_whole_record(root: Path, test: list) -> None:
    times = pd.date_range("2020-01-01", periods=200, freq="h")
    write("params.yaml", json.dumps({"split": SPLIT | {"test": test}}))
    splits = get_split_times(times)
    rows = {"train": [0, 99], "val": [101, 149], "test": [160, 199]}
    assert splits == {name: tuple(times[borders]) for name, borders in rows.items()}
    (axes,) = draw_record(pd.Series(1.0, times), splits, "T").axes
    assert [text.get_text() for text in axes.texts] == ["train", "val", "test"]
    write("params.yaml", json.dumps({"split": SPLIT | {"test": [200, None]}}))
    assert list(get_split_times(times)) == ["train", "val"]


# Losses of `far` and `near` in two epochs, the top of near's axis where it is cut, and whether far has its own.
CURVES = [
    ([0.4, 0.3], [0.5, 0.3], None, False),
    ([9.0, 0.2], [0.4, math.nan], 2.1 * 0.3, False),
    ([9.0, 2.0], [0.4, 0.3], None, True),
    ([9.0, 2.0], [0.7, 0.3], 2.1 * 0.25, True),
]


@pytest.mark.parametrize(("far", "near", "top", "own"), CURVES)
def test_no_curve_far_off_flattens_the_others(far: list, near: list, top: float | None, own: bool) -> None:
    columns, losses = ("loss", "val_loss", "val_loss_degc"), {"far": far, "near": near}
    histories = {name: pd.DataFrame({"epoch": [1, 2]} | dict.fromkeys(columns, x)) for name, x in losses.items()}
    scores = {"val_mae": [0.24, 0.3], "val_skill": [0.2, -0.2], "best_epoch": [2, 2]}
    metrics = pd.DataFrame(scores, index=[*losses])
    figure = draw_losses(metrics, histories)
    assert ("cut off" in figure.get_suptitle()) == (top is not None)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == (["near", "far (separate scale)"] if own else ["far", "near"])
    for title, axes in panels.items():
        naive = {"far": 0.3, "near": 0.25}[title.split()[0]]  # each on its own windows
        assert axes.lines[-1].get_ydata() == pytest.approx([naive, naive])
    low, high = panels["near"].get_ylim()
    assert low < np.nanmin(near) and (high == pytest.approx(top) if top else 0.4 < high < 0.6)
    assert (list(panels.values())[-1].get_ylim() != figure.axes[0].get_ylim()) == own
    if own:
        assert panels["far (separate scale)"].get_ylim()[1] > 9


def test_a_model_far_off_alone_has_its_own_scale() -> None:
    history = pd.DataFrame({"epoch": [1], "loss": [2.0], "val_loss": [2.0], "val_loss_degc": [16.0]})
    metrics = pd.DataFrame({"val_mae": [2.0], "val_skill": [-9.0], "best_epoch": [1]}, index=["bad"])
    figure = draw_losses(metrics, {"bad": history})
    assert figure.axes[0].get_title() == "bad (separate scale)" and figure.axes[0].get_ylim()[1] > 2


def test_naive_forecast_is_matched_by_time() -> None:
    time = pd.date_range("2020-01-01", periods=100, freq="10min")
    naive = pd.DataFrame({"time": time, "truth": 0.0, "forecast": np.arange(100.0)})
    figure = draw_forecast({"naive": naive, "gru": naive[40:60]}, "T")
    truth, naive_line, gru = figure.axes[0].lines
    assert list(naive_line.get_ydata()) == list(gru.get_ydata()) == list(range(40, 60))
    assert len(truth.get_xdata()) == 20


READ = {
    "metrics/forecast/gru.json": "evaluate@gru",
    "data/evaluations/forecast/gru/forecast.parquet": "evaluate@gru",
    "data/models/forecast/gru/history.csv": "train@gru",
    "data/models/forecast/gru/model.json": "train@gru",
    "data/records/jena/record.parquet": "parse@jena",
    "data/records/jena/quality.json": "parse@jena",
}


def test_missing_file_is_named_with_its_command_and_nothing_is_left(root: Path) -> None:
    write_forecasts("naive", "gru", rows=200)
    for path, stage in READ.items():
        content = Path(path).read_bytes()
        Path(path).unlink()
        with pytest.raises(UserError, match=f"{path}: not found; make it with `dvc repro {stage}`"):
            report("forecast")
        assert not Path("data/report").exists() and not Path("metrics/forecast.md").exists()
        Path(path).write_bytes(content)


@pytest.mark.parametrize(("path", "stage"), READ.items())
@settings(max_examples=20)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_named_on_one_line(made: Path, path: str, stage: str, share: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        content = Path(path).read_bytes()
        # JSON without its last line feed is whole; a history is not.
        end = len(content.rstrip(b"\n")) if path.endswith(".json") else len(content)
        Path(path).write_bytes(content[: int(share * end)])
        try:
            with pytest.raises(UserError) as caught:
                forecast.build_report(*read_results("forecast"))
        finally:
            Path(path).write_bytes(content)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).endswith(f"`dvc repro -f {stage}`")
    assert "\n" not in str(caught.value)


def test_unknown_task_and_a_task_without_models_are_named(root: Path) -> None:
    write_forecasts("naive", rows=200)
    with pytest.raises(UserError, match=r"params.yaml.*`task: reviews`"):
        report("reviews")
    with pytest.raises(UserError, match=r"'weather'.*forecast or reviews"):
        report("weather")


@pytest.mark.parametrize(("frequency", "rows"), [("10min", 144), ("1h", 24)])
def test_figures_show_days_whatever_the_rows(frequency: str, rows: int) -> None:
    time = pd.date_range("2020-01-01", periods=20 * rows, freq=frequency)
    (axes,) = draw_first_days(pd.Series(0.0, time), "T").axes
    assert len(axes.lines[0].get_xdata()) == 10 * rows
    frame = pd.DataFrame({"time": time, "truth": 0.0, "forecast": 0.0})
    (axes,) = draw_forecast({"gru": frame}, "T").axes
    assert len(axes.lines[0].get_xdata()) == 14 * rows
