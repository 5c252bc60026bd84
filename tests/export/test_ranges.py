from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from qtseg_edge.errors import QtsegError
from qtseg_edge.export.precision.histogram import Method
from qtseg_edge.export.precision.ranges import Ranges, activation_ranges, cached_ranges, int8_ranges, largest_magnitudes
from tests.export.graphs import frames, residual, scaled

METHODS_BY_WIDTH: tuple[Method, ...] = ("minmax", "percentile", "entropy")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "qtseg-edge" / "ranges"


def test_the_lowest_and_the_highest_value_over_all_images() -> None:
    images = [np.full((1, 8, 8, 3), level, np.uint8) for level in (51, 255, 102)]
    ranges = activation_ranges(scaled(-2.0), images)
    assert ranges["x1"] == pytest.approx((-2.0, -0.4))
    assert largest_magnitudes(ranges)["x1"] == pytest.approx(2.0)


def test_int8_is_clipped_for_what_the_convolutions_read() -> None:
    ranges = int8_ranges(residual(), frames(2), ("block.first/Conv", "block.second/Conv"), "minmax")
    whole = activation_ranges(residual(), frames(2))
    assert set(ranges) == {"stem.act.silu", "block.first.act.silu"}
    for name, (low, high) in ranges.items():
        assert low == -high and high == pytest.approx(max(map(abs, whole[name])), rel=1e-5)


def test_methods_clip_what_is_rare() -> None:
    images, model, nodes = frames(6, size=48), residual(size=48), ("block.first/Conv", "block.second/Conv")
    widest, percentile, entropy = (largest_magnitudes(int8_ranges(model, images, nodes, method)) for method in METHODS_BY_WIDTH)
    assert all(percentile[name] < widest[name] and entropy[name] <= widest[name] for name in widest)


def test_every_image_is_counted() -> None:
    told: list[int] = []
    activation_ranges(scaled(1.0), frames(3), told.append)
    int8_ranges(residual(), frames(2), ("block.first/Conv",), "minmax", told.append)
    assert told == [1, 2, 3, 1, 2]


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(QtsegError, match=r"not finite .*the model is damaged"):
        activation_ranges(scaled(3e38, 3e38), frames(1))
    broken = residual()
    broken.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.full((16, 3, 3, 3), np.inf, np.float32), "stem.weight"))
    with pytest.raises(QtsegError, match=r"not finite; the model is damaged"):
        int8_ranges(broken, frames(1), ("block.first/Conv",), "minmax")


def test_ranges_are_measured_once_for_one_key(cache: Path) -> None:
    calls: list[int] = []

    def measured() -> Ranges:
        calls.append(1)
        return {"x": (-1.5, 2.0)}

    key = {"graph": "a", "manifest": "b", "operations": ("Conv",)}
    assert cached_ranges(key, measured) == cached_ranges(key, measured) == {"x": (-1.5, 2.0)}
    assert len(calls) == 1
    cached_ranges({**key, "graph": "c"}, measured)
    assert len(calls) == 2
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": 1}', b'{"key": {"graph": "a"}, "ranges": {"x": [1]}}', b"\xff"])
def test_a_damaged_cache_is_measured_again(cache: Path, damage: bytes) -> None:
    cached_ranges({"graph": "a"}, lambda: {"x": (0.0, 1.0)})
    (kept,) = cache.iterdir()
    kept.write_bytes(damage)
    assert cached_ranges({"graph": "a"}, lambda: {"x": (0.0, 2.0)}) == {"x": (0.0, 2.0)}
    assert cached_ranges({"graph": "a"}, dict) == {"x": (0.0, 2.0)}
