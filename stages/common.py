"""What every stage shares: reading params.yaml, writing an output whole or not at all, reporting errors."""

import argparse
import contextlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


class UserError(Exception):
    """Something the user can mend: the message says where it is and what to do."""


def params(*keys: str) -> Any:
    """Return the value at `keys` in params.yaml of the working directory.

    Raises UserError where the file is missing, is not YAML, or lacks one of the keys.
    """
    try:
        value = YAML(typ="safe").load(Path("params.yaml"))
    except FileNotFoundError:
        raise UserError("params.yaml: not found; run this in the root of the repository") from None
    except YAMLError as error:
        raise UserError(f"params.yaml: not valid YAML: {error}") from None
    for depth, key in enumerate(keys):
        if not isinstance(value, dict) or key not in value:
            where = ".".join(keys[:depth]) or "the top level"
            known = f"; it has {', '.join(map(str, value))}" if isinstance(value, dict) else ""
            raise UserError(f"params.yaml: no `{key}` in {where}{known}")
        value = value[key]
    return value


def unit(column: str) -> str:
    """The unit in a column's name: `degC` of `T (degC)`; `own unit` where it names none."""
    inside = re.search(r"\(([^()]+)\)\s*$", column)
    return inside[1] if inside else "own unit"


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` only if the block succeeds.

    The block may create a file or a directory there. On any exception nothing is left; what a kill left is
    removed the next time.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, aside = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")

    def clear() -> None:
        for leftover in (temporary, aside):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            leftover.unlink(missing_ok=True)

    clear()
    try:
        yield temporary
        if path.is_symlink():  # DVC's cache.type symlink
            path.unlink()
        if path.is_dir():
            path.rename(aside)
        temporary.replace(path)
    finally:
        clear()


def command(stage: Callable[..., None], *arguments: str) -> None:
    """Run `stage` as a command whose positional arguments are `arguments`.

    Exit code 0 on success, 1 on a UserError (its message on stderr, no traceback),
    2 on wrong arguments, 130 on Ctrl-C.
    """
    name = Path(sys.modules[stage.__module__].__file__).stem
    parser = argparse.ArgumentParser(prog=f"./run {name}", description=stage.__doc__)
    for argument in arguments:
        parser.add_argument(argument, help="as in params.yaml and dvc.yaml")
    values = vars(parser.parse_args())
    try:
        stage(**values)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        sys.exit(130)
