"""Fetching a file from an address: with retries and limits, and checked before it is used."""

import hashlib
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from tqdm import tqdm
from urllib3 import exceptions as problem
from urllib3.util.retry import Retry

from stages.lib.weather import archives

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


def receive_body(
    session: requests.Session, address: str, path: Path, limit: int, deadline: float, time_limit: float
) -> str:
    """Write the body at `address` to `path` in one attempt; return the address that served it, without its query.

    Raises RefusedError if there is no file, if it has more than `limit` bytes, or if time.monotonic() passes
    `deadline`, `time_limit` seconds after the first attempt began; urllib3's HTTPError if the body is truncated or
    stalls.
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
                    raise RefusedError(f"not complete after {time_limit:,.0f} s ({file.tell():,} bytes)")
        return re.split("[?#]", response.url)[0]


def fetch_file(
    session: requests.Session, address: str, path: Path, limit: int, time_limit: float | None = None
) -> str:
    """Call `receive_body`, and again if the body was truncated; raise RefusedError if the last attempt fails.

    All attempts together take `time_limit` seconds, by default TIME_LIMIT.
    """
    time_limit = time_limit or TIME_LIMIT
    deadline = time.monotonic() + time_limit
    for attempt in range(RETRIES + 1):
        time.sleep(BACKOFF * 2**attempt if attempt else 0)
        try:
            return receive_body(session, address, path, limit, deadline, time_limit)
        except problem.HTTPError as error:
            failure = error
    raise RefusedError(f"{shorten_reason(failure)}, {RETRIES + 1} times")
