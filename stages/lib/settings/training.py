"""The settings of one model: `training`, `tasks` and its own line in params.yaml."""

from typing import Any

from stages.lib.errors import UserError
from stages.lib.params import params

# A model's keys in params.yaml that are about its training; the others go to its `build`.
SCHEDULE = {"task", "inputs", "epochs", "batch_size", "learning_rate", "seed", "max_epochs", "threads", "logits"}
SCHEDULE |= {"loss", "metric", "monitor", "steps_per_epoch"}


def settings(name: str) -> dict[str, Any]:
    """All settings of one model: `training`, overridden by its task's, overridden by its own.

    Raises UserError on a value of the wrong kind.
    """
    own, merged = params("models", name), {}
    if not isinstance(own, dict):
        raise UserError(f"params.yaml: models.{name} must be a line of settings, not {own!r}")
    task = own.get("task")
    for where, shared in (("training", params("training")), (f"tasks.{task}", params("tasks", task))):
        if not isinstance(shared, dict):
            raise UserError(f"params.yaml: {where} must hold settings, not {shared!r}")
        if strays := shared.keys() - SCHEDULE:
            raise UserError(f"params.yaml: {where}: no such setting: {', '.join(sorted(strays))}")
        merged |= shared
    merged |= own
    for key in ("inputs", "loss", "metric", "monitor"):
        if not isinstance(merged.get(key), str):
            raise UserError(f"params.yaml: {key} of {name} must be a name, not {merged.get(key)!r}")
    optional = ("steps_per_epoch", "max_epochs")
    for key, least in (
        ("epochs", 0),
        ("max_epochs", 0),
        ("batch_size", 1),
        ("seed", 0),
        ("threads", 1),
        ("steps_per_epoch", 1),
    ):
        value = merged.get(key)
        if (type(value) is not int or not least <= value < 2**32) and not (key in optional and value is None):
            raise UserError(f"params.yaml: {key} of {name} must be a whole number from {least}, not {value!r}")
    if merged.get("max_epochs") is not None:
        merged["epochs"] = min(merged["epochs"], merged["max_epochs"])
    if not isinstance(merged.get("learning_rate"), int | float) or merged["learning_rate"] <= 0:
        raise UserError(
            f"params.yaml: learning_rate of {name} must be a number above 0, not {merged.get('learning_rate')!r}"
        )
    logits = merged.setdefault("logits", False)
    if type(logits) is not bool or (logits and merged["loss"] != "binary_crossentropy"):
        raise UserError(
            f"params.yaml: logits of {name} must be false, or true with binary_crossentropy, not {logits!r}"
        )
    return merged
