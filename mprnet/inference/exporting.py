"""A network as a file that runs without this library: ONNX, or a program of torch.export."""

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mprnet.errors import UserError
from mprnet.files import write_atomically
from mprnet.model.network import SIZE_MULTIPLE, MPRNet
from mprnet.model.padding import pad_to_multiple

# The suffix of each format's files.
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
# The smallest height and width that an exported program takes. In an image of 8 pixels the coarsest features are one
# pixel, which torch.export treats as a special case.
SMALLEST = SIZE_MULTIPLE + 1
# The largest: PyTorch before 2.7 needs a bound.
LARGEST = 2**15
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_AXES = {0: "batch", 2: "height", 3: "width"}
# Batch, height and width. torch.export would treat 1, equal sizes and multiples of 8 as fixed.
_EXAMPLE = (2, 21, 28)

Run = Callable[[Tensor], list[Tensor]]


class AnySize(nn.Module):
    """A network that pads its images and crops its results, without a branch that depends on their size.

    Args:
        model: the network.
        stage: which stage's image to return. None: every stage's, the last stage first.
    """

    def __init__(self, model: MPRNet, stage: int | None) -> None:
        super().__init__()
        self.model = model
        self.stage = stage

    @property
    def names(self) -> list[str]:
        """The names of what ``forward`` returns, in this order."""
        stages = [self.stage] if self.stage else range(self.model.num_stages, 0, -1)
        return [f"stage{n}" for n in stages]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Restore (N, C, H, W) float32 in [0, 1], H and W at least 9.

        Returns:
            One image of this shape for each of ``names``; values can be outside [0, 1].
        """
        height, width = image.shape[2:]
        images = self.model(pad_to_multiple(image, SIZE_MULTIPLE), self.stage)[: len(self.names)]
        return tuple(_crop(_crop(restored, 2, height), 3, width) for restored in images)

    @torch.inference_mode()
    def reference(self, image: Tensor) -> list[Tensor]:
        """Return what ``forward`` returns, without an export: what an export is compared with."""
        height, width = image.shape[2:]
        images = self.model(pad_to_multiple(image, SIZE_MULTIPLE), self.stage)[: len(self.names)]
        return [restored[:, :, :height, :width] for restored in images]


def _crop(image: Tensor, dim: int, length: int) -> Tensor:
    """The first ``length`` entries. A slice would branch on whether it is the whole dimension."""
    return image.index_select(dim, torch.arange(length, device=image.device))


def trace(network: AnySize) -> ExportedProgram:
    """Return the network as a program for any batch size, and any height and width from 9 to 32768."""
    batch, height, width = _EXAMPLE
    image = torch.rand(batch, network.model.config["in_c"], height, width)
    sides = (Dim(_AXES[dim], min=SMALLEST, max=LARGEST) for dim in (2, 3))
    dims = dict(zip(_AXES, (Dim(_AXES[0], min=1), *sides), strict=True))
    with torch.no_grad():
        return torch.export.export(network.eval(), (image,), dynamic_shapes={"image": dims}, strict=False)


def check_onnx() -> None:
    """Check that the packages for ONNX are installed.

    Raises:
        UserError: one of them is not.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f'ONNX needs {", ".join(missing)}: pip install "mprnet[export]", or pip install -e ".[export]" in a clone.'
        )


def write_torch(network: AnySize, path: Path) -> Run:
    """Write a program for torch.export.load, with the weights' metadata in extra files, and load it.

    Raises:
        UserError: ``path`` cannot be written.
    """
    file = io.BytesIO()
    torch.export.save(trace(network), file, extra_files=dict(network.model.metadata))
    write_atomically(path, file.getvalue())
    module = torch.export.load(path).module()
    return torch.no_grad()(lambda image: list(module(image)))


def _add_product(tensor: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return tensor + first * second


def write_onnx(network: AnySize, path: Path) -> Run:
    """Write a graph in one file, with the weights' metadata, and open it with ONNX Runtime on the CPU.

    Raises:
        UserError: a package is missing, or ``path`` cannot be written.
    """
    check_onnx()
    import onnx
    import onnxruntime

    # PyTorch 2.6 cannot translate addcmul if one of its terms is broadcast to sizes that are not fixed.
    simple = trace(network).run_decompositions({torch.ops.aten.addcmul.default: _add_product})
    program = torch.onnx.export(
        simple,
        input_names=["image"],
        output_names=network.names,
        dynamic_shapes={"image": _AXES},
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, network.model.metadata)
    onnx.checker.check_model(proto)
    write_atomically(path, proto.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: [torch.from_numpy(result) for result in session.run(None, {"image": image.numpy()})]


def largest_difference(run: Run, network: AnySize, shape: tuple[int, int, int]) -> float:
    """Return the largest difference between the results of ``run`` and of the network, for noise in [0, 1].

    Args:
        shape: batch, height and width.
    """
    batch, height, width = shape
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, network.model.config["in_c"], height, width, generator=generator)
    pairs = zip(run(image), network.reference(image), strict=True)
    return max((result - expected).abs().max().item() for result, expected in pairs)
