"""The settings: each wrong value has its message, and models take what is theirs, their task's or everyone's."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.lib.errors import UserError
from stages.lib.settings.base import read_settings, suggest_name, validate_settings
from stages.lib.settings.clean import Clean
from stages.lib.settings.clock import AHEAD, Clock
from stages.lib.settings.inputs import Window
from stages.lib.settings.periods import Periods
from stages.lib.settings.records import Record
from stages.lib.settings.reviews import Reviews
from stages.lib.settings.source import LatestSource, RecordSource, ReviewsSource
from stages.lib.settings.split import Split
from stages.lib.settings.tokens import Tokens
from stages.lib.settings.training import read_schedule

RECORD = {
    "time": "Date Time",
    "format": "%d.%m.%Y %H:%M:%S",
    "encoding": "utf-8",
    "target": "T",
    "sentinels": [-9999],
    "wind": {"speed": "wv", "direction": "wd"},
}
CLEAN = {"max_gap": 3, "checks": {"warm": {"columns": ["T"]}}}
VALID = {
    RecordSource: {"source": "a.csv", "size": None, "sha256": None},
    ReviewsSource: {"source": ["http://host/a.npz"], "size": 5, "sha256": "0f" * 32},
    LatestSource: {"latest": "~/today.csv"},
    Record: RECORD,
    Split: {"record": "jena", "train": [0, 4], "val": [5, 7], "test": [8, None], "val_batch": 8},
    Window: {"lookback": 12, "step": 6, "delay": 0},
    Clean: CLEAN,
    Periods: {"train": "2009-01-01", "val": "2012-10-21 06:00", "test": "2014-09-22", "end": None},
    Clock: {"record": "jena", "every": 3, "lookback": 72, "leads": 48},
    Reviews: {"sha256": None, "vocabulary": 9},
    Tokens: {"words": 10, "length": 5, "reverse": False, "val": 0.2},
}


@pytest.mark.parametrize("kind", VALID)
def test_what_is_right_is_taken_as_it_is(kind):
    result = validate_settings(kind, VALID[kind]).model_dump(mode="json", exclude_unset=True)
    assert result == VALID[kind]


WHOLE = "expected a whole number from"
WRONG = [  # what is expected of a setting, and values that are not that
    (RecordSource, "source", "expected URLs, a URL, paths, a path or `sample`", [None, [], [1], {"url": "a"}]),
    (RecordSource, "size", "expected a number of bytes or null", ["13 MB", True, 0]),
    (RecordSource, "sha256", "expected 64 hexadecimal digits in quotes, or null", ["abc", int("1" * 64)]),
    (LatestSource, "latest", "expected a path, a URL or null", [5, "", " ", ["a.csv"]]),
    (Record, "time", "expected a column name, or a list of them", [None, ""]),
    (Record, "header", "expected 1 or 2 lines, or a list of column names", [0, 3, []]),
    (Record, "label", "expected start or end", ["middle"]),
    (Record, "decimal", 'expected "." or ","', [";"]),
    (Record, "resample", "expected {minutes: NUMBER, by: mean or last}, or null", [5]),
    (Record, "pivot", "expected {columns: COLUMN, values: COLUMN}, or null", ["a"]),
    (Record, "entry", "expected a name or pattern of one file, or null", [""]),
    (Record, "sentinels", "expected a list of numbers", [-9999, ["x"], [True]]),
    (Record, "separator", 'expected one character, such as "," or ";"', [";;"]),
    (Record, "leave_out", "expected a list of column names", ["Year"]),
    (Record, "issued", "expected a column name, a number of hours above 0, or null", ["", 0, -6, True, ["a"]]),
    (Record, "target", "expected the column to forecast", [None]),
    (Split, "train", "expected [first, last], 0 <= first < last, last maybe null", [[4, 4], [-1, 4], [0], 4, None]),
    (Split, "train", "expected [first, last], 0 <= first < last, last maybe null", [[0, 1, 2], [0, 4.5], ["0", 4]]),
    (Split, "train", "expected [first, last], 0 <= first < last, last maybe null", [[False, True], [None, 4]]),
    (Split, "val", "expected rows after split.train, which ends at 4", [[3, 7]]),
    (Split, "val_batch", f"{WHOLE} 1", [0, 2.0, True]),
    (Window, "lookback", f"{WHOLE} 1", [0, "16"]),
    (Window, "lookback", "expected a multiple of step, 6", [15]),
    (Window, "step", f"{WHOLE} 1", [1.5, True]),
    (Window, "delay", f"{WHOLE} 0", [-1]),
    (Clean, "max_gap", "expected a number of hours from 0", [-1]),
    (Record, "wind", "expected {speed: COLUMN, direction: COLUMN}, or null", ["wv"]),
    (Clean, "checks", "expected names with their settings", [[]]),
    (Periods, "train", 'expected a date in quotes, such as "2012-10-21"', ["1.1.2009", "2009-01-01T00:00Z"]),
    (Periods, "val", "expected a date after periods.train, 2009-01-01", ["2008-01-01"]),
    (Periods, "end", "expected a date after periods.test, 2014-09-22", ["2014-09-22"]),
    (Periods, "end", 'expected a date in quotes, such as "2012-10-21", or null', [2017]),
    (Clock, "lookback", "expected a multiple of every, 3", [71]),
    (Clock, "lookback", "expected at least 24, as persistence looks a day back", [21]),
    (Clock, "every", "expected a divisor of 24, so that every day has the same hours", [5]),
    (Clock, "leads", f"{WHOLE} 1", [0]),
    (Clock, "neighbours", "expected a list of records", ["kassel", [["kassel"]], None]),
    (Clock, "ahead", f"expected {AHEAD}", ["icon", [[]], [1], [["icon", 5]], None]),
    (Clock, "max_missing", "expected a number from 0 to 1", [-0.1, 1.5, "half"]),
    (Clock, "max_missing_neighbours", "expected a number from 0 to 1", [-1, 2]),
    (Reviews, "vocabulary", f"{WHOLE} 1", [None]),
    (Tokens, "words", f"{WHOLE} 4 to 32,767", [3, 32_768]),
    (Tokens, "length", f"{WHOLE} 1", [5.0]),
    (Tokens, "reverse", "expected true or false", ["no"]),
    (Tokens, "val", "expected a number above 0 and below 1", [1.0, 0, float("nan")]),
]
FORMATS = ["%d.%m. %H:%M:%S", "%d.%Y %H:%M:%S", "%m.%Y %H:%M:%S", "%d.%m.%Y %M", "%d.%m.%Y %H:%S", "%d.%m.%Y %I:%M"]
FORMATS += ["%d.%m. %H:%M:%S %z", "%d.%m.%Y %", "%d.%d.%m.%Y", "%d.%m.%Y %Q"]
LIMITS = {"columns": ["T"], "limits": [5, 1]}


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        *(
            (kind, {key: value}, f"{key}: {expected}, found {json.dumps(value)[:20]}")
            for kind, key, expected, values in WRONG
            for value in values
        ),
        *(
            (Record, {"format": format}, "format: expected year, month and day, then hour, minute")
            for format in FORMATS
        ),
        (RecordSource, {"source": ""}, "source: expected URLs, a URL, paths, a path or `sample`, found ''"),
        (
            RecordSource,
            {"source": ["sample", "a.csv"]},
            "source: expected URLs only, paths only or `sample` alone",
        ),
        (RecordSource, {"source": ["http://h/a.csv", "a.csv"]}, "source: expected URLs only, paths only or `sam"),
        (
            RecordSource,
            {"source": "ftp://h/a.csv"},
            "source: ftp://h/a.csv: expected http://... or https://..., or",
        ),
        (RecordSource, {"source": "file:///a.csv"}, "source: file:///a.csv: expected http://"),
        (RecordSource, {"source": "http:///a.csv"}, "source: http:///a.csv: expected http://"),
        (
            RecordSource,
            {"source": "http://h/get"},
            "source: http://h/get: expected a name that ends in .csv,",
        ),
        (RecordSource, {"source": "a.xlsx"}, "source: a.xlsx: expected a name that ends in .csv, .csv.zip, .zip,"),
        (
            LatestSource,
            {"latest": "ftp://h/a.csv"},
            "latest: ftp://h/a.csv: expected http://... or https://..., or",
        ),
        (ReviewsSource, {"source": "a.csv"}, "source: a.csv: expected a name that ends in .npz"),
        (ReviewsSource, {"source": ["a.npz", "b.npz"]}, "source: expected one file, found ['a.npz', 'b.npz']"),
        (Record, {"encoding": "utf-9"}, "encoding: expected an encoding such as utf-8 or cp1252, found 'utf-9'"),
        (Record, {"encoding": "hex"}, "encoding: expected an encoding such as utf-8 or cp1252, found 'hex'"),
        (Record, {"target": "Date Time"}, "target: expected a number column, found the time column's name 'Date T"),
        (Record, {"separator": "·"}, 'separator: expected one ASCII character, such as "," or ";", found \'·\''),
        (Record, {"leave_out": ["T"]}, "leave_out: expected other columns than `target`, found 'T'"),
        (Record, {"missing": [0]}, "missing: expected a list of texts in quotes, such as"),
        (
            Split,
            {"train": [0, None]},
            "val: expected rows after split.train, which goes to the record's end, found [5,",
        ),
        (Split, {"val": [5, 9]}, "test: expected rows after split.val, which ends at 9, found [8, null]"),
        (Window, {"stepp": 1}, "stepp: no such setting; did you mean step?"),
        (Window, {"size": 1}, "size: no such setting; expected one of step, lookback, delay"),
        (
            Clean,
            {"checks": {"a b": {"columns": ["T"]}}},
            "checks.a b: expected a name of letters, digits, _ and -, fo",
        ),
        (
            Clean,
            {"checks": {"a": 5}},
            "checks.a: expected settings (columns, limits, missing, step, stuck), found 5",
        ),
        (
            Clean,
            {"checks": {"a": {}}},
            "checks.a.columns: expected a list of column names or patterns with *, found n",
        ),
        (Clean, {"checks": {"a": LIMITS}}, "checks.a.limits: expected [lowest, highest], f"),
        (
            Clean,
            {"checks": {"a": {"columns": ["T"], "limit": 1}}},
            "checks.a.limit: no such setting; did you mean l",
        ),
    ],
)
def test_a_wrong_value_is_named(kind, change, expected):
    with pytest.raises(UserError) as raised:
        validate_settings(kind, VALID[kind] | change, "a", "b")
    assert str(raised.value).startswith(f"params.yaml: a.b.{expected}")
    assert "\n" not in str(raised.value)


ONE_ROW = (
    "issued: expected a number of hours, or a file with one row per issue and valid time, without `resample`, "
)
ONE_ROW += "`pivot` and `side_by_side`"
OTHER_COLUMN = "issued: expected another column than `time`, `target` and `leave_out`, found "
ONCE = "expected each record once among record, neighbours and ahead, found {} again; a station is not its own "
ONCE += "neighbour"


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        (Record, {"decimal": ","}, "expected another separator than the decimal mark, found ',' for both"),
        (Record, {"issued": "Date Time"}, f"{OTHER_COLUMN}'Date Time'"),
        (Record, {"issued": "T"}, f"{OTHER_COLUMN}'T'"),
        (Record, {"issued": "run", "leave_out": ["run"]}, f"{OTHER_COLUMN}'run'"),
        (Record, {"issued": "run", "resample": {"minutes": 60}}, ONE_ROW),
        (Record, {"issued": "run", "pivot": {"columns": "name", "values": "value"}}, ONE_ROW),
        (Record, {"issued": "run", "side_by_side": True}, ONE_ROW),
        (Clock, {"neighbours": ["jena"]}, ONCE.format("jena")),
        (Clock, {"neighbours": ["kassel", "ulm", "kassel"]}, ONCE.format("kassel")),
        (Clock, {"neighbours": ["kassel"], "ahead": [["icon", "kassel"]]}, ONCE.format("kassel")),
        (Clock, {"ahead": ["icon", ["ecmwf", "icon"]]}, ONCE.format("icon")),
    ],
)
def test_settings_that_contradict_each_other_are_named(kind, change, expected):
    with pytest.raises(UserError) as raised:
        validate_settings(kind, VALID[kind] | change, "a", "b")
    assert str(raised.value) == f"params.yaml: a.b: {expected}"


@pytest.mark.parametrize(
    "change",
    [
        {"issued": "run"},
        {"issued": 6},
        {"issued": 0.5, "target": None},
        {"issued": 24.0, "resample": {"minutes": 60.0, "by": "mean"}},
        {"issued": 24.0, "side_by_side": True},
    ],
)
def test_a_record_of_forecasts_has_times_of_issue_and_may_lack_the_target(change):
    result = validate_settings(Record, RECORD | change)
    assert result.model_dump(mode="json", exclude_unset=True) == RECORD | change
    assert result.issue_column == ("run" if change["issued"] == "run" else None)


def test_an_input_set_of_several_records_names_them_all():
    line = VALID[Clock] | {"neighbours": ["kassel"], "ahead": ["icon", ["ecmwf", "ecmwf2"]], "max_missing": 0.25}
    result = validate_settings(Clock, line)
    assert result.model_dump(exclude_unset=True) == line
    assert result.records == ["jena", "kassel", "icon", "ecmwf", "ecmwf2"]
    assert result.ahead_groups == [["icon"], ["ecmwf", "ecmwf2"]]
    assert (result.lookback_rows, result.lead_rows, result.max_missing_neighbours) == (24, 16, 0.5)
    assert validate_settings(Clock, VALID[Clock]).records == ["jena"]


@pytest.mark.parametrize("kind", [kind for kind in VALID if kind != LatestSource])  # which is optional
def test_all_that_is_wrong_is_listed_a_line_each(kind):
    with pytest.raises(UserError) as raised:
        validate_settings(kind, {}, "a")
    keys = [line.split(":")[1].strip() for line in str(raised.value).splitlines()]
    assert keys == [f"a.{key}" for key, field in kind.model_fields.items() if field.is_required()]
    assert all(line.endswith(", found nothing; add it") for line in str(raised.value).splitlines())


PARTS = [
    *("%d", "%m", "%Y", "%y", "%j", "%b", "%H", "%I", "%p", "%M", "%S", "%f", "%z", "%", ".", "-", ":", " ", "\0")
]


@given(st.integers(2000, 2030), st.lists(st.sampled_from(PARTS), max_size=9).map("".join))
def test_with_a_format_that_is_taken_a_moment_comes_back_as_far_as_it_goes(year, format):
    """Whatever is refused, there is no other error."""
    try:
        validate_settings(Record, RECORD | {"format": format}, "records", "jena")
    except UserError as error:
        assert str(error).startswith("params.yaml: records.jena.format: expected ")
        return
    moment = datetime(year, 11, 30, 13, 47, 5, tzinfo=UTC if "%z" in format.replace("%%", "") else None)
    back = datetime.strptime(moment.strftime(format), format)
    moment, back = moment.replace(tzinfo=None), back.replace(tzinfo=None)
    assert back in [moment, moment.replace(second=0), moment.replace(minute=0, second=0), datetime(year, 11, 30)]


@pytest.mark.parametrize(
    "format",
    ["%d.%m.%Y %H:%M:%S", "%Y-%j", "%y%m%d %H", "%d %b %Y %I %p", "%Y-%m-%d %H:%M:%S.%f %z", "ISO8601", "epoch"],
)
def test_such_formats_are_taken(format):
    validate_settings(Record, RECORD | {"format": format}, "records", "jena")


def test_only_what_a_stage_asks_for_is_looked_at(root):
    Path("params.yaml").write_text(json.dumps({"records": {"jena": RECORD | {"source": 5}}}))
    assert read_settings(Record, "records", "jena").target == "T"
    with pytest.raises(
        UserError,
        match=r"params\.yaml: records\.jena\.source: expected URLs, .*\nparams\.yaml: records\.jena\.size: ",
    ):
        read_settings(RecordSource, "records", "jena")
    with pytest.raises(UserError, match="no `reviews` in the top level; it has records"):
        read_settings(Reviews, "reviews")


@pytest.mark.parametrize(
    ("word", "expected"), [("dropuot", "; did you mean dropout?"), (5, "; expected one of dropout, units")]
)
def test_a_suggestion(word, expected):
    assert suggest_name(word, ["dropout", "units"]) == expected


# --- What a model is trained with --------------------------------------------------------------------


@pytest.fixture
def model(root):
    """A function that writes params.yaml, changed, and returns the settings of its model `dense`."""

    def result(training=None, tasks=None, **own):
        shared = {"batch_size": 4, "learning_rate": 0.01, "max_epochs": None, "seed": 1, "threads": 1}
        forecast = {"loss": "mae", "metric": "mae", "monitor": "val_loss", "steps_per_epoch": 3}
        line = {"architecture": "dense", "task": "forecast", "inputs": "tiny", "epochs": 2, "units": 3} | own
        sections = {
            "training": shared | (training or {}),
            "tasks": {"forecast": forecast | (tasks or {})},
            "models": {"dense": {key: value for key, value in line.items() if value != "absent"}},
        }
        Path("params.yaml").write_text(json.dumps(sections))
        return read_schedule("dense")

    return result


def test_a_model_overrides_its_task_and_that_overrides_training(model):
    assert (model()["learning_rate"], model()["seed"]) == (0.01, 1)
    assert model(tasks={"seed": 2})["seed"] == 2
    assert model(tasks={"seed": 2}, seed=3)["seed"] == 3
    assert model({"steps_per_epoch": 5}, steps_per_epoch=None)["steps_per_epoch"] is None


def test_what_is_not_named_has_its_default_and_other_keys_are_kept(model):
    result = model(heads=[1, {"a": 2}])
    assert (result["logits"], result["members"], result["units"], result["heads"]) == (False, 1, 3, [1, {"a": 2}])


def test_a_learning_rate_of_one_is_a_float(model):
    assert str(model(learning_rate=1)["learning_rate"]) == "1.0"


@pytest.mark.parametrize(("cap", "epochs"), [(None, 2), (0, 0), (1, 1), (5, 2)])
def test_max_epochs_caps(model, cap, epochs):
    assert model({"max_epochs": cap})["epochs"] == epochs


NUMBERS = {  # what is expected of a setting of a model, and values that are not that
    "epochs": (f"{WHOLE} 0", [-1, "ten"]),
    "max_epochs": (f"{WHOLE} 0, or null", [1.5]),
    "seed": (f"{WHOLE} 0 to below 2**32", [True, 2**32]),
    "steps_per_epoch": (f"{WHOLE} 1, or null", [0]),
    **dict.fromkeys(["batch_size", "threads", "members"], (f"{WHOLE} 1", [0])),
    "learning_rate": ("expected a number above 0", [0, "1e-3", True]),
    **dict.fromkeys(["inputs", "architecture"], ("expected a name of letters, digits, _ and -", [3, "a b"])),
    "monitor": ("expected a name, such as val_loss", [None]),
    "metric": ("expected the name of a metric, such as mae or accuracy", [5]),
    "logits": ("expected true or false", [1]),
    "units": (f"{WHOLE} 1, or a list of them", [0, [3, True]]),
    **dict.fromkeys(["dropout", "recurrent_dropout"], ("expected a number from 0 to below 1", [1, -0.1])),
}
MONITOR = "monitor: expected a loss, error or accuracy among val_loss"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        *(
            ({key: value}, f"models.dense.{key}: {expected}, found {json.dumps(value)}")
            for key, (expected, values) in NUMBERS.items()
            for value in values
        ),
        ({"epochs": "absent"}, f"models.dense.epochs: {WHOLE} 0, found nothing; add it"),
        *(
            (
                {key: "absent"},
                f"models.dense.{key}: expected a name of letters, digits, _ and -, found nothing; add",
            )
            for key in ("task", "architecture")
        ),
        ({"loss": "maee"}, "models.dense.loss: expected a loss, found 'maee'; did you mean mae?"),
        ({"loss": "accuracy"}, "models.dense.loss: expected a loss, found 'accuracy'"),
        ({"loss": "pinball"}, "models.dense.loss: expected a loss of Keras for the task forecast, found pinball"),
        (
            {"members": 3},
            "models.dense.members: expected 1 for the task forecast, as only a station's members are av",
        ),
        (
            {"metric": "pinball"},
            "models.dense.metric: expected a metric of Keras for the task forecast, found pinball",
        ),
        ({"metric": "acuracy"}, "models.dense.metric: expected a metric, found 'acuracy'; did you mean accuracy?"),
        ({"monitor": "val_mae"}, f"models.dense.{MONITOR}, found 'val_"),
        ({"metric": "huber", "monitor": "val_huber"}, f"models.dense.{MONITOR}, val_huber, found 'val_huber'"),
        ({"logits": True}, "models.dense.logits: expected false with the loss mae, found true"),
        ({"training": {"momentum": 1}}, "training.momentum: no such setting; expected one of "),
        ({"training": {"sede": 1}}, "training.sede: no such setting; did you mean seed?"),
        ({"training": {"inputs": "tiny"}}, "training.inputs: no such setting; expected one of "),
        ({"training": {"seed": -1}}, "training.seed: expected a whole number from 0 to below 2**32, found -1"),
        ({"training": {"logits": True}}, "training.logits: expected false with the loss mae, found true"),
        ({"task": "forecasts"}, "no `forecasts` in tasks; it has forecast"),
    ],
)
def test_a_wrong_setting_of_a_model_is_named(model, change, expected):
    with pytest.raises(UserError) as raised:
        model(**change)
    assert str(raised.value).startswith(f"params.yaml: {expected}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("section", ["training", "tasks"])
def test_what_is_missing_is_missed_where_it_belongs(model, section):
    model()
    params = json.loads(Path("params.yaml").read_text())
    shared = params["training"] if section == "training" else params["tasks"]["forecast"]
    for key in list(shared):
        Path("params.yaml").write_text(json.dumps(params))
        value = shared.pop(key)
        Path("params.yaml").write_text(json.dumps(params))
        shared[key] = value
        if key in ("max_epochs", "steps_per_epoch"):
            assert read_schedule("dense")[key] is None
            continue
        where = section if section == "training" else "tasks.forecast"
        with pytest.raises(UserError, match=rf"^params\.yaml: {where}\.{key}: expected .*, found nothing; add it$"):
            read_schedule("dense")


def test_a_model_that_is_no_line_and_one_that_is_not_there(model):
    model()
    params = json.loads(Path("params.yaml").read_text())
    Path("params.yaml").write_text(json.dumps(params | {"models": {"dense": 3}}))
    with pytest.raises(UserError, match=r"params\.yaml: models\.dense: expected a line of settings, found 3"):
        read_schedule("dense")
    with pytest.raises(UserError, match="no `lstm` in models; it has dense"):
        read_schedule("lstm")
