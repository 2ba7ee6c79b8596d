"""Reading CSV files of a weather record, exactly as csv.reader and float would; every error names its place."""

import codecs
import contextlib
import csv
import io
import json
import math
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from tqdm import tqdm

from stages.lib.errors import UserError
from stages.lib.settings.dataset import Record
from stages.lib.weather.archives import UnpackError, read_packed_csv
from stages.lib.weather.record import to_numpy

BLOCK = 8192  # lines that are read again together where not all can be read at once
FEW = 24  # rows of one time with different values that a file may hold, or one in a hundred
NUMBER = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")


def read_bytes(path: Path) -> tuple[str, bytes]:
    """Return the name to show for the CSV at `path` (.csv, .zip or .gz) and its bytes; UserError if damaged."""
    try:
        return read_packed_csv(path)
    except (OSError, UnpackError) as error:
        ours = path.is_relative_to("data/raw")  # not the file that `predict` reads
        hint = "; fetch it again with `dvc repro -f download@dataset`" if ours else ""
        raise UserError(f"{path}: cannot be read ({error}){hint}") from None


def parse_header(line: str, where: str, section: Record) -> list[str]:
    """Return the column names in `line`, renamed; UserError, which begins with `where`, if they will not do."""
    try:
        columns = next(csv.reader([line], delimiter=section.separator), [])
    except csv.Error as error:
        raise UserError(f"{where}: expected column names, cannot read them ({error})") from None
    listed = ", ".join(map(repr, columns)) or "an empty line"
    for key, names in (("rename", section.rename), ("leave_out", section.leave_out)):
        if strays := [column for column in names if column not in columns]:
            raise UserError(
                f"{where}: expected the columns {', '.join(map(repr, strays))} (dataset.{key} in params.yaml), "
                f"found {listed}; correct their names, or take them out of {key}"
            )
    columns = [section.rename.get(column, column) for column in columns]
    listed = ", ".join(map(repr, columns)) or "an empty line"
    for key in ("time", "target"):
        if (column := getattr(section, key)) not in columns:
            raise UserError(
                f"{where}: expected the column {column!r} (dataset.{key} in params.yaml), found {listed}"
                + (f"; is dataset.separator, {section.separator!r}, wrong?" if len(columns) == 1 else "")
            )
    if len(set(columns)) < len(columns):
        raise UserError(f"{where}: expected every column name once, found {listed}")
    return columns


def parse_times(texts: pa.StringArray, format: str) -> pa.Array:
    """Return `texts` as timestamp[s], as datetime.strptime reads them; ValueError where it does not.

    Arrow carries over what is impossible (31.02. becomes 03.03., second 60 the next minute) and takes years
    of three digits: times that may come from such are written back and compared.
    """
    with contextlib.suppress(pa.ArrowInvalid):  # perhaps Python reads what Arrow does not
        stamps = pc.strptime(texts, format=format, unit="s")
        days = to_numpy(stamps).astype("datetime64[D]")
        early = np.flatnonzero(days - days.astype("datetime64[M]") < np.timedelta64(3, "D"))
        sixty = to_numpy(pc.indices_nonzero(pc.match_substring_regex(texts, "6[01]")))
        doubtful = np.union1d(early, sixty.astype(np.int64))
        rows = pa.Array.from_buffers(pa.int64(), len(doubtful), [None, pa.py_buffer(doubtful)])
        rewritten = pc.strftime(stamps.take(rows), format=format)
        if rewritten.equals(texts.take(rows)) and days.min() >= np.datetime64("1000"):
            return stamps
    if len(texts) > BLOCK:
        starts = tqdm(range(0, len(texts), BLOCK), "times", unit=" blocks", disable=None, leave=False)
        return pa.concat_arrays([parse_times(texts[start : start + BLOCK], format) for start in starts])
    return pa.array([datetime.strptime(text, format) for text in texts.to_pylist()], pa.timestamp("s"))


