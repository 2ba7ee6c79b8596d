"""Made-up files in the layouts of real exporters, all of the same four days of weather."""

import io
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

POINTS = ["N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW"]
START = datetime(2024, 10, 25, tzinfo=UTC)  # summer time ends in Europe on the 27th, at 01:00 UTC
COUNT = 97
TIMES = np.datetime64(START.replace(tzinfo=None), "s") + np.arange(COUNT) * np.timedelta64(3600, "s")
_hours = np.arange(COUNT)
WEATHER = {
    "T (degC)": np.round(9 + 7 * np.sin((_hours - 9) / 24 * 2 * np.pi) + _hours % 7 / 10, 1),
    "rh (%)": np.round(70 - 25 * np.sin((_hours - 9) / 24 * 2 * np.pi) + _hours % 5),
    "p (mbar)": np.round(1012 + 9 * np.sin(_hours / 40) + _hours % 3 / 10, 1),
    "wv (m/s)": np.round(4 + 3 * np.cos(_hours / 9) + _hours % 4 / 10, 1),
    "wd (deg)": (_hours * 3 % 16) * 22.5,
}
LAYOUTS: dict[str, "Layout"] = {}
COLUMNS = ["T (degC)", "rh (%)", "p (mbar)", "wv (m/s)", "wd (deg)"]


class Layout(NamedTuple):
    """Files by name, and what is to be read from them."""

    files: dict[str, bytes]
    times: np.ndarray
    weather: dict[str, np.ndarray]
    tolerance: float  # of values that the layout rounds in its unit


class Row(NamedTuple):
    time: datetime
    T: float
    rh: float
    p: float
    wv: float
    wd: float


def rows() -> Iterator[Row]:
    for hour in range(COUNT):
        yield Row(START + timedelta(hours=hour), *(float(WEATHER[name][hour]) for name in COLUMNS))


