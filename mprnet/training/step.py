"""One step: forward, loss, backward, update; skipped if a number in it is not finite, or beyond all measure."""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
import torch._functorch.config as functorch_config
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from yacs.config import CfgNode

from mprnet.inference.distributed import World
from mprnet.inference.runner import has_compiler
from mprnet.model.bands import memory_format
from mprnet.model.layers import ChannelAttentionBlock
from mprnet.model.network import MPRNet
from mprnet.training.losses import restoration_loss
from mprnet.training.mixup import MixUp, apply_mixup

# A sample's, three stages together. A training begins at about 1; images with values in [0, 1] that are this far from
# their targets have nothing to do with them any more.
LARGEST_LOSS = 100.0


@dataclass(frozen=True)
class StepResult:
    """``loss`` is this process's sum over its samples; ``sound`` tells whether the weights were updated."""

    loss: float
    sound: bool


class Stepper:
    """Everything that an update changes: weights, their running average, optimizer, gradient scaler."""

    def __init__(self, model: MPRNet, settings: CfgNode, world: World) -> None:
        self.settings = settings
        self.world = world
        self.model = model.to(world.device, memory_format=memory_format(world.device))  # type: ignore[call-overload]
        optim, training = settings.OPTIM, settings.TRAINING
        self.optimizer = torch.optim.Adam(
            model.parameters(),
            lr=optim.LR_INITIAL,
            betas=(optim.BETA1, 0.999),
            eps=1e-8,
            weight_decay=optim.WEIGHT_DECAY,
            fused=world.device.type == "cuda",
        )
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=training.PRECISION == "fp16")
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(optim.EMA)) if optim.EMA else None
        if training.CHECKPOINTING:
            recompute_blocks(model)
        network: nn.Module = model
        if training.COMPILE and has_compiler(world.device):
            functorch_config.activation_memory_budget = training.COMPILE_BUDGET
            network = torch.compile(network)  # type: ignore[assignment]
        if world.size > 1:
            ids = [world.device.index] if world.device.type == "cuda" else None
            network = nn.parallel.DistributedDataParallel(
                network, device_ids=ids, gradient_as_bucket_view=True, static_graph=optim.ACCUMULATE == 1
            )
        self.network = network

    @property
    def kept(self) -> MPRNet:
        """The network to validate and keep: the running average if there is one."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    def update(
        self, degraded: Tensor, target: Tensor, share: tuple[int, int], draws: MixUp | None = None
    ) -> StepResult:
        """Make one step.

        Args:
            degraded, target: (N, 3, H, W) in [0, 1], this process's part of the batch.
            share: how many of its samples count, and how many all processes have together.
            draws: MixUp's, for the batch of all processes; None for no MixUp.
        """
        mine, total = share
        self.optimizer.zero_grad(set_to_none=True)
        parts = list(zip(*(self._parts(tensor, draws) for tensor in (degraded, target)), strict=True))
        loss_sum = 0.0
        for number, (part, wanted) in enumerate(parts, start=1):
            # DistributedDataParallel averages over processes: their number makes it the mean over all samples.
            weight = len(part) * self.world.size / total if mine else 0.0
            last = number == len(parts)
            with nullcontext() if last or self.world.size == 1 else self.network.no_sync():  # type: ignore[operator]
                loss = self._loss(part, wanted)
                self.scaler.scale(loss * weight).backward()
            loss_sum += loss.item() * len(part) if mine else 0.0
        self.scaler.unscale_(self.optimizer)
        limit = self.settings.OPTIM.GRAD_CLIP or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        # A process's loss is its own, but whether to make the step must be the same everywhere.
        if not (torch.isfinite(norm) and self.world.all_reduce(loss_sum)[0] <= LARGEST_LOSS * total):
            self._skip(overflowed=not torch.isfinite(norm))
            return StepResult(0.0, sound=False)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return StepResult(loss_sum, sound=True)

    def state(self) -> dict[str, object]:
        """For ``load_state``: the optimizer's, the scaler's and the average's state."""
        average = None if self.average is None else self.average.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(), "average": average}

    def load_state(self, state: dict) -> None:
        for group in state["optimizer"]["param_groups"]:  # this run's settings and device, not those it was saved with
            group |= {name: self.optimizer.defaults[name] for name in ("betas", "weight_decay", "fused")}
        self.optimizer.load_state_dict(state["optimizer"])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            if state.get("average"):
                self.average.load_state_dict(state["average"])
            else:
                self.average.module.load_state_dict(self.model.state_dict())

    def _parts(self, images: Tensor, draws: MixUp | None) -> tuple[Tensor, ...]:
        """The images on the device, blended if there are draws, in the parts that are computed one after the other."""
        images = images.to(self.world.device, non_blocking=True)
        if draws is not None:
            images = apply_mixup(images, draws, self.world)
        return images.contiguous(memory_format=memory_format(self.world.device)).chunk(self.settings.OPTIM.ACCUMULATE)

    def _loss(self, degraded: Tensor, target: Tensor) -> Tensor:
        precision = {"fp16": torch.float16}.get(self.settings.TRAINING.PRECISION, torch.bfloat16)
        with torch.autocast(self.world.device.type, precision, enabled=self.settings.TRAINING.PRECISION != "fp32"):
            images = self.network(degraded)
        if self.settings.LOSS.CLAMP:
            images = [image.clamp(0, 1) for image in images]
        return restoration_loss(images, target, self.settings.LOSS.EDGE_WEIGHT)

    def _skip(self, overflowed: bool) -> None:
        """Leave the weights as they are, and begin to count anew the steps after which the loss scale may grow.

        Args:
            overflowed: whether the gradient is not finite. Only then is the loss scale to blame, and lowered.
        """
        if self.scaler.is_enabled():
            factor = self.scaler.get_backoff_factor() if overflowed else 1.0
            self.scaler.update(self.scaler.get_scale() * factor)
            self.scaler.load_state_dict({**self.scaler.state_dict(), "_growth_tracker": 0})


def recompute_blocks(model: nn.Module) -> None:
    """Let every attention block keep its input alone and compute the rest anew in the backward pass."""
    for block in model.modules():
        if isinstance(block, ChannelAttentionBlock):
            forward = block.forward
            block.forward = partial(checkpoint, forward, use_reentrant=False)  # type: ignore[method-assign]
