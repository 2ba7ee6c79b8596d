"""The demo's params.yaml: what it changes, and that all else stays as it was written."""

import importlib.util
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("demo", ROOT / "scripts/demo.py")
demo = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(demo)

TEXT = """\
# A comment on top.

first: {b: 1, a: "two"}   # after a mapping
# Between the sections.
second:
  list: [1, 2]            # after a list
  quoted: "%d.%m"
  deep: {inner: {x: 1, y: 0.0001}, other: null}
  block:
    - one
    - two
  last: 5
"""


def updated(tmp_path, text, changes):
    """Return `text` after demo.update with `changes`."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    demo.update(path, changes)
    return path.read_text()


def test_nothing_to_change_leaves_every_byte(tmp_path):
    assert updated(tmp_path, TEXT, {}) == TEXT


@pytest.mark.parametrize(
    ("changes", "before", "after"),
    [
        ({"first": {"b": 7}}, "{b: 1,", "{b: 7,"),
        ({"second": {"list": [8, None]}}, "list: [1, 2]            #", "list: [8, null]         #"),
        ({"second": {"last": None}}, "last: 5", "last: null"),
        ({"second": {"deep": {"inner": {"x": 3}}}}, "{x: 1,", "{x: 3,"),
        ({"second": {"block": "sample"}}, "block:\n    - one\n    - two\n", "block: sample\n"),
        ({"second": {"new": "key"}}, "last: 5\n", "last: 5\n  new: key\n"),
    ],
)
def test_a_change_touches_its_value_alone(tmp_path, changes, before, after):
    assert TEXT.count(before) == 1
    assert updated(tmp_path, TEXT, changes) == TEXT.replace(before, after)


def test_the_demo_changes_only_the_lines_of_its_keys(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    before, after = text.splitlines(), updated(tmp_path, text, demo.SHORT).splitlines()
    changed = {line.split(":")[0].strip() for line in after if line not in before}
    assert changed == {"source", "size", "sha256", "train", "val", "test", "max_epochs", "forecast"}
    assert [line for line in before if line.lstrip().startswith("#")] == [
        line for line in after if line.lstrip().startswith("#")
    ]


def test_the_demo_says_what_it_is_meant_to(tmp_path):
    text = updated(tmp_path, (ROOT / "params.yaml").read_text(), demo.SHORT)
    content = YAML(typ="safe").load(text)

    def holds(value, wanted):
        if not isinstance(wanted, dict):
            return value == wanted
        return all(holds(value[key], inner) for key, inner in wanted.items())

    assert holds(content, demo.SHORT)
    assert content["models"] == YAML(typ="safe").load(ROOT / "params.yaml")["models"]


def missing(content, changes, where=""):
    """Return the keys of `changes` that `content` does not have, dotted."""
    found = []
    for key, value in changes.items():
        if not isinstance(content, dict) or key not in content:
            found.append(f"{where}{key}")
        elif isinstance(value, dict):
            found += missing(content[key], value, f"{where}{key}.")
    return found


def test_the_demo_names_only_keys_of_params_yaml():
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    assert missing(content, demo.SHORT) == []
    assert missing(content, {"training": {"max_epoch": 2}, "other": 1}) == ["training.max_epoch", "other"]


def test_git_and_dvc_ignore_the_demo():
    ignored = subprocess.run(["git", "-C", str(ROOT), "check-ignore", "--quiet", "demo/params.yaml"])
    assert ignored.returncode == 0
    assert "/demo" in (ROOT / ".dvcignore").read_text().splitlines()
