"""Outputs that are whole or absent, inputs that are damaged, and inputs that change while a stage runs."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.inputs import inputs
from stages.lib import files, params
from stages.lib.errors import UserError
from stages.lib.files import atomic_output, open_input, require_input, watch_file
from stages.lib.nn.history import read_history, write_description, write_history
from stages.lib.weather import record
from stages.lib.windows.input_set import load_input_set
from stages.parse import parse
from stages.tokens import tokens

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in an empty directory, as a process that has read nothing and is not guarded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(params, "_history", [])
    for name in ("_input_states", "_code_states"):
        monkeypatch.setattr(files, name, {})
    return tmp_path


def list_names(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


def write_output(path, content, directory=False):
    """Write a file, or a directory with a file in it."""
    if directory:
        path.mkdir()
        path = path / "part"
    path.write_text(content)


def read_content(path):
    path = Path(path)
    return (path / "part" if path.is_dir() else path).read_text()


# --- Whole outputs -------------------------------------------------------------------------------


@pytest.mark.parametrize("directory", [False, True])
@pytest.mark.parametrize("kind", [str, Path])
def test_an_output_appears_with_its_parents_and_replaces_what_is_there(kind, directory):
    for text in ("old", "new"):
        with atomic_output(kind("a/b/out")) as path:
            write_output(path, text, directory)
            assert path.name != "out" and list_names("a/b") in ([path.name], [path.name, "out"])
        assert list_names("a/b") == ["out"] and read_content("a/b/out") == text


@pytest.mark.parametrize("error", [ValueError, UserError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("directory", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_after_an_exception_all_is_as_before(error, directory, before):
    if before:
        Path("a").mkdir()
        write_output(Path("a/out"), "old", directory)
    with pytest.raises(error), atomic_output("a/out") as path:
        write_output(path, "new", directory)
        raise error
    assert list_names("a") == (["out"] if before else [])
    assert not before or read_content("a/out") == "old"


def test_what_a_kill_left_is_removed():
    Path(".out.tmp").mkdir()
    Path(".out.old").touch()
    with atomic_output("out") as path:
        path.mkdir()
    assert list_names() == ["out"]


def test_a_link_is_replaced_and_its_target_left_alone():
    write_output(Path("cache"), "old", True)
    Path("out").symlink_to("cache")
    with atomic_output("out") as path:
        write_output(path, "new", True)
    assert read_content("cache") == "old" and read_content("out") == "new" and not Path("out").is_symlink()


def test_a_block_that_makes_nothing_is_a_defect():
    with pytest.raises(RuntimeError, match="out: the block made nothing"), atomic_output("out"):
        pass
    assert list_names() == []


@pytest.mark.parametrize("failing", ["neither", "first", "second", "after"])
def test_two_outputs_appear_together_or_not_at_all(failing):
    def outputs():
        with atomic_output("a") as first, atomic_output("b/c") as second:
            write_output(first, "1", True)
            if failing == "first":
                raise UserError("first")
            write_output(second, "2")
            assert not Path("a").exists() and not Path("b/c").exists()
            if failing == "second":
                raise UserError("second")

    if failing == "neither":
        outputs()
        assert (read_content("a"), read_content("b/c"), list_names(), list_names("b")) == (
            "1",
            "2",
            ["a", "b"],
            ["c"],
        )
    elif failing == "after":
        with pytest.raises(UserError), atomic_output("d") as path:
            path.touch()
            outputs()
            raise UserError("after")
        assert list_names() == ["b"] and list_names("b") == []
    else:
        with pytest.raises(UserError, match=failing):
            outputs()
        assert list_names() == ["b"] and list_names("b") == []


def test_a_failed_output_within_another_block_leaves_that_one_alone():
    with atomic_output("a") as path:
        with pytest.raises(ValueError), atomic_output("b"):
            raise ValueError
        path.touch()
    assert list_names() == ["a"]


WRITERS = [
    "path.write_text('x' * 500_000)",
    "path.mkdir(); np.save(path / 'rows.npy', np.zeros(100_000))",
    "np.savez(path.open('wb'), a=np.zeros(100_000), b=np.zeros(100_000))",
    "pq.write_table(pa.table({'a': np.random.default_rng(0).random(100_000)}), path)",
]


def check_writers(reason, prelude=""):
    """Assert that each of WRITERS fails to write full/out, with one line that names `reason` or numpy's own."""
    tries = "".join(
        f"""
try:
    with atomic_output("full/out") as path:
        {writer}
except UserError as error:
    print(error)
"""
        for writer in WRITERS
    )
    code = f"""
import resource
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from stages.lib.errors import UserError
from stages.lib.files import atomic_output
{prelude}{tries}"""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    messages = done.stdout.splitlines()
    assert len(messages) == len(WRITERS)
    for message in messages:
        assert message.startswith("full/out: cannot be written (")
        assert reason in message or "requested and" in message
        assert message.endswith("); free space or mend the permissions, then run it again")
    assert list_names("full") == []


