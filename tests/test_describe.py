"""`./run describe FILE`: what it prints, pasted into params.yaml, reads the file."""

from pathlib import Path

import pytest
from layouts import LAYOUTS
from ruamel.yaml import YAML
from test_layouts import check, place

from scripts.describe import describe
from stages.lib.settings.base import validate_settings
from stages.lib.settings.records import Record
from stages.lib.weather.csv_files import read_csv_files

SINGLE = [name for name in LAYOUTS if len(LAYOUTS[name].files) == 1]
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", SINGLE)
def test_the_section_that_is_printed_reads_the_file(name, tmp_path, capsys, monkeypatch):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    files = place(name, tmp_path)
    describe(str(files[0]))
    printed = capsys.readouterr().out
    print(printed)
    section = YAML(typ="safe").load(printed)["dataset"]
    settings = {key: value for key, value in section.items() if key in Record.model_fields}
    assert "Not read yet" not in printed
    record = validate_settings(Record, settings, "dataset")
    check(name, read_csv_files(files, record), record.sentinels)
