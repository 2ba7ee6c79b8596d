"""How a weather record is read: a line of the section `records`, but for where its files come from."""

import contextlib
import re
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from stages.lib.settings.base import Flag, Section, Text, Whole
from stages.lib.weather.units import check_conversion

EPOCH = {"epoch": 1, "epoch_ms": 1000}  # formats that count from 1970-01-01 UTC, and their counts in a second
ISO = "ISO8601"  # as pandas calls it
Texts = Annotated[list[Text], Field(description="a list of texts")]


def has_offset(format: str) -> bool:
    """Tell whether times in `format` name their distance from UTC."""
    return "%z" in format.replace("%%", "")


def is_strptime_format(format: str) -> bool:
    """Tell whether `parse_times` reads `format`: strptime's, without offsets and fractions of a second."""
    return format not in (ISO, *EPOCH) and not has_offset(format) and "%f" not in format.replace("%%", "")


class Pivot(Section):
    """Of a file with one value a line, the columns with the value's name and with the value."""

    columns: Text
    values: Text


class Resample(Section):
    """The grid that irregular readings are put on."""

    minutes: Annotated[float, Field(gt=0, description="a number of minutes above 0")]
    by: Annotated[Literal["mean", "last"], Field(description="mean or last")] = "mean"


class Wind(Section):
    """The two columns that `clean` turns into a wind vector."""

    speed: Text
    direction: Text


class Sensors(Section):
    """What `clean` needs to know of a record.

    `issued` makes the record one of forecasts: it is the column with the time at which a row was issued, or the
    hours between that time and the row's own. Without it, a row is measured, and known at its own time.
    """

    issued: Annotated[
        Text | Annotated[float, Field(gt=0)] | None,
        Field(description="a column name, a number of hours above 0, or null"),
    ] = None
    target: Annotated[Text | None, Field(description="a text, or null in a record with `issued`")]
    sentinels: list[int | float] = Field(default_factory=list, description="a list of numbers")
    wind: Annotated[Wind | None, Field(description="{speed: COLUMN, direction: COLUMN}, or null")] = None


class Times(Section):
    """The columns that hold the time, and its format."""

    time: Annotated[Text | list[Text], Field(description="a column name, or a list of them")]
    format: Text


