"""CSV files of a weather record -> one typed Parquet file, and a report of the record's quality."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from stages.lib.files import existing, reading, whole
from stages.lib.quality import QUALITY, quality, summary
from stages.lib.record import RECORD
from stages.lib.settings.base import settings_of
from stages.lib.settings.dataset import Record
from stages.lib.tables import read_record

RAW = Path("data/raw/dataset")


def parse() -> None:
    """Turn the raw CSV files into data/record.parquet and data/quality.json."""
    # Parquet has no seconds: the times come back from record.parquet as timestamp[ms].
    section = settings_of(Record, "dataset")
    with reading(RAW / "source.json", "download@dataset") as path:
        note = path.read_text(encoding="utf-8")
        source = json.loads(note)
        files = [existing(RAW / file["name"], "download@dataset") for file in source["files"]]
    table = read_record(files, section)
    report = {"source": source, **quality(table, section.sentinels)}
    with whole(RECORD) as record, whole(QUALITY) as report_path:
        pq.write_table(table.replace_schema_metadata({"source": note}), record)
        report_path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(summary(report))
