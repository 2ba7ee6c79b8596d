"""How the weather record is read: the section `dataset` but for where its files come from."""

import contextlib
import re
from datetime import datetime
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from stages.lib.settings.base import Section, Text


class Record(Section):
    time: Text
    format: Text
    encoding: Text
    target: Text
    sentinels: Annotated[list[int | float], Field(description="a list of numbers")]
    separator: Annotated[
        str, Field(pattern=r"^[^\"\r\n0-9+.-]$", description='one character, such as "," or ";"')
    ] = ","
    leave_out: list[Text] = Field(default_factory=list, description="a list of column names")
    rename: dict[Text, Text] = Field(default_factory=dict, description="column names, each with its new name")
    missing: list[str] = Field(default_factory=list, description='a list of texts in quotes, such as ["", "NA"]')

    @field_validator("format")
    @classmethod
    def check_format(cls, format: str) -> str:
        """A moment written as `format` must come back, to the day, hour, minute or second."""
        moment = (2009, 12, 31, 13, 10, 5)
        with contextlib.suppress(ValueError, re.error):
            found = datetime.strptime(datetime(*moment, 678000).strftime(format), format)
            if found in [datetime(*moment[:parts]) for parts in (3, 4, 5, 6)]:  # type: ignore[arg-type]
                return format
        raise ValueError(
            "expected year, month and day, then hour, minute and second as far as the times have them, such as "
            f"%d.%m.%Y %H:%M:%S (Python's strptime), found {format!r}"
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
        for key in ("time", "target"):
            if others.data.get(key) in columns:
                raise ValueError(f"expected other columns than dataset.{key}, found {others.data[key]!r}")
        return columns

    @field_validator("target")
    @classmethod
    def check_target(cls, target: str, others: ValidationInfo) -> str:
        if target == others.data.get("time"):
            raise ValueError(f"expected a number column, found the time column's name {target!r}")
        return target
