"""The settings of one model: `training`, `tasks` and its own line in params.yaml."""

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

# Losses and metrics by the names that Keras takes, with those under which it reports them.
SCORES = {
    "mae": "mean_absolute_error",
    "mse": "mean_squared_error",
    "mape": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error",
    "huber": "huber",
    "log_cosh": "log_cosh",
    "binary_crossentropy": "binary_crossentropy",
    "pinball": "pinball",  # of the station's task alone
}
SCORES |= {reported: reported for reported in SCORES.values()} | {"accuracy": "accuracy"}


INPUTS = {"forecast": "inputs", "station": "clock", "reviews": "tokens"}  # the stage that makes a task's input sets


class Training(Section):
    """What `training` holds for all models; a task or a model may name its own."""

    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0, description="a number above 0")]  # 1 is taken for 1.0
    max_epochs: Annotated[int | None, Field(ge=0, description="a whole number from 0, or null")] = None
    seed: Annotated[int, Field(ge=0, lt=2**32, description="a whole number from 0 to below 2**32")]
    threads: Count
    members: Count = 1
    average_from: Annotated[int | None, Field(ge=1, description="an epoch from 1, or null")] = None
    weight_decay: Annotated[float, Field(ge=0, description="a number from 0")] = 0.0


class Task(Section):
    """What `tasks` holds for each task; a model may name its own."""

    loss: Annotated[str, Field(description="the name of a loss, such as mae or binary_crossentropy")]
    metric: Annotated[str, Field(description="the name of a metric, such as mae or accuracy")]
    monitor: Annotated[str, Field(description="a name, such as val_loss")]
    steps_per_epoch: Annotated[int | None, Field(ge=1, description="a whole number from 1, or null")] = None
    logits: Flag = False

    @field_validator("loss", "metric")
    @classmethod
    def check_score(cls, name: str, field: ValidationInfo) -> str:
        known = SCORES.keys() - ({"accuracy"} if field.field_name == "loss" else set())
        if name not in known:
            raise ValueError(f"expected a {field.field_name}, found {name!r}{suggest_name(name, sorted(known))}")
        return name

    @field_validator("monitor")
    @classmethod
    def check_monitor(cls, monitor: str, others: ValidationInfo) -> str:
        if {"loss", "metric"} <= others.data.keys():
            reported = ["val_loss"]
            if others.data["metric"] != others.data["loss"]:
                reported.append(f"val_{SCORES[others.data['metric']]}")
            if monitor not in reported or not monitor.endswith(("loss", "error", "accuracy")):
                raise ValueError(
                    f"expected a loss, error or accuracy among {', '.join(reported)}, found {monitor!r}"
                )
        return monitor

    @field_validator("logits")
    @classmethod
    def check_logits(cls, logits: bool, others: ValidationInfo) -> bool:
        if logits and others.data.get("loss", "binary_crossentropy") != "binary_crossentropy":
            raise ValueError(f"expected false with the loss {others.data['loss']}, found true")
        return logits


class Shared(Task, Training):
    """The settings that `training`, a task or a model may name; the last of them counts."""


class Schedule(Shared):
    """All that is known of a model's training."""

    task: Name
    inputs: Name
    epochs: Whole


SIZES = "a whole number from 1, or a list of them"
Sizes = Annotated[Count | list[Count], Field(description=SIZES)]
Rate = Annotated[float, Field(ge=0, lt=1, description="a number from 0 to below 1")]


class Options(Section, extra="allow"):
    """A model's other keys: arguments of its file's `build`. Those that are not named here may be anything."""

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


# A model's keys in params.yaml that are about its training; the others go to its `build`.
SCHEDULE = frozenset(Schedule.model_fields)


def iter_schedule_errors(name: str, own: Any, tasks: Any, training: Any) -> Iterator[str]:
    """Yield a line for each fault of the settings that the model `name` has, with those that it shares."""
    where = ("models", name)
    if not isinstance(own, dict):
        yield format_error(f"expected a line of settings, found {format_value(own)}", *where)
        return
    found = list(iter_errors(Shared, training, "training", optional=Shared.model_fields))
    shared = {**training} if isinstance(training, dict) else {}
    task, tasks = own.get("task"), tasks if isinstance(tasks, dict) else {}
    if isinstance(task, str) and task in tasks:
        found += iter_errors(Shared, tasks[task], "tasks", task, optional=Shared.model_fields)
        shared |= tasks[task] if isinstance(tasks[task], dict) else {}
    elif isinstance(task, str):
        found.append(
            format_error(f"expected a task, found {format_value(task)}{suggest_name(task, tasks)}", *where, "task")
        )
    schedule = {key: value for key, value in own.items() if key in SCHEDULE}
    found += iter_errors(Schedule, schedule, *where, optional=Shared.model_fields)
    found += iter_errors(Options, {key: value for key, value in own.items() if key not in SCHEDULE}, *where)
    if not found:  # what is missing, and what does not go together
        places = [  # where a key belongs, and then where it is
            *((("training",), Training.model_fields), (("tasks", task), Task.model_fields)),
            *((("training",), training), (("tasks", task), tasks.get(task, ())), (where, own)),
        ]
        homes = {key: place for place, keys in places for key in keys}
        merged = shared | schedule
        found += iter_errors(Schedule, merged, *where, homes=homes)
        station = task == "station"
        for key in ("loss", "metric"):
            if (name := merged.get(key)) in SCORES and station != (name == "pinball"):
                text = f"expected {'pinball' if station else f'a {key} of Keras'} for the task {task}, found {name}"
                found.append(format_error(text, *homes.get(key, where), key))
        if not found and not station and merged.get("members", 1) > 1:
            text = f"expected 1 for the task {task}, as only a station's members are averaged, found "
            found.append(
                format_error(text + format_value(merged["members"]), *homes.get("members", where), "members")
            )
    yield from found


def read_schedule(name: str) -> dict[str, Any]:
    """All settings of one model: `training`, overridden by its task's, overridden by its own.

    Raises UserError, a line for each fault.
    """
    own = get_param("models", name)
    task = own.get("task") if isinstance(own, dict) else None
    training, tasks = get_param("training"), {task: get_param("tasks", task)} if isinstance(task, str) else {}
    if found := list(iter_schedule_errors(name, own, tasks, training)):
        raise UserError("\n".join(found))
    merged = training | tasks[task] | own
    merged = own | Schedule(**{key: merged[key] for key in SCHEDULE & merged.keys()}).model_dump()
    if merged["max_epochs"] is not None:
        merged["epochs"] = min(merged["epochs"], merged["max_epochs"])
    if not merged["epochs"]:
        merged["members"] = 1  # nothing that another seed would change
    return merged
