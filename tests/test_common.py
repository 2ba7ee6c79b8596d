"""What every stage shares: parameters, outputs that are whole or absent, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.lib.command import command
from stages.lib.errors import UserError
from stages.lib.files import whole
from stages.lib.params import params

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_params_reads_values_of_every_kind():
    Path("params.yaml").write_text("a:\n  b: [0, null]\n  c: {d: 0.5, e: no}\n1: x\n")
    assert params("a", "b") == [0, None]
    assert params("a", "c", "d") == 0.5
    assert params("a", "c", "e") == "no"  # YAML 1.2: only true and false are booleans
    assert params() == {"a": {"b": [0, None], "c": {"d": 0.5, "e": "no"}}, 1: "x"}


@pytest.mark.parametrize(
    ("text", "keys", "expected"),
    [
        ("a: 1\nc: 2\n", ["b"], "no `b` in the top level; it has a, c"),
        ("a: {b: {c: 1, d: 2}}\n", ["a", "b", "e"], "no `e` in a.b; it has c, d"),
        ("a: 1\n", ["a", "b"], "no `b` in a"),
        ("a: [b]\n", ["a", "b"], "no `b` in a"),
        ("", ["a"], "no `a` in the top level"),
        ("a: {b: 1\n", ["a"], "not valid YAML"),
        ("a: 1\na: 2\n", ["a"], "not valid YAML"),
        ("a:\n\t- 1\n", ["a"], "not valid YAML"),
        (None, ["a"], "not found; run this in the root of the repository"),
    ],
)
def test_params_says_what_is_wrong(text, keys, expected):
    if text is not None:
        Path("params.yaml").write_text(text)
    with pytest.raises(UserError) as raised:
        params(*keys)
    assert str(raised.value).startswith("params.yaml: ")
    assert expected in str(raised.value)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_whole_makes_a_file_and_its_parents():
    with whole("a/b/file") as path:
        path.write_text("new")
        assert names("a/b") == [path.name] and path.name != "file"
    assert names("a/b") == ["file"] and Path("a/b/file").read_text() == "new"


def test_whole_makes_a_directory():
    with whole(Path("a/folder")) as path:
        path.mkdir()
        (path / "part").write_text("1")
    assert names("a") == ["folder"] and names("a/folder") == ["part"]


@pytest.mark.parametrize("kind", [str, Path])
def test_whole_replaces_what_is_there(kind):
    for content in ("old", "new"):
        with whole(kind("file")) as path:
            path.write_text(content)
        with whole(kind("folder")) as path:
            path.mkdir()
            (path / content).touch()
    assert Path("file").read_text() == "new"
    assert names("folder") == ["new"] and names(".") == ["file", "folder"]


@pytest.mark.parametrize("error", [ValueError, UserError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("directory", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_whole_leaves_nothing_half_written(error, directory, before):
    if before:
        Path("a/out").mkdir(parents=True)
        Path("a/out/old").touch()
    with pytest.raises(error), whole("a/out") as path:
        if directory:
            path.mkdir()
            (path / "part").touch()
        else:
            path.touch()
        raise error
    assert names("a") == (["out"] if before else [])
    assert not before or names("a/out") == ["old"]


def test_whole_removes_what_a_kill_left():
    Path(".out.tmp").mkdir()
    Path(".out.old").touch()
    with whole("out") as path:
        path.mkdir()
    assert names(".") == ["out"]


def test_whole_without_an_output_is_an_error():
    with pytest.raises(FileNotFoundError), whole("out"):
        pass
    assert names(".") == []


def called(monkeypatch, stage, *words, arguments=()):
    """Run `command` as from the shell; return its exit code, where it has one."""
    monkeypatch.setattr(sys, "argv", ["stage", *words])
    try:
        return command(stage, *arguments)
    except SystemExit as stop:
        return stop.code


def test_command_passes_the_arguments(monkeypatch):
    seen = []

    def stage(name: str, other: str) -> None:
        """Do something."""
        seen.append((name, other))

    assert called(monkeypatch, stage, "x", "y", arguments=("name", "other")) is None
    assert seen == [("x", "y")]
    assert called(monkeypatch, stage, "x", arguments=("name", "other")) == 2


def test_command_help_describes_the_stage(monkeypatch, capsys):
    def stage(name: str) -> None:
        """Stand on one leg."""

    assert called(monkeypatch, stage, "--help", arguments=("name",)) == 0
    shown = capsys.readouterr().out
    assert "./run test_common" in shown and "Stand on one leg." in shown and "name" in shown


def test_command_interrupted(monkeypatch, capsys):
    def stage() -> None:
        raise KeyboardInterrupt

    assert called(monkeypatch, stage) == 130
    assert capsys.readouterr().err == "\ntest_common: interrupted\n"


def test_command_keeps_the_traceback_of_a_defect(monkeypatch):
    def stage() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        called(monkeypatch, stage)


def test_a_users_mistake_from_the_shell():
    code = (
        "from stages.common import UserError, command\n"
        "def stage():\n    raise UserError('file, line 3: no')\n"
        "command(stage)\n"
    )
    Path("mistaken.py").write_text(code)
    paths = {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "mistaken.py"], env=os.environ | paths, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: file, line 3: no\n")
