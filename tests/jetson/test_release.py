from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.jetson import board, has_tensorrt_10, jetpack_of, l4t_release


def a_jetson(root: Path, release: str) -> Path:
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "nv_tegra_release").write_text(release, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("text", "l4t"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n", "36.4.3"),
        ("# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic\n# KERNEL_VARIANT: oot\n", "39.2.0"),
        ("# R38 (release), REVISION: 4, GCID: 1\n", "38.4"),
        ("", ""),
        ("Ubuntu 22.04", ""),
        ("# R36 (release), REVISION: , GCID", ""),
    ],
)
def test_the_release_is_read_from_nvidias_file(tmp_path: Path, text: str, l4t: str) -> None:
    assert l4t_release(a_jetson(tmp_path, text)) == l4t


def test_what_is_no_jetson_has_no_release_and_no_board(tmp_path: Path) -> None:
    assert (l4t_release(tmp_path), board(tmp_path)) == ("", "")


def test_the_board_is_named_by_its_firmware(tmp_path: Path) -> None:
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "proc" / "device-tree" / "model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    assert board(tmp_path) == "NVIDIA Jetson Orin Nano Developer Kit"


@pytest.mark.parametrize(
    ("l4t", "jetpack", "supported"),
    [
        ("32.7.4", "", False),
        ("35.2.1", "5.1", False),
        ("35.3.1", "5.1.1", False),
        ("35.6.0", "5.1.1 or later", False),
        ("36.3.0", "6.0", False),
        ("36.4.0", "6.1", True),
        ("36.4.3", "6.2", True),
        ("36.4.4", "6.2.1", True),
        ("36.4.7", "6.2.1 or later", True),
        ("38.2.0", "7.0", True),
        ("38.4.0", "7.1", True),
        ("39.2.0", "7.2", True),
        ("39.2.1", "7.2 or later", True),
        ("41.1.0", "", True),
    ],
)
def test_jetpack_follows_from_the_release(l4t: str, jetpack: str, supported: bool) -> None:
    assert (jetpack_of(l4t), has_tensorrt_10(l4t)) == (jetpack, supported)


@given(st.lists(st.integers(0, 99), min_size=2, max_size=4))
def test_any_release_has_an_answer(numbers: list[int]) -> None:
    l4t = ".".join(str(number) for number in numbers)
    assert isinstance(jetpack_of(l4t), str)
    assert has_tensorrt_10(l4t) == (numbers[:2] >= [36, 4])
