"""What a training run is asked to do: one flat, frozen set of values, saved with what it produced."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from qtseg_edge.errors import UsageError
from qtseg_edge.spec import Normalisation

Side = Annotated[int, Field(gt=0, multiple_of=32)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class TrainConfig:
    """The same values give the same model on any number of processes.

    A value out of its range raises pydantic's ValidationError; `config_from` turns it into one line for the user.
    """

    # What is trained
    encoder: str = "cnn"  # "cnn", "pvt_v2_b0", or a folder or hub id of a transformers backbone
    encoder_weights: str = ""  # what the encoder begins with; empty: those published with it, none for cnn
    freeze_epochs: Annotated[int, Field(ge=0)] = 0  # the encoder learns only after them
    width: Annotated[int, Field(ge=4, le=1 << 14, multiple_of=4)] = 16  # the paper's n; a checkpoint to begin with brings its own
    normalisation: Normalisation = "scale"

    # Images
    imgsz: Side = 352  # side at which the model is scored and deployed
    start_imgsz: Side | None = None  # the side grows from here to imgsz...
    growth: Share = 0.75  # ...over this share of the epochs
    augment: Annotated[float, Field(ge=0, le=2)] = 1.0  # geometry and colour: 0 flips only, 1 the full ranges, others in proportion
    endoscope: Share = 0.25  # probability of an endoscope's border, vignette or specular highlights
    empty_share: Share = 0.05  # images replaced by their own background, or by a lost signal
    allow_empty: bool = False  # accept images whose mask is empty

    # Optimisation
    epochs: Count = 100
    batch: Annotated[int, Field(ge=2)] = 8  # images per forward pass
    accumulate: Count = 1  # forward passes per optimiser step, over all processes
    lr: Positive = 1e-3  # the peak
    weight_decay: NotNegative = 0.02
    warmup: Share = 0.05  # share of the run in which the rate rises
    clip: Positive = 1.0  # largest norm of the gradients
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.998  # decay of the averaged weights, which are scored and kept
    class_weights: tuple[Positive, ...] = ()  # of the cross-entropy, background first; empty: all one
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    # The run
    val_every: Count = 1
    patience: Annotated[int, Field(ge=0)] = 0  # stop after so many scored epochs without a better Dice; 0: never
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 42

    def side(self, epoch: int) -> int:
        """The training side of an epoch: multiples of 32 that rise evenly from `start_imgsz`, then `imgsz`, the last epoch always."""
        if self.start_imgsz is None or self.start_imgsz >= self.imgsz or epoch >= min(self.growth * self.epochs, self.epochs - 1):
            return self.imgsz
        steps = (self.imgsz - self.start_imgsz) // 32
        return self.start_imgsz + 32 * int(epoch / (self.growth * self.epochs) * steps)


def config_from(file: Path | None, options: dict[str, Any]) -> TrainConfig:
    """The values of a JSON file, then the options that are not None. Raises UsageError with everything that is wrong."""
    values = _read(file) if file else {}
    where = f"{file} and the options" if file and options else f"{file}" if file else "train"
    try:
        return _ADAPTER.validate_json(json.dumps({**values, **{name: value for name, value in options.items() if value is not None}}))
    except ValidationError as error:
        raise UsageError(f"{where}: {'; '.join(_problem(detail) for detail in error.errors())}") from error


def config_text(config: TrainConfig) -> str:
    return json.dumps(asdict(config), indent=1)


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from error
    except (ValueError, RecursionError) as error:  # not JSON, or JSON too deep or with numbers too long for Python
        raise UsageError(f"{file}: wanted JSON, as in the config.json of a run ({error})") from error
    if not isinstance(values, dict):
        raise UsageError(f"{file}: wanted a JSON object, as in the config.json of a run, got {type(values).__name__}")
    return values


def _problem(detail: Any) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "unexpected_keyword_argument":
        return f"{name} is not a key; known are {', '.join(TrainConfig.__dataclass_fields__)}"
    return f"{name}: {detail['msg'][0].lower()}{detail['msg'][1:]}, got {detail['input']!r}"


_ADAPTER = TypeAdapter(TrainConfig)
