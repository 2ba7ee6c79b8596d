"""Reading params.yaml of the working directory."""

import copy
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from stages.lib.errors import UserError

PARAMS = Path("params.yaml")
_read: list[tuple[tuple[str, ...], Any]] = []  # the keys asked for in this process, and what they held


def get_param(*keys: str) -> Any:
    """Return the value at `keys` in params.yaml of the working directory.

    Raises UserError where the file is missing, is not YAML, or lacks one of the keys.
    """
    value = require_path(load_params(), keys)
    _read.append((keys, copy.deepcopy(value)))
    return value


def require_path(value: Any, keys: tuple[str, ...]) -> Any:
    """Return what `value` holds at `keys`; UserError names the first that is not there."""
    for depth, key in enumerate(keys):
        if not isinstance(value, dict) or key not in value:
            where = ".".join(keys[:depth]) or "the top level"
            known = f"; it has {', '.join(map(str, value))}" if isinstance(value, dict) else ""
            raise UserError(f"params.yaml: no `{key}` in {where}{known}")
        value = value[key]
    return value


def load_params() -> Any:
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
    except (YAMLError, ValueError) as error:  # ValueError: such as a date 2009-02-31
        mark = getattr(error, "problem_mark", None)
        where, what = (f", line {mark.line + 1}" if mark else ""), getattr(error, "problem", None) or error
        raise UserError(f"params.yaml{where}: not valid YAML: {' '.join(str(what).split())}") from None


def list_changed_keys() -> list[str]:
    """The keys asked for so far whose values are no longer those of params.yaml, such as `models.gru`."""

    def differs(keys: tuple[str, ...], before: Any) -> bool:
        try:
            return require_path(now, keys) != before
        except UserError:
            return True

    try:
        now = load_params()
    except UserError:
        now = None  # nothing is there any more
    return list(dict.fromkeys(".".join(keys) or "all of it" for keys, before in _read if differs(keys, before)))
