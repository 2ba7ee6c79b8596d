"""`./run describe FILE`: the section of params.yaml for a file of weather data, as far as it can be guessed.

No stage: DVC does not know of it. What it prints was tried: the code that makes the
training data has read the file by it.
"""

import contextlib
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa

from stages.lib.errors import UserError
from stages.lib.files import check_is_file, resolve_path
from stages.lib.params import load_params
from stages.lib.settings.base import validate_settings
from stages.lib.settings.clean import Clean
from stages.lib.settings.records import Record
from stages.lib.settings.source import LatestSource
from stages.lib.weather.archives import UnpackError, read_packed_csv
from stages.lib.weather.cleaning import find_check
from stages.lib.weather.csv_files import read_csv_files
from stages.lib.weather.guesses import (
    METEOSTAT,
    NUMBER,
    SAMPLE,
    UNIT_WORDS,
    guess_columns,
    guess_encoding,
    guess_separator,
    guess_time,
    guess_zone,
    is_header,
    parse_plausible_times,
    rate_times,
    split_line,
)
from stages.lib.weather.quality import assess_quality, describe_quality
from stages.lib.weather.times import TimeError, parse_strptime

WIND = {"speed": "wv (m/s)", "direction": "wd (deg)"}  # becomes a vector
KEY = "records.station"  # where params.yaml has the settings; the name is to be replaced
NAMES = {"entity_id", "parameter", "variable", "sensor", "element", "datatype", "quantity", "measurement"}
VALUES = {"state", "value", "wert", "reading", "measurement_value"}
COMMENT = re.compile(r"[#!%]")
ISSUED = re.compile(r"issue|init|reference|base.?time|\brun|_run", re.I)  # in the name of a column of issue times
Settings = dict[str, Any]


