"""The check of params.yaml: every mistake has a message that names it, before anything is trained."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages import check as stage
from stages.lib.errors import UserError
from stages.lib.reports.leftovers import check_removed_models

REPOSITORY = Path(__file__).parents[1]
COMMITTED = YAML(typ="safe").load(REPOSITORY / "params.yaml")
VALID = {
    "records": {
        "jena": {
            **{"source": "sample", "size": None, "sha256": None},
            **{"time": "t", "format": "%Y-%m-%d", "encoding": "utf-8", "target": "T", "sentinels": []},
        },
    },
    "split": {"record": "jena", "train": [0, 4], "val": [5, 7], "test": [8, None], "val_batch": 8},
    "inputs": {"hourly": {"lookback": 12, "step": 6, "delay": 1}},
    "clean": {"max_gap": 3, "checks": {}},
    "periods": {"train": "2009-01-01", "val": "2012-01-01", "test": "2014-01-01", "end": None},
    "clock": {"station": {"record": "jena", "every": 1, "lookback": 72, "leads": 48}},
    "reviews": {"source": "sample", "size": None, "sha256": None, "vocabulary": 9},
    "tokens": {"words": {"words": 10, "length": 5, "reverse": False, "val": 0.2}},
    "training": {"batch_size": 4, "learning_rate": 0.01, "max_epochs": None, "seed": 1, "threads": 1},
    "tasks": {
        "forecast": {"loss": "mae", "metric": "mae", "monitor": "val_loss", "steps_per_epoch": 3},
        "reviews": {"loss": "binary_crossentropy", "metric": "accuracy", "monitor": "val_accuracy"},
        "station": {"loss": "pinball", "metric": "pinball", "monitor": "val_loss"},
    },
    "models": {
        "naive": {"architecture": "naive", "task": "forecast", "inputs": "hourly", "epochs": 0},
        "flat": {"architecture": "flat", "task": "forecast", "inputs": "hourly", "epochs": 2, "units": 3},
        "free": {
            "architecture": "free",
            "task": "reviews",
            "inputs": "words",
            "epochs": 2,
            "units": 3,
            "anything": [1],
        },
        "persistence": {"architecture": "persistence", "task": "station", "inputs": "station", "epochs": 0},
        "ridge": {"architecture": "ridge", "task": "station", "inputs": "station", "epochs": 0},
    },
    "backtest": {
        **{"inputs": "station", "models": ["persistence", "ridge"], "folds": ["2012-01-01", "2012-07-01"]},
        **{"months": 6, "val": 12, "train": None, "seeds": [1]},
    },
}
ARCHITECTURES = {
    "naive": "def build(inputs):\n    pass\n",
    "flat": "import absent\ndef build(inputs, units: int, *, bias: bool = True, pool=2):\n    pass\n",
    "free": "def build(inputs, units, **others):\n    pass\n",
    **dict.fromkeys(["persistence", "ridge"], "def build(inputs):\n    pass\n"),
    "borrowed": "from stages.models.flat import build\n",
    "torn": "def build(inputs:\n",
    "empty": "",
}
REMOVED = object()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with the architectures; a function that writes params.yaml and checks it."""
    monkeypatch.chdir(tmp_path)
    Path("stages/models").mkdir(parents=True)
    for name, text in ARCHITECTURES.items():
        Path(f"stages/models/{name}.py").write_text(text)

    def checked(*changes):
        params = copy.deepcopy(VALID)
        for *path, key, value in changes:
            place = params
            for inner in path:
                place = place[inner]
            if value is REMOVED:
                del place[key]
            else:
                place[key] = value
        Path("params.yaml").write_text(json.dumps(params))
        stage.check()

    return checked