def test_a_file_that_grows_too_large_is_one_line_and_leaves_nothing():
    check_writers("File too large", "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n")


@pytest.mark.parametrize(
    ("options", "reason"), [("rw", "No space left on device"), ("ro", "Read-only file system")]
)
def test_a_full_or_read_only_disk_is_one_line_and_leaves_nothing(options, reason):
    Path("full").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size=64k,{options}", "tmpfs", "full"]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        check_writers(reason)
    finally:
        subprocess.run(["umount", "full"], check=True)


@pytest.mark.parametrize("parent", ["data", "data/a/b"])
def test_a_folder_that_cannot_be_created_is_named_with_the_reason(parent):
    Path("data").touch()
    message = rf"^{parent}: this folder cannot be created: data is not a folder; remove it or write elsewhere$"
    with pytest.raises(UserError, match=message), atomic_output(f"{parent}/out"):
        pass
    refusal = PermissionError(13, "Permission denied", "new")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError) as raised:
        patch.setattr(Path, "mkdir", lambda *_, **options: (_ for _ in ()).throw(refusal))
        files.create_folder(Path("new/folder"))
    assert str(raised.value).startswith("new/folder: this folder cannot be created: Permission denied in .;")


def test_an_error_about_another_file_keeps_its_name():
    with pytest.raises(FileNotFoundError, match="input"), atomic_output("a/out"):
        Path("input").read_bytes()
    assert list_names("a") == []


# --- Inputs that are absent or damaged -----------------------------------------------------------


def test_a_missing_file_says_what_makes_it():
    with pytest.raises(UserError, match=r"^data/x: not found; make it with `dvc repro parse`$"):
        require_input("data/x", "parse")
    Path("x").mkdir()
    with pytest.raises(UserError, match="x: not found"), open_input("x", "parse"):
        pass


@pytest.mark.parametrize(
    ("error", "output"),
    [
        (ValueError("first\n  second"), "ValueError: first second"),
        (KeyError("files"), "KeyError: 'files'"),
        (PermissionError(13, "Permission denied", "x"), "Permission denied"),
        (EOFError(), "EOFError"),
        (MemoryError("x" * 999), "MemoryError: x"),
    ],
)
def test_whatever_a_damaged_file_raises_is_one_line(error, output):
    Path("x").touch()
    with pytest.raises(UserError) as raised, open_input("x", "parse"):
        raise error
    assert str(raised.value).startswith(f"x: cannot be read ({output}")
    assert str(raised.value).endswith("; make it again with `dvc repro -f parse`")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


@pytest.mark.parametrize("error", [UserError("mine"), KeyboardInterrupt(), SystemExit(2)])
def test_what_is_no_damage_passes(error):
    Path("x").touch()
    with pytest.raises(type(error)) as raised, open_input("x", "parse"):
        raise error
    assert raised.value is error


def list_stage_files():
    """What reads each file, and the stage that makes it; all of them are made by the fixture `weather`."""
    return {
        "data/records/jena/record.parquet": (lambda: record.read_record("jena"), "parse@jena"),
        "data/normalization.json": (lambda: inputs("tiny"), "normalize"),
        **{
            f"data/inputs/tiny/{name}": (lambda: load_input_set("data/inputs/tiny"), "inputs@tiny")
            for name in ("meta.json", "rows.npy", "train.npy", "val.npy", "test.npy")
        },
        "data/records/jena/raw/source.json": (lambda: parse("jena"), "download@jena"),
        "data/raw/reviews/source.json": (lambda: tokens("any"), "download_reviews"),
    }


