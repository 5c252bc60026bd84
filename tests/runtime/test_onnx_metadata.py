from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qtseg_edge.errors import IncompatibleError, QtsegError, UsageError
from qtseg_edge.runtime.onnx_metadata import read_metadata, spec_from_onnx
from qtseg_edge.spec import SPEC_KEY, ModelCard, ModelSpec
from tests.media import require_forbidden

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(key: str, value: str) -> bytes:
    return field(14, field(1, key.encode()) + field(2, value.encode()))


def file_of(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


@given(st.binary(max_size=400))
@example(b"\x72\xff\xff\xff\xff\xff\xff\xff\xff\x7f")  # a length beyond any file
@example(b"\x80" * 20)  # a number without an end
@example(b"\x72\x02\x0a\x05")  # an entry whose key is cut off
@example(field(14, field(1, b"\xff\xfe") + field(2, b"x")))  # a key that is no text
@in_one_folder
def test_arbitrary_bytes_are_incompatible_or_read_but_never_anything_else(tmp_path: Path, content: bytes) -> None:
    path = file_of(tmp_path, content)
    with pytest.raises(IncompatibleError, match=r"model\.onnx"):
        spec_from_onnx(path)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=60), max_size=5), st.binary(max_size=30))
@in_one_folder
def test_every_entry_is_read_and_other_fields_are_passed_over(tmp_path: Path, entries: dict[str, str], other: bytes) -> None:
    around = varint(1 << 3) + varint(10) + field(7, other) + varint(9 << 3 | 5) + b"abcd" + varint(2000 << 3 | 1) + b"12345678"
    content = around + b"".join(entry(key, value) + field(3, other) for key, value in entries.items())
    assert read_metadata(file_of(tmp_path, content)) == entries


def test_weights_that_look_like_metadata_are_not_read(tmp_path: Path) -> None:
    """Field 14 inside another field belongs to that one."""
    content = field(7, entry(SPEC_KEY, "fake")) + entry("a", "b")
    assert read_metadata(file_of(tmp_path, content)) == {"a": "b"}


def test_the_last_of_two_entries_of_a_key_counts_as_in_protobuf(tmp_path: Path) -> None:
    assert read_metadata(file_of(tmp_path, entry("a", "1") + entry("a", "2"))) == {"a": "2"}


def test_real_files_are_read_as_the_onnx_package_reads_them(small_onnx: Path) -> None:
    onnx = pytest.importorskip("onnx")
    wanted = {prop.key: prop.value for prop in onnx.load(small_onnx).metadata_props}
    assert read_metadata(small_onnx) == wanted
    assert SPEC_KEY in wanted
    assert len(wanted) > 1


def test_a_real_file_cut_anywhere_is_incompatible(small_onnx: Path, tmp_path: Path) -> None:
    content = small_onnx.read_bytes()
    offsets = {0, 1, 2, 3, 7, 64, *range(1000, len(content), len(content) // 60), *range(len(content) - 40, len(content))}
    for offset in sorted(offsets):
        with pytest.raises(IncompatibleError, match=r"model\.onnx"):
            spec_from_onnx(file_of(tmp_path, content[:offset]))
    assert spec_from_onnx(file_of(tmp_path, content)).size_hw == (64, 96)


def test_reading_does_not_load_the_weights(tmp_path: Path) -> None:
    """A gigabyte of weights that is not even on the disk (a hole in the file) is passed over."""
    size = 1 << 30
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.write(varint(7 << 3 | 2) + varint(size))
        file.seek(size, os.SEEK_CUR)
        file.write(entry("a", "b"))
    assert read_metadata(path) == {"a": "b"}


def test_a_file_without_our_key_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match=rf"no {SPEC_KEY} in its metadata, .*qtseg-edge export CHECKPOINT -o MODEL\.onnx"):
        spec_from_onnx(file_of(tmp_path, entry("author", "somebody")))


CARD = ModelCard("tiny", ("background", "polyp"), ((0, 0, 0), (0, 200, 120)), (64, 64), "scale")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    spec = ModelSpec(CARD, (32, 96), None, "ab" * 32)
    assert spec_from_onnx(file_of(tmp_path, entry(SPEC_KEY, spec.to_json()))) == spec


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "3", "{", '{"version": 1}', '{"version": 2}', '{"version": 1, "size_hw": "no"}'])
def test_a_description_that_is_none_is_incompatible(tmp_path: Path, text: str) -> None:
    with pytest.raises(IncompatibleError, match="export the model again"):
        spec_from_onnx(file_of(tmp_path, entry(SPEC_KEY, text)))


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.onnx: no such model; make one with"):
        spec_from_onnx(tmp_path / "model.onnx")


def test_a_file_that_may_not_be_read_is_reported(tmp_path: Path) -> None:
    path = file_of(tmp_path, entry("a", "b"))
    path.chmod(0)
    require_forbidden(path, os.R_OK)
    with pytest.raises(QtsegError, match="cannot be read"):
        read_metadata(path)
