"""Strict models for the sections of params.yaml, and one wording for their errors.

The `description` of a field says what it expects; error messages quote it. Where that is not enough, a field
validator raises a ValueError whose text says what was expected and what was found.
Importing pydantic and building the models takes about 0.13 s of processor time.
"""

import difflib
import json
from collections.abc import Container, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from stages.lib import params
from stages.lib.errors import UserError

NAME = "a name of letters, digits, _ and -"
Text = Annotated[str, Field(min_length=1, description="a text")]
Name = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$", description=NAME)]
Whole = Annotated[int, Field(ge=0, description="a whole number from 0")]
Count = Annotated[int, Field(ge=1, description="a whole number from 1")]
Flag = Annotated[bool, Field(description="true or false")]
Sha256 = Annotated[
    str | None,
    Field(pattern="^[0-9a-fA-F]{64}$", description="64 hexadecimal digits in quotes, or null"),
]
WORDED, WORDED_MISSING = "worded", "worded_missing"  # types of the errors that `Section` has put into words


class Section(BaseModel):
    """A mapping in params.yaml: no unknown keys and no conversions, except from whole numbers to floats."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def word_errors(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Replace pydantic's errors by ours, one per key. Errors of a nested Section already have their words."""
        try:
            return handler(value)
        except ValidationError as error:
            texts: dict[tuple[int | str, ...], PydanticCustomError] = {}
            for details in error.errors(include_url=False):
                kind, path, text = cls.word_error(value, details)
                texts.setdefault(path, PydanticCustomError(kind, text))
            errors = [InitErrorDetails(type=text, loc=path, input=value) for path, text in texts.items()]
            raise ValidationError.from_exception_data(cls.__name__, errors) from None

    @classmethod
    def word_error(cls, value: Any, details: ErrorDetails) -> tuple[str, tuple[int | str, ...], str]:
        """Return the type, the keys and the text of one error in `value`."""
        kind, path = details["type"], details["loc"]
        if not path:
            return WORDED, (), f"expected settings ({', '.join(cls.model_fields)}), found {format_value(value)}"
        key = path[0]
        if kind == "extra_forbidden":
            return WORDED, path, f"no such setting{suggest_name(key, cls.model_fields)}"
        if kind == "invalid_key":
            return WORDED, path, "expected a text as the setting's name"
        if (
            kind == "value_error"
        ):  # at a name of a dict[Name, Section] if a validator of that whole section raised it
            keys = path if all(isinstance(part, str) for part in path) else (key,)
            return WORDED, keys, str(details["ctx"]["error"])
        if kind in (WORDED, WORDED_MISSING) and len(path) > 1:
            return kind, path, details["msg"]
        if path[-1] == "[key]" and not cls.model_fields[str(key)].description:  # of a dict[Name, ...]
            return WORDED, path[:-1], f"expected {NAME}, found {format_value(path[-2])}"
        expected = cls.describe_key(str(key))
        if kind == "missing" and len(path) == 1:
            return WORDED_MISSING, path, f"expected {expected}, found nothing; add it"
        return WORDED, (key,), f"expected {expected}, found {format_value(value[key])}"

    @classmethod
    def describe_key(cls, key: str) -> str:
        """Return what is expected at `key`."""
        field = cls.model_fields[key]
        if field.description:
            return field.description
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            return f"settings ({', '.join(field.annotation.model_fields)})"
        return "names with their settings"


Settings = TypeVar("Settings", bound=Section)


def read_settings(kind: type[Settings], *keys: str) -> Settings:
    """Return the section at `keys` of params.yaml as a `kind`, ignoring keys that `kind` does not have.

    Raises UserError with a line for each error.
    """
    value = params.load_params()
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value = {key: params.get_param(*keys, key) for key in kind.model_fields if key in value}
    else:
        params.get_param(*keys)  # raises UserError if the section is missing
    return validate_settings(kind, value, *keys)


def validate_settings(kind: type[Settings], value: Any, *keys: str) -> Settings:
    """Return `value`, the section at `keys`, as a `kind`; raise UserError with a line for each error."""
    if errors := list(iter_errors(kind, value, *keys)):
        raise UserError("\n".join(errors))
    return kind.model_validate(value)


def iter_errors(
    kind: type[Section],
    value: Any,
    *keys: str,
    optional: Container[str] = (),
    origins: Mapping[Any, tuple[str, ...]] = MappingProxyType({}),
) -> Iterator[str]:
    """Yield a line for each error in `value`, the section at `keys`, as a `kind`.

    The keys `optional` may be missing. `origins` maps keys of `value` that come from other sections to those.
    """
    try:
        kind.model_validate(value)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            path = details["loc"]
            if details["type"] == WORDED_MISSING and path[-1] in optional:
                continue
            section = origins.get(path[0], keys) if path else keys
            text = details["msg"].removeprefix("Value error, ")  # of a model validator
            yield format_error(text, *section, *path)


def format_error(text: str, *keys: Any) -> str:
    """Return a message about the setting at `keys` of params.yaml."""
    return ": ".join(["params.yaml", *([".".join(map(str, keys))] if keys else []), text])


def format_value(value: Any) -> str:
    """Return `value` much as params.yaml has it, on one line."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # a date, or a key that is not a text
        text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."


def suggest_name(word: Any, names: Iterable[str]) -> str:
    """Return the end of a message on an unknown `word`: the most similar of `names`, or all of them."""
    names = list(map(str, names))
    matches = difflib.get_close_matches(str(word), names, 1)
    return f"; did you mean {matches[0]}?" if matches else f"; expected one of {', '.join(names) or '(none)'}"
