"""Where files come from: `source`, `size` and `sha256` of a record and of the section `reviews`; `latest`."""

import re
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import unquote

from pydantic import Field, field_validator

from stages.lib.settings.base import Section, Sha256, Text, format_value

SOURCE = "URLs, a URL, paths, a path or `sample`"


class Source(Section):
    """One kind of raw files."""

    suffixes: ClassVar[tuple[str, ...]]
    samples: ClassVar[tuple[str, ...]] = ("sample",)  # sources that are synthetic
    allow_many_paths: ClassVar[bool] = False  # one record in files that follow one another

    source: Annotated[str | list[str], Field(description=SOURCE)]
    size: Annotated[int | None, Field(ge=1, description="a number of bytes or null")]
    sha256: Sha256

    @property
    def addresses(self) -> list[str]:
        """`source` as a list."""
        return [self.source] if isinstance(self.source, str) else self.source

    @field_validator("source")
    @classmethod
    def check_source(cls, source: str | list[str]) -> str | list[str]:
        texts = [source] if isinstance(source, str) else source
        if not texts or not all(text.strip() for text in texts):
            raise ValueError(f"expected {SOURCE}, found {source!r}")
        if len(texts) > 1 and (set(cls.samples) & set(texts) or len({is_address(text) for text in texts}) > 1):
            raise ValueError(f"expected URLs only, paths only or `sample` alone, found {texts}")
        if len(texts) > 1 and not cls.allow_many_paths and not is_address(texts[0]):
            raise ValueError(f"expected one file, found {texts}")
        for text in [] if texts[0] in cls.samples else texts:
            if is_address(text):
                check_address(text)
            if not get_file_name(text).lower().endswith(cls.suffixes):
                raise ValueError(f"{text}: expected a name that ends in {', '.join(cls.suffixes)}")
        return source


class RecordSource(Source):
    suffixes = (".csv", ".csv.zip", ".zip", ".csv.gz", ".gz", ".txt", ".tsv", ".dat")
    samples = ("sample", "sample upwind", "sample forecast")  # a station, one upwind, a weather model
    allow_many_paths = True


class ReviewsSource(Source):
    suffixes = (".npz",)


class LatestSource(Section):
    """Where today's rows of a record are, for `predict`."""

    latest: Annotated[Text | None, Field(description="a path, a URL or null")] = None

    @field_validator("latest")
    @classmethod
    def check_latest(cls, latest: str | None) -> str | None:
        if latest is not None and not latest.strip():
            raise ValueError(f"expected a path, a URL or null, found {format_value(latest)}")
        if latest is not None and is_address(latest):
            check_address(latest)
        return latest


def is_address(text: str) -> bool:
    """Return whether `text` is a URL of any scheme, not a path."""
    return "://" in text


def check_address(text: str) -> None:
    """Raise ValueError unless the URL `text` can be fetched."""
    if not re.match(r"https?://[^/?#]", text, re.IGNORECASE):
        raise ValueError(f"{text}: expected http://... or https://..., or a path")


def hide_secrets(text: str) -> str:
    """Return the URL or path `text` without a password and without its query, which may hold a key."""
    return re.sub("//[^/@]*@", "//", re.split("[?#]", text)[0]) if is_address(text) else text


def get_file_name(text: str) -> str:
    """Return the file name of a path, or of a URL with unsafe characters replaced.

    A URL with a query need not end in a file name, as `...?station=5&format=csv`: `.csv` is added.
    """
    if not is_address(text):
        return Path(text).name
    name = re.split(r"[/\\]", unquote(re.split("[?#]", text)[0]))[-1]
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[-200:]
    if "?" in text and not name.lower().endswith((*RecordSource.suffixes, *ReviewsSource.suffixes)):
        return (name or "download")[-196:] + ".csv"
    return name
