"""Whether a JPEG file holds anything but its picture."""

from __future__ import annotations

from pathlib import Path

_START, _SCAN = b"\xff\xd8", 0xDA
_APP0_JFIF, _APP14_ADOBE, _COMMENT = 0xE0, 0xEE, 0xFE
_NOTES = range(0xE0, 0xF0)
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length


def is_bare_jpeg(path: Path) -> bool:
    """True for a JPEG without Exif, XMP, comments or other notes, in which names and dates of patients travel unseen."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return False
    return is_bare(path.read_bytes())


def is_bare(data: bytes) -> bool:
    """The segments up to the picture are read; whatever does not read as such is not bare."""
    if not data.startswith(_START):
        return False
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _SCAN:
            return True
        if marker == _COMMENT or (marker in _NOTES and marker not in (_APP0_JFIF, _APP14_ADOBE)) or marker in _ALONE:
            return False
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
