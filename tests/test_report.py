"""The report: its table and pictures on small made-up results."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.common import UserError
from stages.report import Result, daily, forecast_table, loss_limits, ranked, read_published, report, unit_of

PNG = b"\x89PNG\r\n\x1a\n"
SOURCES = Path(__file__).parents[1] / "stages" / "sources.csv"
SCORES = {"naive": 0.29, "mine": 0.31, "gru": 0.26}  # validation MAE; the sources have no `mine`
PICTURES = {"temperature.png", "first_ten_days.png", "losses.png", "forecast.png", "mae.png"}


def write_json(path: str, value: dict) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value))


def write_history(path: str, header: str, rows: list[str]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join([header, *rows]) + "\n")


def write_models(names: list[str], task: str) -> None:
    lines = [f"  {name}: {{task: {task}, inputs: hourly}}" for name in names]
    Path("params.yaml").write_text("\n".join(["dataset: {target: p (mbar)}", "models:", *lines, ""]))
    Path("stages").mkdir(exist_ok=True)
    Path("stages/sources.csv").write_bytes(SOURCES.read_bytes())


def forecast_project(names: list[str], synthetic: bool = False, rows: int = 3000) -> None:
    """Write what the forecast report reads, for `rows` rows, into the working directory."""
    write_models(names, "forecast")
    time = np.datetime64("2020-01-01T00:10", "ms") + np.arange(rows) * np.timedelta64(10, "m")
    pressure = 1000 + 10 * np.sin(np.arange(rows) / 300)
    source = {"source": "some.csv", "synthetic": synthetic, "files": []}
    write_json("data/quality.json", {"source": source, "rows": rows, "first": "FIRST", "last": "LAST"})
    record = pa.table({"Date Time": time, "rh (%)": pressure / 20, "p (mbar)": pressure})
    parquet.write_table(record, "data/record.parquet")
    for name in names:
        score, epochs = SCORES[name], 0 if name == "naive" else 3
        mae = {"val_mae": score, "val_mae_mbar": 8 * score, "test_mae": score, "test_mae_mbar": 9 * score}
        rest = {"val_skill": 1 - score / 0.29, "test_skill": 0.5, "epochs": epochs, "parameters": 12345}
        best = {"best_epoch": 2 if epochs else None}
        write_json(f"data/evaluations/forecast/{name}/metrics.json", mae | rest | best)
        table = pa.table({"time": time, "truth": pressure, "forecast": pressure + score})
        parquet.write_table(table, f"data/evaluations/forecast/{name}/forecast.parquet")
        curve = [f"{i + 1},{0.4 - i / 20},{score + 0.01 * (i - 1) ** 2},3,3" for i in range(epochs)]
        header = "epoch,loss,val_loss,loss_mbar,val_loss_mbar"
        write_history(f"data/models/forecast/{name}/history.csv", header, curve)


def reviews_project(scores: dict[str, float], synthetic: bool = False) -> None:
    """Write what the reviews report reads into the working directory."""
    write_models(list(scores), "reviews")
    write_json("data/raw/reviews/source.json", {"source": "imdb.npz", "synthetic": synthetic, "files": []})
    for name, score in scores.items():
        metrics = {"val_accuracy": score, "test_accuracy": score - 0.01, "val_loss": 0.4}
        rest = {"best_epoch": 1, "epochs": 1, "parameters": 7}
        write_json(f"data/evaluations/reviews/{name}/metrics.json", metrics | rest)
        header = "epoch,loss,accuracy,val_loss,val_accuracy"
        write_history(f"data/models/reviews/{name}/history.csv", header, [f"1,0.5,0.8,0.4,{score}"])


def cells(text: str) -> list[list[str]]:
    """Return the cells of a Markdown table's lines: the header, the rule and the rows."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def result(name: str, score: float | None, epochs: int = 0) -> Result:
    mae = {"val_mae": score, "val_mae_degc": score, "test_mae_degc": None, "val_skill": 0, "test_skill": None}
    metrics = mae | {"best_epoch": 1, "epochs": epochs, "parameters": 1}
    return Result(name, metrics, {"epoch": np.empty(0), "loss": np.empty(0), "val_loss": np.empty(0)})


@pytest.fixture(scope="module")
def forecast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three models, made once, in its project's root."""
    root = tmp_path_factory.mktemp("forecast")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        forecast_project(["naive", "mine", "gru"])
        report("forecast")
    return root


# --- The table -------------------------------------------------------------------------------------


