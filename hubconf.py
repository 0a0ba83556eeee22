"""Entry points for torch.hub: torch.hub.load(FOLDER, "mprnet", task="Denoising", source="local"); docs/hub.md."""

from pathlib import Path as _Path

import mprnet as _library
from mprnet import tasks as _tasks

# Names begin with an underscore, because torch.hub.list shows all others.

dependencies = ["torch", "numpy", "safetensors", "cv2", "PIL", "tifffile", "imagecodecs", "tqdm", "yaml", "psutil"]


def mprnet(
    task: str | None = None, grade: str | None = None, weights: str | _Path | None = None, pretrained: bool = True
) -> _library.MPRNet:
    """Return a network; arguments as for mprnet.load_model, ``weights`` being its ``path``.

    Args:
        pretrained: False: the paper's network for the task, untrained.
    """
    if pretrained:
        if task is not None:  # nobody should take the results of bundled weights for the paper's
            print(_tasks.choose_weights(_tasks.find_task(task), None if weights is None else _Path(weights), grade)[1])
        return _library.load_model(weights, task=task, grade=grade)  # type: ignore[return-value]
    return _tasks.network_class(_tasks.find_task(task))().eval()  # type: ignore[return-value]


def restorer(
    task: str | None = None, grade: str | None = None, weights: str | _Path | None = None, **options: object
) -> _library.Restorer:
    """Return a function from images of any size to images; arguments as for ``mprnet``.

    Args:
        options: as for mprnet.Restorer (``device``, ``precision``, ``local_pooling``, ...).
    """
    return _library.Restorer(mprnet(task, grade, weights), **options)  # type: ignore[arg-type]
