"""The tables of 0016: the temporal filter with other numbers, on lesions that are seen at random, on the sample clip, and on a clip of
validation images with flashes.

python docs/decisions/measure_temporal.py --data KVASIR-SEG
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import av
import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from qtseg_edge.data import labelled_images, read_binary_mask, read_image
from qtseg_edge.runtime import Backend, Masks, open_backend
from qtseg_edge.runtime.temporal import filter as temporal_filter
from qtseg_edge.runtime.temporal import tracker
from qtseg_edge.sequences.evaluation import Variant, evaluate_sequence
from qtseg_edge.sequences.labelled import LabelledSequence
from qtseg_edge.sequences.measures import Measures, mean, measures

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "samples"))
from make_sample import FPS, HEIGHT, SHOTS, WIDTH, View, between, develop, handheld, source_from_frame, warp  # noqa: E402
from make_sample import Shot as CameraPath  # noqa: E402

SETTINGS = ((3, 6), (2, 2), (2, 4), (2, 6), (3, 3), (3, 4), (4, 6), (5, 6))  # confirm, window; the first are the filter's own
SHARES, FRAMES, DRAWS = (1.0, 0.7, 0.5, 0.3, 0.05), 25, 200_000
IMAGES, EMPTY_SECONDS, LESION_SECONDS, SEED = 10, 1.6, 2.4, 5
Uint8 = NDArray[np.uint8]


class Remembering(Backend):
    """Asks the network once about every picture."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.spec, self._backend = backend.name, backend.spec, backend
        self._known: dict[bytes, tuple[Uint8, Uint8]] = {}

    def _infer(self, image: Uint8) -> Masks:
        key = hashlib.blake2b(image.data).digest()
        if key not in self._known:
            found = self._backend.infer(image)
            self._known[key] = (cv2.imencode(".png", found.mask[0])[1], cv2.imencode(".png", found.confidence[0])[1])
        mask, confidence = (cv2.imdecode(array, cv2.IMREAD_UNCHANGED)[None] for array in self._known[key])
        return Masks(mask, confidence)


def main(data: Annotated[Path, typer.Option(help="Kvasir-SEG folder with val/images and val/masks.")]) -> None:
    seen_at_random()
    with tempfile.TemporaryDirectory() as folder, open_backend(None, "openvino:f32") as backend:
        images = write_clip(data / "val", Path(folder))
        remembering = Remembering(backend)
        table("samples/colonoscopy.mp4", remembering, ROOT / "samples" / "colonoscopy.mp4", ROOT / "samples" / "colonoscopy-masks")
        table(f"{images} validation images with flashes", remembering, Path(folder) / "clip.mp4", Path(folder) / "masks")


def seen_at_random() -> None:
    """No network: a region that stays in its place and is seen in each frame with the same probability."""
    print(f"seen in a share of the frames at random: shown within {FRAMES} frames, and in half of these cases after so many")
    print(f"{'':7}" + "".join(f"{share:14.0%}" for share in SHARES))
    random = np.random.default_rng(SEED).random((DRAWS, FRAMES), np.float32)
    for confirm, window in ((1, 1), *SETTINGS):
        cells = []
        for share in SHARES:
            so_far = np.cumsum(np.pad(random < share, ((0, 0), (window, 0))), axis=1)
            is_shown = (random < share) & (so_far[:, window:] - so_far[:, :-window] >= confirm)
            shown = is_shown.any(axis=1)
            cells.append(f"{shown.mean():8.1%} {np.median(is_shown[shown].argmax(axis=1)) if shown.any() else float('nan'):5.0f}")
        print(f"{confirm} of {window:<2}" + "".join(cells), flush=True)


def table(title: str, backend: Backend, clip: Path, masks: Path) -> None:
    print(f"\n{title}\n{'':7}   lesions   delay, frames    lesion frames   flicker  mask change  false/min  longest  empty marked  Dice")
    for number, (confirm, window) in enumerate(SETTINGS):
        # Read where a track and a filter are made: nothing but this script has a reason to change them.
        temporal_filter.CONFIRM, tracker.WINDOW = confirm, window  # type: ignore[misc]
        evaluation = evaluate_sequence(backend, LabelledSequence(clip, masks))
        shown: list[tuple[str, Variant]] = [("none", "without filter")] if number == 0 else []
        for name, variant in [*shown, (f"{confirm} of {window}", "with filter")]:
            print(f"{name:7} {line(measures(evaluation, variant))}", flush=True)


