"""A network as a file that runs without this library: ONNX, or a program of torch.export."""

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mprnet.errors import UserError
from mprnet.files import write_whole
from mprnet.inference.images import pad_to_multiple
from mprnet.model.network import SIZE_MULTIPLE, MPRNet

# What each format's files are called.
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
# The shortest side that an exported program takes: padding reflects once, and of one block of 8 pixels the coarsest
# features would be a single pixel, which torch.export takes for another case.
SMALLEST = SIZE_MULTIPLE + 1
# And the longest: PyTorch before 2.7 asks for some bound.
LARGEST = 2**15
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_AXES = {0: "batch", 2: "height", 3: "width"}
# Any that are no multiple of 8 and neither 1 nor equal: torch.export takes such for fixed.
_EXAMPLE = (2, 21, 28)

Run = Callable[[Tensor], list[Tensor]]


class AnySize(nn.Module):
    """A network that pads its images and crops its results, without a branch that depends on their size.

    Args:
        model: the network.
        stage: whose image to give; None: every stage's, the last stage first.
    """

    def __init__(self, model: MPRNet, stage: int | None) -> None:
        super().__init__()
        self.model = model
        self.stage = stage

    @property
    def names(self) -> list[str]:
        """What ``forward`` gives, in this order."""
        stages = [self.stage] if self.stage else range(len(self.model.subnetworks), 0, -1)
        return [f"stage{n}" for n in stages]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) float32 in [0, 1], H and W at least 9, to as many images of this shape as there are ``names``;
        values may lie outside [0, 1]."""
        height, width = image.shape[2:]
        images = self.model(_padded(_padded(image, 2), 3), self.stage)[: len(self.names)]
        return tuple(_first(_first(restored, 2, height), 3, width) for restored in images)

    @torch.inference_mode()
    def reference(self, image: Tensor) -> list[Tensor]:
        """What an export is held against: the network as it runs without one."""
        height, width = image.shape[2:]
        images = self.model(pad_to_multiple(image, SIZE_MULTIPLE), self.stage)[: len(self.names)]
        return [restored[:, :, :height, :width] for restored in images]


def _padded(image: Tensor, dim: int) -> Tensor:
    """``pad_to_multiple`` of one side of at least 8 pixels."""
    last = image.shape[dim] - 1
    blocks = torch.arange(last // SIZE_MULTIPLE + 1, device=image.device)
    # A sum of blocks and places in them, so that the length is seen to be a multiple.
    position = (blocks[:, None] * SIZE_MULTIPLE + torch.arange(SIZE_MULTIPLE, device=image.device)).flatten()
    return image.index_select(dim, (last - (last - position).abs()).clamp(min=0))


def _first(image: Tensor, dim: int, length: int) -> Tensor:
    """A slice would ask whether it is the whole, and so fix the answer."""
    return image.index_select(dim, torch.arange(length, device=image.device))


def trace(network: AnySize) -> ExportedProgram:
    """Record the network for any batch, and any height and width from 9 to 32768."""
    batch, height, width = _EXAMPLE
    image = torch.rand(batch, network.model.config["in_c"], height, width)
    sides = (Dim(_AXES[dim], min=SMALLEST, max=LARGEST) for dim in (2, 3))
    dims = dict(zip(_AXES, (Dim(_AXES[0], min=1), *sides), strict=True))
    with torch.no_grad():
        return torch.export.export(network.eval(), (image,), dynamic_shapes={"image": dims}, strict=False)


def check_onnx() -> None:
    """Raises:
    UserError: a package that ONNX takes is not installed.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'ONNX takes {", ".join(missing)}, not installed here: pip install -e ".[export]".')


def write_torch(network: AnySize, path: Path) -> Run:
    """Write a program for torch.export.load, with what its weights say of themselves in extra files, and open it.

    Raises:
        UserError: ``path`` cannot be written.
    """
    file = io.BytesIO()
    torch.export.save(trace(network), file, extra_files=dict(network.model.metadata))
    write_whole(path, file.getvalue())
    module = torch.export.load(path).module()
    return torch.no_grad()(lambda image: list(module(image)))


def _add_product(tensor: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return tensor + first * second


def write_onnx(network: AnySize, path: Path) -> Run:
    """Write a graph in one file, with what its weights say of themselves in its metadata, and open it with ONNX
    Runtime on the CPU.

    Raises:
        UserError: a package is missing, or ``path`` cannot be written.
    """
    check_onnx()
    import onnx
    import onnxruntime

    # PyTorch 2.6 cannot translate addcmul where one of its terms is spread over free sizes.
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
    write_whole(path, proto.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: [torch.from_numpy(result) for result in session.run(None, {"image": image.numpy()})]


def largest_difference(run: Run, network: AnySize, shape: tuple[int, int, int]) -> float:
    """Between what ``run`` and the network make of noise in [0, 1] of so many images, rows and columns."""
    batch, height, width = shape
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, network.model.config["in_c"], height, width, generator=generator)
    pairs = zip(run(image), network.reference(image), strict=True)
    return max((result - expected).abs().max().item() for result, expected in pairs)
