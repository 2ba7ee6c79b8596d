"""The synthetic samples: same bytes every time, the layouts of the real files, physics and defects."""

import zipfile
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.samples import reviews
from stages.samples import weather as station

HEADER = (
    '"Date Time","p (mbar)","T (degC)","Tpot (K)","Tdew (degC)","rh (%)","VPmax (mbar)","VPact (mbar)",'
    '"VPdef (mbar)","sh (g/kg)","H2OC (mmol/mol)","rho (g/m**3)","wv (m/s)","max. wv (m/s)","wd (deg)"'
)
Columns = dict[str, np.ndarray]
ROUNDED = 0.005 + 1e-9  # half of the last decimal
LAST_TRAINING_ROW, LAST_VALIDATION_ROW = 30_000, 45_000


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[ModuleType, Path]:
    """Return the directories of both samples."""
    directories = {sample: tmp_path_factory.mktemp("sample") for sample in (station, reviews)}
    for sample, directory in directories.items():
        sample.write_sample(directory)
    return directories


@pytest.fixture(scope="module")
def lines(samples: dict[ModuleType, Path]) -> list[str]:
    """Return the lines of the weather sample."""
    return (samples[station] / "sample.csv").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def weather(lines: list[str]) -> Columns:
    """Return the columns of the weather sample by name."""
    table = np.array([line.split(",")[1:] for line in lines[1:]], dtype=float)
    return dict(zip(station.COLUMNS, table.T, strict=True))


@pytest.fixture(scope="module")
def arrays(samples: dict[ModuleType, Path]) -> Columns:
    """Return the arrays of the review sample by name."""
    with np.load(samples[reviews] / "sample.npz", allow_pickle=True) as file:
        return dict(file)


@pytest.mark.parametrize("sample", [station, reviews])
def test_same_bytes_every_time_in_one_file(samples, sample: ModuleType, tmp_path: Path) -> None:
    sample.write_sample(tmp_path)
    (first,), (second,) = samples[sample].iterdir(), tmp_path.iterdir()
    assert first.read_bytes() == second.read_bytes() and first.name == second.name


# --- Weather -------------------------------------------------------------------------------------------


def test_layout_is_that_of_the_original(lines: list[str]) -> None:
    assert lines[0] == HEADER
    assert lines[1].startswith("01.01.2009 00:10:00,")
    assert 59_000 < len(lines) - 1 < 61_000
    for line in lines[1::997]:
        fields = line.split(",")
        assert len(fields) == 15 and all(len(field.partition(".")[2]) == 2 for field in fields[1:])


def test_header_is_the_one_of_the_stand_in() -> None:
    path = Path(__file__).parents[2] / "shared" / "data" / "jena_climate_2009_2016_rebuilt.csv.zip"
    if not path.exists():
        pytest.skip("the stand-in for the original record is not here")
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        assert file.readline().decode().rstrip() == HEADER


