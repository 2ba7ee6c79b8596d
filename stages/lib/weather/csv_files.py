"""Reading CSV files of a weather record, exactly as csv.reader and float would; every error names its place.

A file in the plain layout goes straight through Arrow's reader. Any other, and one that Arrow refuses, is read as
texts, which are then parsed column by column.
"""

import codecs
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from stages.lib.errors import UserError
from stages.lib.settings.records import Record, is_strptime_format
from stages.lib.weather.archives import UnpackError, read_packed_csv
from stages.lib.weather.fields import describe_bad_number, describe_bad_time, parse_numbers
from stages.lib.weather.layout import (
    Body,
    check_each_line,
    check_names,
    find_bad_byte,
    name_columns,
    read_columns,
    split_file,
)
from stages.lib.weather.record import to_numpy
from stages.lib.weather.reshaping import (
    join_side_by_side,
    label_interval_end,
    pivot_to_columns,
    resample_to_grid,
)
from stages.lib.weather.times import TimeError, convert_to_utc, parse_strptime, parse_times
from stages.lib.weather.units import COMPASS, convert_unit, get_unit

FEW = 24  # rows of one time with different values that a file may hold, or one in a hundred


def read_bytes(path: Path, settings: Record) -> tuple[str, bytes]:
    """Return the name to show for the CSV at `path` (.csv, .zip or .gz) and its bytes; UserError if damaged."""
    try:
        return read_packed_csv(path, settings.entry, f"{settings.key}.entry in params.yaml")
    except (OSError, UnpackError) as error:
        ours = path.is_relative_to("data") and "raw" in path.parts  # not the file that `predict` reads
        ours &= not str(error).startswith("expected one")  # then it is whole, but holds something else
        hint = f"; fetch it again with `dvc repro -f download@{settings.key.split('.')[-1]}`" if ours else ""
        raise UserError(f"{path}: cannot be read ({error}){hint}") from None


class Rows(NamedTuple):
    """What a file holds; `lines` are where each row was found."""

    moments: np.ndarray  # (n,) datetime64[s]
    table: pa.Table  # the other columns, float64; NaN where nothing was measured
    lines: np.ndarray | range
    utc: bool = False  # whether the times are UTC by what the file says


def is_plain_layout(settings: Record) -> bool:
    """Tell whether Arrow alone can read the rows: one time that strptime reads, and plain numbers."""
    special = settings.pivot or settings.flags or COMPASS in settings.units.values()
    return not special and isinstance(settings.time, str) and is_strptime_format(settings.format)


def read_plain_rows(body: Body, columns: list[str], settings: Record) -> Rows:
    """Return the rows of `body`; ValueError where Arrow or strptime does not read one of them."""
    issue_column = [settings.issue_column] if settings.issue_column else []
    table = read_columns(body, columns, settings, [*settings.times, *issue_column])
    stamps, *issued = (
        to_numpy(parse_times(table[name].combine_chunks(), settings.format))
        for name in (settings.time, *issue_column)
    )
    table = table.drop_columns([*settings.times, *issue_column])
    if not all(pc.all(pc.is_finite(column), min_count=0).as_py() for column in table.columns):
        raise ValueError("a number is not finite")
    numbers = {name: pc.fill_null(table[name], np.nan) for name in table.column_names}
    times = {name: to_seconds(values) for name, values in zip(issue_column, issued, strict=True)}
    return Rows(stamps, pa.table(times | numbers), body.lines)


def to_seconds(moments: np.ndarray) -> pa.DoubleArray:
    """Return `moments` (n,) datetime64[s] as seconds since 1970, which is how a record holds times of issue."""
    return pa.array(moments.astype("M8[s]").astype(np.int64).astype(np.float64))


