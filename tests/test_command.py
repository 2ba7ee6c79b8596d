"""`./run` as from a shell: help, exit codes, Ctrl-C at any moment, inputs that are edited while a stage runs."""

import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
STAGE = '''
"""A stage to try the command with."""
import importlib, os, signal, sys
from pathlib import Path
from tqdm import tqdm
from stages.lib.errors import UserError
from stages.lib.files import atomic_output, require_input
from stages.lib.params import get_param

def toy(action: str) -> None:
    """Stand on one leg."""
    value, data = get_param("toy", "leg"), require_input("data/in", "stand").read_text()
    print("started", flush=True)
    if action == "mistake":
        raise UserError("file, line 3: no")
    if action == "defect":
        raise ZeroDivisionError
    if action == "unreadable":
        open("data")
    if action in ("clear", "leave"):
        bar = tqdm(total=9, leave=action == "leave", disable=None)
        bar.update(3)
        with atomic_output("data/out") as path:
            path.mkdir()
            (path / "part").touch()
            os.kill(os.getpid(), signal.SIGINT)
    with atomic_output("data/out") as out, atomic_output("other/out") as other:
        sys.stdin.readline()
        importlib.import_module("stages.lib.late")
        out.write_text(f"{value} {data}")
        other.touch()
'''


@pytest.fixture
def project(tmp_path):
    """A working directory with ./run, the stages' code and one stage more, `toy`."""
    shutil.copytree(REPOSITORY / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "run", tmp_path)
    (tmp_path / "stages/toy.py").write_text(STAGE)
    (tmp_path / "stages/lib/late.py").touch()
    (tmp_path / "params.yaml").write_text("toy: {leg: 1, arm: 2}\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/in").write_text("x")
    return tmp_path


def start(project, *arguments, on_ctrl_c=signal.SIG_DFL, **options):
    """Start `./run` with these arguments; its stdin and stdout, errors and all, are pipes."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(
        ["./run", *arguments],
        cwd=project,
        env=os.environ | {"PYTHON": sys.executable, "PYTHONDONTWRITEBYTECODE": "1"} | options.pop("env", {}),
        text=True,
        # A shell's background job, and so its children, would ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, on_ctrl_c),
        **(pipes | options),
    )


def wait_for(process):
    """Wait for `process`; return its exit code and what it still printed."""
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def list_written(project):
    return sorted(path.relative_to(project).as_posix() for path in project.glob("*/*out*"))


def test_it_runs_a_stage_with_its_arguments(project):
    code, output = wait_for(start(project, "toy", "work"))
    assert (code, output) == (0, "started\n")
    assert (project / "data/out").read_text() == "1 x" and list_written(project) == ["data/out", "other/out"]


def test_files_are_any_number_of_arguments(project):
    """As `predict` takes them, before or behind its options."""
    text = "def toy(*files: str, at: str = '') -> None:\n    print(files, at)\n"
    (project / "stages/toy.py").write_text(text)
    for arguments, files in (([], ()), (["a"], ("a",)), (["a", "x=b"], ("a", "x=b"))):
        assert wait_for(start(project, "toy", *arguments)) == (0, f"{files} \n")
        assert wait_for(start(project, "toy", "--at", "now", *arguments)) == (0, f"{files} now\n")
        assert wait_for(start(project, "toy", *arguments, "--at=now")) == (0, f"{files} now\n")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["toy", "--help"], 0, ["usage: ./run toy", "Stand on one leg.", "action"]),
        (["toy"], 2, ["usage: ./run toy", "required: action"]),
        (["toy", "work", "more"], 2, ["unrecognized arguments: more"]),
        (["dance"], 2, ["usage: ./run STAGE [NAME]"]),
        (["toy", "mistake"], 1, ["started\nerror: file, line 3: no\n"]),
        (["toy", "unreadable"], 1, ["error: data: Is a directory; free space or mend the permissions"]),
        (["toy", "defect"], 1, ["Traceback", "ZeroDivisionError"]),
    ],
)
def test_help_and_exit_codes(project, arguments, code, expected):
    result, output = wait_for(start(project, *arguments))
    assert result == code
    for text in expected:
        assert text in output
    assert ("Traceback" in output) == ("Traceback" in expected)
    assert list_written(project) == []


def test_a_screen_output_that_cannot_be_written_is_one_line(project):
    with open("/dev/full", "w") as full:
        process = start(project, "toy", "work", stdout=full, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert errors.startswith("error: No space left on device; free space") and "Traceback" not in errors


# --- Ctrl-C --------------------------------------------------------------------------------------

# Interrupts the process as the module INTERRUPT begins to be imported.
HOOK = """
import os, signal, sys
def hook(event, arguments):
    if event == "import" and arguments[0] == os.environ["INTERRUPT"]:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
