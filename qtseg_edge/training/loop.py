"""A training run from labelled folders to weights, and everything it leaves in its folder."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from qtseg_edge import __version__
from qtseg_edge.console import OnProgress
from qtseg_edge.data_checks import check_splits
from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.files import replacing
from qtseg_edge.model.checkpoint import load_checkpoint, save_checkpoint
from qtseg_edge.model.network import CNN, NetworkConfig, QTSeg, build_network, network_config_from
from qtseg_edge.model.pretrained import network_with_encoder
from qtseg_edge.spec import ModelCard
from qtseg_edge.training.augmentation import Augmentation
from qtseg_edge.training.config import TrainConfig, config_from, config_text
from qtseg_edge.training.fit import Fit
from qtseg_edge.training.images import Images
from qtseg_edge.training.pictures import write_preview, write_validation
from qtseg_edge.training.processes import Processes
from qtseg_edge.training.results import write_curves, write_results
from qtseg_edge.training.scoring import score

CONFIG, RUN, STATE = "config.json", "run.json", "state.pt"
_PREVIEWED = 16


@dataclass(frozen=True)
class Request:
    """data: a folder with train/ and val/. run: the folder to write. card: classes, data and terms of the model to be.

    checkpoint: weights to begin with. resume: go on with a run that was cut short.
    """

    data: Path
    run: Path
    card: ModelCard
    checkpoint: Path | None = None
    resume: bool = False


def train(request: Request, config: TrainConfig, processes: Processes, advance: OnProgress) -> Path:
    """Train on `data/train`, score on `data/val`, and return the best weights.

    advance is called after every step. Raises UsageError for data that cannot be trained on (with all of its problems) and
    for a run folder that is in use, QtsegError for a loss that is not finite, with the batch.
    """
    if processes.writes:
        _require_run_folder(request, config)
    if request.resume:
        request = replace(request, card=_card_of(request))
    splits = [request.data / "train", request.data / "val"]
    classes = request.card.classes
    fingerprint = check_splits(splits, classes, config.allow_empty, lambda done, total: advance(done, total, "images checked"))
    network, network_config = _network(request, config)
    images, validation = (Images.read(split, config.imgsz, len(classes)) for split in splits)
    fit = Fit(network, config, _steps(len(images), config, processes.world, splits[0]), processes)
    run = _Run(request, config, network_config, fit, processes, advance)
    if processes.writes:
        run.describe(fingerprint)
    run.to_the_end(images, validation)
    return request.run / "weights" / "best.safetensors"


def preview(request: Request, config: TrainConfig) -> Path:
    """Write `preview.png` into the run's folder: images of `data/train` as training would see them. Nothing else is done."""
    images = Images.read(request.data / "train", config.imgsz, len(request.card.classes), _PREVIEWED)
    augmentation = Augmentation(config.augment, config.endoscope, config.empty_share)
    path = request.run / "preview.png"
    request.run.mkdir(parents=True, exist_ok=True)
    write_preview(path, images, augmentation, request.card, config.seed)
    return path