def parse_rows(data: bytes, columns: list[str], section: Record) -> pa.Table:
    """Return a header and lines of CSV as a table: times as timestamp[s], then the other columns as float64.

    Columns of section.leave_out are not in it; NaN stands for the texts of section.missing. Raises ValueError
    where a line will not do. Arrow rounds numbers correctly, as Python does.
    """
    time = section.time
    types = dict.fromkeys(columns, pa.float64()) | {time: pa.string()}
    table = pyarrow.csv.read_csv(
        pa.py_buffer(data),
        pyarrow.csv.ReadOptions(column_names=columns, skip_rows=1),
        pyarrow.csv.ParseOptions(delimiter=section.separator),
        pyarrow.csv.ConvertOptions(
            column_types=types,
            null_values=section.missing,
            strings_can_be_null=False,
            include_columns=[column for column in columns if column not in section.leave_out],
        ),
    ).combine_chunks()
    if table.num_rows != data.count(b"\n"):
        raise ValueError("a line is empty, or a quote is left open")
    stamps = parse_times(table[time].combine_chunks(), section.format)
    table = table.drop_columns([time])
    if not all(pc.all(pc.is_finite(column), min_count=0).as_py() for column in table.columns):
        raise ValueError("a number is not finite")
    numbers = {name: pc.fill_null(table[name], np.nan) for name in table.column_names}
    return pa.table({time: stamps, **numbers})


def read_csv_file(path: Path, section: Record) -> tuple[str, pa.Table]:
    """Return the name to show for the CSV at `path` and its table; UserError names the first bad place."""
    name, data = read_bytes(path)
    try:
        if codecs.lookup(section.encoding).name != "utf-8":
            data = data.decode(section.encoding).encode()
        data = data.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
        first = io.BytesIO(data).readline().decode().rstrip("\r\n")
        columns = parse_header(first, f"{name}, line 1", section)
        if b"\n" not in data:
            raise UserError(f"{name}, line 2: expected rows after the header, found the end of the file")
        try:
            table = parse_rows(data, columns, section)
        except ValueError as error:  # Arrow's own ArrowInvalid is one too
            check_each_line(data.decode().split("\n"), name, columns, section)
            raise UserError(f"{name}: cannot be read as CSV: {error}") from None
        check_time_order(table, name)
        return name, table
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise UserError(
            f"{name}, line {line}: expected {section.encoding} text, found byte 0x{byte:02x}; "
            "set dataset.encoding in params.yaml (cp1252 for the station's own yearly files)"
        ) from None


def check_each_line(lines: list[str], name: str, columns: list[str], section: Record) -> None:
    """Raise UserError about the first bad one of `lines`, those of the file `name`."""
    for start in range(1, len(lines), BLOCK):
        block = lines[start : start + BLOCK]
        try:
            parse_rows("\n".join([lines[0], *block]).encode(), columns, section)
        except ValueError:
            for number, line in enumerate(block, start + 1):
                check_line(line.rstrip("\r"), f"{name}, line {number}", columns, section)


def check_line(line: str, where: str, columns: list[str], section: Record) -> None:
    """Raise UserError, its message beginning with `where`, unless `line` is a row of `columns`."""
    try:
        fields = next(csv.reader([line], delimiter=section.separator, strict=True), [])
    except csv.Error as error:
        raise UserError(f"{where}: expected {len(columns)} fields, found {line[:60]!r} ({error})") from None
    if len(fields) != len(columns):
        torn = f", column {columns[len(fields)]!r}" if 0 < len(fields) < len(columns) else ""
        found = f"{len(fields)}, which end with {line[-30:]!r}" if line else "an empty line"
        raise UserError(f"{where}{torn}: expected {len(columns)} fields, found {found}")
    for column, field in zip(columns, fields, strict=True):
        if column in section.leave_out:
            continue
        found = repr(field[:60]) if field else "an empty field"
        if column != section.time:
            if field in section.missing:
                continue
            if not NUMBER.fullmatch(field) or not math.isfinite(float(field)):
                raise UserError(
                    f"{where}, column {column!r}: expected a number, found {found}{suggest_fix(field, section)}"
                )
            continue
        try:
            datetime.strptime(field, section.format)
        except ValueError as error:
            raise UserError(
                f"{where}, column {column!r}: expected a time such as "
                f"{datetime(2009, 1, 31, 0, 10):{section.format}}, found {found} ({error}); "
                "dataset.format in params.yaml says how times are written"
            ) from None