def test_the_committed_parameters_are_valid(root, capsys):
    Path("params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    stage.check()
    assert Path("data/checked").read_text() == "params.yaml is valid\n"
    assert capsys.readouterr().out.startswith("params.yaml is valid: ")


def test_no_library_that_is_slow_to_import_is_taken(root):
    Path("params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    code = (
        "import sys; from stages.check import check; check()\n"
        "assert not {'keras', 'tensorflow', 'pandas', 'pyarrow', 'dvc'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


LINE = {"architecture": "naive", "task": "forecast", "inputs": "hourly", "epochs": 0}
MEASURED = VALID["records"]["jena"]
FORECASTS = MEASURED | {"issued": 24}
RUNS = MEASURED | {"issued": "run", "target": None}
RECORDS = {"jena": MEASURED, "kassel": MEASURED, "icon": FORECASTS, "runs": RUNS}
REGION = VALID["clock"]["station"] | {"neighbours": ["kassel"]}


@pytest.mark.parametrize(
    "changes",
    [
        [("models", "flat", "bias", False)],
        [("records", "second", VALID["records"]["jena"])],
        [("records", "second", VALID["records"]["jena"]), ("clock", "station", "record", "second")],
        [("models", "flat", REMOVED)],
        [("models", "borrowed", LINE | {"architecture": "borrowed", "anything": 1})],
        [("models", "second", LINE | {"architecture": "flat", "units": 5})],
        [("training", "learning_rate", 1)],
        [("tasks", "reviews", "learning_rate", 1)],
        [("models", "same", VALID["models"]["ridge"]), ("backtest", "models", ["persistence", "same"])],
        [("records", RECORDS), ("clock", "region", REGION)],
        [("records", RECORDS), ("clock", "region", REGION | {"ahead": ["icon", "runs"]})],
        [("records", RECORDS), ("clock", "region", REGION | {"ahead": [["icon", "runs"]], "every": 24})],
    ],
)
def test_what_is_right_passes(project, changes):
    project(*changes)
    assert Path("data/checked").read_text() == "params.yaml is valid\n"


@pytest.mark.parametrize(
    ("change", "expected"),  # the message about the changed setting
    [
        (("traning", {}), "no such setting; did you mean training?"),
        (("extra", {}), "no such setting; expected one of records, split, inputs, "),
        (("split", REMOVED), "expected settings (record, train, val, test, val_batch), found nothing; add it"),
        (("records", "reviews", VALID["records"]["jena"]), "expected another name for a record, as `./run"),
        (("split", "record", "gena"), "expected a name in records, found gena; did you mean jena?"),
        (("split", "record", "other"), "expected a name in records, found other; expected one of jena"),
        (("clock", "station", "record", "gena"), "expected a name in records, found gena; did you mean jena?"),
        (("training", REMOVED), "expected the settings that models share, found nothing; add it"),
        (("training", None), "expected settings (batch_size, learning_rate, max_epochs, "),
        (("models", None), "expected names with their settings, found null"),
        (("models", []), "expected names with their settings, found []"),
        (("inputs", "hourly", "lookback", 13), "expected a multiple of step, 6, found 13"),
        (("inputs", "a b", VALID["inputs"]["hourly"]), "expected a name of letters, digits, _ and -, fou"),
        (("tasks", "films", {}), "no such task; expected one of forecast, station, reviews"),
        (("tasks", "forecast", "monitor", "val_mae"), "expected a loss, error or accuracy amo"),
        (("tasks", "forecast", "logits", True), "expected false with the loss mae, found true"),
        (("models", "flat", "task", "forcast"), 'expected a name in tasks, found "forcast"; did you mean fore'),
        (("models", "flat", "task", "weather"), 'expected a name in tasks, found "weather"; expected one of f'),
        (("models", "flat", "inputs", "hurly"), "expected an input set of inputs, for the task is "),
        (("models", "flat", "inputs", "words"), "expected an input set of inputs, for the task is "),
        (("models", "flat", "units", REMOVED), "expected a value, which stages/models/flat.py needs"),
        (("models", "flat", "epocs", 5), "no such setting, nor an argument of build in stages/model"),
        (("models", "naive", "units", 5), "no such setting, nor an argument of build in stages/mod"),
        (("models", "flat", "dropout", 1.5), "expected a number from 0 to below 1, found 1.5\n"),
        (
            ("models", "flat", "architecture", REMOVED),
            "expected a name of letters, digits, _ and -, found nothing; ad",
        ),
        (
            ("models", "flat", "architecture", "flatt"),
            "expected a file stages/models/flatt.py, found none; did you me",
        ),
        (("models", "flat", "architecture", 5), "expected a name of letters, digits, _ and -, found 5"),
        (("models", "flat", 5), "expected a line of settings, found 5"),
        (
            ("backtest", "models", ["persistence"]),
            "expected the references among them, found none of the architecture ridge",
        ),
        (
            ("backtest", "models", ["persistence", "ridge", "flat"]),
            "expected models of the task station with the inputs station, found flat",
        ),
    ],
)
def test_a_mistake_is_named(project, change, expected):
    check_message(project, change, f"{'.'.join(change[:-1])}: {expected}")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("records", "jena", "decimal", ","),
            "records.jena: expected another separator than the decimal mark, found ',' for both",
        ),
        (("inputs", {}), "models.naive.inputs: expected an input set of inputs, for the task is forecast, found "),
        (
            ("inputs", "half", {"step": 1}),
            "inputs.half.lookback: expected a whole number from 1, found nothing; add it",
        ),
        (
            ("inputs", "words", VALID["inputs"]["hourly"]),
            "inputs.words and tokens.words: expected a name of its own ",
        ),
    ],
)
def test_a_mistake_is_named_where_it_is_one(project, change, expected):
    check_message(project, change, expected)


