"""Synthetic weather, to try the pipeline without a network: a station, one upwind of it, and a weather model.

Nothing here was measured. A slow `front` changes the station's air pressure a day before its temperature, so a
model that uses the pressure is better than one that repeats the last temperature. The front passes the upwind
station a day earlier. The weather model forecasts the station's temperature twice a day, with a bias and an error
that grows with the lead.
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
UPWIND_MINUTE = 4  # the first row of the upwind station, in time steps: it reports at ten to the hour
ISSUE_HOURS = 12  # between two issues of the weather model
FORECAST_HOURS = 60  # that an issue covers

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


def simulate_weather() -> tuple[np.ndarray, np.ndarray]:
    """Return the values at all time steps, (ROWS, 14) in the order of COLUMNS, and the front a day later, (ROWS,).

    The values are rounded to 0.01.
    """
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
    return np.round(np.stack([columns[name] for name in COLUMNS], axis=1), 2), next_front


def simulate_upwind(next_front: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the time steps (n,) and the values (n, 3) of the upwind station: p, T and rh, once an hour.

    It has the station's seasons and days, and the front of the next day, `next_front` of `simulate_weather`.
    """
    rng = np.random.default_rng(SEED + 1)
    steps = np.arange(UPWIND_MINUTE, ROWS, 6)
    days = steps / DAY
    winter, afternoon = np.cos(2 * np.pi * (days - 18) / 365.25), np.cos(2 * np.pi * (days - 14.5 / 24))
    air_mass = smooth_noise(rng, ROWS, days=3, window=36)[steps]
    t = 10.0 - 7.5 * winter + (4.0 - 2.0 * winter) * afternoon + 3.0 * next_front[steps] + air_mass
    p = 1002.0 - 5.0 * next_front[steps] + 2.0 * red_noise(rng, ROWS, days=4)[steps]
    rh = np.clip(78 - 12 * afternoon + 8 * smooth_noise(rng, ROWS, days=1, window=18)[steps], 15, 100)
    return steps, np.round(np.stack([p, t, rh], axis=1), 2)


def simulate_forecasts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the time steps of issue (n,) and of validity (n,) of a weather model, and its temperatures (n,).

    `values` are those of `simulate_weather`. The forecasts are too cold by night and too warm by day, and the
    standard deviation of their other errors grows from 0.4 degC to 1.6 degC at FORECAST_HOURS.
    """
    rng = np.random.default_rng(SEED + 2)
    hour = np.arange(1, FORECAST_HOURS + 1)
    issues = np.arange(5, ROWS - 6 * FORECAST_HOURS, 6 * ISSUE_HOURS)  # step 5 is one o'clock
    valid = issues[:, None] + 6 * hour
    error = np.stack([red_noise(rng, FORECAST_HOURS, days=0.08) for _ in issues])  # correlated over half a day
    bias = -1.2 + 1.0 * np.cos(2 * np.pi * (valid / DAY - 14.5 / 24))
    t = values[valid, COLUMNS.index("T (degC)")] + bias + (0.4 + 0.02 * hour) * error
    return np.repeat(issues, FORECAST_HOURS), valid.ravel(), np.round(t.ravel(), 2)


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


def format_times(steps: np.ndarray) -> list[str]:
    """Return the times of time steps as the record has them."""
    return [(START + timedelta(minutes=10 * step)).strftime("%d.%m.%Y %H:%M:%S") for step in steps.tolist()]


def write_rows(directory: Path, times: dict[str, np.ndarray], columns: tuple[str, ...], values: np.ndarray) -> None:
    """Write `sample.csv` into `directory`: columns with the times of time steps, then `columns` with `values`."""
    row = ",".join(["%s"] * len(times) + ["%.2f"] * len(columns))
    lines = [",".join(f'"{name}"' for name in (*times, *columns))]
    texts = [format_times(steps) for steps in times.values()]
    lines += [row % (*stamps, *numbers) for *stamps, numbers in zip(*texts, values.tolist(), strict=True)]
    (directory / "sample.csv").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def write_sample(directory: Path, kind: str = "station") -> None:
    """Write `sample.csv` of a station, of one upwind or of forecasts into `directory`, always the same bytes."""
    values, next_front = simulate_weather()
    if kind == "upwind":
        steps, values = simulate_upwind(next_front)
        write_rows(directory, {"Date Time": steps}, ("p (mbar)", "T (degC)", "rh (%)"), values)
    elif kind == "forecast":
        issued, valid, t = simulate_forecasts(values)
        write_rows(directory, {"issued": issued, "Date Time": valid}, ("T (degC)",), t[:, None])
    else:
        steps, values = add_defects(values)
        write_rows(directory, {"Date Time": steps}, COLUMNS, values)
