"""The GPU benchmark on a CPU: two steps of two models, its count of operations, and the wheels' script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")
ROOT = Path(__file__).parents[1]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess:
    variables = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)


@pytest.mark.slow
def test_two_steps_of_two_models(tmp_path: Path) -> None:
    options = ["--steps", "2", "--models", "dense", "lstm", "--batches", "256", "--output", str(tmp_path)]
    done = run_benchmark(*options)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results["missing"] == {}
    (check,) = results["check"]
    assert check["difference"] == 0  # from the losses of another process on the same processor
    dense, lstm = results["models"]["dense"], results["models"]["lstm"]
    assert sorted(dense["step ms"]) == ["128", "256"] and min(dense["step ms"].values()) > 0
    # 240 steps, 14 columns, 32 units: forwards, to the gradients of both kernels, and back through time.
    assert lstm["FLOP a window"] == pytest.approx(240 * 2 * 4 * 32 * (2 * 14 + 3 * 32), rel=0.01)
    page = (tmp_path / "gpu.md").read_text()
    assert "| lstm | 128 |" in page and page in done.stdout


def test_wheels_script_says_what_it_takes() -> None:
    done = subprocess.run([ROOT / "benchmarks/gpu_wheels.sh", "fetch"], capture_output=True, text=True)
    assert done.returncode == 2 and "found `fetch`" in done.stderr