class _Run:
    """The epochs of one run and its files."""

    def __init__(
        self, request: Request, config: TrainConfig, network: NetworkConfig, fit: Fit, processes: Processes, advance: OnProgress
    ) -> None:
        self.folder, self.config, self.network_config = request.run, config, network
        self.fit, self.processes, self.advance, self.request = fit, processes, advance, request
        self.card = replace(request.card, size_hw=(config.imgsz,) * 2, normalisation=config.normalisation, bf16_verified=False)
        self.done, self.results = fit.resume(self.folder / STATE) if request.resume else (-1, [])
        self.started = time.perf_counter() - (self.results[-1]["seconds"] if self.results else 0.0)

    def to_the_end(self, images: Images, validation: Images) -> None:
        resized = images
        for epoch in range(self.done + 1, self.config.epochs):
            if self._given_up():
                return
            if resized.side != self.config.side(epoch):
                resized = images.resized(self.config.side(epoch))
            loss = self.fit.epoch(epoch, resized, lambda loss, epoch=epoch: self._tell(epoch, loss))  # type: ignore[misc]
            if (epoch + 1) % self.config.val_every == 0 or epoch + 1 == self.config.epochs:
                self._score(epoch, loss, images, validation)
            if self.processes.writes:
                self.fit.save(self.folder / STATE, epoch, self.results)

    def _score(self, epoch: int, loss: float, images: Images, validation: Images) -> None:
        averaged = self.fit.averaged_network(images)
        scores = score(averaged, validation, self.network_config.classes, self.config.normalisation, self.processes)
        losses = self.processes.gathered([loss])
        self.results.append(
            {
                "epoch": epoch,
                "imgsz": self.config.side(epoch),
                "lr": self.fit.schedule.get_last_lr()[-1],
                "train_loss": sum(losses) / len(losses),
                **scores,
                "seconds": round(time.perf_counter() - self.started, 1),
            }
        )
        if self.processes.writes:
            self._write(averaged, scores, validation)

    def _write(self, averaged: QTSeg, scores: dict[str, float], validation: Images) -> None:
        card = replace(self.card, scores={name: round(scores[name], 4) for name in ("val_dice", "val_iou")})
        best = scores["val_dice"] > max((row["val_dice"] for row in self.results[:-1]), default=-1.0)
        for name in ["best", "last"] if best else ["last"]:
            save_checkpoint(self.folder / "weights" / f"{name}.safetensors", averaged, self.network_config, card)
        if best:
            write_validation(self.folder / "val.png", averaged, validation, card, self.results[-1]["epoch"])
        write_results(self.folder / "results.csv", self.results)
        write_curves(self.folder / "curves.png", self.results)

    def _given_up(self) -> bool:
        best = max(range(len(self.results)), key=lambda index: self.results[index]["val_dice"], default=0)
        return 0 < self.config.patience <= len(self.results) - 1 - best

    def _tell(self, epoch: int, loss: float) -> None:
        dice = f", val Dice {self.results[-1]['val_dice']:.4f}" if self.results else ""
        total = self.config.epochs * self.fit.steps
        self.advance(self.fit.schedule.last_epoch, total, f"epoch {epoch}, loss {loss:.3f}{dice}")

    def describe(self, fingerprint: str) -> None:
        """config.json (which --config accepts) and run.json; a run that goes on must find its own data again.

        The state comes first: from then on a run that is cut short can go on, even in its first epoch.
        """
        (self.folder / "weights").mkdir(parents=True, exist_ok=True)
        for left_over in self.folder.glob("**/.*.part*"):  # of a process that was killed while it wrote
            left_over.unlink()
        if self.request.resume:
            if _facts_of(self.folder)["data_sha256"] != fingerprint:
                raise UsageError(f"{self.request.data}: not the data that {self.folder} was trained on; give another --name")
            return
        self.fit.save(self.folder / STATE, -1, [])
        facts = {
            "qtseg_edge": __version__,
            "torch": torch.__version__,
            "device": str(self.processes.device),
            "computed_in": str(self.fit.dtype).removeprefix("torch."),
            "processes": self.processes.world,
            "data": str(self.request.data),
            "data_sha256": fingerprint,
            "checkpoint": str(self.request.checkpoint or ""),
            "network": asdict(self.network_config),
            "card": asdict(self.card),
        }
        for name, text in ((RUN, json.dumps(facts, indent=1)), (CONFIG, config_text(self.config))):
            with replacing(self.folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")


def _require_run_folder(request: Request, config: TrainConfig) -> None:
    there = (request.run / CONFIG).exists()
    if there and not request.resume:
        raise UsageError(f"{request.run}: a run is there already; go on with it by --resume, or give another --name")
    if not request.resume:
        return
    if not (request.run / STATE).exists():
        raise UsageError(f"{request.run}: nothing to resume: it has no {STATE}; start it without --resume")
    before = asdict(config_from(request.run / CONFIG, {}))
    changed = [f"{name} ({before[name]} then, {value} now)" for name, value in asdict(config).items() if before[name] != value]
    if changed:
        raise UsageError(f"--resume: this run was started with another {', '.join(changed)}; leave that out, or give another --name")


def _facts_of(run: Path) -> dict[str, Any]:
    """run.json of a run that goes on."""
    path = run / RUN
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if {"data_sha256", "network"} <= facts.keys():
            return dict(facts)
        reason = "without data_sha256 or network"
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        reason = str(error)
    raise IncompatibleError(f"{path}: cannot be resumed ({reason}); give another --name")


def _card_of(request: Request) -> ModelCard:
    """The card that a run was started with, so that it need not be told again."""
    card = _facts_of(request.run).get("card")
    return ModelCard.from_json(json.dumps(card)) if card else request.card


def _network(request: Request, config: TrainConfig) -> tuple[QTSeg, NetworkConfig]:
    """With the weights it begins with; those of a run that goes on come from its state."""
    torch.manual_seed(config.seed)
    classes = len(request.card.classes)
    if config.class_weights and len(config.class_weights) != classes:
        raise UsageError(f"class_weights: wanted {classes} numbers, background first, got {len(config.class_weights)}")
    if request.resume:
        network_config = network_config_from(_facts_of(request.run)["network"])
        return build_network(network_config), network_config
    if request.checkpoint is None:
        blank = NetworkConfig(width=config.width, classes=classes)
        return network_with_encoder(blank, config.encoder, config.encoder_weights or None)
    if config.encoder != CNN or config.encoder_weights:
        raise UsageError(f"{request.checkpoint}: brings its own encoder; leave out --encoder and --encoder-weights, or --checkpoint")
    loaded = load_checkpoint(request.checkpoint)
    if loaded.config.classes != classes:
        raise IncompatibleError(f"{request.checkpoint}: has {loaded.config.classes} classes, this run trains {classes}")
    return loaded.network, loaded.config


def _steps(images: int, config: TrainConfig, world: int, split: Path) -> int:
    """Optimiser steps per epoch; what is left over in an epoch has its turn in another, the order being random."""
    if config.accumulate % world:
        raise UsageError(f"accumulate: wanted a multiple of the {world} processes, got {config.accumulate}; try --accumulate {world}")
    steps = images // (config.batch * config.accumulate)
    if steps == 0:
        wanted = config.batch * config.accumulate
        raise UsageError(f"{split}: {images} images, fewer than one step takes ({wanted}); give a smaller --batch or --accumulate")
    return steps
