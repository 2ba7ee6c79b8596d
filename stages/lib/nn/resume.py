"""Resume files, from which an interrupted training continues."""

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
    """Return a hash of everything an epoch depends on: settings, data, imported project code, versions and device.

    The number of threads is one of the settings, and the switches in environment.py are part of the code. The
    number of epochs is not included, so that an interrupted training may resume with more or fewer; if the learning
    rate depends on it, the caller includes the optimizer in `schedule`. Raises UserError if data or code have
    changed since the command started, because the hash would not describe what is in use.
    """
    files = sorted(Path("data/inputs", schedule["inputs"]).iterdir())
    code = {module.__file__ for key, module in sys.modules.items() if key.startswith("stages.") and module.__file__}
    files += [Path(file) for file in sorted(code)]
    settings = {key: value for key, value in schedule.items() if key not in ("epochs", "max_epochs")}
    versions = [(package, version(package)) for package in ("keras", keras.backend.backend(), "numpy")]
    digest = hashlib.sha256(json.dumps([name, settings, get_device(), versions]).encode())
    for file in files:
        digest.update(file.read_bytes())
    check_unchanged()
    return digest.hexdigest()


class Checkpoint:
    """The resume file `.resume/NAME.npz`, replaced after every epoch.

    It lies outside DVC's outputs, which DVC deletes before it runs a stage. The last 32 bytes are the SHA-256 of
    the rest, so that a damaged file is ignored. `identity` is the fingerprint of the training.
    """

    def __init__(self, name: str, identity: str) -> None:
        self.path = Path(".resume", f"{name}.npz")
        self.identity = identity

    def save(self, history: list[dict], variables: list, best_weights: list[np.ndarray]) -> None:
        """Replace the file.

        Raises UserError and keeps the old file if a file that the training has read was changed.
        """
        arrays: dict[str, Any] = {f"variable_{i}": np.asarray(variable) for i, variable in enumerate(variables)}
        arrays |= {f"best_{i}": weight for i, weight in enumerate(best_weights)}
        body = io.BytesIO()
        np.savez(body, allow_pickle=False, identity=self.identity, history=json.dumps(history), **arrays)
        with atomic_output(self.path) as temporary:
            temporary.write_bytes(body.getvalue() + hashlib.sha256(body.getvalue()).digest())

    def restore(self, variables: list, epochs: int) -> tuple[list[dict], list[np.ndarray]]:
        """Assign the saved values to `variables` and return the history and the weights of the best epoch.

        If there is no file, or it has another identity or more than `epochs` epochs, nothing is assigned and both
        are empty; a printed line says why the file is ignored.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return [], []
        except OSError as error:
            return self.ignore(f"it cannot be read ({error.strerror})")
        body, digest = content[:-32], content[-32:]
        if hashlib.sha256(body).digest() != digest:
            return self.ignore("it is damaged")
        with np.load(io.BytesIO(body)) as saved:
            history = json.loads(str(saved["history"]))
            if str(saved["identity"]) != self.identity:
                return self.ignore("settings, data, code or machine have changed since")
            if len(history) > epochs:
                return self.ignore(f"it is at epoch {len(history)}, more than the {epochs} of params.yaml")
            values = [saved[f"variable_{i}"] for i in range(len(variables))]
            best_weights = [saved[f"best_{i}"] for i in range(sum(key.startswith("best_") for key in saved))]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return history, best_weights

    def ignore(self, reason: str) -> tuple[list[dict], list[np.ndarray]]:
        """Print why the file is ignored, and return an empty history and no weights."""
        print(f"{self.path}: ignored, {reason}; training starts from the first epoch", flush=True)
        return [], []
