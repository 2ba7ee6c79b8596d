"""The quality report of a record: gaps, duplicates, sentinels and ranges."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.lib.weather.record import to_numpy


def assess_quality(table: pa.Table, sentinels: list[float], issue_column: str | None = None) -> dict[str, Any]:
    """Return the report on `table`, a record whose first column has the times.

    Forecasts for one time that were issued at different times, which `issue_column` has, do not share a time.

    A gap is a step between successive different times that is nearer to two or more of the most common steps than
    to one; `missing` is the number of rows that would fill it. Duplicates equal an earlier row in every column;
    conflicts have the time of an earlier row, but other values.
    """
    times = to_numpy(table[0])
    unique, inverse, counts = np.unique(times, return_inverse=True, return_counts=True)
    if issue_column:
        keys = np.column_stack([times.astype(np.int64), to_numpy(table[issue_column])])
        _, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    steps = np.diff(unique).astype(np.int64)
    lengths, frequencies = np.unique(steps, return_counts=True)
    interval = int(lengths[frequencies.argmax()]) if len(steps) else None  # s
    missing = (steps + interval // 2) // interval - 1 if interval else steps
    shares_time = counts[inverse] > 1
    columns = (
        np.nan_to_num(to_numpy(column)[shares_time], nan=np.inf) for column in table.columns
    )  # NaN equals NaN
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    return {
        "rows": table.num_rows,
        "first": str(unique[0]),
        "last": str(unique[-1]),
        "interval_minutes": interval and (interval / 60 if interval % 60 else interval // 60),
        "duplicates": len(rows) - len(set(rows)),
        "conflicts": len(set(rows)) - int((counts > 1).sum()),
        "out_of_order": int((np.diff(times).astype(np.int64) < 0).sum()),
        "gaps": [
            {"after": str(unique[i]), "until": str(unique[i + 1]), "missing": int(missing[i])}
            for i in np.flatnonzero(missing > 0)
        ],
        "columns": {
            name: assess_column(to_numpy(table[name]), sentinels)
            for name in table.column_names[1:]
            if name != issue_column
        },
    }


def describe_quality(report: dict[str, Any], path: Path) -> str:
    """Return the report on one line, and on another a warning if rows share a time."""
    gaps, columns = report["gaps"], report["columns"].items()
    sentinels, missing = (
        [f"{column[key]} in {name!r}" for name, column in columns if column[key]]
        for key in ("sentinels", "missing")
    )
    warning = (
        f"\nwarning: {report['conflicts']:,} rows share the time of another row, with other values; if an hour "
        "comes twice in autumn, use standard time"
    )
    return (
        f"{report['rows']:,} rows, {report['first']} to {report['last']}; {len(gaps)} gaps of "
        f"{sum(gap['missing'] for gap in gaps):,} rows, {report['duplicates']} duplicates, "
        f"{report['out_of_order']} steps back, sentinels: {', '.join(sentinels) or 'none'}, missing: "
        f"{', '.join(missing) or 'none'}; all of it in {path}" + (warning if report["conflicts"] else "")
    )


def assess_column(numbers: np.ndarray, sentinels: list[float]) -> dict[str, Any]:
    """Return the counts of sentinels and NaN in `numbers`, and the minimum, maximum and mean of the others."""
    is_missing = np.isnan(numbers)
    measured = numbers[~np.isin(numbers, sentinels) & ~is_missing]
    missing = int(is_missing.sum())
    return {
        "sentinels": len(numbers) - len(measured) - missing,
        "missing": missing,
        "min": float(measured.min()) if len(measured) else None,
        "max": float(measured.max()) if len(measured) else None,
        "mean": float(measured.mean()) if len(measured) else None,
    }
