"""The command ``mprnet``: one program with subcommands."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from mprnet.apps import command
from mprnet.tasks import find_task, find_tasks

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
    words = sys.argv[1:]
    for position, word in enumerate(words):
        if word == "--task" or word.startswith("--task="):
            value = words[position + 1 : position + 2] if word == "--task" else [word.removeprefix("--task=")]
            other_words = words[:position] + words[position + (2 if word == "--task" else 1) :]
            break
    else:
        value, other_words = [], words
    if not value:
        names = ",".join(find_tasks())
        print(
            f"usage: {command.subcommand} --task {{{names}}} ...\n\nerror: say which task: --task NAME.",
            file=sys.stderr,
        )
        sys.exit(2)

    def run() -> int:
        folder: Path = find_task(value[0])
        sys.argv[1:] = other_words
        sys.path.insert(0, str(folder))  # where the script finds the task's MPRNet.py and data_RGB.py
        runpy.run_path(str(folder / script), run_name="__main__")
        return 0

    command.run(run)


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
