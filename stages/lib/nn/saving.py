"""Keras files whose bytes depend on the model alone."""

import json
import re
import zipfile
from pathlib import Path

import keras


def save_model(model: keras.Model, path: Path) -> None:
    """Write `model` as a .keras archive whose bytes depend on the model alone.

    Keras writes the date into it, and memory addresses as the ids of objects that occur more than once.
    """
    dated = path.with_name(f"dated.{path.name}")
    model.save(dated)
    numbers: dict[str, int] = {}
    with zipfile.ZipFile(dated) as source, zipfile.ZipFile(path, "w") as target:
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
    dated.unlink()
