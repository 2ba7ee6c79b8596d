"""Save Keras models reproducibly."""

import json
import re
import zipfile
from pathlib import Path

import keras


def save_model(model: keras.Model, path: Path) -> None:
    """Write `model` to a .keras archive whose bytes depend on the model alone.

    Keras stores the date and, as the ids of shared objects, memory addresses. This function removes the date and
    numbers the ids.
    """
    original = path.with_name(f"original.{path.name}")
    model.save(original)
    numbers: dict[str, int] = {}
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "date_saved": ""}).encode()
            if name == "config.json":
                content = re.sub(
                    r'(?<="shared_object_id": )\d+',
                    lambda match: str(numbers.setdefault(match[0], len(numbers))),
                    content.decode(),
                ).encode()
            target.writestr(zipfile.ZipInfo(name), content)
    original.unlink()
