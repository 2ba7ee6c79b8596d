"""The README and the other pages: settings are valid, code runs, links, files and commands exist."""

import re
import runpy
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from stages.check import check
from stages.lib.windows.input_set import SPLITS, Meta, save_input_set
from stages.samples.weather import COLUMNS

ROOT = Path(__file__).parents[1]
FOLDERS = ("data", "metrics", "benchmarks")
PATHS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / folder / "README.md" for folder in FOLDERS)]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in PATHS + sorted(ROOT.glob("docs/*.md"))}
CONTRIBUTING = PAGES["CONTRIBUTING.md"]
each_page = pytest.mark.parametrize("page", PAGES)


def find_blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of `language`, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def merge(base: Any, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    return base | {key: merge(base.get(key) or {}, value) for key, value in changes.items()}


@pytest.mark.parametrize(
    ("page", "text"), [(page, block) for page in PAGES for block in find_blocks(PAGES[page], "yaml")]
)
def test_settings_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, text: str) -> None:
    shutil.copytree(ROOT / "stages/models", tmp_path / "stages/models")
    monkeypatch.chdir(tmp_path)
    if "linear:" in text:
        Path("stages/models/linear.py").write_text(*find_blocks(CONTRIBUTING, "python"))
    yaml = YAML(typ="safe")
    base = yaml.load(ROOT / "params.yaml")
    if page == "docs/layouts.md":  # each recipe changes some settings of a record
        base["records"]["station"] = base["records"]["jena"]
    yaml.dump(merge(base, yaml.load(text)), Path("params.yaml"))
    check()


def test_the_example_with_a_trained_model_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stages.lib.nn.environment import keras

    monkeypatch.chdir(tmp_path)
    rows = np.arange(60, dtype=np.float32).reshape(20, 3)
    starts, times = np.arange(8), np.arange(8).astype("datetime64[s]")
    meta = Meta(time=4, columns=["p (mbar)", "T (degC)", "rh (%)"], target=1, mean=10.0, std=2.0)
    Path("data/inputs").mkdir(parents=True)
    save_input_set(Path("data/inputs/hourly"), rows, dict.fromkeys(SPLITS, (starts, rows[:8, 1], times)), meta)
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.Flatten(), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.eye(12, 1, dtype=np.float32)])  # the window's first value
    Path("data/models/forecast/gru_dropout").mkdir(parents=True)
    model.save("data/models/forecast/gru_dropout/model.keras")

    Path("use.py").write_text(*find_blocks(PAGES["README.md"], "python"))
    assert runpy.run_path("use.py")["degrees"] == pytest.approx(np.arange(0, 15, 3) * 2.0 + 10.0)
    assert "1970-01-01T00:00:04" in capsys.readouterr().out


def test_the_model_of_the_worked_example_builds(tmp_path: Path) -> None:
    (tmp_path / "linear.py").write_text(*find_blocks(CONTRIBUTING, "python"))
    model = runpy.run_path(str(tmp_path / "linear.py"))["build"](SimpleNamespace(shape=(240, 14)))
    assert model.output_shape == (None, 1)
    assert f"linear: {model.count_params():,} weights" in CONTRIBUTING  # as its output shows


@each_page
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings]


@each_page
def test_files_and_functions_exist(page: str) -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    tracked = set(listing.stdout.split())
    names = tracked | {str(parent) for name in tracked for parent in Path(name).parents}
    for name in re.findall(r"(?<![\w/.:])(?:stages|scripts|tests|docs|benchmarks)/[\w/.]+", PAGES[page]):
        if not re.search(r"NAME|TASK|linear\.py", name):
            assert name.rstrip("./") in names, name
    for file, function in re.findall(r"`(stages/[\w/]+\.py)`, `(\w+)`", PAGES[page]):
        assert f"def {function}(" in (ROOT / file).read_text(), function


@each_page
def test_commands_exist(page: str) -> None:
    targets = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in re.findall(r"(?:^    (?:\$ )?|`)make ([^`\n]*)", PAGES[page], re.MULTILINE):
        words = re.split(r" &&| +#|  ", command)[0].split()
        assert [word for word in words if "=" not in word and word not in targets] == [], command
    for stage in re.findall(r"\./run ([a-z_]+)", PAGES[page]):
        assert any((ROOT / f"{folder}/{stage}.py").exists() for folder in ("stages", "scripts")), stage
    for module in re.findall(r"-m ((?:scripts|benchmarks)\.\w+)", PAGES[page]):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


def test_every_column_of_the_record_is_in_the_table() -> None:
    table = PAGES["docs/notebooks.md"]
    assert re.findall(r"^\| `([^`]+ \([^`]+\))` \|", table, re.MULTILINE) == list(COLUMNS)


def test_the_readme_can_be_finished() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 180


def test_the_page_for_plots_without_a_network_loads_nothing_from_the_web() -> None:
    (template,) = find_blocks(PAGES["docs/recipes.md"], "html")
    assert "{plot_divs}" in template  # where dvc plots puts the plots
    assert "{scripts}" not in template  # DVC's own, which are on the web
    assert "//" not in template.replace("../", "")
