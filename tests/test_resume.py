"""The resume file: damage costs the resume and nothing else, and it is used for the same training only."""

import stages.lib.nn.environment  # noqa: F401, before Keras

# isort: split

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.evaluate import evaluate
from stages.inputs import inputs
from stages.lib import files
from stages.lib.errors import UserError
from stages.lib.nn import resume
from stages.lib.nn.resume import Checkpoint, fingerprint_training
from stages.train import train

REPOSITORY = Path(__file__).parents[1]
HISTORY = [{"epoch": 1, "loss": 0.1 + 0.2}]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of a resume file of two variables."""
    folder = tmp_path_factory.mktemp("saved")
    before = Path.cwd()
    os.chdir(folder)
    Checkpoint("x", "me").save(HISTORY, make_variables(), [np.ones(3, np.float32)])
    os.chdir(before)
    return (folder / ".resume/x.npz").read_bytes()


def make_variables():
    return [keras.Variable([1.0, 2.0]), keras.Variable(3, dtype="int32", trainable=False)]


def to_lists(variables):
    return [np.asarray(variable).tolist() for variable in variables]


def check_ignored(content, why, capsys, identity="me", epochs=1):
    """Assert that a resume file of these bytes is not used, and that one line says why."""
    checkpoint = Checkpoint("x", identity)
    checkpoint.path.parent.mkdir(exist_ok=True)
    checkpoint.path.write_bytes(content)
    fresh = [keras.Variable([8.0, 9.0]), keras.Variable(7, dtype="int32", trainable=False)]
    assert checkpoint.restore(fresh, epochs) == ([], [])
    assert to_lists(fresh) == [[8, 9], 7]
    printed_output = capsys.readouterr().out
    assert printed_output == f".resume/x.npz: ignored, {why}; training starts from the first epoch\n"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_of_any_kind_costs_the_resume_alone(root, saved, capsys, data):
    spoiled = bytearray(saved)
    kind = data.draw(st.sampled_from(["cut", "changed", "longer", "other"]))
    if kind == "cut":
        del spoiled[data.draw(st.integers(0, len(saved) - 1)) :]
    elif kind == "changed":
        spoiled[data.draw(st.integers(0, len(saved) - 1))] ^= data.draw(st.integers(1, 255))
    elif kind == "longer":
        spoiled += data.draw(st.binary(min_size=1))
    else:
        spoiled = data.draw(st.binary(max_size=99))
    check_ignored(bytes(spoiled), "it is damaged", capsys)


def test_a_checkpoint_is_restored_and_that_of_another_or_longer_training_is_named(root, saved, capsys):
    check_ignored(saved, "settings, data, code or machine have changed since", capsys, identity="you")
    check_ignored(saved, "it is at epoch 1, more than the 0 of params.yaml", capsys, epochs=0)
    fresh = [keras.Variable([8.0, 9.0]), keras.Variable(7, dtype="int32", trainable=False)]
    history, best = Checkpoint("x", "me").restore(fresh, 1)
    assert history == HISTORY and [weights.tolist() for weights in best] == [[1, 1, 1]]
    assert to_lists(fresh) == to_lists(make_variables())
    assert Checkpoint("y", "me").restore(make_variables(), 1) == ([], [])
    assert capsys.readouterr().out == ""


def test_a_directory_in_its_place_is_ignored_and_replaced(root, capsys):
    Path(".resume/x.npz").mkdir(parents=True)
    checkpoint = Checkpoint("x", "me")
    assert checkpoint.restore(make_variables(), 1) == ([], [])
    assert "ignored, it cannot be read (Is a directory)" in capsys.readouterr().out
    checkpoint.save(HISTORY, make_variables(), [])
    assert checkpoint.restore(make_variables(), 1) == (HISTORY, [])


def test_the_identity_covers_what_changes_an_epoch_and_nothing_else(weather, monkeypatch):
    inputs("tiny")
    schedule = {"inputs": "tiny", "threads": 1, "seed": 1, "epochs": 3, "max_epochs": None}
    before = fingerprint_training("x", schedule)
    assert fingerprint_training("x", schedule | {"epochs": 9, "max_epochs": 9}) == before
    assert fingerprint_training("x", schedule | {"threads": 2}) != before
    assert fingerprint_training("x", schedule | {"seed": 2}) != before
    assert fingerprint_training("y", schedule) != before
    read = Path.read_bytes
    for file in ("environment.py", "resume.py", "input_set.py", "rows.npy", "meta.json"):
        with monkeypatch.context() as patch:  # environment.py holds the switch of oneDNN
            patch.setattr(Path, "read_bytes", lambda path, file=file: read(path) + b"\n" * (path.name == file))
            assert fingerprint_training("x", schedule) != before, file
    monkeypatch.setattr(resume, "get_device", lambda: "gpu:0")
    assert fingerprint_training("x", schedule) != before


def test_no_identity_is_given_to_data_that_changed_since_it_was_read(weather, monkeypatch):
    inputs("tiny")
    monkeypatch.setattr(files, "_input_states", {})
    monkeypatch.setattr(
        files, "_code_states", {path: files.fingerprint_file(path) for path in files.CODE.rglob("*.py")}
    )
    path = files.watch_file("data/inputs/tiny/meta.json")
    path.write_text(path.read_text() + "\n")
    with pytest.raises(UserError, match=r"^data/inputs/tiny/meta\.json"):
        fingerprint_training("x", {"inputs": "tiny"})


@pytest.mark.slow
def test_an_edit_stops_a_training_at_the_next_epoch_and_put_back_it_continues(weather):
    """Through the real command."""
    inputs("tiny")
    Path("stages").unlink()  # the link of the fixture
    shutil.copytree(REPOSITORY / "stages", "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "run", ".")
    weather.write_params("models", "dense", epochs=1_000_000)  # it cannot end by itself

    def start():
        return subprocess.Popen(
            ["./run", "train", "dense"],
            env=os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "-1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    training = start()
    while not (line := training.stdout.readline()).startswith("dense 1/"):
        assert line
    edited = [Path("data/inputs/tiny/val.npy"), Path("stages/models/dense.py")]
    before = [path.read_bytes() for path in edited]
    for path, content in zip(edited, before, strict=True):
        path.write_bytes(content + b"\n")
    weather.write_params("models", "dense", units=4)
    output, _ = training.communicate(timeout=300)
    # An epoch may end between the edits: at least the first of them is named.
    assert training.returncode == 1 and "Traceback" not in output
    assert "data/inputs/tiny/val.npy" in output.splitlines()[-1]
    assert output.endswith(": changed while this ran; nothing was written: run it again\n")
    assert not Path("data/models").exists()

    for path, content in zip(edited, before, strict=True):
        path.write_bytes(content)
    with np.load(".resume/dense.npz") as state:
        done = len(json.loads(str(state["history"])))
    assert done >= 1
    weather.write_params("models", "dense", units=3, epochs=done)
    training = start()
    output, _ = training.communicate(timeout=300)
    assert training.returncode == 0, output
    assert f"after epoch {done}\n" in output and "ignored" not in output
    assert Path("data/models/forecast/dense/history.csv").read_text().count("\n") == done + 1


def test_cut_outputs_are_one_line(weather):
    inputs("tiny")
    train("naive")
    evaluate("naive")
    path = Path("data/models/forecast/naive/outputs.npz")
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError) as raised:
            evaluate("naive")
        assert str(raised.value).startswith(f"{path}: cannot be read (")
        assert str(raised.value).endswith("; make it again with `dvc repro -f train@naive`")
        assert "\n" not in str(raised.value)
