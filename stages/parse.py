"""CSV files of a weather record -> one typed Parquet file, and a report of the record's quality."""

import contextlib
import csv
import gzip
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from stages.common import UserError, command, params, whole

RAW = Path("data/raw/dataset")
RECORD = Path("data/record.parquet")
QUALITY = Path("data/quality.json")

# Digits that a directive always has in a regular file; what else strptime can read takes the slow way.
WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
DIRECTIVES = "YymbBdjHIpMSaA%"
BLOCK = 8192  # rows that are looked at together
NUMBER = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
UNREADABLE = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Layout:
    """What params.yaml says of the files: the section `dataset`, checked."""

    time: str
    format: str
    encoding: str
    target: str
    sentinels: tuple[float, ...]


def checked_layout(section: Any) -> Layout:
    """Return the section `dataset` of params.yaml as a Layout; UserError names the key that is wrong."""
    if not isinstance(section, dict):
        raise UserError(f"params.yaml: dataset: expected a section, found {section!r}")
    for key in ("time", "format", "encoding", "target"):
        if not isinstance(section.get(key), str) or not section[key]:
            raise UserError(f"params.yaml: dataset.{key}: expected a text, found {section.get(key)!r}")
    sentinels = section.get("sentinels")
    if not isinstance(sentinels, list) or not all(
        type(value) in (int, float) and math.isfinite(value) for value in sentinels
    ):
        raise UserError(f"params.yaml: dataset.sentinels: expected a list of numbers, found {sentinels!r}")
    if section["target"] == section["time"]:
        raise UserError("params.yaml: dataset.target: expected a number column, found the time column's name")
    check_encoding(section["encoding"])
    check_format(section["format"])
    texts = (section[key] for key in ("time", "format", "encoding", "target"))
    return Layout(*texts, tuple(map(float, sentinels)))


def check_encoding(encoding: str) -> None:
    """Raise UserError unless Python knows `encoding` as a text encoding."""
    try:
        b"a".decode(encoding)
    except UnicodeDecodeError:
        pass  # known, only not the encoding of one byte, such as utf-16
    except LookupError:
        raise UserError(
            f"params.yaml: dataset.encoding: unknown encoding {encoding!r}; "
            "expected one that Python knows, such as utf-8, cp1252 or latin-1"
        ) from None


def check_format(format: str) -> None:
    """Raise UserError unless `format` is for strptime and tells year, month and day to the second at most."""
    found = re.findall(r"%(.?)", format, re.DOTALL)
    where = f"params.yaml: dataset.format: {format!r}"
    for directive in found:
        if directive not in DIRECTIVES or not directive:
            known = " ".join(f"%{d}" for d in DIRECTIVES)
            raise UserError(f"{where} holds %{directive}, which is not one of {known}")
        if directive != "%" and found.count(directive) > 1:
            raise UserError(f"{where} holds %{directive} more than once")
    needed = {"year": "Yy", "month": "mbBj", "day": "dj"}
    if {"M", "S"} & set(found):
        needed["hour"] = "HI"
    if "S" in found:
        needed["minute"] = "M"
    if "I" in found:
        needed["half of the day"] = "p"
    for part, directives in needed.items():
        if not set(directives) & set(found):
            raise UserError(f"{where} has no {part}: add {' or '.join('%' + d for d in directives)}")


# --- Files ------------------------------------------------------------------------------------------


