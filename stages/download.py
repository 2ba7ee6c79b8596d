"""Fetch, copy or generate the raw files of a weather record or of the reviews, and check them."""

import hashlib
import importlib
import json
import os
import re
import shutil
import stat
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from tqdm import tqdm
from urllib3 import exceptions as problem
from urllib3.util.retry import Retry

from stages.lib.errors import UserError
from stages.lib.files import atomic_output, format_reason
from stages.lib.settings.base import read_settings
from stages.lib.settings.source import RecordSource, ReviewsSource, Source, get_file_name, is_address
from stages.lib.weather import archives
from stages.lib.weather.record import FOLDER

REVIEWS = "reviews"  # the one section that is no record
CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 30.0  # seconds without a byte
TIME_LIMIT = 3600.0  # seconds for one address, retries included
RETRIES = 3  # after the first attempt, of a request and of a truncated body
BACKOFF = 0.5  # seconds; doubles from one retry to the next
TRANSIENT = (500, 502, 503, 504)  # HTTP status codes to retry
REASONS = {  # patterns in the messages of requests and urllib3, and short reasons
    "NameResolutionError": "the host name cannot be resolved",
    "ProxyError": "the proxy cannot be reached or refuses",
    "SSLError": "no secure connection (certificate or TLS)",
    "Connection refused": "connection refused",
    r"connect timeout=([\d.]+)": r"no connection within \1 s",
    "Read timed out": "the server sent nothing for too long",
    r"IncompleteRead\((\d+ bytes) read, (\d+) more": r"the body was cut short, \1 came, \2 more were announced",
    "without response": "the server closed the connection without an answer",
}


class RefusedError(Exception):
    """Why one address or path gave no usable file. The message is a few words long."""


def describe_file(path: Path) -> dict[str, Any]:
    """Return the name, the size in bytes and the SHA-256 (hexadecimal) of the file `path`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "size": path.stat().st_size, "sha256": digest}


def check_file(path: Path, size: int | None, sha256: str | None) -> None:
    """Raise RefusedError unless `path` is complete and has this size and SHA-256 (None: not checked)."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise RefusedError("the file is empty")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise RefusedError("this is an HTML or XML page, not the file itself")
    actual = describe_file(path)
    if size not in (None, actual["size"]):
        raise RefusedError(f"wrong size: expected {size} bytes, got {actual['size']}")
    if sha256 not in (None, actual["sha256"]):
        raise RefusedError(f"wrong sha256: expected {sha256}, got {actual['sha256']}")
    try:
        archives.check_archive(path)
    except archives.UnpackError as error:
        raise RefusedError(str(error)) from None


def copy_files(section: str, paths: list[str], directory: Path, size: int | None, sha256: str | None) -> list[Path]:
    """Copy the files at `paths` into `directory`, check them, and return the copies in the same order.

    Several files get a number in front of their names. `size` and `sha256` are checked for a single file only.
    Raises UserError naming the path.
    """
    if len(paths) > 1 and (size, sha256) != (None, None):
        print(f"{section}: size and sha256 are not checked: they are for one file, source lists {len(paths)}")
        size = sha256 = None
    copies = []
    for number, path in enumerate(paths, start=1):
        prefix = f"{number:0{len(str(len(paths)))}d}_" if len(paths) > 1 else ""
        copies.append(directory / (prefix + get_file_name(path)))
        label = f"params.yaml: {section}.source: {path}"
        original = Path(os.path.expanduser(path))  # unlike Path.expanduser, accepts the home of an unknown user
        try:
            status = original.stat()
            if not stat.S_ISREG(status.st_mode):  # reading from a device or a pipe may never end
                kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
                raise RefusedError(f"expected a file, found {kind}")
            if status.st_size > archives.LIMIT:
                raise RefusedError(f"expected at most {archives.LIMIT:,} bytes, found {status.st_size:,}")
            shutil.copyfile(original, copies[-1])
            check_file(copies[-1], size, sha256)
        except FileNotFoundError:
            raise UserError(f"{label}: no such file (looked in {Path.cwd()})") from None
        except OSError as error:
            raise UserError(f"{label}: cannot be copied to {directory.parent}: {format_reason(error)}") from None
        except RefusedError as refused:
            is_mismatch = str(refused).startswith("wrong ")
            hint = f"; correct {section}.size and {section}.sha256, or set them to null" if is_mismatch else ""
            raise UserError(f"{label}: {refused}{hint}") from None
    return copies


class Session(requests.Session):
    """A session that retries failed connections and the status codes TRANSIENT, with back-off."""

    def __init__(self) -> None:
        super().__init__()
        retry = Retry(
            RETRIES,
            backoff_factor=BACKOFF,
            status_forcelist=TRANSIENT,
            raise_on_status=False,
            respect_retry_after_header=False,  # a server may ask for a pause of hours
        )
        for prefix in ("http://", "https://"):
            self.mount(prefix, requests.adapters.HTTPAdapter(max_retries=retry))
        self.headers["Accept-Encoding"] = "identity"  # no compression: size and hash are those of the file

    def get_redirect_target(self, response: requests.Response) -> str | None:
        """Return where `response` redirects to; raise RefusedError if that leaves https."""
        target = super().get_redirect_target(response)
        if target and response.url.lower().startswith("https:"):
            address = urljoin(response.url, target)
            if not address.lower().startswith("https:"):
                raise RefusedError(f"redirected from https to {address[:120]}")
        return target