MEASUREMENTS = "expected a record of measurements, found icon, which has `issued`; name it in clock's `ahead`"
FIRST_LEAD = "expected forecasts that reach the first lead, 6 hours, found 3 hours in records.soon.issued"
FORECAST = "expected records of forecasts, found kassel, whose rows are measured; set records.kassel.issued"
ONCE = "expected each record once among record, neighbours and ahead, found {} again"


@pytest.mark.parametrize(
    ("line", "expected"),  # what is wrong with the records of an input set
    [
        ({"neighbours": ["kasel"]}, ".neighbours: expected a name in records, found kasel; did you mean kassel?"),
        ({"neighbours": ["other"]}, ".neighbours: expected a name in records, found other; expected one of jena, "),
        ({"ahead": [["icon", "ikon"]]}, ".ahead: expected a name in records, found ikon; did you mean icon?"),
        ({"neighbours": ["kassel", "icon"]}, f".neighbours: {MEASUREMENTS}"),
        ({"record": "icon"}, f".record: {MEASUREMENTS}"),
        ({"neighbours": [], "ahead": ["icon", "kassel"]}, f".ahead: {FORECAST}"),
        ({"neighbours": [], "ahead": [["icon", "kassel"]]}, f".ahead: {FORECAST}"),
        ({"every": 6, "ahead": ["soon"]}, f".ahead: {FIRST_LEAD}"),
        ({"neighbours": ["jena"]}, f": {ONCE.format('jena')}"),
        ({"ahead": ["icon", ["runs", "icon"]]}, f": {ONCE.format('icon')}"),
        ({"neighbours": ["kassel", "kassel"]}, f": {ONCE.format('kassel')}"),
    ],
)
def test_a_record_that_does_not_fit_an_input_set_is_named(project, line, expected):
    records = RECORDS | {"soon": FORECASTS | {"issued": 3}}
    with pytest.raises(UserError) as raised:
        project(("records", records), ("clock", "region", REGION | line))
    assert str(raised.value).startswith(f"params.yaml: clock.region{expected}")
    assert "\n" not in str(raised.value)


