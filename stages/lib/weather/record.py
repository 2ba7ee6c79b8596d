"""Reading the parsed record."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.files import open_input

RECORD = Path("data/record.parquet")
CLEAN = Path("data/clean.parquet")


def to_numpy(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return `column` as float64 or datetime64[s], by DLPack: to_numpy() would import pandas, which takes 0.5 s."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_timestamp(array.type):
        return np.from_dlpack(array.view(pa.int64())).view(f"datetime64[{array.type.unit}]").astype("datetime64[s]")
    return np.from_dlpack(array)


def read_record(path: Path = RECORD, stage: str = "parse") -> dict[str, np.ndarray]:
    """Return the columns of a record by name: first the times as datetime64[s], then the others as float64.

    Raises UserError if `path`, which `stage` makes, does not exist or is damaged.
    """
    with open_input(path, stage) as path:
        table = pq.ParquetFile(path).read()  # pq.read_table() imports pyarrow.dataset, which takes 0.2 s
    return {name: to_numpy(table[name]) for name in table.column_names}
