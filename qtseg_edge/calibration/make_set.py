"""`qtseg-edge calibrate`: candidates, choice, files and manifest. The set appears under its name when all of it is written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from qtseg_edge import __version__
from qtseg_edge.calibration.calibration_set import (
    KIND,
    LEAST_IMAGES,
    MANIFEST,
    VERSION,
    CalibrationImage,
    image_entry,
    is_held_out,
    parsed_manifest,
)
from qtseg_edge.calibration.choose import choose, coverage
from qtseg_edge.calibration.frames import Candidate, Stream, candidates_of, chosen_frames, streams_of
from qtseg_edge.calibration.jpeg import is_bare_jpeg
from qtseg_edge.calibration.look import FAULTS
from qtseg_edge.console import OnProgress
from qtseg_edge.data import pixels_sha256
from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime.frames import Frame

MOST_IMAGES = 1024
_CANDIDATES_PER_IMAGE, _LEAST_CANDIDATES, _MOST_CANDIDATES = 16, 1024, 4096  # of all streams together; all pairs of them are compared
_SELECTED = (
    "candidates evenly over time, 0.2 s apart or more in a video; flat, noisy, dark, overexposed and blurred ones left out; then in turns "
    "the candidate that stands for most others and the one least like those chosen (colour grid and gradients of the content area, time), "
    "each source in its turn; near-duplicates refused, burnt-in text and boxes only where the others do not suffice; every fourth image "
    "held out"
)


@dataclass(frozen=True)
class MadeSet:
    """manifest: the content of its manifest.json. notices: what the reader should know, one line each."""

    folder: Path
    manifest: dict[str, Any]
    notices: list[str]


def make_calibration_set(sources: Sequence[str], count: int, out: Path, advance: OnProgress, credit: str = "") -> MadeSet:
    """Choose at most `count` frames of videos, images, folders or patterns, and write them with their manifest; or write nothing.

    out: new, empty, or an older calibration set, which is replaced. credit: of the pictures, for the manifest. The same sources give the
    same bytes. Raises UsageError (arguments, fewer than 32 frames that differ), QtsegError (a source that cannot be read), OSError.
    """
    if not LEAST_IMAGES <= count <= MOST_IMAGES:
        raise UsageError(f"--count: wanted {LEAST_IMAGES} to {MOST_IMAGES}, got {count}")
    streams = streams_of(sources)
    _require_free(out, streams)
    limit = min(max(_CANDIDATES_PER_IMAGE * count, _LEAST_CANDIDATES), _MOST_CANDIDATES)
    looked = _looked_at(streams, limit, advance)
    usable = [candidate for candidate in looked if candidate.look.fault is None]
    chosen = choose(usable, count)
    left_out = Counter(candidate.look.fault for candidate in looked if candidate.look.fault)
    if len(chosen) < LEAST_IMAGES:
        raise UsageError(_too_few(len(chosen), looked, left_out))
    taken = [usable[index] for index in chosen]
    with _replacing_set(out) as folder:
        entries = _write_images(folder, streams, taken, advance)
        manifest = {
            "kind": KIND,
            "version": VERSION,
            "qtseg_edge": __version__,
            "credit": credit,
            "selected": _SELECTED,
            "wanted": count,
            "candidates": len(looked),
            "left_out": {fault: left_out[fault] for fault in FAULTS},
            "burnt_in": {name: sum(c.look.burnt_in for c in part) for name, part in (("candidates", usable), ("chosen", taken))},
            "coverage": asdict(coverage(usable, chosen)),
            "sources": _source_entries(streams, looked, taken),
            "images": entries,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return MadeSet(out, manifest, _notices(manifest))


def manifest_rows(manifest: dict[str, Any]) -> tuple[list[str], list[list[str]], str]:
    """Columns, rows and title: what became of the candidates, how well the chosen stand for them, how light and colour spread."""
    cover, images = manifest["coverage"], manifest["images"]
    held_out = sum(image["held_out"] for image in images)
    rows = [["candidates", str(manifest["candidates"])]]
    rows += [[f"left out: {fault}", str(number)] for fault, number in manifest["left_out"].items() if number]
    rows += [[f"with burnt-in text or box, {name}", str(number)] for name, number in manifest["burnt_in"].items() if number]
    rows += [[f"chosen from {source['name']}", f"{source['chosen']} of {source['candidates']}"] for source in manifest["sources"]]
    rows += [["chosen", f"{len(images)} ({held_out} held out)"]]
    rows += [["candidates covered", f"{100 * cover['covered']:.1f} %"]]
    rows += [
        ["distance to the nearest chosen, median / largest", f"{cover['median_distance']:.3f} / {cover['largest_distance']:.3f}"],
        ["distance between two candidates, median", f"{cover['typical_distance']:.3f}"],
    ]
    for what in ("brightness", "saturation"):
        for name, levels in cover[what].items():
            rows.append([f"{what} of {name}, 5 / 50 / 95 %", " / ".join(f"{level:.2f}" for level in levels)])
    title = f"{len(images)} images. Covered: a chosen frame is more like it than 95 % of all pairs of candidates are."
    return ["", "frames"], rows, title


def _looked_at(streams: Sequence[Stream], limit: int, advance: OnProgress) -> list[Candidate]:
    """The candidates of all streams, those with a fault too."""
    looked: list[Candidate] = []
    done = 0

    def on_look() -> None:
        nonlocal done
        done += 1
        advance(done, None, "looked at")

    for number, stream in enumerate(streams):
        looked += candidates_of(number, stream, -(-limit // len(streams)), on_look)
    return looked


def _write_images(folder: Path, streams: Sequence[Stream], taken: Sequence[Candidate], advance: OnProgress) -> list[dict[str, Any]]:
    """Images by stream and time; every fourth is held out, so that both parts show all of it."""
    entries: list[dict[str, Any]] = []
    for number, stream in enumerate(streams):
        of_stream = [candidate for candidate in taken if candidate.stream == number]
        for candidate, frame in chosen_frames(stream, of_stream):
            path = _write_image(folder / f"{len(entries):04}", frame)
            image = CalibrationImage(
                path=path,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                pixels_sha256=pixels_sha256(frame.rgb),
                source=Path(frame.source).name,
                frame=candidate.index,
                held_out=is_held_out(len(entries)),
            )
            entries.append(image_entry(image, round(float(candidate.time), 3)))
            advance(len(entries), len(taken), "written")
    return entries


def _write_image(stem: Path, frame: Frame) -> Path:
    """PNG, but a JPEG file that is pixels and nothing else is copied: the same pixels in a fraction of the bytes."""
    if is_bare_jpeg(Path(frame.source)):
        return Path(shutil.copyfile(frame.source, stem.with_suffix(".jpg")))
    written, encoded = cv2.imencode(".png", cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR))
    if not written:
        raise QtsegError(f"{frame.source}: frame {frame.index} could not be written as PNG")
    path = stem.with_suffix(".png")
    path.write_bytes(encoded.tobytes())
    return path


def _source_entries(streams: Sequence[Stream], looked: Sequence[Candidate], taken: Sequence[Candidate]) -> list[dict[str, Any]]:
    of_looked, of_taken = (Counter(candidate.stream for candidate in part) for part in (looked, taken))
    return [{"name": stream.name, "candidates": of_looked[n], "chosen": of_taken[n]} for n, stream in enumerate(streams)]


def _too_few(chosen: int, looked: Sequence[Candidate], left_out: Counter[Any]) -> str:
    faults = "".join(f", {number} {fault}" for fault, number in left_out.most_common())
    return (
        f"calibrate: wanted {LEAST_IMAGES} or more frames that differ, found {chosen} among {len(looked)} candidates"
        f"{faults}; give more or longer sources: qtseg-edge calibrate A.mp4 B.mp4 FOLDER -o DIR"
    )


def _notices(manifest: dict[str, Any]) -> list[str]:
    notices = []
    if len(manifest["images"]) < manifest["wanted"]:
        notices.append(f"{manifest['wanted']} images were wanted, {len(manifest['images'])} frames differ enough; more sources give more")
    if manifest["burnt_in"]["chosen"]:
        notices.append(f"{manifest['burnt_in']['chosen']} chosen images may show burnt-in text or a position box: nothing else was left")
    return notices


def _require_free(out: Path, streams: Sequence[Stream]) -> None:
    final = out.resolve()
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; wanted the name of a new folder")
    if not final.parent.is_dir():
        raise UsageError(f"{out.parent}: no such folder; create it with: mkdir -p {out.parent}")
    if any(final in path.resolve().parents for stream in streams for path in stream.files):
        raise UsageError(f"{out}: holds the sources, and would be replaced; name another folder")
    if out.is_dir() and any(out.iterdir()) and not _is_ours(out):
        raise UsageError(f"{out}: holds other files than a calibration set; name a new folder, or remove this one with: rm -r {out}")


def _is_ours(out: Path) -> bool:
    """Everything in it was written by `calibrate`, so that nothing else is lost with it."""
    try:
        names = {str(image["file"]) for image in parsed_manifest((out / MANIFEST).read_bytes())["images"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return {path.name for path in out.iterdir()} <= names | {MANIFEST}


@contextmanager
def _replacing_set(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`; on success it takes that name and what was there goes, on any error only it is removed."""
    final = out.resolve()
    temporary, older = (final.with_name(f".{final.name}.{os.getpid()}.{what}") for what in ("part", "old"))
    temporary.mkdir()
    try:
        yield temporary
        if final.is_dir():
            final.rename(older)
        try:
            temporary.rename(final)
        except OSError:
            if older.is_dir():
                older.rename(final)
            raise
        shutil.rmtree(older, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