def read_source(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Return what source.json in `folder` says, and the paths of its files in time order."""
    path = folder / "source.json"
    try:
        source = json.loads(path.read_text(encoding="utf-8"))
        files = [folder / file["name"] for file in source["files"]]
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run `./run download dataset` first") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not as the download stage writes it ({error!r}); run that again") from None
    if not files:
        raise UserError(f"{path}: names no files; run `./run download dataset` again")
    return source, files


def csv_member(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the name of the only CSV in `archive`; UserError where there is none or more than one."""
    names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
    found = [name for name in names if name.lower().endswith(".csv")] or names
    if len(found) != 1:
        raise UserError(f"{path}: expected one CSV file in the zip, found {', '.join(found) or 'none'}")
    return found[0]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the name to show for the CSV at `path` (.csv, .zip or .gz) and its bytes as a stream.

    Raises UserError where the file is missing, is damaged, or is a zip without exactly one CSV.
    """
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                member = csv_member(archive, path)
                with archive.open(member) as stream:
                    yield f"{path} ({member})", stream
        elif path.suffix.lower() == ".gz":
            with gzip.open(path) as stream:
                yield str(path), stream
        else:
            with path.open("rb") as stream:
                yield str(path), stream
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run `./run download dataset` again") from None
    except UNREADABLE as error:
        hint = "an HTML page, not the file; check dataset.source" if is_html(path) else f"cannot be read: {error}"
        raise UserError(f"{path}: {hint}") from None


def is_html(path: Path) -> bool:
    """Tell whether the file at `path` begins like an HTML page."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        return stream.read(200).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    return False


class Counted:
    """A binary stream for Arrow that counts the lines of what is read, without blank lines at the end."""

    def __init__(self, stream: BinaryIO):
        self.stream, self.closed = stream, False
        self.newlines, self.tail = 0, b""

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes of the stream."""
        chunk = self.stream.read(size)
        self.newlines += chunk.count(b"\n")
        kept = chunk.rstrip(b"\r\n")
        self.tail = chunk[len(kept) :] if kept else self.tail + chunk
        return chunk

    def close(self) -> None:
        """Leave the stream to whoever opened it."""

    @property
    def lines(self) -> int:
        """Lines up to the last one that is not blank."""
        return self.newlines - self.tail.count(b"\n") + 1


# --- Header ------------------------------------------------------------------------------------------


def split_line(line: str) -> list[str]:
    """Return the fields of one line of CSV; csv.Error where a quote is not closed."""
    return line.split(",") if '"' not in line else next(csv.reader([line], strict=True))


def header(line: str, name: str, layout: Layout) -> list[str]:
    """Return the column names in `line`, the first of the file `name`; UserError where they will not do."""
    line = line.removeprefix("\ufeff").rstrip("\r\n")
    where = f"{name}, line 1"
    if line.lstrip().startswith("<"):
        raise UserError(f"{where}: expected a CSV header, found an HTML page: {line[:60]!r}; check dataset.source")
    if not line.strip():
        raise UserError(f"{where}: expected a CSV header, found an empty line")
    try:
        columns = split_line(line)
    except csv.Error as error:
        raise UserError(f"{where}: expected a CSV header, found {line[:60]!r} ({error})") from None
    listed = ", ".join(map(repr, columns))
    for column in columns:
        if columns.count(column) > 1:
            raise UserError(f"{where}: expected every column name once, found {column!r} twice in {listed}")
        if not column.strip():
            raise UserError(f"{where}: expected a name for every column, found an empty one in {listed}")
    for key in ("time", "target"):
        wanted = getattr(layout, key)
        if wanted not in columns:
            raise UserError(
                f"{where}: expected the column {wanted!r} (dataset.{key} in params.yaml), found {listed}; "
                "name one of these there"
            )
    return columns


# --- Times -------------------------------------------------------------------------------------------


def fixed_times(texts: pa.StringArray, format: str) -> np.ndarray | None:
    """Return `texts` as datetime64[s], where every one has the full width that `format` gives it.

    None where a text or the format is not that regular, or a time is impossible.
    """
    parts = re.split(r"%(.)", format)
    literals, directives = [part.encode() for part in parts[::2]], parts[1::2]
    if set(directives) - set(WIDTHS) or {"Y", "m", "d"} - set(directives) or not len(texts):
        return None
    width = sum(map(len, literals)) + sum(WIDTHS[directive] for directive in directives)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    if (np.diff(offsets) != width).any():
        return None
    characters = np.frombuffer(texts.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, width)
    fields, at = {}, 0
    for literal, directive in zip(literals, [*directives, None], strict=True):
        end = at + len(literal)
        if (characters[:, at:end] != np.frombuffer(literal, np.uint8)).any():
            return None
        if directive:
            at = end + WIDTHS[directive]
            fields[directive] = digits_value(characters[:, end:at])
    return None if any(field is None for field in fields.values()) else from_fields(**fields)


def digits_value(characters: np.ndarray) -> np.ndarray | None:
    """Return the numbers (rows,) that ASCII `characters` (rows, digits) write; None where one is no digit."""
    digits = characters - np.uint8(ord("0"))  # wraps below "0"
    if (digits > 9).any():
        return None
    value = np.zeros(len(digits), np.int64)
    for digit in digits.T:
        value = value * 10 + digit
    return value


def from_fields(
    Y: np.ndarray, m: np.ndarray, d: np.ndarray, H: Any = 0, M: Any = 0, S: Any = 0
) -> np.ndarray | None:
    """Return the values (rows,) of strptime's directives as datetime64[s]; None where one is impossible.

    Arrow's own parser takes 31.02.2009 for 03.03.2009: here a day that does not stay in its month is found.
    """
    for value, first, last in ((Y, 1, 9999), (m, 1, 12), (d, 1, 31), (H, 0, 23), (M, 0, 59), (S, 0, 59)):
        if np.min(value) < first or np.max(value) > last:
            return None
    months = ((Y - 1970) * 12 + m - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (d - 1)
    if (days.astype("datetime64[M]") != months).any():
        return None
    return days.astype("datetime64[s]") + (H * 3600 + M * 60 + S)


def times(texts: pa.StringArray, format: str) -> np.ndarray:
    """Return `texts` as datetime64[s], as datetime.strptime reads them; ValueError where it does not."""
    blocks = [texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK)]
    if fixed_times(blocks[0], format) is None:
        blocks = progress(blocks, "times")
    return np.concatenate([block_times(block, format) for block in blocks])


def block_times(texts: pa.StringArray, format: str) -> np.ndarray:
    """Return what `times` does, for rows few enough that one irregular text among them costs little."""
    found = fixed_times(texts, format)
    if found is None:
        found = [datetime.strptime(text, format) for text in texts.to_pylist()]
    return np.array(found, "datetime64[s]")


def progress(blocks: Any, what: str) -> Any:
    """Return `blocks` of rows with a progress bar where stderr is a terminal."""
    from tqdm import tqdm  # here, since the fast way has no use for it and should not wait for it

    return tqdm(blocks, desc=what, unit=" blocks", disable=None, leave=False)


# --- One file ----------------------------------------------------------------------------------------


def read_file(path: Path, layout: Layout) -> tuple[str, pa.Table]:
    """Return the CSV at `path` as a table: times as timestamp[s], then every other column as float64.

    The first of the pair is the name to show for the file. Raises UserError naming file, line,
    column, what was expected and what was found.
    """
    with opened(path) as (name, stream):
        try:
            first = io.TextIOWrapper(stream, layout.encoding).readline()
        except UnicodeError:
            first = ""
    try:
        if not first.strip():
            raise ValueError("no header")
        columns = header(first, name, layout)
        with opened(path) as (_, stream):
            table, lines = read_fast(stream, columns, layout)
    except ValueError as error:  # Arrow's own ArrowInvalid is one too
        diagnose(path, layout)
        raise UserError(f"{name}: cannot be read as CSV: {error}") from None
    if table.num_rows != lines - 1:  # Arrow skips blank lines and joins what an open quote spans
        diagnose(path, layout)
    return name, table


def read_fast(stream: BinaryIO, columns: list[str], layout: Layout) -> tuple[pa.Table, int]:
    """Return the table in the CSV `stream` and its count of lines; ValueError where a value is no good.

    Arrow's number parser rounds correctly, as Python's does, so the floats are the same.
    """
    types = {column: pa.string() if column == layout.time else pa.float64() for column in columns}
    counted = Counted(stream)
    raw = pa_csv.read_csv(
        pa.PythonFile(counted, mode="r"),
        read_options=pa_csv.ReadOptions(column_names=columns, skip_rows=1, encoding=layout.encoding),
        convert_options=pa_csv.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False),
    )
    if not raw.num_rows:
        raise ValueError("no rows")
    table = {layout.time: timestamps(times(raw[layout.time].combine_chunks(), layout.format))}
    for column in columns:
        if column != layout.time:
            table[column] = raw[column].combine_chunks()
            if not np.isfinite(numbers(table[column])).all():
                raise ValueError(f"a number of {column!r} is not finite")
    return pa.Table.from_arrays(list(table.values()), names=list(table)), counted.lines


def numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return `column` as float64 or datetime64[s], read-only.

    Through DLPack, since Arrow's to_numpy() imports pandas, which takes as long as all the rest.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.type == pa.timestamp("s"):
        return np.from_dlpack(array.view(pa.int64())).view("datetime64[s]")
    return np.from_dlpack(array)


def timestamps(stamps: np.ndarray) -> pa.Array:
    """Return `stamps` (datetime64[s]) as an Arrow array; pa.array would import pandas first, for 0.5 s."""
    return pa.Array.from_buffers(pa.timestamp("s"), len(stamps), [None, pa.py_buffer(stamps.view(np.int64))])


# --- Diagnosis ----------------------------------------------------------------------------------------


def diagnose(path: Path, layout: Layout) -> None:
    """Find the first bad place of the CSV at `path` in plain Python and raise UserError about it.

    Returns where nothing is wrong. Only for files that the fast way refused.
    """
    with opened(path) as (name, stream):
        data = stream.read()
    try:
        text, broken = data.decode(layout.encoding), None
    except UnicodeDecodeError as error:
        text, broken = data[: error.start].decode(layout.encoding, "ignore"), error
    if not data.strip():
        raise UserError(f"{name}: expected a CSV header and rows, found an empty file")
    lines = io.StringIO(text, newline=None).read().split("\n")
    whole_lines = lines[:-1] if broken else lines
    columns = header(whole_lines[0], name, layout) if whole_lines else None
    rows = whole_lines[1:]
    while rows and not rows[-1] and not broken:
        rows.pop()
    for start in progress(range(0, len(rows), BLOCK), f"checking {path.name}"):
        block = rows[start : start + BLOCK]
        if not is_sound(block, columns, layout):
            for number, line in enumerate(block, start + 2):
                check_line(line, f"{name}, line {number}", columns, layout)
    if broken:
        raise UserError(
            f"{name}, line {len(lines)}: expected {layout.encoding} text, found byte "
            f"0x{data[broken.start]:02x} after {lines[-1][-30:]!r}; set dataset.encoding in params.yaml "
            "(cp1252 for the station's own yearly files)"
        )
    if not rows:
        raise UserError(f"{name}, line 2: expected rows after the header, found the end of the file")


def is_sound(rows: list[str], columns: list[str], layout: Layout) -> bool:
    """Tell whether the fast way reads every one of `rows`, lines of CSV, so that none needs a closer look."""
    stream = io.BytesIO("\n".join(["header", *rows]).encode())
    try:
        table, _ = read_fast(stream, columns, replace(layout, encoding="utf-8"))
    except ValueError:
        return False
    return table.num_rows == len(rows)


def check_line(line: str, where: str, columns: list[str], layout: Layout) -> None:
    """Raise UserError, its message beginning with `where`, unless `line` is a row of `columns`."""
    try:
        fields = split_line(line)
    except csv.Error as error:
        raise UserError(f"{where}: expected {len(columns)} fields, found {line[:60]!r} ({error})") from None
    if not line:
        raise UserError(f"{where}: expected {len(columns)} fields, found an empty line; delete it")
    if len(fields) < len(columns):
        missing = columns[len(fields)]
        raise UserError(
            f"{where}, column {missing!r}: expected {len(columns)} fields, found {len(fields)}: "
            f"the line is torn after {line[-30:]!r}"
        )
    if len(fields) > len(columns):
        raise UserError(
            f"{where}: expected {len(columns)} fields, found {len(fields)}: {fields[len(columns)]!r} "
            f"is after the last column, {columns[-1]!r}"
        )
    for column, field in zip(columns, fields, strict=True):
        if column == layout.time:
            check_time(field, f"{where}, column {column!r}", layout.format)
        elif not NUMBER.fullmatch(field) or not math.isfinite(float(field)):
            found = repr(field[:60]) if field else "an empty field"
            raise UserError(f"{where}, column {column!r}: expected a number, found {found}")


def check_time(field: str, where: str, format: str) -> None:
    """Raise UserError, its message beginning with `where`, unless `field` is a time written as `format`."""
    try:
        datetime.strptime(field, format)
    except ValueError as error:
        reason = "" if "does not match" in str(error) else f" ({error})"
        found = repr(field[:60]) if field else "an empty field"
        raise UserError(
            f"{where}: expected a time such as {datetime(2009, 1, 31, 0, 10):{format}} "
            f"(dataset.format in params.yaml is {format!r}), found {found}{reason}"
        ) from None


# --- The record -------------------------------------------------------------------------------------


def read_record(files: list[Path], layout: Layout) -> pa.Table:
    """Return the rows of all `files` one below the other; UserError where they do not fit together."""
    tables: list[tuple[str, pa.Table]] = []
    for path in files:
        name, table = read_file(path, layout)
        if tables:
            check_follows(name, table, *tables[-1], layout.time)
        tables.append((name, table))
    return pa.concat_tables([table for _, table in tables]).combine_chunks()


def check_follows(name: str, table: pa.Table, before: str, previous: pa.Table, time: str) -> None:
    """Raise UserError unless `table` has the columns of `previous` and only times from its last one on."""
    if table.column_names != previous.column_names:
        raise UserError(
            f"{name}, line 1: expected the columns of {before}, "
            f"{', '.join(map(repr, previous.column_names))}, found {', '.join(map(repr, table.column_names))}"
        )
    start, end = numbers(table[time]), numbers(previous[time]).max()
    if start.min() < end:
        raise UserError(
            f"{name}, line {start.argmin() + 2}, column {time!r}: expected a time not before "
            f"{end}, the last of {before}, found {start.min()}; list the files of dataset.source in "
            "params.yaml in time order, without overlap"
        )


def quality(table: pa.Table, sentinels: tuple[float, ...]) -> dict[str, Any]:
    """Return the report on a record whose first column holds its times.

    A gap is a step between neighbouring times, sorted and unique, that is nearer to two or more of
    the most common steps than to one; `missing` is how many rows would have filled it.
    """
    stamps = numbers(table[0])
    order = np.sort(stamps)
    unique = order[np.append(True, order[1:] != order[:-1])]
    interval = most_common(np.diff(unique).astype(np.int64))
    minutes = interval / 60 if interval else None
    return {
        "rows": table.num_rows,
        "first": str(unique[0]),
        "last": str(unique[-1]),
        "interval_minutes": int(minutes) if minutes and minutes.is_integer() else minutes,
        "duplicates": count_duplicates(table),
        "out_of_order": int((np.diff(stamps).astype(np.int64) < 0).sum()),
        "gaps": gaps(unique, interval) if interval else [],
        "columns": {name: column_quality(numbers(table[name]), sentinels) for name in table.column_names[1:]},
    }


def most_common(steps: np.ndarray) -> int | None:
    """Return the most common of `steps`, the smallest of several; None where there are none."""
    values, counts = np.unique(steps, return_counts=True)
    return int(values[counts.argmax()]) if len(values) else None


def gaps(unique: np.ndarray, interval: int) -> list[dict[str, Any]]:
    """Return where rows are missing between `unique`, sorted times that should be `interval` s apart."""
    missing = (np.diff(unique).astype(np.int64) + interval // 2) // interval - 1
    return [
        {"after": str(unique[i]), "until": str(unique[i + 1]), "missing": int(missing[i])}
        for i in np.flatnonzero(missing > 0)
    ]


def count_duplicates(table: pa.Table) -> int:
    """Return how many rows of `table` are equal in every column to an earlier one."""
    stamps = numbers(table[0])
    order = np.argsort(stamps, kind="stable")
    equal = stamps[order[1:]] == stamps[order[:-1]]
    candidates = order[np.append(equal, False) | np.append(False, equal)]  # the others differ in time
    columns = [numbers(table[i])[candidates].tolist() for i in range(1, table.num_columns)]
    rows = list(zip(stamps[candidates].tolist(), *columns, strict=True))
    return len(rows) - len(set(rows))


def column_quality(values: np.ndarray, sentinels: tuple[float, ...]) -> dict[str, Any]:
    """Return the count of sentinels in `values`, and minimum, maximum and mean of the others.

    None where there are no others, or their sum is beyond float64.
    """
    missing = np.zeros(len(values), bool)
    for sentinel in sentinels:
        missing |= values == sentinel
    count = int(missing.sum())
    kept = values[~missing] if count else values
    with np.errstate(over="ignore"):
        found = [float(f(kept)) if len(kept) else math.nan for f in (np.min, np.max, np.mean)]
    least, most, mean = (value if math.isfinite(value) else None for value in found)
    return {"sentinels": count, "min": least, "max": most, "mean": mean}


def parse() -> None:
    """Turn the raw CSV files into data/record.parquet and data/quality.json."""
    # Parquet has no seconds: the times come back from record.parquet as timestamp[ms].
    layout = checked_layout(params("dataset"))
    source, files = read_source(RAW)
    table = read_record(files, layout)
    report = {"source": source, **quality(table, layout.sentinels)}
    metadata = {"source": (RAW / "source.json").read_text(encoding="utf-8")}
    with whole(RECORD) as record, whole(QUALITY) as report_path:
        pq.write_table(table.replace_schema_metadata(metadata), record)
        text = json.dumps(report, indent=2, ensure_ascii=False)
        report_path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    command(parse)
