"""The sample clip through two whole programs, for measure_peers.py: `qtseg-edge run` and Ultralytics' `yolo segment predict`.

Ultralytics is AGPL-3.0: it is run from an environment of its own, for measuring only, and nothing here needs it. No weights can be had at
run time, so its network is as it is before training. Then every score at a stride equals the layer's bias (0.0123 at stride 32, less at the
others), so the threshold lets 121 candidates through and one detection is kept, as many as a frame with a polyp has.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.live_runs import ROOT, LiveRun, pictures

CLIP = ROOT / "samples" / "colonoscopy.mp4"
DEVICE = "openvino:f32"
PATIENCE = 300.0
YOLO = "yolo11n-seg"  # of the sizes and versions with a mask head the one whose arithmetic at 352x352 is nearest to ours
_CONFIDENCE, _MOST_DETECTIONS = 0.012, 1
_PACKAGES = ("ultralytics", "torch", "torchvision", "openvino", "opencv-python-headless", "opencv-python", "numpy")
_FRAME = re.compile(r"^video .*\(frame \d+/\d+\).*: (\d+x\d+) (.*), [\d.]+ms$", re.MULTILINE)
_SPEED = re.compile(r"^Speed: ([\d.]+)ms preprocess, ([\d.]+)ms inference, ([\d.]+)ms postprocess", re.MULTILINE)
_PREPARE = f"""
import json, sys
from importlib import metadata
import torch
from torch.utils.flop_counter import FlopCounterMode
from ultralytics import YOLO
from ultralytics.nn.tasks import SegmentationModel
side = int(sys.argv[1])
torch.manual_seed(0)
network = SegmentationModel("{YOLO}.yaml", nc=1, verbose=False).eval()
with FlopCounterMode(display=False) as counter, torch.no_grad():
    network(torch.zeros(1, 3, side, side))
whole = YOLO("{YOLO}.yaml")
whole.model = network
whole.save("{YOLO}.pt")
exported = YOLO("{YOLO}.pt").export(format="openvino", imgsz=side, batch=1)
parameters = sum(tensor.numel() for tensor in network.parameters())
versions = {{name: metadata.version(name) for name in {_PACKAGES} if any(metadata.distributions(name=name))}}
print()
print(json.dumps({{"model": exported, "parameters": parameters, "gmac": counter.get_total_flops() / 2e9, "versions": versions}}))
"""


@dataclass(frozen=True)
class VideoRun:
    """Seconds since the process was started: until the first frame's line is there, and until the process has ended.

    stages_ms: means, by the names that the program gives them.
    """

    frames: int
    first_seconds: float
    seconds: float
    stages_ms: dict[str, float]

    @property
    def fps(self) -> float:
        """Of the frames after the first, with finishing the file."""
        return (self.frames - 1) / (self.seconds - self.first_seconds)


class Ultralytics:
    """environment: a virtual environment with ultralytics and openvino; folder: where it may write."""

    def __init__(self, environment: Path, folder: Path, side: int) -> None:
        self._programs, self._folder, self._side = environment.absolute() / "bin", folder, side
        own = {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}  # it asks no server, installs nothing
        self._environment = {**os.environ, **own}
        command = [str(self._programs / "python"), "-c", _PREPARE, str(side)]
        done = subprocess.run(command, cwd=folder, env=self._environment, stdout=subprocess.PIPE, text=True, check=True)
        self.facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        self._model = self.facts.pop("model")

    def run(self) -> VideoRun:
        log = self._folder / "log.txt"
        what = [f"model={self._model}", f"source={CLIP}", f"imgsz={self._side}", f"conf={_CONFIDENCE}", f"max_det={_MOST_DETECTIONS}"]
        how = ["save=True", "device=cpu", f"project={self._folder / 'runs'}", "name=out", "exist_ok=True"]
        command = [str(self._programs / "yolo"), "segment", "predict", *what, *how]
        started = time.monotonic()
        with log.open("w") as out:
            process = subprocess.Popen(command, cwd=self._folder, env=self._environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            while not _FRAME.search(log.read_text(encoding="utf-8")):
                assert process.poll() is None and time.monotonic() - started < PATIENCE, log.read_text(encoding="utf-8")
                time.sleep(0.02)
            first = time.monotonic() - started
            code = process.wait(PATIENCE)
            seconds = time.monotonic() - started
        finally:
            process.kill()
        text = log.read_text(encoding="utf-8")
        assert code == 0, text
        frames, stages = frames_and_stages(text)
        assert {size for size, _ in frames} == {f"{self._side}x{self._side}"}, frames[0]
        self.facts["detections"] = sum(found for _, found in frames)
        return VideoRun(len(frames), first, seconds, stages)


def frames_and_stages(log: str) -> tuple[list[tuple[str, int]], dict[str, float]]:
    """Of each frame the network's size and how many objects of the one class, as `yolo predict` (8.4) prints them; ms of its stages."""
    speed = _SPEED.search(log)
    assert speed, f"no line of speeds in {log[-500:]!r}"
    frames = [(size, int(found.split()[0]) if found[0].isdigit() else 0) for size, found in _FRAME.findall(log)]
    return frames, dict(zip(("preprocess", "inference", "postprocess"), map(float, speed.groups()), strict=True))


def our_run(model: Path, cache: Path) -> VideoRun:
    """With a line of JSON for every frame beside the video, as the other prints one. cache: where the compiled model is kept."""
    arguments = ["--source", str(CLIP), "--model", str(model.absolute()), "-o", "out.mp4", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        with LiveRun(Path(folder), *arguments, device=DEVICE, environment={"XDG_CACHE_HOME": str(cache)}) as run:
            run.wait(pictures(1))
            first = time.monotonic() - run.started
            code = run.process.wait(PATIENCE)
            seconds = time.monotonic() - run.started
        assert code == 0, run.err
        report = json.loads(run.out)
    return VideoRun(report["frames"], first, seconds, {stage: values["mean"] for stage, values in report["latency_ms"].items()})
