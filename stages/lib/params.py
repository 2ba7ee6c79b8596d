"""Reading params.yaml of the working directory."""

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from stages.lib.errors import UserError

PARAMS = Path("params.yaml")
_history: list[tuple[tuple[str, ...], Any]] = []  # (keys, value) of every `get_param` of this process


def get_param(*keys: str) -> Any:
    """Return the value at `keys` in params.yaml.

    Raises UserError if the file is missing, is not YAML, or lacks one of the keys.
    """
    value = require_path(load_params(), keys)
    _history.append((keys, value))
    return copy.deepcopy(value)


def require_path(value: Any, keys: tuple[str, ...]) -> Any:
    """Return the item at `keys` of the nested mapping `value`; UserError names the first missing key."""
    for depth, key in enumerate(keys):
        if not isinstance(value, dict) or key not in value:
            parent = ".".join(keys[:depth]) or "the top level"
            options = f"; it has {', '.join(map(str, value))}" if isinstance(value, dict) else ""
            raise UserError(f"params.yaml: no `{key}` in {parent}{options}")
        value = value[key]
    return value


def load_params() -> Any:
    """Return the content of params.yaml; raise UserError if it is missing, unreadable or not YAML.

    It is shared with later calls, so do not change it.
    """
    try:
        return parse_yaml(PARAMS.read_bytes())
    except FileNotFoundError:
        raise UserError("params.yaml: not found; run this in the root of the repository") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"params.yaml: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except DuplicateKeyError as error:
        key = re.search('duplicate key "(.*?)"', error.problem)[1]
        raise UserError(
            f"params.yaml, line {error.problem_mark.line + 1}: expected every key once, found {key} again; drop one"
        ) from None
    except (YAMLError, ValueError) as error:  # ValueError: such as a date 2009-02-31
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"params.yaml{line}: not valid YAML: {' '.join(str(problem).split())}") from None


@cache
def parse_yaml(content: bytes) -> Any:
    """Parse `content` once: parsing takes 15 ms, and `predict` reads params.yaml 30 times."""
    return YAML(typ="safe").load(content)


def list_changed_keys() -> list[str]:
    """Return the keys, such as `models.gru`, that this process read and whose values have changed since."""

    def has_changed(keys: tuple[str, ...], value: Any) -> bool:
        try:
            return require_path(current, keys) != value
        except UserError:
            return True

    try:
        current = load_params()
    except UserError:
        current = None  # every key counts as changed
    return list(
        dict.fromkeys(".".join(keys) or "all of it" for keys, value in _history if has_changed(keys, value))
    )