def shorten_reason(error: BaseException) -> str:
    """Return in a few words why a request failed."""
    text = f"{type(error).__name__}: {error}"
    for pattern, reason in REASONS.items():
        if match := re.search(pattern, text):
            return match.expand(reason)
    return text[:120]


def receive_body(session: requests.Session, address: str, path: Path, limit: int, deadline: float) -> str:
    """Write the body at `address` to `path` in one attempt; return the address that served it, without its query.

    Raises RefusedError if there is no file, if it has more than `limit` bytes, or if time.monotonic() passes
    `deadline`; urllib3's HTTPError if the body is truncated or stalls.
    """
    try:
        response = session.get(address, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT))
    except (requests.RequestException, problem.HTTPError) as error:
        raise RefusedError(shorten_reason(error)) from None
    with response:
        if response.status_code != 200:
            raise RefusedError(f"HTTP {response.status_code} {response.reason or ''}".strip())
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        if total and total > limit:
            raise RefusedError(f"expected at most {limit:,} bytes, the server announces {total:,}")
        bar = tqdm(desc=path.name, total=total, unit="B", unit_scale=True, disable=None)
        # Some servers declare a .gz file as a compressed body; it must not be decompressed on the way.
        decode = path.suffix.lower() != ".gz"
        with path.open("wb") as file, bar:
            while chunk := response.raw.read1(archives.CHUNK, decode):  # read() would wait for a full chunk
                file.write(chunk)
                bar.update(len(chunk))
                if file.tell() > limit:
                    raise RefusedError(f"expected at most {limit:,} bytes, the server sends more")
                if time.monotonic() > deadline:
                    raise RefusedError(f"not complete after {TIME_LIMIT:,.0f} s ({file.tell():,} bytes)")
        return re.split("[?#]", response.url)[0]


def fetch_file(session: requests.Session, address: str, path: Path, limit: int) -> str:
    """Call `receive_body`, and again if the body was truncated; raise RefusedError if the last attempt fails."""
    deadline = time.monotonic() + TIME_LIMIT
    for attempt in range(RETRIES + 1):
        time.sleep(BACKOFF * 2**attempt if attempt else 0)
        try:
            return receive_body(session, address, path, limit, deadline)
        except problem.HTTPError as error:
            failure = error
    raise RefusedError(f"{shorten_reason(failure)}, {RETRIES + 1} times")


def fetch_first_good(
    section: str, addresses: list[str], directory: Path, size: int | None, sha256: str | None
) -> tuple[dict[str, str], Path]:
    """Try `addresses` in order until one serves a good file; raise UserError with every failure if none does.

    Returns a note with the address as `source`, and after a redirect the last address as `redirected`; and the
    path.
    """
    failures = []
    with Session() as session:
        for address in addresses:
            print(f"{section}: trying {address}", flush=True)
            path = directory / get_file_name(address)
            try:
                final = fetch_file(session, address, path, size or archives.LIMIT)
                check_file(path, size, sha256)
            except RefusedError as refused:
                path.unlink(missing_ok=True)
                failures.append(f"  {address}: {refused}")
            else:
                redirected = {} if final == re.split("[?#]", address)[0] else {"redirected": final}
                return {"source": address} | redirected, path
    example = "imdb.npz" if section == REVIEWS else "jena_climate_2009_2016.csv.zip"
    advice = f"""Try one of these:
  a path: set {section}.source in params.yaml to a file you have, such as ~/Downloads/{example}
  another URL: put it into the list {section}.source in params.yaml
  synthetic data, no network needed: `make demo` runs the whole pipeline on `source: sample`
Size and hash of another file go into {section}.size and {section}.sha256 (or null: not checked)."""
    raise UserError("\n".join([f"{section}: no address served a good file:", *failures, advice]))


def download(name: str) -> None:
    """Fetch, copy or generate the raw files of the record NAME, or of the `reviews`, and note their source."""
    settings: Source
    if name == REVIEWS:
        settings = read_settings(ReviewsSource, "reviews")
        section, folder, sample = "reviews", Path("data/raw/reviews"), "reviews"
    else:
        settings = read_settings(RecordSource, "records", name)
        section, folder, sample = f"records.{name}", FOLDER / name / "raw", "weather"
    sources, size, sha256 = settings.addresses, settings.size, settings.sha256 and settings.sha256.lower()
    note: dict[str, Any] = {"source": ", ".join(sources)}
    with atomic_output(folder) as directory:
        directory.mkdir()
        is_synthetic = sources[0] in settings.samples
        if is_synthetic:
            importlib.import_module(f"stages.samples.{sample}").write_sample(directory, *sources[0].split()[1:])
            files = sorted(directory.iterdir())
            print(f"{name}: wrote SYNTHETIC data (source: {sources[0]}); nothing in it was measured")
        elif is_address(sources[0]):
            note, path = fetch_first_good(section, sources, directory, size, sha256)
            files = [path]
        else:
            files = copy_files(section, sources, directory, size, sha256)
        note |= {"synthetic": is_synthetic, "files": [describe_file(path) for path in files]}
        (directory / "source.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    print(f"{name}: {len(files)} file{'s' * (len(files) > 1)} in {folder}, from {note['source']}")
