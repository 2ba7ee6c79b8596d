"""Find results of models that params.yaml no longer names."""

from pathlib import Path
from typing import Any

from stages.lib.errors import UserError


def check_removed_models(models: dict[str, dict[str, Any]]) -> None:
    """Raise UserError if there are results of models that are not among `models`.

    The reports depend on whole folders, so that DVC would hash these results too and `dvc status` would differ
    between machines. The message says what to remove.
    """
    expected = {(model["task"], name) for name, model in models.items()}
    folders = [
        path for root in ("data/models", "data/evaluations") for path in sorted(Path(root).glob("[!.]*/[!.]*"))
    ]
    metrics = sorted(Path("metrics").glob("[!.]*/[!.]*.json"))
    stray = [
        path for path in folders + metrics if (path.parent.name, path.name.removesuffix(".json")) not in expected
    ]
    if stray:
        raise UserError(
            "results of models that params.yaml does not name; name the models again, or remove their results:\n"
            f"  rm -r {' '.join(map(str, stray))}\n  git add -u metrics"
        )
