"""Put the record on a regular grid of measured values, and report what was removed."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.files import atomic_output
from stages.lib.settings.base import read_settings
from stages.lib.settings.clean import Clean
from stages.lib.settings.records import Sensors
from stages.lib.weather.cleaning import clean_record, describe_cleaning
from stages.lib.weather.record import FOLDER, read_record, read_source


def clean(name: str) -> None:
    """Write clean.parquet and clean.json of the record NAME to data/records/NAME."""
    settings, sensors = read_settings(Clean, "clean"), read_settings(Sensors, "records", name)
    folder = FOLDER / name
    label, key = str(folder / "record.parquet"), f"records.{name}"
    grid, report = clean_record(read_record(name), settings, sensors, label, key)
    with atomic_output(folder / "clean.parquet") as path, atomic_output(folder / "clean.json") as report_path:
        columns = {name: column.to_numpy() for name, column in grid.reset_index().items()}
        table = pa.table(columns, metadata={"source": json.dumps(read_source(name))})
        pq.write_table(table, path)  # not from_pandas, which makes nulls of NaN
        report_path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{name}: {describe_cleaning(report)}")
