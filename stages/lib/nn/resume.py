"""The resume file: where a killed training continues."""

import hashlib
import io
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stages.lib.files import atomic_output, check_unchanged
from stages.lib.nn.environment import get_device


def fingerprint_training(name: str, schedule: dict[str, Any]) -> str:
    """A hash of what an epoch depends on: settings, data, the project's code in use, versions and device.

    The settings include the number of threads, the code environment.py with its switches. The number of epochs is
    no part of it: a training that was stopped may end with fewer, or with more; where the learning rate depends on
    it, the caller's `optimizer` says so. Raises UserError where data or code changed since the command began, for
    then the hash is not that of what is in use.
    """
    files = sorted(Path("data/inputs", schedule["inputs"]).iterdir())
    code = {module.__file__ for key, module in sys.modules.items() if key.startswith("stages.") and module.__file__}
    files += [Path(file) for file in sorted(code)]
    epoch = {key: value for key, value in schedule.items() if key not in ("epochs", "max_epochs")}
    versions = [(package, version(package)) for package in ("keras", keras.backend.backend(), "numpy")]
    digest = hashlib.sha256(json.dumps([name, epoch, get_device(), versions]).encode())
    for file in files:
        digest.update(file.read_bytes())
    check_unchanged()
    return digest.hexdigest()


class Checkpoint:
    """`.resume/NAME.npz`, outside DVC's outputs, replaced every epoch.

    Its last 32 bytes are the SHA-256 of the rest: a damaged file costs the resume and nothing else.
    """

    def __init__(self, name: str, identity: str) -> None:
        self.path = Path(".resume", f"{name}.npz")
        self.identity = identity

    def save(self, history: list[dict], variables: list, best: list[np.ndarray]) -> None:
        """Replace the file; UserError, and the file as it was, where what the training read has changed."""
        arrays: dict[str, Any] = {f"variable_{i}": np.asarray(variable) for i, variable in enumerate(variables)}
        arrays |= {f"best_{i}": weight for i, weight in enumerate(best)}
        body = io.BytesIO()
        np.savez(body, allow_pickle=False, identity=self.identity, history=json.dumps(history), **arrays)
        with atomic_output(self.path) as temporary:
            temporary.write_bytes(body.getvalue() + hashlib.sha256(body.getvalue()).digest())

    def restore(self, variables: list, epochs: int) -> tuple[list[dict], list[np.ndarray]]:
        """Assign the saved values to `variables` and return the history and the best weights.

        Both are empty, and nothing is assigned, where there is no file, or none of this identity and at most
        `epochs`; a line says why a file is ignored.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return [], []
        except OSError as error:
            return self.ignored(f"it cannot be read ({error.strerror})")
        body, digest = content[:-32], content[-32:]
        if hashlib.sha256(body).digest() != digest:
            return self.ignored("it is damaged")
        with np.load(io.BytesIO(body)) as saved:
            history = json.loads(str(saved["history"]))
            if str(saved["identity"]) != self.identity:
                return self.ignored("settings, data, code or machine have changed since")
            if len(history) > epochs:
                return self.ignored(f"it is at epoch {len(history)}, beyond the {epochs} wanted")
            values = [saved[f"variable_{i}"] for i in range(len(variables))]
            best = [saved[f"best_{i}"] for i in range(sum(key.startswith("best_") for key in saved))]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return history, best

    def ignored(self, why: str) -> tuple[list[dict], list[np.ndarray]]:
        """Say why the file is not used; return what stands for no file."""
        print(f"{self.path}: ignored, {why}; training starts from the first epoch", flush=True)
        return [], []
