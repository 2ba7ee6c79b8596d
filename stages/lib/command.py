"""The command line of every stage: `./run STAGE [ARGUMENT ...]` calls the function STAGE of stages/STAGE.py.

The same holds for the COMMANDS in scripts/. A parameter with a default is an option, `--NAME VALUE`; the text of an
`Annotated` parameter is its help.
"""

import os
import signal
import sys

COMMANDS = ("describe", "predict")  # of scripts/: run by hand, unknown to DVC


def main() -> None:
    """Run one stage; its parameters are the command's arguments, its docstring the help.

    Exit code 0 on success, 1 on a UserError or a failing file system (one line on stderr, no traceback),
    2 on wrong arguments, 130 on Ctrl-C.
    """
    name, stderr = sys.argv[1], os.dup(2)  # stages/lib/nn/environment.py points 2 elsewhere for a while
    message = f"{name}: interrupted\n"
    if os.isatty(stderr):
        message = "\n" + message  # below the terminal's own ^C

    def leave(*_: object) -> None:
        os.write(stderr, message.encode())
        os._exit(130)

    # Nothing is written while modules are imported, and some of them swallow KeyboardInterrupt.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores it
        signal.signal(signal.SIGINT, leave)
    try:
        run_stage(name, sys.argv[2:])
    except KeyboardInterrupt:
        if "tqdm" in sys.modules:
            for bar in list(sys.modules["tqdm"].tqdm._instances):
                bar.close()  # else it would wipe its line after the message
        sys.stderr.write(message)
        sys.exit(130)


def run_stage(name: str, arguments: list[str]) -> None:
    """Import the stage `name` and call it."""
    import argparse
    import importlib
    import inspect

    from stages.lib import files
    from stages.lib.errors import UserError

    files.watch_code()
    try:
        package = "scripts" if name in COMMANDS else "stages"
        stage = getattr(importlib.import_module(f"{package}.{name}"), name)
        parser = argparse.ArgumentParser(prog=f"./run {name}", description=inspect.getdoc(stage))
        for parameter in inspect.signature(stage).parameters.values():
            help, *_ = getattr(parameter.annotation, "__metadata__", ["as in params.yaml and dvc.yaml"])
            help = help.replace("%", "%%")
            if parameter.default is parameter.empty:
                parser.add_argument(parameter.name, help=help)
            else:
                parser.add_argument(f"--{parameter.name}", default=parameter.default, help=help)
        values = vars(parser.parse_args(arguments))
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        stage(**values)
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{files.format_reason(error)}; {files.MEND}")


if __name__ == "__main__":
    main()
