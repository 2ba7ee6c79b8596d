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
from stages.lib.settings.clock import Clock
from stages.lib.settings.dataset import Record
from stages.lib.settings.inputs import Window
from stages.lib.settings.periods import Periods
from stages.lib.settings.reviews import Reviews
from stages.lib.settings.source import DatasetSource, ReviewsSource
from stages.lib.settings.split import Split
from stages.lib.settings.tokens import Tokens
from stages.lib.settings.training import read_schedule

RECORD = {
    "time": "Date Time",
    "format": "%d.%m.%Y %H:%M:%S",
    "encoding": "utf-8",
    "target": "T",
    "sentinels": [-9999],
}
CLEAN = {"max_gap": 3, "wind": {"speed": "wv", "direction": "wd"}, "checks": {"warm": {"columns": ["T"]}}}
VALID = {
    DatasetSource: {"source": "a.csv", "size": None, "sha256": None},
    ReviewsSource: {"source": ["http://host/a.npz"], "size": 5, "sha256": "0f" * 32},
    Record: RECORD,
    Split: {"train": [0, 4], "val": [5, 7], "test": [8, None], "val_batch": 8},
    Window: {"lookback": 12, "step": 6, "delay": 0},
    Clean: CLEAN,
    Periods: {"train": "2009-01-01", "val": "2012-10-21 06:00", "test": "2014-09-22", "end": None},
    Clock: {"every": 3, "lookback": 72, "leads": 48},
    Reviews: {"sha256": None, "vocabulary": 9},
    Tokens: {"words": 10, "length": 5, "reverse": False, "val": 0.2},
}


