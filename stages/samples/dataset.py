"""Synthetic weather in the layout of the Jena record, to try the pipeline without a network.

Nothing here was measured. A slow `front` changes the air pressure a day before the temperature, so a model that
uses the pressure is better than one that repeats the last temperature.
"""

from datetime import datetime, timedelta
from itertools import accumulate
from pathlib import Path

import numpy as np

ROWS = 60_000  # time steps, about 14 months, before GAPS and REPEATED
START = datetime(2009, 1, 1, 0, 10)
DAY = 144  # rows
SEED = 20090101
GAPS = ((12_345, 2), (33_210, 95), (52_020, 1))  # first missing time step, number of missing time steps
REPEATED = (40_000, 20)  # first row and length of a block that is written twice
GUST_AND_WIND_FAIL = range(50_500, 50_518)  # rows with a sentinel in both wind speeds
GUST_FAILS = range(50_518, 50_520)  # rows with a sentinel in `max. wv (m/s)` alone
SENTINEL = -9999.0

COLUMNS = (
    "p (mbar)",
    "T (degC)",
    "Tpot (K)",
    "Tdew (degC)",
    "rh (%)",
    "VPmax (mbar)",
    "VPact (mbar)",
    "VPdef (mbar)",
    "sh (g/kg)",
    "H2OC (mmol/mol)",
    "rho (g/m**3)",
    "wv (m/s)",
    "max. wv (m/s)",
    "wd (deg)",
)

# Magnus formula over water: WMO Guide to Meteorological Instruments (WMO-No. 8), after Sonntag (1990).
MAGNUS_MBAR, MAGNUS_SLOPE, MAGNUS_DEGC = 6.112, 17.62, 243.12
DRY_AIR = 287.05  # gas constant of dry air, J/(kg K)
WATER_TO_AIR = 0.622  # molar mass of water over that of dry air
KAPPA = 0.286  # gas constant of dry air over its heat capacity at constant pressure
ZERO_DEGC = 273.15  # K


def vapour_pressure(degc: np.ndarray) -> np.ndarray:
    """Return the saturation vapour pressure in mbar at temperatures `degc` (Magnus formula)."""
    return MAGNUS_MBAR * np.exp(MAGNUS_SLOPE * degc / (MAGNUS_DEGC + degc))


def dew_point(mbar: np.ndarray) -> np.ndarray:
    """Return the temperature in degC at which `mbar` saturates: the inverse of `vapour_pressure`."""
    logarithm = np.log(mbar / MAGNUS_MBAR)
    return MAGNUS_DEGC * logarithm / (MAGNUS_SLOPE - logarithm)


def red_noise(rng: np.random.Generator, length: int, days: float) -> np.ndarray:
    """Return `length` rows of a first-order autoregression: mean 0, standard deviation 1, decay time `days`."""
    decay = np.exp(-1 / (days * DAY))
    noise = rng.standard_normal(length)
    noise[1:] *= np.sqrt(1 - decay**2)
    return np.fromiter(accumulate(noise, lambda value, shock: decay * value + shock), float, length)


def smooth_noise(rng: np.random.Generator, length: int, days: float, window: int) -> np.ndarray:
    """Return red noise averaged over `window` rows, scaled back to standard deviation 1."""
    sums = np.cumsum(red_noise(rng, length + window, days))
    averaged = (sums[window:] - sums[:-window]) / window
    return averaged / averaged.std()


