"""What a record is worth: its gaps, duplicates, sentinels and ranges."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.lib.record import values

QUALITY = Path("data/quality.json")


def quality(table: pa.Table, sentinels: list[float]) -> dict[str, Any]:
    """Return the report on a record whose first column holds its times.

    A gap is a step between neighbouring times, sorted and unique, that is nearer to two or more of the most
    common steps than to one; `missing` is how many rows would have filled it. Duplicates equal an earlier
    row in every column.
    """
    stamps = values(table[0])
    unique, inverse, counts = np.unique(stamps, return_inverse=True, return_counts=True)
    steps = np.diff(unique).astype(np.int64)
    lengths, frequencies = np.unique(steps, return_counts=True)
    interval = int(lengths[frequencies.argmax()]) if len(steps) else None  # s
    missing = (steps + interval // 2) // interval - 1 if interval else steps
    repeated = counts[inverse] > 1
    rows = list(zip(*(values(column)[repeated].tolist() for column in table.columns), strict=True))
    return {
        "rows": table.num_rows,
        "first": str(unique[0]),
        "last": str(unique[-1]),
        "interval_minutes": interval and (interval / 60 if interval % 60 else interval // 60),
        "duplicates": len(rows) - len(set(rows)),
        "out_of_order": int((np.diff(stamps).astype(np.int64) < 0).sum()),
        "gaps": [
            {"after": str(unique[i]), "until": str(unique[i + 1]), "missing": int(missing[i])}
            for i in np.flatnonzero(missing > 0)
        ],
        "columns": {name: column_quality(values(table[name]), sentinels) for name in table.column_names[1:]},
    }


def summary(report: dict[str, Any]) -> str:
    """Return the report on one line."""
    gaps, columns = report["gaps"], report["columns"].items()
    sentinels = [f"{column['sentinels']} in {name!r}" for name, column in columns if column["sentinels"]]
    return (
        f"{report['rows']:,} rows, {report['first']} to {report['last']}; {len(gaps)} gaps of "
        f"{sum(gap['missing'] for gap in gaps):,} rows, {report['duplicates']} duplicates, "
        f"sentinels: {', '.join(sentinels) or 'none'}; all of it in {QUALITY}"
    )


def column_quality(numbers: np.ndarray, sentinels: list[float]) -> dict[str, Any]:
    """Return the count of `sentinels` in `numbers`, and minimum, maximum and mean of the others, or None."""
    kept = numbers[~np.isin(numbers, sentinels)]
    found = [float(f(kept)) if len(kept) else None for f in (np.min, np.max, np.mean)]
    return {"sentinels": len(numbers) - len(kept), **dict(zip(("min", "max", "mean"), found, strict=True))}
