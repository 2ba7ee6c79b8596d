"""The resume file: what a killed training continues from."""

import hashlib
import json
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stages.lib.files import whole
from stages.lib.nn.environment import device


def fingerprint(name: str, schedule: dict[str, Any]) -> str:
    """A hash of what an epoch depends on: settings, data, the project's code in use, Keras, backend and device.

    The number of epochs is no part of it: a training that was stopped may be ended with fewer, or with more.
    """
    files = sorted(Path("data/inputs", schedule["inputs"]).iterdir())
    code = {module.__file__ for key, module in sys.modules.items() if key.startswith("stages.") and module.__file__}
    files += [Path(file) for file in sorted(code | {__file__})]
    epoch = {key: value for key, value in schedule.items() if key not in ("epochs", "max_epochs")}
    backend = keras.backend.backend()
    state = [name, epoch, device(), *((package, version(package)) for package in ("keras", backend))]
    digest = hashlib.sha256(json.dumps(state).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


class Checkpoint:
    """What a killed training continues from: `.resume/NAME.npz`, outside DVC's outputs, replaced every epoch."""

    def __init__(self, name: str, identity: str) -> None:
        self.path = Path(".resume", f"{name}.npz")
        self.identity = identity

    def save(self, history: list[dict], variables: list, best: list[np.ndarray]) -> None:
        arrays: dict[str, Any] = {f"variable_{i}": np.asarray(variable) for i, variable in enumerate(variables)}
        arrays |= {f"best_{i}": weight for i, weight in enumerate(best)}
        with whole(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, identity=self.identity, history=json.dumps(history), **arrays)

    def restore(self, variables: list, epochs: int) -> tuple[list[dict], list[np.ndarray]]:
        """Assign the saved values to `variables` and return the history and the best weights.

        Both are empty, and nothing is assigned, where there is nothing of this identity and at most `epochs`.
        """
        try:
            with np.load(self.path) as saved:
                history = json.loads(str(saved["history"]))
                if str(saved["identity"]) != self.identity or len(history) > epochs:
                    return [], []
                values = [saved[f"variable_{i}"] for i in range(len(variables))]
                best = [saved[f"best_{i}"] for i in range(sum(key.startswith("best_") for key in saved))]
        except (OSError, EOFError, zipfile.BadZipFile, KeyError, ValueError):
            return [], []
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return history, best
