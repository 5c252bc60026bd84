"""Dice with and without `--roi auto`, how well the area is found, and what looking costs: the figures of 0017-roi.md.

python docs/decisions/measure_roi.py --data KVASIR-SEG/val [FOLDER ...]: of the images of other folders only how many would be cropped.

The images as they are, and as a video system shows them: in a 1280x720 frame, black around them, text at the left; as they are squared, and
widened again by 1.2. Every frame is judged by itself. Scores are taken at the frame's size. `known` is `--roi` with the true place.
How well the place was found is told of the images that have no border of their own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.data import image_files, labelled_images, read_binary_mask, read_image
from qtseg_edge.metrics import foreground_overlap
from qtseg_edge.runtime import Segmenter, open_backend
from qtseg_edge.runtime.backend import Backend
from qtseg_edge.runtime.roi.area import Roi
from qtseg_edge.runtime.roi.content_area import Box, find_content

Uint8 = NDArray[np.uint8]
FRAME_HW = (720, 1280)
CONTENT_H = 690
TEXT = ("12/05/2016", "10:22:31", "CVP: 2", "D.O.B.", "Sex:   Age:", "Name:", "Comment:")
Scene = Callable[[Uint8, Uint8], tuple[Uint8, Uint8, Box]]  # picture and label -> frame, label and where the picture is in it


@dataclass
class Scores:
    dice: dict[str, list[float]] = field(default_factory=lambda: {"none": [], "auto": [], "known": []})
    overlaps: list[float] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)
    looks_ms: list[float] = field(default_factory=list)
    frames: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="openvino:f32")
    parser.add_argument("folders", type=Path, nargs="*")
    arguments = parser.parse_args()
    pairs = [(read_image(pair.image), read_binary_mask(pair.mask)) for pair in labelled_images(arguments.data)]
    scenes: dict[str, Scene] = {"as it is": as_it_is}
    scenes |= {f"{shape}, width x {width}": pasted(shape, width) for shape in ("circle", "octagon") for width in (1.0, 1.2)}
    print(f"{'':22s} Dice: none   auto  known   found of  IoU: least  median   cut: most   look: ms")
    with open_backend(None, arguments.device) as backend:
        for name, scene in scenes.items():
            print(row(name, scores_of(backend, scene, pairs)), flush=True)
    for folder in arguments.folders:
        pictures = [read_image(path) for path in image_files(folder)]
        cropped = sum(has_border(picture) for picture in pictures)
        print(f"{folder}: {cropped} of {len(pictures)} cropped")


def row(name: str, scores: Scores) -> str:
    none, auto, known = (100 * np.mean(values) for values in scores.dice.values())
    found = f"{len(scores.overlaps):6d} {scores.frames:3d}"
    where = f"{min(scores.overlaps):11.3f} {np.median(scores.overlaps):7.3f} {100 * max(scores.cuts):9.1f} %" if scores.overlaps else ""
    return f"{name:22s} {none:10.2f} {auto:6.2f} {known:6.2f} {found} {where} {np.median(scores.looks_ms):10.2f}"


def scores_of(backend: Backend, scene: Scene, pairs: list[tuple[Uint8, Uint8]]) -> Scores:
    scores = Scores()
    for picture, label in pairs:
        frame, labelled, place = scene(picture, label)
        rois: dict[str, Roi] = {"none": "none", "auto": "auto", "known": place}
        for name, roi in rois.items():
            scores.dice[name].append(foreground_overlap(Segmenter(backend, roi=roi).segment(frame).mask, labelled).dice)
        started = time.perf_counter()
        content = find_content(frame)
        scores.looks_ms.append((time.perf_counter() - started) * 1e3)
        if has_border(picture):
            continue
        scores.frames += 1
        if content is not None and content.is_outlined:
            scores.overlaps.append(overlap(content.box, place))
            scores.cuts.append(cut_off(content.box, place))
    return scores


def has_border(picture: Uint8) -> bool:
    content = find_content(picture)
    return content is not None and content.is_outlined and content.box != (0, 0, picture.shape[1], picture.shape[0])


def as_it_is(picture: Uint8, label: Uint8) -> tuple[Uint8, Uint8, Box]:
    return picture, label, (0, 0, picture.shape[1], picture.shape[0])


def pasted(shape: str, width: float) -> Scene:
    """The picture as `shape`, right of the middle as beside a column of text, as JPEG would bring it."""

    def scene(picture: Uint8, label: Uint8) -> tuple[Uint8, Uint8, Box]:
        w, h = round(CONTENT_H * width), CONTENT_H
        inside = outline(shape, h, w)
        x, y = FRAME_HW[1] - w - 60, (FRAME_HW[0] - h) // 2
        frame, labelled = np.zeros((*FRAME_HW, 3), np.uint8), np.zeros(FRAME_HW, np.uint8)
        frame[y : y + h, x : x + w] = cv2.resize(picture, (w, h), interpolation=cv2.INTER_CUBIC) * inside[..., None]
        labelled[y : y + h, x : x + w] = cv2.resize(label, (w, h), interpolation=cv2.INTER_NEAREST_EXACT) * inside
        for line, text in enumerate(TEXT):
            cv2.putText(frame, text, (30, 80 + 60 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (230, 230, 230), 2, cv2.LINE_AA)
        encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR), labelled, (x, y, w, h)  # type: ignore[return-value]

    return scene


def outline(shape: str, h: int, w: int) -> Uint8:
    """(h, w) of 0 and 1; an ellipse where it is wider than high."""
    inside = np.zeros((h, w), np.uint8)
    if shape == "circle":
        cv2.ellipse(inside, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 1, cv2.FILLED)
    else:
        a, b = round(0.18 * w), round(0.18 * h)
        corners = [(a, 0), (w - 1 - a, 0), (w - 1, b), (w - 1, h - 1 - b), (w - 1 - a, h - 1), (a, h - 1), (0, h - 1 - b), (0, b)]
        cv2.fillPoly(inside, [np.array(corners, np.int32)], 1)
    return inside


def overlap(found: Box, true: Box) -> float:
    (x, y, w, h), (tx, ty, tw, th) = found, true
    common = max(0, min(x + w, tx + tw) - max(x, tx)) * max(0, min(y + h, ty + th) - max(y, ty))
    return common / (w * h + tw * th - common)


def cut_off(found: Box, true: Box) -> float:
    """How far the picture reaches beyond what was found, of its longest side."""
    (x, y, w, h), (tx, ty, tw, th) = found, true
    return max(0, x - tx, y - ty, tx + tw - x - w, ty + th - y - h) / max(tw, th)


if __name__ == "__main__":
    main()
