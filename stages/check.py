"""Check params.yaml as a whole, before anything is fetched or trained."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stages.lib.errors import UserError
from stages.lib.files import atomic_output, watch_file
from stages.lib.params import get_param
from stages.lib.reports.leftovers import check_removed_models
from stages.lib.settings.backtest import Backtest
from stages.lib.settings.base import Name, Section, format_error, format_value, iter_errors, suggest_name
from stages.lib.settings.clean import Clean
from stages.lib.settings.clock import Clock
from stages.lib.settings.inputs import Window
from stages.lib.settings.periods import Periods
from stages.lib.settings.records import Record
from stages.lib.settings.reviews import Reviews
from stages.lib.settings.source import LatestSource, RecordSource, ReviewsSource
from stages.lib.settings.split import Split
from stages.lib.settings.tokens import Tokens
from stages.lib.settings.training import INPUTS, SCHEDULE, iter_schedule_errors


class RecordSection(RecordSource, Record, LatestSource):
    pass


class ReviewsSection(ReviewsSource, Reviews):
    pass


class Params(Section):
    """All of params.yaml. `iter_schedule_errors` checks `training`, `tasks` and `models` in detail."""

    records: dict[Name, RecordSection]
    split: Split
    inputs: dict[Name, Window]
    clean: Clean
    periods: Periods
    clock: dict[Name, Clock]
    reviews: ReviewsSection
    tokens: dict[Name, Tokens]
    training: Annotated[Any, Field(description="the settings that models share")]
    tasks: dict[Name, Any]
    models: dict[Name, Any]
    backtest: Backtest


def iter_input_errors(values: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each unknown task, duplicate name of an input set, and model without its input set."""
    for task in get_section(values, "tasks").keys() - INPUTS.keys():
        yield format_error(f"no such task{suggest_name(task, INPUTS)}", "tasks", task)
    input_sets = {section: get_section(values, section) for section in INPUTS.values()}
    for name, count in Counter(name for names in input_sets.values() for name in names).items():
        if count > 1:
            places = " and ".join(f"{section}.{name}" for section, names in input_sets.items() if name in names)
            yield format_error("expected a name of its own for each input set; rename one", places)
    for name, model in get_section(values, "models").items():
        task, input_set = (model.get(key) if isinstance(model, dict) else None for key in ("task", "inputs"))
        if not (isinstance(task, str) and task in INPUTS and isinstance(input_set, str)):
            continue  # `iter_schedule_errors` reports it
        section = INPUTS[task]
        if input_set not in input_sets[section]:
            text = f"expected an input set of {section}, for the task is {task}, found {format_value(input_set)}"
            yield format_error(text + suggest_name(input_set, input_sets[section]), "models", name, "inputs")


def iter_record_errors(values: dict[str, Any]) -> Iterator[str]:
    """Yield a line for a record with the name of another download, and for each unknown record that is named."""
    records = get_section(values, "records")
    if "reviews" in records:
        yield format_error(
            "expected another name for a record, as `./run download reviews` has it; rename it",
            "records",
            "reviews",
        )
    users: list[tuple[tuple[str, ...], Any]] = [(("split",), values.get("split"))]
    users += [(("clock", name), line) for name, line in get_section(values, "clock").items()]
    for keys, settings in users:
        for key, names in list_named_records(settings).items():
            for name in names:
                for text in iter_misfits(key, name, records, settings.get("every")):
                    yield format_error(text, *keys, key)


def iter_misfits(key: str, name: str, records: dict[str, Any], every: Any) -> Iterator[str]:
    """Yield why the record `name` cannot be at `key` of an input set with rows `every` so many hours."""
    if name not in records:
        yield f"expected a name in records, found {name}{suggest_name(name, records)}"
        return
    issued = records[name].get("issued") if isinstance(records[name], dict) else None
    if key == "ahead" and issued is None:
        yield f"expected records of forecasts, found {name}, whose rows are measured; set records.{name}.issued"
    if key != "ahead" and issued is not None:
        yield f"expected a record of measurements, found {name}, which has `issued`; name it in clock's `ahead`"
    if isinstance(issued, int | float) and isinstance(every, int) and issued < every:
        yield (
            f"expected forecasts that reach the first lead, {every} hours, found {issued:g} hours in "
            f"records.{name}.issued"
        )