class Record(Sensors, Times):  # the fields of Times come first, as check_target needs them
    """Names as in pandas.read_csv where it has them."""

    encoding: Text = "utf-8"
    separator: Annotated[
        str, Field(pattern=r"^[^\"\r\n0-9+.-]$", description='one character, such as "," or ";"')
    ] = ","
    leave_out: list[Text] = Field(default_factory=list, description="a list of column names")
    rename: dict[
        Text,
        Annotated[
            Text | Annotated[list[Text], Field(min_length=2, max_length=2)],
            Field(description="a new name, or [new name, unit in the file]"),
        ],
    ] = Field(default_factory=dict, description="column names, each with its new name")
    missing: list[str] = Field(default_factory=list, description='a list of texts in quotes, such as ["", "NA"]')
    skiprows: Whole = 0
    header: Annotated[
        Annotated[int, Field(ge=1, le=2)] | Annotated[list[Text], Field(min_length=1)],
        Field(description="1 or 2 lines, or a list of column names"),
    ] = 1
    comment: Texts = Field(default_factory=list, description='a list of texts in quotes, such as ["#"]')
    decimal: Annotated[Literal[".", ","], Field(description='"." or ","')] = "."
    flags: Texts = Field(default_factory=list, description="a list of texts that follow numbers")
    zone: Annotated[str | None, Field(description="a time zone such as Europe/Berlin, or null")] = None
    label: Annotated[Literal["start", "end"], Field(description="start or end")] = "end"
    resample: Annotated[Resample | None, Field(description="{minutes: NUMBER, by: mean or last}, or null")] = None
    pivot: Annotated[Pivot | None, Field(description="{columns: COLUMN, values: COLUMN}, or null")] = None
    entry: Annotated[str | None, Field(min_length=1, description="a name or pattern of one file, or null")] = None
    side_by_side: Flag = False
    _key: str = PrivateAttr("records")  # of the section, for messages

    @property
    def key(self) -> str:
        return self._key

    @property
    def times(self) -> list[str]:
        return [self.time] if isinstance(self.time, str) else self.time

    @property
    def issue_column(self) -> str | None:
        """The column with the time at which a row was issued; None if there is no such column."""
        return self.issued if isinstance(self.issued, str) else None

    @property
    def names(self) -> dict[str, str]:
        """The new name of each column that is renamed."""
        return {column: new if isinstance(new, str) else new[0] for column, new in self.rename.items()}

    @property
    def units(self) -> dict[str, str]:
        """The unit in the file of each column that is converted, by its new name."""
        return {new[0]: new[1] for new in self.rename.values() if not isinstance(new, str)}

    @field_validator("format")
    @classmethod
    def check_format(cls, format: str) -> str:
        """A moment written as `format` must come back, to the day, hour, minute or second."""
        if format in (ISO, *EPOCH):
            return format
        zone = timezone(timedelta(hours=1)) if has_offset(format) else None
        moment = (2009, 12, 31, 13, 10, 5)
        with contextlib.suppress(ValueError, re.error):
            back = datetime.strptime(datetime(*moment, 678000, zone).strftime(format), format)
            back = back.replace(microsecond=0 if "%f" in format else back.microsecond, tzinfo=None)
            if back in [datetime(*moment[:parts]) for parts in (3, 4, 5, 6)]:  # type: ignore[arg-type]
                return format
        raise ValueError(
            "expected year, month and day, then hour, minute and second as far as the times have them, such as "
            f"%d.%m.%Y %H:%M:%S (Python's strptime), ISO8601, epoch or epoch_ms, found {format!r}"
        )

    @field_validator("encoding")
    @classmethod
    def check_encoding(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except (LookupError, ValueError):  # a NUL in the name
            raise ValueError(f"expected an encoding such as utf-8 or cp1252, found {encoding!r}") from None
        return encoding

    @field_validator("separator")
    @classmethod
    def check_separator(cls, separator: str) -> str:
        if not separator.isascii():
            raise ValueError(f'expected one ASCII character, such as "," or ";", found {separator!r}')
        return separator

    @field_validator("leave_out")
    @classmethod
    def check_leave_out(cls, columns: list[str], others: ValidationInfo) -> list[str]:
        time = others.data.get("time", [])
        if strays := [name for name in ([time] if isinstance(time, str) else time) if name in columns]:
            raise ValueError(f"expected other columns than `time`, found {strays[0]!r}")
        if others.data.get("target") in columns:
            raise ValueError(f"expected other columns than `target`, found {others.data['target']!r}")
        return columns

    @field_validator("rename")
    @classmethod
    def check_rename(cls, columns: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        for column, new in columns.items():
            if not isinstance(new, str):
                try:
                    check_conversion(new[1], new[0])
                except ValueError as error:
                    raise ValueError(f"{column}: {error}") from None
        return columns

    @field_validator("target")
    @classmethod
    def check_target(cls, target: str | None, others: ValidationInfo) -> str | None:
        time = others.data.get("time")
        if target is None and others.data.get("issued") is None:
            raise ValueError("expected the column to forecast, found null; only a record with `issued` may lack it")
        if target == time or (isinstance(time, list) and target in time):
            raise ValueError(f"expected a number column, found the time column's name {target!r}")
        return target

    @field_validator("zone")
    @classmethod
    def check_zone(cls, zone: str | None) -> str | None:
        if zone is not None:
            try:
                ZoneInfo(zone)
            except (ValueError, OSError, LookupError):
                raise ValueError(
                    f"expected a time zone of the IANA database such as Europe/Berlin, found {zone!r}"
                ) from None
        return zone

    @model_validator(mode="after")
    def check_together(self) -> "Record":
        """Refuse settings that contradict each other."""
        if self.issue_column:
            if self.issue_column in (*self.times, self.target, *self.leave_out):
                raise ValueError(
                    f"issued: expected another column than `time`, `target` and `leave_out`, found {self.issued!r}"
                )
            if self.resample or self.pivot or self.side_by_side:
                raise ValueError(
                    "issued: expected a number of hours, or a file with one row per issue and valid time, without "
                    "`resample`, `pivot` and `side_by_side`"
                )
        if self.decimal == self.separator:
            raise ValueError(f"expected another separator than the decimal mark, found {self.separator!r} for both")
        if self.format in EPOCH and (self.zone or len(self.times) != 1):
            raise ValueError(
                f"format: {self.format} counts in UTC, in one column: take out `zone`, name one `time`"
            )
        if both := self.rename.keys() & set(self.leave_out):
            raise ValueError(
                f"leave_out: expected other columns than those of `rename`, found {min(both)!r} in both"
            )
        twice = [name for name, count in Counter(self.names.values()).items() if count > 1]
        if twice and not self.side_by_side:
            raise ValueError(f"rename: expected a new name of its own for each column, found {twice[0]!r} again")
        if not self.times or len(set(self.times)) < len(self.times):
            raise ValueError(f"time: expected each time column once, found {self.time}")
        if self.resample and self.label == "start":
            raise ValueError("label: expected end with `resample`, as its intervals are labelled by their end")
        if self.pivot:
            ones = [self.pivot.columns, self.pivot.values, *self.times]
            if len(set(ones)) < len(ones) or set(ones) & set(self.leave_out):
                raise ValueError(f"pivot: expected two columns besides `time` and `leave_out`, found {ones[:2]}")
        if isinstance(self.header, list):
            named = [self.names.get(column, column) for column in self.header]
            if strays := [column for column in self.times if column not in named]:
                raise ValueError(f"header: expected the time column {strays[0]!r} in it, found {self.header}")
        return self