def test_the_notebooks_take_no_record_of_forecasts(project):
    with pytest.raises(UserError) as raised:
        project(("records", RECORDS), ("split", "record", "icon"))
    assert str(raised.value) == f"params.yaml: split.record: {MEASUREMENTS}"


def check_message(project, change, expected):
    """Assert that `check` refuses params.yaml with this change, and that its message starts as expected."""
    with pytest.raises(UserError) as raised:
        project(change)
    assert str(raised.value).startswith(f"params.yaml: {expected}")
    assert not Path("data/checked").exists()


def test_an_architecture_without_a_signature(project):
    with pytest.raises(UserError, match=r"^stages/models/torn\.py, line 1: "):
        project(("models", "any", LINE | {"architecture": "torn"}))
    with pytest.raises(
        UserError, match=r"^stages/models/empty\.py: expected a function build\(inputs, \.\.\.\), found none"
    ):
        project(("models", "any", LINE | {"architecture": "empty"}))


def test_all_mistakes_are_listed_once(project):
    with pytest.raises(UserError) as raised:
        project(("training", "sede", 1), ("split", "val", 5), ("models", "flat", "units", 0))
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == [
        "split.val",
        "training.sede",
        "models.flat.units",
    ]


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "a: {x: 1}\nb:\n  {c: 1,\n  a: 2, a: 3}\n"])
def test_a_key_given_twice_is_named_with_its_line(project, text):
    Path("params.yaml").write_text(text)
    line = len(text.splitlines())
    with pytest.raises(
        UserError, match=rf"^params\.yaml, line {line}: expected every key once, found a again; drop one$"
    ):
        stage.check()


@pytest.mark.parametrize("text", ["", "5", "[1, 2]", "text"])
def test_a_file_that_holds_no_sections(project, text):
    Path("params.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^params\.yaml: expected settings \(records, split, "):
        stage.check()


# --- Any one change ----------------------------------------------------------------------------------


def list_paths(value, path=()):
    """Yield the path of every key of a mapping of mappings."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield (*path, key)
        yield from list_paths(inner, (*path, key))


TEXT = st.text("abz_. :%/*-0159'\"{}", max_size=8)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(list_paths(COMMITTED))), st.just(REMOVED) | ANYTHING, st.none() | TEXT)
def test_any_one_change_is_valid_or_named(root, path, value, inserted):
    """One key of params.yaml removed, given another value, or (`inserted`) joined by an unknown one."""
    params = copy.deepcopy(COMMITTED)
    place = params
    for key in path[:-1]:
        place = place[key]
    changed = path[-1] if inserted is None or inserted in place else inserted
    if value is REMOVED:
        del place[path[-1]]
        changed = path[-1]
    else:
        place[changed] = value
    Path("params.yaml").write_text(json.dumps(params))
    try:
        stage.check()
    except UserError as error:
        assert changed in str(error)
        assert all(line.startswith("params.yaml") for line in str(error).splitlines())


# --- Leftovers ---------------------------------------------------------------------------------------


def test_results_of_models_that_are_no_more(project):
    for path in [
        "data/models/forecast/flat/a",
        "data/evaluations/reviews/free/b",
        "data/models/reviews/.gru.tmp/c",
    ]:
        Path(path).parent.mkdir(parents=True)
        Path(path).touch()
    for path in ["metrics/README.md", "metrics/.gitkeep", "metrics/forecast.md", "metrics/forecast/flat.json"]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    project()
    Path("metrics/forecast/free.json").touch()  # of another task
    Path("data/models/forecast/flat").rename("data/models/forecast/gru")
    with pytest.raises(UserError) as raised:
        project()
    message, *commands = str(raised.value).splitlines()
    assert message.startswith("results of models that params.yaml does not name")
    assert commands == ["  rm -r data/models/forecast/gru metrics/forecast/free.json", "  git add -u metrics"]
    subprocess.run(commands[0].split(), check=True)
    check_removed_models(VALID["models"])
