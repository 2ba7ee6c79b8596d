"""Unpacking: what is whole comes out as it went in, what is damaged or too large is refused."""

import gzip
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.lib.weather import archives
from stages.lib.weather.archives import UnpackError, check_archive, read_packed_csv

TABLE = b"".join(b"%d,%d\n" % (n, n * n % 97) for n in range(300))
UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    """A zip archive of {name: bytes}."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return memory.getvalue()


def npz():
    memory = io.BytesIO()
    np.savez(memory, x=np.arange(99), y=np.arange(9.0))
    return memory.getvalue()


PACKED = {
    "a.gz": gzip.compress(TABLE),
    "a.zip": zipped({"a.csv": TABLE}),
    "stored.zip": zipped({"a.csv": TABLE}, zipfile.ZIP_STORED),
    "bz2.zip": zipped({"a.csv": TABLE}, zipfile.ZIP_BZIP2),
    "lzma.zip": zipped({"a.csv": TABLE}, zipfile.ZIP_LZMA),
    "a.npz": npz(),
}


def message(name, content, use=check_archive):
    """The message with which the file is refused."""
    Path(name).write_bytes(content)
    with pytest.raises(UnpackError) as raised:
        use(Path(name))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300
    return str(raised.value)


@given(st.binary(max_size=2000), st.sampled_from(["a.csv", "B.CSV"]))
@settings(max_examples=30, **UNHURRIED)
def test_what_is_whole_comes_out_as_it_went_in(content, inner):
    extras = {"notes.txt": b"x", "__MACOSX/._a.csv": b"\0", "folder/": b""}
    for name, packed, shown in (
        ("a.csv", content, "a.csv"),
        ("a.csv.GZ", gzip.compress(content), "a.csv.GZ"),
        ("a.gz", gzip.compress(content[:9]) + gzip.compress(content[9:]), "a.gz"),
        ("a.zip", zipped({**extras, inner: content}), f"a.zip ({inner})"),
    ):
        Path(name).write_bytes(packed)
        check_archive(Path(name))
        assert read_packed_csv(Path(name)) == (shown, content)


@given(st.sampled_from(sorted(PACKED)), st.data())
@settings(max_examples=200, **UNHURRIED)
def test_a_cut_file_is_refused(name, data):
    packed = PACKED[name]
    cut = packed[: data.draw(st.integers(0 if name != "a.gz" else 1, len(packed) - 1))]
    assert message(name, cut).startswith("not a whole ")


@given(st.sampled_from(sorted(PACKED)), st.data())
@settings(max_examples=300, **UNHURRIED)
def test_a_changed_byte_is_refused_or_makes_no_difference(name, data):
    packed = bytearray(PACKED[name])
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    Path(name).write_bytes(packed)
    try:
        check_archive(Path(name))
        if not name.endswith(".npz"):
            assert read_packed_csv(Path(name))[1] == TABLE
    except UnpackError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.zip", TABLE), ("a.gz", TABLE), ("a.zip", b"PK\3\4 no more"), ("a.npz", b"\x80\x04N."), ("a.zip", b"")],
)
def test_what_is_not_packed_is_refused(name, content):
    assert message(name, content).startswith(f"not a whole {name[2:]} file (")


@pytest.mark.parametrize("use", [check_archive, read_packed_csv])
@pytest.mark.parametrize(
    ("members", "expected"),
    [({"readme.txt": b"hello"}, "found 0; it holds readme.txt"), ({}, "found 0; it holds nothing")],
)
def test_a_zip_has_a_table(members, expected, use):
    assert f"expected one CSV in the zip archive, {expected}" in message("a.zip", zipped(members), use)


DWD = ("Metadaten_Geographie_01266.txt", "produkt_tu_stunde_2009_01266.txt", "Metadaten_Parameter_tu_01266.html")


@pytest.mark.parametrize(
    ("names", "pattern", "expected"),
    [
        (DWD, None, DWD[1]),
        (("a.csv", "notes.txt"), None, "a.csv"),
        (("folder/a.TXT", "readme.txt", "__MACOSX/folder/._a.TXT"), None, "folder/a.TXT"),
        (("a.csv", "b.csv"), "b*", "b.csv"),
        (("x/a.csv", "x/b.csv"), "b.csv", "x/b.csv"),
        (DWD, "Metadaten_G*", DWD[0]),
    ],
)
def test_the_table_among_other_files(names, pattern, expected):
    Path("a.zip").write_bytes(zipped({name: name.encode() for name in names}))
    check_archive(Path("a.zip"))
    assert read_packed_csv(Path("a.zip"), pattern) == (f"a.zip ({expected})", expected.encode())


@pytest.mark.parametrize(
    ("names", "pattern", "expected"),
    [
        (
            ("a.csv", "b.csv"),
            None,
            "expected one CSV in the zip archive, found 2; it holds a.csv, b.csv; name it in x",
        ),
        (("a.csv", "b.csv"), "*.csv", "fits '*.csv' (x), found 2; it holds a.csv, b.csv"),
        (("a.csv", "b.csv"), "c", "fits 'c' (x), found 0; it holds a.csv, b.csv"),
    ],
)
def test_no_table_or_two_are_refused(names, pattern, expected):
    Path("a.zip").write_bytes(zipped({name: b"1" for name in names}))
    with pytest.raises(UnpackError) as raised:
        read_packed_csv(Path("a.zip"), pattern, "x")
    assert expected in str(raised.value)


@pytest.mark.parametrize("use", [check_archive, read_packed_csv])
@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.csv", bytes),
        ("a.gz", gzip.compress),
        ("a.gz", lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:])),
        ("a.zip", lambda data: zipped({"a.csv": data})),
        ("a.zip", lambda data: zipped({"a.csv": data[:5], "b.txt": data[5:]})),
    ],
)
def test_the_unpacked_size_is_limited(monkeypatch, name, pack, over, use):
    monkeypatch.setattr(archives, "LIMIT", 100_000)
    packed = pack(bytes(100_000 + over))
    if over:
        assert "more than 100,000 bytes" in message(name, packed, use)
    else:
        Path(name).write_bytes(packed)
        use(Path(name))


def test_a_bomb_is_not_unpacked_beyond_the_limit(monkeypatch):
    monkeypatch.setattr(archives, "LIMIT", 1_000_000)
    taken = []
    unpack = archives.iter_entries

    def counted(path):
        for name, piece in unpack(path):
            taken.append(len(piece))
            yield name, piece

    monkeypatch.setattr(archives, "iter_entries", counted)
    compressor = zlib.compressobj(9, wbits=31)
    bomb = b"".join(compressor.compress(bytes(1_000_000)) for _ in range(50)) + compressor.flush()
    message("a.gz", bomb)
    assert sum(taken) <= 1_000_000 + archives.CHUNK
