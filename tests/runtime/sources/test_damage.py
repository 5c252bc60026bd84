"""Streams of real encoders from which packets were taken, or in which bytes were changed: no picture that is not the encoder's is given."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.runtime.sources.h264_gaps import GapFinder
from qtseg_edge.runtime.sources.stream_reader import StreamReader

COUNT, RATE = 60, 25
NAMES = ["zero-latency", "high-b-frames", "open-gop", "baseline-long", "slices", "intra-refresh", "fields"]
SETTINGS = dict(
    zip(
        NAMES,
        [
            {"preset": "ultrafast", "tune": "zerolatency", "g": "15"},
            {"preset": "medium", "g": "20", "x264-params": "scenecut=0:bframes=3:ref=4:b-pyramid=normal"},
            {"preset": "medium", "g": "20", "x264-params": "scenecut=0:bframes=3:ref=4:open-gop=1"},
            {"preset": "fast", "profile": "baseline", "g": "18", "x264-params": "scenecut=0:ref=1"},
            {"preset": "fast", "tune": "zerolatency", "g": "20", "x264-params": "scenecut=0:slices=4"},
            {"preset": "fast", "tune": "zerolatency", "g": "30", "x264-params": "intra-refresh=1:ref=1"},
            {"preset": "fast", "g": "20", "x264-params": "scenecut=0:bframes=2:interlaced=1"},
        ],
        strict=True,
    )
)


class Coded(NamedTuple):
    data: bytes
    pts: int
    dts: int


def scene() -> list[NDArray[np.uint8]]:
    """A picture that moves all over, so that a wrong reference shows."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 160 + 2 * COUNT, 3), dtype=np.uint8)
    wide = cv2.normalize(cv2.GaussianBlur(noise, (9, 9), 0), np.empty_like(noise), 0, 255, cv2.NORM_MINMAX)
    return [np.ascontiguousarray(wide[:, 2 * index : 2 * index + 160]) for index in range(COUNT)]


@pytest.fixture(scope="module")
def encoded() -> dict[str, list[Coded]]:
    return {name: coded("libx264", options) for name, options in SETTINGS.items()}


def coded(codec: str, options: dict[str, str]) -> list[Coded]:
    with av.open(io.BytesIO(), "w", format="mpegts") as file:
        stream: Any = file.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        packets = []
        for index, rgb in enumerate(scene()):
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            packets += stream.encode(picture)
        packets += stream.encode(None)
    return [Coded(bytes(packet), packet.pts, packet.dts) for packet in packets]


def without(packets: Sequence[Coded], *numbers: int) -> list[Coded]:
    return [packet for number, packet in enumerate(packets) if number not in numbers]


