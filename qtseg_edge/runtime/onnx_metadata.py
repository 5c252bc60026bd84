"""The description inside an ONNX file, read without the onnx package and without loading its weights.

An ONNX file is one protobuf message, ModelProto; its field 14, `metadata_props`, holds entries of a key (1) and a value (2).
Everything else is skipped by its length. Wire format: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from qtseg_edge.errors import IncompatibleError, QtsegError, UsageError
from qtseg_edge.spec import SPEC_KEY, ModelSpec

_METADATA_PROPS = 14
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def spec_from_onnx(path: Path) -> ModelSpec:
    """Raises UsageError (no file), IncompatibleError (not ONNX, or not one of ours)."""
    if not path.is_file():
        raise UsageError(f"{path}: no such model; make one with: qtseg-edge export CHECKPOINT -o {path}")
    text = read_metadata(path).get(SPEC_KEY)
    if text is None:
        raise IncompatibleError(
            f"{path}: no {SPEC_KEY} in its metadata, so its classes and input are unknown; "
            "export it with: qtseg-edge export CHECKPOINT -o MODEL.onnx"
        )
    return ModelSpec.from_json(text)


def read_metadata(path: Path) -> dict[str, str]:
    """Every `metadata_props` entry. Raises QtsegError (not readable), IncompatibleError (not a whole protobuf message)."""
    try:
        with path.open("rb") as file:
            return dict(_entry(content) for content in _fields(file, path.stat().st_size, _METADATA_PROPS))
    except OSError as error:
        raise QtsegError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, EOFError) as error:
        raise IncompatibleError(f"{path}: not a whole ONNX file ({error})") from error


def _entry(content: bytes) -> tuple[str, str]:
    key = b"".join(_fields(io.BytesIO(content), len(content), 1))
    value = b"".join(_fields(io.BytesIO(content), len(content), 2))
    return key.decode("utf-8"), value.decode("utf-8")


def _fields(file: BinaryIO, size: int, wanted: int) -> Iterator[bytes]:
    """The contents of every length-delimited field with number `wanted`."""
    if size == 0:
        raise ValueError("empty")
    while file.tell() < size:
        tag = _varint(file)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise ValueError(f"no field number at byte {file.tell()}")
        if wire_type == _VARINT:
            _varint(file)
            continue
        lengths = {_FIXED64: 8, _FIXED32: 4}
        if wire_type != _LENGTH and wire_type not in lengths:
            raise ValueError(f"unknown wire type {wire_type} at byte {file.tell()}")
        length = _varint(file) if wire_type == _LENGTH else lengths[wire_type]
        if file.tell() + length > size:
            raise EOFError(f"ends {file.tell() + length - size} bytes early")
        if number == wanted and wire_type == _LENGTH:
            yield file.read(length)
        else:
            file.seek(length, io.SEEK_CUR)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError("ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number of more than 10 bytes")
