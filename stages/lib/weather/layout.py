"""The lines of a file of measurements: what stands before the table, its header, comments, and its rows."""

import csv
import itertools
import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from stages.lib.errors import UserError
from stages.lib.settings.records import Record


class Body(NamedTuple):
    """The rows of a file, as bytes of UTF-8, and where they were found."""

    data: bytes | memoryview
    lines: np.ndarray | range  # of each row, its line in the file
    columns: list[str]  # as the file names them
    first: int  # the line after the header
    location: str  # of the header, for messages


def split_fields(line: str, location: str, separator: str) -> list[str]:
    """Return the fields of a header's `line`, without blanks around them; UserError begins with `location`."""
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error as error:
        raise UserError(f"{location}: expected column names, cannot read them ({error})") from None


def split_file(data: bytes, name: str, settings: Record) -> Body:
    """Return the rows of `data`, a file in UTF-8, without what stands before, between and after them."""
    comments = tuple(text.encode() for text in settings.comment)
    end, number, headers = 0, 0, list[str]()

    def take_line() -> bytes:
        nonlocal end, number
        if end >= len(data) and number:
            before = f"line {settings.skiprows + 1} ({settings.key}.skiprows in params.yaml)"
            raise UserError(f"{name}: expected the header from {before} on, found only {number} lines")
        start, end = end, (data.find(b"\n", end) + 1) or len(data)
        number += 1
        return data[start:end].rstrip(b"\r\n")

    for _ in range(settings.skiprows):
        take_line()
    count = settings.header if isinstance(settings.header, int) else 0
    while len(headers) < count:
        line = take_line()
        if comments and line.startswith(comments):
            if not settings.skiprows or number != settings.skiprows + 1:
                continue
            line = line[
                max(len(text) for text in comments if line.startswith(text)) :
            ]  # as KNMI's `# STN,YYYYMMDD`
        headers.append(" ".join(line.decode().split()) if settings.separator == " " else line.decode())
    location = f"{name}, line {number or 1}"
    if count:
        rows = [split_fields(line, location, settings.separator) for line in headers]
        if len({len(row) for row in rows}) > 1:
            raise UserError(
                f"{location}: expected as many fields in both lines of the header ({settings.key}.header in "
                f"params.yaml), found {' and '.join(str(len(row)) for row in rows)}"
            )
        columns = [" ".join(filter(None, names)) for names in zip(*rows, strict=True)]
    else:
        columns = list(settings.header)  # type: ignore[arg-type]
    first = number + 1
    while data[end : end + 1] in (b"\r", b"\n"):
        take_line()
    body: bytes | memoryview = memoryview(data)[end:] if end else data
    lines: np.ndarray | range = range(number + 1, number + 2 + data.count(b"\n", end))
    if comments:
        texts = bytes(body).split(b"\n")
        is_row = [not text.startswith(comments) for text in texts]
        texts, lines = list(itertools.compress(texts, is_row)), np.flatnonzero(is_row) + number + 1
        while texts and not texts[-1].strip():
            texts.pop()
        body, lines = b"\n".join(texts), lines[: len(texts)]
    if settings.separator == " ":
        body = re.sub(rb"[ \t]+", b" ", re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", bytes(body)))
    return Body(body, lines, columns, first, location)


def name_columns(body: Body, settings: Record, whole: bool = True) -> list[str]:
    """Return the names of the columns of `body`, renamed; UserError if they will not do.

    `whole`: whether all columns of the record are in this file, not some in other files.
    """
    columns = body.columns
    if whole:
        check_names(columns, settings, body.location)
    columns = [settings.names.get(column, column) for column in columns]
    listed = ", ".join(map(repr, columns)) or "an empty line"
    needed = [("time", column) for column in settings.times]
    needed += [("issued", settings.issue_column)] if settings.issue_column else []
    needed += [("target", settings.target)] if whole and settings.target else []
    if settings.pivot:
        needed += [("pivot", settings.pivot.columns), ("pivot", settings.pivot.values)]
    for key, column in needed:
        if column not in columns:
            raise UserError(
                f"{body.location}: expected the column {column!r} ({settings.key}.{key} in params.yaml), "
                f"found {listed}"
                + (f"; is {settings.key}.separator, {settings.separator!r}, wrong?" if len(columns) == 1 else "")
            )
    measured = [column for column, old in zip(columns, body.columns, strict=True) if old not in settings.leave_out]
    if len(set(measured)) < len(measured):
        raise UserError(f"{body.location}: expected every column name once, found {listed}")
    return columns


def check_names(columns: list[str], settings: Record, location: str) -> None:
    """Raise UserError, beginning with `location`, where a column to rename or to leave out is not in `columns`."""
    listed = ", ".join(map(repr, columns)) or "an empty line"
    for key, names in (("rename", settings.rename), ("leave_out", settings.leave_out)):
        if strays := [column for column in names if column not in columns]:
            raise UserError(
                f"{location}: expected the columns {', '.join(map(repr, strays))} ({settings.key}.{key} in "
                f"params.yaml), found {listed}; correct their names, or take them out of {key}"
            )


def read_columns(body: Body, columns: list[str], settings: Record, texts: list[str]) -> pa.Table:
    """Return the columns of `body` that are not left out: `texts` as they are, the others as float64.

    NaN stands for the texts of settings.missing in a number column. Raises ValueError where a line will not do.
    Arrow rounds numbers correctly, as Python does.
    """
    numbers = [
        f"{position}" for position in range(len(columns))
    ]  # names may come twice, in columns that are left out
    included = [n for n, old in zip(numbers, body.columns, strict=True) if old not in settings.leave_out]
    names = dict(zip(numbers, columns, strict=True))
    table = pyarrow.csv.read_csv(
        pa.py_buffer(body.data),
        pyarrow.csv.ReadOptions(column_names=numbers),
        pyarrow.csv.ParseOptions(delimiter=settings.separator),
        pyarrow.csv.ConvertOptions(
            column_types={n: pa.string() if names[n] in texts else pa.float64() for n in included},
            null_values=settings.missing,
            strings_can_be_null=False,
            include_columns=included,
            decimal_point=settings.decimal,
        ),
    ).combine_chunks()
    if table.num_rows != len(body.lines):
        raise ValueError("a line is empty, or a quote is left open")
    return table.rename_columns([names[n] for n in table.column_names])


def find_bad_byte(data: bytes, encoding: str) -> UnicodeDecodeError:
    """Return the error of decoding the whole of `data`, of which a part could not be."""
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return error
    raise AssertionError("expected bytes that cannot be decoded")


def check_each_line(body: Body, columns: list[str], settings: Record, name: str) -> None:
    """Raise UserError about the first row of `body`, the file `name`, that has not as many fields as `columns`."""
    for number, text in zip(body.lines, bytes(body.data).split(b"\n"), strict=True):
        line, location = text.decode().rstrip("\r"), f"{name}, line {number}"
        try:
            fields = next(csv.reader([line], delimiter=settings.separator, strict=True), [])
        except csv.Error as error:
            raise UserError(f"{location}: expected {len(columns)} fields, found {line[:60]!r} ({error})") from None
        if len(fields) != len(columns):
            torn = f", column {columns[len(fields)]!r}" if 0 < len(fields) < len(columns) else ""
            ending = f"{len(fields)}, which end with {line[-30:]!r}" if line else "an empty line"
            raise UserError(f"{location}{torn}: expected {len(columns)} fields, found {ending}")
