"""The raw files of the weather record or of the reviews: fetched, copied or generated, and checked."""

import gzip
import hashlib
import http.client
import importlib
import json
import os
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from tqdm import tqdm
from urllib3 import exceptions as problem
from urllib3.util.retry import Retry

from stages.common import UserError, command, params, whole

RAW = Path("data/raw")
SUFFIXES = {"dataset": (".csv", ".csv.zip", ".zip", ".csv.gz", ".gz"), "reviews": (".npz",)}
CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 30.0  # seconds without one byte
RETRIES = 3  # after the first attempt: of a request, and of a body that was cut short
BACKOFF = 0.5  # seconds; doubles from one retry to the next
PASSING = (500, 502, 503, 504)  # HTTP states that are worth a retry
CHUNK = 1 << 16  # bytes


class RefusedError(Exception):
    """Why one address or path gave no usable file, in a few words."""


# --- What params.yaml asks for -------------------------------------------------------------------------


def scheme(text: str) -> str:
    """Return the scheme of an address in lower case, or "" for a path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return found[1].lower() if found else ""


def is_web_address(text: str) -> bool:
    """Return whether `text` is a URL over http or https with a host."""
    try:
        return scheme(text) in ("http", "https") and bool(urlsplit(text).hostname)
    except ValueError:
        return False


def checked_sources(section: str, source: Any) -> tuple[str, list[str]]:
    """Return ("sample", []), ("paths", texts) or ("addresses", texts) for `source` of `section`.

    Raises UserError unless it is a text or a list of texts of one kind, each with a suffix of SUFFIXES.
    """
    where = f"params.yaml: {section}.source"
    texts = source if isinstance(source, list) else [source]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UserError(f"{where}: expected URLs, a URL, paths, a path or `sample`, found {source!r}")
    if texts == ["sample"]:
        return "sample", []
    schemes = {scheme(text) for text in texts}
    if "sample" in texts or ("" in schemes and len(schemes) > 1):
        raise UserError(f"{where}: expected URLs only, paths only or `sample` alone, found {texts}")
    for text in texts:
        if schemes != {""} and not is_web_address(text):
            raise UserError(f"{where}: {text}: expected http://... or https://..., or a path")
        if not file_name(text).lower().endswith(SUFFIXES[section]):
            raise UserError(f"{where}: {text}: expected a name that ends in {', '.join(SUFFIXES[section])}")
    return ("paths" if schemes == {""} else "addresses"), texts


def checked_size(section: str, size: Any) -> int | None:
    """Return `size`; UserError unless it is a number of bytes or None."""
    if size is not None and (type(size) is not int or size < 1):
        raise UserError(f"params.yaml: {section}.size: expected a number of bytes or null, found {size!r}")
    return size


def checked_sha256(section: str, sha256: Any) -> str | None:
    """Return `sha256` in lower case; UserError unless it is 64 hexadecimal digits or None."""
    if sha256 is None:
        return None
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        where = f"params.yaml: {section}.sha256"
        raise UserError(f"{where}: expected 64 hexadecimal digits in quotes, or null, found {sha256!r}")
    return sha256.lower()


def file_name(text: str) -> str:
    """Return the last part of a path or, made safe for any file system, of an address's path."""
    if not scheme(text):
        return Path(text).name
    name = re.split(r"[/\\]", unquote(urlsplit(text).path))[-1]
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name)[-200:]


# --- Checks of a file ----------------------------------------------------------------------------------


def described(path: Path) -> dict[str, Any]:
    """Return the name, the size in bytes and the SHA-256 (hexadecimal) of the file `path`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "size": path.stat().st_size, "sha256": digest}


def check(path: Path, size: int | None, sha256: str | None) -> None:
    """Raise RefusedError unless `path` has this size and hash (None: any) and is whole."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise RefusedError("the file is empty")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise RefusedError("this is an HTML or XML page, not the file itself")
    found = described(path)
    if size not in (None, found["size"]):
        raise RefusedError(f"wrong size: expected {size} bytes, got {found['size']}")
    if sha256 not in (None, found["sha256"]):
        raise RefusedError(f"wrong sha256: expected {sha256}, got {found['sha256']}")
    suffix = path.suffix.lower()
    if suffix in (".zip", ".npz"):
        check_zip(path, csv=suffix == ".zip")
    elif suffix == ".gz":
        check_gzip(path)


