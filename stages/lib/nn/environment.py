"""Keras as every stage imports it, from here: quietly, quickly, and with the switches that change numbers set.

Quietly: without what TensorFlow's C++ prints during the import, before its own log level applies. Two seconds
quicker: the garbage collector would go through TensorFlow's seven hundred thousand objects again and again during
the import, and once more when the process ends.
"""

import gc
import logging
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

# Not TensorFlow's default on every CPU; it halves the step of a convolution (benchmarks/README.md).
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"

# Keras and TensorFlow import these where they are installed, for plots, data frames and models for telephones. None of
# that is used here, and it takes a quarter of the import's time.
_UNUSED = {"matplotlib", "pandas", "jax"} - {os.environ.get("KERAS_BACKEND")} - sys.modules.keys()

_stderr, _null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(_null, 2)
gc.disable()
sys.modules |= dict.fromkeys(_UNUSED)  # None: not to be found
try:
    import keras

    gc.freeze()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # such as of functions traced for every new model
finally:
    for _name in _UNUSED:
        del sys.modules[_name]
    gc.enable()
    os.dup2(_stderr, 2)
    os.close(_stderr)
    os.close(_null)


def get_device() -> str:
    """The device that Keras computes on, such as `gpu:0` or `cpu:0`."""
    return keras.distribution.list_devices()[0]


def set_threads(threads: int) -> None:
    """Compute on `threads` threads of a CPU; call this before the first operation.

    The number of threads changes the order in which sums are rounded, and so the numbers of a training.
    TensorFlow reads these variables when it creates its device, not when it is imported.
    """
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = str(threads)


def describe_machine(threads: int) -> dict[str, str | int]:
    """What the last bits of a training depend on apart from its settings: processor, threads, versions."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    backend = keras.backend.backend()
    where: dict[str, str | int] = {"device": get_device(), "processor": processor, "threads": threads}
    return where | {package: version(package) for package in ("keras", backend)}
