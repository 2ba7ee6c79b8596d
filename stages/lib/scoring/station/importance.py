"""How much each neighbour and each weather model matters to a station's model: permutation importance."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.lib.windows.input_set import Inputs, Meta, Split, Windows

WEEK = np.timedelta64(7, "D")


class SwappedWindows(NamedTuple):
    """`windows` with some columns of `past` and `ahead` taken from other windows, whose indices are `order`."""

    windows: Windows
    order: np.ndarray
    past: list[int]
    ahead: list[int]

    def __len__(self) -> int:
        return len(self.windows)

    def get_inputs(self, index: slice) -> dict[str, np.ndarray]:
        """Return the inputs of a model for the windows at `index`, by name."""
        inputs, others = self.windows.get_inputs(index), self.windows.get_inputs(self.order[index])
        for name, columns in (("past", self.past), ("ahead", self.ahead)):
            if columns:
                inputs[name][:, :, columns] = others[name][:, :, columns]
        return inputs


def list_record_columns(meta: Meta) -> dict[str, tuple[list[int], list[int]]]:
    """Return the columns of `past` and of `ahead` that come from each neighbour and each weather model."""
    columns = {name: (list(range(first, last)), list[int]()) for name, (first, last) in meta.neighbours.items()}
    groups = [names if isinstance(names, str) else names[0] for names in (meta.clock or {}).get("ahead", [])]
    for name in groups:
        prefix = f"{name} "
        ahead = [index for index, column in enumerate(meta.ahead_columns) if column.startswith(prefix)]
        columns[name] = ([], ahead)
    return columns


def assess_importance(
    predict: Callable[[Split], np.ndarray], outputs: np.ndarray, inputs: Inputs, position: int
) -> pd.DataFrame:
    """Return the validation MAE at lead number `position`, and the MAE when a record says nothing about tomorrow.

    Columns: record, mae, mae_swapped. For the latter, the values of the record are those of the window a week
    later, which fit the season and the hour of the day (permutation importance, after Breiman, 2001, "Random
    Forests"). `outputs` (n, leads, 3) are the model's forecasts for the validation windows.
    """
    val = inputs.val
    order = np.searchsorted(val.times, val.times + WEEK) % len(val.times)
    truth = val.targets[:, position]
    rows = []
    for name, (past, ahead) in list_record_columns(inputs.meta).items():
        windows: Any = SwappedWindows(val.windows, order, past, ahead)
        swapped = predict(val._replace(windows=windows))
        maes = [float(np.nanmean(np.abs(truth - forecast[:, position, 1]))) for forecast in (outputs, swapped)]
        rows.append((name, *maes))
    return pd.DataFrame(rows, columns=["record", "mae", "mae_swapped"])
