"""How large every activation gets on real images: what scales of INT8 and the choice of float32 nodes rest on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

from qtseg_edge.errors import QtsegError
from qtseg_edge.export.precision.histogram import Histogram, Method
from qtseg_edge.files import replacing

Uint8 = NDArray[np.uint8]
Ranges = dict[str, tuple[float, float]]


def activation_ranges(model: ModelProto, frames: Iterable[Uint8], on_image: Callable[[int], None] = lambda done: None) -> Ranges:
    """Lowest and highest value of every activation.

    frames: uint8 (N, H, W, 3) RGB, letterboxed, N as the graph takes it. Memory does not grow with their number.
    Raises QtsegError where a value is not finite.
    """
    with tempfile.TemporaryDirectory(prefix="qtseg-edge-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(path, None, str(Path(folder) / "augmented.onnx"), CalibrationMethod.MinMax)
        for done, frame in enumerate(frames, 1):  # one by one: the calibrator keeps what it is given until it has computed
            calibrator.collect_data(_OneFrame(frame))
            on_image(done)
        found = calibrator.compute_data()
    ranges = {name: _pair(name, data.range_value) for name, data in found.items()}
    return {name: ranges[name] for name in sorted(ranges)}


def int8_ranges(
    model: ModelProto,
    frames: Iterable[Uint8],
    nodes: tuple[str, ...],
    method: Method,
    on_image: Callable[[int], None] = lambda done: None,
) -> Ranges:
    """What the first inputs of `nodes` are clipped to, symmetric. frames, errors: as of `activation_ranges`."""
    read = sorted({node.input[0] for node in model.graph.node if node.name in nodes})
    session = _showing(model, read)
    histograms = {name: Histogram() for name in read}
    for done, frame in enumerate(frames, 1):
        for name, values in zip(read, session.run(read, {"image": frame}), strict=True):
            if not np.isfinite(values).all():
                raise QtsegError(f"calibration: {name} takes values that are not finite; the model is damaged")
            histograms[name].add(values)
        on_image(done)
    thresholds = {name: histogram.threshold(method) for name, histogram in histograms.items()}
    return {name: (-threshold, threshold) for name, threshold in thresholds.items()}


def _showing(model: ModelProto, names: list[str]) -> onnxruntime.InferenceSession:
    """A session whose outputs are activations."""
    shown = ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])


def largest_magnitudes(ranges: Ranges) -> dict[str, float]:
    return {name: max(abs(low), abs(high)) for name, (low, high) in ranges.items()}


def cached_ranges(key: Mapping[str, Any], compute: Callable[[], Ranges]) -> Ranges:
    """What `compute` gives, kept in the user's cache folder under the hash of `key`: graph, manifest, method and what else counts."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    path = _cache_folder() / f"{digest[:32]}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == json.loads(json.dumps(key)):
            return {str(name): (float(low), float(high)) for name, (low, high) in kept["ranges"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # absent or damaged: it is only a cache
    ranges = compute()
    with contextlib.suppress(OSError):  # a folder that cannot be written costs time at the next build, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"key": key, "ranges": ranges}), encoding="utf-8")
    return ranges


class _OneFrame(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, frame: Uint8) -> None:
        self._left = [{"image": frame}]

    def get_next(self) -> dict[str, Uint8] | None:
        return self._left.pop() if self._left else None


def _pair(name: str, range_value: tuple[Any, Any]) -> tuple[float, float]:
    low, high = (float(np.asarray(value).reshape(-1)[0]) for value in range_value)
    if not np.isfinite((low, high)).all():
        raise QtsegError(f"calibration: {name} takes values that are not finite ({low} to {high}); the model is damaged")
    return low, high


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qtseg-edge" / "ranges"
