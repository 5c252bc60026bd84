from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from qtseg_edge.runtime.sinks.h264 import H264Encoder

RATE, TIME_BASE = Fraction(25), Fraction(1, 90_000)


def encoder(options: dict[str, str]) -> H264Encoder:
    container = av.open(io.BytesIO(), "w", format="matroska")
    return H264Encoder(container, (720, 1280), options, rate=RATE, time_base=TIME_BASE, pixel_aspect=Fraction(1))


def test_zero_latency_holds_no_picture_back() -> None:
    """Threads that take a frame each would, and whoever looks would see the frame before."""
    encoding = encoder({"preset": "veryfast", "tune": "zerolatency"})
    for index in range(5):
        packets = encoding.encode(np.full((720, 1280, 3), 40 * index, np.uint8), 3600 * index)
        assert [packet.pts for packet in packets] == [3600 * index]


@pytest.mark.parametrize("step", [3600, 45_000, 300_000])
def test_a_key_frame_comes_every_two_seconds_whatever_the_rate(step: int) -> None:
    encoding = encoder({"preset": "veryfast", "tune": "zerolatency"})
    picture = np.full((720, 1280, 3), 90, np.uint8)
    packets = [packet for index in range(-(-400_000 // step)) for packet in encoding.encode(picture, step * index)]
    keys = [packet.pts for packet in packets if packet.is_keyframe and packet.pts is not None]
    assert keys == list(range(0, 400_000, max(step, 180_000)))
