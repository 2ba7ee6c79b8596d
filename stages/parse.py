"""Convert the CSV files of the weather record to one Parquet file, and report its quality."""

import json

import pyarrow.parquet as pq

from stages.lib.files import atomic_output, open_input, require_input
from stages.lib.settings.base import read_settings
from stages.lib.settings.records import Record
from stages.lib.weather.csv_files import read_csv_files
from stages.lib.weather.quality import assess_quality, describe_quality
from stages.lib.weather.record import FOLDER


def parse(name: str) -> None:
    """Convert the raw files of the record NAME to record.parquet and quality.json in data/records/NAME."""
    settings, folder, stage = read_settings(Record, "records", name), FOLDER / name, f"download@{name}"
    with open_input(folder / "raw/source.json", stage) as path:
        note = path.read_text(encoding="utf-8")
        source = json.loads(note)
        files = [require_input(folder / "raw" / file["name"], stage) for file in source["files"]]
    table = read_csv_files(files, settings, f"records.{name}")
    report = {"source": source, **assess_quality(table, settings.sentinels, settings.issue_column)}
    with atomic_output(folder / "record.parquet") as record, atomic_output(folder / "quality.json") as report_path:
        # Parquet has no timestamp[s]; the times are stored as timestamp[ms].
        pq.write_table(table.replace_schema_metadata({"source": note}), record)
        report_path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{name}: {describe_quality(report, folder / 'quality.json')}")
