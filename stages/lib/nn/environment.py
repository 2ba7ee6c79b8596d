"""Import Keras without log output, two seconds faster, and with the switches that change numbers set.

Every stage imports `keras` from this module. File descriptor 2 is redirected during the import, because
TensorFlow's C++ code prints before its log level applies. The garbage collector is off during the import and
ignores the imported objects afterwards: it would otherwise traverse TensorFlow's 700,000 objects repeatedly, and
once more at exit.
"""

import contextlib
import gc
import logging
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

# This is not the default on every CPU. It halves the training step of a convolution (benchmarks/README.md).
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"

# Keras and TensorFlow import these if they are installed, for plots, data frames and TensorFlow Lite. Nothing here
# uses that, and it takes a quarter of the import's time.
_UNUSED = {"matplotlib", "pandas", "jax"} - {os.environ.get("KERAS_BACKEND")} - sys.modules.keys()


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """Redirect file descriptor 2, to which TensorFlow and tf2onnx write what concerns no user."""
    sys.stderr.flush()
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


gc.disable()
sys.modules |= dict.fromkeys(_UNUSED)  # None: not to be found
try:
    with silence_stderr():
        import keras

    gc.freeze()
    logging.getLogger("tensorflow").setLevel(
        logging.ERROR
    )  # hides warnings about functions retraced for each new model
finally:
    for _name in _UNUSED:
        del sys.modules[_name]
    gc.enable()


def get_device() -> str:
    """Return the device that Keras computes on, such as `gpu:0` or `cpu:0`."""
    return keras.distribution.list_devices()[0]


def set_threads(threads: int) -> None:
    """Set the number of CPU threads that TensorFlow computes on; call this before the first operation.

    The number of threads determines the order in which sums are rounded, and thereby the results of a training.
    TensorFlow reads these variables when it creates its device, not when it is imported.
    """
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = str(threads)


def describe_machine(threads: int) -> dict[str, str | int]:
    """Return what determines a training's rounding besides its settings: device, processor, threads, versions."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    backend = keras.backend.backend()
    machine: dict[str, str | int] = {"device": get_device(), "processor": processor, "threads": threads}
    return machine | {package: version(package) for package in ("keras", backend)}
