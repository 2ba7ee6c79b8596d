"""Run one stage with DVC for a worker of scripts/repro.py: scripts/stage.py shared|clone STAGE [UPSTREAM ...].

In a repository that workers share, this is `dvc repro` of the single stage. In a clone, it first pulls the outputs
of the stages UPSTREAM, and afterwards pushes those of the stage. The process stops when its standard input closes,
so that nothing keeps running after a worker has died.
"""

import logging
import os
import shutil
import sys
import threading
import time


def stop_with_stdin() -> None:
    """Wait until standard input closes, then kill the child processes."""
    import psutil

    os.read(0, 1)
    while True:  # DVC itself exits once its stage fails; killing it could leave half a dvc.lock
        for process in psutil.Process().children(recursive=True):
            process.kill()
        time.sleep(0.05)


def main(repository: str, name: str, *upstream: str) -> int:
    """Run the stage `name` and return DVC's exit code; `repository` is "shared" or "clone"."""
    threading.Thread(target=stop_with_stdin, daemon=True).start()
    from dvc.cli import main as dvc
    from dvc.ui import ui

    ui.enable = lambda: None  # keeps the output of stages and errors, which --quiet would hide
    logging.disable(logging.INFO)
    if repository == "shared":
        return dvc(["--wait-for-lock", "repro", "--single-item", name])
    commands = [["pull", *upstream]] if upstream else []
    # Pull missing outputs of known stages, but not the run cache, which grows with every stage of every machine.
    commands.append(["repro", "--single-item", "--pull", "--no-run-cache", name])
    commands.append(["push", "--run-cache", name])
    code = next((code for command in commands if (code := dvc(command))), 0)
    shutil.rmtree(".dvc/cache/runs", ignore_errors=True)  # it is pushed, and the next stage need not push it again
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
