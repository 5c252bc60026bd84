"""What a training run is asked to do, saved with what it produced."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qtseg_edge.errors import UsageError
from qtseg_edge.spec import Normalisation


@dataclass(frozen=True)
class TrainConfig:
    """imgsz: training side. eval_imgsz: side of the validation scores. batch: images per step. empty_share: share of
    images turned into ones without a lesion. lr: peak learning rate, reached after `warmup`, a share of the run.
    ema: decay of the averaged weights, which are the ones that are scored and kept."""

    epochs: int = 60
    batch: int = 8
    imgsz: int = 256
    eval_imgsz: int = 352
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    ema: float = 0.998
    empty_share: float = 0.05
    normalisation: Normalisation = "scale"
    seed: int = 42

    def __post_init__(self) -> None:
        for name, side in (("--imgsz", self.imgsz), ("eval_imgsz", self.eval_imgsz)):
            if side <= 0 or side % 32:
                raise UsageError(f"{name}: wanted a multiple of 32, got {side}; try {max(32, round(side / 32) * 32)}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UsageError(f"--lr: wanted a positive number, got {self.lr}")
        if self.epochs < 1 or self.batch < 2:
            raise UsageError(f"wanted at least 1 epoch and batches of 2, got --epochs {self.epochs} --batch {self.batch}")
