"""Files as they are downloaded, unpacked: to their end, with their checksums, and never beyond a size."""

import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path

# Bytes of one file, packed or not. Jena's record has 43 million, and parsing takes four times a file's size.
LIMIT = 500_000_000
CHUNK = 1 << 16


class UnpackError(Exception):
    """Why a file cannot be used, in a few words."""


def iter_entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, b""), then (name, piece) for all of its bytes, of each file in the archive `path`.

    What a .gz holds, and a file that is not packed, has the name "".
    """
    suffix = path.suffix.lower()
    if suffix in (".zip", ".npz"):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                yield entry.filename, b""
                with archive.open(entry) as file:
                    while piece := file.read(CHUNK):
                        yield entry.filename, piece
    else:
        with gzip.open(path) if suffix == ".gz" else path.open("rb") as file:
            yield "", b""
            while piece := file.read(CHUNK):
                yield "", piece


def iter_checked_entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield `entries(path)`.

    Raises UnpackError where the file is damaged or unpacks to more than LIMIT bytes, or a .zip has not one CSV.
    """
    names, size = [], 0
    try:
        for name, piece in iter_entries(path):
            names += [] if piece else [name]
            size += len(piece)
            if size > LIMIT:
                raise UnpackError(f"unpacked, it has more than {LIMIT:,} bytes")
            yield name, piece
    except UnpackError:
        raise
    except Exception as error:  # zipfile, gzip and the decompressors each have their own kinds
        text = " ".join(str(error).split()) or type(error).__name__
        raise UnpackError(f"not a whole {path.suffix[1:].lower()} file ({text[:200]})") from None
    found = [name for name in names if is_csv_entry(name)]
    if path.suffix.lower() == ".zip" and len(found) != 1:
        listed = ", ".join((found or names)[:5]) or "nothing"
        raise UnpackError(f"expected one CSV in the zip archive, found {len(found)}; it holds {listed}")


def is_csv_entry(name: str) -> bool:
    """Whether the entry `name` of a .zip is the table: a CSV, and not its shadow that macOS adds."""
    return name.lower().endswith(".csv") and not name.startswith("__MACOSX/")


def check_archive(path: Path) -> None:
    """Read the file `path` to its end; UnpackError as `unpacked`."""
    for _ in iter_checked_entries(path):
        pass


def read_packed_csv(path: Path) -> tuple[str, bytes]:
    """Return the CSV at `path` (.csv, .gz or .zip): its name to show, its bytes; UnpackError as `unpacked`."""
    names, pieces = [], []
    for name, piece in iter_checked_entries(path):
        if not name or is_csv_entry(name):
            names.append(name)
            pieces.append(piece)
    return f"{path} ({names[0]})" if names[0] else str(path), b"".join(pieces)
