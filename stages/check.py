"""The whole of params.yaml, before anything is fetched or trained."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stages.lib.errors import UserError
from stages.lib.files import atomic_output, watch_file
from stages.lib.params import get_param
from stages.lib.reports.leftovers import check_leftovers
from stages.lib.settings.backtest import Backtest
from stages.lib.settings.base import Name, Section, format_error, format_value, iter_errors, suggest_name
from stages.lib.settings.clean import Clean
from stages.lib.settings.clock import Clock
from stages.lib.settings.dataset import Record
from stages.lib.settings.inputs import Window
from stages.lib.settings.periods import Periods
from stages.lib.settings.reviews import Reviews
from stages.lib.settings.source import DatasetSource, ReviewsSource
from stages.lib.settings.split import Split
from stages.lib.settings.tokens import Tokens
from stages.lib.settings.training import INPUTS, SCHEDULE, iter_schedule_errors


class DatasetSection(DatasetSource, Record):
    pass


class ReviewsSection(ReviewsSource, Reviews):
    pass


class Params(Section):
    """All of params.yaml; what models share and their own lines are looked at in `faults`."""

    dataset: DatasetSection
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
    """Yield a line for each task that no stage knows, each input set named twice, and each named in vain."""
    for task in get_section(values, "tasks").keys() - INPUTS.keys():
        yield format_error(f"no such task{suggest_name(task, INPUTS)}", "tasks", task)
    sets = {section: get_section(values, section) for section in INPUTS.values()}
    for name, times in Counter(name for names in sets.values() for name in names).items():
        if times > 1:
            both = " and ".join(f"{section}.{name}" for section, names in sets.items() if name in names)
            yield format_error("expected a name of its own for each input set; rename one", both)
    for name, model in get_section(values, "models").items():
        task, wanted = (model.get(key) if isinstance(model, dict) else None for key in ("task", "inputs"))
        if (
            isinstance(task, str)
            and task in INPUTS
            and isinstance(wanted, str)
            and wanted not in sets[INPUTS[task]]
        ):
            text = f"expected an input set of {INPUTS[task]}, for the task is {task}, found {format_value(wanted)}"
            yield format_error(text + suggest_name(wanted, sets[INPUTS[task]]), "models", name, "inputs")


def iter_backtest_errors(values: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each model of the backtest that is not of its input set, and each reference it lacks."""
    own = values["backtest"]
    models = {
        name
        for name, model in get_section(values, "models").items()
        if isinstance(model, dict) and model.get("task") == "station" and model.get("inputs") == own["inputs"]
    }
    for name in own["models"]:
        if name not in models:
            text = f"expected models of the task station with the inputs {own['inputs']}, found {name}"
            yield format_error(text + suggest_name(name, models), "backtest", "models")
    if missing := [name for name in ("persistence", "ridge") if name not in own["models"]]:
        yield format_error(
            f"expected the references among them, found no {' and no '.join(missing)}", "backtest", "models"
        )


def get_section(values: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the section `key`, or nothing where it is no mapping: `Params` says so."""
    return values[key] if isinstance(values.get(key), dict) else {}


def read_build_signature(path: Path) -> ast.arguments | None:
    """Return the arguments of `build` in the architecture file `path`, not imported, as that would take Keras.

    None where they cannot be told; UserError where there is no `build`.
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
    """Yield a line where stages/models/NAME.py is missing, and for each argument its `build` lacks or refuses."""
    path = Path("stages/models", f"{name}.py")
    if not path.is_file():
        files = (file.stem for file in path.parent.glob("*.py"))
        yield format_error(f"expected a file {path}, found none{suggest_name(name, files)}", "models", name)
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
    taken = [arg.arg for arg in [*positional, *arguments.kwonlyargs]]
    for key in taken:
        if key not in model and key not in [arg.arg for arg in optional]:
            yield format_error(f"expected a value, which {path} needs; add it", "models", name, key)
    surplus = [key for key in model if key not in SCHEDULE and key not in taken]
    for key in surplus if arguments.kwarg is None else ():
        text = f"no such setting, nor an argument of build in {path}"
        yield format_error(text + suggest_name(key, [*taken, *sorted(SCHEDULE)]), "models", name, key)


def check() -> None:
    """Check all of params.yaml, and that no results of other models are left over; write data/checked."""
    values = get_param()
    found = list(iter_errors(Params, values))
    if isinstance(values, dict) and Params.model_fields.keys() <= values.keys():
        for name, model in get_section(values, "models").items():
            found += iter_schedule_errors(name, model, values["tasks"], values["training"])
            if isinstance(model, dict) and isinstance(name, str):
                found += iter_architecture_errors(name, model)
        found += iter_input_errors(values)
        if not any(fault.startswith("params.yaml: backtest") for fault in found):
            found += iter_backtest_errors(values)
    if found:
        raise UserError("\n".join(dict.fromkeys(found)))
    check_leftovers(values["models"])
    with atomic_output("data/checked") as path:
        path.write_text("params.yaml is valid\n")
    sets = sum(len(values[section]) for section in INPUTS.values())
    print(f"params.yaml is valid: {sets} input sets, {len(values['models'])} models")
