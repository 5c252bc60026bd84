from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from qtseg_edge.commands.doctor import doctor
from qtseg_edge.doctor import asking, diagnosis_text
from qtseg_edge.doctor.asking import Answer, ask_all
from qtseg_edge.doctor.choice import Choice, auto_choices, can_run
from qtseg_edge.doctor.findings import Finding
from qtseg_edge.doctor.machine import machine_findings
from qtseg_edge.doctor.software import software_findings
from qtseg_edge.doctor.vendors import build_flag
from qtseg_edge.errors import MissingError
from tests.jetson.boards import orin_nano, program, thor

ROOT = Path(__file__).parents[1]
VENDORS = ("av", "onnxruntime", "openvino", "torch", "onnx", "cuda", "pycuda", "tensorrt", "tensorrt_rtx")
PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split()))
import typer
from qtseg_edge.cli import _exit_codes
from qtseg_edge.commands.doctor import doctor
app = typer.Typer()
app.command()(_exit_codes(doctor))
app(sys.argv[2:])
"""
ORIN = {"name": "Orin", "compute_capability": "8.7", "bytes": 8 << 30, "integrated": True}
H100 = {"name": "NVIDIA H100", "compute_capability": "9.0", "bytes": 80 << 30, "integrated": False}


def answers_with(**found: dict[str, Any] | Answer) -> dict[str, Answer]:
    """Everything is missing but these, whose names have an underscore for each hyphen."""
    names = [
        "opencv",
        "av",
        "onnxruntime",
        "openvino",
        "torch",
        "onnx",
        "cuda-driver",
        "cuda-bindings",
        "pycuda",
        "tensorrt",
        "tensorrt-rtx",
    ]
    answers = {name: Answer("missing", reason="not installed") for name in names}
    answers["opencv"] = Answer("ok", {"version": "5.0.0", "ffmpeg": "YES", "gstreamer": "NO"})
    for name, said in found.items():
        answers[name.replace("_", "-")] = said if isinstance(said, Answer) else Answer("ok", {"version": "1.0", **said})
    return answers


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def doctor_where(more: Path, *arguments: str, missing: str = "") -> subprocess.CompletedProcess[str]:
    """In an interpreter of its own. more: a folder whose packages hide those that are installed."""
    environment = {**os.environ, "PYTHONPATH": f"{more}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-W", "error", "-c", PROGRAM, missing, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, cwd=more)


def test_a_jetson_is_told_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64")
    write(tmp_path, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd evtstrm aes asimdhp asimddp\nCPU part\t: 0xd42\n")
    write(tmp_path, "proc/meminfo", "MemTotal:        7990000 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n")
    write(tmp_path, "bin/nvpmodel", '#!/bin/sh\n[ "$1" = -q ] && printf "NV Power Mode: 15W\\n0\\n"\n')
    (tmp_path / "bin" / "nvpmodel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    rows = by_name(machine_findings(tmp_path))
    assert rows["JetPack"] == Finding("JetPack", "ok", "6.2 (L4T 36.4.3), NVIDIA Jetson Orin Nano Developer Kit")
    assert rows["CPU"].found.startswith("NVIDIA Jetson Orin Nano Developer Kit, ")
    assert rows["CPU"].found.endswith("cores: asimd, asimdhp, asimddp")
    assert rows["memory"].found == "7.6 GiB, 4.0 GiB of it free"
    assert rows["power mode"].found == "15W" and "sudo nvpmodel -m" in rows["power mode"].cure


def test_a_jetpack_without_tensorrt_10_is_told_what_to_install(tmp_path: Path) -> None:
    write(tmp_path, "etc/nv_tegra_release", "# R35 (release), REVISION: 3.1, GCID: 1")
    row = by_name(machine_findings(tmp_path))["JetPack"]
    assert (row.state, row.found) == ("broken", "5.1.1 (L4T 35.3.1)")
    assert "install JetPack 6.1 or later" in row.cure


def test_a_pc_is_told_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "proc/cpuinfo", "model name\t: Some CPU @ 2 GHz\nflags\t\t: fpu sse amx_bf16 avx2 avx512f avx2_unheard\n")
    governor = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    write(tmp_path, governor, "powersave\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = by_name(machine_findings(tmp_path, tmp_path))
    assert rows["JetPack"].state == "none"
    assert rows["CPU"].found.startswith("Some CPU @ 2 GHz, ") and rows["CPU"].found.endswith("cores: avx2, avx512f, amx_bf16")
    assert rows["power mode"] == Finding(
        "power mode", "ok", "CPU governor powersave", "steadier timings: sudo cpupower frequency-set -g performance"
    )
    write(tmp_path, governor, "performance\n")
    assert by_name(machine_findings(tmp_path))["power mode"].cure == ""
    assert f"GiB free in {tmp_path}" in rows["disk"].found


def test_a_jetson_shows_its_clocks_heat_power_and_throttling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = by_name(machine_findings(orin_nano(tmp_path)))
    assert rows["power mode"].found == "15W"
    assert rows["power mode"].cure == "this board also has 1 (25W), 2 (MAXN_SUPER), 3 (7W); take one: sudo nvpmodel -m NUMBER"
    assert rows["clocks"].found == "follow the load: CPU 730 to 1510 MHz, GPU 306 to 625 MHz" and rows["clocks"].cure.endswith(
        "sudo jetson_clocks"
    )
    assert (rows["temperature"].found, rows["power draw"].found) == ("cpu 47.7, gpu 47.3, soc0 46.0, tj 48.2 °C", "5.0 W, board")
    assert rows["throttling"].found == "not now; since the start 27 x instantaneous over-current" and rows["throttling"].cure
    write(tmp_path, "sys/class/thermal/cooling_device3/cur_state", "2\n")
    hot = by_name(machine_findings(tmp_path))["throttling"]
    assert (hot.state, hot.found.split(";")[0]) == ("broken", "gpu over temperature") and "cooling" in hot.cure


def test_a_jetson_at_its_full_mode_and_clocks_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = by_name(machine_findings(thor(tmp_path)))
    assert (rows["power mode"].found, rows["clocks"].found) == ("MAXN", "locked: CPU 2601 MHz, GPU 1575 MHz")
    assert rows["throttling"].found == "not now" and rows["power draw"].found == "21.0 W, board"
    assert not any(rows[name].cure for name in ("power mode", "clocks", "temperature", "power draw", "throttling"))


def test_the_gpu_of_a_pc_is_asked_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "nvidia-smi", 'echo "61, 312.50, 1980, 0x0000000000000000"', monkeypatch)
    rows = by_name(machine_findings(tmp_path))
    assert [rows[name].found for name in ("temperature", "power draw", "throttling")] == ["gpu 61.0 °C", "312.5 W, GPU", "not now"]


def test_a_machine_that_shows_nothing_still_has_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = by_name(machine_findings(tmp_path, tmp_path / "absent"))
    board = {"power mode", "clocks", "temperature", "power draw", "throttling"}
    assert {"Python", "JetPack", "CPU", "memory", "disk", *board} == rows.keys()
    assert (rows["memory"].state, rows["power mode"].state, rows["disk"].state) == ("none", "none", "broken")


def test_every_row_that_is_missing_says_what_to_type() -> None:
    rows = by_name(software_findings(answers_with(), is_jetson=False))
    assert {row.what for row in rows.values() if row.state == "missing" and not row.cure} == {"GPU"}  # the driver's row says it
    assert rows["PyAV"].cure == rows["OpenVINO"].cure == "pip install 'qtseg-edge[cpu]'"
    assert rows["PyTorch"].cure == "pip install 'qtseg-edge[train]'"
    assert rows["TensorRT"].cure == "pip install 'qtseg-edge[tensorrt]'"
    assert rows["cuda-bindings"].cure == "pip install 'qtseg-edge[cuda]'"
    assert "-DWITH_GSTREAMER=ON" in rows["OpenCV GStreamer"].cure


def test_a_jetson_gets_tensorrt_and_gstreamer_from_jetpack() -> None:
    rows = by_name(software_findings(answers_with(), is_jetson=True))
    assert "apt install python3-libnvinfer" in rows["TensorRT"].cure and "--system-site-packages" in rows["TensorRT"].cure
    assert "apt install python3-opencv" in rows["OpenCV GStreamer"].cure
    assert not [row.what for row in rows.values() if "qtseg-edge[" in row.cure and row.what not in ("PyTorch", "onnx")], "they bring OpenCV"
    assert (rows["TensorRT-RTX"].state, rows["TensorRT-RTX"].found, rows["TensorRT-RTX"].cure) == ("none", "there is none for Jetson", "")


def test_the_extras_that_are_named_exist() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = pyproject.split("[project.optional-dependencies]")[1].split("[project.scripts]")[0]
    for finding in software_findings(answers_with(), is_jetson=False):
        if "qtseg-edge[" in finding.cure:
            extra = finding.cure.split("[")[1].split("]")[0]
            assert f"\n{extra} = [" in extras, finding


def test_one_of_two_ways_to_cuda_is_enough() -> None:
    rows = by_name(software_findings(answers_with(pycuda={}), is_jetson=False))
    assert (rows["PyCUDA"].state, rows["cuda-bindings"].state, rows["cuda-bindings"].cure) == ("ok", "none", "")


def test_gpus_are_shown_with_what_engines_depend_on() -> None:
    rows = by_name(software_findings(answers_with(cuda_driver={"version": "12.6", "gpus": [ORIN, H100]}), is_jetson=True))
    assert rows["CUDA driver"].found == "for CUDA 12.6 and older"
    assert rows["GPU"].found == ("Orin, compute capability 8.7, 8.0 GiB shared with the CPU; NVIDIA H100, compute capability 9.0, 80.0 GiB")


def test_auto_is_asked_of_the_code_that_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="that code looks whether it is installed")
    both = answers_with(openvino={"devices": ["CPU"], "bf16": False}, onnxruntime={"providers": []}, torch={"cuda": False})
    onnx, checkpoint, engine = auto_choices(both)
    assert onnx == Choice("an .onnx file", "openvino", True, "faster than onnxruntime, which is installed too")
    assert checkpoint == Choice("a checkpoint", "torch", True, "the only one that opens it here")
    assert (engine.device, engine.works, engine.why) == ("tensorrt", False, "lacks a GPU, TensorRT, cuda-bindings or pycuda")
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert auto_choices(answers_with(onnxruntime={"providers": []}))[0].device == "onnxruntime"


def test_a_device_that_auto_takes_and_that_does_not_load_is_said_with_the_way_round() -> None:
    pytest.importorskip("openvino", reason="that code looks whether it is installed")
    broken = answers_with(openvino=Answer("broken", reason="ImportError: libtbb.so.12"), onnxruntime={"providers": []})
    choice = auto_choices(broken)[0]
    assert (choice.device, choice.works) == ("openvino", False)
    assert choice.why == "installed, but does not load; --device onnxruntime works"
    assert can_run(broken)


@pytest.mark.parametrize(
    ("gpu", "library", "why"),
    [
        (H100, "tensorrt", "tensorrt 1.0 on NVIDIA H100; it must have been built for these"),
        (H100, "tensorrt_rtx", "lacks a TensorRT for it"),
        ({**H100, "compute_capability": "8.9"}, "tensorrt_rtx", "tensorrt-rtx 1.0 on NVIDIA H100; it must have been built for these"),
    ],
)
def test_engines_need_a_gpu_a_tensorrt_that_knows_it_and_cuda(gpu: dict[str, Any], library: str, why: str) -> None:
    there = {"cuda_driver": {"gpus": [gpu]}, "cuda_bindings": {}, library: {}}
    choice = auto_choices(answers_with(**there))[2]
    assert (choice.works, choice.why) == (why.startswith("tensorrt"), why)
    assert can_run(answers_with(**there)) == choice.works
    assert not can_run(answers_with(**{**there, "cuda_bindings": Answer("missing")}))


def test_without_opencv_nothing_runs() -> None:
    answers = answers_with(opencv=Answer("broken", reason="ImportError: libGL.so.1"), onnxruntime={"providers": []})
    assert not can_run(answers)
    assert [choice.works for choice in auto_choices(answers)] == [False] * 3
    assert by_name(software_findings(answers, is_jetson=False))["OpenCV"].found == "ImportError: libGL.so.1"


def test_the_flags_of_opencvs_build_are_read() -> None:
    text = (
        "  Video I/O:\n    FFMPEG:                      YES\n      avcodec:                   YES (61.19)\n    GStreamer:  YES (1.20.3)\n"
    )
    assert [build_flag(text, name) for name in ("FFMPEG", "GStreamer", "v4l/v4l2")] == ["YES", "YES (1.20.3)", ""]


def test_this_machine_is_diagnosed() -> None:
    """The real packages, each loaded in a process of its own."""
    for package in ("onnxruntime", "openvino", "torch", "onnx"):
        pytest.importorskip(package, reason="everything must be installed")
    answers = ask_all()
    assert {name for name in ("opencv", "av", "onnxruntime", "openvino", "torch", "onnx") if not answers[name].ok} == set()
    assert answers["openvino"].facts["devices"][0] == "CPU"
    assert "CPUExecutionProvider" in answers["onnxruntime"].facts["providers"]
    assert answers["opencv"].facts["ffmpeg"] == "YES"


def test_where_only_the_dependencies_are_installed_the_table_is_whole_and_the_exit_code_3(tmp_path: Path) -> None:
    missing = " ".join((*VENDORS, "onnxsim", "onnxscript", "kornia", "safetensors", "matplotlib", "transformers", "PIL"))
    done = doctor_where(tmp_path, missing=missing)
    assert done.returncode == 3
    assert done.stderr == "qtseg-edge: nothing on this machine can run a model; get an engine with: pip install 'qtseg-edge[cpu]'\n"
    assert "no inference engine is installed; get one with: pip install 'qtseg-edge[cpu]'" in done.stdout
    assert done.stdout.count("-> pip install 'qtseg-edge[cpu]'") == 3


def test_broken_packages_are_rows_and_never_the_end(tmp_path: Path) -> None:
    write(tmp_path, "openvino.py", "raise ImportError('libtbb.so.12: cannot open shared object file\\nand more')")
    write(tmp_path, "torch.py", "import os\nos.abort()")
    write(tmp_path, "onnxruntime.py", "print('noise'); import sys; sys.exit(7)")
    write(tmp_path, "av.py", "print('noise' * 9); __version__ = '99.1'; print('qtseg-edge')")
    write(tmp_path, "onnx.py", "import nowhere_to_be_found")
    write(tmp_path, "tensorrt.py", "class Odd(Exception): pass\nraise Odd")
    write(tmp_path, "pycuda/__init__.py", "VERSION_TEXT = '2024.1'")
    write(tmp_path, "pycuda/driver.py", "raise ImportError('libcuda.so.1: cannot open shared object file')")
    done = doctor_where(tmp_path, "--json", missing="cuda tensorrt_rtx")
    assert done.returncode == 3 and "Traceback" not in done.stdout + done.stderr, done.stderr
    rows = {row["what"]: row for row in json.loads(done.stdout)["findings"]}
    found = {what: (rows[what]["state"], rows[what]["found"]) for what in rows}
    assert found["OpenVINO"] == ("broken", "ImportError: libtbb.so.12: cannot open shared object file")
    assert found["PyTorch"] == ("broken", "crashes Python when it is loaded (SIGABRT)")
    assert found["ONNX Runtime"] == ("broken", "ends Python when it is loaded (exit code 7)")
    assert found["PyAV"] == ("ok", "99.1")
    assert found["onnx"] == ("broken", "ModuleNotFoundError: No module named 'nowhere_to_be_found'")
    assert found["TensorRT"] == ("broken", "Odd")
    assert found["PyCUDA"] == ("broken", "ImportError: libcuda.so.1: cannot open shared object file")
    assert rows["OpenVINO"]["cure"] == "pip install 'qtseg-edge[cpu]'"


def test_a_package_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "pycuda.py", "import time\ntime.sleep(60)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(asking, "_SECONDS", 1.0)
    assert asking._ask("pycuda") == Answer("broken", reason="does not load within 1 s")


def test_a_file_in_the_current_folder_is_not_taken_for_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "av.py", "__version__ = 'of the folder'")
    monkeypatch.chdir(tmp_path)
    assert asking._ask("av").facts["version"] != "of the folder"


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="makes a CUDA driver of its own with cc")
@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("0", Answer("ok", {"version": "12.6", "gpus": [{**ORIN, "name": "GPU 0"}, {**ORIN, "name": "GPU 1"}]})),
        ("100", Answer("missing", reason="the NVIDIA driver finds no GPU")),
        ("803", Answer("broken", reason="RuntimeError: cuInit gives CUDA error 803")),
    ],
)
def test_the_cuda_driver_is_asked_in_its_own_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str, expected: Answer) -> None:
    source = """
