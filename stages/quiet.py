"""Import Keras without what TensorFlow's C++ prints on import, before any log level of its own applies.

And two seconds faster: the garbage collector would look through TensorFlow's seven hundred thousand objects
again and again while they are imported, and once more at the end of the process.
"""

import gc
import os

_stderr, _null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(_null, 2)
gc.disable()
try:
    import keras  # noqa: F401

    gc.freeze()
finally:
    gc.enable()
    os.dup2(_stderr, 2)
    os.close(_stderr)
    os.close(_null)