def read_text_rows(body: Body, columns: list[str], settings: Record, name: str) -> Rows:
    """Return the rows of `body`, the file `name`, whatever its layout; UserError names the first bad place."""
    try:
        table = read_columns(body, columns, settings, columns)
    except ValueError as error:  # Arrow's own ArrowInvalid is one too
        check_each_line(body, columns, settings, name)
        raise UserError(f"{name}: cannot be read as CSV: {error}") from None
    lines = np.asarray(body.lines)
    texts = {
        column: pc.utf8_trim(table[column].combine_chunks(), " \t") for column in dict.fromkeys(table.column_names)
    }
    sensors = np.array([], object)
    if pivot := settings.pivot:
        others = [column for column in texts if column not in (*settings.times, pivot.columns, pivot.values)]
        if others:
            raise UserError(
                f"{body.location}: expected only the columns of `time` and `pivot` ({settings.key} in "
                f"params.yaml), found also {', '.join(map(repr, others))}; name them in {settings.key}.leave_out"
            )
        sensors = np.array(texts.pop(pivot.columns).to_pylist(), object)
        included = ~np.isin(sensors, settings.leave_out)
        sensors, lines = sensors[included], lines[included]
        texts = {column: values.filter(pa.array(included)) for column, values in texts.items()}
    faults: list[tuple[int, int, str]] = []  # row, column, message
    moments, offsets, issue_offsets = np.array([], "M8[s]"), None, None
    written = join_times([texts[column] for column in settings.times])
    time_columns = " ".join(settings.times)
    try:
        moments, offsets = parse_strptime(written, settings.format)
    except TimeError as error:
        text = written[error.row].as_py()
        message = describe_bad_time(text, str(error), settings)
        faults.append((error.row, columns.index(settings.times[0]), f"column {time_columns!r}: {message}"))
    numbers = dict[str, pa.DoubleArray]()
    for column, values in texts.items():
        if column in settings.times:
            continue
        if column == settings.issue_column:
            try:
                issued, issue_offsets = parse_strptime(values, settings.format)
                numbers = {column: to_seconds(issued), **numbers}  # comes first, as in `read_plain_rows`
            except TimeError as error:
                message = describe_bad_time(values[error.row].as_py(), str(error), settings)
                faults.append((error.row, columns.index(column), f"column {column!r}: {message}"))
            continue
        numbers[column], bad = parse_numbers(values, column, settings, name)
        if (row := int(bad.argmax())) < len(bad) and bad[row]:
            message = describe_bad_number(values[row].as_py(), column, settings)
            of = f" of {sensors[row]!r}" if len(sensors) else ""
            faults.append((row, columns.index(column), f"column {column!r}{of}: {message}"))
    if faults:
        row, _, message = min(faults)
        fields = [values[row].as_py() for values in texts.values()]
        if row == 0 and len(faults) == len(texts) > 1 and all(fault[0] == 0 for fault in faults):
            listed = ", ".join(fields)[:80]
            raise UserError(
                f"{name}, line {lines[0]}: expected a row of numbers, found {listed!r}; if this line holds units, "
                f"set {settings.key}.header: 2 in params.yaml"
            )
        raise UserError(f"{name}, line {lines[row]}, {message}")
    if settings.issue_column and (offsets is None) != (issue_offsets is None):
        raise UserError(
            f"{name}, line {lines[0]}, column {settings.issue_column!r}: expected an offset from UTC in both times "
            f"of a row or in none, found {texts[settings.issue_column][0].as_py()!r} and {written[0].as_py()!r}"
        )
    if offsets is not None and settings.zone is None and (offsets != offsets[:1]).any():
        row = int((offsets != offsets[0]).argmax())
        raise UserError(
            f"{name}, line {lines[row]}, column {time_columns!r}: expected one offset from UTC, as in "
            f"{written[0].as_py()!r}, found {written[row].as_py()!r}; if the file changes to summer "
            f"time, set {settings.key}.zone: UTC in params.yaml"
        )
    if settings.pivot:
        if settings.zone and offsets is None:
            for sensor in dict.fromkeys(sensors):
                rows = np.flatnonzero(sensors == sensor)
                moments[rows] = apply_zone(moments[rows], lines[rows], settings, name, time_columns)
        moments, spread, first = pivot_to_columns(
            moments, sensors.astype(str), to_numpy(numbers[settings.pivot.values])
        )
        table = rename_pivoted_columns(spread, settings, name)
        return Rows(moments, table, lines[first], True)
    return Rows(moments, pa.table(numbers), lines, offsets is not None)


def join_times(columns: list[pa.StringArray]) -> pa.StringArray:
    """Return the texts of several time columns as one, a blank between each two."""
    return pc.binary_join_element_wise(*columns, " ") if len(columns) > 1 else columns[0]


