"""The files of /sys, /etc and /var by which boards tell of themselves, laid out as their owners listed them; and stand-ins for programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.jetson.recorded import CONFIGURATIONS, DECLINED, REBOOT

# A stand-in whose mode is in a file, told by `-q`; what it reads from standard input is written down. What `-m` does is put in its place.
_NVPMODEL = """#!/bin/sh
state={folder}/mode
case "$1" in
  -q) name=$(sed -n "s/^< POWER_MODEL ID=$(cat $state) NAME=\\([^ ]*\\) >/\\1/p" {root}/etc/nvpmodel.conf)
      printf 'NV Power Mode: %s\\n%s\\n' "$name" "$(cat $state)" ;;
  -m) {change} ;;
esac
"""
CHANGES = {
    "changes": 'echo "$2" > $state',
    "wants a reboot": f"printf '{REBOOT}'; read answer; echo \"$answer\" > {{folder}}/answer; "
    f'case "$answer" in YES|yes) echo "$2" > $state ;; *) printf \'{DECLINED}\'; exit 1 ;; esac',
    "wants root": "echo 'NVPM ERROR: Error opening /sys/devices/system/cpu/cpu4/online: 13'; exit 1",
}


def write(root: Path, files: dict[str, str | int]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n", encoding="utf-8")
    return root


def zones(**millidegrees: int | None) -> dict[str, str | int]:
    """None for a zone that cannot be read."""
    files: dict[str, str | int] = {}
    for number, (name, value) in enumerate(millidegrees.items()):
        folder = f"sys/class/thermal/thermal_zone{number}"
        files[f"{folder}/type"] = f"{name}-thermal"
        files[f"{folder}/{'temp' if value is not None else 'temp/unreadable'}"] = value or 0  # a folder in its place: reading it fails
    return files


def rail(chip: str, channel: int, label: str, millivolts: int, milliamperes: int) -> dict[str, str | int]:
    folder = f"sys/class/hwmon/{chip}"
    return {f"{folder}/in{channel}_label": label, f"{folder}/in{channel}_input": millivolts, f"{folder}/curr{channel}_input": milliamperes}


def cooling(*kinds: str) -> dict[str, str | int]:
    files: dict[str, str | int] = {}
    for number, kind in enumerate(kinds):
        files[f"sys/class/thermal/cooling_device{number}/type"] = kind
        files[f"sys/class/thermal/cooling_device{number}/cur_state"] = 0
    return files


def clock(folder: str, pattern: str, low: int, high: int) -> dict[str, str | int]:
    return {f"{folder}/{pattern.format(which)}": value for which, value in (("min", low), ("max", high), ("cur", low))}


def orin_nano(root: Path) -> Path:
    """L4T 36.4.3 at 15 W: the zones of engines that are off cannot be read, INA3221 with the sum of its shunts, three event counters."""
    write(
        root,
        {
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic",
            "etc/nvpmodel.conf": CONFIGURATIONS["orin-nano-super"],
        },
    )
    write(
        root,
        {
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
            "var/lib/nvpmodel/status": "pmode:0000",
        },
    )
    write(root, zones(cpu=47656, gpu=47343, cv0=None, cv1=-256000, soc0=46000, tj=48218))
    write(root, cooling("cpufreq-cpu0", "pwm-fan", "cpu-throttle-alert", "gpu-throttle-alert", "hot-surface-alert", "devfreq-17000000.gpu"))
    write(root, {"sys/class/thermal/cooling_device1/cur_state": 3})  # the fan turns
    write(
        root,
        {"sys/class/hwmon/hwmon0/name": "pwmfan", "sys/class/hwmon/hwmon1/name": "ina3221", "sys/class/hwmon/hwmon3/name": "soctherm_oc"},
    )
    write(
        root,
        rail("hwmon1", 1, "VDD_IN", 4984, 1000) | rail("hwmon1", 2, "VDD_CPU_GPU_CV", 4984, 110) | rail("hwmon1", 3, "VDD_SOC", 4984, 283),
    )
    write(root, {"sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages", "sys/class/hwmon/hwmon1/in7_input": 3200})
    write(root, {f"sys/class/hwmon/hwmon3/oc{number}_event_cnt": count for number, count in ((1, 0), (2, 0), (3, 27))})
    for core in (0, 1, 10):
        write(root, clock(f"sys/devices/system/cpu/cpu{core}/cpufreq", "scaling_{}_freq", 729600, 1510400))
    write(root, clock("sys/class/devfreq/17000000.gpu", "{}_freq", 306000000, 624750000))
    return write(root, clock("sys/class/devfreq/15340000.vic", "{}_freq", 115200000, 729600000))


def thor(root: Path) -> Path:
    """L4T 38.4 at MAXN after jetson_clocks: the GPU is powered off, so its zone cannot be read; VIN by an INA238 that multiplies itself."""
    write(root, {"etc/nv_tegra_release": "# R38 (release), REVISION: 4.0, GCID: 43443517", "etc/nvpmodel.conf": CONFIGURATIONS["thor"]})
    write(root, {"var/lib/nvpmodel/status": "pmode:0000"} | zones(tj=55100, cpu=53700, gpu=None, soc012=55100, soc345=53700))
    write(root, cooling("cpufreq-cpu0", *["pwm-fan"] * 9, "cpu-throttle-alert", "gpu-throttle-alert", "soc012-throttle-alert"))
    write(root, {"sys/class/hwmon/hwmon3/name": "ina3221", "sys/class/hwmon/hwmon4/name": "ina238", "sys/class/hwmon/hwmon4/label": "VIN"})
    write(root, rail("hwmon3", 1, "VDD_GPU", 19864, 0) | rail("hwmon3", 2, "VDD_CPU_SOC_MSS", 19856, 300))
    write(root, {"sys/class/hwmon/hwmon4/power1_input": 20986000, "sys/class/hwmon/hwmon5/name": "soctherm_oc"})
    write(root, {f"sys/class/hwmon/hwmon5/oc{number}_event_cnt": 0 for number in (1, 2, 3)})
    write(root, clock("sys/devices/system/cpu/cpu0/cpufreq", "scaling_{}_freq", 2601000, 2601000))
    write(root, clock("sys/class/devfreq/gpu-nvd-0", "{}_freq", 305000000, 1692000000))
    return write(root, clock("sys/class/devfreq/gpu-gpc-0", "{}_freq", 1575000000, 1575000000))


def program(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in, found before the real one."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def nvpmodel(root: Path, how: str, mode: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """root: of the board. how: of CHANGES. The folder with its `mode` and, where it asked, the `answer` that it got."""
    folder = root / "programs"
    folder.mkdir()
    (folder / "mode").write_text(str(mode), encoding="utf-8")
    change = CHANGES[how].replace("{folder}", str(folder))
    program(folder, "nvpmodel", _NVPMODEL.format(folder=folder, root=root, change=change), monkeypatch)
    return folder
