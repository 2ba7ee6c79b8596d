"""CSV files of a weather record -> one typed Parquet file, and a report of the record's quality."""

import codecs
import contextlib
import csv
import gzip
import io
import json
import math
import re
import zipfile
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from tqdm import tqdm

from stages.lib.errors import UserError
from stages.lib.files import existing, reading, whole
from stages.lib.quality import QUALITY, quality, summary
from stages.lib.record import RECORD, values
from stages.lib.settings.base import settings_of
from stages.lib.settings.dataset import Record

RAW = Path("data/raw/dataset")

BLOCK = 8192  # lines that are read again together where not all can be read at once
NUMBER = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)


def contents(path: Path) -> tuple[str, bytes]:
    """Return the name to show for the CSV at `path` (.csv, .zip or .gz) and its bytes; UserError if damaged."""
    try:
        if path.suffix.lower() == ".gz":
            return str(path), gzip.decompress(path.read_bytes())
        if path.suffix.lower() != ".zip":
            return str(path), path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            tables = [member for member in archive.infolist() if member.filename.lower().endswith(".csv")]
            largest = max(tables, key=lambda member: member.file_size)  # not macOS's shadow of it
            return f"{path} ({largest.filename})", archive.read(largest)
    except UNREADABLE as error:
        raise UserError(
            f"{path}: cannot be read ({error}); fetch it again with `dvc repro -f download@dataset`"
        ) from None


def header(line: str, where: str, section: Record) -> list[str]:
    """Return the column names in `line`; UserError, its message beginning with `where`, if they will not do."""
    try:
        columns = next(csv.reader([line]), [])
    except csv.Error as error:
        raise UserError(f"{where}: expected column names, cannot read them ({error})") from None
    listed = ", ".join(map(repr, columns)) or "an empty line"
    for key in ("time", "target"):
        if (column := getattr(section, key)) not in columns:
            raise UserError(
                f"{where}: expected the column {column!r} (dataset.{key} in params.yaml), found {listed}"
            )
    if len(set(columns)) < len(columns):
        raise UserError(f"{where}: expected every column name once, found {listed}")
    return columns


def instants(texts: pa.StringArray, format: str) -> pa.Array:
    """Return `texts` as timestamp[s], as datetime.strptime reads them; ValueError where it does not.

    Arrow carries over what is impossible (31.02. becomes 03.03., second 60 the next minute) and takes years
    of three digits: times that may come from such are written back and compared.
    """
    with contextlib.suppress(pa.ArrowInvalid):  # perhaps Python reads what Arrow does not
        stamps = pc.strptime(texts, format=format, unit="s")
        days = values(stamps).astype("datetime64[D]")
        early = np.flatnonzero(days - days.astype("datetime64[M]") < np.timedelta64(3, "D"))
        sixty = values(pc.indices_nonzero(pc.match_substring_regex(texts, "6[01]")))
        doubtful = np.union1d(early, sixty.astype(np.int64))
        rows = pa.Array.from_buffers(pa.int64(), len(doubtful), [None, pa.py_buffer(doubtful)])
        rewritten = pc.strftime(stamps.take(rows), format=format)
        if rewritten.equals(texts.take(rows)) and days.min() >= np.datetime64("1000"):
            return stamps
    if len(texts) > BLOCK:
        starts = tqdm(range(0, len(texts), BLOCK), "times", unit=" blocks", disable=None, leave=False)
        return pa.concat_arrays([instants(texts[start : start + BLOCK], format) for start in starts])
    return pa.array([datetime.strptime(text, format) for text in texts.to_pylist()], pa.timestamp("s"))


def to_table(data: bytes, columns: list[str], section: Record) -> pa.Table:
    """Return a header and lines of CSV as a table: times as timestamp[s], then the other columns as float64.

    Raises ValueError where a line will not do. Arrow rounds numbers correctly, as Python does.
    """
    time = section.time
    types = dict.fromkeys(columns, pa.float64()) | {time: pa.string()}
    table = pyarrow.csv.read_csv(
        pa.py_buffer(data),
        pyarrow.csv.ReadOptions(column_names=columns, skip_rows=1),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False),
    ).combine_chunks()
    if table.num_rows != data.count(b"\n"):
        raise ValueError("a line is empty, or a quote is left open")
    stamps = instants(table[time].combine_chunks(), section.format)
    table = table.drop_columns([time])
    if not all(np.isfinite(values(column)).all() for column in table.columns):
        raise ValueError("a number is not finite")
    return table.add_column(0, time, stamps)


