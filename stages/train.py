"""Stage `train`: train one model, resuming after an interruption, and keep the weights of its best epoch."""

import importlib
from pathlib import Path

from stages.lib.files import atomic_output
from stages.lib.nn.batches import make_predictor
from stages.lib.nn.environment import describe_machine, set_threads
from stages.lib.nn.exporting import export_model
from stages.lib.nn.fitting import fit_members, get_loss_unit
from stages.lib.nn.history import write_description, write_history
from stages.lib.nn.outputs import EVALUATED, write_outputs
from stages.lib.nn.resume import Checkpoint
from stages.lib.nn.saving import save_model
from stages.lib.settings.training import INPUTS, read_schedule
from stages.lib.windows.input_set import load_input_set


def train(name: str) -> None:
    """Train the model `name` of params.yaml `models`.

    Writes model.keras, history.csv and model.json to data/models/TASK/NAME; and for `evaluate` either model.onnx,
    if the task exports its models, or outputs.npz, the outputs for the windows of validation and test.
    """
    schedule = read_schedule(name)
    set_threads(schedule["threads"])
    task = importlib.import_module(f"stages.lib.tasks.{schedule['task']}.training")
    inputs = load_input_set(Path("data/inputs", schedule["inputs"]), stage=INPUTS[schedule["task"]])
    members, histories, run_names = fit_members(name, name, inputs, schedule, task)
    model, description = task.finish_model(name, members, inputs, schedule)
    unit = get_loss_unit(inputs, schedule)
    columns = ["epoch", "loss", "val_loss"] + ([f"loss_{unit}", f"val_loss_{unit}"] if unit else [])
    with atomic_output(Path("data/models", schedule["task"], name)) as directory:
        directory.mkdir()
        save_model(model, directory / "model.keras")
        write_history(directory, histories, columns)
        description = describe_machine(schedule["threads"]) | {"parameters": model.count_params()} | description
        if task.EXPORTS_ONNX:
            description["onnx_sha256"] = export_model(directory / "model.keras", directory / "model.onnx")
        else:
            predict = make_predictor(model, inputs)
            write_outputs(directory, {name: predict(getattr(inputs, name)) for name in EVALUATED})
        write_description(directory, histories, description)
    for run_name in run_names:
        Checkpoint(run_name, "").path.unlink(missing_ok=True)
