"""Windows by the clock over the cleaned record: raw hourly values, and the next hours' measured ones as targets."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.files import whole
from stages.lib.hours import hours, starts
from stages.lib.params import params
from stages.lib.record import CLEAN, read
from stages.lib.windows import SPLITS, Meta, save


def clock(name: str) -> None:
    """Write the input set `name` of params.yaml `clock` to data/inputs/NAME."""
    window, periods, target = params("clock", name), params("periods"), params("dataset", "target")
    every, lookback, leads = (window[key] for key in ("every", "lookback", "leads"))
    bounds = [None if periods[key] is None else np.datetime64(str(periods[key]), "s") for key in (*SPLITS, "end")]
    record = read(CLEAN, "clean")
    time = next(iter(record))
    grid = pd.DataFrame(record).set_index(time)
    table = hours(grid, target, every, params("clean", "max_gap"), [bound for bound in bounds if bound is not None])
    splits = {}
    for split, first, last in zip(SPLITS, bounds, bounds[1:], strict=False):
        found = starts(table, lookback // every, leads // every, first, last)
        if not len(found):
            raise UserError(f"params.yaml: periods.{split}: no window")
        splits[split] = (found, None, table.time[found + lookback // every - 1])
    meta = Meta(lookback // every, table.columns, table.columns.index(target), leads=leads // every, every=every)
    with whole(Path("data/inputs", name)) as directory:
        save(directory, table.rows, splits, meta, table.targets)
    print(f"{name}: " + ", ".join(f"{key} {len(value[0]):,}" for key, value in splits.items()) + " windows")
