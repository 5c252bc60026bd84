"""The optimiser's side of a run: network, averaged weights, schedule and mixed precision, saved and restored as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, update_bn

from qtseg_edge.errors import IncompatibleError, QtsegError
from qtseg_edge.files import replacing
from qtseg_edge.model.network import QTSeg
from qtseg_edge.model.normalise import normalise
from qtseg_edge.training.augmentation import Augmentation
from qtseg_edge.training.config import TrainConfig
from qtseg_edge.training.images import Images
from qtseg_edge.training.losses import segmentation_loss
from qtseg_edge.training.processes import Processes

_STATISTICS_IMAGES = 160
_LOWEST_RATE = 0.01  # of the peak, at the end of the cosine


class Fit:
    """Trains one network. Every random draw comes from (seed, epoch, forward pass), so a run can be taken up at any epoch."""

    def __init__(self, network: QTSeg, config: TrainConfig, steps: int, processes: Processes) -> None:
        self.config, self.steps, self.processes = config, steps, processes
        self.device = processes.device
        self.network = cast(QTSeg, network.to(self.device, memory_format=torch.channels_last))  # type: ignore[call-overload]
        self.averaged = AveragedModel(self.network, multi_avg_fn=_averaging(config.ema), use_buffers=False)
        self.trained: nn.Module = self.network
        if processes.world > 1:
            # Norms use the statistics of their own pass, and those kept for later are taken anew: buffers need no exchange.
            self.trained = DistributedDataParallel(self.network, broadcast_buffers=False)
        groups = _parameter_groups(self.network, config.weight_decay, config.freeze_epochs)
        self.optimiser = AdamW(groups, lr=config.lr, fused=True)
        self.schedule = LambdaLR(self.optimiser, [self._rate(group["frozen_epochs"]) for group in groups])
        self.dtype = compute_dtype(config.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.augmentation = Augmentation(config.augment, config.endoscope, config.empty_share)
        self.class_weights = torch.tensor(config.class_weights, device=self.device) if config.class_weights else None

    def epoch(self, epoch: int, images: Images, on_step: Callable[[float], None]) -> float:
        """One pass over the images in random order; returns the mean loss of this process. on_step gets the loss of each step."""
        self.trained.train()
        losses = []
        for step in range(self.steps):
            loss = self._step(epoch, step, images)
            losses.append(loss)
            on_step(loss)
        return sum(losses) / len(losses)

    def _step(self, epoch: int, step: int, images: Images) -> float:
        """The share of this process in `accumulate` forward passes, then one update."""
        passes = range(self.processes.rank, self.config.accumulate, self.processes.world)
        losses = []
        for index in passes:
            number = step * self.config.accumulate + index
            indices = self._order(epoch, len(images))[number * self.config.batch : (number + 1) * self.config.batch]
            with self._gradients_exchanged(last=index == passes[-1]):
                loss = self._loss(epoch, number, images, indices)
                self.scaler.scale(loss / len(passes)).backward()
            losses.append(loss.item())
        self.scaler.unscale_(self.optimiser)
        learning = [p for group in self.optimiser.param_groups if group["lr"] > 0 for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(learning, self.config.clip, foreach=True)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad()
        self.schedule.step()
        self.averaged.update_parameters(self.network)
        return sum(losses) / len(losses)

    def _loss(self, epoch: int, number: int, images: Images, indices: Tensor) -> Tensor:
        torch.manual_seed(_seed(self.config.seed, epoch, number + 1))
        augmented, labels = self.augmentation(*images.batch(indices, self.device))
        x = normalise(augmented * 255, self.config.normalisation).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.trained(x)
        loss = segmentation_loss(logits, labels[:, 0].long(), self.class_weights)
        if not math.isfinite(loss.item()):
            names = ", ".join(images.names[index] for index in indices.tolist())
            raise QtsegError(
                f"the loss became {loss.item()} in epoch {epoch}, batch {number} ({names}): look at these images, or lower --lr"
            )
        return loss

    def _order(self, epoch: int, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(_seed(self.config.seed, epoch, 0))
        return torch.randperm(count, generator=generator)

    def _gradients_exchanged(self, last: bool) -> AbstractContextManager[None]:
        if last or not isinstance(self.trained, DistributedDataParallel):
            return nullcontext()
        return cast(AbstractContextManager[None], self.trained.no_sync())

    def _rate(self, frozen_epochs: int) -> Callable[[int], float]:
        config, total = self.config, self.config.epochs * self.steps
        return lambda step: 0.0 if step < frozen_epochs * self.steps else rate((step + 1) / total, config.warmup)

    def averaged_network(self, images: Images) -> QTSeg:
        """The averaged weights, with the statistics of their norms taken anew: those of the trained network do not fit them."""
        network = cast(QTSeg, self.averaged.module)
        chosen = torch.linspace(0, len(images) - 1, min(_STATISTICS_IMAGES, len(images))).long()
        update_bn(self._inputs(images, chosen), network)
        return network.eval()

    def _inputs(self, images: Images, chosen: Tensor) -> Iterator[Tensor]:
        for indices in chosen.tensor_split(max(1, len(chosen) // self.config.batch)):  # none shorter than a batch
            frames, _ = images.batch(indices, self.device)
            yield normalise(frames * 255, self.config.normalisation).contiguous(memory_format=torch.channels_last)

    def save(self, path: Path, epoch: int, results: list[dict[str, Any]]) -> None:
        """What `resume` needs after `epoch`, under a temporary name first: a full disk leaves the last state as it was."""
        parts = {name: part.state_dict() for name, part in self._parts()}
        with replacing(path) as temporary:
            try:
                torch.save({**parts, "epoch": epoch, "results": results}, temporary)
            except RuntimeError as error:  # torch's writer hides what the system said
                raise QtsegError(f"{path}: cannot be written, what was there is kept; make room, then go on with --resume") from error

    def resume(self, path: Path) -> tuple[int, list[dict[str, Any]]]:
        """The last finished epoch and the results up to it."""
        try:
            state = torch.load(path, weights_only=True, map_location=self.device)
            for name, part in self._parts():
                part.load_state_dict(state[name])
            return int(state["epoch"]), list(state["results"])
        except Exception as error:  # what the restricted unpickler raises on arbitrary bytes has no common base
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise IncompatibleError(f"{path}: cannot be resumed ({reason}); give another --name") from error

    def _parts(self) -> Iterable[tuple[str, Any]]:
        names = ("network", "averaged", "optimiser", "schedule", "scaler")
        return ((name, getattr(self, name)) for name in names)


def rate(progress: float, warmup: float) -> float:
    """Share of the peak learning rate: linear up to `warmup` of the run, then a cosine down to its hundredth."""
    if progress < warmup:
        return progress / warmup
    fallen = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (progress - warmup) / max(1e-9, 1 - warmup)))
    return 1 - (1 - _LOWEST_RATE) * fallen


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What forward and backward are computed in. auto: bfloat16 where the device multiplies it natively, else float16 on a GPU."""
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def _parameter_groups(network: QTSeg, weight_decay: float, freeze_epochs: int) -> list[dict[str, Any]]:
    """Encoder and rest, matrices and vectors apart: norms and biases are not decayed."""
    encoder = {id(parameter) for parameter in network.encoder.parameters()}
    groups = []
    for frozen in (True, False):
        members = [p for p in network.parameters() if (id(p) in encoder) == frozen]
        epochs = freeze_epochs if frozen else 0
        groups.append({"params": [p for p in members if p.dim() >= 2], "weight_decay": weight_decay, "frozen_epochs": epochs})
        groups.append({"params": [p for p in members if p.dim() < 2], "weight_decay": 0.0, "frozen_epochs": epochs})
    return groups


def _averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential, with a shorter memory in the first steps, when the weights still move fast."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        seen = float(steps)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + seen) / (10 + seen)))

    return update


def _seed(seed: int, epoch: int, draw: int) -> int:
    """The CPU's generator takes the lower 32 bits alone, so the seed must reach them too; 42 leaves them as it found them."""
    return (seed << 32) ^ (((seed ^ 42) * 0x9E3779B1) & 0xFFFFFFFF) ^ (epoch << 20) ^ draw
