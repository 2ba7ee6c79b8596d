"""Write and read the outputs of a trained model for the validation and test windows: `outputs.npz`.

`train` computes them, while the model is in memory, so that `evaluate` need not import TensorFlow.
"""

from pathlib import Path

import numpy as np

from stages.lib.errors import UserError
from stages.lib.files import open_input
from stages.lib.windows.input_set import Inputs

EVALUATED = ("val", "test")  # splits


def write_outputs(directory: Path, outputs: dict[str, np.ndarray]) -> None:
    """Write the `outputs` of each split, (windows, ...), to outputs.npz."""
    np.savez(directory / "outputs.npz", val=outputs["val"], test=outputs["test"])


def read_outputs(directory: Path, inputs: Inputs, stage: str) -> dict[str, np.ndarray]:
    """Return what `write_outputs` wrote.

    Raises UserError, which names the `stage` that makes the file, if it is missing or damaged, or has outputs for
    other windows than those of `inputs`.
    """
    with open_input(directory / "outputs.npz", stage) as path, np.load(path) as archive:
        outputs = {name: archive[name] for name in EVALUATED}
    for name, output in outputs.items():
        windows = len(getattr(inputs, name).windows)
        if len(output) != windows:
            raise UserError(
                f"{path}: expected outputs for {windows:,} {name} windows, found {len(output):,}; make it again "
                f"with `dvc repro -f {stage}`"
            )
    return outputs
