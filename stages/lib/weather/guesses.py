"""What can be told about a file of weather data by looking at it: its layout, its columns and their units."""

import contextlib
import csv
import math
import re
from collections import Counter
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stages.lib.settings.records import ISO
from stages.lib.weather.times import TimeError, parse_strptime
from stages.lib.weather.units import COMPASS, POINTS, find_conversion, get_unit

SAMPLE = 2000  # rows that guesses are made from
SEPARATORS = ("\t", ";", ",", "|", " ")
DATES = ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%y", "%m/%d/%y", "%d-%m-%Y")
CLOCKS = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p", "%H%M", "%H")
JOINTS = (" ", "T", "", ":")  # between date and clock
MISSING = {"", "-", "--", "---", "*", "/", "NA", "N/A", "NaN", "nan", "null", "None", "M", "MM", "T", "VRB"}
MISSING |= {"unavailable", "unknown", "missing", "Missing", "9999.9"} - {"9999.9"}
SENTINELS = (-9999.0, -999.0, -99.9, -999.9, -99.99, 9999.0, 999.9)
NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
FLAGGED = re.compile(rf"({NUMBER.pattern})[ \t]*([^\d\s.,eE+:-]{{1,2}})")
LEFT_OUT = re.compile(
    r"(station|stn|id|no|number|name)|.*(_id|flag|quality|qn_?\d*)|eor|usunits|interval|year|month|day|hour\b.*|coco",
    re.I,
)
PARTS = {"%Y": (1900, 2100), "%m": (1, 12), "%d": (1, 31), "%H": (0, 24)}
METEOSTAT = ["date", "hour", "temp", "dwpt", "rhum", "prcp", "snow", "wdir", "wspd", "wpgt", "pres", "tsun", "coco"]
QUANTITIES = {  # name here: what names elsewhere look like
    "Tdew (degC)": r"dew|dwp|taupunkt|^td$",
    "rh (%)": r"hum|^rh|relh|^rf_|^u$|feuchte",
    "p (mbar)": r"pres|baro|druck|^p$|^ps$|mslp|^slp",
    "max. wv (m/s)": r"gust|böe|wpgt|^fx",
    "wd (deg)": r"wind.?dir|wdir|drct|richtung|^dd?$|^wd\d*|direction",
    "wv (m/s)": r"wind|wspd|sknt|^ff?$|^fh$|^ws\d|^wv",
    "rain (mm)": r"precip|rain|prcp|p01|niederschlag|regen|^rr",
    "SWDR (W/m2)": r"radiation|solar|ghi|swdr|strahlung",
    "T (degC)": r"temp|^tt_|^t$|^t2m|tmp|luft",
}
UNIT_WORDS = {"degc": "degC", "degt": "deg", "deg": "deg", "°": "deg", "º": "deg", "℃": "degC", "°c": "degC"}
UNIT_WORDS |= {"℉": "degF", "°f": "degF", "degf": "degF", "f": "degF", "c": "degC", "k": "K", "in hg": "inHg"}
UNIT_WORDS |= {"inhg": "inHg", "hpa": "hPa", "kpa": "kPa", "pa": "Pa", "mbar": "mbar", "mb": "mbar", "mmhg": "mmHg"}
UNIT_WORDS |= {"km/h": "km/h", "kmh": "km/h", "mph": "mph", "kt": "knots", "kn": "knots", "knots": "knots"}
UNIT_WORDS |= {"m/s": "m/s", "%": "%", "mm": "mm", "in": "in", "w/m2": "W/m2", "w/m²": "W/m2", "10s deg": "10 deg"}


class Guess(NamedTuple):
    """Settings of a record, and remarks: what a person should look at."""

    settings: dict[str, Any]
    remarks: dict[str, str]  # by setting


def split_line(line: str, separator: str) -> list[str]:
    """Return the fields of `line`; a line that is no CSV is one field."""
    if separator == " ":
        return line.split()
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:  # such as a field of more than 131,072 characters
        return [line]


