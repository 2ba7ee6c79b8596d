"""One stage by DVC, as a worker of scripts/repro.py runs it: scripts/stage.py shared|clone STAGE [UPSTREAM ...].

In a repository that workers share, this is `dvc repro` of the stage alone. In a clone, the outputs of the stages
UPSTREAM are pulled before, and the stage's own pushed afterwards. It ends when its standard input does: a worker
that dies, however it dies, leaves nothing running.
"""

import logging
import os
import shutil
import sys
import threading
import time


def stop_with_stdin() -> None:
    """Wait for the end of standard input; then stop what this process started."""
    import psutil

    os.read(0, 1)
    while True:  # DVC ends by itself when its stage fails; killed, it might leave half a dvc.lock
        for process in psutil.Process().children(recursive=True):
            process.kill()
        time.sleep(0.05)


def main(place: str, name: str, *upstream: str) -> int:
    """Run the stage; return DVC's exit code."""
    threading.Thread(target=stop_with_stdin, daemon=True).start()
    from dvc.cli import main as dvc
    from dvc.ui import ui

    ui.enable = lambda: None  # what each stage says, and errors; --quiet would leave those out too
    logging.disable(logging.INFO)
    if place == "shared":
        return dvc(["--wait-for-lock", "repro", "--single-item", name])
    commands = [["pull", *upstream]] if upstream else []
    # Known outputs that are not here are pulled. The run cache is not: it grows with every stage of every machine.
    commands.append(["repro", "--single-item", "--pull", "--no-run-cache", name])
    commands.append(["push", "--run-cache", name])
    code = next((code for command in commands if (code := dvc(command))), 0)
    shutil.rmtree(".dvc/cache/runs", ignore_errors=True)  # pushed: the next stage need not push it again
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
