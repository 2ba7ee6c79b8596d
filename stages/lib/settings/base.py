"""What the models of params.yaml's sections share: strictness, a few types, and one dialect for what is wrong.

Each field carries a `description` of what is expected there, which its message quotes; where a description is not
enough, a field validator raises a ValueError whose text says what is expected and what was found.
Pydantic and the models cost a stage about 0.13 s of processor time at its start.
"""

import difflib
import json
from collections.abc import Container, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from stages.lib import params
from stages.lib.errors import UserError


class Section(BaseModel):
    """A mapping of params.yaml: no unknown keys, no conversions (but a whole number will do for a float)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Kind = TypeVar("Kind", bound=BaseModel)
Text = Annotated[str, Field(min_length=1, description="a text")]
Name = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$", description="a name of letters, digits, _ and -")]
Whole = Annotated[int, Field(ge=0, description="a whole number from 0")]
Count = Annotated[int, Field(ge=1, description="a whole number from 1")]
Flag = Annotated[bool, Field(description="true or false")]
Sha256 = Annotated[
    str | None,
    Field(pattern="^[0-9a-fA-F]{64}$", description="64 hexadecimal digits in quotes, or null"),
]


def read_settings(kind: type[Kind], *keys: str) -> Kind:
    """Return the settings at `keys` of params.yaml that the model `kind` has; others there are not looked at.

    Raises UserError, a line for each wrong setting.
    """
    value = params.load_params()
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value = {key: params.get_param(*keys, key) for key in kind.model_fields if key in value}
    else:
        params.get_param(*keys)  # raises where it is missing
    return validate_settings(kind, value, *keys)


def validate_settings(kind: Any, value: Any, *where: str) -> Any:
    """Return `value`, found at `where` in params.yaml, as a `kind`; raise UserError with a line for each fault."""
    if faults := list(iter_errors(kind, value, *where)):
        raise UserError("\n".join(faults))
    return TypeAdapter(kind).validate_python(value)


def iter_errors(
    kind: Any,
    value: Any,
    *where: str,
    optional: Container[str] = (),
    homes: Mapping[Any, tuple[str, ...]] = MappingProxyType({}),
) -> Iterator[str]:
    """Yield a line for each fault of `value`, found at `where`, as a `kind`.

    The keys `optional` may be missing. `homes` says where single keys of `value` were found instead.
    """
    seen = set()
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            path, expected, known = describe_field(kind, fault["loc"])
            if path in seen or (fault["type"] == "missing" and path[-1] in optional):
                continue
            seen.add(path)  # of a union, each member has its say
            if fault["type"] == "extra_forbidden":
                text = f"no such setting{suggest_name(path[-1], known)}"
            elif fault["type"] == "missing" and path == fault["loc"]:
                text = f"expected {expected}, found nothing; add it"
            elif fault["type"] == "value_error":
                text = str(fault["ctx"]["error"])
            elif fault["type"] == "invalid_key":
                text = "expected a text as the setting's name"
            elif fault["loc"][-1:] == ("[key]",):
                text = f"expected {expected}, found {format_value(path[-1])}"
            else:
                text = f"expected {expected}, found {format_value(get_path(value, path))}"
            yield format_error(text, *(homes.get(path[0], where) if path else where), *path)


def describe_field(kind: Any, loc: tuple[int | str, ...]) -> tuple[tuple[int | str, ...], str, Iterable[str]]:
    """Return the keys of params.yaml in a fault's `loc`, what is expected there, and the keys known there."""
    path: list[int | str] = []
    expected, known = "", list[str]()
    while True:
        if get_origin(kind) is Annotated:
            kind, *extras = get_args(kind)
            expected = next((extra.description for extra in extras if isinstance(extra, FieldInfo)), expected)
        if type(None) in get_args(kind):  # `Wind | None`: pydantic does not name the member
            kind = next(member for member in get_args(kind) if member is not type(None))
        is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
        if is_model:
            known = list(kind.model_fields)
            expected = expected or f"settings ({', '.join(known)})"
        elif get_origin(kind) is dict:
            expected = expected or "names with their settings"
        if len(path) == len(loc) or not (is_model or get_origin(kind) is dict):
            return tuple(path), expected or "another value", known
        key = loc[len(path)]
        path.append(key)
        if not is_model:
            name, kind = get_args(kind)
            kind, expected = (name, "") if loc[len(path) :] == ("[key]",) else (kind, "")
        elif key in known:
            kind, expected = kind.model_fields[key].annotation, kind.model_fields[key].description
        else:
            return tuple(path), "", known


def get_path(value: Any, path: Iterable[int | str]) -> Any:
    """Return what lies at `path` in `value`."""
    for key in path:
        value = value[key]
    return value


def format_error(text: str, *where: Any) -> str:
    """Return a message about the key `where` of params.yaml."""
    return ": ".join(["params.yaml", *([".".join(map(str, where))] if where else []), text])


def format_value(value: Any) -> str:
    """Return `value` much as params.yaml has it, on one line."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # a date, a key that is no text
        text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."


def suggest_name(word: Any, known: Iterable[str]) -> str:
    """Return the end of a message on an unknown `word`: which of the `known` ones is like it, or all of them."""
    known = list(map(str, known))
    near = difflib.get_close_matches(str(word), known, 1)
    return f"; did you mean {near[0]}?" if near else f"; expected one of {', '.join(known) or '(none)'}"
