"""Where the files of a record lie, and how they are read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.files import open_input

FOLDER = Path("data/records")  # has a folder per record
ISSUE_TIME = "issue time"  # column of cleaned forecasts
CLEAN = Path("data/clean")  # has a file per record


def to_numpy(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return `column` as float64 or datetime64[s], by DLPack: to_numpy() would import pandas, which takes 0.5 s."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_timestamp(array.type):
        return np.from_dlpack(array.view(pa.int64())).view(f"datetime64[{array.type.unit}]").astype("datetime64[s]")
    return np.from_dlpack(array)


def get_record_path(name: str, stage: str) -> Path:
    """Return the path of the record `name`, as `stage` (parse or clean) writes it."""
    return {"parse": FOLDER / name / "record.parquet", "clean": CLEAN / f"{name}.parquet"}[stage]


def read_record(name: str, stage: str = "parse") -> dict[str, np.ndarray]:
    """Return the columns of the record `name`, as `stage` (parse or clean) wrote them.

    The first are the times as datetime64[s], the others float64. Raises UserError if the file does not exist or is
    damaged.
    """
    with open_input(get_record_path(name, stage), f"{stage}@{name}") as path:
        table = pq.ParquetFile(path).read()  # pq.read_table() imports pyarrow.dataset, which takes 0.2 s
    return {name: to_numpy(table[name]) for name in table.column_names}


def read_note(name: str, key: str, stage: str = "clean") -> Any:
    """Return a note in the file of the record `name` (see `read_record`).

    `source` is where it came from, as `download` wrote it; `target`, which only `clean` notes, its setting.
    """
    with open_input(get_record_path(name, stage), f"{stage}@{name}") as path:
        return json.loads(pq.read_schema(path).metadata[key.encode()])
