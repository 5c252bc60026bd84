"""A Jetson's power mode: read by anybody, changed only where the user asks for it.

Jetson Linux Developer Guide, "Platform Power and Performance", "Supported Modes and Power Efficiency": `nvpmodel -q` prints
`NV Power Mode:` and the name, then the number; `nvpmodel -m NUMBER` changes it, as root, and it stays so after a reboot. The modes are in
/etc/nvpmodel.conf (`< POWER_MODEL ID=0 NAME=MAXN >`), the one in use in /var/lib/nvpmodel/status (`pmode:0000`). Names and numbers differ
from board to board: the fullest is 0 (MAXN) on AGX Orin and Thor, 2 (MAXN_SUPER) on Orin Nano Super. A mode with other cores or GPU units
needs a reboot, for which nvpmodel asks; it is always answered no.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from qtseg_edge.board.sysfs import text
from qtseg_edge.errors import MissingError, QtsegError, UsageError

_SECONDS = 30.0
_MODE = re.compile(r"^\s*<\s*POWER_MODEL\s+ID=(\d{1,9})\s+NAME=([^\s>]+)", re.MULTILINE)
_QUERY = re.compile(r"NV Power Mode:[ \t]*(\S[^\n]*?)[ \t\r]*\n\s*(\d{1,9})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class PowerMode:
    """name: as nvpmodel has it; "" where only the number is known."""

    number: int
    name: str

    def __str__(self) -> str:
        return self.name or f"mode {self.number}"


@dataclass(frozen=True)
class PowerModeChange:
    """before: None where it could not be read."""

    before: PowerMode | None
    after: PowerMode

    @property
    def line(self) -> str:
        """What was changed, and how to change it back."""
        if self.before is None:
            return f"power mode {self.after} (it was not readable before); it stays so after this run"
        if self.before == self.after:
            return f"power mode {self.after}, as before"
        return f"power mode {self.before} -> {self.after}; it stays so after this run, back with: sudo nvpmodel -m {self.before.number}"


def power_mode(root: Path = Path("/")) -> PowerMode | None:
    """The one in use, by nvpmodel or, in a container without it, by its files; None where there is none. root: where the files lie."""
    found = _QUERY.search(_said(["-q"]))
    if found:
        return PowerMode(int(found[2]), found[1])
    status = re.search(r"pmode:(\d{1,9})", text(root / "var" / "lib" / "nvpmodel" / "status"))
    return None if status is None else _named(int(status[1]), power_modes(root))


def power_modes(root: Path = Path("/")) -> list[PowerMode]:
    """All that this board has; none where its configuration cannot be read."""
    return [PowerMode(int(number), name) for number, name in _MODE.findall(text(root / "etc" / "nvpmodel.conf"))]


def full_power_mode(modes: list[PowerMode]) -> PowerMode | None:
    """The one that limits least: MAXN where there is one, else that of the most watts by its name. Numbers say nothing."""
    return max(modes, key=lambda mode: (mode.name.upper().startswith("MAXN"), _watts(mode.name)), default=None)


def set_power_mode(wanted: str, root: Path = Path("/")) -> PowerModeChange:
    """wanted: a name or a number. Nothing is run where it is the mode in use.

    Raises MissingError where there is no nvpmodel or no permission, UsageError for a mode that the board does not have, QtsegError where
    it needs a reboot or nvpmodel does not do it; the mode is then as it was.
    """
    program = shutil.which("nvpmodel")
    if program is None:
        raise MissingError(f"--set-power-mode {wanted}: no nvpmodel here: only a Jetson has power modes; leave the option out")
    before, mode = power_mode(root), _mode_of(wanted, power_modes(root))
    if before is not None and before.number == mode.number:
        return PowerModeChange(before, before)
    command, kept = f"sudo nvpmodel -m {mode.number}", before or "an unknown mode"
    said = _said(["-m", str(mode.number)])
    if re.search(r"reboot required", said, re.IGNORECASE):
        raise QtsegError(
            f"--set-power-mode {wanted}: {mode} needs a reboot, which was declined: still {kept}; change and reboot with: {command}"
        )
    after = power_mode(root)
    if after is not None and after.number == mode.number:
        return PowerModeChange(before, after)
    if os.geteuid() != 0:
        raise MissingError(f"--set-power-mode {wanted}: only root may change the power mode, left in {kept}; change it with: {command}")
    reason = next((line for line in reversed(said.splitlines()) if line.strip()), "it says nothing")
    raise QtsegError(f"--set-power-mode {wanted}: nvpmodel left it in {kept} ({reason.strip()}); try it with: {command}")


def _mode_of(wanted: str, modes: list[PowerMode]) -> PowerMode:
    for mode in modes:
        if wanted == str(mode.number) or wanted.lower() == mode.name.lower():
            return mode
    if not modes and wanted.isascii() and wanted.isdecimal():
        return PowerMode(int(wanted), "")
    known = ", ".join(f"{mode.number} ({mode.name})" for mode in modes) or "a number, because /etc/nvpmodel.conf cannot be read"
    raise UsageError(f"--set-power-mode {wanted}: wanted one of {known}")


def _named(number: int, modes: list[PowerMode]) -> PowerMode:
    return next((mode for mode in modes if mode.number == number), PowerMode(number, ""))


def _watts(name: str) -> int:
    found = re.search(r"(\d{1,9})W", name, re.IGNORECASE)
    return int(found[1]) if found else 0


def _said(arguments: list[str]) -> str:
    """All that nvpmodel prints; "" where there is none that answers."""
    program = shutil.which("nvpmodel")
    if program is None:
        return ""
    try:
        # It asks on standard input whether to reboot: no, and there is nobody to ask again.
        done = subprocess.run(
            [program, *arguments],
            input="no\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
