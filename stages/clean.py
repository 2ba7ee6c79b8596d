"""The record on a regular grid: what was measured, NaN where nothing was, and a report on what was taken out."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.cleaning import cleaned, summary
from stages.lib.files import whole
from stages.lib.params import params
from stages.lib.record import CLEAN, RECORD, read
from stages.lib.settings.base import settings_of
from stages.lib.settings.clean import Clean

REPORT = Path("data/clean.json")


def clean() -> None:
    """Write data/clean.parquet and data/clean.json."""
    settings, sentinels = settings_of(Clean, "clean"), params("dataset", "sentinels")
    grid, report = cleaned(read(), settings, sentinels, params("dataset", "target"), str(RECORD))
    with whole(CLEAN) as path, whole(REPORT) as report_path:
        columns = {name: column.to_numpy() for name, column in grid.reset_index().items()}
        pq.write_table(pa.table(columns), path)  # not from_pandas, which makes nulls of NaN
        report_path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(summary(report))
