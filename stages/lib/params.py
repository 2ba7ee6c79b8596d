"""Reading params.yaml of the working directory."""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from stages.lib.errors import UserError

PARAMS = Path("params.yaml")
_read: dict[tuple[str, ...], Any] = {}  # what this process was told first, by key


def params(*keys: str) -> Any:
    """Return the value at `keys` in params.yaml of the working directory.

    Raises UserError where the file is missing, is not YAML, or lacks one of the keys.
    """
    value = load()
    for depth, key in enumerate(keys):
        if not isinstance(value, dict) or key not in value:
            where = ".".join(keys[:depth]) or "the top level"
            known = f"; it has {', '.join(map(str, value))}" if isinstance(value, dict) else ""
            raise UserError(f"params.yaml: no `{key}` in {where}{known}")
        value = value[key]
    _read.setdefault(keys, value)
    return value


def load() -> Any:
    """Return the whole of params.yaml; UserError where it is missing, unreadable or not YAML."""
    try:
        return YAML(typ="safe").load(PARAMS)
    except FileNotFoundError:
        raise UserError("params.yaml: not found; run this in the root of the repository") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"params.yaml: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except DuplicateKeyError as error:
        key = re.search('duplicate key "(.*?)"', error.problem)[1]
        raise UserError(
            f"params.yaml, line {error.problem_mark.line + 1}: expected every key once, found {key} again; drop one"
        ) from None
    except YAMLError as error:
        raise UserError(f"params.yaml: not valid YAML: {error}") from None


def changed() -> list[str]:
    """The keys read so far whose values are no longer those of params.yaml, such as `models.gru`."""
    before = dict(_read)
    _read.clear()

    def now(keys: tuple[str, ...]) -> Any:
        try:
            return params(*keys)
        except UserError:
            return UserError

    try:
        return [".".join(keys) or "everything" for keys, value in before.items() if now(keys) != value]
    finally:
        _read.clear()
        _read.update(before)
