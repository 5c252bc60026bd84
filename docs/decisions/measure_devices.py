"""The figures of 0004: `run` on the sample clip with every device in turn, and the masks of every device against float32.

python docs/decisions/measure_devices.py --data KVASIR-SEG/val
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from qtseg_edge.data import labelled_images, read_binary_mask, read_image
from qtseg_edge.metrics import agreement, foreground_overlap
from qtseg_edge.runtime import open_backend
from qtseg_edge.runtime.openvino import has_bf16
from qtseg_edge.runtime.openvino_library import openvino
from qtseg_edge.transforms import Letterbox

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "models" / "kvasir-seg-polyp.safetensors"
DEVICES = ["torch", "onnxruntime", "openvino:f32", "openvino:bf16"]


def main(
    data: Annotated[Path, typer.Option(help="A split with images/ and masks/.")],
    rounds: Annotated[int, typer.Option(help="Runs of each device, interleaved.")] = 5,
) -> None:
    if not has_bf16(openvino.Core()):
        DEVICES.remove("openvino:bf16")
        print("openvino:bf16  not measured: this CPU has no bfloat16 arithmetic")
    with tempfile.TemporaryDirectory() as folder:
        reports = [{device: run(device, Path(folder) / "out.mp4") for device in DEVICES} for _ in range(rounds)]
    slowest = median(report["torch"]["fps"] for report in reports)
    print(f"{'':14}   fps  x torch   infer p50   p95   end to end p50   p95")
    for device in DEVICES:
        fps, *latencies = (median(values) for values in zip(*(figures(report[device]) for report in reports), strict=True))
        print(
            f"{device:14} {fps:5.1f} {fps / slowest:8.2f} {latencies[0]:11.1f} {latencies[1]:5.1f} {latencies[2]:16.1f} {latencies[3]:5.1f}"
        )
    compare(data)


def run(device: str, output: Path) -> dict[str, Any]:
    model = ["--model", str(CHECKPOINT)] if device == "torch" else []
    command = [sys.executable, str(ROOT / "cli.py"), "run", "--video", str(ROOT / "samples" / "colonoscopy.mp4"), "-o", str(output)]
    result = subprocess.run([*command, "--device", device, "--json", *model], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def figures(report: dict[str, Any]) -> tuple[float, ...]:
    infer, end_to_end = report["latency_ms"]["infer"], report["latency_ms"]["end to end"]
    return report["fps"], infer["p50"], infer["p95"], end_to_end["p50"], end_to_end["p95"]


def compare(data: Path) -> None:
    backends = {device: open_backend(CHECKPOINT if device == "torch" else None, device) for device in DEVICES}
    equal: dict[str, list[float]] = {device: [] for device in DEVICES}
    dice: dict[str, list[float]] = {device: [] for device in DEVICES}
    for pair in labelled_images(data):
        image, labelled = read_image(pair.image), read_binary_mask(pair.mask)
        letterbox = Letterbox((image.shape[0], image.shape[1]), backends["torch"].spec.size_hw)
        masks = {device: backend.infer(letterbox.frame(image)[None]).mask[0].copy() for device, backend in backends.items()}
        for device, mask in masks.items():
            equal[device].append(agreement(mask, masks["openvino:f32"]))
            dice[device].append(foreground_overlap(mask, letterbox.mask(labelled)).dice)
    for device in DEVICES:
        print(f"{device:14} Dice {100 * np.mean(dice[device]):.2f}, {np.mean(equal[device]):.3%} of the pixels as openvino:f32")


if __name__ == "__main__":
    typer.run(main)