def rename_pivoted_columns(columns: dict[str, np.ndarray], settings: Record, name: str) -> pa.Table:
    """Return the columns of a file with one value a line, renamed; UserError where one is missing."""
    all_names = [*columns, *settings.times, settings.pivot.columns, settings.pivot.values, *settings.leave_out]
    check_names(all_names, settings, f"{name}, column {settings.pivot.columns!r}")
    names = [settings.names.get(column, column) for column in columns]
    if not settings.side_by_side and settings.target is not None and settings.target not in names:
        raise UserError(
            f"{name}, column {settings.pivot.columns!r}: expected {settings.target!r} ({settings.key}.target in "
            f"params.yaml), found {', '.join(map(repr, names))}"
        )
    return pa.table(dict(zip(names, columns.values(), strict=True)))


def put_oldest_first(rows: Rows, name: str) -> Rows:
    """Return `rows` in time order where the file has the newest first; any other order stays as it is."""
    steps = np.diff(rows.moments).astype(np.int64)
    back = int((steps < 0).sum())
    if back < 2 or back <= (steps > 0).sum():
        return rows
    print(f"{name}: the newest row comes first; turned round")
    table = rows.table.take(pa.array(np.arange(len(steps), -1, -1)))
    return rows._replace(moments=rows.moments[::-1].copy(), table=table, lines=rows.lines[::-1])


def apply_zone(
    moments: np.ndarray, lines: np.ndarray | range, settings: Record, name: str, column: str
) -> np.ndarray:
    """Return local times as UTC; UserError names the line of one that the zone does not have, or has twice."""
    try:
        return convert_to_utc(moments, settings.zone)
    except TimeError as error:
        raise UserError(
            f"{name}, line {lines[error.row]}, column {column!r}: {error} "
            f"({settings.key}.zone in params.yaml); correct or drop the row"
        ) from None


def convert_units(table: pa.Table, settings: Record) -> pa.Table:
    """Return `table` with each column of settings.units in the unit of its name; sentinels stay as they are."""
    for column, unit in settings.units.items():
        if column in table.column_names:
            numbers = to_numpy(table[column])
            changed = convert_unit(numbers, unit, get_unit(column))
            changed = np.where(np.isin(numbers, settings.sentinels), numbers, changed)
            table = table.set_column(table.column_names.index(column), column, pa.array(changed))
    return table


def read_csv_file(path: Path, settings: Record) -> tuple[str, Rows, list[str]]:
    """Return the name to show for the CSV at `path`, its rows and its columns' own names.

    Raises UserError, which names the first bad place.
    """
    name, data = read_bytes(path, settings)
    try:
        if codecs.lookup(settings.encoding).name != "utf-8":
            data = data.decode(settings.encoding).encode()
        data = data.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
        body = split_file(data, name, settings)
        columns = name_columns(body, settings, not (settings.side_by_side or settings.pivot))
        if not body.data:
            line = body.first
            raise UserError(f"{name}, line {line}: expected rows after the header, found the end of the file")
        rows = None
        if is_plain_layout(settings):
            with contextlib.suppress(ValueError):  # Arrow's own ArrowInvalid is one too
                rows = read_plain_rows(body, columns, settings)
        rows = rows or read_text_rows(body, columns, settings, name)
    except UnicodeDecodeError:
        error = find_bad_byte(data, settings.encoding)
        line, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        raise UserError(
            f"{name}, line {line}: expected {settings.encoding} text, found byte 0x{byte:02x}; "
            f"set {settings.key}.encoding in params.yaml (cp1252 for the station's own yearly files)"
        ) from None
    if not settings.pivot and not settings.issue_column:
        rows = put_oldest_first(rows, name)
    if settings.zone and not rows.utc:
        rows = rows._replace(moments=apply_zone(rows.moments, rows.lines, settings, name, " ".join(settings.times)))
        if column := settings.issue_column:
            issued = apply_zone(get_issue_times(rows.table, column), rows.lines, settings, name, column)
            position = rows.table.column_names.index(column)
            rows = rows._replace(table=rows.table.set_column(position, column, to_seconds(issued)))
    rows = rows._replace(table=convert_units(rows.table, settings))
    return name, rows, body.columns