def read_file(path: Path, section: Record) -> tuple[str, pa.Table]:
    """Return the name to show for the CSV at `path` and its table; UserError names the first bad place."""
    name, data = contents(path)
    try:
        if codecs.lookup(section.encoding).name != "utf-8":
            data = data.decode(section.encoding).encode()
        data = data.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
        first = io.BytesIO(data).readline().decode().rstrip("\r\n")
        columns = header(first, f"{name}, line 1", section)
        if b"\n" not in data:
            raise UserError(f"{name}, line 2: expected rows after the header, found the end of the file")
        try:
            return name, to_table(data, columns, section)
        except ValueError as error:  # Arrow's own ArrowInvalid is one too
            check_lines(data.decode().split("\n"), name, columns, section)
            raise UserError(f"{name}: cannot be read as CSV: {error}") from None
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise UserError(
            f"{name}, line {line}: expected {section.encoding} text, found byte 0x{byte:02x}; "
            "set dataset.encoding in params.yaml (cp1252 for the station's own yearly files)"
        ) from None


def check_lines(lines: list[str], name: str, columns: list[str], section: Record) -> None:
    """Raise UserError about the first bad one of `lines`, those of the file `name`."""
    for start in range(1, len(lines), BLOCK):
        block = lines[start : start + BLOCK]
        try:
            to_table("\n".join([lines[0], *block]).encode(), columns, section)
        except ValueError:
            for number, line in enumerate(block, start + 1):
                check_line(line.rstrip("\r"), f"{name}, line {number}", columns, section)


def check_line(line: str, where: str, columns: list[str], section: Record) -> None:
    """Raise UserError, its message beginning with `where`, unless `line` is a row of `columns`."""
    try:
        fields = next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise UserError(f"{where}: expected {len(columns)} fields, found {line[:60]!r} ({error})") from None
    if len(fields) != len(columns):
        torn = f", column {columns[len(fields)]!r}" if 0 < len(fields) < len(columns) else ""
        found = f"{len(fields)}, which end with {line[-30:]!r}" if line else "an empty line"
        raise UserError(f"{where}{torn}: expected {len(columns)} fields, found {found}")
    for column, field in zip(columns, fields, strict=True):
        found = repr(field[:60]) if field else "an empty field"
        if column != section.time:
            if not NUMBER.fullmatch(field) or not math.isfinite(float(field)):
                raise UserError(f"{where}, column {column!r}: expected a number, found {found}")
            continue
        try:
            datetime.strptime(field, section.format)
        except ValueError as error:
            raise UserError(
                f"{where}, column {column!r}: expected a time such as "
                f"{datetime(2009, 1, 31, 0, 10):{section.format}}, found {found} ({error}); "
                "dataset.format in params.yaml says how times are written"
            ) from None


def read_record(files: list[Path], section: Record) -> pa.Table:
    """Return the rows of all `files`, one below the other; UserError where they do not fit together."""
    tables: list[pa.Table] = []
    before = ""
    for path in files:
        name, table = read_file(path, section)
        if tables:
            check_follows(name, table, before, tables[-1])
        tables.append(table)
        before = name
    return pa.concat_tables(tables).combine_chunks()


def check_follows(name: str, table: pa.Table, before: str, previous: pa.Table) -> None:
    """Raise UserError unless `table` has the columns of `previous` and only times from its last one on."""
    if table.column_names != previous.column_names:
        raise UserError(
            f"{name}, line 1: expected the columns of {before}, "
            f"{', '.join(map(repr, previous.column_names))}, found {', '.join(map(repr, table.column_names))}"
        )
    start, end = values(table[0]), values(previous[0]).max()
    if start.min() < end:
        raise UserError(
            f"{name}, line {start.argmin() + 2}, column {table.column_names[0]!r}: expected a time not before "
            f"{end}, the last of {before}, found {start.min()}; "
            "list the files of dataset.source in params.yaml in time order, without overlap"
        )


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
