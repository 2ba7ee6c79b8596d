"""The graph: dvc.yaml names exactly the project files that each stage's code comes from, and the rest agrees.

Stages are tested by name, not by item: `train` stands for all of `train@MODEL`, whichever models params.yaml has.
"""

import ast
import importlib
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.stage import Stage
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
STAGES: dict[str, list[Stage]] = {}  # by name in dvc.yaml, one for every item
for result in Repo(ROOT).index.stages:
    STAGES.setdefault(result.name.split("@")[0], []).append(result)

# How a stage is run and how it fails: these change no result, and are no dependencies.
EXEMPT = {"stages/lib/command.py", "stages/lib/errors.py"}
# What an imported function reads but the stage's result does not depend on, and what only the other
# report reads; no analysis of literals can tell.
NOT_USED = {"report_reviews": {("records", None), ("split", None)}, "report_backtest": {("periods",)}}
# The stage `download` reads either a record or the reviews.
NOT_USED["download"] = {("reviews", key) for key in ("source", "size", "sha256")}
NOT_USED["download_reviews"] = {("records", None, key) for key in ("source", "size", "sha256")}
NOT_USED["backtest"] = {("backtest", "folds"), ("backtest", "models")}  # another fold or model reruns no other


def split_command(stage: Stage) -> tuple[str, str]:
    """The module and the first argument ("" for none) of `./run MODULE ARGUMENT ...`."""
    run, module, *rest = stage.cmd.split()
    assert run == "./run"
    return module, "".join(rest[:1])


# --- Code --------------------------------------------------------------------------------------------


@cache
def read_models() -> dict[str, dict[str, str]]:
    return YAML(typ="safe").load(ROOT / "params.yaml")["models"]


@cache
def list_nodes(file: Path) -> list[ast.AST]:
    """Every node of the Python file, those inside functions too."""
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def find_reached_files(file: Path, argument: str) -> Iterator[Path]:
    """The files that `file` imports, by statement or by name, and those of stages/ that it names in a string.

    What an f-string puts into the name of a module is the command's `argument`, its task, or its sample.
    """
    names = []
    values = {key: read_models().get(argument, {}).get(key, argument) for key in ("task", "architecture")}
    values["sample"] = "reviews" if argument == "reviews" else "weather"
    for node in list_nodes(file):
        match node:
            case ast.Import():
                names += [alias.name for alias in node.names]
            case ast.ImportFrom():
                assert not node.level, f"{file}: expected absolute imports"
                names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[name]):
                assert isinstance(name, ast.JoinedStr), f"{file}: cannot tell what {ast.unparse(name)} is"
                parts = (
                    ast.unparse(part) if isinstance(part, ast.FormattedValue) else part.value
                    for part in name.values
                )
                names.append(
                    re.sub(
                        r"\{.*\}",
                        lambda field: next((values[key] for key in values if key in field[0]), argument),
                        "".join(parts),
                    )
                )
            case ast.Constant(value=str(text)) if text.startswith("stages/") and not text.endswith("/"):
                yield ROOT / text
    yield from (ROOT / f"{name.replace('.', '/')}.py" for name in names)


def find_code(stage: Stage) -> set[str]:
    """The files that the stage's command is made of, as paths from the root."""
    return find_code_files(*split_command(stage))


@cache
def find_code_files(module: str, argument: str) -> set[str]:
    waiting, result = [ROOT / f"stages/{module}.py"], set()
    while waiting:
        file = waiting.pop()
        if file.is_dir():  # read, not imported
            result |= set(file.glob("*.py"))
        elif file.is_file() and file not in result:
            result.add(file)
            waiting += find_reached_files(file, argument) if file.suffix == ".py" else ()
    return {file.relative_to(ROOT).as_posix() for file in result}