def test_clock_has_three_gaps_and_one_repeated_block(lines: list[str]) -> None:
    times = [datetime.strptime(line[:19], "%d.%m.%Y %H:%M:%S") for line in lines[1:]]
    steps = [(late - early) // timedelta(minutes=10) for early, late in pairwise(times)]
    odd = [step for step in steps if step != 1]
    assert sorted(odd) == [-19, 2, 3, 96]
    count = 20
    first = steps.index(-19) + 1
    assert lines[1 + first : 1 + first + count] == lines[1 + first - count : 1 + first]
    assert len(lines[1:]) - len(set(lines[1:])) == count


def test_sentinels_are_in_the_wind_of_the_test_rows_only(weather: Columns) -> None:
    failed = {name: np.flatnonzero(values == -9999) for name, values in weather.items()}
    counts = {name: len(rows) for name, rows in failed.items() if len(rows)}
    assert counts == {"wv (m/s)": 18, "max. wv (m/s)": 20}
    assert min(rows.min() for rows in failed.values() if len(rows)) > LAST_VALIDATION_ROW
    assert set(failed["wv (m/s)"]) < set(failed["max. wv (m/s)"])


def test_every_split_varies_in_every_column(weather: Columns) -> None:
    for name, values in weather.items():
        for part in np.split(values, [LAST_TRAINING_ROW, LAST_VALIDATION_ROW]):
            assert part.std() > 0.1, name


def test_values_are_plausible_for_the_place(weather: Columns) -> None:
    bounds = {"p (mbar)": (940, 1030), "T (degC)": (-25, 40), "rh (%)": (10, 100), "rho (g/m**3)": (1050, 1400)}
    for name, (low, high) in bounds.items():
        assert low <= weather[name].min() < weather[name].max() <= high, name
    assert 5 < weather["T (degC)"].mean() < 13
    assert 6 < weather["T (degC)"].std() < 11


def test_humidity_columns_agree(weather: Columns) -> None:
    most, actual, lacking = (weather[f"VP{part} (mbar)"] for part in ("max", "act", "def"))
    assert (actual <= most + 2 * ROUNDED).all()
    assert (lacking >= 0).all()
    assert np.abs(most - actual - lacking).max() <= 3 * ROUNDED
    assert np.abs(weather["rh (%)"] / 100 * most - actual).max() <= 3 * ROUNDED
    assert (weather["Tdew (degC)"] <= weather["T (degC)"] + ROUNDED).all()
    wet = weather["rh (%)"] == 100
    assert wet.any()
    assert np.abs(weather["Tdew (degC)"] - weather["T (degC)"])[wet].max() <= 2 * ROUNDED
    moles = 1000 * actual / weather["p (mbar)"]
    assert np.abs(moles - weather["H2OC (mmol/mol)"]).max() < 0.02
    assert (weather["sh (g/kg)"] < weather["H2OC (mmol/mol)"]).all()


def test_potential_temperature_and_density_follow_from_pressure(weather: Columns) -> None:
    kelvin = weather["T (degC)"] + 273.15
    above = weather["p (mbar)"] > 1000
    assert (weather["Tpot (K)"] <= kelvin + ROUNDED)[above].all()
    assert (weather["Tpot (K)"] >= kelvin - ROUNDED)[~above].all()
    dry = weather["p (mbar)"] * 100 / (287.05 * kelvin) * 1000
    assert (weather["rho (g/m**3)"] < dry).all()
    assert (weather["rho (g/m**3)"] > 0.97 * dry).all()


def test_wind_is_in_bounds(weather: Columns) -> None:
    working = weather["wv (m/s)"] != -9999
    assert (weather["wv (m/s)"][working] >= 0).all()
    gusts = working & (weather["max. wv (m/s)"] != -9999)
    assert (weather["max. wv (m/s)"] >= weather["wv (m/s)"])[gusts].all()
    assert ((weather["wd (deg)"] >= 0) & (weather["wd (deg)"] <= 360)).all()


def test_last_temperature_is_a_decent_forecast_that_pressure_improves(weather: Columns) -> None:
    t = weather["T (degC)"] / weather["T (degC)"][:LAST_TRAINING_ROW].std()
    p = weather["p (mbar)"]
    now = np.arange(LAST_TRAINING_ROW + 1441, LAST_VALIDATION_ROW - 144)
    change = t[now + 144] - t[now - 6]
    naive = np.abs(change).mean()
    assert 0.2 < naive < 0.4
    predictors = np.stack([p[now - 6], p[now - 150], np.ones(len(now))], axis=1)
    left = change - predictors @ np.linalg.lstsq(predictors, change, rcond=None)[0]
    assert np.abs(left).mean() < 0.9 * naive


KINDS = {
    "upwind": ['"Date Time"', '"p (mbar)"', '"T (degC)"', '"rh (%)"'],
    "forecast": ['"issued"', '"Date Time"', '"T (degC)"'],
}


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the contents of the samples of other records."""
    contents = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        station.write_sample(folder, kind)
        (path,) = folder.iterdir()
        contents[kind] = path.read_bytes()
    return contents


def split_columns(content: bytes) -> tuple[list[list[datetime]], np.ndarray]:
    """Return the columns of times of a sample, and its temperatures."""
    header, *lines = (row.split(",") for row in content.decode().splitlines())
    columns = dict(zip((name.strip('"') for name in header), zip(*lines, strict=True), strict=True))
    times = [columns[name] for name in ("issued", "Date Time") if name in columns]
    parsed = [[datetime.strptime(text, "%d.%m.%Y %H:%M:%S") for text in texts] for texts in times]
    return parsed, np.array(columns["T (degC)"], float)


@pytest.mark.parametrize("kind", KINDS)
def test_the_samples_of_other_records_are_the_same_bytes_every_time(others, kind: str, tmp_path: Path) -> None:
    station.write_sample(tmp_path, kind)
    assert [path.name for path in tmp_path.iterdir()] == ["sample.csv"]
    assert (tmp_path / "sample.csv").read_bytes() == others[kind]
    assert others[kind].decode().splitlines()[0].split(",") == KINDS[kind]


def test_the_upwind_station_has_tomorrows_front(others, lines: list[str], weather: Columns) -> None:
    """Once an hour, at ten to; its changes are those of the station a day later, and not those of today."""
    (hours,), temperatures = split_columns(others["upwind"])
    assert {time.minute for time in hours} == {50} and {b - a for a, b in pairwise(hours)} == {timedelta(hours=1)}
    at = {line[:19]: row for row, line in enumerate(lines[1:])}

    def correlate(days: int) -> float:
        """Return the correlation of both temperatures, less their means of a month, `days` later at the station."""
        later = [f"{time + timedelta(days=days, minutes=10):%d.%m.%Y %H:%M:%S}" for time in hours]
        pairs = [
            (T, weather["T (degC)"][at[text]]) for T, text in zip(temperatures, later, strict=True) if text in at
        ]
        upwind, here = (values - np.convolve(values, np.ones(720) / 720, "same") for values in np.array(pairs).T)
        return float(np.corrcoef(upwind[720:-720], here[720:-720])[0, 1])

    assert correlate(1) > correlate(0) + 0.1


def test_the_weather_model_is_biased_and_its_errors_grow(others, lines: list[str], weather: Columns) -> None:
    (issues, valid), temperatures = split_columns(others["forecast"])
    leads = np.array([(time - issued) / timedelta(hours=1) for issued, time in zip(issues, valid, strict=True)])
    assert sorted(set(leads)) == list(range(1, station.FORECAST_HOURS + 1))
    assert {issued.hour for issued in issues} == {1, 13}
    at = {line[:19]: row for row, line in enumerate(lines[1:])}
    rows = np.array([at.get(f"{time:%d.%m.%Y %H:%M:%S}", -1) for time in valid])
    hours = np.array([time.hour for time in valid])[rows >= 0]
    error, leads = (temperatures - weather["T (degC)"][rows])[rows >= 0], leads[rows >= 0]
    assert error.mean() == pytest.approx(-1.2, abs=0.1)
    assert error[hours == 14].mean() > error[hours == 2].mean() + 1
    spread = [error[leads == lead].std() for lead in (1, 24, 60)]
    assert spread[0] < spread[1] < spread[2]


@given(st.floats(-40, 50))
def test_dew_point_inverts_vapour_pressure(degc: float) -> None:
    assert station.dew_point(station.vapour_pressure(np.array(degc))) == pytest.approx(degc, abs=1e-9)


@pytest.mark.parametrize(("degc", "mbar"), [(0, 6.11), (10, 12.27), (20, 23.37), (30, 42.43)])
def test_vapour_pressure_is_that_of_the_tables(degc: float, mbar: float) -> None:
    assert station.vapour_pressure(np.array(degc)) == pytest.approx(mbar, rel=3e-3)


# --- Reviews -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["train", "test"])
def test_reviews_have_the_layout_of_keras(arrays: Columns, part: str) -> None:
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    assert x.shape == y.shape == (2000,) and (x.dtype, y.dtype) == (object, np.int64)
    assert np.bincount(y).tolist() == [1000, 1000]
    assert all(type(review) is list for review in x)
    assert {type(word) for review in x for word in review} == {int}
    sizes = [len(review) for review in x]
    assert 20 <= min(sizes) < 50 and 500 < max(sizes) <= 900
    assert min(map(min, x)) == 1 and 10_000 < max(map(max, x)) <= 20_000


def test_reviews_differ_between_train_and_test(arrays: Columns) -> None:
    assert set(arrays) == {"x_train", "y_train", "x_test", "y_test"}
    assert not {tuple(review) for review in arrays["x_train"]} & {tuple(review) for review in arrays["x_test"]}


def test_counting_words_tells_most_labels_but_not_all(arrays: Columns) -> None:
    counts = np.ones((2, reviews.WORDS + 1))
    for review, label in zip(arrays["x_train"], arrays["y_train"], strict=True):
        np.add.at(counts[label], review, 1)
    evidence = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    guesses = np.array([evidence[review].sum() > 0 for review in arrays["x_test"]])
    assert 0.8 < (guesses == arrays["y_test"]).mean() < 0.95
