from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.runtime import compiled_cache
from qtseg_edge.runtime.compiled_cache import entry_path, read_entry, write_entry
from tests.disks import small_disk


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "qtseg-edge" / "engine"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_written_is_read_into_the_room_that_is_made_for_it(cache_folder: Path) -> None:
    path = entry_path("engine", "model", "1.0")
    write_entry(path, b"compiled")
    assert read_entry(path, bytearray) == b"compiled"
    assert path.parent == cache_folder and names_in(cache_folder) == [path.name]


def test_every_part_of_the_key_has_an_entry_of_its_own() -> None:
    keys = [("model",), ("other",), ("model", "1"), ("model", "2"), ("model", "1", "")]
    assert len({entry_path("engine", *key) for key in keys}) == len(keys)
    assert entry_path("engine", "model") != entry_path("another", "model")


@given(st.data())
def test_a_changed_bit_or_a_missing_byte_is_noticed(data: st.DataObject) -> None:
    path = entry_path("engine", "model")
    write_entry(path, bytes(range(100)))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        content[data.draw(st.integers(0, len(content) - 1), "byte")] ^= 1 << data.draw(st.integers(0, 7), "bit")
    path.write_bytes(content)
    assert read_entry(path, bytearray) is None


def test_an_entry_under_the_name_of_another_is_not_used() -> None:
    write_entry(entry_path("engine", "model"), b"compiled")
    entry_path("engine", "model").rename(entry_path("engine", "other"))
    assert read_entry(entry_path("engine", "other"), bytearray) is None


def test_the_folder_is_this_users_alone(cache_folder: Path) -> None:
    path = entry_path("engine", "model")
    write_entry(path, b"compiled")
    assert cache_folder.stat().st_mode & 0o777 == 0o700
    cache_folder.chmod(0o777)
    assert read_entry(path, bytearray) == b"compiled"
    assert cache_folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to another user needs root")
def test_nothing_is_read_from_the_folder_of_another_user(cache_folder: Path) -> None:
    path = entry_path("engine", "model")
    write_entry(path, b"compiled")
    os.chown(cache_folder, 65534, -1)
    assert read_entry(path, bytearray) is None
    write_entry(path, b"again")
    os.chown(cache_folder, 0, -1)
    assert read_entry(path, bytearray) == b"compiled"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another user needs root")
@pytest.mark.parametrize("open_to_others", [False, True])
def test_what_another_user_has_put_there_is_not_used(cache_folder: Path, open_to_others: bool) -> None:
    path = entry_path("engine", "model")
    write_entry(path, b"compiled")
    cache_folder.chmod(0o777)
    if open_to_others:
        path.chmod(0o666)
    else:
        os.chown(path, 65534, -1)
    assert read_entry(path, bytearray) is None
    write_entry(path, b"again")
    assert read_entry(path, bytearray) == b"again"


def test_what_is_written_is_read_whatever_the_umask() -> None:
    before = os.umask(0)
    try:
        write_entry(entry_path("engine", "model"), b"compiled")
    finally:
        os.umask(before)
    assert read_entry(entry_path("engine", "model"), bytearray) == b"compiled"


def test_nothing_is_read_through_a_link(cache_folder: Path, tmp_path: Path) -> None:
    path = entry_path("engine", "model")
    write_entry(path, b"compiled")
    cache_folder.rename(tmp_path / "elsewhere")
    cache_folder.symlink_to(tmp_path / "elsewhere")
    assert read_entry(path, bytearray) is None


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way", encoding="utf-8")
    write_entry(entry_path("engine", "model"), b"compiled")
    assert read_entry(entry_path("engine", "model"), bytearray) is None


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(cls: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", classmethod(homeless))
    write_entry(entry_path("engine", "model"), b"compiled")
    assert read_entry(entry_path("engine", "model"), bytearray) is None


def test_a_full_disk_is_no_error_and_leaves_nothing(cache_folder: Path) -> None:
    path = entry_path("engine", "model")
    with small_disk():
        write_entry(path, bytes(20_000))
    assert names_in(cache_folder) == []


def test_a_full_disk_keeps_what_was_there() -> None:
    path = entry_path("engine", "model")
    write_entry(path, b"compiled")
    with small_disk():
        write_entry(path, bytes(20_000))
    assert read_entry(path, bytearray) == b"compiled"


def test_those_used_least_lately_go(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    monkeypatch.setattr(compiled_cache, "_LARGEST_BYTES", 3 * 132)
    paths = [entry_path("engine", str(number)) for number in range(4)]
    for number, path in enumerate(paths[:3]):
        write_entry(path, bytes(100))
        os.utime(path, (number, number))
    assert read_entry(paths[0], bytearray) == bytes(100)
    write_entry(paths[3], bytes(100))
    assert names_in(cache_folder) == sorted(path.name for path in (paths[0], paths[2], paths[3]))


def test_what_a_killed_process_left_goes_in_its_turn(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    monkeypatch.setattr(compiled_cache, "_LARGEST_BYTES", 1000)
    write_entry(entry_path("engine", "0"), bytes(100))
    (cache_folder / ".left.1.part.cache").write_bytes(bytes(2000))
    os.utime(cache_folder / ".left.1.part.cache", (0, 0))
    write_entry(entry_path("engine", "1"), bytes(100))
    assert names_in(cache_folder) == sorted(entry_path("engine", number).name for number in "01")


def test_an_entry_larger_than_all_may_be_is_kept_alone(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    monkeypatch.setattr(compiled_cache, "_LARGEST_BYTES", 50)
    write_entry(entry_path("engine", "a"), bytes(100))
    os.utime(entry_path("engine", "a"), (0, 0))
    write_entry(entry_path("engine", "b"), bytes(100))
    assert names_in(cache_folder) == [entry_path("engine", "b").name]