def line(found: Measures) -> str:
    delays = [span.frames for span in found.to_detection]
    longest = max((span.frames for span in found.false_events), default=0)
    return (
        f"{found.detected:3} of {found.lesions:2}   {np.median(delays):4.1f} (max {max(delays):2})   "
        f"{found.hit_frames:4} of {found.lesion_frames:4}  {found.flips / found.pairs:6.2%}  {mean(found.mask_changes):11.4f}  "
        f"{found.false_events_per_minute:9.1f}  {longest:7}  {found.marked_empty_frames:4} of {found.empty_frames:3}   "
        f"{100 * mean(found.dices):5.2f}"
    )


def write_clip(split: Path, folder: Path) -> int:
    """clip.mp4 and masks/. Returns how many images are in it."""
    (folder / "masks").mkdir()
    used = {shot.image for shot in SHOTS}
    images = [pair.image.name for pair in labelled_images(split) if pair.image.name not in used]
    shots = [shots for image in images if (shots := shots_of(split, image))][:IMAGES]
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", FPS, options={"preset": "fast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, (frame, mask) in enumerate(render(split, [shot for pair in shots for shot in pair])):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            cv2.imwrite(str(folder / "masks" / f"{index:06d}.png"), mask)
        container.mux(stream.encode(None))
    return len(shots)


def shots_of(split: Path, image: str) -> list[CameraPath]:
    """A view without the lesion, then one with it; nothing where the lesion leaves no such view, or is small or large."""
    mask = read_binary_mask(split / "masks" / image)
    if not 0.03 < mask.mean() < 0.25:
        return []
    for zoom in (2.2, 2.6):
        for cx in np.arange(0.25, 0.76, 0.05):
            for cy in np.arange(0.25, 0.76, 0.05):
                start, end = View(cx, cy, zoom, 1), View(cx, cy, 1.03 * zoom, -1)
                if is_empty(mask, View(cx, cy, 0.93 * zoom, 1)):
                    with_lesion = CameraPath(image, LESION_SECONDS, View(0.5, 0.5, 1.13, -2), View(0.51, 0.51, 1.3, 1))
                    return [CameraPath(image, EMPTY_SECONDS, start, end), with_lesion]
    return []


def is_empty(mask: Uint8, view: View) -> bool:
    try:
        return not warp(mask, source_from_frame(view), cv2.INTER_LINEAR).any()
    except ValueError:  # leaves the picture
        return False


def render(split: Path, shots: list[CameraPath]) -> Iterator[tuple[Uint8, Uint8]]:
    random = np.random.default_rng(SEED)
    counts = [round(shot.seconds * FPS) for shot in shots]
    firsts = np.cumsum([0, *counts[:-1]]).tolist()
    cuts = firsts[2::2]  # from one image to the next
    patch = None
    for shot, first, count in zip(shots, firsts, counts, strict=True):
        image, mask = read_image(split / "images" / shot.image), read_binary_mask(split / "masks" / shot.image)
        disturbed = disturbances(count, random)
        for index in range(count):
            matrix = source_from_frame(handheld(between(shot, index / count), (first + index) / FPS))
            frame = warp(image, matrix, cv2.INTER_CUBIC)
            label = np.where(warp(mask, matrix, cv2.INTER_LINEAR) > 0.5, 255, 0).astype(np.uint8)
            if index in disturbed and label.any():
                frame = 0.4 * cv2.blur(frame, (121, 1))  # a jerk of the hand, in which a lesion may be lost
            elif index in disturbed and patch is not None:
                frame = flashed(frame, *patch)
            yield develop(frame, first + index, cuts, random), label
        if label.any():
            patch = (frame, label)  # of this image, for flashes in the next


def disturbances(count: int, random: np.random.Generator) -> set[int]:
    """Of one frame or of two, 8 to 14 frames apart."""
    found: set[int] = set()
    index = int(random.integers(6, 12))
    while index < count - 4:
        found |= {index, index + int(random.integers(0, 2))}
        index += int(random.integers(8, 15))
    return found


def flashed(frame: NDArray[np.float32], other: NDArray[np.float32], label: Uint8) -> NDArray[np.float32]:
    """With what looks like a lesion, of another image and half as large, in the middle."""
    small, where = (cv2.resize(array, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) for array in (other, label))
    opacity = cv2.GaussianBlur(where, (15, 15), 0)[..., None] / np.float32(255)
    rows, columns = (slice(size // 4, size // 4 + size // 2) for size in (HEIGHT, WIDTH))
    frame = frame.copy()
    frame[rows, columns] = opacity * small + (1 - opacity) * frame[rows, columns]
    return frame


if __name__ == "__main__":
    typer.run(main)
