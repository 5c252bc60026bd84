"""Made pictures that pass for frames of an examination, one per seed, and what may be written on them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]


def scene(seed: int, size_hw: tuple[int, int] = (96, 128)) -> Uint8:
    """Broad patches of tissue colours with fine texture: another picture for every seed."""
    random = np.random.default_rng(seed)
    patches = random.uniform(0.3, 1.0, (4, 5, 1)) * np.array((230, 120, 100)) * random.uniform(0.7, 1.0, 3)
    broad = cv2.resize(patches, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(random.normal(0, 30, (*size_hw, 1)), (0, 0), 1.0)[..., np.newaxis]
    return np.clip(broad + fine, 25, 235).astype(np.uint8)


def noisy(frame: Uint8, seed: int) -> Uint8:
    """The same frame a moment later: sensor noise only."""
    return np.clip(frame + np.random.default_rng(seed).normal(0, 2, frame.shape), 0, 255).astype(np.uint8)


def in_circle(frame: Uint8) -> Uint8:
    """As an endoscope shows it: black outside."""
    height, width = frame.shape[:2]
    field = np.zeros((height, width), np.uint8)
    cv2.circle(field, (width // 2, height // 2), round(0.48 * min(height, width)), 1, cv2.FILLED)
    return frame * field[..., np.newaxis]


def labelled(frame: Uint8, text: str, at_xy: tuple[int, int]) -> Uint8:
    written = frame.copy()
    cv2.putText(written, text, at_xy, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    return written


def write(path: Path, rgb: Uint8, quality: int | None = None) -> Path:
    """PNG, or JPEG, by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    path.write_bytes(cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)[1].tobytes())
    return path


def write_scenes(folder: Path, seeds: range, suffix: str = ".png") -> Path:
    for seed in seeds:
        write(folder / f"scene{seed:03}{suffix}", scene(seed))
    return folder
