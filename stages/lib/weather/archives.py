"""Files as they are downloaded, unpacked: to their end, with their checksums, and never beyond a size."""

import gzip
import re
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
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
    """Yield `iter_entries(path)`.

    Raises UnpackError where the file is damaged or unpacks to more than LIMIT bytes, or a .zip has no table.
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
    if path.suffix.lower() == ".zip" and not find_tables(names):
        raise UnpackError(f"expected one CSV in the zip archive, found 0; it holds {format_names(names)}")


def find_tables(names: list[str]) -> list[str]:
    """Return which of the entries `names` of a .zip may be its table: those of the first kind that it has.

    The data of an archive of DWD between its metadata, then .csv files, then other text files.
    """
    entries = [name for name in names if not name.startswith("__MACOSX/")]  # where macOS puts each file's shadow
    plain = [Path(name.lower()).name for name in entries]
    for kind in (r"produkt_.*\.txt", r".*\.csv", r"(?!readme|metadata|metadaten|licen).*\.(txt|tsv|dat)"):
        if tables := [name for name, text in zip(entries, plain, strict=True) if re.fullmatch(kind, text)]:
            return tables
    return []


def choose_table(names: list[str], pattern: str | None, key: str) -> str:
    """Return which of the entries `names` of a .zip is its table, or fits the `pattern` of the setting `key`."""
    if pattern is None:
        tables, kind = find_tables(names), "one CSV in the zip archive"
        hint = f"; name it in {key}" if len(tables) > 1 else ""
    else:
        tables = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(Path(name).name, pattern)]
        kind, hint = f"one file in the zip archive that fits {pattern!r} ({key})", ""
    if len(tables) != 1:
        raise UnpackError(f"expected {kind}, found {len(tables)}; it holds {format_names(tables or names)}{hint}")
    return tables[0]


def format_names(names: list[str]) -> str:
    return ", ".join(names[:5]) or "nothing"


def check_archive(path: Path) -> None:
    """Read the file `path` to its end; UnpackError as `iter_checked_entries`."""
    for _ in iter_checked_entries(path):
        pass


def read_packed_csv(path: Path, pattern: str | None = None, key: str = "entry") -> tuple[str, bytes]:
    """Return the CSV at `path` (.csv, .gz or .zip): its name to show, its bytes.

    The `pattern` of the setting `key` names the file of a .zip that holds several. Raises UnpackError where the
    archive is damaged, or does not hold exactly one such file.
    """
    pieces: dict[str, list[bytes]] = {}
    names = []
    for name, piece in iter_checked_entries(path):
        if not piece:
            names.append(name)
        pieces.setdefault(name, []).append(piece)
    if path.suffix.lower() != ".zip":
        return str(path), b"".join(pieces[""])
    table = choose_table(names, pattern, key)
    return f"{path} ({table})", b"".join(pieces[table])
