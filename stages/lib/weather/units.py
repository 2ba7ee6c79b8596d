"""Units in column names, and their conversion."""

import functools
import re
from fractions import Fraction
from typing import Any

import numpy as np

COMPASS = "compass"  # a wind direction as a text: N, NNE, NE, ...
POINTS = ["N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW"]
SPELLINGS = {  # how stations write units, and what pint calls them
    "C": "degC", "°C": "degC", "deg C": "degC", "Celsius": "degC", "F": "degF", "°F": "degF", "deg F": "degF",
    "mb": "mbar", "hpa": "hPa", "inHg": "inch_Hg", "in Hg": "inch_Hg", "kn": "knot", "kt": "knot", "kts": "knot",
    "knots": "knot", "mph": "mile/hour", "kmh": "km/hour", "km/h": "km/hour", "kph": "km/hour", "in": "inch",
    "%": "percent", "fraction": "dimensionless", "1": "dimensionless", "deg": "degree", "°": "degree",
    "degrees": "degree", "oktas": "oktas",
}  # fmt: skip


def get_unit(column: str) -> str:
    """Return the unit in the name of a column: `degC` for `T (degC)`, `own unit` if there is none."""
    match = re.search(r"\(([^()]+)\)\s*$", column)
    return match[1] if match else "own unit"


def slugify(unit: str) -> str:
    """Return `unit` as a part of a name: `degc` for `degC`, `own_unit` for one without letters or digits."""
    return re.sub(r"[^0-9a-z]+", "_", unit.lower()).strip("_") or "own_unit"


@functools.cache
def load_registry() -> Any:
    """Return pint's units in exact fractions; the import takes a second, and Jena's record needs none of it."""
    import pint

    registry: Any = pint.UnitRegistry(non_int_type=Fraction)
    registry.define("oktas = 1 / 8 = okta")
    return registry


def parse_unit(text: str) -> tuple[Fraction, Any]:
    """Return the factor and the pint unit of `text`: 1 and degC of "degC", 1/10 and degC of "0.1 degC".

    Raises ValueError where it is no unit.
    """
    factor, name = Fraction(1), text.strip()
    if scaled := re.fullmatch(r"([0-9]*\.?[0-9]+)\s+(.+)", name):
        factor, name = Fraction(scaled[1]), scaled[2]
    name = SPELLINGS.get(name, name).replace("²", "2").replace("³", "3")
    name = re.sub(r"(?<=[a-z])\^?([23])\b", r"**\1", name)
    try:
        return factor, load_registry().parse_units(name)
    except Exception:  # pint's own, tokenize's, and others for what it cannot make sense of
        raise ValueError(
            f"expected a unit such as degC, degF, hPa, inHg, km/h, % or `0.1 degC`, found {text!r}"
        ) from None


@functools.cache
def find_conversion(unit: str, target: str) -> tuple[int, int, int]:
    """Return (a, b, c) so that `unit` becomes `target` by (a x + b) / c, exactly; ValueError if it cannot."""
    factor, source = parse_unit(unit)
    _, expected = parse_unit(target)
    registry = load_registry()
    try:
        zero, one = (registry.Quantity(number, source).to(expected).magnitude for number in (Fraction(0), factor))
    except Exception:  # DimensionalityError
        raise ValueError(f"expected a unit that converts to {target}, found {unit!r}") from None
    slope, offset = Fraction(one) - Fraction(zero), Fraction(zero)
    common = slope.denominator * offset.denominator
    return int(slope * common), int(offset * common), common


def convert_unit(numbers: np.ndarray, unit: str, target: str) -> np.ndarray:
    """Return `numbers` in `unit` as `target`; those of compass points are degrees already."""
    if unit == COMPASS:
        return numbers
    a, b, c = find_conversion(unit, target)
    return numbers if (a, b, c) == (1, 0, 1) else (numbers * a + b) / c


def check_conversion(unit: str, column: str) -> None:
    """Raise ValueError unless `unit` becomes the one in the brackets of the name `column`."""
    target = get_unit(column)
    if target == "own unit":
        raise ValueError(f"expected a new name with the unit to convert to in brackets, found {column!r}")
    if unit == COMPASS:
        if parse_unit(target)[1] != parse_unit("deg")[1]:
            raise ValueError(
                f"expected degrees in the name of a compass direction, as in wd (deg), found {column!r}"
            )
    else:
        try:
            find_conversion(unit, target)
        except ValueError as error:
            raise ValueError(f"{error} for {column!r}") from None