"""


@pytest.mark.parametrize(
    ("stage", "module"),
    [
        ("toy", "argparse"),
        ("toy", "stages.lib.params"),
        ("toy", "ruamel.yaml"),
        ("toy", "tqdm"),
        ("normalize", "numpy"),
        ("normalize", "numpy._core._multiarray_umath"),
        ("normalize", "numpy.linalg._umath_linalg"),
        ("normalize", "pyarrow.lib"),
        ("report", "pandas._libs.tslibs.timestamps"),
        ("train", "tensorflow.python._pywrap_tensorflow_internal"),
        pytest.param("train", "h5py._conv", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_during_an_import_is_one_line(project, stage, module):
    (project / "hook").mkdir()
    (project / "hook/sitecustomize.py").write_text(HOOK)
    environment = {"PYTHONPATH": str(project / "hook"), "INTERRUPT": module}
    process = start(project, stage, "work", env=environment)
    assert wait_for(process) == (130, f"{stage}: interrupted\n")


def test_ctrl_c_during_the_work_is_one_line_and_leaves_nothing(project):
    assert wait_for(start(project, "toy", "clear")) == (130, "started\ntoy: interrupted\n")
    assert list_written(project) == []


@pytest.mark.parametrize("bar", ["clear", "leave"])
def test_ctrl_c_ends_a_bar_before_its_line(project, bar):
    """On a terminal: nothing is drawn after the message."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = start(project, "toy", bar, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert process.wait(timeout=300) == 130
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_NONBLOCK)
    printed_output = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "0/9" in printed_output
    assert printed_output.endswith({"clear": " \r", "leave": "s]\r\n"}[bar] + "\r\ntoy: interrupted\r\n")


def test_a_background_job_ignores_ctrl_c_as_before(project):
    process = start(project, "toy", "work", on_ctrl_c=signal.SIG_IGN)
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    assert wait_for(process) == (0, "")


# --- Edits during a stage ------------------------------------------------------------------------

EDITS = {
    "params.yaml (toy.leg)": ("params.yaml", "toy: {leg: 3, arm: 2}\n"),
    "data/in": ("data/in", "y"),
    "stages/toy.py": ("stages/toy.py", STAGE + "\n"),
    "stages/lib/files.py": ("stages/lib/files.py", ""),
    "stages/lib/late.py": ("stages/lib/late.py", "pass\n"),  # imported only after the edit
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_during_a_stage_is_named_and_nothing_is_written(project, name):
    path, text = EDITS[name]
    process = start(project, "toy", "work")
    assert process.stdout.readline() == "started\n"
    (project / path).write_text(text)
    code, output = wait_for(process)
    assert code == 1
    assert output == f"error: {name}: changed while this ran; nothing was written: run it again\n"
    assert list_written(project) == []


def test_an_edit_that_is_put_back_or_concerns_other_things_is_none(project):
    process = start(project, "toy", "work")
    assert process.stdout.readline() == "started\n"
    for path, text in EDITS.values():
        before = (project / path).read_text()
        (project / path).write_text(text)
        (project / path).write_text(before)
    (project / "params.yaml").write_text("# a comment\ntoy: {arm: 3, leg: 1}\nmore: 1\n")
    (project / "stages/train.py").write_text("")
    assert wait_for(process) == (0, "")
    assert list_written(project) == ["data/out", "other/out"]
