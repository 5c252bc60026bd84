from __future__ import annotations

from pathlib import Path

import pytest

from qtseg_edge.files import PendingFile, replacing
from tests.disks import small_disk


def test_the_file_appears_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with replacing(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        assert not path.exists()
        temporary.write_text("whole", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_lies_beside_hidden_and_with_the_same_suffix(tmp_path: Path) -> None:
    with replacing(tmp_path / "model.tar.onnx") as temporary:
        temporary.touch()
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".onnx"
        assert temporary.name.startswith(".")


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"older and longer")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"older and longer"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_keeps_the_older_file_and_leaves_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"older")
    with pytest.raises(error, match="midway"), replacing(path) as temporary:
        temporary.write_bytes(b"ne")
        raise error("midway")
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_before_anything_is_written_passes_through(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="first"), replacing(tmp_path / "a.bin"):
        raise ValueError("first")
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_writes_nothing_is_an_error_and_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"older")
    with pytest.raises(FileNotFoundError, match=r"\.part\.bin"), replacing(path):
        pass
    assert path.read_bytes() == b"older"


def test_two_files_of_one_folder_can_be_written_at_once(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.csv") as first, replacing(tmp_path / "b.csv") as second:
        first.write_text("1", encoding="utf-8")
        second.write_text("2", encoding="utf-8")
    assert [path.read_text(encoding="utf-8") for path in sorted(tmp_path.iterdir())] == ["1", "2"]


def test_a_pending_file_can_be_taken_back(tmp_path: Path) -> None:
    pending = PendingFile(tmp_path / "a.mp4")
    pending.temporary.write_bytes(b"half")
    pending.discard()
    pending.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_pending_file_that_cannot_take_its_name_goes_away(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    pending = PendingFile(tmp_path / "a.mp4")
    pending.temporary.write_bytes(b"whole")
    with pytest.raises(IsADirectoryError, match=r"a\.mp4"):
        pending.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(), pytest.raises(OSError, match="too large"), replacing(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(bytes(20_000))
    assert list(tmp_path.iterdir()) == []
