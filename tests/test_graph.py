"""The graph: dvc.yaml names exactly the project files that each stage's code comes from, and the rest agrees."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PARAMS = YAML(typ="safe").load(ROOT / "params.yaml")
STAGES = {stage.addressing: stage for stage in Repo(ROOT).index.stages}
COMMANDS = [name for name, stage in STAGES.items() if stage.cmd.startswith("./run ")]

# What an imported function reads but the stage's result does not depend on, and what only the other
# report reads; no analysis of literals can tell.
NOT_USED = {"evaluate": {("training",)}, "report_reviews": {("dataset", "target")}}


# --- The import closure ------------------------------------------------------------------------------


@cache
def nodes(text: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text)))


def trees(file: Path) -> list[ast.AST]:
    """Every node of the Python file, those inside functions too."""
    return nodes(file.read_text(encoding="utf-8"))


def imported(file: Path, root: Path) -> Iterator[str]:
    """Yield the dotted names that `file` may import by statement, modules and what is in them alike."""
    package = file.relative_to(root).parts[:-1]
    for node in trees(file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_by_name(file: Path, argument: str) -> Iterator[str]:
    """Yield what `file` gives to import_module; what an f-string puts in is the command's `argument`."""
    for node in trees(file):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            match node.args[0]:
                case ast.Constant(value=str(name)):
                    yield name
                case ast.JoinedStr(values=parts):
                    yield "".join(part.value if isinstance(part, ast.Constant) else argument for part in parts)
                case other:
                    raise AssertionError(f"{file}: cannot tell what import_module({ast.unparse(other)}) imports")