def guess_encoding(data: bytes) -> str:
    """Return the first of a few encodings in which `data` is text; latin-1 takes any."""
    first = ["utf-16"] if data[:2] in (b"\xff\xfe", b"\xfe\xff") else []
    for encoding in (*first, "utf-8", "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            data.decode(encoding)
            return encoding
    return "latin-1"


def guess_separator(lines: list[str]) -> tuple[str, int]:
    """Return the separator that splits most `lines` into equally many fields, and how many those are."""
    best, score = (",", 1), 0.0
    for separator in SEPARATORS:
        counts = Counter(len(split_line(line, separator)) for line in lines)
        (width, times), *_ = counts.most_common(1)
        if width > 1 and times / len(lines) > max(score + 0.2, 0.5):
            best, score = (separator, width), times / len(lines)
    return best


def parse_plausible_times(texts: list[str], format: str) -> np.ndarray | None:
    """Return `texts` read as times of `format`, or None where they are none of the last two centuries."""
    try:
        times, _ = parse_strptime(pa.array(texts, pa.string()), format)
    except (TimeError, ValueError, OverflowError):
        return None
    years = times.astype("M8[Y]").astype(int) + 1970
    return times if len(times) and years.min() > 1800 and years.max() < 2100 else None


def rate_times(times: np.ndarray) -> float:
    """Return how much `times` look like those of a record: the share of steps that are the most common one."""
    steps = np.abs(np.diff(times).astype(np.int64))
    if not len(steps) or not steps.any():
        return 0.0
    values, counts = np.unique(steps[steps > 0], return_counts=True)
    one_way = max((np.diff(times).astype(np.int64) >= 0).mean(), (np.diff(times).astype(np.int64) <= 0).mean())
    return float(counts.max() / len(steps) * one_way * (1 if values[counts.argmax()] < 86400 * 32 else 0.1))


def guess_time(rows: list[list[str]]) -> tuple[list[int], str] | None:
    """Return the positions of the time columns in `rows` and the times' format; None where there are none."""
    columns = list(zip(*rows, strict=True))
    best: tuple[float, list[int], str] | None = None

    def consider(positions: list[int], format: str, bonus: float) -> None:
        nonlocal best
        texts = [" ".join(row[position] for position in positions) for row in rows]
        if parse_plausible_times(texts[:1], format) is None:
            return
        if (times := parse_plausible_times(texts, format)) is None:
            return
        score = bonus + rate_times(times)
        if best is None or score > best[0] + 1e-9:
            best = score, positions, format

    first = [column[0] for column in columns]
    for position, text in enumerate(first):
        digits = len(re.sub(r"\D", "", text))
        if re.fullmatch(r"\d{9,10}", text) and parse_plausible_times([text], "%Y%m%d%H") is None:
            consider([position], "epoch", 3)
        if re.fullmatch(r"\d{12,13}", text):
            consider([position], "epoch_ms", 3)
        if digits >= 8 and re.search(r"Z$|[+-]\d\d:?\d\d$", text) and ":" in text:
            consider([position], ISO, 3)
        if digits >= 8:
            for day in DATES:
                for joint in JOINTS:
                    for clock in CLOCKS:
                        if joint != "" or (day == "%Y%m%d" and len(text) == {"%H": 10, "%H%M": 12}.get(clock)):
                            consider([position], day + joint + clock, 2)
            if "." in text and ":" in text:
                consider([position], ISO, 1.9)
        if digits in (6, 7, 8):
            for day in DATES:
                if parse_plausible_times(list(columns[position][:3]), day) is None:
                    continue
                consider([position], day, 0)
                for other, clock_text in enumerate(first):
                    for clock in CLOCKS if other != position and re.fullmatch(r"\d{1,4}.*", clock_text) else ():
                        if clock == "%H" and other != position + 1:
                            continue
                        consider([position, other], f"{day} {clock}", 1.5)
    for position in range(len(first) - 3):
        quartet = list(range(position, position + 4))
        formats = list(PARTS)
        if all(
            all(re.fullmatch(r"\d{1,4}", text) and low <= int(text) <= high for text in columns[column])
            for column, (low, high) in zip(quartet, PARTS.values(), strict=True)
        ):
            consider(quartet, " ".join(formats), 1)
            minute = position + 4
            if minute < len(first) and all(
                re.fullmatch(r"\d\d", text) and int(text) < 60 for text in columns[minute]
            ):
                consider([*quartet, minute], " ".join([*formats, "%M"]), 1.01)
    return best and (best[1], best[2])


def is_header(fields: list[str], width: int) -> bool:
    """Tell whether `fields` may be names of `width` columns."""
    numeric = sum(bool(NUMBER.fullmatch(field)) for field in fields)
    return len(fields) == width and numeric == 0


def find_unit(name: str) -> str | None:
    """Return the unit that a column's name carries in brackets, after a dash, or as a letter at its end."""
    for pattern in (r"[(\[]\s*([^()\[\]]+?)\s*[)\]]\s*$", r" - ([^-]+)$", r"\s(\S+)$"):
        if (match := re.search(pattern, name)) and (unit := UNIT_WORDS.get(match[1].lower())):
            return unit
    if re.fullmatch(r"(tmp|dwp|temp|.*_)f", name, re.I):
        return "degF"
    return "knots" if name.lower() == "sknt" else "in" if name.lower() == "p01i" else None


def to_number(text: str) -> float:
    match = FLAGGED.fullmatch(text)
    text = match[1] if match else text
    return float(text.replace(",", ".")) if NUMBER.fullmatch(text) else math.nan


def guess_unit(quantity: str, numbers: np.ndarray, american: bool, tenths: bool) -> str | None:
    """Return the unit that `numbers` of a `quantity`, as its name here, seem to have; None where nothing tells."""
    middle, top = float(np.median(numbers)), float(numbers.max())
    whole = bool((numbers % 1 == 0).all())
    if quantity == "p (mbar)":
        for low, high, unit in (
            (20, 33, "inHg"), (50, 110, "kPa"), (500, 1100, "mbar"), (5000, 11000, "0.1 mbar"), (5e4, 1.1e5, "Pa"),
        ):  # fmt: skip
            if low < middle < high:
                return unit
    if quantity in ("T (degC)", "Tdew (degC)"):
        if tenths and whole:
            return "0.1 degC"
        return "K" if middle > 200 else "degF" if american or middle > 45 else "degC"
    if quantity == "rh (%)":
        return "fraction" if top <= 1.01 else "%"
    if quantity == "wd (deg)":
        return "10 deg" if top <= 36 else "deg"
    if quantity in ("wv (m/s)", "max. wv (m/s)"):
        return "mph" if american else "0.1 m/s" if tenths and whole and top > 20 else None
    return "in" if quantity == "rain (mm)" and american else None


def guess_zone(times: np.ndarray, text: str) -> tuple[str | None, str]:
    """Return the zone of local `times` in file order that step back an hour in autumn, and a remark."""
    if match := re.search(r"\b(Africa|America|Asia|Atlantic|Australia|Europe|Pacific)/[A-Z]\w+", text):
        named = match[0]
    else:
        named = None
    steps = np.diff(times).astype(np.int64)
    if (steps < 0).sum() > (steps > 0).sum():
        steps, times = -steps[::-1], times[::-1]
    for row in np.flatnonzero((steps <= 0) & (steps > -2 * 3600)):
        day = times[row].astype("M8[D]").astype(date)
        if day.weekday() == 6 and (day.month, day.day > 24) in ((10, True), (11, False)):
            zone = named or ("Europe/Berlin" if day.month == 10 else "America/New_York")
            return zone, f"an hour comes twice on {day}: is this the station's time zone?"
    return None, ""


class Column(NamedTuple):
    """What the texts of a column are."""

    numbers: np.ndarray  # those of its numbers that are measured
    missing: set[str]
    flags: set[str]
    sentinels: set[float]
    compass: bool
    text: str | None  # one that is no number, where it is no number column


def inspect_column(texts: list[str]) -> Column:
    counts = Counter(texts)
    missing = {text for text in counts if text in MISSING}
    rest = {text: times for text, times in counts.items() if text not in MISSING}
    if rest and all(text.upper() in POINTS for text in rest) and not all(map(is_number, rest)):
        return Column(np.array([]), missing, set(), set(), True, None)
    values = {text: to_number(text) for text in rest}
    strays = [text for text, value in values.items() if math.isnan(value)]
    if strays or not rest:
        return Column(np.array([]), missing, set(), set(), False, strays[0] if strays else "")
    flags = {match[4] for text in rest if (match := FLAGGED.fullmatch(text))}
    numbers = np.array([values[text] for text in texts if text in rest])
    common = numbers[~np.isin(numbers, SENTINELS)]
    low, high = (common.min(), common.max()) if len(common) else (0, 0)
    far = (numbers < 2 * low - high) | (numbers > 2 * high - low)  # 999.9 may be a pressure
    sentinels = set(numbers[far & np.isin(numbers, SENTINELS)].tolist())
    numbers = numbers[~np.isin(numbers, list(sentinels))]
    return Column(numbers, missing, flags, sentinels, False, None if len(numbers) else "")


def is_number(text: str) -> bool:
    return not math.isnan(to_number(text))


def guess_columns(columns: dict[str, list[str]], units: dict[str, str]) -> Guess:
    """Return `rename`, `leave_out`, `missing`, `flags`, `sentinels` and `target` for `columns` of texts by name.

    `units` are those of columns whose units are known.
    """
    looks = {name: inspect_column(texts) for name, texts in columns.items()}
    american = any(name.lower() == "usunits" and set(texts) == {"1"} for name, texts in columns.items())
    rename: dict[str, Any] = {}
    leave_out, remarks = [], {}
    missing, flags, sentinels = set[str](), set[str](), set[float]()
    quantities: dict[str, str] = {}  # column: quantity
    for name, look in looks.items():
        bare = re.sub(r"^Hourly", "", name)
        constant = look.text is None and not look.compass and len(set(look.numbers)) < 2 < len(columns[name])
        fits = [quantity for quantity, words in QUANTITIES.items() if re.search(words, bare, re.I)]
        if name in QUANTITIES:
            fits = [name]
        elif fits and fits[0] in columns:
            fits = []
        if look.text is not None or LEFT_OUT.fullmatch(bare) or (constant and not fits):
            leave_out.append(name)
            continue
        missing |= look.missing
        flags |= look.flags
        sentinels |= look.sentinels
        if fits and fits[0] not in quantities.values():
            quantities[name] = fits[0]
    pressures = [looks[name].numbers for name, quantity in quantities.items() if quantity == "p (mbar)"]
    middle = float(np.median(pressures[0])) if pressures and len(pressures[0]) else 1000
    american, tenths = american or 20 < middle < 33, 5000 < middle < 11000
    unsure = []
    for name, quantity in quantities.items():
        look = looks[name]
        unit = COMPASS if look.compass else units.get(name) or find_unit(name)
        if unit is None and len(look.numbers):
            unit = guess_unit(quantity, look.numbers, american and not find_unit(name), tenths)
            unsure += [] if quantity in ("rh (%)", "wd (deg)") else [name]
        if name == quantity:
            continue
        target = get_unit(quantity)
        if unit == "10 deg" and quantity != "wd (deg)":
            unit = None
        try:
            same = unit is None or (unit != COMPASS and find_conversion(unit, target) == (1, 0, 1))
        except ValueError:
            continue  # a name that only looks like the quantity
        rename[name] = quantity if same else [quantity, unit]
    if unsure:
        remarks["rename"] = f"units guessed from the values, please check: {', '.join(unsure)}"
    target = "T (degC)" if "T (degC)" in quantities.values() else None
    if target is None:
        numeric = [name for name in columns if name not in leave_out]
        target = next((quantities.get(name, name) for name in numeric), "?")
        remarks["target"] = "which column is to be forecast?"
    settings = {"target": target, "sentinels": sorted(sentinels), "rename": rename, "leave_out": leave_out}
    return Guess(settings | {"missing": sorted(missing), "flags": sorted(flags)}, remarks)
