"""How large every activation gets on real images: what scales of INT8 and the choice of float32 nodes rest on."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

from qtseg_edge.errors import QtsegError
from qtseg_edge.files import replacing

Uint8 = NDArray[np.uint8]
Method = Literal["minmax", "entropy", "percentile"]
METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile")
Ranges = dict[str, tuple[float, float]]
_ORT_METHODS = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
_OPTIONS: dict[str, dict[str, Any]] = {"minmax": {}, "entropy": {"symmetric": True}, "percentile": {"symmetric": True, "percentile": 99.99}}


def activation_ranges(
    model: ModelProto,
    frames: Iterable[Uint8],
    operations: tuple[str, ...] | None,
    method: Method = "minmax",
    on_image: Callable[[int], None] = lambda done: None,
) -> Ranges:
    """Lowest and highest value of what nodes of `operations` (all when None) read and write, by the method's judgement.

    frames: uint8 (N, H, W, 3) RGB, letterboxed, N as the graph takes it. Memory does not grow with their number.
    Raises QtsegError where a value is not finite.
    """
    with tempfile.TemporaryDirectory(prefix="qtseg-edge-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(path, operations, augmented, _ORT_METHODS[method], extra_options=_OPTIONS[method])
        with redirect_stdout(io.StringIO()):  # the calibrators print
            for done, frame in enumerate(frames, 1):  # one by one: of what they get at once they hold every activation
                calibrator.collect_data(_OneFrame(frame))
                on_image(done)
            found = calibrator.compute_data()
    ranges = {name: _pair(name, data.range_value) for name, data in found.items()}
    return {name: ranges[name] for name in sorted(ranges)}


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
