"""The settings of one model: the sections `training` and `tasks`, and its line in `models`."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from stages.lib.errors import UserError
from stages.lib.params import get_param
from stages.lib.settings.base import (
    Count,
    Flag,
    Name,
    Section,
    Whole,
    format_error,
    format_value,
    iter_errors,
    suggest_name,
)

# The names of losses and metrics: those that Keras accepts, and those under which it reports them.
SCORES = {
    "mae": "mean_absolute_error",
    "mse": "mean_squared_error",
    "mape": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error",
    "huber": "huber",
    "log_cosh": "log_cosh",
    "binary_crossentropy": "binary_crossentropy",
    "pinball": "pinball",  # only for the task station
}
SCORES |= {long_name: long_name for long_name in SCORES.values()} | {"accuracy": "accuracy"}

INPUTS = {"forecast": "inputs", "station": "clock", "reviews": "tokens"}  # task: stage that makes its input sets


class Training(Section):
    """The section `training`: settings of all models, which a task or a model may override."""

    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0, description="a number above 0")]  # accepts 1 as 1.0
    max_epochs: Annotated[int | None, Field(ge=0, description="a whole number from 0, or null")] = None
    seed: Annotated[int, Field(ge=0, lt=2**32, description="a whole number from 0 to below 2**32")]
    threads: Count
    members: Count = 1
    average_from: Annotated[int | None, Field(ge=1, description="an epoch from 1, or null")] = None
    weight_decay: Annotated[float, Field(ge=0, description="a number from 0")] = 0.0


class Task(Section):
    """A line of the section `tasks`: settings of its models, which a model may override."""

    loss: Annotated[str, Field(description="the name of a loss, such as mae or binary_crossentropy")]
    metric: Annotated[str, Field(description="the name of a metric, such as mae or accuracy")]
    monitor: Annotated[str, Field(description="a name, such as val_loss")]
    steps_per_epoch: Annotated[int | None, Field(ge=1, description="a whole number from 1, or null")] = None
    logits: Flag = False

    @field_validator("loss", "metric")
    @classmethod
    def check_score(cls, name: str, info: ValidationInfo) -> str:
        names = SCORES.keys() - ({"accuracy"} if info.field_name == "loss" else set())
        if name not in names:
            raise ValueError(f"expected a {info.field_name}, found {name!r}{suggest_name(name, sorted(names))}")
        return name

    @field_validator("monitor")
    @classmethod
    def check_monitor(cls, monitor: str, info: ValidationInfo) -> str:
        if {"loss", "metric"} <= info.data.keys():
            names = ["val_loss"]
            if info.data["metric"] != info.data["loss"]:
                names.append(f"val_{SCORES[info.data['metric']]}")
            # `find_best_epoch` knows for these alone whether they should grow or fall.
            if monitor not in names or not monitor.endswith(("loss", "error", "accuracy")):
                raise ValueError(f"expected a loss, error or accuracy among {', '.join(names)}, found {monitor!r}")
        return monitor

    @field_validator("logits")
    @classmethod
    def check_logits(cls, logits: bool, info: ValidationInfo) -> bool:
        if logits and info.data.get("loss", "binary_crossentropy") != "binary_crossentropy":
            raise ValueError(f"expected false with the loss {info.data['loss']}, found true")
        return logits


class Shared(Task, Training):
    """The settings that `training`, a task or a model may have; the last one that has a setting decides."""


class Schedule(Shared):
    """All training settings of one model."""

    architecture: Name
    task: Name
    inputs: Name
    epochs: Whole


SIZES = "a whole number from 1, or a list of them"
Sizes = Annotated[Count | list[Count], Field(description=SIZES)]
Rate = Annotated[float, Field(ge=0, lt=1, description="a number from 0 to below 1")]


class Options(Section, extra="allow"):
    """A model's other keys, the arguments of `build` in its file. A key without a field here may have any value."""

    units: Sizes = 1
    filters: Sizes = 1
    kernel: Sizes = 1
    pool: Sizes = 1
    hours: Count = 1
    bins: Sizes = 1
    curves: Sizes = 1
    embedding: Sizes = 1
    dropout: Rate = 0.0
    recurrent_dropout: Rate = 0.0
    dense: Sizes = 1
    noise: Annotated[float, Field(ge=0, description="a number from 0")] = 0.0


