"""The rows that the notebooks forecast from."""

import numpy as np

from stages.lib.errors import UserError
from stages.lib.settings.split import Split
from stages.lib.windows.input_set import SPLITS


def choose_forecast_rows(count: int, split: Split, lookback: int, delay: int) -> dict[str, np.ndarray]:
    """Return the rows that each split forecasts from, as in the notebooks (Chollet's generator).

    A split [first, last) of a record of `count` rows has the rows first+lookback <= r < last; a `last` of None
    means count-delay-1. Validation has each window that the notebooks' validation steps reach once: whole batches
    of `val_batch`, without the last batch if it would end at `last`, where their generator starts again. Raises
    UserError if a split has no window or needs rows that the record does not have.
    """
    forecast_rows = {}
    for name in SPLITS:
        first, last = getattr(split, name)
        if last is None:
            last = count - delay - 1
        elif last + delay > count:
            raise UserError(
                f"params.yaml: split.{name} ends at row {last:,} and its targets lie {delay:,} rows on, "
                f"but the record has {count:,} rows; choose smaller splits or a longer record"
            )
        rows = np.arange(first + lookback, last)
        if name == "val":
            batch = split.val_batch
            steps = min(len(rows) // batch, max((len(rows) - 1) // batch, 1))  # the first batch is always used
            rows = rows[: steps * batch]
        if not len(rows):
            raise UserError(
                f"params.yaml: split.{name} [{first:,}, {last:,}) holds no window of lookback {lookback:,}"
                + (f" (val_batch {split.val_batch})" if name == "val" else "")
                + "; widen the split or shorten the lookback"
            )
        forecast_rows[name] = rows
    return forecast_rows
