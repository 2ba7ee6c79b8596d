"""The pages as a browser shows them: Debian's chromium, driven by selenium; skipped where either is missing."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from stages.index import index
from stages.lib.reports.page import INK, VARIABLES, format_html_table, format_page, format_svg
from stages.lib.reports.prediction_page import format_prediction_page

LEADS = range(1, 49)
WIDTHS = {"desk": 1200, "phone": 360}


def make_result() -> dict[str, Any]:
    """What forecast.json may hold."""
    valid = pd.date_range("2009-03-04 13:00", periods=len(LEADS), freq="h")
    rows = [
        {"valid": time.isoformat(), "lead_hours": lead, "median": 5 * np.sin(lead / 4), "low": -6.0, "high": 7.5}
        | {"weather_model": None if lead > 40 else 3.5}
        for time, lead in zip(valid, LEADS, strict=True)
    ]
    day = {"date": "2009-03-05", "first": "", "last": "", "whole": True, "minimum": rows[20], "maximum": rows[30]}
    return {
        "target": "T (degC)",
        "unit": "degC",
        "origin": "2009-03-04T12:00:00",
        "file": "a <long> file name of " + "some_station" * 6 + ".csv",
        "warnings": ["it ends long ago"],
        "model": "station_gru",
        "choice": "the best on validation that can answer: mos needs <icon>",
        "others": [
            {
                "record": "kassel",
                "kind": "measurements",
                "known": "2009-03-04T11:00:00",
                "hours_before_origin": 1.0,
            },
            {"record": "ulm", "kind": "measurements", "known": None, "hours_before_origin": None},
            {"record": "icon", "kind": "forecasts", "known": "2009-03-04T12:00:00", "hours_before_origin": 0.0},
        ],
        "training": ["2009-01-01T00:00:00", "2009-02-01T00:00:00"],
        "days": [day] * 3,
        "recalibration": ["2008-12-03T00:00:00", "2009-03-02T00:00:00"],
        "forecast": rows,
    }


def make_scores() -> pd.DataFrame:
    lead = np.array(LEADS, float)
    scores = {"lead": lead, "mae": lead**0.3, "bias": -0.001, "coverage": 0.79, "skill": 0.3, "n": 19_575}
    return pd.DataFrame(scores)


def format_forecast() -> str:
    times = pd.date_range("2009-02-27", "2009-03-05", freq="h")
    measured = pd.Series(8 + 4 * np.sin(np.arange(len(times)) / 4), times)
    measured.iloc[30:40] = np.nan
    return format_prediction_page(make_result(), measured, make_scores())


# --- The text ----------------------------------------------------------------------------------------


def test_a_page_is_the_same_every_time_and_needs_nothing_else() -> None:
    text = format_forecast()
    assert text == format_forecast()
    foreign = ("<script", "http-equiv", "@import", "<metadata", "DejaVu", "matplotlib v")
    assert not any(word in text for word in foreign)
    links = text.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
    assert "//" not in links.replace('href="data:,"', "")
    assert "a &lt;long&gt; file name" in text and "mos needs &lt;icon&gt;" in text
    others = (
        "kassel: until 2009-03-04 11:00, 1 h before the origin. ulm: nothing by the origin. icon: issued 2009-03-04"
    )
    assert f"{others} 12:00, the origin. Times" in text
    assert "The interval has the errors of the forecasts from Wed 03 Dec 00:00 to Mon 02 Mar 00:00." in text
    assert "dashed, the weather model" in text and '<th scope="col">weather model</th>' in text


def test_a_page_without_a_weather_model_does_not_speak_of_one() -> None:
    result = make_result() | {"others": [], "recalibration": None}
    for row in result["forecast"]:
        del row["weather_model"]
    text = format_prediction_page(
        result, pd.Series(8.0, pd.date_range("2009-03-02", periods=60, freq="h")), make_scores()
    )
    assert "weather model" not in text and "has the errors" not in text


def test_figures_take_the_colours_of_the_page() -> None:
    figure = Figure()
    axes = figure.subplots()
    for colour in VARIABLES:
        axes.plot([0, 1], color=colour)
    drawn = format_svg(figure, "one", 'a "figure"')
    assert not any(colour in drawn for colour in VARIABLES)
    assert all(f"stroke: var(--{name})" in drawn for name in VARIABLES.values())
    assert 'aria-label="a &quot;figure&quot;"' in drawn
    other = format_svg(figure, "other", "")
    names = [set(part.split('"')[0] for part in text.split(' id="')[1:]) for text in (drawn, other)]
    assert names[0] and not names[0] & names[1]  # two figures of one page share no id


# --- In a browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    places = [shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")]
    if not all(places):
        pytest.skip("no chromium or google-chrome, or no chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = places[0]
    for switch in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(places[1]))
    yield driver
    driver.quit()


def show(browser: Any, path: Path, width: int, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.resolve().as_uri())


def compute_luminance(colour: str) -> float:
    """The relative luminance of `rgb(r, g, b)` (WCAG 2.1)."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