def suggest_fix(field: str, section: Record) -> str:
    """Return what may be done about a `field` that is no number, to end a message with."""
    if field.strip() in ("", "-", "NA", "N/A", "nan", "NaN", "null", "None"):
        return f"; if it stands for nothing measured: dataset.missing: [{json.dumps(field)}] in params.yaml"
    if NUMBER.fullmatch(field.replace(",", ".", 1)):
        return "; decimal commas are not read: write points"
    return "; correct it, or name a column that is no measurement in dataset.leave_out of params.yaml"


def check_time_order(table: pa.Table, name: str) -> None:
    """Raise UserError unless the rows of `table`, the file `name`, are in time order, and most times there once.

    Let through, and later counted: a block of rows that a logger wrote twice, and a few rows of one time.
    """

    def fields(rows: np.ndarray) -> list[np.ndarray]:
        return [np.nan_to_num(to_numpy(column)[rows], nan=np.inf) for column in table.columns]  # NaN equals NaN

    stamps = to_numpy(table[0])
    where = f"column {table.column_names[0]!r}: expected"
    latest = np.maximum.accumulate(stamps)
    back = np.flatnonzero(stamps < latest)
    before, known = set(back.tolist()), set()
    rows = np.flatnonzero(np.isin(stamps, stamps[back]))
    for row, *found in zip(rows.tolist(), *fields(rows), strict=True):
        if row in before and tuple(found) not in known:
            raise UserError(
                f"{name}, line {row + 2}, {where} a time not before {latest[row]} of an earlier row, found "
                f"{stamps[row]}; sort the rows by time; if an hour comes twice in autumn, use standard time"
            )
        known.add(tuple(found))
    twice = np.flatnonzero(stamps[1:] == stamps[:-1]) + 1
    differing = twice[np.any([a != b for a, b in zip(fields(twice), fields(twice - 1), strict=True)], axis=0)]
    if len(differing) > max(FEW, len(stamps) // 100):
        raise UserError(
            f"{name}, line {differing[0] + 2}, {where} one row per time, found {stamps[differing[0]]} again with "
            f"other values, and {len(differing) - 1:,} more such rows; are two stations in one file?"
        )


def read_csv_files(files: list[Path], section: Record) -> pa.Table:
    """Return the rows of all `files`, one below the other; UserError where they do not fit together."""
    tables: list[pa.Table] = []
    before = ""
    for path in files:
        name, table = read_csv_file(path, section)
        if tables:
            check_file_order(name, table, before, tables[-1])
        tables.append(table)
        before = name
    return pa.concat_tables(tables).combine_chunks()


def check_file_order(name: str, table: pa.Table, before: str, previous: pa.Table) -> None:
    """Raise UserError unless `table` has the columns of `previous` and only times from its last one on."""
    if table.column_names != previous.column_names:
        raise UserError(
            f"{name}, line 1: expected the columns of {before}, "
            f"{', '.join(map(repr, previous.column_names))}, found {', '.join(map(repr, table.column_names))}"
        )
    start, end = to_numpy(table[0]), to_numpy(previous[0]).max()
    if start.min() < end:
        raise UserError(
            f"{name}, line {start.argmin() + 2}, column {table.column_names[0]!r}: expected a time not before "
            f"{end}, the last of {before}, found {start.min()}; "
            "list the files of dataset.source in params.yaml in time order, without overlap"
        )