# The keys of a model in params.yaml that set its training; the others are arguments of its `build`.
SCHEDULE = frozenset(Schedule.model_fields)


def iter_schedule_errors(name: str, model: Any, tasks: Any, training: Any) -> Iterator[str]:
    """Yield a line for each error in the settings of the model `name`.

    `model`, `tasks` and `training` are what params.yaml has at models.NAME, `tasks` and `training`.
    """
    keys, shared = ("models", name), Shared.model_fields
    if not isinstance(model, dict):
        yield format_error(f"expected a line of settings, found {format_value(model)}", *keys)
        return
    errors = list(iter_errors(Shared, training, "training", optional=shared))
    task, tasks = model.get("task"), tasks if isinstance(tasks, dict) else {}
    if isinstance(task, str) and task in tasks:
        errors += iter_errors(Shared, tasks[task], "tasks", task, optional=shared)
    elif isinstance(task, str):
        text = f"expected a name in tasks, found {format_value(task)}{suggest_name(task, tasks)}"
        errors.append(format_error(text, *keys, "task"))
    schedule = {key: value for key, value in model.items() if key in SCHEDULE}
    options = {key: value for key, value in model.items() if key not in SCHEDULE}
    errors += iter_errors(Schedule, schedule, *keys, optional=shared)
    errors += iter_errors(Options, options, *keys)
    yield from errors or iter_merged_errors(name, schedule, tasks[task], training)


def iter_merged_errors(
    name: str, model: dict[str, Any], task_settings: dict[str, Any], training: dict[str, Any]
) -> Iterator[str]:
    """Yield a line for each setting that is missing in all three places, and each that does not fit another.

    Each line names the section that the setting comes from; that of a missing one is where it belongs.
    """
    keys, task = ("models", name), model["task"]
    origins: dict[str, tuple[str, ...]] = dict.fromkeys(Training.model_fields, ("training",))
    origins |= dict.fromkeys(Task.model_fields, ("tasks", task))
    for section, settings in ((("training",), training), (("tasks", task), task_settings), (keys, model)):
        origins |= dict.fromkeys(settings, section)
    merged = training | task_settings | model
    errors = list(iter_errors(Schedule, merged, *keys, origins=origins))
    is_station = task == "station"
    for key in ("loss", "metric"):
        score = merged.get(key)
        if score in SCORES and is_station != (score == "pinball"):
            expected = "pinball" if is_station else f"a {key} of Keras"
            text = f"expected {expected} for the task {task}, found {score}"
            errors.append(format_error(text, *origins[key], key))
    if not errors and not is_station and merged.get("members", 1) > 1:
        text = f"expected 1 for the task {task}, as only a station's members are averaged, found "
        errors.append(format_error(text + format_value(merged["members"]), *origins["members"], "members"))
    yield from errors


def read_schedule(name: str) -> dict[str, Any]:
    """Return all settings of one model: `training`, overridden by its task's, overridden by its own.

    Raises UserError with a line for each error.
    """
    model = get_param("models", name)
    task = model.get("task") if isinstance(model, dict) else None
    training, tasks = get_param("training"), {task: get_param("tasks", task)} if isinstance(task, str) else {}
    if errors := list(iter_schedule_errors(name, model, tasks, training)):
        raise UserError("\n".join(errors))
    merged = training | tasks[task] | model
    schedule = model | Schedule(**{key: merged[key] for key in SCHEDULE & merged.keys()}).model_dump()
    if schedule["max_epochs"] is not None:
        schedule["epochs"] = min(schedule["epochs"], schedule["max_epochs"])
    if not schedule["epochs"]:
        schedule["members"] = 1  # without training, a seed changes nothing
    return schedule