def zipped(files: dict[str, str]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return memory.getvalue()


def layout(
    columns: list[str] = COLUMNS,
    shift: float = 0,
    tolerance: float = 1e-9,
    missing: dict[str, list[int]] | None = None,
) -> Callable[[Callable[[], dict[str, bytes]]], Callable[[], dict[str, bytes]]]:
    """Register the files that a function returns, with the `columns` in them, on a clock `shift` hours from UTC.

    `missing`: rows in which a column was not measured.
    """

    def add(write: Callable[[], dict[str, bytes]]) -> Callable[[], dict[str, bytes]]:
        weather = {name: WEATHER[name].copy() for name in columns}
        for name, lost in (missing or {}).items():
            weather[name][lost] = np.nan
        times = TIMES + np.timedelta64(int(shift * 3600), "s")
        LAYOUTS[write.__name__] = Layout(write(), times, weather, tolerance)
        return write

    return add


def lines(*texts: str, end: str = "\n", encoding: str = "utf-8") -> bytes:
    return "".join(text + end for text in texts).encode(encoding)


@layout(COLUMNS[:2], missing={"rh (%)": [5]})
def dwd() -> dict[str, bytes]:
    table = ["STATIONS_ID;MESS_DATUM;QN_9;TT_TU;RF_TU;eor"]
    for n, row in enumerate(rows()):
        table.append(f"       1266;{row.time:%Y%m%d%H};    3;{row.T:6.1f};{-999 if n == 5 else row.rh:6.1f};eor")
    files = {
        "Metadaten_Geographie_01266.txt": "Stations_id;Stationshoehe;Geogr.Breite\n1266;77;54.1\n",
        "produkt_tu_stunde_20241025_20241029_01266.txt": "\r\n".join([*table, ""]),
        "Metadaten_Parameter_tu_stunde_01266.txt": "Stations_ID;Von_Datum\n1266;20241025\n",
    }
    return {"stundenwerte_TU_01266_akt.zip": zipped(files)}


@layout(["T (degC)", "rh (%)", "wv (m/s)", "wd (deg)"])
def dwd_side_by_side() -> dict[str, bytes]:
    air, wind = ["STATIONS_ID;MESS_DATUM;QN_9;TT_TU;RF_TU;eor"], ["STATIONS_ID;MESS_DATUM;QN_3;   F;   D;eor"]
    for row in rows():
        air.append(f"       1266;{row.time:%Y%m%d%H};    3;{row.T:6.1f};{row.rh:6.1f};eor")
        wind.append(f"       1266;{row.time:%Y%m%d%H};   10;{row.wv:6.1f};{row.wd:6.1f};eor")
    return {
        "air.zip": zipped({"Metadaten_x.txt": "a", "produkt_tu_stunde.txt": "\n".join(air)}),
        "wind.zip": zipped({"Metadaten_y.txt": "a", "produkt_ff_stunde.txt": "\n".join(wind)}),
    }


@layout(missing={"rh (%)": [7]}, tolerance=0.5)
def knmi() -> dict[str, bytes]:
    table = [
        "# BRON: KONINKLIJK NEDERLANDS METEOROLOGISCH INSTITUUT (KNMI)",
        "# YYYYMMDD : datum",
        "# T        : temperatuur (in 0.1 graden Celsius) op 1.50 m hoogte",
        "# STN,YYYYMMDD,   HH,   DD,   FH,    T,    U,     P",
        "# ",
    ]
    for n, row in enumerate(rows()):
        before = row.time - timedelta(hours=1)  # hour 24 of the day before is midnight
        humidity = "     " if n == 7 else f"{row.rh:5.0f}"
        table.append(
            f"  260,{before:%Y%m%d},{before.hour + 1:5d},{row.wd:5.0f},{row.wv * 10:5.0f},{row.T * 10:5.0f},"
            f"{humidity},{row.p * 10:6.0f}"
        )
    return {"uurgeg_260.txt": lines(*table)}


@layout(missing={"p (mbar)": [3, 4]}, tolerance=0.5)
def meteostat() -> dict[str, bytes]:
    table = [
        f"{row.time:%Y-%m-%d},{row.time.hour},{row.T},,{row.rh:.0f},0.0,,{row.wd:.0f},{row.wv * 3.6:.2f},,"
        f"{'' if n in (3, 4) else row.p},,{3 + n % 2}"
        for n, row in enumerate(rows())
    ]
    return {"10637.csv": lines(*table)}


@layout(tolerance=0.5)
def open_meteo() -> dict[str, bytes]:
    table = [
        "latitude,longitude,elevation,utc_offset_seconds,timezone,timezone_abbreviation",
        "52.54833,13.407822,38.0,0,GMT,GMT",
        "",
        "time,temperature_2m (°C),relative_humidity_2m (%),surface_pressure (hPa),wind_speed_10m (km/h),"
        "wind_direction_10m (°)",
    ]
    for row in rows():
        table.append(f"{row.time:%Y-%m-%dT%H:%M},{row.T},{row.rh:.0f},{row.p},{row.wv * 3.6:.2f},{row.wd:.0f}")
    return {"open-meteo-52.55N13.41E38m.csv": lines(*table)}


@layout(tolerance=0.5, missing={"rh (%)": [0, 1]})
def open_meteo_previous_runs() -> dict[str, bytes]:
    names = ["temperature_2m", "relative_humidity_2m", "surface_pressure", "wind_speed_10m", "wind_direction_10m"]
    units = ["°C", "%", "hPa", "km/h", "°"]
    head = [f"{name}_previous_day{day} ({unit})" for day in (1, 2) for name, unit in zip(names, units, strict=True)]
    table = [
        "latitude,longitude,elevation,utc_offset_seconds,timezone,timezone_abbreviation",
        "51.3,9.44,163.0,0,GMT,GMT",
        "",
        ",".join(["time", *head]),
    ]
    for n, row in enumerate(rows()):
        humidity = "NaN" if n < 2 else f"{row.rh:.0f}"
        newest = f"{row.T},{humidity},{row.p},{row.wv * 3.6:.2f},{row.wd:.0f}"
        older = f"{row.T - 1:.1f},NaN,{row.p + 1:.1f},{row.wv * 3:.2f},{row.wd:.0f}"
        table.append(f"{row.time:%Y-%m-%dT%H:%M},{newest},{older}")
    return {"icon.csv": lines(*table)}


def model_runs() -> dict[str, bytes]:
    """Runs every 12 hours for the 24 hours after each, with two forecasts for every hour."""
    table = ["init_time,valid_time,t2m,rh2m"]
    for run in range(-24, COUNT, 12):
        for row in list(rows())[max(run + 1, 0) : run + 25]:
            init_time = START + timedelta(hours=run)
            table.append(f"{init_time:%Y-%m-%d %H:%M},{row.time:%Y-%m-%d %H:%M},{row.T + 273.15:.2f},{row.rh:.0f}")
    return {"runs.csv": lines(*table)}


_issued = np.stack([(_hours - 1) // 12 * 12 - 12, (_hours - 1) // 12 * 12], axis=1).ravel()  # hours from START
LAYOUTS["model_runs"] = Layout(
    model_runs(),
    np.repeat(TIMES, 2),
    {name: np.repeat(WEATHER[name], 2) for name in COLUMNS[:2]}
    | {"init_time": START.timestamp() + 3600.0 * _issued},
    0.01,
)


@layout(shift=-5, tolerance=0.5, missing={"rh (%)": [2]})
def noaa() -> dict[str, bytes]:
    names = ["STATION", "DATE", "REPORT_TYPE", "HourlyDryBulbTemperature", "HourlyPrecipitation"]
    names += ["HourlyRelativeHumidity", "HourlyStationPressure", "HourlyWindDirection", "HourlyWindSpeed"]
    table = [",".join(f'"{name}"' for name in names)]
    for n, row in enumerate(rows()):
        local = row.time - timedelta(hours=5)
        fahrenheit = f"{row.T * 1.8 + 32:.1f}" + ("s" if n % 9 == 0 else "")
        pressure = f"{row.p / 33.86388640341:.3f}" + ("s" if n % 11 == 0 else "")
        rain = "T" if n % 6 == 0 else "0.02V" if n % 8 == 0 else "0.00"
        fields = [
            "72503014732",
            f"{local:%Y-%m-%dT%H:%M:%S}",
            "FM-15",
            fahrenheit,
            rain,
            "*" if n == 2 else f"{row.rh:.0f}",
        ]
        fields += [pressure, f"{row.wd:.0f}", f"{row.wv / 0.44704:.2f}"]
        table.append(",".join(f'"{field}"' for field in fields))
    return {"LCD_72503014732.csv": lines(*table)}


@layout(["T (degC)", "p (mbar)", "wv (m/s)", "wd (deg)"], missing={"p (mbar)": [9]}, tolerance=0.5)
def ndbc() -> dict[str, bytes]:
    table = []
    for n, row in enumerate(rows()):
        pressure = "    MM" if n == 9 else f"{row.p:6.1f}"
        table.append(f"{row.time:%Y %m %d %H %M} {row.wd:3.0f} {row.wv:4.1f}  {pressure} {row.T:5.1f}")
    head = ["#YY  MM DD hh mm WDIR WSPD PRES  ATMP", "#yr  mo dy hr mn degT m/s   hPa  degC"]
    return {"42001.txt": lines(*head, *table[::-1])}


@layout(shift=-5, tolerance=0.5)
def environment_canada() -> dict[str, bytes]:
    names = ["Longitude (x)", "Station Name", "Date/Time (LST)", "Year", "Month", "Day", "Time (LST)", "Temp (°C)"]
    names += ["Temp Flag", "Rel Hum (%)", "Wind Dir (10s deg)", "Wind Spd (km/h)", "Stn Press (kPa)", "Weather"]
    table = [",".join(f'"{name}"' for name in names)]
    for row in rows():
        local = row.time - timedelta(hours=5)
        fields = [
            "-75.72",
            "OTTAWA CDA RCS",
            f"{local:%Y-%m-%d %H:%M}",
            f"{local:%Y}",
            f"{local:%m}",
            f"{local:%d}",
        ]
        fields += [f"{local:%H:%M}", f"{row.T}", "", f"{row.rh:.0f}", f"{row.wd / 10:.2f}", f"{row.wv * 3.6:.2f}"]
        fields += [f"{row.p / 10:.2f}", "NA"]
        table.append(",".join(f'"{field}"' for field in fields))
    return {"en_climate_hourly_ON_6105978_10-2024_P1H.csv": b"\xef\xbb\xbf" + lines(*table, end="\r\n")}


@layout(tolerance=0.5, missing={"wd (deg)": [4]})
def weewx() -> dict[str, bytes]:
    table = ["dateTime,usUnits,interval,barometer,outTemp,outHumidity,windSpeed,windDir"]
    for n, row in enumerate(rows()):
        fields = [
            f"{row.time.timestamp():.0f}",
            "1",
            "60",
            f"{row.p / 33.86388640341:.4f}",
            f"{row.T * 1.8 + 32:.2f}",
        ]
        fields += [f"{row.rh}", f"{row.wv / 0.44704:.3f}", "None" if n == 4 else f"{row.wd}"]
        table.append(",".join(fields))
    return {"weewx.csv": lines(*table)}


@layout(tolerance=0.5, missing={"rh (%)": [6]}, shift=1)
def weatherlink() -> dict[str, bytes]:
    table = ['"Meine Station"', '"Berlin, Germany"', '"Last Updated","10/29/24 2:00 AM"', "", ""]
    table += [
        '"Date & Time","Barometer - in Hg","Temp - °F","Hum - %","Avg Wind Speed - mph","Prevailing Wind Direction"'
    ]
    for n, row in enumerate(rows()):
        time = (row.time + timedelta(hours=1)).strftime("%m/%d/%y %I:%M %p")
        fields = [
            time,
            f"{row.p / 33.86388640341:.3f}",
            f"{row.T * 1.8 + 32:.1f}",
            "--" if n == 6 else f"{row.rh:.0f}",
        ]
        fields += [f"{row.wv / 0.44704:.2f}", POINTS[int(row.wd / 22.5)]]
        table.append(",".join(f'"{field}"' for field in fields))
    return {"Meine_Station_10-25-24.csv": lines(*table)}


@layout(tolerance=0.5, missing={"rh (%)": [6]})
def ecowitt() -> dict[str, bytes]:
    table = ["Time,Outdoor Temperature(℃),Humidity(%),Absolute Pressure(hPa),Wind Speed(m/s),Wind Direction(º)"]
    for n, row in enumerate(rows()):
        local = row.time.astimezone(ZoneInfo("Europe/Berlin"))
        humidity = "-" if n == 6 else f"{row.rh:.0f}"
        table.append(f"{local:%Y-%m-%d %H:%M},{row.T},{humidity},{row.p},{row.wv},{row.wd:.0f}")
    return {"export.csv": lines(*table)}


@layout(["T (degC)", "rh (%)"], tolerance=0.21)
def home_assistant() -> dict[str, bytes]:
    table = ["entity_id,state,last_changed"]
    for sensor, column in (("sensor.garden_temperature", "T (degC)"), ("sensor.garden_humidity", "rh (%)")):
        table.append(f"{sensor},unavailable,2024-10-24T23:00:01.000Z")
        for n, row in enumerate(rows()):
            value = WEATHER[column][n]
            for minutes, change in ((13, 0.2), (38, -0.2)):  # before the hour
                time = row.time - timedelta(minutes=minutes, seconds=n % 50)
                table.append(f"{sensor},{value + change:.1f},{time:%Y-%m-%dT%H:%M:%S}.{n % 1000:03d}Z")
    return {"history.csv": lines(*table)}


@layout(shift=1, tolerance=0.5)
def excel() -> dict[str, bytes]:
    table = ["Datum;Uhrzeit;Temperatur [°C];Feuchte;Luftdruck [hPa];Wind [km/h];Richtung [°]"]
    for row in rows():
        local = row.time + timedelta(hours=1)
        numbers = [f"{row.T}", f"{row.rh / 100:.2f}", f"{row.p}", f"{row.wv * 3.6:.2f}", f"{row.wd}"]
        table.append(f"{local:%d.%m.%Y};{local:%H:%M};" + ";".join(number.replace(".", ",") for number in numbers))
    return {"Mappe1.csv": lines(*table, "Mittelwert;;9,3;0,7;1012,1;14,4;168,8", end="\r\n", encoding="cp1252")}


@layout(["T (degC)", "rh (%)"])
def wetterdienst() -> dict[str, bytes]:
    table = ["station_id,resolution,dataset,parameter,date,value,quality"]
    for parameter, column in (("temperature_air_mean_2m", "T (degC)"), ("humidity", "rh (%)")):
        for n, row in enumerate(rows()):
            table.append(
                f"01266,hourly,air,{parameter},{row.time:%Y-%m-%dT%H:%M:%S}+00:00,{WEATHER[column][n]},3.0"
            )
    return {"values.csv": lines(*table)}


@layout(["T (degC)", "rh (%)", "wv (m/s)", "wd (deg)"], tolerance=0.5)
def pvgis() -> dict[str, bytes]:
    table = ["Latitude (decimal degrees): 45.000", "Longitude (decimal degrees): 8.000", "Elevation (m): 250", ""]
    table += ["time(UTC),T2m,RH,WS10m,WD10m"]
    for row in rows():
        table.append(f"{row.time:%Y%m%d:%H%M},{row.T},{row.rh:.2f},{row.wv},{row.wd:.0f}")
    table += [
        "",
        "T2m: 2-m air temperature (degree Celsius)",
        "RH: relative humidity (%)",
        "PVGIS (c) European Union",
    ]
    return {"tmy_45.000_8.000.csv": lines(*table, end="\r\n")}


@layout(missing={"T (degC)": [1]}, tolerance=0.5)
def nasa_power() -> dict[str, bytes]:
    table = ["-BEGIN HEADER-", "NASA/POWER Source Native Resolution Hourly Data", "Dates: 10/25/2024 - 10/29/2024"]
    table += ["T2M      MERRA-2 Temperature at 2 Meters (C)", "-END HEADER-"]
    table += ["YEAR,MO,DY,HR,T2M,RH2M,PS,WS10M,WD10M"]
    for n, row in enumerate(rows()):
        time = row.time
        numbers = [-999 if n == 1 else row.T, f"{row.rh:.1f}", f"{row.p / 10:.2f}", row.wv, f"{row.wd:.1f}"]
        table.append(",".join(map(str, [time.year, time.month, time.day, time.hour, *numbers])))
    return {"POWER_Point_Hourly.csv": lines(*table)}


@layout(tolerance=0.5, missing={"rh (%)": [3]})
def iem() -> dict[str, bytes]:
    table = ["#DEBUG: Format Typ    -> comma", "#DEBUG: Time Period    -> 2024-10-25 2024-10-29"]
    table += ["station,valid,tmpf,relh,drct,sknt,mslp,p01i"]
    for n, row in enumerate(rows()):
        fields = [
            "DSM",
            f"{row.time:%Y-%m-%d %H:%M}",
            f"{row.T * 1.8 + 32:.2f}",
            "M" if n == 3 else f"{row.rh:.2f}",
        ]
        fields += [f"{row.wd:.2f}", f"{row.wv * 3600 / 1852:.2f}", f"{row.p:.2f}", "T" if n % 9 == 0 else "0.00"]
        table.append(",".join(fields))
    return {"asos.txt": lines(*table)}


@layout()
def tempest() -> dict[str, bytes]:
    table = []
    for row in rows():
        local = row.time.astimezone(ZoneInfo("Europe/Berlin"))
        table.append(f"{local.isoformat(timespec='milliseconds')},{row.T},{row.rh:.0f},{row.p},{row.wv},{row.wd}")
    head = "timestamp,air_temperature (degC),relative_humidity (%),station_pressure (hPa),wind_avg (m/s)"
    head += ",wind_dir (deg)"
    return {"tempest.csv": lines(head, *table[::-1])}


@layout(["T (degC)", "rh (%)"])
def netatmo() -> dict[str, bytes]:
    table = ["Name;Long;Lat;ModuleName;ModuleType", '"Garten";8.5;52.1;"Aussen";"Outdoor"']
    table += ['Timestamp;"Timezone : Europe/Berlin";Temperature;Humidity']
    for row in rows():
        local = row.time.astimezone(ZoneInfo("Europe/Berlin"))
        table.append(f'{row.time.timestamp():.0f};"{local:%Y/%m/%d %H:%M:%S}";{row.T};{row.rh:.0f}')
    return {"Aussen_10_2024.csv": lines(*table)}
