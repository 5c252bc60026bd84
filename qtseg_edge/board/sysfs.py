"""The kernel's sensors as files. root: where the file system begins, for tests.

Formats: Documentation/ABI/testing/sysfs-class-thermal (millidegrees) and Documentation/hwmon/sysfs-interface (millidegrees, millivolts,
milliamperes, microwatts) of Linux. The numbers in the names change from boot to boot; a chip is known by its `name`, a zone by its `type`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def text(path: Path) -> str:
    """Without the white space around it; "" where it cannot be read. One attempt: the zone of a GPU that is off answers EAGAIN for ever."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\r\n")
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """None where it cannot be read or is none."""
    try:
        return int(text(path))
    except ValueError:
        return None


def thermal_zones(root: Path) -> dict[str, Path]:
    """The file with the temperature of each zone, by its type without `-thermal`: `cpu`, `tj`, `x86_pkg_temp`."""
    folders = _numbered(root / "sys" / "class" / "thermal", "thermal_zone")
    return {kind.removesuffix("-thermal"): folder / "temp" for folder in folders if (kind := text(folder / "type"))}


def cooling_devices(root: Path) -> dict[str, Path]:
    """The file with the state of each device that the kernel cools with, by its type; 0 is without cooling."""
    folders = _numbered(root / "sys" / "class" / "thermal", "cooling_device")
    return {kind: folder / "cur_state" for folder in folders if (kind := text(folder / "type"))}


def hwmon_chips(root: Path, *names: str) -> list[Path]:
    """The folders of the chips whose name begins with one of these."""
    folders = _numbered(root / "sys" / "class" / "hwmon", "hwmon")
    return [folder for folder in folders if text(folder / "name").startswith(names)]


def celsius_of(files: Iterable[tuple[str, Path]], lowest: float) -> dict[str, float]:
    """What can be read of these, by name. lowest: below it a sensor is powered off."""
    found = {name: number(path) for name, path in files}
    return {name: value / 1000 for name, value in found.items() if value is not None and value / 1000 > lowest}


def _numbered(folder: Path, prefix: str) -> list[Path]:
    """In the order of their numbers."""
    found = [path for path in folder.glob(f"{prefix}*") if path.name.removeprefix(prefix).isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(prefix)))
