"""Entry points for torch.hub: torch.hub.load(FOLDER, "mprnet", task="Denoising", source="local"); docs/hub.md."""

import runpy
from pathlib import Path as _Path

import mprnet as _library
from mprnet.apps import options as _options

# Names begin with an underscore, since torch.hub.list shows all others.

dependencies = ["torch", "numpy", "safetensors", "cv2", "tqdm", "yaml"]

_PROJECT = _Path(__file__).resolve().parent


def mprnet(
    task: str | None = None, grade: str | None = None, weights: str | _Path | None = None, pretrained: bool = True
) -> _library.MPRNet:
    """The network, in evaluation mode, on the CPU, in float32: (N, 3, H, W) in [0, 1], H and W multiples of 8, to the
    images of its stages, the last first.

    Args:
        task: a folder of the project, such as ``Denoising``; its published weights if they are there, else the bundled.
        grade: of the bundled weights, ``lite`` or ``plus``.
        weights: a file of weights instead; then a task is not needed.
        pretrained: without, the paper's network for the task, untrained.

    Raises:
        UserError: an unknown task, or weights that are not there or fit no MPRNet.
    """
    if weights is not None and task is None:
        return _library.load_model(weights)
    tasks = sorted(path.parent.name for path in _PROJECT.glob("*/MPRNet.py"))
    if task not in tasks:
        raise _library.UserError(f"task is one of {', '.join(tasks)}, or weights a file; task is {task!r}.")
    folder = _PROJECT / task
    if not pretrained:
        return runpy.run_path(str(folder / "MPRNet.py"))["MPRNet"]().eval()
    return _options.load(_options.choose_weights(folder, None if weights is None else _Path(weights), grade), folder)


def restorer(
    task: str | None = None, grade: str | None = None, weights: str | _Path | None = None, **options: object
) -> _library.Restorer:
    """The network as a function from images of any size to images; arguments as for ``mprnet``, and ``options`` those
    of mprnet.Restorer (``device``, ``precision``, ``local_pooling``, ...)."""
    return _library.Restorer(mprnet(task, grade, weights), **options)  # type: ignore[arg-type]
