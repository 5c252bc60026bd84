from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qtseg_edge.errors import QtsegError
from qtseg_edge.export.precision.ranges import Method, Ranges, activation_ranges, cached_ranges, largest_magnitudes
from tests.export.graphs import frames, residual, scaled


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "qtseg-edge" / "ranges"


def test_the_lowest_and_the_highest_value_over_all_images() -> None:
    images = [np.full((1, 8, 8, 3), level, np.uint8) for level in (51, 255, 102)]
    ranges = activation_ranges(scaled(-2.0), images, ("Mul",))
    assert ranges["x1"] == pytest.approx((-2.0, -0.4))
    assert largest_magnitudes(ranges)["x1"] == pytest.approx(2.0)


def test_only_what_the_asked_operations_read_and_write() -> None:
    ranges = activation_ranges(residual(), frames(1), ("Conv",))
    assert {"pixels", "stem.out", "block.sum", "logits"} <= set(ranges)
    assert not {"stem.act.gate", "probability"} & set(ranges)


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_methods_clip_what_is_rare(method: Method, capfd: pytest.CaptureFixture[str]) -> None:
    images, model = frames(6, size=48), residual(size=48)
    widest = activation_ranges(model, images, ("Conv",))
    found = activation_ranges(model, images, ("Conv",), method)
    assert found.keys() == widest.keys()
    assert any(largest_magnitudes(found)[name] < 0.999 * largest_magnitudes(widest)[name] for name in widest)
    assert capfd.readouterr() == ("", ""), "the calibrators talk"


def test_every_image_is_counted() -> None:
    told: list[int] = []
    activation_ranges(scaled(1.0), frames(3), ("Mul",), on_image=told.append)
    assert told == [1, 2, 3]


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(QtsegError, match=r"not finite .*the model is damaged"):
        activation_ranges(scaled(3e38, 3e38), frames(1), ("Mul",))


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
