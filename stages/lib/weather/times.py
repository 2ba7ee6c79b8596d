"""Times as files write them, read as seconds of one clock: strptime, ISO 8601, seconds since 1970, time zones."""

import contextlib
import functools
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from stages.lib.settings.records import EPOCH, ISO, is_strptime_format
from stages.lib.weather.record import to_numpy

BLOCK = 8192  # texts that are read again together where not all can be read at once
DIGITS = {"Y": r"\d{4}", "f": r"\d{1,6}", "j": r"\d{1,3}", "z": r"(?:Z|[+-]\d\d:?\d\d)"}
DIGITS |= dict.fromkeys("mdyIS", r"\d{1,2}") | dict.fromkeys("bBaAp", r"[^\W\d_]+\.?")
DAY = np.timedelta64(86400, "s")
HOUR = np.timedelta64(3600, "s")


class TimeError(ValueError):
    """A time that cannot be read: the row that holds it, and why."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


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


def parse_strptime(texts: pa.StringArray, format: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return `texts` as datetime64[s] and, where they name one, their offsets from UTC in seconds.

    With offsets the times are UTC, else as written. `format` is one of strptime, ISO8601 (as datetime.fromisoformat
    reads it), epoch or epoch_ms. Fractions of a second are dropped; hour 24 is the next day's hour 0. Raises
    TimeError about the first text that will not do.
    """
    if format in EPOCH:
        return parse_epoch(texts, EPOCH[format]), np.zeros(len(texts), np.int64)
    late = np.zeros(len(texts), bool)
    if is_strptime_format(format):
        with contextlib.suppress(ValueError):
            return to_numpy(parse_times(texts, format)), None
    if pattern := make_hour_24_pattern(format):
        late = np.array(pc.match_substring_regex(texts, pattern).to_pylist(), bool)
    if late.any():
        texts = pc.replace_substring_regex(texts, pattern, r"\1" "00" r"\2")
        if is_strptime_format(format):
            with contextlib.suppress(ValueError):
                return to_numpy(parse_times(texts, format)) + late * DAY, None
    times, offsets = parse_one_by_one(texts.to_pylist(), format)
    return times + late * DAY, offsets


def parse_epoch(texts: pa.StringArray, counts: int) -> np.ndarray:
    """Return texts of seconds since 1970, or of `counts` in a second, as datetime64[s]."""
    right = pc.match_substring_regex(texts, r"^-?[0-9]{1,14}(\.[0-9]*)?$")
    if not pc.all(right, min_count=0).as_py():
        raise TimeError(right.index(False).as_py(), "expected a count since 1970")
    numbers = to_numpy(pc.replace_substring_regex(texts, r"\..*", "").cast(pa.int64()))
    return (numbers // counts).astype("datetime64[s]")


def parse_one_by_one(texts: list[str], format: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what `parse_strptime` does, one text after the other in Python."""
    if format == ISO:
        parse = datetime.fromisoformat
    else:
        parse = functools.partial(lambda form, text: datetime.strptime(text, form), format)
    moments = []
    for row, text in enumerate(texts):
        try:
            moments.append(parse(text))
        except ValueError as error:
            raise TimeError(row, str(error)) from None
    zoned = np.array([moment.tzinfo is not None for moment in moments])
    if not zoned.any():
        return np.array([moment.replace(microsecond=0) for moment in moments], "M8[s]"), None
    if not zoned.all():
        raise TimeError(int((zoned != zoned[0]).argmax()), "expected an offset from UTC in every time or in none")
    offsets = np.array([moment.utcoffset() // timedelta(seconds=1) for moment in moments])
    utc = [moment.astimezone(UTC).replace(tzinfo=None, microsecond=0) for moment in moments]
    return np.array(utc, "M8[s]"), offsets


def make_hour_24_pattern(format: str) -> str | None:
    """Return the regular expression of times in `format` at hour 24, split around it; None where it has no hour."""
    if format == ISO:
        return r"^(.*[T ])24((?::?00(?::?00(?:\.0+)?)?)?(?:Z|[+-].*)?)$"
    if "%H" not in format.replace("%%", ""):
        return None
    parts = []
    for part in re.findall(r"%.|[^%]+", format):
        if part == "%H":
            parts.append(")24(")
        elif part in ("%M", "%S"):
            parts.append("0?0")
        elif part.startswith("%"):
            parts.append(DIGITS.get(part[1], ".+?"))
        else:
            parts.append(re.escape(part))
    return f"^({''.join(parts)})$"


def find_transitions(zone: ZoneInfo, first: np.datetime64, last: np.datetime64) -> list[tuple[int, int, int]]:
    """Return (moment in UTC, offset before, offset after), in s, of each clock change of `zone` in that time."""

    def get_offset(second: int) -> int:
        return int(datetime.fromtimestamp(second, zone).utcoffset().total_seconds())

    day = 86400
    start, end = (int(moment.astype("M8[s]").astype(np.int64)) for moment in (first, last))
    start, changes = start - 2 * day, []
    before = get_offset(start)
    for moment in range(start + day, end + 3 * day, day):
        if (after := get_offset(moment)) != before:
            low, high = moment - day, moment
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if get_offset(middle) == after else (middle, high)
            changes.append((high, before, after))
            before = after
    return changes


def convert_to_utc(local: np.ndarray, name: str) -> np.ndarray:
    """Return the local times (n,) datetime64[s] of the IANA zone `name` as UTC.

    Where the clock is put back, an hour comes twice: rows before the first step back in time belong to its first
    pass, later ones to its second. A single pass is told by its neighbours: it follows or precedes the one that is
    no further away than the usual step. Raises TimeError about a time that the clock skipped, or that
    could belong to either pass.
    """
    if not len(local):
        return local
    zone = ZoneInfo(name)
    seconds = local.astype("M8[s]").astype(np.int64)
    changes = find_transitions(zone, local.min(), local.max())
    first = int(local.min().astype(np.int64)) - 2 * 86400
    offsets = np.full(len(seconds), int(datetime.fromtimestamp(first, zone).utcoffset().total_seconds()))
    skipped, doubtful = np.zeros(len(seconds), bool), []
    for moment, before, after in changes:
        offsets[seconds >= moment + max(before, after)] = after
        inside = (seconds >= moment + min(before, after)) & (seconds < moment + max(before, after))
        if after > before:
            skipped |= inside
        elif inside.any():
            doubtful.append((np.flatnonzero(inside), before, after))
    if skipped.any():
        row = int(skipped.argmax())
        raise TimeError(row, f"expected a time that exists in {name}, whose clock skipped {local[row]}")
    for rows, before, after in doubtful:
        offsets[rows] = before
        passes = np.diff(seconds[rows]) <= 0
        if passes.sum() > 1:
            row = int(rows[np.flatnonzero(passes)[1] + 1])
            raise TimeError(row, f"expected {local[row]}, which came twice in {name}, in at most two rows in order")
        if passes.any():
            offsets[rows[passes.argmax() + 1 :]] = after
            continue
        start, end = int(rows[0]), int(rows[-1])
        earlier = seconds[start] - seconds[start - 1] if start else np.inf
        later = seconds[end + 1] - seconds[end] if end + 1 < len(seconds) else np.inf
        step = np.median(np.diff(seconds)) if len(seconds) > 1 else 0
        joined = earlier <= step, later <= step
        if joined[0] == joined[1]:
            raise TimeError(
                start,
                f"expected both passes of the hour that came twice in {name}, found one, {local[start]}, and "
                "nothing that tells which",
            )
        offsets[rows] = before if joined[0] else after
    return (seconds - offsets).astype("M8[s]")
