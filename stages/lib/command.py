"""The command line of every stage: `./run STAGE [ARGUMENT ...]` calls the function STAGE of stages/STAGE.py."""

import sys


def main() -> None:
    """Run one stage; its parameters are the command's arguments, its docstring the help.

    Exit code 0 on success, 1 on a UserError or a failing file system (one line on stderr, no traceback),
    2 on wrong arguments, 130 on Ctrl-C.
    """
    name = sys.argv[1]
    try:
        run(name, sys.argv[2:])
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        sys.exit(130)


def run(name: str, arguments: list[str]) -> None:
    """Import the stage `name` and call it; everything is imported here, where Ctrl-C is already handled."""
    import argparse
    import importlib
    import inspect

    from stages.lib import files
    from stages.lib.errors import UserError

    try:
        stage = getattr(importlib.import_module(f"stages.{name}"), name)
        parser = argparse.ArgumentParser(prog=f"./run {name}", description=inspect.getdoc(stage))
        for parameter in inspect.signature(stage).parameters:
            parser.add_argument(parameter, help="as in params.yaml and dvc.yaml")
        values = vars(parser.parse_args(arguments))
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("stages.") and getattr(module, "__file__", None):
                files.watch(module.__file__)
        files.GUARDED = True
        stage(**values)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror or error}; free space or mend the permissions, then run it again")


if __name__ == "__main__":
    main()
