"""The tasks (deblurring, deraining, denoising): where their folders and their weights are.

A task is a folder with an MPRNet.py. In a clone the folders are at its top. In an installed package they are in
mprnet/_tasks, where pyproject.toml maps them.
"""

import runpy
from collections.abc import Callable
from pathlib import Path

import yaml

from mprnet.errors import UserError, one_line
from mprnet.model.network import MPRNet
from mprnet.model.weights import load_model

_INSTALLED = Path(__file__).resolve().parent / "_tasks"
# The folder that holds the tasks' folders.
TASKS_FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[1]
# Sizes of the bundled networks, the smallest first.
GRADES = ("lite", "plus")


def find_tasks(folder: Path = TASKS_FOLDER) -> dict[str, Path]:
    """Return the tasks' folders by name."""
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/MPRNet.py"))}


def find_task(name: str | None, folder: Path = TASKS_FOLDER) -> Path:
    """Return the folder of a task.

    Raises:
        UserError: there is no such task.
    """
    tasks = find_tasks(folder)
    if name not in tasks:
        raise UserError(f"task is one of {', '.join(tasks)}, not {name!r}.")
    return tasks[name]


def working_folder(folder: Path) -> Path:
    """Return where data and results belong by default, for files in a task's ``folder``.

    In a clone this is the folder itself. In an installed package it is a folder of the same name in the current
    directory.
    """
    folder = folder.resolve()
    return Path.cwd() / folder.relative_to(_INSTALLED) if folder.is_relative_to(_INSTALLED) else folder


def network_class(folder: Path) -> Callable[..., MPRNet]:
    """Return the class of a task's network, from its MPRNet.py."""
    return runpy.run_path(str(folder / "MPRNet.py"))["MPRNet"]


def available_weights(folder: Path) -> dict[str, Path]:
    """Return the task's weights that are there, by kind: ``published``, then the grades, the largest first."""
    paths = {kind: folder / "pretrained_models" / name for kind, name in _file_names(folder).items()}
    return {kind: path for kind, path in paths.items() if path.exists()}


def choose_weights(folder: Path, weights: Path | None = None, grade: str | None = None) -> tuple[Path, str]:
    """Return which weights to use for a task, and a line that says so.

    Args:
        weights: these, if not None.
        grade: else these: ``lite``, ``plus`` or ``published``. None: the published weights if they are there, else
            those of the largest bundled network.

    Raises:
        UserError: they are not there.
    """
    if weights is not None:
        return weights, f"{folder.name} with {weights}"
    available = available_weights(folder)
    kind = grade or next(iter(available), GRADES[-1])
    if kind in available:
        if kind not in GRADES:
            return available[kind], f"{folder.name} with the {kind} weights, {available[kind]}"
        haste = "" if kind == GRADES[0] else f"; --grade {GRADES[0]} is faster"
        remark = f"a small network, not the paper's{haste}"
        return available[kind], f"{folder.name} with the bundled {kind} weights, {available[kind]} ({remark})"
    names = _file_names(folder)
    raise UserError(
        f"there is no {names.get(kind, kind)} in {folder / 'pretrained_models'}: choose another grade "
        f"({', '.join(GRADES)}), name a file of weights, or put the published {names['published']} there."
    )


def load_weights(weights: Path, folder: Path, load: Callable[[Path], MPRNet] = load_model) -> tuple[MPRNet, str]:
    """Return the network of a file of weights, and a note if it was trained for another task, else "".

    Published files do not state the training patch. For the one in the task's folder, published.yml beside it does.

    Raises:
        UserError: as load_model; or published.yml does not state the training patch.
    """
    model = load(weights)
    note = ""
    trained_for = one_line(model.metadata.get("task", folder.name), 80)
    if trained_for != folder.name and (folder / "MPRNet.py").exists():
        note = f"note: {weights} states that it was trained for {trained_for}"
    published = available_weights(folder).get("published")
    path = folder / "pretrained_models" / "published.yml"
    if "training_patch" not in model.metadata and published and published.samefile(weights) and path.exists():
        try:
            model.metadata["training_patch"] = str(int(yaml.safe_load(path.read_text())["training_patch"]))
        except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(f"{path} does not say training_patch: NUMBER.") from error
    return model, note


def _file_names(folder: Path) -> dict[str, str]:
    """The names of a task's files of weights, by kind."""
    name = f"model_{folder.name.lower()}"
    return {"published": f"{name}.pth"} | {grade: f"{name}_{grade}.safetensors" for grade in GRADES[::-1]}