def simulate_weather() -> np.ndarray:
    """Return the values at all time steps, (ROWS, 14) in the order of COLUMNS, rounded to 0.01."""
    rng = np.random.default_rng(SEED)
    front = smooth_noise(rng, ROWS + DAY, days=2.5, window=DAY)
    next_front, front = front[DAY:], front[:ROWS]  # the pressure reacts one day before the temperature
    days = np.arange(ROWS) / DAY
    winter = np.cos(2 * np.pi * (days - 18) / 365.25)  # 1 in mid-January, -1 in July
    afternoon = np.cos(2 * np.pi * (days - 14.5 / 24))  # 1 at half past two
    sunshine = 0.75 + 0.25 * np.tanh(smooth_noise(rng, ROWS, days=1.5, window=36))  # 0.5 overcast, 1 clear

    p = np.round(989.2 - 7.0 * next_front + 2.5 * red_noise(rng, ROWS, days=4) - 0.4 * afternoon, 2)
    air_mass = smooth_noise(rng, ROWS, days=3, window=36)
    swing = (4.2 - 2.2 * winter) * sunshine
    t = 9.5 - 8.5 * winter + swing * afternoon + 3.0 * front + 1.5 * air_mass
    t = np.round(t + 0.25 * red_noise(rng, ROWS, days=0.05), 2)
    moisture = 7 * smooth_noise(rng, ROWS, days=1, window=18) + red_noise(rng, ROWS, days=0.05)
    rh = np.round(np.clip(92 + 6 * winter - 22 * sunshine - 3.5 * swing * afternoon + moisture, 15, 100), 2)

    vp_max = vapour_pressure(t)
    vp_act = rh / 100 * vp_max
    kelvin = t + ZERO_DEGC
    dry = p - (1 - WATER_TO_AIR) * vp_act  # mbar; dry air at this pressure has the density of the moist air

    breeze = 0.35 * red_noise(rng, ROWS, days=0.5) + 0.25 * red_noise(rng, ROWS, days=0.02)
    wv = np.exp(0.55 + 0.2 * afternoon + 0.25 * next_front + breeze)
    gust = wv * (1.3 + 0.6 * rng.random(ROWS)) + 0.2
    wd = (195 + 40 * front + 50 * red_noise(rng, ROWS, days=0.4) + 15 * rng.standard_normal(ROWS)) % 360
    columns = {
        "p (mbar)": p,
        "T (degC)": t,
        "Tpot (K)": kelvin * (1000 / p) ** KAPPA,
        "Tdew (degC)": dew_point(vp_act),
        "rh (%)": rh,
        "VPmax (mbar)": vp_max,
        "VPact (mbar)": vp_act,
        "VPdef (mbar)": vp_max - vp_act,
        "sh (g/kg)": 1000 * WATER_TO_AIR * vp_act / dry,
        "H2OC (mmol/mol)": 1000 * vp_act / p,
        "rho (g/m**3)": 1000 * 100 * dry / (DRY_AIR * kelvin),
        "wv (m/s)": wv,
        "max. wv (m/s)": gust,
        "wd (deg)": wd,
    }
    return np.round(np.stack([columns[name] for name in COLUMNS], axis=1), 2)


def add_defects(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (steps, values): the time step of each row, and the record with the defects of a real logger.

    First GAPS are removed, then the block REPEATED is written twice, then the wind sensors fail. GAPS are given in
    time steps, the others in rows of the record as it is by then.
    """
    steps = np.arange(len(values))
    steps = np.delete(steps, np.concatenate([np.arange(first, first + count) for first, count in GAPS]))
    first, count = REPEATED
    steps = np.insert(steps, first + count, steps[first : first + count])
    values = values[steps]
    values[GUST_AND_WIND_FAIL, COLUMNS.index("wv (m/s)")] = SENTINEL
    values[[*GUST_AND_WIND_FAIL, *GUST_FAILS], COLUMNS.index("max. wv (m/s)")] = SENTINEL
    return steps, values


def write_sample(directory: Path) -> None:
    """Write `sample.csv` into `directory`: a header and about ROWS rows, always the same bytes."""
    steps, values = add_defects(simulate_weather())
    times = [(START + timedelta(minutes=10 * step)).strftime("%d.%m.%Y %H:%M:%S") for step in steps.tolist()]
    row = ",".join(["%s"] + ["%.2f"] * len(COLUMNS))
    lines = [",".join(f'"{name}"' for name in ("Date Time", *COLUMNS))]
    lines += [row % (time, *numbers) for time, numbers in zip(times, values.tolist(), strict=True)]
    (directory / "sample.csv").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