def test_forecast_table_is_sorted_by_validation_mae_and_marks_the_best(forecast: Path) -> None:
    rows = cells((forecast / "data/report/forecast/table.md").read_text())[2:]
    assert [row[0] for row in rows] == ["**gru**", "naive", "mine"]
    assert rows[0] == [
        "**gru**",
        "**0.2600**",
        "2.080",
        "2.340",
        "0.103",
        "0.500",
        "2 / 3",
        "12,345",
        "0.2635 (5)",
    ]
    assert rows[1][-3:] == ["-", "12,345", "0.2897"]


def test_forecast_table_takes_its_unit_from_the_target_and_the_metrics(forecast: Path) -> None:
    header = cells((forecast / "data/report/forecast/table.md").read_text())[0]
    assert header[1:4] == ["val MAE", "val MAE mbar", "test MAE mbar"]


def test_model_without_published_number_has_an_empty_cell(forecast: Path) -> None:
    assert cells((forecast / "data/report/forecast/table.md").read_text())[-1][-1] == ""


def test_real_record_is_named_and_not_called_synthetic(forecast: Path) -> None:
    text = (forecast / "data/report/forecast/table.md").read_text()
    assert "`some.csv`, 3,000 rows, FIRST - LAST" in text
    assert "SYNTHETIC" not in text
    assert "Skill is 1 - MAE / naive MAE on the same windows" in text


def test_reviews_table_is_sorted_and_warns_of_synthetic_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    reviews_project({"imdb_conv1d": 0.81, "imdb_reversed_lstm": 0.88}, synthetic=True)
    report("reviews")
    text = Path("data/report/reviews/table.md").read_text()
    assert capsys.readouterr().out == text
    assert "**This is SYNTHETIC sample data" in text
    rows = cells(text)
    best = ["**imdb_reversed_lstm**", "**0.8800**", "0.8700", "0.4000", "1 / 1", "7", "0.8780 (6)"]
    assert rows[2] == best
    assert rows[3][0] == "imdb_conv1d"
    assert {path.name for path in Path("data/report/reviews").iterdir()} == {"table.md", "curves.png"}


@given(st.lists(st.one_of(st.none(), st.floats(allow_infinity=False)), min_size=1, max_size=8))
def test_rows_are_sorted_and_unknown_scores_come_last(scores: list[float | None]) -> None:
    known = [score for score in scores if score is not None and score == score]
    results = [result(str(i), score) for i, score in enumerate(scores)]
    for descending in (False, True):
        found = [r.metrics["val_mae"] for r in ranked(results, "val_mae", descending)]
        assert found[: len(known)] == sorted(known, reverse=descending)
        assert len(found) == len(scores)
    names = [row[0].strip("*") for row in cells(forecast_table(results, "T (degC)"))[2:]]
    assert names == [r.name for r in ranked(results, "val_mae")]


def test_published_numbers_are_those_of_the_sources() -> None:
    forecasts, reviews = read_published(SOURCES, "val_mae"), read_published(SOURCES, "val_accuracy")
    assert (len(forecasts), len(reviews)) == (9, 3)
    assert forecasts["stacked_gru"] == "0.2608 (18)"
    assert reviews["imdb_bidirectional_lstm"] == "0.8838 (5)"


@pytest.mark.parametrize(
    ("target", "unit"), [("T (degC)", "degC"), ("rho (g/m**3)", "g/m**3"), ("a (b) (c)", "c"), ("T", "")]
)
def test_unit_is_in_the_last_parentheses(target: str, unit: str) -> None:
    assert unit_of(target) == unit


# --- The pictures ----------------------------------------------------------------------------------


def test_pictures_are_png_of_modest_size(forecast: Path) -> None:
    pictures = list((forecast / "data/report/forecast").glob("*.png"))
    assert {path.name for path in pictures} == PICTURES
    for path in pictures:
        content = path.read_bytes()
        assert content.startswith(PNG)
        assert 5_000 < len(content) < 150_000, path.name


