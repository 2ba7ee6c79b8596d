"""Files that stages read and write: whole or not at all, and only if what was read is still there at the end.

DVC records a stage's dependencies after its command. If one of them changed while the command ran, DVC would file
the old result under the new dependency, and its run cache would hand that result out for good.
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
MEND = "free space or mend the permissions, then run it again"
SMALL = 1 << 20  # bytes up to which a file is compared by its content, above by size and modification time

Signature = tuple[int, int | str] | None
_read: dict[Path, Signature] = {}
_code: dict[Path, Signature] = {}  # every file of stages/ when the command began; empty: not guarded
_open: list[tuple[Path, Path]] = []  # (temporary, path) of the `whole` blocks now open, the outermost first


def fingerprint_file(path: Path) -> Signature:
    """What tells one state of a file from another; None where there is no file."""
    try:
        status = path.stat()
        if status.st_size > SMALL:
            return status.st_size, status.st_mtime_ns
        return status.st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def watch_code() -> None:
    """From now on `whole` refuses to write where what this process read or imported has changed.

    For a process that runs one stage, before it imports that stage: an import may take seconds.
    """
    _code.update((path, fingerprint_file(path)) for path in CODE.rglob("*.py"))


def watch_file(path: str | Path) -> Path:
    """Return `path`, noting its state for `check_unchanged`."""
    _read.setdefault(Path(path).absolute(), fingerprint_file(Path(path)))
    return Path(path)


def check_unchanged() -> None:
    """Raise UserError, under `guard`, naming what changed: parameters, watched files, imported code.

    A value or a small file that was changed and put back is unchanged.
    """
    if not _code:
        return
    changed = [f"params.yaml ({key})" for key in params.list_changed_keys()]
    modules = [module for name, module in sys.modules.items() if name.startswith("stages.")]
    imported = {Path(file).absolute() for module in modules if (file := getattr(module, "__file__", None))}
    before = {path: _code.get(path) for path in imported} | _read
    changed += sorted(os.path.relpath(path) for path, state in before.items() if fingerprint_file(path) != state)
    if changed:
        raise UserError(f"{', '.join(changed)}: changed while this ran; nothing was written: run it again")


def require_input(path: str | Path, stage: str) -> Path:
    """Return `path`, watched; raise UserError naming it and the `stage` that makes it where it does not exist."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: not found; make it with `dvc repro {stage}`")
    return watch_file(path)


@contextlib.contextmanager
def open_input(path: str | Path, stage: str) -> Iterator[Path]:
    """Yield `existing(path, stage)`; whatever a damaged file raises in the block becomes a UserError."""
    path = require_input(path, stage)
    try:
        yield path
    except UserError:
        raise
    except Exception as error:  # a parser's own, of whatever kind
        raise UserError(
            f"{path}: cannot be read ({format_reason(error)}); make it again with `dvc repro -f {stage}`"
        ) from None


def format_reason(error: BaseException) -> str:
    """What went wrong, in one line: an operating system's words, or the error's name and message."""
    text = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:200]


@contextlib.contextmanager
def atomic_output(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` only if the block succeeds.

    The block may create a file or a directory there. Blocks within one another, as in
    `with whole(a) as x, whole(b) as y`, are renamed together at the end of the outermost. On any exception nothing
    is left; what a kill left is removed the next time. Raises UserError, and leaves nothing, where what this
    process read has changed (see `guard`) or the output cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    place = len(_open)
    _open.append((temporary, path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(temporary, path)
        yield temporary
        if not os.path.lexists(temporary):
            raise RuntimeError(f"{path}: the block made nothing")  # a defect of the stage
        if not place:
            check_unchanged()
            for block in _open:
                replace_output(*block)
    except BaseException as error:
        while len(_open) > place:
            with contextlib.suppress(OSError):
                remove_leftovers(*_open.pop())
        ours = getattr(error, "filename", None) in (None, *map(str, path.parents))
        if isinstance(error, OSError) and (ours or str(error.filename).startswith(str(temporary))):
            raise UserError(f"{path}: cannot be written ({format_reason(error)}); {MEND}") from None
        raise
    while not place and _open:
        remove_leftovers(*_open.pop())


def replace_output(temporary: Path, path: Path) -> None:
    """Rename `temporary` to `path`, whatever is there."""
    if path.is_symlink():  # DVC's cache.type symlink
        path.unlink()
    if path.is_dir():
        path.rename(path.with_name(f".{path.name}.old"))
    temporary.replace(path)


def remove_leftovers(temporary: Path, path: Path) -> None:
    """Remove what a `whole` block, ended or killed, left next to `path`."""
    for leftover in (temporary, path.with_name(f".{path.name}.old")):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
