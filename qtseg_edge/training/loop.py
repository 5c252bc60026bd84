"""The training loop: AdamW with warm-up and cosine, averaged weights, a validation score after every epoch."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from qtseg_edge.data import LabelledImage, labelled_images, read_binary_mask, read_image
from qtseg_edge.errors import IncompatibleError, QtsegError, UsageError
from qtseg_edge.files import replacing
from qtseg_edge.metrics import foreground_overlap
from qtseg_edge.model.checkpoint import load_checkpoint, save_checkpoint
from qtseg_edge.model.network import NetworkConfig, QTSeg, build_network
from qtseg_edge.model.normalise import normalise
from qtseg_edge.spec import ModelCard
from qtseg_edge.training.augmentation import Augmentation
from qtseg_edge.training.config import TrainConfig
from qtseg_edge.training.losses import segmentation_loss
from qtseg_edge.transforms import Letterbox

_STATISTICS_IMAGES = 240


@dataclass(frozen=True)
class EpochResult:
    epoch: int
    loss: float
    val_dice: float
    val_iou: float


@dataclass(frozen=True)
class Images:
    """A split in memory at one size: frames (M, S, S, 3) and masks (M, S, S), both uint8."""

    frames: Tensor
    masks: Tensor

    @classmethod
    def read(cls, pairs: list[LabelledImage], side: int) -> Images:
        frames, masks = [], []
        for pair in pairs:
            frame, mask = read_image(pair.image), read_binary_mask(pair.mask)
            if frame.shape[:2] != mask.shape:
                raise QtsegError(f"{pair.mask}: mask of {mask.shape[1]}x{mask.shape[0]} for an image of {frame.shape[1]}x{frame.shape[0]}")
            letterbox = Letterbox(mask.shape, (side, side))
            frames.append(letterbox.frame(frame))
            masks.append(letterbox.mask(mask))
        return cls(torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(masks)))


class OnStep(Protocol):
    def __call__(self, done: int, total: int, note: str) -> None: ...


def train(data: Path, run: Path, config: TrainConfig, card_path: Path | None, start: Path | None, on_step: OnStep) -> Path:
    """Train on `data/train`, score on `data/val`, write `run/` and return its best checkpoint.

    card_path: JSON of a ModelCard, to be saved with the weights; its scores are filled in. start: a checkpoint to begin from.
    on_step is called after every step. A run whose `state.pt` exists goes on from there. A non-finite loss raises QtsegError.
    """
    card = _card(card_path, config)
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    train_images = Images.read(labelled_images(data / "train"), config.imgsz)
    val_images = Images.read(labelled_images(data / "val"), config.eval_imgsz)
    loaded = load_checkpoint(start) if start else None
    network_config = loaded.config if loaded else NetworkConfig(classes=len(card.classes))
    if network_config.classes != len(card.classes):
        raise UsageError(f"{start}: has {network_config.classes} classes, this run trains {len(card.classes)}")
    if len(train_images.frames) < config.batch:
        raise UsageError(
            f"{data / 'train'}: {len(train_images.frames)} images are fewer than a batch; give --batch {len(train_images.frames)}"
        )
    network = (loaded.network if loaded else build_network(network_config)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fit = Fit(network, config, steps=len(train_images.frames) // config.batch)
    run.mkdir(parents=True, exist_ok=True)
    results = fit.resume(run / "state.pt") if (run / "state.pt").exists() else []
    with replacing(run / "config.json") as temporary:
        temporary.write_text(json.dumps({**asdict(config), "data": str(data), "start": str(start or "")}, indent=1), encoding="utf-8")
    for epoch in range(len(results), config.epochs):
        loss = fit.epoch(train_images, on_step)
        averaged = fit.averaged_network(train_images)
        dice, iou = score(averaged, val_images, config)
        results.append(EpochResult(epoch, loss, dice, iou))
        scored = replace(card, scores={"val_dice": round(dice, 4), "val_iou": round(iou, 4)})
        if dice >= max(result.val_dice for result in results):
            save_checkpoint(run / "best.safetensors", averaged, network_config, scored)
        save_checkpoint(run / "last.safetensors", averaged, network_config, scored)
        fit.save(run / "state.pt", results)
        _write_results(run / "results.csv", results)
    return run / "best.safetensors"


class Fit:
    """Network, optimiser, schedule and averaged weights, saved and restored as one."""

    def __init__(self, network: QTSeg, config: TrainConfig, steps: int) -> None:
        self.config, self.steps = config, steps
        self.network = network
        self.averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=False)
        decayed = [p for p in network.parameters() if p.dim() >= 2]
        others = [p for p in network.parameters() if p.dim() < 2]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = AdamW(groups, lr=config.lr, fused=True)
        self.schedule = LambdaLR(self.optimiser, lambda step: _rate((step + 1) / (config.epochs * steps), config.warmup))
        self.augmentation = Augmentation(config.empty_share)

    def averaged_network(self, images: Images) -> QTSeg:
        """The averaged weights, with the statistics of their norms taken anew: those of the trained network do not fit them."""
        network = cast(QTSeg, self.averaged.module)
        chosen = torch.linspace(0, len(images.frames) - 1, min(_STATISTICS_IMAGES, len(images.frames))).long()
        frames = images.frames[chosen].permute(0, 3, 1, 2)  # (M, 3, S, S)
        update_bn((normalise(chunk.float(), self.config.normalisation) for chunk in frames.split(self.config.batch)), network)
        return network.eval()

    def epoch(self, images: Images, on_step: OnStep) -> float:
        """One pass in random order; returns the mean loss."""
        self.network.train()
        losses = []
        for step, (frames, masks) in enumerate(_batches(images, self.config.batch)):
            augmented, labels = self.augmentation(frames, masks)
            x = normalise(augmented * 255, self.config.normalisation).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = self.network(x)
            loss = segmentation_loss(logits, labels[:, 0].long())
            value = loss.item()
            if not math.isfinite(value):
                raise QtsegError(f"loss became {value} at step {step}: lower --lr")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad()
            self.schedule.step()
            self.averaged.update_parameters(self.network)
            losses.append(value)
            done = self.schedule.last_epoch
            on_step(done, self.config.epochs * self.steps, f"epoch {done // self.steps}, loss {value:.3f}")
        return sum(losses) / len(losses)

    def save(self, path: Path, results: list[EpochResult]) -> None:
        state = {
            "results": [asdict(result) for result in results],
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "python_rng": random.getstate(),
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path) -> list[EpochResult]:
        try:
            state = torch.load(path, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])
            torch.set_rng_state(state["torch_rng"])
            random.setstate(state["python_rng"])
            return [EpochResult(**result) for result in state["results"]]
        except Exception as error:  # what the restricted unpickler raises on arbitrary bytes has no common base
            raise IncompatibleError(f"{path}: cannot be resumed ({error}); give another --name") from error


@torch.inference_mode()
def score(network: QTSeg, images: Images, config: TrainConfig) -> tuple[float, float]:
    """Mean Dice and IoU over images, float32."""
    overlaps = []
    for frame, mask in zip(images.frames, images.masks, strict=True):
        logits = network(normalise(frame.permute(2, 0, 1)[None].float(), config.normalisation))
        overlaps.append(foreground_overlap(logits[0].argmax(dim=0).numpy().astype(np.uint8), mask.numpy()))
    return float(np.mean([o.dice for o in overlaps])), float(np.mean([o.iou for o in overlaps]))


def _rate(progress: float, warmup: float) -> float:
    """Share of the peak learning rate: linear up to `warmup` of the run, then a cosine down to zero at its end."""
    if progress < warmup:
        return progress / warmup
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup)))


def _card(path: Path | None, config: TrainConfig) -> ModelCard:
    if path is None:
        side = config.eval_imgsz
        return ModelCard("lesion", ("background", "lesion"), ((0, 0, 0), (0, 200, 120)), (side, side), config.normalisation)
    try:
        card = ModelCard.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from error
    if card.normalisation != config.normalisation or len(card.classes) != 2:
        raise UsageError(
            f"{path}: wanted two classes and normalisation {config.normalisation!r}, got {len(card.classes)} and {card.normalisation!r}"
        )
    return replace(card, bf16_verified=False)  # nobody has measured these weights yet


def _batches(images: Images, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(images.frames))
    for indices in order[: len(order) // size * size].split(size):
        frames = images.frames[indices].permute(0, 3, 1, 2).float() / 255  # (N, 3, S, S)
        yield frames, images.masks[indices][:, None].float()


def _write_results(path: Path, results: list[EpochResult]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", "val_dice", "val_iou"])
        writer.writerows([r.epoch, f"{r.loss:.5f}", f"{r.val_dice:.5f}", f"{r.val_iou:.5f}"] for r in results)