@pytest.fixture
def made(weather):
    """A working directory with every file of `stage_files`."""
    inputs("tiny")
    section = {"time": "t", "format": "%Y-%m-%d", "encoding": "utf-8", "sentinels": []}
    weather.write_params("records", "jena", **section)
    weather.params |= {"tokens": {"any": {"words": 9, "length": 2, "reverse": False, "val": 0.5}}}
    weather.params |= {"reviews": {"sha256": None, "vocabulary": 9}}
    weather.write_params()
    for folder in ("data/records/jena/raw", "data/raw/reviews"):
        Path(folder).mkdir(parents=True)
        note = {"source": "x", "synthetic": False, "files": [{"name": "x"}]}
        Path(folder, "source.json").write_text(json.dumps(note))
    return weather


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_cut_or_replaced_file_is_one_line(made, data):
    name = data.draw(st.sampled_from(sorted(list_stage_files())))
    read, maker = list_stage_files()[name]
    content = Path(name).read_bytes()
    shortest = len(content.rstrip()) if name.endswith("json") else len(content)
    spoiled = data.draw(st.integers(0, shortest - 1).map(lambda length: content[:length]) | st.binary(max_size=99))
    Path(name).write_bytes(spoiled)
    try:
        with pytest.raises(UserError) as raised:
            read()
    finally:
        Path(name).write_bytes(content)
    message = str(raised.value)
    assert message.startswith(f"{name}: cannot be read (")
    assert message.endswith(f"; make it again with `dvc repro -f {maker}`") and "\n" not in message


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_history_that_is_cut_anywhere_is_named(data):
    history = [{"epoch": n + 1, "loss": 1 / (n + 3), "val_loss": 0.25} for n in range(3)]
    write_history(Path(), [history], [])
    write_description(Path(), [history], {"threads": 1})
    assert read_history(Path(), "train@x") == history
    for name in ("history.csv", "model.json"):
        text = Path(name).read_bytes()
        Path(name).write_bytes(text[: data.draw(st.integers(0, len(text) - 3), name)])
        with pytest.raises(UserError, match=rf"^{name}: .*make it again with `dvc repro -f train@x`$"):
            read_history(Path(), "train@x")
        Path(name).write_bytes(text)


# --- Inputs that change --------------------------------------------------------------------------

BIG = files.SMALL + 1


def assert_refused(*named):
    """Assert that nothing can be written now, and that the message names exactly these."""
    with pytest.raises(UserError) as raised, atomic_output("out") as path:
        path.touch()
    assert str(raised.value).startswith(f"{', '.join(named)}: changed while this ran; nothing was written")
    assert not Path("out").exists()


def assert_accepted():
    with atomic_output("out") as path:
        path.touch()
    Path("out").unlink()


@pytest.mark.parametrize("size", [10, BIG])
@pytest.mark.parametrize("read", [watch_file, lambda path: require_input(path, "parse")])
def test_a_file_that_changes_after_it_was_read_stops_the_output(size, read):
    Path("data").write_bytes(bytes(size))
    Path("other").touch()
    files.watch_code()
    read("data")
    assert_accepted()
    Path("other").write_text("not read")
    assert_accepted()
    status = Path("data").stat()
    Path("data").write_bytes(b"1" * size)
    os.utime("data", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert_refused("data")
    read("data")  # reading it again does not help
    assert_refused("data")
    Path("data").write_bytes(bytes(size))
    os.utime("data", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert_accepted()
    Path("data").unlink()
    assert_refused("data")


def test_a_small_file_is_compared_by_content_alone_and_one_that_appears_has_changed():
    Path("data").write_text("a")
    files.watch_code()
    watch_file("data")
    watch_file("other")
    os.utime("data", ns=(0, 0))
    assert_accepted()
    Path("data").write_text("b")
    os.utime("data", ns=(0, 0))
    assert_refused("data")
    Path("other").touch()
    assert_refused("data", "other")


def test_parameters_and_several_files_are_all_named():
    Path("params.yaml").write_text("a: {b: 1, c: 2}\n")
    for name in ("x", "y"):
        Path(name).touch()
        watch_file(name)
    files.watch_code()
    params.get_param("a", "b")
    Path("params.yaml").write_text("a: {b: 1, c: 3}\n")  # not read
    assert_accepted()
    Path("params.yaml").write_text("a: {b: 2, c: 3}\n")
    Path("x").write_text("1")
    Path("y").write_text("1")
    assert_refused("params.yaml (a.b)", "x", "y")


def test_code_counts_once_it_is_imported_and_as_it_was_at_the_start(folder, monkeypatch):
    monkeypatch.setattr(files, "CODE", folder / "stages")
    monkeypatch.setattr(sys, "modules", {})
    Path("stages/lib").mkdir(parents=True)
    paths = [Path("stages/one.py"), Path("stages/lib/two.py"), Path("stages/lib/new.py")]
    for path in paths[:2]:
        path.write_text("x = 1\n")
    files.watch_code()
    assert_accepted()
    for path in paths:
        path.write_text("x = 2\n")
    assert_accepted()  # nothing of it is in use
    for path in paths:
        module = types.ModuleType("stages." + path.stem)
        module.__file__ = str(path.absolute())
        sys.modules[module.__name__] = module
    assert_refused("stages/lib/new.py", "stages/lib/two.py", "stages/one.py")


def test_without_a_guard_a_process_may_change_what_it_read():
    Path("x").touch()
    watch_file("x")
    Path("x").write_text("changed")
    assert_accepted()


def test_of_two_outputs_neither_is_written_where_an_input_changed():
    Path("x").touch()
    files.watch_code()
    watch_file("x")
    with pytest.raises(UserError, match=r"^x: changed"), atomic_output("a") as first, atomic_output("b") as second:
        first.touch()
        second.touch()
        Path("x").write_text("changed")
    assert list_names() == ["x"]
