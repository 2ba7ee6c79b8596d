"""Reading params.yaml, and noticing that it was edited meanwhile."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.lib import params as module
from stages.lib.errors import UserError
from stages.lib.params import get_param, list_changed_keys


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """Work in an empty directory, as a process that has read nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_history", [])


def test_values_of_every_kind():
    Path("params.yaml").write_text("a:\n  b: [0, null]\n  c: {d: 0.5, e: no}\n1: x\n")
    assert get_param("a", "b") == [0, None]
    assert get_param("a", "c", "d") == 0.5
    assert get_param("a", "c", "e") == "no"  # YAML 1.2: only true and false are booleans
    assert get_param() == {"a": {"b": [0, None], "c": {"d": 0.5, "e": "no"}}, 1: "x"}


@pytest.mark.parametrize(
    ("text", "keys", "expected"),
    [
        ("a: 1\nc: 2\n", ["b"], "no `b` in the top level; it has a, c"),
        ("a: {b: {c: 1, d: 2}}\n", ["a", "b", "e"], "no `e` in a.b; it has c, d"),
        ("a: 1\n", ["a", "b"], "no `b` in a"),
        ("a: [b]\n", ["a", "b"], "no `b` in a"),
        ("", ["a"], "no `a` in the top level"),
        ("a: {b: 1\n", ["a"], "line 2: not valid YAML"),
        ("a: 1\na: 2\n", ["a"], "line 2: expected every key once, found a again"),
        ("a:\n\t- 1\n", ["a"], "line 2: not valid YAML"),
        ("a: 2009-02-31\n", ["a"], "not valid YAML"),
        (b"a: \xff\n", ["a"], "not valid YAML"),
        ("directory", ["a"], "cannot be read: Is a directory"),
        (None, ["a"], "not found; run this in the root of the repository"),
    ],
)
def test_what_is_wrong_is_named(text, keys, expected):
    path = Path("params.yaml")
    if text == "directory":
        path.mkdir()
    elif text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as raised:
        get_param(*keys)
    assert str(raised.value).startswith("params.yaml") and "\n" not in str(raised.value)
    assert expected in str(raised.value)


sections = st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 2), max_size=2), max_size=3)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from("xyz"), sections, max_size=3), st.data())
def test_changed_names_exactly_the_keys_whose_values_differ(before, data):
    module._history.clear()
    Path("params.yaml").write_text(json.dumps(before))
    keys = [("x",), ("y",), ("z",), *((x, a) for x in "xyz" for a in "abc")]
    held = {}
    for key in data.draw(st.lists(st.sampled_from(keys))):
        try:
            held[key] = get_param(*key)
        except UserError:
            continue
    kept = json.dumps(before)
    for value in held.values():
        value.clear()  # what a caller does to a value is no edit
    after = data.draw(st.dictionaries(st.sampled_from("xyz"), sections, max_size=3))
    Path("params.yaml").write_text(json.dumps(after))

    def value(content, key):
        for part in key:
            content = content.get(part, {}) if part in content else None
            if content is None:
                return None
        return content

    differing = {".".join(key) for key in held if value(json.loads(kept), key) != value(after, key)}
    assert set(list_changed_keys()) == differing and len(list_changed_keys()) == len(differing)
    Path("params.yaml").write_text(kept)
    assert list_changed_keys() == []


@pytest.mark.parametrize("text", [None, "x: {a: 1\n", "[]\n"])
def test_a_params_yaml_that_is_gone_or_broken_has_changed(text):
    Path("params.yaml").write_text("x: {a: 1}\n")
    get_param("x", "a")
    get_param()
    Path("params.yaml").unlink()
    if text:
        Path("params.yaml").write_text(text)
    assert list_changed_keys() == ["x.a", "all of it"]


def test_two_values_of_one_key_in_one_process_are_a_change():
    for value in (1, 2, 1):
        Path("params.yaml").write_text(f"x: {value}\n")
        get_param("x")
    assert list_changed_keys() == ["x"]