#include <stdio.h>
#include <stddef.h>
int cuInit(unsigned flags) { return flags ? 1 : INIT; }
int cuDriverGetVersion(int *v) { *v = 12060; return 0; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDeviceGetName(char *name, int size, int d) { snprintf(name, size, "GPU %d", d); return 0; }
int cuDeviceTotalMem_v2(size_t *size, int d) { *size = (size_t)8 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int which, int d) { *value = which == 75 ? 8 : which == 76 ? 7 : which == 18; return 0; }
"""
    write(tmp_path, "cuda.c", source)
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", f"-DINIT={init}", "-o", library, tmp_path / "cuda.c"], check=True, capture_output=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert asking._ask("cuda-driver") == expected


def test_the_command_prints_every_finding_and_what_auto_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="that code looks whether it is installed")
    answers = answers_with(openvino={"devices": ["CPU"], "bf16": True})
    monkeypatch.setattr("qtseg_edge.doctor.ask_all", lambda: answers)
    app = typer.Typer()
    app.command()(doctor)
    shown = CliRunner().invoke(app, [])
    assert shown.exit_code == 0, shown.exception
    lines = shown.stdout.splitlines()
    assert "OpenVINO          ok       1.0: CPU, with bf16" in lines
    at = next(index for index, line in enumerate(lines) if line.startswith("PyAV"))
    assert lines[at].split(maxsplit=2) == ["PyAV", "missing", "not installed"]
    assert lines[at + 1].strip() == "-> pip install 'qtseg-edge[cpu]'"
    assert lines[-3:] == [
        "an .onnx file     ok       openvino: the only one that opens it here",
        "a checkpoint      missing  torch: not installed",
        "an engine         missing  tensorrt: lacks a GPU, TensorRT, cuda-bindings or pycuda",
    ]
    document = json.loads(CliRunner().invoke(app, ["--json"]).stdout)
    assert document["runs"] is True
    assert document["auto"][0] == {"model": "an .onnx file", "device": "openvino", "works": True, "why": "the only one that opens it here"}
    assert {"what": "PyAV", "state": "missing", "found": "not installed", "cure": "pip install 'qtseg-edge[cpu]'"} in document["findings"]


def test_a_machine_on_which_nothing_runs_is_a_missing_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qtseg_edge.doctor.ask_all", answers_with)
    app = typer.Typer()
    app.command()(doctor)
    shown = CliRunner().invoke(app, [])
    assert isinstance(shown.exception, MissingError) and shown.exception.exit_code == 3
    assert "PyAV" in shown.stdout, "the table comes first"


def test_a_line_stays_whole_however_long_it_is() -> None:
    from qtseg_edge.doctor import Diagnosis

    text = diagnosis_text(Diagnosis([Finding("CPU", "ok", "x" * 500)], [], True))
    assert "x" * 500 in text.splitlines()[0]
