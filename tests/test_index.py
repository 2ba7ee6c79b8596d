"""The page of all reports; tests/test_page.py looks at it in a browser."""

import shutil
from pathlib import Path

import pytest

from stages.index import index, select_columns
from stages.lib.errors import UserError


def test_the_index_has_the_reports_that_are_there(reports: Path) -> None:
    index()
    text = Path("data/report/index.html").read_text()
    assert text.index('<section id="station">') < text.index('<section id="forecast">')
    assert '<section id="reviews">' not in text and 'href="#reviews"' not in text
    assert text.count("data:image/png;base64,") == 2 and text.count("<table>") == 2
    assert 'href="station/loss/gru.csv"' in text and "Forecasts &lt;of&gt; station" in text
    shutil.rmtree("data/report/forecast")
    index()
    assert '<section id="forecast">' not in Path("data/report/index.html").read_text()


@pytest.mark.parametrize(
    ("headings", "selected"),
    [
        (["model", "val MAE", "val MAE degC", "test MAE degC without sentinels", "parameters"], [0, 2, 4]),
        (["model", "val MAE 24h, %", "val skill", "test skill", "test skill, all leads", "width, %"], [0, 1, 3]),
        (["model", "val accuracy", "test accuracy", "val loss", "notebooks' val accuracy (epoch)"], [0, 1, 2]),
    ],
)
def test_the_page_has_a_few_columns_of_each_leaderboard(headings: list[str], selected: list[int]) -> None:
    def format_rows(indices: list[int]) -> str:
        rows = [headings, ["---"] * len(headings), [str(index) for index in range(len(headings))]]
        return "\n".join("|" + "|".join(row[index] for index in indices) + "|" for row in rows)

    text = "# Heading\n\n{}\n\nA line, |x|."
    everything = list(range(len(headings)))
    assert select_columns(text.format(format_rows(everything))) == text.format(format_rows(selected))


def test_without_a_report_there_is_no_index(root: Path) -> None:
    with pytest.raises(UserError, match="data/report: expected a report, found none"):
        index()


def test_a_report_without_its_leaderboard_is_refused(reports: Path) -> None:
    Path("metrics/station.md").unlink()
    with pytest.raises(UserError, match=r"metrics/station.md: not found; make it with `dvc repro report_station`"):
        index()
    assert not Path("data/report/index.html").exists()
