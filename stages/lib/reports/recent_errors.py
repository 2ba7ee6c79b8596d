"""The errors of the last forecast, compared with those on the test period: has the model become old?"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MIN_HOURS = 12  # measured hours that a comparison needs
MAX_RATIO = 2.0  # to the error on the test period; one forecast in twenty of that period is above, roughly


def warn_about_last_forecast(
    folder: Path, record: str, target: str, measured: pd.Series, origin: np.datetime64
) -> list[str]:
    """Return `warn_about_errors` of forecast.json in `folder`, if it is one of `target` of the station `record`."""
    try:
        last = json.loads((folder / "forecast.json").read_text(encoding="utf-8"))
        if (last["record"], last["target"]) == (record, target):
            return warn_about_errors(last, measured, origin)
    except (OSError, ValueError, KeyError, TypeError):  # none, or one of another program
        pass
    return []


def warn_about_errors(last: dict[str, Any], measured: pd.Series, origin: np.datetime64) -> list[str]:
    """Return a warning if the forecast `last`, the content of forecast.json, has turned out unusually wrong.

    `measured` is the target by time, of which the hours up to `origin` count. The mean absolute error over those
    that `last` was for is compared with the mean error of its model over the same leads on the test period.
    """
    forecast = pd.DataFrame(last["forecast"])
    values = measured[measured.index <= origin].reindex(pd.to_datetime(forecast["valid"])).to_numpy()
    errors = np.abs(values - forecast["median"].to_numpy())
    expected = {row["lead_hours"]: row["mae"] for row in last["verification"]}
    promised = forecast["lead_hours"].map(expected).to_numpy(float)
    is_known = np.isfinite(errors) & np.isfinite(promised)
    if is_known.sum() < MIN_HOURS:
        return []
    error, promise, unit = errors[is_known].mean(), promised[is_known].mean(), last["unit"]
    if error <= MAX_RATIO * promise:
        return []
    return [
        f"the last forecast, from {last['origin']} by {last['model']}, was wrong by {error:.2f} {unit} on average "
        f"over {is_known.sum()} hours; the test period promised {promise:.2f} {unit}; if this comes often, look at "
        "the sensors, then train the models on newer data"
    ]
