from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.errors import MissingError, QtsegError, UsageError
from qtseg_edge.jetson import power_mode as module
from qtseg_edge.jetson.power_mode import PowerMode, full_power_mode, power_mode, power_modes, set_power_mode
from tests.jetson.boards import nvpmodel, program, write
from tests.jetson.recorded import CONFIGURATIONS, QUERIES


def board(root: Path, name: str = "orin-nano-super") -> Path:
    return write(root, {"etc/nvpmodel.conf": CONFIGURATIONS[name]})


@pytest.mark.parametrize(("printed", "mode"), QUERIES.items())
def test_the_mode_is_what_nvpmodel_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, mode: tuple[int, str]) -> None:
    program(tmp_path / "bin", "nvpmodel", f"[ \"$*\" = -q ] && printf '{printed}'", monkeypatch)
    assert power_mode(tmp_path) == PowerMode(*mode)


def test_a_container_without_nvpmodel_reads_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert power_mode(tmp_path) is None
    write(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002"})
    assert power_mode(tmp_path) == PowerMode(2, "") and str(power_mode(tmp_path)) == "mode 2"
    assert power_mode(board(tmp_path)) == PowerMode(2, "MAXN_SUPER")


@pytest.mark.parametrize(
    ("name", "count", "full"),
    [("orin-nano-super", 4, (2, "MAXN_SUPER")), ("orin-nano", 2, (0, "15W")), ("agx-orin", 4, (0, "MAXN")), ("thor", 4, (0, "MAXN"))],
)
def test_the_full_mode_is_known_by_its_name(tmp_path: Path, name: str, count: int, full: tuple[int, str]) -> None:
    modes = power_modes(board(tmp_path, name))
    assert (len(modes), full_power_mode(modes)) == (count, PowerMode(*full))
    assert full_power_mode([]) is None


@pytest.mark.parametrize("wanted", ["2", "MAXN_SUPER", "maxn_super"])
def test_a_mode_is_set_by_name_or_number_and_what_it_was_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    nvpmodel(board(tmp_path), "changes", 0, monkeypatch)
    change = set_power_mode(wanted, tmp_path)
    assert change.line == "power mode 15W -> MAXN_SUPER; it stays so after this run, back with: sudo nvpmodel -m 0"
    assert power_mode(tmp_path) == PowerMode(2, "MAXN_SUPER")


def test_the_mode_in_use_is_not_set_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvpmodel(board(tmp_path), "wants root", 0, monkeypatch)
    assert set_power_mode("15W", tmp_path).line == "power mode 15W, as before"


def test_a_reboot_is_declined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = nvpmodel(board(tmp_path, "thor"), "wants a reboot", 0, monkeypatch)
    with pytest.raises(QtsegError, match=r"90W: 90W needs a reboot, which was declined: still MAXN; .*: sudo nvpmodel -m 2$") as caught:
        set_power_mode("90W", tmp_path)
    assert caught.value.exit_code == 1
    assert (folder / "answer").read_text() == "no\n" and (folder / "mode").read_text() == "0"


def test_without_permission_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvpmodel(board(tmp_path), "wants root", 0, monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingError, match=r"^--set-power-mode 25W: only root may .*, left in 15W; change it with: sudo nvpmodel -m 1$"):
        set_power_mode("25W", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(QtsegError, match=r"nvpmodel left it in 15W \(NVPM ERROR: Error opening .*: 13\)") as caught:
        set_power_mode("25W", tmp_path)
    assert caught.value.exit_code == 1


def test_without_nvpmodel_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        MissingError, match=r"^--set-power-mode MAXN: no nvpmodel here: only a Jetson has power modes; leave the option out$"
    ):
        set_power_mode("MAXN", board(tmp_path))


@pytest.mark.parametrize("wanted", ["9", "MAXN", "", "-1", "\u0662"])
def test_a_mode_that_the_board_does_not_have_is_refused_with_those_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    folder = nvpmodel(board(tmp_path), "changes", 0, monkeypatch)
    with pytest.raises(UsageError, match=r"wanted one of 0 \(15W\), 1 \(25W\), 2 \(MAXN_SUPER\), 3 \(7W\)$"):
        set_power_mode(wanted, tmp_path)
    assert (folder / "mode").read_text() == "0"


def test_a_board_that_names_no_modes_takes_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(
        tmp_path / "bin",
        "nvpmodel",
        f'case "$1" in -m) echo $2 > {tmp_path}/now;; *) echo "NV Power Mode: X"; cat {tmp_path}/now;; esac',
        monkeypatch,
    )
    (tmp_path / "now").write_text("1\n", encoding="utf-8")
    assert set_power_mode("3", tmp_path).after == PowerMode(3, "X")
    with pytest.raises(UsageError, match=r"wanted one of a number, because /etc/nvpmodel.conf cannot be read$"):
        set_power_mode("MAXN", tmp_path)


def test_an_nvpmodel_that_hangs_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.1)
    program(tmp_path / "bin", "nvpmodel", "exec sleep 60", monkeypatch)
    assert power_mode(tmp_path) is None


@given(
    st.lists(st.tuples(st.integers(0, 30), st.from_regex(r"[A-Z0-9_]{1,12}", fullmatch=True)), max_size=6),
    st.text("\n# <>=xID", max_size=9),
)
def test_every_mode_of_a_configuration_is_found(modes: list[tuple[int, str]], noise: str) -> None:
    lines = [f"{noise}\n< POWER_MODEL ID={number} NAME={name} >\nCPU_ONLINE CORE_0 1" for number, name in modes]
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder), {"etc/nvpmodel.conf": "\n".join(lines)})
        assert power_modes(root) == [PowerMode(*mode) for mode in modes]


@given(st.text() | st.lists(st.sampled_from(["NV Power Mode:", " MAXN", "\n", "0", "\r\n", "2 ", "x"])).map("".join))
def test_no_answer_is_too_odd(printed: str) -> None:
    found = module._QUERY.search(printed)
    assert found is None or (found[1].strip() == found[1] and int(found[2]) >= 0)
