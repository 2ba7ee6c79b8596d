"""The probability levels of the quantiles that a station's model forecasts."""

QUANTILES = (0.1, 0.5, 0.9)
