"""The command line of every stage: `./run STAGE [ARGUMENT ...]` calls the function STAGE of stages/STAGE.py.

COMMANDS are found in scripts/ instead. A parameter with a default becomes an option, `--NAME VALUE`; the text of an
`Annotated` parameter becomes its help. `*files` takes any number of arguments.
"""

import os
import signal
import sys

COMMANDS = ("describe", "predict", "export")  # in scripts/: run by hand, unknown to DVC


def main() -> None:
    """Run the stage that the command line names.

    Exits with 0 on success; 1 on a UserError or a failing file system, with one line on stderr and no traceback;
    2 on wrong arguments; 130 on Ctrl-C.
    """
    name, stderr = sys.argv[1], os.dup(2)  # stages/lib/nn/environment.py redirects 2 for a while
    message = f"{name}: interrupted\n"
    if os.isatty(stderr):
        message = "\n" + message  # below the ^C that the terminal prints

    def exit_at_once(*_: object) -> None:
        os.write(stderr, message.encode())
        os._exit(130)

    # Some modules swallow KeyboardInterrupt during their import. Exiting is safe: nothing is written until then.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores SIGINT
        signal.signal(signal.SIGINT, exit_at_once)
    try:
        run_stage(name, sys.argv[2:])
    except KeyboardInterrupt:
        if "tqdm" in sys.modules:
            for bar in list(sys.modules["tqdm"].tqdm._instances):
                bar.close()  # an open bar would clear its line after the message
        sys.stderr.write(message)
        sys.exit(130)


def run_stage(name: str, arguments: list[str]) -> None:
    """Import the stage `name`, parse its `arguments` and call it."""
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
            help_text, *_ = getattr(parameter.annotation, "__metadata__", ["a name in params.yaml or dvc.yaml"])
            help_text = help_text.replace("%", "%%")
            if parameter.kind is parameter.VAR_POSITIONAL:
                parser.add_argument(parameter.name, nargs="*", help=help_text)  # `files`
            elif parameter.default is parameter.empty:
                parser.add_argument(parameter.name, help=help_text)
            else:
                parser.add_argument(f"--{parameter.name}", default=parameter.default, help=help_text)
        values = vars(parser.parse_args(arguments))
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        stage(*values.pop("files", ()), **values)
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        location = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {location}{files.format_reason(error)}; {files.DISK_ADVICE}")


if __name__ == "__main__":
    main()