def check_time_order(table: pa.Table, name: str, lines: Sequence[int] | np.ndarray, many: bool = False) -> None:
    """Raise UserError unless the rows of `table`, found at `lines` of the file `name`, are in time order.

    Most times must be there once, unless `many` rows may share one. A block of rows that a logger wrote twice, and
    a few rows of one time, are let through, and counted later.
    """

    def fields(rows: np.ndarray) -> list[np.ndarray]:
        return [np.nan_to_num(to_numpy(column)[rows], nan=np.inf) for column in table.columns]  # NaN equals NaN

    stamps = to_numpy(table[0])
    column = f"column {table.column_names[0]!r}"
    latest = np.maximum.accumulate(stamps)
    back = np.flatnonzero(stamps < latest)
    before, seen = set(back.tolist()), set()
    rows = np.flatnonzero(np.isin(stamps, stamps[back]))
    for row, *values in zip(rows.tolist(), *fields(rows), strict=True):
        if row in before and tuple(values) not in seen:
            raise UserError(
                f"{name}, line {lines[row]}, {column}: expected a time not before {latest[row]} of an earlier row, "
                f"found {stamps[row]}; sort the rows by time; if an hour comes twice in autumn, use standard time, "
                "or name the time zone in `zone`"
            )
        seen.add(tuple(values))
    twice = np.flatnonzero(stamps[1:] == stamps[:-1]) + 1
    differing = twice[np.any([a != b for a, b in zip(fields(twice), fields(twice - 1), strict=True)], axis=0)]
    if not many and len(differing) > max(FEW, len(stamps) // 100):
        raise UserError(
            f"{name}, line {lines[differing[0]]}, {column}: expected one row per time, found "
            f"{stamps[differing[0]]} again with other values, and {len(differing) - 1:,} more such rows; "
            "are two stations in one file?"
        )


def to_record_table(rows: Rows, name: str, settings: Record) -> pa.Table:
    """Return `rows` of the file `name` as a table: times as timestamp[s], then the columns.

    Irregular rows are put on their grid. Raises UserError where the rows are not in time order, or a forecast was
    issued after its valid time.
    """
    time = " ".join(settings.times)

    def make_table(moments: np.ndarray, columns: dict[str, Any]) -> pa.Table:
        return pa.table({time: pa.array(moments.astype("M8[s]")), **columns})

    columns = {column: rows.table[column] for column in rows.table.column_names}
    table = make_table(rows.moments, columns)
    if not settings.issue_column:  # `read_csv_files` sorts forecasts
        check_time_order(table, name, rows.lines, many=settings.resample is not None)
    if not settings.resample:
        if settings.label == "start":
            table = make_table(label_interval_end(rows.moments), columns)
        if settings.issue_column:
            check_issue_times(table, name, rows.lines, settings)
        return table
    minutes, by = settings.resample.minutes, settings.resample.by
    arrays = {column: to_numpy(values) for column, values in columns.items()}
    bits = [rows.moments.view(np.int64), *(values.view(np.int64) for values in arrays.values())]
    first = np.sort(np.unique(np.column_stack(bits), axis=0, return_index=True)[1])  # without rows written twice
    arrays = {column: values[first] for column, values in arrays.items()}
    points, arrays = resample_to_grid(rows.moments[first], arrays, minutes, by, settings.sentinels)
    print(f"{name}: {len(rows.moments):,} rows put on {len(points):,} points every {minutes:g} minutes, by {by}")
    return make_table(points, {column: pa.array(values) for column, values in arrays.items()})


def read_csv_files(files: list[Path], settings: Record, key: str = "records") -> pa.Table:
    """Return the rows of all `files`, whose settings are at `key` of params.yaml, as one table.

    The files follow one another in time. With settings.side_by_side, only those with equal columns do, and the
    others are joined by time. Raises UserError where they do not fit together.
    """
    settings = settings.model_copy()
    settings._key = key
    tables: dict[tuple[str, ...], list[pa.Table]] = {}  # by their columns
    names: dict[tuple[str, ...], str] = {}
    raw = set[str]()
    for path in files:
        name, rows, columns = read_csv_file(path, settings)
        table = to_record_table(rows, name, settings)
        raw.update(columns)
        group = tuple(table.column_names) if settings.side_by_side or not tables else next(iter(tables))
        if group in tables:
            check_columns(name, table, names[group], tables[group][-1], settings)
            check_file_order(name, table, names[group], tables[group][-1], settings)
        tables.setdefault(group, []).append(table)
        names[group] = name
    groups = [pa.concat_tables(group).combine_chunks() for group in tables.values()]
    if settings.issue_column:
        return sort_by_issue(groups[0], settings)
    return join_tables(groups, list(names.values()), sorted(raw), settings) if settings.side_by_side else groups[0]


def join_tables(tables: list[pa.Table], names: list[str], columns: list[str], settings: Record) -> pa.Table:
    """Return `tables` joined by time; UserError where they cannot be.

    `names` are those of each table's last file, `columns` the columns of all files before renaming.
    """
    location = " and ".join(names)
    check_names(columns, settings, location)
    joined_columns = [column for table in tables for column in table.column_names[1:]]
    if twice := sorted({column for column in joined_columns if joined_columns.count(column) > 1}):
        raise UserError(
            f"{location}: expected each column in one file only, found {twice[0]!r} in several; "
            f"name it in {settings.key}.leave_out of params.yaml"
        )
    if settings.target is not None and settings.target not in joined_columns:
        raise UserError(
            f"{location}: expected the column {settings.target!r} ({settings.key}.target in params.yaml), found "
            f"{', '.join(map(repr, joined_columns))}"
        )
    records = [
        (to_numpy(table[0]), {column: to_numpy(table[column]) for column in table.column_names[1:]})
        for table in tables
    ]
    for name, (times, _) in zip(names[1:], records[1:], strict=True):
        if not np.isin(times, records[0][0]).any():
            raise UserError(
                f"{name}: expected times that {names[0]} has too, found none in common: {records[0][0][0]} to "
                f"{records[0][0][-1]} there, {times[0]} to {times[-1]} here"
            )
    moments, joined, lost = join_side_by_side(records)
    if lost:
        print(f"{location}: {lost:,} rows of a time that an earlier row has, left out")
    return pa.table({tables[0].column_names[0]: pa.array(moments), **joined})


def get_issue_times(table: pa.Table, column: str) -> np.ndarray:
    """Return the times of issue (n,) datetime64[s] of a record of forecasts."""
    return to_numpy(table[column]).astype("M8[s]")


def check_issue_times(table: pa.Table, name: str, lines: Sequence[int] | np.ndarray, settings: Record) -> None:
    """Raise UserError if a row of `table`, found at `lines` of the file `name`, was issued after its valid time."""
    valid, issued = to_numpy(table[0]), get_issue_times(table, settings.issue_column)
    if (late := issued > valid).any():
        row = int(late.argmax())
        raise UserError(
            f"{name}, line {lines[row]}, column {settings.issue_column!r}: expected a forecast issued before its "
            f"own time, {valid[row]}, found one issued at {issued[row]}; do {settings.key}.time and "
            f"{settings.key}.issued in params.yaml name the right columns?"
        )


def sort_by_issue(table: pa.Table, settings: Record) -> pa.Table:
    """Return the rows of a record of forecasts in the order of their valid times, then of their times of issue."""
    order = np.lexsort([get_issue_times(table, settings.issue_column), to_numpy(table[0])])
    return table.take(pa.array(order))


def check_columns(name: str, table: pa.Table, before: str, previous: pa.Table, settings: Record) -> None:
    """Raise UserError unless `table` has the columns of `previous`."""
    if table.column_names != previous.column_names:
        raise UserError(
            f"{name}, line {settings.skiprows + 1}: expected the columns of {before}, "
            f"{', '.join(map(repr, previous.column_names))}, found {', '.join(map(repr, table.column_names))}; if "
            f"they lie side by side in time: {settings.key}.side_by_side: true in params.yaml"
        )


def check_file_order(name: str, table: pa.Table, before: str, previous: pa.Table, settings: Record) -> None:
    """Raise UserError unless `table` has only times from the last one of `previous` on; forecasts may overlap."""
    if settings.issue_column:
        return
    start, end = to_numpy(table[0]), to_numpy(previous[0]).max()
    if start.min() < end:
        raise UserError(
            f"{name}, line {start.argmin() + settings.skiprows + 2}, column {table.column_names[0]!r}: expected a "
            f"time not before {end}, the last of {before}, found {start.min()}; "
            f"list the files of {settings.key}.source in params.yaml in time order, without overlap"
        )
