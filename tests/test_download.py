"""The download stage against a server on loopback, and against good and bad local files."""

import gzip
import http.server
import io
import json
import os
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages import download as stage
from stages.lib.errors import UserError
from stages.lib.weather import archives, fetching
from stages.samples import reviews as sample_reviews

CSV = b'"Date Time","T (degC)"\n' + b"".join(b"01.01.2009 00:%02d:00,-8.02\n" % m for m in range(0, 60, 10))


def make_zip(**members: bytes) -> bytes:
    """Return a zip archive of `members`; two underscores in a name stand for its dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


ZIP = make_zip(jena__csv=CSV)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each path with what `server.answers` holds for it: a list, its last entry for good."""

    def do_GET(self) -> None:
        """Send the next answer of this path."""
        self.server.asked.append(self.path)
        answers = self.server.answers.get(self.path, [lambda handler: handler.send(404)])
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def send(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        """Send `body`, announced as `length` bytes."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def answer_with(body: bytes, **headers: str) -> Callable[[Handler], None]:
    """Return an answer: `body`, whole."""
    return lambda handler: handler.send(200, body, **headers)


def answer_with_half(body: bytes) -> Callable[[Handler], None]:
    """Return an answer: the first half of `body`, announced as the whole of it."""
    return lambda handler: handler.send(200, body[: len(body) // 2], length=len(body))


def answer_with_status(code: int) -> Callable[[Handler], None]:
    """Return an answer: this HTTP status and no body."""
    return lambda handler: handler.send(code)


def hang_up(handler: Handler) -> None:
    """Answer nothing at all."""


def stall(handler: Handler) -> None:
    """Send nothing until the test is over."""
    handler.server.over.wait()


def stall_midway(handler: Handler) -> None:
    """Send some of the body, then nothing until the test is over."""
    handler.send(200, ZIP[:20], length=len(ZIP))
    handler.wfile.flush()
    handler.server.over.wait()


class Server(http.server.ThreadingHTTPServer):
    """Serves `answers` {path: list of answers}, notes the paths `asked` for."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Callable[[Handler], None]]] = {}
        self.asked: list[str] = []
        self.over = threading.Event()

    def serve(self, path: str, *answers: Callable[[Handler], None]) -> str:
        """Have `path` answered with `answers` in turn, return its address."""
        self.answers[path] = list(answers)
        return f"http://127.0.0.1:{self.server_port}{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    """Yield a server on loopback."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory, without waiting between retries and without the user's proxy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetching, "BACKOFF", 0)
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path


def find_closed_port() -> int:
    """Return a port of loopback that is closed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def get_folder(name: str) -> Path:
    """Return the folder that the stage writes for the record `name`, or for the reviews."""
    return Path("data/raw/reviews") if name == "reviews" else Path("data/records", name, "raw")


def run(source: object, name: str = "jena", **settings: object) -> dict:
    """Run the stage with these settings, return its source.json."""
    section = {"source": source, "size": None, "sha256": None} | settings
    YAML().dump({"reviews": section} if name == "reviews" else {"records": {name: section}}, Path("params.yaml"))
    stage.download(name)
    return json.loads((get_folder(name) / "source.json").read_text())


def run_and_fail(source: object, name: str = "jena", **settings: object) -> str:
    """Run the stage with settings that must fail, return the message; nothing may be left behind."""
    with pytest.raises(UserError) as caught:
        run(source, name, **settings)
    parent = get_folder(name).parent
    assert list(parent.glob("*")) == []
    assert list(parent.glob(".*")) == []
    return str(caught.value)


def read_raw(file: str, name: str = "jena") -> bytes:
    """Return the bytes of a file that the stage wrote."""
    return (get_folder(name) / file).read_bytes()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.csv", CSV),
        ("a.csv.zip", ZIP),
        ("A.ZIP", ZIP),
        ("a.csv.gz", gzip.compress(CSV, mtime=0)),
        ("a.gz", gzip.compress(CSV, mtime=0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_good_file_comes_byte_by_byte_with_a_note(server: Server, name: str, body: bytes) -> None:
    address = server.serve(f"/files/{name}", answer_with(body))
    digest = sha256(body).hexdigest()
    note = run([address], size=len(body), sha256=digest.upper())
    assert read_raw(name) == body
    assert note == {
        "source": address,
        "synthetic": False,
        "files": [{"name": name, "size": len(body), "sha256": digest}],
    }
    assert sorted(path.name for path in Path("data/records/jena/raw").iterdir()) == sorted([name, "source.json"])


def test_reviews_are_fetched_too(server: Server) -> None:
    body = make_zip(x_train__npy=b"not looked into")
    note = run(server.serve("/imdb.npz", answer_with(body)), "reviews")
    assert read_raw("imdb.npz", "reviews") == body
    assert note["files"][0]["name"] == "imdb.npz"


def test_compressed_body_is_unpacked_unless_the_file_itself_is_compressed(server: Server) -> None:
    body = gzip.compress(CSV, mtime=0)
    for name, content in (("a.csv", CSV), ("a.csv.gz", body)):
        run(server.serve(f"/{name}", answer_with(body, Content_Encoding="gzip")))
        assert read_raw(name) == content


def redirect(address: str) -> Callable[[Handler], None]:
    """Return an answer: the file is at `address`."""
    return lambda handler: handler.send(302, Location=address)


def test_redirect_is_followed_and_noted_without_its_query(server: Server) -> None:
    server.serve("/b.csv?signed=secret", answer_with(CSV))
    address = server.serve("/a.csv", redirect("/b.csv?signed=secret#part"))
    note = run(address)
    assert read_raw("a.csv") == CSV
    assert (note["source"], note["redirected"]) == (address, address.replace("a.csv", "b.csv"))


def test_address_with_a_query_is_no_redirect(server: Server) -> None:
    assert "redirected" not in run(server.serve("/a.csv?id=1", answer_with(CSV)))


def test_redirect_from_https_to_http_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    insecure = server.serve("/b.csv", answer_with(CSV))
    send = requests.adapters.HTTPAdapter.send

    def answered(adapter: object, request: requests.PreparedRequest, **options: object) -> requests.Response:
        if request.url.startswith("http:"):
            return send(adapter, request, **options)
        response = requests.Response()
        response.status_code, response.url, response.request = 302, request.url, request
        response.headers["Location"] = (
            insecure if request.url.endswith("b.csv") else "/b.csv"
        )  # https to https first
        response.raw = io.BytesIO()
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", answered)
    assert f"https://h/a.csv: redirected from https to {insecure}" in run_and_fail("https://h/a.csv")
    assert server.asked == []


def test_endless_redirects_are_given_up(server: Server) -> None:
    assert "redirects" in run_and_fail(server.serve("/a.csv", redirect("/a.csv")))


@pytest.mark.parametrize(
    "answers",
    [
        [answer_with_half(CSV), answer_with_half(CSV)],
        *([answer_with_status(code)] for code in (500, 502, 503, 504)),
        [hang_up],
    ],
    ids=["cut", "500", "502", "503", "504", "dropped"],
)
def test_passing_failure_is_tried_again_from_the_start(server: Server, answers: list) -> None:
    run(server.serve("/a.csv", *answers, answer_with(CSV)))
    assert read_raw("a.csv") == CSV
    assert server.asked == ["/a.csv"] * (len(answers) + 1)


@pytest.mark.parametrize(
    ("path", "answer", "reason", "requests"),
    [
        (
            "/a.csv",
            answer_with_half(CSV),
            "the body was cut short, 89 bytes came, 90 more were announced, 4 times",
            4,
        ),
        ("/a.csv", answer_with_status(404), "HTTP 404 Not Found", 1),
        ("/a.csv", answer_with_status(403), "HTTP 403 Forbidden", 1),
        ("/a.csv", answer_with_status(503), "HTTP 503 Service Unavailable", 4),
        ("/a.csv", hang_up, "the server closed the connection without an answer", 4),
        ("/a.csv", answer_with(b"\n <!DOCTYPE html><html>log in</html>"), "HTML", 1),
        ("/a.zip", answer_with(b"<?xml version='1.0'?><Error/>"), "HTML or XML", 1),
        ("/a.csv", answer_with(b""), "empty", 1),
        ("/a.zip", answer_with(ZIP[:-30]), "not a whole zip", 1),
    ],
)
def test_bad_answer_is_named(server: Server, path: str, answer, reason: str, requests: int) -> None:
    address = server.serve(path, answer)
    message = run_and_fail(address)
    assert f"{address}: " in message and reason in message
    assert len(server.asked) == requests


@pytest.mark.parametrize("answer", [stall, stall_midway])
def test_stalled_connection_is_given_up(server, monkeypatch, answer: Callable[[Handler], None]) -> None:
    monkeypatch.setattr(fetching, "READ_TIMEOUT", 0.05)
    assert "the server sent nothing for too long" in run_and_fail(server.serve("/a.zip", answer))
    assert len(server.asked) == 4


def endless(handler: Handler) -> None:
    """Send a body of no announced length that does not end."""
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.over.is_set():
        handler.wfile.write(CSV)


def endless_chunks(handler: Handler) -> None:
    """Send a chunked body that does not end."""
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while not handler.server.over.is_set():
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(CSV), CSV))


def trickle(handler: Handler) -> None:
    """Send a byte, again and again until the test is over, of a body that is announced as large."""
    handler.send(200, length=10**6)
    while not handler.server.over.is_set():
        handler.wfile.write(b"1")
        handler.wfile.flush()


@pytest.mark.parametrize("answer", [endless, endless_chunks])
@pytest.mark.parametrize("size", [1000, None])
def test_body_is_received_no_further_than_its_size(server, monkeypatch, answer, size: int | None) -> None:
    monkeypatch.setattr(archives, "LIMIT", 5000)
    message = run_and_fail(server.serve("/a.csv", answer), size=size)
    assert f"expected at most {size or 5000:,} bytes, the server sends more" in message
    assert server.asked == ["/a.csv"]


def test_body_in_chunks_is_put_together(server: Server) -> None:
    def chunks(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in (CSV[:1], CSV[1:50], CSV[50:], b""):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    run(server.serve("/a.csv", chunks), size=len(CSV))
    assert read_raw("a.csv") == CSV


def test_compressed_body_is_limited_unpacked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LIMIT", 10**6)
    body = gzip.compress(bytes(10**7), mtime=0)
    message = run_and_fail(server.serve("/a.csv", answer_with(body, Content_Encoding="gzip")))
    assert "expected at most 1,000,000 bytes, the server sends more" in message


def test_slow_body_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIME_LIMIT", 0.1)
    assert "not complete after 0 s" in run_and_fail(server.serve("/a.csv", trickle))
    assert server.asked == ["/a.csv"]


@pytest.mark.parametrize(
    ("answer", "settings", "message"),
    [
        (stall_midway, {"size": 7}, f"expected at most 7 bytes, the server announces {len(ZIP)}"),
        (answer_with(CSV), {"size": 1000}, f"wrong size: expected 1000 bytes, got {len(CSV)}"),
        (
            answer_with(CSV),
            {"sha256": "ab" * 32},
            f"wrong sha256: expected {'ab' * 32}, got {sha256(CSV).hexdigest()}",
        ),
    ],
    ids=["announced size", "size", "hash"],
)
def test_wrong_size_or_hash_says_expected_and_got(server: Server, answer, settings: dict, message: str) -> None:
    assert message in run_and_fail(server.serve("/a.csv", answer), **settings)


def test_next_mirror_is_tried_and_the_rest_left_alone(server: Server) -> None:
    other = server.serve("/other/a.csv", answer_with(CSV + CSV))
    right = server.serve("/right/a.csv", answer_with(CSV))
    unasked = server.serve("/unasked/a.csv", answer_with(CSV))
    refused = server.serve("/refused/b.csv", answer_with(b"<html>"))
    note = run(
        [server.serve("/gone/a.csv", answer_with_status(404)), refused, other, right, unasked], size=len(CSV)
    )
    assert note["source"] == right
    assert read_raw("a.csv") == CSV and not Path("data/records/jena/raw/b.csv").exists()
    assert server.asked == ["/gone/a.csv", "/refused/b.csv", "/other/a.csv", "/right/a.csv"]


def test_one_message_names_every_mirror_and_three_ways_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def resolve_numbers_only(host: str, *arguments: object) -> list:
        if host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *arguments)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_numbers_only)
    closed = f"http://127.0.0.1:{find_closed_port()}/a.csv"
    nowhere = "http://nowhere.invalid/a.csv"
    gone = server.serve("/a.csv", answer_with_status(404))
    message = run_and_fail([closed, gone, nowhere])
    assert f"{closed}: connection refused" in message
    assert f"{gone}: HTTP 404 Not Found" in message
    assert f"{nowhere}: the host name cannot be resolved" in message
    assert "object at 0x" not in message
    assert "HTTPConnectionPool" not in message
    for way in ("a path:", "another URL:", "make demo", "source: sample"):
        assert way in message
    assert max(map(len, message.splitlines())) < 150


def test_failed_run_keeps_an_earlier_download(server: Server) -> None:
    run(server.serve("/a.csv", answer_with(CSV)))
    with pytest.raises(UserError):
        run(server.serve("/b.csv", answer_with_status(404)))
    assert read_raw("a.csv") == CSV
    assert [path.name for path in Path("data/records/jena").iterdir()] == ["raw"]


def test_interrupted_download_leaves_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        (file,) = Path("data/records/jena").glob(".raw*/a.csv")
        assert file.stat().st_size == len(CSV)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "check_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(server.serve("/a.csv", answer_with(CSV)))
    assert list(Path("data/records/jena").iterdir()) == []


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("http://h/x/a.csv?signed=1#part", "a.csv"),
        ("http://h/..%2F..%2Fetc%2Fa.csv", "a.csv"),
        ("http://h/..%5C..%5Ca.csv", "a.csv"),
        ("http://h/a%00b%0Ac%20d.csv", "a_b_c_d.csv"),
        ("http://h/" + "n" * 300 + ".csv", "n" * 196 + ".csv"),
        ("http://h/v1/archive?latitude=52&format=csv", "archive.csv"),
        ("http://h/cgi-bin/asos.py?station=DSM", "asos.py.csv"),
        ("http://h/?" + "n" * 300, "download.csv"),
    ],
)
def test_file_name_of_an_address(address: str, name: str) -> None:
    assert stage.get_file_name(address) == name


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.sampled_from(["%2F", "%2f..%2f", "/", "%5C", "\\", "%00", "?", "#", "%25", ""]), st.text())
def test_file_name_stays_inside_the_directory(first: str, middle: str, last: str) -> None:
    name = stage.get_file_name(f"http://h/{first}{middle}{last}.csv")
    assert os.path.basename(name) == name and len(name) <= 200 and name.isascii() and name.isprintable()
    assert not {"/", "\\", "\0"} & set(name)


@pytest.mark.parametrize("path", ["mine.csv", "~/mine.csv"])
def test_one_path_is_copied_under_its_name(root: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("HOME", str(root))
    (root / "mine.csv").write_bytes(CSV)
    note = run(path, size=len(CSV), sha256=sha256(CSV).hexdigest())
    assert read_raw("mine.csv") == CSV
    assert (note["source"], note["synthetic"]) == (path, False)
    assert [file["name"] for file in note["files"]] == ["mine.csv"]


def test_several_paths_keep_their_order_and_equal_names_apart(root: Path, capsys) -> None:
    for folder, content in (("late", CSV), ("early", CSV + CSV)):
        (root / folder).mkdir()
        (root / folder / "roof.csv").write_bytes(content)
    (root / "next.zip").write_bytes(ZIP)
    note = run(["early/roof.csv", "late/roof.csv", "next.zip"], size=7)
    assert [file["name"] for file in note["files"]] == ["1_roof.csv", "2_roof.csv", "3_next.zip"]
    assert [read_raw(file["name"]) for file in note["files"]] == [CSV + CSV, CSV, ZIP]
    assert "not checked" in capsys.readouterr().out


def test_only_a_file_is_copied(root: Path) -> None:
    (root / "folder.csv").mkdir()
    os.mkfifo(root / "pipe.csv")
    (root / "endless.csv").symlink_to("/dev/zero")
    with (root / "sparse.csv").open("wb") as file:
        file.truncate(archives.LIMIT + 1)
    (root / "link.csv").symlink_to("mine.csv")
    (root / "mine.csv").write_bytes(CSV)
    assert "records.jena.source: gone/away.csv: no such file" in run_and_fail(["mine.csv", "gone/away.csv"])
    assert "folder.csv: expected a file, found a directory" in run_and_fail("folder.csv")
    assert "pipe.csv: expected a file, found a device, pipe or socket" in run_and_fail("pipe.csv")
    assert "endless.csv: expected a file, found a device, pipe or socket" in run_and_fail("endless.csv")
    assert "sparse.csv: expected at most 500,000,000 bytes, found 500,000,001" in run_and_fail("sparse.csv")
    run("link.csv")
    assert read_raw("link.csv") == CSV and not Path("data/records/jena/raw/link.csv").is_symlink()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.zip", make_zip(readme__txt=b"hello"), "found 0; it holds readme.txt"),
        ("a.csv.gz", CSV, "not a whole gz file"),
        ("a.csv", b"\xef\xbb\xbf<html>", "HTML"),
        ("a.csv", b"", "empty"),
    ],
)
def test_bad_file_is_named(root: Path, name: str, content: bytes, reason: str) -> None:
    (root / name).write_bytes(content)
    message = run_and_fail(name)
    assert f"records.jena.source: {name}: " in message
    assert reason in message


def test_wrong_size_of_a_path_says_what_to_do(root: Path) -> None:
    (root / "mine.csv").write_bytes(CSV)
    message = run_and_fail("mine.csv", size=7)
    assert f"expected 7 bytes, got {len(CSV)}" in message
    assert "correct records.jena.size and records.jena.sha256, or set them to null" in message


@pytest.mark.parametrize("source", ["sample", ["sample"]])
def test_sample_is_generated_and_said_to_be_synthetic(source: object, capsys) -> None:
    note = run(source, "reviews", sha256="ab" * 32)
    content = read_raw("sample.npz", "reviews")
    assert sha256(content).hexdigest() == sample_reviews.SHA256
    files = [{"name": "sample.npz", "size": len(content), "sha256": sample_reviews.SHA256}]
    assert note == {"source": "sample", "synthetic": True, "files": files}
    assert "SYNTHETIC" in capsys.readouterr().out


def test_wrong_settings_are_named() -> None:
    message = run_and_fail(source="a.csv", name="reviews", sha256="abc")
    assert "params.yaml: reviews.source: a.csv: expected a name that ends in .npz" in message
    assert "params.yaml: reviews.sha256: expected 64 hexadecimal digits" in message


def test_unknown_record_is_named() -> None:
    YAML().dump({"records": {"jena": {"source": "a.csv"}}}, Path("params.yaml"))
    with pytest.raises(UserError, match="no `films` in records; it has jena"):
        stage.download("films")