def check_zip(path: Path, csv: bool) -> None:
    """Raise RefusedError unless the archive is whole and, where `csv`, holds exactly one CSV."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise RefusedError(f"not a whole zip archive ({error})") from None
    if damaged is not None:
        raise RefusedError(f"not a whole zip archive ({damaged} is damaged)")
    tables = [name for name in names if name.lower().endswith(".csv")]
    if csv and len(tables) != 1:
        listed = ", ".join((tables or names)[:5]) or "nothing"
        raise RefusedError(f"expected one CSV in the zip archive, found {len(tables)}; it holds {listed}")


def check_gzip(path: Path) -> None:
    """Raise RefusedError unless the gzip file can be read to its end."""
    try:
        with gzip.open(path) as file:
            while file.read(CHUNK):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise RefusedError(f"not a whole gzip file ({error})") from None


# --- Paths ---------------------------------------------------------------------------------------------


def copy(section: str, texts: list[str], directory: Path, size: int | None, sha256: str | None) -> list[Path]:
    """Copy the files `texts` into `directory`, check them, and return the copies in the same order.

    The name of one file stays, several get a number in front. Size and hash count for one file only.
    Raises UserError that names the path.
    """
    if len(texts) > 1 and (size, sha256) != (None, None):
        print(f"{section}: size and sha256 are not checked: they are for one file, source lists {len(texts)}")
        size = sha256 = None
    copies = []
    for number, text in enumerate(texts, start=1):
        prefix = f"{number:0{len(str(len(texts)))}d}_" if len(texts) > 1 else ""
        copies.append(directory / (prefix + file_name(text)))
        where = f"params.yaml: {section}.source: {text}"
        try:
            shutil.copyfile(os.path.expanduser(text), copies[-1])
            check(copies[-1], size, sha256)
        except FileNotFoundError:
            raise UserError(f"{where}: no such file (looked in {Path.cwd()})") from None
        except OSError as error:
            raise UserError(f"{where}: cannot be copied: {error.strerror or error}") from None
        except RefusedError as refused:
            wrong = str(refused).startswith("wrong ")
            hint = f"; put right or set to null {section}.size and {section}.sha256" if wrong else ""
            raise UserError(f"{where}: {refused}{hint}") from None
    return copies


# --- Addresses -----------------------------------------------------------------------------------------


def opened_session() -> requests.Session:
    """Return a session that retries, with back-off, failed connections and the states PASSING."""
    retry = Retry(
        total=RETRIES,
        backoff_factor=BACKOFF,
        status_forcelist=PASSING,
        raise_on_status=False,
        respect_retry_after_header=False,  # a server may ask for hours
    )
    session = requests.Session()
    for prefix in ("http://", "https://"):
        session.mount(prefix, requests.adapters.HTTPAdapter(max_retries=retry))
    session.headers["Accept-Encoding"] = "identity"  # sizes and hashes are those of the file as it lies there
    return session


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error` and the errors it wraps, the outermost first."""
    while error is not None:
        yield error
        wrapped = [e for e in (getattr(error, "reason", None), *error.args) if isinstance(e, Exception)]
        error = wrapped[0] if wrapped else error.__cause__ or error.__context__


def short_reason(error: BaseException) -> str:
    """Return in a few words why a request or the reading of its answer failed."""
    for cause in causes(error):
        match cause:
            case problem.NameResolutionError():
                return "the host name cannot be resolved"
            case problem.NewConnectionError():
                continue  # a kind of ConnectTimeoutError; its cause says more
            case problem.ProxyError():
                return "the proxy cannot be reached or refuses"
            case problem.SSLError():
                return "no secure connection (certificate or TLS)"
            case problem.ConnectTimeoutError():
                return f"no connection within {CONNECT_TIMEOUT:g} s"
            case problem.ReadTimeoutError():
                return f"the server sent nothing for {READ_TIMEOUT:g} s"
            case http.client.IncompleteRead(partial=int(got), expected=int(missing)):
                return f"the body was cut short, {got} of {got + missing} bytes came"
            case http.client.IncompleteRead():
                return "the body was cut short"
            case http.client.RemoteDisconnected():
                return "the server closed the connection without an answer"
            case requests.TooManyRedirects():
                return "too many redirects"
            case OSError(strerror=str(text)):
                return text[:1].lower() + text[1:]
    return f"{type(cause).__name__}: {cause}"[:120]


