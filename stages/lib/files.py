"""Atomic outputs and watched inputs.

DVC hashes a stage's dependencies after the command has ended. If one of them changes while the command runs, DVC
records the old result under the new dependency, and its run cache keeps serving that result. So nothing is written
if a file, parameter or module that this process read has changed.
"""

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.lib import params
from stages.lib.errors import UserError

CODE = Path(__file__).absolute().parents[1]
DISK_ADVICE = "free space or mend the permissions, then run it again"
SMALL = 1 << 20  # bytes; a larger file is compared by size and modification time, not by content

Fingerprint = tuple[int, int | str] | None
_input_states: dict[Path, Fingerprint] = {}
_code_states: dict[Path, Fingerprint] = {}  # every module of stages/ at the start; empty: changes are not checked
_open_outputs: list[tuple[Path, Path]] = []  # (temporary, path) of each open `atomic_output`, the outermost first


def fingerprint_file(path: Path) -> Fingerprint:
    """Return a value that differs if the file differs, or None if there is no file."""
    try:
        status = path.stat()
        if status.st_size > SMALL:
            return status.st_size, status.st_mtime_ns
        return status.st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def watch_code() -> None:
    """Make `atomic_output` refuse to write once anything this process read or imported has changed.

    Call it before importing the stage, as an import may take seconds.
    """
    _code_states.update((path, fingerprint_file(path)) for path in CODE.rglob("*.py"))


def watch_file(path: str | Path) -> Path:
    """Return `path`, and record its state for `check_unchanged`."""
    _input_states.setdefault(Path(path).absolute(), fingerprint_file(Path(path)))
    return Path(path)


def check_unchanged() -> None:
    """Raise UserError naming each parameter, watched file and imported module that has changed.

    Does nothing unless `watch_code` was called. A value or a small file that was changed and restored is unchanged.
    """
    if not _code_states:
        return
    changes = [f"params.yaml ({key})" for key in params.list_changed_keys()]
    modules = [module for name, module in sys.modules.items() if name.startswith("stages.")]
    imports = {Path(file).absolute() for module in modules if (file := getattr(module, "__file__", None))}
    states = {path: _code_states.get(path) for path in imports} | _input_states
    changes += sorted(os.path.relpath(path) for path, state in states.items() if fingerprint_file(path) != state)
    if changes:
        raise UserError(f"{', '.join(changes)}: changed while this ran; nothing was written: run it again")


def resolve_path(path: str) -> Path:
    """Return `path` relative to the folder in which `./run` was called; it runs in that of the repository."""
    called_from = Path(os.environ.get("CALLED_FROM", "."))
    expanded = Path(path).expanduser()
    return expanded if called_from.resolve() == Path.cwd() else called_from / expanded


def check_is_file(path: Path) -> None:
    """Raise UserError unless `path` is a regular file: reading from a pipe or a device might never end."""
    if path.is_file():
        return
    problem = "is a directory" if path.is_dir() else "is not a regular file" if path.exists() else "not found"
    raise UserError(f"{path}: {problem}; expected a station's CSV file")


def require_input(path: str | Path, stage: str) -> Path:
    """Return `path`, watched; raise UserError naming the `stage` that makes it if there is no such file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: not found; make it with `dvc repro {stage}`")
    return watch_file(path)


@contextlib.contextmanager
def open_input(path: str | Path, stage: str) -> Iterator[Path]:
    """Yield `require_input(path, stage)`; turn any exception of the block, which reads it, into a UserError."""
    path = require_input(path, stage)
    try:
        yield path
    except UserError:
        raise
    except Exception as error:  # each parser raises its own kind
        raise UserError(
            f"{path}: cannot be read ({format_reason(error)}); make it again with `dvc repro -f {stage}`"
        ) from None


def format_reason(error: BaseException) -> str:
    """Return the cause of `error` on one line: the system's words, or the exception's name and message."""
    text = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:200]


def create_folder(folder: Path) -> None:
    """Create `folder` and its parents; raise UserError naming the folder and what prevents it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        nearest = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
        if not nearest.is_dir():
            reason = f"{nearest} is not a folder; remove it or write elsewhere"
        else:
            reason = f"{format_reason(error)} in {nearest}; change that or write elsewhere"
        raise UserError(f"{folder}: this folder cannot be created: {reason}") from None


@contextlib.contextmanager
def atomic_output(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` only if the block succeeds.

    The block may create a file or a directory there. Nested blocks, as in
    `with atomic_output(a) as x, atomic_output(b) as y`, are renamed together at the end of the outermost. An
    exception leaves nothing behind; the leftovers of a killed process are removed the next time. Raises UserError
    if an input has changed (see `check_unchanged`) or the output cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    depth = len(_open_outputs)
    _open_outputs.append((temporary, path))
    try:
        create_folder(path.parent)
        remove_leftovers(temporary, path)
        yield temporary
        if not os.path.lexists(temporary):
            raise RuntimeError(f"{path}: the block made nothing")  # a defect of the stage
        if not depth:
            check_unchanged()
            for output in _open_outputs:
                replace_output(*output)
    except BaseException as error:
        while len(_open_outputs) > depth:
            with contextlib.suppress(OSError):
                remove_leftovers(*_open_outputs.pop())
        filename = getattr(error, "filename", None)
        concerns_output = filename in (None, *map(str, path.parents)) or str(filename).startswith(str(temporary))
        if isinstance(error, OSError) and concerns_output:
            raise UserError(f"{path}: cannot be written ({format_reason(error)}); {DISK_ADVICE}") from None
        raise
    while not depth and _open_outputs:
        remove_leftovers(*_open_outputs.pop())


def replace_output(temporary: Path, path: Path) -> None:
    """Rename `temporary` to `path`, replacing a file, a directory or a link."""
    if path.is_symlink():  # DVC's cache.type symlink
        path.unlink()
    if path.is_dir():
        path.rename(path.with_name(f".{path.name}.old"))
    temporary.replace(path)


def remove_leftovers(temporary: Path, path: Path) -> None:
    """Remove what an `atomic_output` block, ended or killed, left next to `path`."""
    for leftover in (temporary, path.with_name(f".{path.name}.old")):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
