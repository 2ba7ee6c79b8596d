"""Put the record on a regular grid of measured values, and report what was removed."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.files import atomic_output
from stages.lib.params import get_param
from stages.lib.settings.base import read_settings
from stages.lib.settings.clean import Clean
from stages.lib.weather.cleaning import clean_record, describe_cleaning
from stages.lib.weather.record import CLEAN, RECORD, read_record

REPORT = Path("data/clean.json")


def clean() -> None:
    """Write data/clean.parquet and data/clean.json."""
    settings, sentinels = read_settings(Clean, "clean"), get_param("dataset", "sentinels")
    grid, report = clean_record(read_record(), settings, sentinels, get_param("dataset", "target"), str(RECORD))
    with atomic_output(CLEAN) as path, atomic_output(REPORT) as report_path:
        columns = {name: column.to_numpy() for name, column in grid.reset_index().items()}
        pq.write_table(pa.table(columns), path)  # not from_pandas, which makes nulls of NaN
        report_path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(describe_cleaning(report))
