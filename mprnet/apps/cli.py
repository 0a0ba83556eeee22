"""The command ``mprnet``: one program with subcommands."""

import argparse
import runpy
import sys
from collections.abc import Callable

from mprnet.apps import command
from mprnet.tasks import find_tasks

_USAGE = """usage: mprnet COMMAND ...

restore   restore pictures: mprnet restore --task Denoising PICTURE
test      score a task's network on its benchmarks: mprnet test --task Denoising
train     train a task's network: mprnet train --task Denoising --config FILE
export    write a network as ONNX or as a program of torch.export
figure    figures for papers: comparisons, stages, curves
page      serve a page for the browser: drop pictures on it to restore them

mprnet COMMAND --help shows the options of a command."""


def main() -> None:
    """Run the subcommand that the command line names."""
    name, words = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if name in _COMMANDS:
        command.subcommand = f"mprnet {name}"
        sys.argv = [sys.argv[0], *words]
        _COMMANDS[name]()
    elif name in ("", "-h", "--help"):
        print(_USAGE)
        sys.exit(0 if name else 2)
    else:
        print(f"{_USAGE}\n\nerror: there is no command {name}.", file=sys.stderr)
        sys.exit(2)


def _restore() -> None:
    from mprnet.apps import restore

    restore.main()


def _page() -> None:
    sys.argv.insert(1, "--web")
    _restore()


def _export() -> None:
    from mprnet.apps import export

    export.main()


def _figure() -> None:
    from mprnet.apps import figure

    figure.main()


def _run_script(script: str) -> None:
    """Run a script of the task that --task names, in the same way as ``python TASK/script`` does."""
    tasks = find_tasks()
    parser = argparse.ArgumentParser(prog=command.subcommand, add_help=False, allow_abbrev=False)
    parser.add_argument("--task", required=True, choices=tasks)
    a, sys.argv[1:] = parser.parse_known_args()  # --help and all other options are for the script
    sys.path.insert(0, str(tasks[a.task]))  # where the script finds the task's MPRNet.py and data_RGB.py
    runpy.run_path(str(tasks[a.task] / script), run_name="__main__")


_COMMANDS: dict[str, Callable[[], None]] = {
    "restore": _restore,
    "test": lambda: _run_script("test.py"),
    "train": lambda: _run_script("train.py"),
    "export": _export,
    "figure": _figure,
    "page": _page,
}


if __name__ == "__main__":
    main()
