"""Units, as column names carry them."""

import re


def get_unit(column: str) -> str:
    """The unit in a column's name: `degC` of `T (degC)`; `own unit` where it names none."""
    inside = re.search(r"\(([^()]+)\)\s*$", column)
    return inside[1] if inside else "own unit"


def slugify(unit: str) -> str:
    """A unit as a part of a name: `degc` of `degC`, `own_unit` of what has no letter."""
    return re.sub(r"[^0-9a-z]+", "_", unit.lower()).strip("_") or "own_unit"