def named_files(file: Path, root: Path) -> Iterator[Path]:
    """Yield the files of stages/ that `file` names in a string, such as stages/lib/published.csv."""
    texts = (node.value for node in trees(file) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    yield from (root / text for text in texts if text.startswith("stages/") and (root / text).is_file())


def closure(root: Path, stage: str, argument: str) -> set[str]:
    """The files under `root` that `./run STAGE ARGUMENT` is made of, as paths from there.

    An import by name counts in the stage's own module only: what another stage's module imports so
    (evaluate imports train) belongs to functions for that other stage.
    """
    first = root / "stages" / f"{stage}.py"
    waiting, found = [first], set()
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        if file.suffix != ".py":
            continue
        names = [*imported(file, root), *(imported_by_name(file, argument) if file == first else ())]
        modules = (root / Path(*name.split(".")).with_suffix(".py") for name in names if name)
        waiting += [*filter(Path.is_file, modules), *named_files(file, root)]
    return {file.relative_to(root).as_posix() for file in found}


def command_of(name: str) -> tuple[str, str]:
    """The module and the argument ("" for none) of the command of a stage of dvc.yaml."""
    _, module, *rest = STAGES[name].cmd.split()
    return module, "".join(rest)


def code_of(name: str) -> list[str]:
    """The code files among the dependencies of a stage of dvc.yaml."""
    return [dep.def_path for dep in STAGES[name].deps if dep.def_path.startswith("stages/")]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_stage_depends_on_exactly_the_code_it_imports(name):
    assert sorted(code_of(name)) == sorted(closure(ROOT, *command_of(name)))


@pytest.fixture
def tree(tmp_path):
    """A made-up project whose stage `a` reaches its files in every way that the closure follows."""
    files = {
        "stages/a.py": (
            "import importlib, json\n"
            "from stages.b import thing\n"
            "def work(name):\n"
            "    from stages import inside\n"
            "    return importlib.import_module(f'stages.kinds.{name}')\n"
        ),
        "stages/b.py": "import stages.deep\nthing = 1\n",
        "stages/deep.py": "import stages.a\nTABLE = 'stages/table.csv'\nNONE = 'stages/absent.csv'\n",
        "stages/inside.py": "",
        "stages/kinds/round.py": "from . import helper\nfrom ..up import x\n",
        "stages/kinds/square.py": "",
        "stages/kinds/helper.py": "",
        "stages/up.py": "x = 1\n",
        "stages/table.csv": "",
        "stages/alone.py": "import stages.a\n",
        "stages/other.py": "import stages.a\n",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


REACHED = {"a.py", "b.py", "deep.py", "inside.py", "up.py", "table.csv", "kinds/round.py", "kinds/helper.py"}


def test_the_closure_follows_every_kind_of_import(tree):
    assert closure(tree, "a", "round") == {f"stages/{file}" for file in REACHED}


def test_the_closure_takes_only_the_file_that_the_argument_names(tree):
    without = REACHED - {"kinds/round.py", "kinds/helper.py", "up.py"} | {"kinds/square.py"}
    assert closure(tree, "a", "square") == {f"stages/{file}" for file in without}


def test_the_closure_leaves_imports_by_name_to_their_own_stage(tree):
    without = REACHED - {"kinds/round.py", "kinds/helper.py", "up.py"} | {"other.py"}
    assert closure(tree, "other", "round") == {f"stages/{file}" for file in without}


def test_the_closure_notices_a_new_import(tree):
    before = closure(tree, "a", "round")
    with (tree / "stages/inside.py").open("a") as file:
        file.write("def later():\n    from stages.alone import anything\n")
    assert closure(tree, "a", "round") - before == {"stages/alone.py"}


def test_the_closure_refuses_an_import_that_it_cannot_follow(tree):
    (tree / "stages/a.py").write_text("import importlib\nimportlib.import_module(name)\n")
    with pytest.raises(AssertionError, match="cannot tell"):
        closure(tree, "a", "round")


# --- Names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_does(name):
    assert STAGES[name].desc


def test_only_the_leaderboard_has_no_code():
    assert set(STAGES) - set(COMMANDS) == {"leaderboard"}


@pytest.mark.parametrize("module", sorted({command_of(name)[0] for name in COMMANDS}))
def test_a_stage_has_a_file_and_a_test_file_of_its_name(module):
    assert (ROOT / f"stages/{module}.py").is_file()
    assert (ROOT / f"tests/test_{module}.py").is_file()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_stage_runs_the_module_and_the_item_of_its_name(name):
    module, argument = command_of(name)
    assert name in (module, f"{module}@{argument}", f"{module}_{argument}")


@pytest.mark.parametrize("name", PARAMS["models"])
def test_a_model_names_an_existing_task_and_input_set(name):
    model = PARAMS["models"][name]
    assert model["task"] in PARAMS["tasks"]
    assert model["inputs"] in PARAMS[{"forecast": "inputs", "reviews": "tokens"}[model["task"]]]


def test_every_architecture_is_a_model_of_params_yaml():
    files = {path.stem for path in (ROOT / "stages/models").glob("*.py")}
    assert files == set(PARAMS["models"])


def test_no_input_set_bears_the_name_of_another():
    assert not set(PARAMS["inputs"]) & set(PARAMS["tokens"])


# --- Parameters --------------------------------------------------------------------------------------


def declared(name: str) -> set[tuple[str, ...]]:
    """The keys of params.yaml that a stage declares: {("dataset", "time"), ...}."""
    return {tuple(key.split(".")) for dep in STAGES[name].deps for key in getattr(dep, "params", [])}


def read(name: str) -> set[tuple[str | None, ...]]:
    """The keys that the code of a stage gives to `params`; None stands for what is not a literal."""
    calls = (
        node
        for file in code_of(name)
        if file.endswith(".py")
        for node in trees(ROOT / file)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "params"
    )
    return {tuple(arg.value if isinstance(arg, ast.Constant) else None for arg in call.args) for call in calls}


def meet(one: tuple[str | None, ...], other: tuple[str | None, ...]) -> bool:
    """Whether one key lies within the other; None equals everything."""
    return all(a == b or None in (a, b) for a, b in zip(one, other, strict=False))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_stage_declares_the_parameters_that_it_reads_and_no_others(name):
    needed = read(name) - NOT_USED.get(name.split("@")[0], set())
    assert {key for key in needed if not any(meet(key, other) for other in declared(name))} == set()
    assert {key for key in declared(name) if not any(meet(key, other) for other in needed)} == set()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("split",), ("split",), True),
        (("dataset",), ("dataset", "time"), True),
        (("models", None), ("models", "gru"), True),
        ((None, "size"), ("dataset", "size"), True),
        ((None, "size"), ("dataset", "time"), False),
        (("split",), ("dataset", "time"), False),
    ],
)
def test_keys_meet_where_one_lies_within_the_other(one, other, expected):
    assert meet(one, other) is meet(other, one) is expected


def leaves(value: object, key: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the key of everything in params.yaml that is not itself a mapping."""
    if not isinstance(value, dict):
        yield key
        return
    for name, inner in value.items():
        yield from leaves(inner, (*key, name))


def test_every_parameter_is_declared_by_a_stage():
    known = set().union(*map(declared, STAGES))
    assert [key for key in leaves(PARAMS) if not any(key[: len(other)] == other for other in known)] == []


# --- Caching -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_the_run_cache_can_restore_a_stage(name):
    """DVC leaves it unused for a stage without dependencies and for outputs that persist."""
    assert STAGES[name].deps
    assert not any(out.persist for out in STAGES[name].outs)


@pytest.mark.parametrize("name", STAGES)
def test_git_keeps_metrics_and_dvc_everything_else(name):
    for out in STAGES[name].outs:
        assert out.def_path.startswith("data/" if out.use_cache else "metrics/")
