"""The GPU benchmark on a CPU: two steps of two models, its count of operations, and the wheels' script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")
ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_two_steps_of_two_models(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    options = ["--steps", "2", "--models", "dense", "gru", "--batches", "--unroll", "2", "--output", output]
    variables = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, options)]
    process = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    results = json.loads(output.read_text())
    assert results["missing"] == {}
    assert [row["difference"] for row in results["check"]] == [0, 0]  # both trainings ran on the CPU
    cases = [(row["model"], row["batch"], row["unroll"]) for row in results["steps"]]
    assert cases == [("dense", 128, 1), ("gru", 128, 1), ("gru", 128, 2)]
    # 240 time steps, 14 columns, 32 units, 3 gates; forward, the gradients of both kernels, back through time.
    for row in results["steps"][1:]:
        assert row["GFLOP a window"] == pytest.approx(240 * 2 * 3 * 32 * (2 * 14 + 3 * 32) / 1e9, rel=0.01)
    assert results["training"]["epochs"] == 2 and results["training"]["steps an epoch"] == 2


def test_wheels_script_says_what_it_takes() -> None:
    process = subprocess.run([ROOT / "benchmarks/gpu_wheels.sh", "fetch"], capture_output=True, text=True)
    assert process.returncode == 2 and "found `fetch`" in process.stderr