def test_second_run_writes_the_same_bytes(forecast: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(forecast)
    first = {path.name: path.read_bytes() for path in Path("data/report/forecast").iterdir()}
    # A user's own matplotlib settings must not change the pictures either.
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    report("forecast")
    assert {path.name: path.read_bytes() for path in Path("data/report/forecast").iterdir()} == first


def test_naive_alone_and_fewer_rows_than_the_pictures_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    forecast_project(["naive"], synthetic=True, rows=200)
    report("forecast")
    assert {path.name for path in Path("data/report/forecast").iterdir()} == {*PICTURES, "table.md"}
    assert "SYNTHETIC" in Path("data/report/forecast/table.md").read_text()


def test_days_without_rows_are_nan_and_order_does_not_matter() -> None:
    time = np.array(["2020-01-03T01", "2020-01-01T05", "2020-01-01T01", "2020-01-03T02"], "datetime64[h]")
    days, low, mean, high = daily(time, np.array([7.0, 1.0, 3.0, np.nan]))
    assert days.tolist() == np.arange("2020-01-01", "2020-01-04", dtype="datetime64[D]").tolist()
    np.testing.assert_equal(low, [1, np.nan, 7])
    np.testing.assert_equal(mean, [2, np.nan, 7])
    np.testing.assert_equal(high, [3, np.nan, 7])


def test_loss_axis_is_cut_only_where_a_curve_runs_off() -> None:
    def curves(*values: float) -> Result:
        losses = np.array(values)
        return Result("x", {}, {"epoch": np.arange(len(losses)), "loss": losses, "val_loss": losses})

    assert loss_limits([curves(0.4, 0.3)], naive=0.3) is None
    low, high = loss_limits([curves(9.0, 0.2), curves(0.4, np.nan)], naive=0.3)
    assert low < 0.2 and high == pytest.approx(0.6)
    # A model that never comes down stays in sight.
    assert loss_limits([curves(9.0, 2.0)], naive=0.3)[1] > 2.0
    assert loss_limits([], naive=0.3) is None


# --- Mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("data/evaluations/forecast/gru/metrics.json", "dvc repro evaluate@gru"),
        ("data/evaluations/forecast/gru/forecast.parquet", "dvc repro evaluate@gru"),
        ("data/models/forecast/gru/history.csv", "dvc repro train@gru"),
        ("data/record.parquet", "dvc repro parse"),
        ("data/quality.json", "dvc repro parse"),
        ("stages/sources.csv", "git checkout stages/sources.csv"),
    ],
)
def test_missing_file_is_named_with_its_command_and_nothing_is_left(
    path: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # The pictures before the missing file are beside the point here, and slow.
    monkeypatch.setattr("stages.report.save", lambda picture, *arguments: picture.write_bytes(PNG))
    forecast_project(["naive", "gru"], rows=200)
    Path(path).unlink()
    with pytest.raises(UserError) as error:
        report("forecast")
    assert path in str(error.value) and remedy in str(error.value)
    assert list(Path("data/report").glob("*")) == list(Path("data/report").glob(".*")) == []


def test_missing_review_source_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reviews_project({"imdb_conv1d": 0.81})
    Path("data/raw/reviews/source.json").unlink()
    with pytest.raises(UserError, match=r"data/raw/reviews/source.json.*dvc repro download@reviews"):
        report("reviews")


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("data/evaluations/forecast/gru/metrics.json", "{}", "no field `val_mae`.*evaluate@gru"),
        ("data/evaluations/forecast/gru/metrics.json", "{", "not valid JSON.*evaluate@gru"),
        ("data/models/forecast/gru/history.csv", "epoch,loss\n", "no column `val_loss`.*train@gru"),
        ("data/models/forecast/gru/history.csv", "epoch,loss,val_loss\n1,x,2\n", "line 2, loss: .*'x'"),
        ("stages/sources.csv", "model,best\n", "line 1: no column `best_epoch`"),
        (
            "stages/sources.csv",
            "model,best,best_epoch,last,metric\ngru,good,,,val_mae\n",
            "line 2, best: .*'good'",
        ),
        ("data/record.parquet", "text", "not a Parquet file.*dvc repro parse"),
        ("params.yaml", "dataset: {target: p (mbar)}\nmodels: {x: {task: reviews}}", "`task: forecast`"),
        ("params.yaml", "dataset: {target: p (mbar)}\nmodels:", "`task: forecast`"),
    ],
)
def test_damaged_file_is_a_users_error_not_a_traceback(
    path: str, content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    forecast_project(["naive", "gru"], rows=200)
    Path(path).write_text(content)
    with pytest.raises(UserError, match=message):
        report("forecast")
    assert not Path("data/report/forecast").exists()


def test_target_that_the_record_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    forecast_project(["naive"], rows=200)
    params = Path("params.yaml").read_text().replace("p (mbar)", "T (degC)")
    Path("params.yaml").write_text(params)
    with pytest.raises(UserError, match=r"no column `T \(degC\)`; it has Date Time, rh \(%\), p \(mbar\)"):
        report("forecast")


def test_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'weather'.*forecast or reviews"):
        report("weather")
