"""Every kind of layout: the recipes of docs/layouts.md read the files of tests/layouts.py."""

import re
from pathlib import Path

import numpy as np
import pytest
from layouts import LAYOUTS
from ruamel.yaml import YAML

from stages.lib.settings.base import validate_settings
from stages.lib.settings.dataset import Record
from stages.lib.weather.csv_files import read_csv_files
from stages.lib.weather.record import to_numpy

PAGE = Path(__file__).parents[1] / "docs/layouts.md"
RECIPES = dict(re.findall(r"^### [^\n]*\(`(\w+)`\)\n.*?^```yaml\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S))
DEFAULTS = {"encoding": "utf-8", "target": "T (degC)", "sentinels": []}


def place(name, folder):
    """Write the files of the layout `name`; return their paths."""
    for file, content in LAYOUTS[name].files.items():
        (folder / file).write_bytes(content)
    return [folder / file for file in LAYOUTS[name].files]


def check(name, table, sentinels):
    """Assert that `table` is what the layout `name` was written from."""
    expected = LAYOUTS[name]
    np.testing.assert_array_equal(to_numpy(table[0]), expected.times)
    for column, values in expected.weather.items():
        found = to_numpy(table[column])
        found = np.where(np.isin(found, sentinels), np.nan, found)
        rounding = expected.tolerance if column == "wd (deg)" else min(expected.tolerance, 0.06)
        np.testing.assert_allclose(found, values, rtol=0, atol=rounding, err_msg=column)


def test_every_layout_has_a_recipe():
    assert sorted(RECIPES) == sorted(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_recipe_reads_the_file(name, tmp_path):
    settings = DEFAULTS | YAML(typ="safe").load(RECIPES[name])
    settings.pop("source", None)
    record = validate_settings(Record, settings, "dataset")
    check(name, read_csv_files(place(name, tmp_path), record), record.sentinels)