def given(packets: Sequence[Coded], codec: str = "libx264") -> tuple[dict[int, NDArray[np.uint8]], int]:
    """Pictures by their time stamps, and how many were thrown away."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as file:
        stream: Any = file.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        file.start_encoding()
        for data, pts, dts in packets:
            packet = av.Packet(data)
            packet.pts, packet.dts, packet.time_base, packet.stream = pts, dts, Fraction(1, RATE), stream
            file.mux(packet)
    buffer.seek(0)
    with StreamReader(av.open(buffer, format="mpegts"), "x") as reader:
        reader._arrivals._is_current = True  # a file comes all at once
        stamps: list[int] = []
        captured_at = reader._arrivals.captured_at

        def noted(pts: int | None, fallback: float) -> float:
            stamps.append(pts or 0)
            return captured_at(pts, fallback)

        reader._arrivals.captured_at = noted  # type: ignore[method-assign]
        pictures = [frame.rgb for frame in reader]
        assert stamps == sorted(stamps)
        return dict(zip(stamps, pictures, strict=True)), reader.status.damaged


def are_the_encoders(pictures: dict[int, NDArray[np.uint8]], whole: dict[int, NDArray[np.uint8]]) -> bool:
    return all(stamp in whole and np.array_equal(picture, whole[stamp]) for stamp, picture in pictures.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_stream_has_no_gap_and_loses_nothing(encoded: dict[str, list[Coded]], name: str) -> None:
    finder = GapFinder(None)
    assert not [number for number, packet in enumerate(encoded[name]) if finder.is_gap_before(packet.data)]
    pictures, damaged = given(encoded[name])
    assert (len(pictures), damaged) == (COUNT, 0)


def is_reference(packet: Coded) -> bool:
    """Whether others refer to the picture: nal_ref_idc of its first slice."""
    at = 0
    while True:
        at = packet.data.index(b"\x00\x00\x01", at) + 3
        if packet.data[at] & 31 in (1, 5):
            return bool(packet.data[at] >> 5 & 3)


@pytest.mark.parametrize("name", NAMES)
def test_every_lost_picture_that_others_refer_to_is_found(encoded: dict[str, list[Coded]], name: str) -> None:
    packets = encoded[name]
    kinds = [is_reference(packet) for packet in packets]
    for lost in range(1, COUNT - 1):
        finder = GapFinder(None)
        gaps = [finder.is_gap_before(packet.data) for packet in without(packets, lost)]
        starts_anew = packets[lost + 1].data.find(b"\x00\x00\x01\x65") >= 0  # then it matters to nobody that one is missing
        assert any(gaps) == (kinds[lost] and not starts_anew), f"picture {lost}"
        assert not any(gaps[:lost])


@pytest.mark.parametrize("name", NAMES)
def test_no_picture_after_a_lost_one_is_made_up(encoded: dict[str, list[Coded]], name: str) -> None:
    packets = encoded[name]
    whole, _ = given(packets)
    for lost in range(2, COUNT - 2, 13):
        pictures, damaged = given(without(packets, lost))
        assert are_the_encoders(pictures, whole), f"picture {lost}"
        assert len(pictures) + damaged >= COUNT - 4
    assert damaged < COUNT / 2 or name == "intra-refresh"


def test_it_goes_on_at_the_next_key_frame(encoded: dict[str, list[Coded]]) -> None:
    pictures, damaged = given(without(encoded["zero-latency"], 20))
    missing = COUNT - len(pictures)
    assert (missing, damaged) == (10, 9)  # 20 to 29; the next key frame is 30


@pytest.mark.parametrize("name", ["zero-latency", "slices"])
def test_most_pictures_with_changed_bytes_are_found(encoded: dict[str, list[Coded]], name: str) -> None:
    """Not all: some changes leave something that can be decoded. With several threads it would be one in five."""
    packets, rng = encoded[name], random.Random(0)
    whole, _ = given(packets)
    wrong = 0
    for trial in range(12):
        number = 16 + trial if len(packets[16 + trial].data) > 300 else 20
        data = bytearray(packets[number].data)
        start = rng.randrange(100, len(data) - 60)
        data[start : start + 60] = bytes(60)
        pictures, _ = given([*packets[:number], packets[number]._replace(data=bytes(data)), *packets[number + 1 :]])
        wrong += not are_the_encoders(pictures, whole)
    assert wrong <= 3


def test_lost_pictures_are_found_in_hevc_too() -> None:
    packets = coded("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:scenecut=0:keyint=15:bframes=2"})
    whole, damaged = given(packets, "libx265")
    assert (len(whole), damaged) == (COUNT, 0)
    for lost in range(2, COUNT - 2, 13):
        assert are_the_encoders(given(without(packets, lost), "libx265")[0], whole), f"picture {lost}"


@pytest.mark.parametrize(
    "head", [b"", b"\x00\x00\x01", b"\x00\x00\x01\x67", b"\x00\x00\x01\x67\x64\x00\x1f\xff" + b"\xff" * 40, b"\x00\x00\x01\x41"]
)
def test_the_search_for_gaps_survives_anything(head: bytes, encoded: dict[str, list[Coded]]) -> None:
    finder, rng = GapFinder(head), random.Random(0)
    for _ in range(300):
        finder.is_gap_before(head + rng.randbytes(rng.randrange(60)))
    data = bytearray(encoded["high-b-frames"][0].data)
    for _ in range(300):
        data[rng.randrange(60)] = rng.randrange(256)
        finder.is_gap_before(bytes(data))


def test_lengths_of_another_form_are_not_taken_for_start_codes(encoded: dict[str, list[Coded]]) -> None:
    """FLV (RTMP) has lengths: 0x00000167 is one."""
    finder = GapFinder(b"\x01\x64\x00\x1f\xff\xe1")
    for packet in without(encoded["zero-latency"], 20):
        assert not finder.is_gap_before(packet.data)
