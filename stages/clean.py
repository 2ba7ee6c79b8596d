"""Remove impossible values from a record, put measurements on a regular grid, and report what was changed."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.files import atomic_output
from stages.lib.settings.base import read_settings
from stages.lib.settings.clean import Clean
from stages.lib.settings.records import Sensors
from stages.lib.weather.cleaning import clean_forecasts, clean_record, describe_cleaning
from stages.lib.weather.record import get_record_path, read_note, read_record


def clean(name: str) -> None:
    """Write NAME.parquet and NAME.json of the record NAME to data/clean."""
    settings, sensors = read_settings(Clean, "clean"), read_settings(Sensors, "records", name)
    location, key = str(get_record_path(name, "parse")), f"records.{name}"
    clean_rows = clean_record if sensors.issued is None else clean_forecasts
    frame, report = clean_rows(read_record(name), settings, sensors, location, key)
    output = get_record_path(name, "clean")
    with atomic_output(output) as path, atomic_output(output.with_suffix(".json")) as report_path:
        columns = {column: values.to_numpy() for column, values in frame.reset_index().items()}
        description = {
            "source": json.dumps(read_note(name, "source", "parse")),
            "target": json.dumps(sensors.target),
        }
        table = pa.table(columns, metadata=description)
        pq.write_table(table, path)  # not from_pandas, which makes nulls of NaN
        report_path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{name}: {describe_cleaning(report)}")