@pytest.mark.parametrize("kind", VALID)
def test_what_is_right_is_taken_as_it_is(kind):
    found = validate_settings(kind, VALID[kind]).model_dump(mode="json", exclude_unset=True)
    assert found == VALID[kind]


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        *(
            (
                DatasetSource,
                {"source": source},
                f"source: expected URLs, a URL, paths, a path or `sample`, found {found}",
            )
            for source, found in [
                (None, "null"),
                ([], "[]"),
                ("", "''"),
                ([1], "[1]"),
                ({"url": "a"}, '{"url": "a"}'),
            ]
        ),
        (
            DatasetSource,
            {"source": ["sample", "a.csv"]},
            "source: expected URLs only, paths only or `sample` alone",
        ),
        (
            DatasetSource,
            {"source": ["http://h/a.csv", "a.csv"]},
            "source: expected URLs only, paths only or `sample`",
        ),
        (
            DatasetSource,
            {"source": "ftp://h/a.csv"},
            "source: ftp://h/a.csv: expected http://... or https://..., or a",
        ),
        (DatasetSource, {"source": "file:///a.csv"}, "source: file:///a.csv: expected http://"),
        (DatasetSource, {"source": "http:///a.csv"}, "source: http:///a.csv: expected http://"),
        (
            DatasetSource,
            {"source": "http://h/get"},
            "source: http://h/get: expected a name that ends in .csv,",
        ),
        (DatasetSource, {"source": "a.xlsx"}, "source: a.xlsx: expected a name that ends in .csv, .csv.zip, .zip,"),
        (ReviewsSource, {"source": "a.csv"}, "source: a.csv: expected a name that ends in .npz"),
        (ReviewsSource, {"source": ["a.npz", "b.npz"]}, "source: expected one file, found ['a.npz', 'b.npz']"),
        (DatasetSource, {"size": "13 MB"}, 'size: expected a number of bytes or null, found "13 MB"'),
        (DatasetSource, {"size": True}, "size: expected a number of bytes or null, found true"),
        (DatasetSource, {"size": 0}, "size: expected a number of bytes or null, found 0"),
        (
            DatasetSource,
            {"sha256": "abc"},
            'sha256: expected 64 hexadecimal digits in quotes, or null, found "abc"',
        ),
        (
            DatasetSource,
            {"sha256": int("1" * 64)},
            "sha256: expected 64 hexadecimal digits in quotes, or null, found 1",
        ),
        (Record, {"encoding": "utf-9"}, "encoding: expected an encoding such as utf-8 or cp1252, found 'utf-9'"),
        (Record, {"encoding": "hex"}, "encoding: expected an encoding such as utf-8 or cp1252, found 'hex'"),
        *(
            (
                Record,
                {"format": format},
                "format: expected year, month and day, then hour, minute and second as far",
            )
            for format in (
                *("%d.%m. %H:%M:%S", "%d.%Y %H:%M:%S", "%m.%Y %H:%M:%S", "%d.%m.%Y %M", "%d.%m.%Y %H:%S"),
                *("%d.%m.%Y %I:%M", "%d.%m. %H:%M:%S %z", "%d.%m.%Y %", "%d.%d.%m.%Y", "%d.%m.%Y %Q"),
            )
        ),
        (Record, {"time": None}, "time: expected a column name, or a list of them, found null"),
        (Record, {"time": ""}, 'time: expected a column name, or a list of them, found ""'),
        (
            Record,
            {"target": "Date Time"},
            "target: expected a number column, found the time column's name 'Date Time'",
        ),
        (Record, {"sentinels": -9999}, "sentinels: expected a list of numbers, found -9999"),
        (Record, {"sentinels": ["x"]}, 'sentinels: expected a list of numbers, found ["x"]'),
        (Record, {"separator": ";;"}, 'separator: expected one character, such as "," or ";", found ";;"'),
        (Record, {"separator": "·"}, 'separator: expected one ASCII character, such as "," or ";", found \'·\''),
        (Record, {"leave_out": "Year"}, 'leave_out: expected a list of column names, found "Year"'),
        (Record, {"leave_out": ["T"]}, "leave_out: expected other columns than `target`, found 'T'"),
        (Record, {"missing": [0]}, "missing: expected a list of texts in quotes, such as"),
        (Record, {"sentinels": [True]}, "sentinels: expected a list of numbers, found [true]"),
        *(
            (
                Split,
                {"train": rows},
                f"train: expected [first, last], 0 <= first < last, last maybe null, found {found}",
            )
            for rows, found in [
                *(([4, 4], "[4, 4]"), ([-1, 4], "[-1, 4]"), ([0], "[0]"), ([0, 1, 2], "[0, 1, 2]"), (4, "4")),
                *(
                    ([0, 4.5], "[0, 4.5]"),
                    ([False, True], "[false, true]"),
                    ([None, 4], "[null, 4]"),
                    (None, "null"),
                ),
                (["0", 4], '["0", 4]'),
            ]
        ),
        (
            Split,
            {"train": [0, None]},
            "val: expected rows after split.train, which goes to the record's end, found [5, 7]",
        ),
        (Split, {"val": [3, 7]}, "val: expected rows after split.train, which ends at 4, found [3, 7]"),
        (Split, {"val": [5, 9]}, "test: expected rows after split.val, which ends at 9, found [8, null]"),
        (Split, {"val_batch": 0}, "val_batch: expected a whole number from 1, found 0"),
        (Split, {"val_batch": 2.0}, "val_batch: expected a whole number from 1, found 2.0"),
        (Split, {"val_batch": True}, "val_batch: expected a whole number from 1, found true"),
        (Window, {"lookback": 0}, "lookback: expected a whole number from 1, found 0"),
        (Window, {"lookback": "16"}, 'lookback: expected a whole number from 1, found "16"'),
        (Window, {"lookback": 15}, "lookback: expected a multiple of step, 6, found 15"),
        (Window, {"step": 1.5}, "step: expected a whole number from 1, found 1.5"),
        (Window, {"step": True}, "step: expected a whole number from 1, found true"),
        (Window, {"delay": -1}, "delay: expected a whole number from 0, found -1"),
        (Window, {"stepp": 1}, "stepp: no such setting; did you mean step?"),
        (Window, {"size": 1}, "size: no such setting; expected one of step, lookback, delay"),
        (Clean, {"max_gap": -1}, "max_gap: expected a number of hours from 0, found -1"),
        (Clean, {"wind": "wv"}, 'wind: expected {speed: COLUMN, direction: COLUMN}, or null, found "wv"'),
        (Clean, {"checks": []}, "checks: expected names with their settings, found []"),
        (
            Clean,
            {"checks": {"a b": {"columns": ["T"]}}},
            'checks.a b: expected a name of letters, digits, _ and -, found "',
        ),
        (
            Clean,
            {"checks": {"a": 5}},
            "checks.a: expected settings (columns, limits, missing, step, stuck), found 5",
        ),
        (
            Clean,
            {"checks": {"a": {}}},
            "checks.a.columns: expected a list of column names or patterns with *, found noth",
        ),
        (
            Clean,
            {"checks": {"a": {"columns": ["T"], "limits": [5, 1]}}},
            "checks.a.limits: expected [lowest, highest], f",
        ),
        (
            Clean,
            {"checks": {"a": {"columns": ["T"], "limit": [1, 5]}}},
            "checks.a.limit: no such setting; did you mean l",
        ),
        (
            Periods,
            {"train": "1.1.2009"},
            'train: expected a date in quotes, such as "2012-10-21", found "1.1.2009"',
        ),
        (
            Periods,
            {"train": "2009-01-01T00:00Z"},
            'train: expected a date in quotes, such as "2012-10-21", found "2009',
        ),
        (
            Periods,
            {"val": "2008-01-01"},
            'val: expected a date after periods.train, 2009-01-01, found "2008-01-01"',
        ),
        (Periods, {"end": "2014-09-22"}, 'end: expected a date after periods.test, 2014-09-22, found "2014-09-22"'),
        (Periods, {"end": 2017}, 'end: expected a date in quotes, such as "2012-10-21", or null, found 2017'),
        (Clock, {"lookback": 71}, "lookback: expected a multiple of every, 3, found 71"),
        (Clock, {"lookback": 21}, "lookback: expected at least 24, as persistence looks a day back, found 21"),
        (Clock, {"every": 5}, "every: expected a divisor of 24, so that every day has the same hours, found 5"),
        (Clock, {"leads": 0}, "leads: expected a whole number from 1, found 0"),
        (Reviews, {"vocabulary": None}, "vocabulary: expected a whole number from 1, found null"),
        (Tokens, {"words": 3}, "words: expected a whole number from 4 to 32,767, found 3"),
        (Tokens, {"words": 32_768}, "words: expected a whole number from 4 to 32,767, found 32768"),
        (Tokens, {"length": 5.0}, "length: expected a whole number from 1, found 5.0"),
        (Tokens, {"reverse": "no"}, 'reverse: expected true or false, found "no"'),
        (Tokens, {"val": 1.0}, "val: expected a number above 0 and below 1, found 1.0"),
        (Tokens, {"val": 0}, "val: expected a number above 0 and below 1, found 0"),
        (Tokens, {"val": float("nan")}, "val: expected a number above 0 and below 1, found NaN"),
    ],
)
def test_a_wrong_value_is_named(kind, change, expected):
    with pytest.raises(UserError) as raised:
        validate_settings(kind, VALID[kind] | change, "a", "b")
    assert str(raised.value).startswith(f"params.yaml: a.b.{expected}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", VALID)
