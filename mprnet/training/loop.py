"""The training loop: epochs of steps, validation, checkpoints."""

from collections.abc import Iterator, Sequence, Sized
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm
from warmup_scheduler import GradualWarmupScheduler
from yacs.config import CfgNode

from mprnet.errors import UserError
from mprnet.metrics import psnr
from mprnet.model.network import MPRNet
from mprnet.training.logs import CsvLog
from mprnet.training.losses import restoration_loss
from mprnet.training.state import save_checkpoint


class EpochOrder(Sampler[tuple[int, int]]):
    """The order of an epoch's samples: a permutation that (seed, epoch) alone decide; keys are (epoch, index)."""

    def __init__(self, data: Sized, seed: int) -> None:
        self.length = len(data)
        self.seed = seed
        self.epoch = 1

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return ((self.epoch, int(index)) for index in order)


class Trainer:
    """Trains ``model`` on ``training`` pairs and measures it on ``validation`` pairs.

    Args:
        training: addressed by (epoch, index); pairs of (3, H, W) tensors in [0, 1], degraded and target.
        validation: pairs of the same kind, sides multiples of 8.
        folder: where checkpoints and log.csv go.
        metadata: what the weights' files say of themselves.
    """

    def __init__(
        self,
        model: MPRNet,
        training: Dataset[tuple[Tensor, Tensor]],
        validation: Sequence[tuple[Tensor, Tensor]],
        settings: CfgNode,
        folder: Path,
        metadata: dict[str, str],
    ) -> None:
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = torch.compile(self.model) if settings.TRAINING.COMPILE else self.model
        optim = settings.OPTIM
        self.optimizer = torch.optim.Adam(model.parameters(), lr=optim.LR_INITIAL, betas=(optim.BETA1, 0.999), eps=1e-8)
        self.schedule = schedule(self.optimizer, optim.NUM_EPOCHS, optim.WARMUP_EPOCHS, optim.LR_MIN)
        self.order = EpochOrder(training, settings.TRAINING.SEED)  # type: ignore[arg-type]
        self.loader = DataLoader(training, optim.BATCH_SIZE, sampler=self.order, drop_last=False)
        self.validation = validation
        self.folder = folder
        self.metadata = metadata
        self.best = float("-inf")

    def run(self) -> None:
        """All epochs; afterwards ``folder`` holds model_latest.pth, model_best.pth and log.csv."""
        log = CsvLog(self.folder / "log.csv", ["epoch", "lr", "loss", "input_psnr", "psnr"])
        epochs = self.settings.OPTIM.NUM_EPOCHS
        for epoch in range(1, epochs + 1):
            rate = self.optimizer.param_groups[0]["lr"]
            loss = self._epoch(epoch, epochs)
            figures = dict(epoch=epoch, lr=rate, loss=loss)
            self.schedule.step()
            self._save("latest", epoch)
            if epoch % self.settings.TRAINING.VAL_AFTER_EVERY == 0 or epoch == epochs:
                before, after = self.validate()
                figures.update(input_psnr=before, psnr=after)
                if after > self.best:
                    self.best = after
                    self._save("best", epoch)
                tqdm.write(
                    f"epoch {epoch}: loss {loss:.5f}, validation {after:.3f} dB (input {before:.3f}, "
                    f"best {self.best:.3f})"
                )
            log.add(**figures)

    def _epoch(self, epoch: int, epochs: int) -> float:
        """One pass over the samples; the mean loss per sample."""
        self.order.epoch = epoch
        self.model.train()
        total, count = 0.0, 0
        bar = tqdm(self.loader, f"epoch {epoch}/{epochs}", unit="step", leave=False)
        for degraded, target in bar:
            loss = self._step(degraded, target)
            total += loss * len(target)
            count += len(target)
            bar.set_postfix(loss=f"{total / count:.5f}")
        return total / count

    def _step(self, degraded: Tensor, target: Tensor) -> float:
        degraded = degraded.to(self.device, memory_format=torch.channels_last)
        target = target.to(self.device, memory_format=torch.channels_last)
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            images = self.network(degraded)
        loss = restoration_loss(images, target, self.settings.LOSS.EDGE_WEIGHT)
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()}: lower OPTIM.LR_INITIAL or train with TRAINING.PRECISION fp32; the last "
                f"whole epoch is in {self.folder}."
            )
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def validate(self) -> tuple[float, float]:
        """Mean RGB PSNR of the degraded and of the restored validation images, clamped to [0, 1], in dB."""
        self.model.eval()
        scores = []
        for degraded, target in tqdm(self.validation, "validation", unit="image", leave=False):
            restored = self.model(degraded[None].to(self.device))[0][0].clamp(0, 1).cpu()
            scores.append([psnr(image.numpy(), target.numpy()) for image in (degraded, restored)])
        before, after = np.mean(scores, axis=0)
        return float(before), float(after)

    def _autocast(self) -> torch.autocast:
        enabled = self.settings.TRAINING.PRECISION == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _save(self, name: str, epoch: int) -> None:
        content = {
            "epoch": epoch,
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.schedule.state_dict(),
            "best_psnr": self.best,
            "metadata": {**self.metadata, "epoch": str(epoch)},
        }
        save_checkpoint(self.folder / f"model_{name}.pth", content)


def schedule(
    optimizer: torch.optim.Optimizer, epochs: int, warmup_epochs: int, lr_min: float
) -> GradualWarmupScheduler | CosineAnnealingLR:
    """Linear warm-up, then cosine to ``lr_min`` over the other epochs; already in epoch 1."""
    cosine = CosineAnnealingLR(optimizer, max(1, epochs - warmup_epochs), eta_min=lr_min)
    if not warmup_epochs:
        return cosine
    warmup = GradualWarmupScheduler(optimizer, multiplier=1, total_epoch=warmup_epochs, after_scheduler=cosine)
    warmup.step()
    return warmup