def receive(session: requests.Session, address: str, path: Path) -> None:
    """Write the body at `address` to `path`, once.

    Raises RefusedError where the server does not answer with a file, and urllib3's HTTPError where the
    body is cut short (fewer bytes than Content-Length) or stalls.
    """
    timeout = (CONNECT_TIMEOUT, READ_TIMEOUT)
    try:
        response = session.get(address, stream=True, timeout=timeout)
    except (requests.RequestException, problem.HTTPError) as error:
        raise RefusedError(short_reason(error)) from None
    with response:
        if response.status_code != 200:
            raise RefusedError(f"HTTP {response.status_code} {response.reason or ''}".strip())
        length = response.headers.get("Content-Length", "")
        bar = tqdm(
            desc=path.name,
            total=int(length) if length.isdigit() else None,
            unit="B",
            unit_scale=True,
            disable=None,
        )
        # Servers that call a .gz file a compressed body must not have it unpacked on the way.
        chunks = response.raw.stream(CHUNK, decode_content=path.suffix.lower() != ".gz")
        with path.open("wb") as file, bar:
            for chunk in chunks:
                file.write(chunk)
                bar.update(len(chunk))


def fetch(session: requests.Session, address: str, path: Path) -> None:
    """Write the body at `address` to `path`, again if it was cut short; raise RefusedError if that fails."""
    for attempt in range(RETRIES + 1):
        time.sleep(BACKOFF * 2**attempt if attempt else 0)
        try:
            return receive(session, address, path)
        except problem.HTTPError as error:
            failure = error
    raise RefusedError(f"{short_reason(failure)}, {RETRIES + 1} times")


def fetch_first(
    section: str, addresses: list[str], directory: Path, size: int | None, sha256: str | None
) -> tuple[str, Path]:
    """Return (address, path) of the first of `addresses` that serves a good file, put into `directory`.

    Raises UserError with every address and why it failed, and what to do instead.
    """
    failures = []
    with opened_session() as session:
        for address in addresses:
            print(f"{section}: trying {address}", flush=True)
            path = directory / file_name(address)
            try:
                fetch(session, address, path)
                check(path, size, sha256)
            except RefusedError as refused:
                path.unlink(missing_ok=True)
                failures.append(f"  {address}: {refused}")
            else:
                return address, path
    raise UserError("\n".join([f"{section}: no address served a good file:", *failures, *ways_on(section)]))


def ways_on(section: str) -> list[str]:
    """Return the lines that say what can be done where no address of `section` works."""
    example = {"dataset": "jena_climate_2009_2016.csv.zip", "reviews": "imdb.npz"}[section]
    return [
        "Three ways on:",
        f"  a path: set {section}.source in params.yaml to a file you have, such as ~/Downloads/{example}",
        f"  another URL: put it into the list {section}.source in params.yaml",
        "  synthetic data, no network needed: `make demo` runs the whole pipeline on `source: sample`,",
        "    with a split and a training that fit it",
        f"Size and hash of another file go into {section}.size and {section}.sha256 (or null: not checked).",
    ]


# --- The stage -----------------------------------------------------------------------------------------


def generate(section: str, directory: Path) -> list[Path]:
    """Write the synthetic sample of `section` into `directory` and return its files."""
    importlib.import_module(f"stages.samples.{section}").write(directory)
    print(f"{section}: wrote SYNTHETIC data (source: sample); nothing in it was measured")
    return sorted(directory.iterdir())


def download(section: str) -> None:
    """Fetch, copy or generate the raw files of a section, with a note of where they are from."""
    if section not in SUFFIXES:
        raise UserError(f"no section {section!r} to download; expected {' or '.join(SUFFIXES)}")
    kind, texts = checked_sources(section, params(section, "source"))
    size = checked_size(section, params(section, "size"))
    sha256 = checked_sha256(section, params(section, "sha256"))
    with whole(RAW / section) as directory:
        directory.mkdir()
        if kind == "sample":
            origin, files = "sample", generate(section, directory)
        elif kind == "paths":
            origin, files = ", ".join(texts), copy(section, texts, directory, size, sha256)
        else:
            origin, path = fetch_first(section, texts, directory, size, sha256)
            files = [path]
        note = {"source": origin, "synthetic": kind == "sample", "files": [described(path) for path in files]}
        (directory / "source.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    print(f"{section}: {len(files)} file{'s' * (len(files) > 1)} in {RAW / section}, from {origin}")


if __name__ == "__main__":
    command(download, "section")