def test_all_that_is_wrong_is_listed_a_line_each(kind):
    with pytest.raises(UserError) as raised:
        validate_settings(kind, {}, "a")
    keys = [line.split(":")[1].strip() for line in str(raised.value).splitlines()]
    assert keys == [f"a.{key}" for key, field in kind.model_fields.items() if field.is_required()]
    assert all(line.endswith(", found nothing; add it") for line in str(raised.value).splitlines())


PARTS = [
    "%d",
    "%m",
    "%Y",
    "%y",
    "%j",
    "%b",
    "%H",
    "%I",
    "%p",
    "%M",
    "%S",
    "%f",
    "%z",
    "%",
    ".",
    "-",
    ":",
    " ",
    "\0",
]


@given(st.integers(2000, 2030), st.lists(st.sampled_from(PARTS), max_size=9).map("".join))
def test_with_a_format_that_is_taken_a_moment_comes_back_as_far_as_it_goes(year, format):
    """Whatever is refused, there is no other error."""
    try:
        validate_settings(Record, RECORD | {"format": format}, "dataset")
    except UserError as error:
        assert str(error).startswith("params.yaml: dataset.format: expected ")
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
    validate_settings(Record, RECORD | {"format": format}, "dataset")


def test_only_what_a_stage_asks_for_is_looked_at(root):
    Path("params.yaml").write_text(json.dumps({"dataset": RECORD | {"source": 5}}))
    assert read_settings(Record, "dataset").target == "T"
    with pytest.raises(
        UserError, match=r"params\.yaml: dataset\.source: expected URLs, .*\nparams\.yaml: dataset\.size: "
    ):
        read_settings(DatasetSource, "dataset")
    with pytest.raises(UserError, match="no `reviews` in the top level; it has dataset"):
        read_settings(Reviews, "reviews")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dropuot", "; did you mean dropout?"),
        (5, "; expected one of dropout, units"),
    ],
)
def test_a_suggestion(word, expected):
    assert suggest_name(word, ["dropout", "units"]) == expected


# --- What a model is trained with --------------------------------------------------------------------


@pytest.fixture
def model(root):
    """A function that writes params.yaml, changed, and returns the settings of its model `dense`."""

    def found(training=None, tasks=None, **own):
        shared = {"batch_size": 4, "learning_rate": 0.01, "max_epochs": None, "seed": 1, "threads": 1}
        forecast = {"loss": "mae", "metric": "mae", "monitor": "val_loss", "steps_per_epoch": 3}
        line = {"task": "forecast", "inputs": "tiny", "epochs": 2, "units": 3} | own
        sections = {
            "training": shared | (training or {}),
            "tasks": {"forecast": forecast | (tasks or {})},
            "models": {"dense": {key: value for key, value in line.items() if value != "absent"}},
        }
        Path("params.yaml").write_text(json.dumps(sections))
        return read_schedule("dense")

    return found


