"""A calibration set on disk: images, and a manifest.json that says what they are. Loading one checks all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.calibration.look import noise_or_flat
from qtseg_edge.data import IMAGE_SUFFIXES, pixels_sha256, read_image
from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.spec import ModelSpec
from qtseg_edge.transforms import Letterbox

Uint8 = NDArray[np.uint8]
MANIFEST = "manifest.json"
KIND = "qtseg-edge calibration set"
VERSION = 1
LEAST_IMAGES = 32
HELD_OUT_EVERY = 4
_ASSETS = Path(__file__).parents[1] / "assets" / "calibration"
_CHECKOUT = Path(__file__).parents[2] / "calibration" / "kvasir-seg"


@dataclass(frozen=True)
class CalibrationImage:
    """sha256: of the file. pixels_sha256: of shape and decoded RGB pixels. source, frame: file it came from and its number in there."""

    path: Path
    sha256: str
    pixels_sha256: str
    source: str
    frame: int
    held_out: bool


@dataclass(frozen=True)
class CalibrationSet:
    """manifest_sha256: of the manifest's bytes, and through the hashes in it of every image."""

    folder: Path
    images: tuple[CalibrationImage, ...]
    manifest_sha256: str

    @property
    def calibrating(self) -> tuple[CalibrationImage, ...]:
        return tuple(image for image in self.images if not image.held_out)

    @property
    def held_out(self) -> tuple[CalibrationImage, ...]:
        """Every fourth image: not calibrated on, kept to check the result with."""
        return tuple(image for image in self.images if image.held_out)

    def frames(self, spec: ModelSpec, images: Sequence[CalibrationImage]) -> Iterator[Uint8]:
        """(1, H, W, 3) RGB of each, letterboxed to `spec.size_hw` as the runtime does it; the caller's own."""
        for image in images:
            rgb = read_image(image.path)
            yield Letterbox((rgb.shape[0], rgb.shape[1]), spec.size_hw).frame(rgb)[np.newaxis]


def default_calibration_set() -> Path | None:
    """The folder with the set of the built-in polyp model: in the installed package, or in the checkout. None where neither has it."""
    return next((folder for folder in (_ASSETS, _CHECKOUT) if (folder / MANIFEST).is_file()), None)


def is_held_out(place: int) -> bool:
    """place: the image's, from 0, in the order of the manifest."""
    return place % HELD_OUT_EVERY == HELD_OUT_EVERY - 1


def load_calibration_set(folder: Path) -> CalibrationSet:
    """Read the manifest and every image, and check the one by the other.

    UsageError: no set, fewer than 32 images, images that changed, are missing, unlisted, twice the same, not readable, flat or noise.
    """
    data = _manifest_bytes(folder)
    images = _listed_images(folder, data)
    if len(images) < LEAST_IMAGES:
        raise UsageError(f"{folder}: wanted {LEAST_IMAGES} or more images, got {len(images)}; {_make_anew(folder)}")
    unlisted = sorted(_image_names(folder) - {image.path.name for image in images})
    if unlisted:
        raise UsageError(f"{folder}: {_named(unlisted)} not in its {MANIFEST}; {_make_anew(folder)}")
    _require_sound(folder, images)
    return CalibrationSet(folder, images, hashlib.sha256(data).hexdigest())


def _manifest_bytes(folder: Path) -> bytes:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; make a calibration set with: qtseg-edge calibrate SOURCE... -o {folder}")
    path = folder / MANIFEST
    if not path.is_file():
        raise UsageError(
            f"{folder}: wanted a calibration set, but it has no {MANIFEST}; make one with: qtseg-edge calibrate {folder} -o {folder}-set"
        )
    return path.read_bytes()


def _listed_images(folder: Path, manifest: bytes) -> tuple[CalibrationImage, ...]:
    try:
        document = parsed_manifest(manifest)
        images = tuple(_image(folder, place, entry) for place, entry in enumerate(document["images"]))
        if len({image.path for image in images}) != len(images):
            raise ValueError("a file is listed twice")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:150]
        raise UsageError(f"{folder / MANIFEST}: not the manifest of a calibration set ({reason}); {_make_anew(folder)}") from error
    return images


def parsed_manifest(data: bytes) -> dict[str, Any]:
    """Raises ValueError, KeyError, TypeError or RecursionError where it is none of this version."""
    document: dict[str, Any] = json.loads(data.decode("utf-8"))
    if document["kind"] != KIND or document["version"] != VERSION:
        raise ValueError(f"wanted {KIND!r} of version {VERSION}")
    return document


def image_entry(image: CalibrationImage, time_s: float) -> dict[str, Any]:
    """What the manifest says of one image."""
    fields = asdict(image)
    return {"file": fields.pop("path").name, **fields, "time_s": time_s}


def _image(folder: Path, place: int, entry: dict[str, Any]) -> CalibrationImage:
    name = entry["file"]
    if Path(name).name != name or Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{name!r} is no name of an image in this folder")
    if entry["held_out"] is not is_held_out(place):
        raise ValueError(f"held_out of {name} is not as every {HELD_OUT_EVERY}th image has it")
    return CalibrationImage(
        folder / name, str(entry["sha256"]), str(entry["pixels_sha256"]), str(entry["source"]), int(entry["frame"]), entry["held_out"]
    )


def _require_sound(folder: Path, images: Sequence[CalibrationImage]) -> None:
    changed, missing, faulty, digests = list[str](), list[str](), list[str](), dict[str, str]()
    for image in images:
        if not image.path.is_file():
            missing.append(image.path.name)
        elif hashlib.sha256(image.path.read_bytes()).hexdigest() != image.sha256:
            changed.append(image.path.name)
        else:
            rgb = _read(image)
            digest, fault = pixels_sha256(rgb), noise_or_flat(rgb)
            twin = digests.setdefault(digest, image.path.name)
            if fault:
                faulty.append(f"{image.path.name} ({fault})")
            elif twin != image.path.name:
                faulty.append(f"{image.path.name} (the same as {twin})")
            elif digest != image.pixels_sha256 and image.path.suffix != ".jpg":  # JPEG decoders may differ by a level
                changed.append(image.path.name)
    for names, what in ((missing, "missing"), (changed, f"not what {MANIFEST} says"), (faulty, "no use for calibration")):
        if names:
            raise UsageError(f"{folder}: {_named(names)} of {len(images)} images {what}; {_make_anew(folder)}")


def _read(image: CalibrationImage) -> Uint8:
    try:
        return read_image(image.path)
    except QtsegError as error:
        raise UsageError(f"{error}; {_make_anew(image.path.parent)}") from error


def _image_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{len(names)} ({shown})" if len(names) <= 3 else f"{len(names)} ({shown}...)"


def _make_anew(folder: Path) -> str:
    return f"make a set with: qtseg-edge calibrate SOURCE... -o {folder}"