SEEN = """
const style = (e, name) => getComputedStyle(e)[name];
const shown = [...document.querySelectorAll('svg')].filter(e => e.getBoundingClientRect().width > 0);
const texts = shown.flatMap(e => [...e.querySelectorAll('text')]);
const scale = e => e.ownerSVGElement.getBoundingClientRect().width / e.ownerSVGElement.viewBox.baseVal.width;
return {
  width: document.scrollingElement.scrollWidth, window: innerWidth, figures: shown.length,
  paper: style(document.body, 'backgroundColor'),
  inks: [...new Set([...document.querySelectorAll('p, h1, h2, td, th, summary')].map(e => style(e, 'color')))],
  fills: [...new Set(texts.map(e => style(e, 'fill')))],
  sizes: texts.map(e => parseFloat(style(e, 'fontSize')) * scale(e)),
  inside: texts.every(e => { const a = e.getBoundingClientRect(), b = e.ownerSVGElement.getBoundingClientRect();
    return a.left > b.left - 2 && a.right < b.right + 2 }),
  broken: [...document.images].filter(e => !e.naturalWidth).length,
};
"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["forecast", "index"])
def test_a_page_can_be_read(browser: Any, reports: Path, kind: str, width: str, scheme: str) -> None:
    path = Path("data/report/index.html")
    if kind == "forecast":
        path = Path("forecast.html")
        path.write_text(format_forecast(), encoding="utf-8")
    else:
        index()
    browser.get_log("performance")
    show(browser, path, WIDTHS[width], scheme)
    seen = browser.execute_script(SEEN)
    assert seen["width"] <= seen["window"] == WIDTHS[width]  # nothing to scroll sideways
    paper = compute_luminance(seen["paper"])
    assert (paper > 0.8) if scheme == "light" else (paper < 0.1)
    for ink in seen["inks"] + seen["fills"]:
        low, high = sorted((compute_luminance(ink), paper))
        assert (high + 0.05) / (low + 0.05) > 4.5, ink  # WCAG's contrast for text
    if kind == "forecast":
        assert seen["figures"] == 2 and seen["inside"]
        assert min(seen["sizes"]) > 9  # pixels
    assert seen["broken"] == 0
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [event["params"]["request"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in (request["url"] for request in requests)} <= {"file", "data"}


@pytest.mark.slow
def test_every_hour_is_there_when_asked_for(browser: Any, root: Path) -> None:
    Path("forecast.html").write_text(format_forecast(), encoding="utf-8")
    show(browser, Path("forecast.html"), WIDTHS["phone"], "light")
    count = "return [...document.querySelectorAll('td')].filter(e => e.checkVisibility()).length"
    before = browser.execute_script(count)
    browser.execute_script("document.querySelector('summary').click()")
    assert browser.execute_script(count) == before + 5 * len(LEADS)
    assert browser.execute_script("return document.scrollingElement.scrollWidth") <= WIDTHS["phone"]


def test_a_table_shows_texts_as_they_are() -> None:
    result = format_page("a & b", format_html_table(["<x>"], [["1 < 2"]]))
    assert "<title>a &amp; b</title>" in result and "&lt;x&gt;" in result and "1 &lt; 2" in result
    assert INK not in result