def test_a_model_overrides_its_task_and_that_overrides_training(model):
    assert (model()["learning_rate"], model()["seed"]) == (0.01, 1)
    assert model(tasks={"seed": 2})["seed"] == 2
    assert model(tasks={"seed": 2}, seed=3)["seed"] == 3
    assert model({"steps_per_epoch": 5}, steps_per_epoch=None)["steps_per_epoch"] is None


def test_what_is_not_named_has_its_default_and_other_keys_are_kept(model):
    found = model(heads=[1, {"a": 2}])
    assert (found["logits"], found["members"], found["units"], found["heads"]) == (False, 1, 3, [1, {"a": 2}])


def test_a_learning_rate_of_one_is_a_float(model):
    assert str(model(learning_rate=1)["learning_rate"]) == "1.0"


@pytest.mark.parametrize(("cap", "epochs"), [(None, 2), (0, 0), (1, 1), (5, 2)])
def test_max_epochs_caps(model, cap, epochs):
    assert model({"max_epochs": cap})["epochs"] == epochs


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"epochs": -1}, "models.dense.epochs: expected a whole number from 0, found -1"),
        ({"epochs": "ten"}, 'models.dense.epochs: expected a whole number from 0, found "ten"'),
        ({"epochs": "absent"}, "models.dense.epochs: expected a whole number from 0, found nothing; add it"),
        (
            {"task": "absent"},
            "models.dense.task: expected a name of letters, digits, _ and -, found nothing; add it",
        ),
        ({"max_epochs": 1.5}, "models.dense.max_epochs: expected a whole number from 0, or null, found 1.5"),
        ({"batch_size": 0}, "models.dense.batch_size: expected a whole number from 1, found 0"),
        ({"threads": 0}, "models.dense.threads: expected a whole number from 1, found 0"),
        ({"members": 0}, "models.dense.members: expected a whole number from 1, found 0"),
        ({"seed": True}, "models.dense.seed: expected a whole number from 0 to below 2**32, found true"),
        ({"seed": 2**32}, "models.dense.seed: expected a whole number from 0 to below 2**32, found 4294967296"),
        ({"steps_per_epoch": 0}, "models.dense.steps_per_epoch: expected a whole number from 1, or null, found 0"),
        ({"learning_rate": 0}, "models.dense.learning_rate: expected a number above 0, found 0"),
        ({"learning_rate": "1e-3"}, 'models.dense.learning_rate: expected a number above 0, found "1e-3"'),
        ({"learning_rate": True}, "models.dense.learning_rate: expected a number above 0, found true"),
        ({"inputs": 3}, "models.dense.inputs: expected a name of letters, digits, _ and -, found 3"),
        ({"loss": "maee"}, "models.dense.loss: expected a loss, found 'maee'; did you mean mae?"),
        ({"loss": "accuracy"}, "models.dense.loss: expected a loss, found 'accuracy'"),
        ({"loss": "pinball"}, "models.dense.loss: expected a loss of Keras for the task forecast, found pinball"),
        (
            {"members": 3},
            "models.dense.members: expected 1 for the task forecast, as only a station's members are averaged,",
        ),
        (
            {"metric": "pinball"},
            "models.dense.metric: expected a metric of Keras for the task forecast, found pinball",
        ),
        ({"metric": 5}, "models.dense.metric: expected the name of a metric, such as mae or accuracy, found 5"),
        ({"metric": "acuracy"}, "models.dense.metric: expected a metric, found 'acuracy'; did you mean accuracy?"),
        ({"monitor": None}, "models.dense.monitor: expected a name, such as val_loss, found null"),
        (
            {"monitor": "val_mae"},
            "models.dense.monitor: expected a loss, error or accuracy among val_loss, found 'val_",
        ),
        (
            {"metric": "huber", "monitor": "val_huber"},
            "models.dense.monitor: expected a loss, error or accuracy among val_loss, val_huber, found 'val_huber'",
        ),
        ({"logits": 1}, "models.dense.logits: expected true or false, found 1"),
        ({"logits": True}, "models.dense.logits: expected false with the loss mae, found true"),
        ({"units": 0}, "models.dense.units: expected a whole number from 1, or a list of them, found 0"),
        (
            {"units": [3, True]},
            "models.dense.units: expected a whole number from 1, or a list of them, found [3, true]",
        ),
        ({"dropout": 1}, "models.dense.dropout: expected a number from 0 to below 1, found 1"),
        (
            {"recurrent_dropout": -0.1},
            "models.dense.recurrent_dropout: expected a number from 0 to below 1, found -0.1",
        ),
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
