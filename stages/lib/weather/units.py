"""Units in column names."""

import re


def get_unit(column: str) -> str:
    """Return the unit in the name of a column: `degC` for `T (degC)`, `own unit` if there is none."""
    match = re.search(r"\(([^()]+)\)\s*$", column)
    return match[1] if match else "own unit"


def slugify(unit: str) -> str:
    """Return `unit` as a part of a name: `degc` for `degC`, `own_unit` for one without letters or digits."""
    return re.sub(r"[^0-9a-z]+", "_", unit.lower()).strip("_") or "own_unit"