def describe(
    file: Annotated[str, "the file: .csv, .txt, .zip or .gz"],
    entry: Annotated[str, "of a .zip with several tables, the name or pattern of one"] = "",
) -> None:
    """Print the section of params.yaml that reads FILE, with questions where the file leaves something open."""
    path = resolve_path(file)
    check_is_file(path)
    try:
        _, data = read_packed_csv(path, entry or None, "--entry")
    except (OSError, UnpackError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    settings, remarks = guess_settings(data, str(path))
    if entry:
        settings["entry"] = entry
    summary = try_settings(path, settings, remarks)
    print(format_record_section({"source": str(path), **settings}, remarks, summary))


def guess_settings(data: bytes, name: str) -> tuple[Settings, dict[str, str]]:
    """Return the settings for a file's bytes, and remarks on them; UserError where it holds no table with times."""
    encoding = guess_encoding(data)
    text = data.decode(encoding).removeprefix("\ufeff")
    lines = text.rstrip().splitlines()
    numbers = [number for number, line in enumerate(lines) if line.strip() and not COMMENT.match(line)]
    if not numbers:
        raise UserError(f"{name}: expected rows of measurements, found none")
    quarter = len(numbers) // 4  # a header and a trailer lie outside the middle half
    middle = numbers[quarter : len(numbers) - quarter][:SAMPLE]
    separator, width = guess_separator([lines[number] for number in middle])
    sample = [row for number in middle if len(row := split_line(lines[number], separator)) == width]
    time = guess_time(sample) if sample else None
    if time is None:
        raise UserError(f"{name}: expected a table with a time in every row, found no column of times")
    positions, format = time
    remarks: dict[str, str] = {}

    def holds_time(number: int) -> bool:
        fields = split_line(lines[number], separator)
        if len(fields) != width:
            return False
        try:
            parse_strptime(pa.array([" ".join(fields[position] for position in positions)]), format)
        except (TimeError, ValueError, OverflowError):
            return False
        return True

    first = next(number for number in numbers if holds_time(number))
    last = next(number for number in reversed(numbers) if holds_time(number))
    settings: Settings = {"time": "", "format": format, "encoding": encoding, "separator": separator}
    header, layout = guess_header(lines, first, separator, width)
    settings |= layout
    if not header:
        header = METEOSTAT if width == len(METEOSTAT) else [f"column {n + 1}" for n in range(width)]
        settings["header"] = header
        remarks["header"] = "the file has no header: " + (
            "are these the columns, as in Meteostat's files?" if header is METEOSTAT else "write the columns' names"
        )
    inside = [number for number in range(first, last + 1) if COMMENT.match(lines[number])]
    trailer = [line for line in lines[last + 1 :] if line.strip()]
    if comments := guess_comments([lines[n] for n in inside], trailer, lines[first : last + 1], separator):
        settings["comment"] = sorted({*settings.get("comment", []), *comments})
    rows = [split_line(lines[n], separator) for n in numbers if first <= n <= last][: 20 * SAMPLE]
    rows = [row for row in rows if len(row) == width]
    names = [header[position] for position in positions]
    settings["time"] = names if len(names) > 1 else names[0]
    texts = {column: [row[n] for row in rows] for n, column in enumerate(header) if n not in positions}
    decimal = guess_decimal(texts, separator)
    settings["decimal"] = decimal
    first_column = {names[0]: [row[positions[0]] for row in rows]}
    if len(names) == 1 and (pair := find_issue_column(first_column | texts, format)):
        settings["time"], settings["issued"] = pair
        positions = [header.index(pair[0])]
        texts = {column: [row[n] for row in rows] for n, column in enumerate(header) if column not in pair}
        remarks["issued"] = "is this when a forecast was issued? For measurements: null"
    written = [" ".join(row[position] for position in positions) for row in rows]
    settings |= guess_zone_setting(written, format, " ".join(names), text[:2000], remarks)
    settings |= guess_pivot(texts, header, width)
    if pivot := settings.get("pivot"):
        sensors = texts[pivot["columns"]]
        others = [column for column in texts if column not in pivot.values()]
        texts = {
            sensor: [value for value, s in zip(texts[pivot["values"]], sensors, strict=True) if s == sensor]
            for sensor in dict.fromkeys(sensors)
        }
        times = parse_plausible_times(written, format)
        sensor_names = np.array(sensors)
        regular = [rate_times(times[sensor_names == sensor]) for sensor in texts] if times is not None else [1.0]
    else:
        others = []
        times = parse_plausible_times(written, format)
        regular = [rate_times(np.sort(times))] if times is not None else [1.0]
    guess = guess_columns(texts, dict.fromkeys(("wspd", "wpgt"), "km/h") if header is METEOSTAT else {})
    settings |= guess.settings
    new_names = {name: new if isinstance(new, str) else new[0] for name, new in settings["rename"].items()}
    if {new_names.get(column, column) for column in texts} >= set(WIND.values()):
        settings["wind"] = WIND
    settings["leave_out"] = [*others, *settings["leave_out"]]
    remarks |= guess.remarks
    if min(regular) < 0.5 and "issued" not in settings:
        settings["resample"] = {"minutes": 60, "by": "mean"}
        remarks["resample"] = "times are irregular: which interval?"
    return settings, remarks


def guess_header(lines: list[str], first: int, separator: str, width: int) -> tuple[list[str], Settings]:
    """Return the columns' names above row `first` of `lines`, [] without any, and the settings that find them."""
    above = [number for number in range(first) if lines[number].strip()]
    candidates = []
    for number in above:
        bare = re.sub(rf"^{COMMENT.pattern}+", "", lines[number]).strip() if separator != " " else lines[number]
        if is_header(split_line(bare, separator), width):
            candidates.append((number, split_line(bare, separator)))
    if not candidates:
        return [], {"skiprows": first} if first else {}
    number, names = candidates[-1]
    settings: Settings = {}
    if len(candidates) > 1 and candidates[-2][0] == number - 1:
        units = sum(name.strip("#").lower() in UNIT_WORDS for name in names)
        if units * 2 >= sum(bool(name) for name in names) - 5 and units > 1:
            names = [" ".join(pair).strip() for pair in zip(candidates[-2][1], names, strict=True)]
            number, settings["header"] = number - 1, 2
    before = [lines[n] for n in above if n < number]
    marks = {line[0] for line in before if COMMENT.match(line)}
    commented = bool(before) and len(marks) == 1 and all(line.startswith(tuple(marks)) for line in before)
    is_comment = bool(COMMENT.match(lines[number]))
    after = [lines[n] for n in above if n > number + settings.get("header", 1) - 1]
    if commented and not is_comment and all(line.strip() for line in lines[:number]):
        settings["comment"] = sorted(marks)
    elif number:
        settings["skiprows"] = number
        if is_comment and settings.get("header") != 2:
            settings["comment"] = [lines[number][0]]
    elif is_comment and separator != " ":
        names = split_line(lines[number], separator)
    if after and (more := {line[0] for line in after if COMMENT.match(line)}):
        settings["comment"] = sorted({*settings.get("comment", []), *more})
    return names, settings


def find_issue_column(columns: dict[str, list[str]], format: str) -> tuple[str, str] | None:
    """Return the columns with the valid times and with the issue times; None unless there are two columns of times.

    `columns` has the texts by column, the column of times first.
    """
    times = [column for column, texts in columns.items() if parse_plausible_times(texts, format) is not None]
    issued = [column for column in times if ISSUED.search(column)]
    valid = [column for column in times if column not in issued]
    return (valid[0], issued[0]) if issued and valid else None


def guess_comments(inside: list[str], trailer: list[str], rows: list[str], separator: str) -> list[str]:
    """Return beginnings of the lines `inside` and after the table that none of its `rows` has."""
    beginnings = [line[0] for line in inside]
    for line in trailer:
        start = re.split(rf"[{re.escape(separator)}\s]", line)[0] or line[:3]
        beginnings.append(start)
    return [start for start in dict.fromkeys(beginnings) if start in {*beginnings[: len(inside)]} or not any(
        row.startswith(start) for row in rows
    )]  # fmt: skip


def guess_decimal(columns: dict[str, list[str]], separator: str) -> str:
    """Return "," where numbers have decimal commas, and none has a point."""
    counts = Counter[str]()
    for texts in columns.values():
        for text in texts:
            if NUMBER.fullmatch(text):
                counts.update(mark for mark in ".," if mark in text)
    return "," if separator != "," and counts[","] > counts["."] else "."


def guess_zone_setting(texts: list[str], format: str, names: str, head: str, remarks: dict[str, str]) -> Settings:
    """Return the `zone`, where the times need one, and ask for what they do not tell."""
    try:
        times, offsets = parse_strptime(pa.array(texts), format)
    except TimeError:  # in a damaged row, which `try_settings` names
        return {}
    if offsets is not None:
        changing = bool((offsets != offsets[0]).any())
        return {"zone": "UTC"} if changing else {}
    zone, remark = guess_zone(times, head)
    if zone is None:
        if not re.search(r"\b(UTC|GMT|LST)\b", names):
            remarks["time"] = "UTC, or the station's standard time? For local time with summer time, set `zone`"
        return {}
    remarks["zone"] = remark
    return {"zone": zone}


def guess_pivot(columns: dict[str, list[str]], header: list[str], width: int) -> Settings:
    """Return the setting `pivot` where each row holds one value and its name."""
    names = [column for column in columns if column.lower() in NAMES and len(set(columns[column])) < 100]
    values = [column for column in columns if column.lower() in VALUES]
    return {"pivot": {"columns": names[0], "values": values[0]}} if names and values else {}


def try_settings(path: Path, settings: Settings, remarks: dict[str, str]) -> list[str]:
    """Read `path` by `settings`; return what is to be said about the record, or about why it cannot be read."""
    notes = io.StringIO()
    try:
        record = validate_settings(Record, settings, KEY)
        with contextlib.redirect_stdout(notes):
            table = read_csv_files([path], record, KEY)
    except UserError as error:
        return [f"Not read yet: {line}" for line in str(error).splitlines()]
    report = assess_quality(table, record.sentinels)
    printed = notes.getvalue().splitlines()
    interval = report["interval_minutes"]
    summary = [f"a row every {interval:g} minutes" if interval else "one row"]
    quality = describe_quality(report, path).splitlines()[0].rsplit("; all of it", 1)[0]
    checks: dict[str, list[str]] = {}
    clean = validate_settings(Clean, load_params()["clean"], "clean")
    for column in [name for name in table.column_names[1:] if name != record.issue_column]:
        check = find_check(column, clean.checks)
        name = next((name for name, other in clean.checks.items() if other is check), "none")
        checks.setdefault(name, []).append(column)
    lines = [quality, *summary, *printed]
    lines += [f"clean.checks.{name}: {', '.join(columns)}" for name, columns in checks.items() if name != "none"]
    if columns := checks.get("none"):
        lines.append(f"no check in clean.checks: {', '.join(columns)}; add one with its limits")
    return lines


def format_record_section(settings: Settings, remarks: dict[str, str], summary: list[str]) -> str:
    """Return `settings`, with the defaults of all others, as a section of params.yaml.

    `remarks` stand behind the settings, `summary` above them, as comments.
    """
    values: Settings = {"source": settings["source"], "size": None, "sha256": None}
    for key, field in Record.model_fields.items():
        values[key] = settings.get(key, field.get_default(call_default_factory=True))
    values |= dict.fromkeys(LatestSource.model_fields)
    section, name = KEY.split(".")
    lines = [f"# {line}" for line in summary] + [f"{section}:", f"  {name}:"]
    for key, value in values.items():
        lines.append(f"    {key}: {format_yaml(value)}" + (f"  # {remarks[key]}" if key in remarks else ""))
    return "\n".join(lines)


def format_yaml(value: Any) -> str:
    """Return `value` as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{format_yaml(key)}: {format_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(format_yaml, value)) + "]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./() ℃°²%-]*[\w)%]|[A-Za-z]", value)
    if plain and value.lower() not in ("null", "true", "false", "yes", "no", "on", "off", "y", "n", "none"):
        return value
    return json.dumps(value, ensure_ascii=False)
