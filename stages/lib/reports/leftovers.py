"""Results of models that params.yaml no longer names."""

from pathlib import Path
from typing import Any

from stages.lib.errors import UserError


def check_leftovers(models: dict[str, dict[str, Any]]) -> None:
    """Raise UserError, with what to remove, where results of models not among `models` lie in the folders that
    the reports depend on: they would be hashed with the others, so that `dvc status` is another elsewhere.
    """
    known = {(model["task"], name) for name, model in models.items()}
    folders = [
        path for root in ("data/models", "data/evaluations") for path in sorted(Path(root).glob("[!.]*/[!.]*"))
    ]
    metrics = sorted(Path("metrics").glob("[!.]*/[!.]*.json"))
    stray = [path for path in folders + metrics if (path.parent.name, path.name.removesuffix(".json")) not in known]
    if stray:
        raise UserError(
            "results of models that params.yaml does not name; name the models again, or remove their results:\n"
            f"  rm -r {' '.join(map(str, stray))}\n  git add -u metrics"
        )
