"""One training step: forward, loss, backward, update. Skips the update if loss or gradient are broken."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
import torch._functorch.config as functorch_config
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from yacs.config import CfgNode

from mprnet.data.tensors import as_float, to_device
from mprnet.inference.distributed import World
from mprnet.inference.runner import has_compiler
from mprnet.model.bands import memory_format
from mprnet.model.layers import ChannelAttentionBlock
from mprnet.model.network import MPRNet
from mprnet.training.ema import Ema
from mprnet.training.losses import RestorationLoss
from mprnet.training.mixup import MixUp, apply_mixup
from mprnet.training.optimizer import make_optimizer

# Steps with a larger mean loss per sample, summed over three stages, are skipped. A training starts at about 1. Images
# in [0, 1] have a loss above 100 only if they have nothing in common with their targets.
MAX_LOSS = 100.0


@dataclass(frozen=True)
class StepResult:
    """The result of a step.

    Attributes:
        loss: sum over this process's samples; 0 if the step was skipped.
        is_updated: True if the weights were updated, False if the step was skipped.
        norm: of the gradient, before it is clipped.
        flags: the sums over all processes of the caller's flags.
        is_missing: True if a process had no batch. Nothing has changed then.
    """

    loss: float
    is_updated: bool
    norm: float
    flags: Sequence[float] = ()
    is_missing: bool = False


class Stepper:
    """Makes training steps. Holds everything that a step changes: weights, their EMA, optimizer, gradient scaler."""

    def __init__(self, model: MPRNet, settings: CfgNode, world: World) -> None:
        self.settings = settings
        self.world = world
        self.model = model.to(world.device, memory_format=memory_format(world.device))  # type: ignore[call-overload]
        optim, training = settings.OPTIM, settings.TRAINING
        self.optimizer = make_optimizer(model, optim)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=training.PRECISION == "fp16")
        self.ema = Ema(model, optim.EMA) if optim.EMA else None
        self.loss = RestorationLoss(settings.LOSS.EDGE_WEIGHT, settings.LOSS.CLAMP).to(world.device)
        if training.CHECKPOINTING:
            recompute_blocks(model)
        network: nn.Module = model
        if training.COMPILE and has_compiler(world.device):
            functorch_config.activation_memory_budget = training.COMPILE_BUDGET
            # Without the loss: PyTorch 2.14 fails at the backward pass of its padding (replicate, channels last).
            network = torch.compile(network)  # type: ignore[assignment]
        if world.size > 1:
            ids = [world.device.index] if world.device.type == "cuda" else None
            network = nn.parallel.DistributedDataParallel(
                network, device_ids=ids, gradient_as_bucket_view=True, static_graph=optim.ACCUMULATE == 1
            )
        self.network = network

    @property
    def eval_model(self) -> MPRNet:
        """The network to validate and to save as weights: the EMA if there is one, else the trained network."""
        return self.model if self.ema is None else self.ema.module  # type: ignore[return-value]

    @property
    def checkpoint_bytes(self) -> int:
        """About how large a checkpoint is: the weights, what the optimizer averages (at most two), and the EMA."""
        weights = sum(parameter.nbytes for parameter in self.model.parameters())
        return weights * (3 if self.ema is None else 4)

    def update(
        self,
        degraded: Tensor,
        target: Tensor,
        counts: tuple[int, int],
        mixup: MixUp | None = None,
        get_flags: Callable[[], Sequence[float]] = tuple,
        is_missing: bool = False,
    ) -> StepResult:
        """Make one step. It reads from the device once, at its end: until then, the device is never idle.

        Args:
            degraded, target: (N, 3, H, W), floats in [0, 1] or uint8, this process's part of the batch.
            counts: how many samples count: of this process, and of all processes together.
            mixup: for the batch of all processes; None for no MixUp.
            get_flags: returns numbers of this process, when the step is nearly done; their sums over all processes come
                back with the loss.
            is_missing: this process has no batch, and the images are zeros. Then no process changes its weights.
        """
        own_count, total = counts
        self.optimizer.zero_grad(set_to_none=True)
        parts = list(zip(*(self._split_batch(images, mixup) for images in (degraded, target)), strict=True))
        loss_sum = torch.zeros((), device=self.world.device)
        for number, (degraded_part, target_part) in enumerate(parts, start=1):
            # DistributedDataParallel takes the mean of the gradients over processes. The factor world.size makes it the
            # mean over all samples.
            weight = len(degraded_part) * self.world.size / total if own_count else 0.0
            is_last = number == len(parts)
            # Gradients are exchanged between processes once, with the last part.
            with nullcontext() if is_last or self.world.size == 1 else self.network.no_sync():  # type: ignore[operator]
                loss = self._loss(degraded_part, target_part)
                self.scaler.scale(loss * weight).backward()
            if own_count:
                loss_sum += loss.detach() * len(degraded_part)
        self.scaler.unscale_(self.optimizer)
        norm = self._clip_gradients()
        # Each process has a loss of its own. But all processes must skip the same steps.
        own_loss, norm_value, all_loss, missing, *all_flags = self._read(loss_sum, norm, (is_missing, *get_flags()))
        if missing:
            if self.scaler.is_enabled():
                self.scaler.update(self.scaler.get_scale())  # leaves the scale and the count of good steps as they are
            return StepResult(0.0, False, norm_value, all_flags, is_missing=True)
        if not (math.isfinite(norm_value) and all_loss <= MAX_LOSS * total):
            self._skip(is_overflow=not math.isfinite(norm_value))
            return StepResult(0.0, False, norm_value, all_flags)
        self.optimizer.step()  # not by the scaler, which would read again whether the gradient is finite
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(self.model)
        return StepResult(own_loss, True, norm_value, all_flags)

    def _clip_gradients(self) -> Tensor:
        """Return the norm of the gradient, a scalar, and clip the gradient if the settings say so."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if limit := self.settings.OPTIM.GRAD_CLIP:
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        return norm

    def _read(self, loss: Tensor, norm: Tensor, flags: Sequence[float]) -> list[float]:
        """Return, in one transfer, this process's loss, the norm, and the sums over processes of loss and flags."""
        own_flags = to_device(torch.tensor(list(flags), dtype=loss.dtype), self.world.device)
        sums = self.world.all_reduce_tensor(torch.cat([loss[None], own_flags]))
        return torch.cat([loss[None], norm.to(loss)[None], sums]).tolist()

    def state_dict(self) -> dict[str, object]:
        """Return the states of optimizer, scaler and EMA, for ``load_state_dict``. The weights are not included."""
        ema = None if self.ema is None else self.ema.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(), "average": ema}

    def load_state_dict(self, state: dict) -> None:
        """Load what ``state_dict`` returned. Load the model's weights first: without a saved EMA, it starts from them.

        The numbers that the settings give to the optimizer stay those of this run.
        """
        for group in state["optimizer"]["param_groups"]:
            group |= {name: self.optimizer.defaults[name] for name in ("betas", "weight_decay", "fused")}
        self.optimizer.load_state_dict(state["optimizer"])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            if state.get("average"):
                self.ema.load_state_dict(state["average"])
            else:
                self.ema.module.load_state_dict(self.model.state_dict())

    def _split_batch(self, images: Tensor, mixup: MixUp | None) -> tuple[Tensor, ...]:
        """Move images to the device, apply MixUp, and split them into the parts for gradient accumulation."""
        images = as_float(to_device(images, self.world.device))
        if mixup is not None:
            images = apply_mixup(images, mixup, self.world)
        return images.contiguous(memory_format=memory_format(self.world.device)).chunk(self.settings.OPTIM.ACCUMULATE)

    def _loss(self, degraded: Tensor, target: Tensor) -> Tensor:
        precision = {"fp16": torch.float16}.get(self.settings.TRAINING.PRECISION, torch.bfloat16)
        with torch.autocast(self.world.device.type, precision, enabled=self.settings.TRAINING.PRECISION != "fp32"):
            images = self.network(degraded)
        return self.loss(images, target)

    def _skip(self, is_overflow: bool) -> None:
        """Leave the weights unchanged, and restart the count of steps after which the loss scale may grow.

        Args:
            is_overflow: the gradient is not finite. Then the loss scale may be too large, and is lowered.
        """
        if self.scaler.is_enabled():
            factor = self.scaler.get_backoff_factor() if is_overflow else 1.0
            self.scaler.update(self.scaler.get_scale() * factor)
            self.scaler.load_state_dict({**self.scaler.state_dict(), "_growth_tracker": 0})


def recompute_blocks(model: nn.Module) -> None:
    """Make each attention block keep only its input, and compute its activations again in the backward pass."""
    for block in model.modules():
        if isinstance(block, ChannelAttentionBlock):
            forward = block.forward
            block.forward = partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False)  # type: ignore[method-assign]