def list_declared_code(stage: Stage) -> dict[str, set[str]]:
    """The stage's dependencies on code, and the files that each stands for: itself, or all files of a folder."""
    paths = [ROOT / dep.def_path for dep in stage.deps if dep.def_path.startswith("stages/")]
    files = {path: set(path.rglob("*.*")) if path.is_dir() else {path} for path in paths}
    return {
        path.relative_to(ROOT).as_posix(): {file.relative_to(ROOT).as_posix() for file in result}
        for path, result in files.items()
    }


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_exactly_the_code_it_imports(name):
    for stage in STAGES[name]:
        listed, needed = list_declared_code(stage), find_code(stage) - EXEMPT
        assert needed - set().union(*listed.values()) == set(), stage.addressing
        surplus = [path for path, files in listed.items() if not files & needed]
        assert stage.name.startswith("evaluate@") or surplus == [], stage.addressing  # one line for all tasks


def test_no_stage_imports_another():
    for file in (ROOT / "stages").glob("*.py"):
        assert [
            path.name for path in find_reached_files(file, "") if path.parent == file.parent and path.is_file()
        ] == []


# --- Names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_its_name_everywhere(name):
    """Its file, its tests and its command; and it says what it does."""
    for stage in STAGES[name]:
        module, argument = split_command(stage)
        items = "-".join(stage.cmd.split()[2:])
        assert stage.name in (module, f"{module}@{items}", f"{module}_{argument}")
        assert (ROOT / f"stages/{module}.py").is_file()
        assert (ROOT / f"tests/test_{module}.py").is_file()
        assert stage.desc


@pytest.mark.parametrize("name", ["windows", "lib", "lib/files", "", "models"])
def test_run_takes_stages_alone(name):
    done = subprocess.run([ROOT / "run", name], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ./run STAGE")


# --- Parameters --------------------------------------------------------------------------------------


def list_declared_keys(stage: Stage) -> set[tuple[str, ...]]:
    """The keys of params.yaml that a stage declares: {("dataset", "time"), ...}."""
    keys = {key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params or [""]}
    return {tuple(key.split(".")) if key else () for key in keys}


def find_read_keys(stage: Stage) -> set[tuple[str | None, ...]]:
    """The keys that the code of a stage gives to `params`, and those of the models that it gives to `settings_of`.

    None stands for what is not a literal.
    """
    return find_keys(*split_command(stage))


@cache
def find_keys(module: str, argument: str) -> set[tuple[str | None, ...]]:
    result = set()
    for file in find_code_files(module, argument):
        for node in list_nodes(ROOT / file) if file.endswith(".py") else ():
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in ("get_param", "read_settings"):
                continue
            keys = tuple(arg.value if isinstance(arg, ast.Constant) else None for arg in node.args)
            if node.func.id == "get_param":
                result.add(keys)
            elif isinstance(node.args[0], ast.Name):
                imported = importlib.import_module(file.removesuffix(".py").replace("/", "."))
                result |= {(*keys[1:], field) for field in getattr(imported, node.args[0].id).model_fields}
            else:
                result.add((*keys[1:], None))
    return result


def overlap(one: tuple[str | None, ...], other: tuple[str | None, ...]) -> bool:
    """Whether one key lies within the other; None equals everything."""
    return all(a == b or None in (a, b) for a, b in zip(one, other, strict=False))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_the_parameters_that_it_reads_and_no_others(name):
    for stage in STAGES[name]:
        needed = find_read_keys(stage) - NOT_USED.get(name, set())
        assert [key for key in needed if not any(overlap(key, other) for other in list_declared_keys(stage))] == []
        assert [key for key in list_declared_keys(stage) if not any(overlap(key, other) for other in needed)] == []


def test_every_section_of_the_parameters_is_declared_by_a_stage():
    declares = {
        key[0] for stages in STAGES.values() for stage in stages for key in list_declared_keys(stage) if key
    }
    assert set(YAML(typ="safe").load(ROOT / "params.yaml")) <= declares


# --- Caching -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_the_run_cache_can_restore_a_stage_and_git_keeps_metrics_alone(name):
    """DVC leaves it unused for a stage without dependencies and for outputs that persist."""
    for stage in STAGES[name]:
        assert stage.deps
        for out in stage.outs:
            assert not out.persist
            assert out.def_path.startswith("data/" if out.use_cache else "metrics/")
