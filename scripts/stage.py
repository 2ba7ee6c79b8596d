"""Run stages with DVC for a worker of scripts/repro.py, one after another: scripts/stage.py shared|clone MARK.

One process runs all stages of a worker's thread, since DVC takes longer to start than to run a stage. Each line of
standard input is a JSON list: a stage and the stages UPSTREAM that it depends on. The output of each stage is
followed by "MARK exit code" and DVC's exit code. In a repository that threads share, a stage is run by `dvc repro`,
and its entry for the lock file follows the exit code: YAML, as a JSON string. In a clone, the process first pulls
the outputs of UPSTREAM, and afterwards pushes those of the stage. The process stops when its standard input closes,
so that nothing keeps running after a worker has died.
"""

import json
import logging
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

Queue = queue.SimpleQueue[list[str] | None]  # stages to run; None: the input has closed


def read_requests(stream: Any, requests: Queue) -> None:
    """Put each line of `stream` into `requests`. When the stream closes, kill the child processes."""
    import psutil

    for line in stream:
        requests.put(json.loads(line))
    requests.put(None)
    while True:  # DVC itself goes on once its stage fails; killing it could leave half a dvc.lock
        for process in psutil.Process().children(recursive=True):
            process.kill()
        time.sleep(0.05)


def run_stage(repository: str, name: str, *upstream: str) -> int:
    """Run the stage `name` and return DVC's exit code; `repository` is "shared" or "clone"."""
    from dvc.cli import main as dvc

    if repository == "shared":
        return dvc(["--wait-for-lock", "repro", "--single-item", name])
    commands = [["pull", *upstream]] if upstream else []
    # Pull missing outputs of known stages, but not the run cache, which grows with every stage of every machine.
    commands.append(["repro", "--single-item", "--pull", "--no-run-cache", name])
    commands.append(["push", "--run-cache", name])
    code = next((code for command in commands if (code := dvc(command))), 0)
    shutil.rmtree(".dvc/cache/runs", ignore_errors=True)  # it is pushed, and the next stage need not push it again
    return code


def read_when_changed(load_path: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Return `load_path`, which reads a file for DVC, without reading a file again that is as it was.

    An edit during a stage is seen, so that DVC does not store its outputs under settings that it did not have.
    """
    contents: dict[tuple[str, int, int], Any] = {}

    def load_changed_path(path: str, file_system: Any) -> Any:
        state = os.stat(path)
        key = (path, state.st_mtime_ns, state.st_size)
        if key not in contents:
            contents.clear()
            contents[key] = load_path(path, file_system)
        return contents[key]

    return load_changed_path


def collect_lock_entries() -> dict[str, Any]:
    """Return a dict that receives the entry of each stage that DVC runs, instead of the lock file.

    To add an entry, DVC parses and writes the whole file, 26 ms for each entry in it, while other stages wait.
    """
    from dvc.dvcfile import Lockfile
    from dvc.stage.serialize import to_lockfile

    entries: dict[str, Any] = {}

    def dump_stages(self: Lockfile, stages: list[Any], **options: Any) -> None:
        for stage in stages:
            entries.update(to_lockfile(stage, **options))

    Lockfile.dump_stages = dump_stages
    return entries


def main(repository: str, mark: str) -> None:
    stream, null = os.fdopen(os.dup(0)), os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # no stage reads the requests
    requests = Queue()
    threading.Thread(target=read_requests, args=(stream, requests), daemon=True).start()
    from dvc.dependency import param
    from dvc.ui import ui
    from dvc.utils.serialize import dumps_yaml

    param.load_path = read_when_changed(param.load_path)  # DVC reads params.yaml seven times for a stage
    ui.enable = lambda: None  # keeps the output of stages and errors, which --quiet would hide
    logging.disable(logging.INFO)
    entries = collect_lock_entries() if repository == "shared" else {}
    while (request := requests.get()) is not None:
        entries.clear()
        code = run_stage(repository, *request)
        print(f"{mark} exit code {code} {json.dumps(dumps_yaml(entries))}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
