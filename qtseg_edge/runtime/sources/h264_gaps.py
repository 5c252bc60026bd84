"""Finds lost pictures in H.264. The decoder makes them up from older ones, and those that refer to them, without a mark."""

from __future__ import annotations

import re

_SPS, _SLICE, _IDR_SLICE = 7, 1, 5
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_START = re.compile(rb"\x00\x00\x01")
_SLICE_HEAD_BYTES = 24  # all that is read of a slice, with room for escapes


class GapFinder:
    """Follows `frame_num`, which counts the pictures that others refer to. Reads Annex B (RTSP, MPEG-TS); sees no gap in anything else.

    It wraps at a power of two, 16 at least, and begins anew at a key frame. So of the losses that are that long, or hold a key frame, one
    in 16 or fewer leaves no gap.
    """

    def __init__(self, extradata: bytes | None) -> None:
        self._annex_b = not extradata or extradata[0] != 1
        self._bits: int | None = None  # of frame_num; None: unknown, or the encoder may leave numbers out
        self._planes = self._fields = False
        self._reference: int | None = None  # frame_num of the newest picture that others refer to
        if extradata:
            self.is_gap_before(extradata)

    def is_gap_before(self, packet: bytes) -> bool:
        """Whether a picture that others refer to is missing between the packet before and this one. Every packet is to be given."""
        if not self._annex_b:  # lengths instead of start codes, and some of them look like one
            return False
        for start in _START.finditer(packet):
            first = start.end()
            if first >= len(packet):
                return False
            kind = packet[first] & 31
            if kind == _SPS:
                self._read_sps(_unescaped(packet[first + 1 : first + 257]))
            elif kind in (_SLICE, _IDR_SLICE):
                return self._is_gap(packet[first], _unescaped(packet[first + 1 : first + 1 + _SLICE_HEAD_BYTES]))
        return False

    def _is_gap(self, head: int, slice_head: bytes) -> bool:
        if self._bits is None:
            return False
        bits = _Bits(slice_head)
        try:
            for _ in range(3):  # first macroblock, slice type, picture parameter set
                bits.unsigned()
            bits.take(2 if self._planes else 0)
            number = bits.take(self._bits)
        except EOFError:
            return False
        before = self._reference
        is_gap = False
        if (head & 31) != _IDR_SLICE and before is not None:
            step = (number - before) % (1 << self._bits)
            is_gap = step != 1 and not (step == 0 and self._fields)  # the second field of a picture has the number of the first
        if head >> 5 & 3:
            self._reference = number
        return is_gap

    def _read_sps(self, sps: bytes) -> None:
        bits = _Bits(sps)
        try:
            profile = bits.take(24) >> 16
            bits.unsigned()
            self._planes = _skip_high_profile(bits) if profile in _HIGH_PROFILES else False
            width = bits.unsigned() + 4
            self._bits = None if _allows_gaps(bits) or width > 16 else width
            bits.unsigned()  # width and height in macroblocks
            bits.unsigned()
            self._fields = bits.take(1) == 0
        except EOFError:
            self._bits = None


def _skip_high_profile(bits: _Bits) -> bool:
    """Whether the colour planes are coded one by one."""
    chroma = bits.unsigned()
    planes = chroma == 3 and bits.take(1) == 1
    bits.unsigned()
    bits.unsigned()
    bits.take(1)
    if bits.take(1):
        for index in range(12 if chroma == 3 else 8):
            if bits.take(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return planes


def _skip_scaling_list(bits: _Bits, count: int) -> None:
    last = 8
    for _ in range(count):
        last = (last + bits.signed()) % 256
        if last == 0:
            return


def _allows_gaps(bits: _Bits) -> bool:
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.take(1)
        bits.unsigned()
        bits.unsigned()
        for _ in range(bits.unsigned()):
            bits.unsigned()
    bits.unsigned()
    return bits.take(1) == 1


class _Bits:
    """Most significant bit first. Raises EOFError behind the last one."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def unsigned(self) -> int:
        """Exponential Golomb code."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def _unescaped(data: bytes) -> bytes:
    return data.replace(b"\x00\x00\x03", b"\x00\x00")
