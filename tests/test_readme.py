"""The README and CONTRIBUTING.md: their settings are valid, their code runs, what they name exists."""

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
from stages.samples.dataset import COLUMNS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md", "metrics/README.md")]
README, CONTRIBUTING = (page.read_text(encoding="utf-8") for page in PAGES[:2])
MODELS = "stages/models"


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of `language`, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def merged(base: Any, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    return base | {key: merged(base.get(key, {}), value) for key, value in changes.items()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with its own copy of the architectures."""
    shutil.copytree(ROOT / MODELS, tmp_path / MODELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", blocks(README, "yaml") + blocks(CONTRIBUTING, "yaml"))
def test_the_settings_shown_are_valid(project: Path, text: str) -> None:
    yaml = YAML(typ="safe")
    (linear,) = blocks(CONTRIBUTING, "python")
    if "linear:" in text:
        (project / MODELS / "linear.py").write_text(linear)
    with (project / "params.yaml").open("w") as file:
        yaml.dump(merged(yaml.load(ROOT / "params.yaml"), yaml.load(text)), file)
    check()


def test_the_code_that_uses_a_trained_model_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from stages.lib.nn.environment import keras

    rows = np.arange(60, dtype=np.float32).reshape(20, 3)
    starts, times = np.arange(8), np.arange(8).astype("datetime64[s]")
    meta = Meta(time=4, columns=["p (mbar)", "T (degC)", "rh (%)"], target=1, mean=10.0, std=2.0)
    Path("data/inputs").mkdir(parents=True)
    save_input_set(Path("data/inputs/hourly"), rows, dict.fromkeys(SPLITS, (starts, rows[:8, 1], times)), meta)
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.Flatten(), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.eye(12, 1, dtype=np.float32)])  # the window's first value
    path = Path("data/models/forecast/gru_dropout/model.keras")
    path.parent.mkdir(parents=True)
    model.save(path)

    (code,) = blocks(README, "python")
    Path("use.py").write_text(code)
    found = runpy.run_path("use.py")
    assert found["degrees"] == pytest.approx(np.arange(0, 15, 3) * 2.0 + 10.0)
    assert "1970-01-01T00:00:04" in capsys.readouterr().out


def test_the_model_of_the_worked_example_builds(tmp_path: Path) -> None:
    (code,) = blocks(CONTRIBUTING, "python")
    (tmp_path / "linear.py").write_text(code)
    model = runpy.run_path(str(tmp_path / "linear.py"))["build"](SimpleNamespace(shape=(240, 14)))
    assert model.output_shape == (None, 1)
    assert f"linear: {model.count_params():,} weights" in CONTRIBUTING  # as its output shows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_link_points_to_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings]


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.name)
def test_the_files_and_targets_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    folders = {str(parent) for name in tracked.split() for parent in Path(name).parents}
    for name in re.findall(r"(?<![\w/.])(?:stages|scripts|tests|docs|benchmarks)/[\w/.]+", text):
        if "NAME" not in name and not name.endswith("/linear.py"):
            assert name.rstrip("./") in tracked.split() or name.rstrip("./") in folders, name
    targets = re.findall(r"^([\w./-]+|\$\(BIN\)/python):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in re.findall(r"^    (make .*?)(?: +#.*)?$", text, re.MULTILINE):
        for target in re.split(r" && ", line)[0].split()[1:]:
            assert "=" in target or target in targets, line


def test_every_column_of_the_record_is_in_the_table() -> None:
    assert re.findall(r"^\| `([^`]+ \([^`]+\))` \|", README, re.MULTILINE) == list(COLUMNS)


def test_the_page_for_plots_without_a_network_loads_nothing_from_the_web() -> None:
    (template,) = blocks(README, "html")
    assert "{plot_divs}" in template  # where dvc plots puts the plots
    assert "{scripts}" not in template  # DVC's own, which are on the web
    assert "//" not in template.replace("../", "")
