"""Files that stages read and write: whole or not at all, and only if what was read is still there at the end.

DVC records a stage's dependencies after its command. If one of them changed while the command ran, DVC would file
the new dependency with the old result, and its run cache would hand that result on for good.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from stages.lib import params
from stages.lib.errors import UserError

SMALL = 1 << 20  # bytes up to which a file is compared by its content, above by its size and time of change
_seen: dict[Path, tuple[int, int | str] | None] = {}
GUARDED = False  # set by lib/command.py: a process that calls several stages, such as a test, changes their inputs


def signature(path: Path) -> tuple[int, int | str] | None:
    """What tells one state of a file from another; None where there is no file."""
    try:
        status = path.stat()
        small = status.st_size <= SMALL
        return status.st_size, hashlib.sha256(path.read_bytes()).hexdigest() if small else status.st_mtime_ns
    except OSError:
        return None


def watch(path: str | Path) -> Path:
    """Return `path`; until this process ends, `whole` refuses to write once that file has changed."""
    path = Path(path).absolute()
    _seen.setdefault(path, signature(path))
    return path


def existing(path: str | Path, stage: str) -> Path:
    """Return `path`, watched; raise UserError naming it and the `stage` that makes it where it does not exist."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: not found; make it with `dvc repro {stage}`")
    watch(path)
    return path


@contextlib.contextmanager
def reading(path: str | Path, stage: str) -> Iterator[Path]:
    """Yield `existing(path, stage)`; whatever a damaged file raises in the block becomes a UserError."""
    path = existing(path, stage)
    try:
        yield path
    except UserError:
        raise
    except Exception as error:  # a parser's own, of whatever kind
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: cannot be read ({reason}); make it again with `dvc repro -f {stage}`") from None


def check_unchanged() -> None:
    """Raise UserError where what this process read, parameters, data or code, has changed since."""
    changed = [f"params.yaml ({key})" for key in params.changed()]
    for path, before in _seen.items():
        if signature(path) != before:
            changed.append(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
    if changed:
        raise UserError(f"{', '.join(changed)}: changed while this ran; nothing was written, run it again")


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` only if the block succeeds.

    The block may create a file or a directory there. On any exception nothing is left; what a kill left is
    removed the next time. Raises UserError, and leaves nothing, where what this process read has changed.
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
        if GUARDED:
            check_unchanged()
        if path.is_symlink():  # DVC's cache.type symlink
            path.unlink()
        if path.is_dir():
            path.rename(aside)
        temporary.replace(path)
    finally:
        clear()