def list_named_records(settings: Any) -> dict[str, list[str]]:
    """Return the records that a line of `clock`, or `split`, names, by key."""
    names: dict[str, list[str]] = {}
    for key in ("record", "neighbours", "ahead") if isinstance(settings, dict) else ():
        value = settings.get(key, [])
        listed = value if isinstance(value, list) else [value]
        flat = [name for item in listed for name in (item if isinstance(item, list) else [item])]
        names[key] = [name for name in flat if isinstance(name, str)]
    return names


def iter_backtest_errors(values: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each model of the backtest with another input set, and one for the missing references."""
    settings = values["backtest"]
    names = {
        name
        for name, model in get_section(values, "models").items()
        if isinstance(model, dict) and model.get("task") == "station" and model.get("inputs") == settings["inputs"]
    }
    for name in settings["models"]:
        if name not in names:
            text = f"expected models of the task station with the inputs {settings['inputs']}, found {name}"
            yield format_error(text + suggest_name(name, names), "backtest", "models")
    models = get_section(values, "models")
    architectures = [models[name].get("architecture") for name in settings["models"] if name in names]
    if missing := [name for name in ("persistence", "ridge") if name not in architectures]:
        yield format_error(
            f"expected the references among them, found none of the architecture {' and none of '.join(missing)}",
            "backtest",
            "models",
        )


def get_section(values: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the section `key`, or an empty one if it is not a mapping, which `Params` reports."""
    return values[key] if isinstance(values.get(key), dict) else {}


def read_build_signature(path: Path) -> ast.arguments | None:
    """Return the arguments of `build` in the file `path`, without importing it, which would import Keras.

    Returns None if `build` is imported or assigned; raises UserError if there is no `build`.
    """
    try:
        body = ast.parse(watch_file(path).read_bytes()).body
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from None
    for node in reversed(body):
        if isinstance(node, ast.FunctionDef) and node.name == "build":
            return node.args
        if isinstance(node, ast.ImportFrom) and any("build" in (name.asname, name.name) for name in node.names):
            return None
        if isinstance(node, ast.Assign) and "build" in map(ast.unparse, node.targets):
            return None
    raise UserError(f"{path}: expected a function build(inputs, ...), found none")


def iter_architecture_errors(name: str, model: dict[str, Any]) -> Iterator[str]:
    """Yield a line if the architecture has no file, and for each argument that its `build` lacks or refuses."""
    architecture = model.get("architecture")
    if not isinstance(architecture, str):
        return  # `iter_schedule_errors` reports it
    path = Path("stages/models", f"{architecture}.py")
    if not path.is_file():
        architectures = (file.stem for file in path.parent.glob("*.py"))
        text = f"expected a file {path}, found none{suggest_name(architecture, architectures)}"
        yield format_error(text, "models", name, "architecture")
        return
    try:
        arguments = read_build_signature(path)
    except UserError as error:
        yield str(error)
        return
    if arguments is None:
        return
    positional = [*arguments.posonlyargs, *arguments.args][1:]  # without `inputs`
    optional = positional[len(positional) - len(arguments.defaults) :] if arguments.defaults else []
    optional += [arg for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default]
    names, optional_names = ([arg.arg for arg in args] for args in ([*positional, *arguments.kwonlyargs], optional))
    for key in names:
        if key not in model and key not in optional_names:
            yield format_error(f"expected a value, which {path} needs; add it", "models", name, key)
    if arguments.kwarg is not None:
        return
    for key in model:
        if key not in SCHEDULE and key not in names:
            text = f"no such setting, nor an argument of build in {path}"
            yield format_error(text + suggest_name(key, [*names, *sorted(SCHEDULE)]), "models", name, key)


def check() -> None:
    """Check all of params.yaml, and that no results of removed models are left; write data/checked."""
    values = get_param()
    errors = list(iter_errors(Params, values))
    if isinstance(values, dict) and Params.model_fields.keys() <= values.keys():
        for name, model in get_section(values, "models").items():
            errors += iter_schedule_errors(name, model, values["tasks"], values["training"])
            if isinstance(model, dict) and isinstance(name, str):
                errors += iter_architecture_errors(name, model)
        errors += iter_input_errors(values)
        errors += iter_record_errors(values)
        if not any(error.startswith("params.yaml: backtest") for error in errors):
            errors += iter_backtest_errors(values)
    if errors:
        raise UserError("\n".join(dict.fromkeys(errors)))
    check_removed_models(values["models"])
    with atomic_output("data/checked") as path:
        path.write_text("params.yaml is valid\n")
    count = sum(len(values[section]) for section in INPUTS.values())
    print(f"params.yaml is valid: {count} input sets, {len(values['models'])} models")
