"""The fields of a table: texts as numbers, and what is wrong with those that are none."""

import json
import re
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.lib.settings.records import ISO, Record, has_offset
from stages.lib.weather.record import to_numpy
from stages.lib.weather.units import COMPASS, POINTS

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
COMMA_NUMBER = NUMBER.replace(r"\.", ",")


def to_numpy_mask(array: pa.BooleanArray) -> np.ndarray:
    """Return `array`, which has no nulls, for numpy; its own to_numpy() would import pandas."""
    return to_numpy(array.cast(pa.uint8())).astype(bool)


def parse_numbers(
    texts: pa.StringArray, column: str, settings: Record, name: str
) -> tuple[pa.DoubleArray, np.ndarray]:
    """Return the numbers that `texts`, a column of the file `name`, stand for, and which of them stand for none.

    NaN where the text is one of settings.missing. Texts of settings.flags behind numbers are taken off and
    counted. In a column whose unit is `compass`, the points of the compass become degrees.
    """
    missing = pc.is_in(texts, pa.array([text.strip(" \t") for text in settings.missing], pa.string()))
    if settings.units.get(column) == COMPASS:
        index = pc.index_in(pc.utf8_upper(texts), pa.array(POINTS))
        degrees = pc.fill_null(pc.multiply(index.cast(pa.float64()), 22.5), np.nan)
        bad = pc.and_not(pc.is_null(index), missing)
        return degrees, to_numpy_mask(bad)
    digits = COMMA_NUMBER if settings.decimal == "," else NUMBER
    if settings.flags:
        flags = "|".join(re.escape(flag) for flag in sorted(settings.flags, key=len, reverse=True))
        bare = pc.replace_substring_regex(texts, rf"^({digits})[ \t]*({flags})$", r"\1")
        if count := pc.sum(pc.and_not(pc.not_equal(bare, texts), missing)).as_py():
            print(f"{name}, column {column!r}: {count:,} flags behind numbers taken off ({settings.key}.flags)")
        texts = bare
    right = pc.match_substring_regex(texts, f"^{digits}$")
    numeric = pc.if_else(pc.and_not(right, missing), texts, pa.scalar(None, pa.string()))
    if settings.decimal == ",":
        numeric = pc.replace_substring(numeric, ",", ".")
    numbers = numeric.cast(pa.float64())
    right = pc.and_(right, pc.fill_null(pc.is_finite(numbers), False))
    bad = pc.invert(pc.or_(right, missing))
    return pc.fill_null(numbers, np.nan), to_numpy_mask(bad)


def describe_bad_time(field: str, reason: str, settings: Record) -> str:
    """Return what is wrong with the `field` of a time column."""
    example = {ISO: "2009-01-31T00:10:00+01:00", "epoch": "1233360600", "epoch_ms": "1233360600000"}.get(
        settings.format
    ) or datetime(2009, 1, 31, 0, 10, tzinfo=UTC if has_offset(settings.format) else None).strftime(settings.format)
    text = repr(field[:60]) if field.strip() else "an empty field"
    return (
        f"expected a time such as {example}, found {text} ({reason}); {settings.key}.format in params.yaml says "
        "how times are written"
    )


def describe_bad_number(field: str, column: str, settings: Record) -> str:
    """Return what is wrong with the `field` of a number column, and what may be done about it."""
    text = repr(field[:60]) if field else "an empty field"
    key, kind = settings.key, "a point of the compass" if settings.units.get(column) == COMPASS else "a number"
    behind = re.fullmatch(rf"({COMMA_NUMBER if settings.decimal == ',' else NUMBER})[ \t]*([^\d.,eE+-]+)", field)
    if field in ("", "-", "M", "NA", "N/A", "nan", "NaN", "null", "None", "unavailable", "unknown"):
        fix = f"if it stands for nothing measured: {key}.missing: [{json.dumps(field)}] in params.yaml"
    elif settings.decimal == "." and re.fullmatch(COMMA_NUMBER, field):
        fix = f'if the file has decimal commas: {key}.decimal: "," in params.yaml'
    elif behind:
        flag = json.dumps(behind[4], ensure_ascii=False)
        fix = f"if {behind[4]!r} is a flag or unit: {key}.flags: [{flag}] in params.yaml"
    else:
        fix = f"correct it, or name a column that is no measurement in {key}.leave_out of params.yaml"
    return f"expected {kind}, found {text}; {fix}"
