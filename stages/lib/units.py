"""Units, as column names carry them."""

import re


def unit(column: str) -> str:
    """The unit in a column's name: `degC` of `T (degC)`; `own unit` where it names none."""
    inside = re.search(r"\(([^()]+)\)\s*$", column)
    return inside[1] if inside else "own unit"
