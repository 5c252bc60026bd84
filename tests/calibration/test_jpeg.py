from __future__ import annotations

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.calibration.jpeg import is_bare
from tests.calibration.pictures import scene

PLAIN = cv2.imencode(".jpg", scene(0))[1].tobytes()


def with_segment(marker: int, payload: bytes) -> bytes:
    return PLAIN[:2] + bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload + PLAIN[2:]


def test_what_opencv_writes_is_bare() -> None:
    assert is_bare(PLAIN)
    assert is_bare(with_segment(0xEE, b"Adobe\x00\x64\x00\x00\x00\x00\x00"))  # how colours are coded


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xED, 0xEF, 0xFE])
def test_notes_of_any_kind_are_found(marker: int) -> None:
    assert not is_bare(with_segment(marker, b"JANE DOE"))


@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_bytes_crash_it_and_nothing_without_a_picture_is_bare(data: bytes, length: int) -> None:
    assert not is_bare(b"\xff\xd8" + data) or b"\xff\xda" in data
    assert not is_bare(PLAIN[:length]) or b"\xff\xda" in PLAIN[:length]
