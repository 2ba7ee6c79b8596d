"""Convert the CSV files of the weather record to one Parquet file, and report its quality."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from stages.lib.files import atomic_output, open_input, require_input
from stages.lib.settings.base import read_settings
from stages.lib.settings.dataset import Record
from stages.lib.weather.csv_files import read_csv_files
from stages.lib.weather.quality import QUALITY, assess_quality, describe_quality
from stages.lib.weather.record import RECORD

RAW = Path("data/raw/dataset")


def parse() -> None:
    """Convert the raw CSV files to data/record.parquet, and write data/quality.json."""
    settings = read_settings(Record, "dataset")
    with open_input(RAW / "source.json", "download@dataset") as path:
        note = path.read_text(encoding="utf-8")
        source = json.loads(note)
        files = [require_input(RAW / file["name"], "download@dataset") for file in source["files"]]
    table = read_csv_files(files, settings)
    report = {"source": source, **assess_quality(table, settings.sentinels)}
    with atomic_output(RECORD) as record, atomic_output(QUALITY) as report_path:
        # Parquet has no timestamp[s]; the times are stored as timestamp[ms].
        pq.write_table(table.replace_schema_metadata({"source": note}), record)
        report_path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(describe_quality(report))
