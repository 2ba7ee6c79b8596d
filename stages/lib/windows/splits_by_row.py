"""The rows that the notebooks forecast from."""

import numpy as np

from stages.lib.errors import UserError
from stages.lib.settings.split import Split
from stages.lib.windows.input_set import SPLITS


def choose_forecast_rows(rows: int, split: Split, lookback: int, delay: int) -> dict[str, np.ndarray]:
    """The rows that each split forecasts from, as in the notebooks (Chollet's generator).

    A split [first, last) has the rows first+lookback <= r < last; last = null means rows-delay-1.
    Validation is what the notebooks' validation steps reach, each window once: whole batches of `val_batch`,
    without the last one if it would end at `last`, where their generator starts again.
    Raises UserError where a split has no window or asks for rows that the record does not have.
    """
    chosen = {}
    for name in SPLITS:
        first, last = getattr(split, name)
        if last is None:
            last = rows - delay - 1
        elif last + delay > rows:
            raise UserError(
                f"params.yaml: split.{name} ends at row {last:,} and its targets lie {delay:,} rows on, "
                f"but the record has {rows:,} rows; choose smaller splits or a longer record"
            )
        row = np.arange(first + lookback, last)
        if name == "val":
            batch = split.val_batch
            steps = min(len(row) // batch, max((len(row) - 1) // batch, 1))  # the first batch is always taken
            row = row[: steps * batch]
        if not len(row):
            raise UserError(
                f"params.yaml: split.{name} [{first:,}, {last:,}) holds no window of lookback {lookback:,}"
                + (f" (val_batch {split.val_batch})" if name == "val" else "")
                + "; widen the split or shorten the lookback"
            )
        chosen[name] = row
    return chosen
