"""The traps of an installation, laid in folders as JetPack, pip and users fill them, and in real virtual environments."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qtseg_edge.doctor.asking import Answer
from qtseg_edge.doctor.findings import Finding
from qtseg_edge.doctor.installation import installation_findings
from qtseg_edge.doctor.interpreter import Interpreter
from tests.test_doctor import ROOT, VENDORS, answers_with, doctor_where, write

SYSTEM = "usr/lib/python3/dist-packages"
SITE = "home/u/qtseg/lib/python3.10/site-packages"
DRIVER_12 = {"version": "12.6", "gpus": []}


def install(root: Path, folder: str, name: str, version: str, module: str = "") -> None:
    """As pip leaves it."""
    write(
        root,
        f"{folder}/{name.replace('-', '_')}-{version}.dist-info/METADATA",
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    )
    if module:
        write(root, f"{folder}/{module}/__init__.py", "")


@pytest.fixture
def jetson(tmp_path: Path) -> Interpreter:
    """JetPack 6.2 as it should be: a virtual environment that sees JetPack's OpenCV and TensorRT, and has a NumPy of its own."""
    write(tmp_path, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1")
    write(tmp_path, "proc/device-tree/compatible", "nvidia,p3767-0005\0nvidia,tegra234\0")
    write(tmp_path, f"{SYSTEM}/cv2.cpython-310-aarch64-linux-gnu.so", "")
    install(tmp_path, SYSTEM, "numpy", "1.21.5", "numpy")
    install(tmp_path, "usr/lib/python3.10/dist-packages", "tensorrt", "10.3.0", "tensorrt")
    install(tmp_path, SITE, "numpy", "1.26.4", "numpy")
    folders = tuple(tmp_path / folder for folder in (SITE, SYSTEM, "usr/lib/python3.10/dist-packages"))
    return Interpreter((3, 10), tmp_path / "home/u/qtseg", tmp_path / "usr", folders, variables={"PATH": "/nowhere"}, root=tmp_path)


def found(python: Interpreter, **answers: dict[str, Any] | Answer) -> list[Finding]:
    return installation_findings(answers_with(**answers), python)


def the_trap(python: Interpreter, **answers: dict[str, Any] | Answer) -> Finding:
    """The only one, with a cure, counted in the first row."""
    first, trap = found(python, **answers)
    assert (first.what, first.state) == ("installation", "broken") and first.found.startswith("1 known trap, below; ")
    assert trap.state == "broken" and trap.cure
    return trap


def test_an_installation_as_it_should_be_says_where_everything_comes_from(jetson: Interpreter) -> None:
    (row,) = found(jetson, cuda_driver=DRIVER_12, cuda_bindings={"version": "12.9.4"})
    assert row == Finding(
        "installation",
        "ok",
        f"no known trap; virtual environment with system packages; cv2 of {jetson.root / SYSTEM}; "
        f"tensorrt of {jetson.root}/usr/lib/python3.10/dist-packages; numpy of {jetson.root / SITE}",
    )


@pytest.mark.parametrize("name", ["opencv-python", "opencv_python_headless", "opencv-contrib-python"])
def test_a_wheel_of_opencv_takes_the_place_of_jetpacks(jetson: Interpreter, name: str) -> None:
    install(jetson.root, SITE, name, "4.12.0.88", "cv2")
    trap = the_trap(jetson)
    dashed = name.replace("_", "-")
    assert trap.what == "OpenCV wheel" and f"{dashed} 4.12.0.88 ({jetson.root / SITE})" in trap.found and "no GStreamer" in trap.found
    assert trap.cure == f"pip uninstall --yes {dashed}"


def test_two_wheels_of_opencv_are_uninstalled_together(jetson: Interpreter) -> None:
    install(jetson.root, SITE, "opencv-python", "4.12.0.88", "cv2")
    install(jetson.root, SITE, "opencv-python-headless", "5.0.0.93", "cv2")
    cure = "pip uninstall --yes opencv-python opencv-python-headless"
    assert sorted(the_trap(jetson).cure.split()) == sorted(cure.split())
    shutil.rmtree(jetson.root / "etc")
    shutil.rmtree(jetson.root / "proc")
    trap = the_trap(jetson)  # no Jetson any more
    assert trap.what == "two OpenCVs" and trap.cure.endswith("; pip install opencv-python-headless")


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-cu12", "tensorrt_cu13_bindings", "tensorrt-lean-cu13"])
def test_a_wheel_of_tensorrt_takes_the_place_of_jetpacks(jetson: Interpreter, name: str) -> None:
    install(jetson.root, SITE, name, "10.13.3.9")
    trap = the_trap(jetson)
    assert (trap.what, trap.cure) == ("TensorRT wheel", f"pip uninstall --yes {name.replace('_', '-')}")


def test_from_jetpack_7_on_a_wheel_of_tensorrt_may_stand_alone(jetson: Interpreter) -> None:
    write(jetson.root, "etc/nv_tegra_release", "# R39 (release), REVISION: 2.0, GCID: 1")
    install(jetson.root, SITE, "tensorrt-cu13-bindings", "10.16.1.11", "tensorrt")
    python = replace(jetson, version=(3, 12))
    assert the_trap(python).what == "TensorRT wheel"
    shutil.rmtree(jetson.root / "usr/lib/python3.10")
    assert len(found(python)) == 1


def test_a_venv_without_system_packages_does_not_see_jetpacks(jetson: Interpreter) -> None:
    python = replace(jetson, folders=jetson.folders[:1])
    trap = the_trap(python)
    assert trap.what == "venv" and "JetPack's OpenCV and TensorRT are not seen" in trap.found
    assert trap.cure == f"/usr/bin/python3 -m venv --system-site-packages {python.prefix}"


def test_another_python_of_the_same_version_does_not_see_them_either(jetson: Interpreter) -> None:
    """Of pyenv, conda or uv: its "system" packages are its own."""
    trap = the_trap(replace(jetson, folders=jetson.folders[:1], base_prefix=Path("/home/u/.pyenv/versions/3.10.14")))
    assert "the Python of /home/u/.pyenv/versions/3.10.14 does not see JetPack's packages" in trap.found
    assert "/usr/bin/python3 -m venv --system-site-packages" in trap.cure and "requirements-jetpack6.txt" in trap.cure


@pytest.mark.parametrize(("release", "wanted"), [("R36 (release), REVISION: 4.3", "3.10"), ("R38 (release), REVISION: 2.0", "3.12")])
def test_jetpacks_packages_are_for_one_python(jetson: Interpreter, release: str, wanted: str) -> None:
    write(jetson.root, "etc/nv_tegra_release", f"# {release}, GCID: 1")
    trap = the_trap(replace(jetson, version=(3, 11)))
    assert (trap.what, trap.found) == ("Python version", f"JetPack's OpenCV and TensorRT are for Python {wanted}, this is 3.11")
    assert (ROOT / trap.cure.rpartition(" ")[2]).is_file(), "the file that the cure names"


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("opencv", "ImportError: numpy.core.multiarray failed to import"),
        ("opencv", "AttributeError: _ARRAY_API not found"),
        ("pycuda", "ValueError: numpy.dtype size changed, may indicate binary incompatibility"),
    ],
)
def test_numpy_2_under_what_was_built_for_numpy_1(jetson: Interpreter, package: str, reason: str) -> None:
    install(jetson.root, SITE, "numpy", "2.2.6")
    shutil.rmtree(jetson.root / SITE / "numpy-1.26.4.dist-info")
    trap = the_trap(jetson, **{package: Answer("broken", reason=reason)})
    assert (trap.what, trap.cure) == ("NumPy", "pip install 'numpy>=1.26,<2'") and "another NumPy than 2.2.6" in trap.found
    assert len(found(jetson, **{package: Answer("broken", reason="ImportError: libGL.so.1")})) == 1


@pytest.mark.parametrize(
    ("driver", "bindings", "cure"), [("12.6", "13.5.0", "cuda-bindings>=12.8,<13"), ("13.0", "14.1.0", "cuda-bindings>=13,<14")]
)
def test_bindings_of_a_newer_cuda_than_the_driver(jetson: Interpreter, driver: str, bindings: str, cure: str) -> None:
    trap = the_trap(jetson, cuda_driver={"version": driver}, cuda_bindings={"version": bindings})
    assert (trap.what, trap.cure) == ("CUDA's majors", f"pip install '{cure}'")
    assert len(found(jetson, cuda_driver={"version": bindings[:4]}, cuda_bindings={"version": driver})) == 1, "older ones are fine"


def test_pycuda_cannot_be_built_without_a_compiler_on_the_path(jetson: Interpreter) -> None:
    rows = found(jetson, cuda_driver=DRIVER_12)
    assert [(row.what, row.state) for row in rows] == [("installation", "ok"), ("nvcc", "none")]
    assert "pip install 'cuda-bindings>=12.8,<13' needs no compiler" in rows[1].found
    write(jetson.root, "usr/local/cuda/bin/nvcc", "")
    trap = the_trap(jetson, cuda_driver=DRIVER_12)
    assert trap.what == "nvcc" and "export PATH=/usr/local/cuda/bin:$PATH" in trap.cure
    assert len(found(jetson, cuda_driver=DRIVER_12, pycuda={})) == 1


@pytest.mark.parametrize(("value", "hides"), [("", True), ("-1", True), ("none", True), ("0", False), ("1,0", False), ("GPU-8f2a", False)])
def test_a_variable_that_hides_every_gpu(jetson: Interpreter, value: str, hides: bool) -> None:
    python = replace(jetson, variables={"PATH": "/nowhere", "CUDA_VISIBLE_DEVICES": value})
    rows = found(python)
    assert [row.what for row in rows[1:]] == (["visible GPUs"] if hides else [])


def test_a_package_of_pythonpath_or_of_the_home_folder_hides_another(jetson: Interpreter) -> None:
    for folder in ("opt/ros/site", "home/u/.local/lib/python3.10/site-packages"):
        write(jetson.root, f"{folder}/cv2/__init__.py", "")
    ros = replace(jetson, folders=(jetson.root / "opt/ros/site", *jetson.folders), variables={"PYTHONPATH": f"{jetson.root}/opt/ros/site/"})
    assert the_trap(ros).cure == "unset PYTHONPATH"
    home = jetson.root / "home/u/.local/lib/python3.10/site-packages"
    trap = the_trap(replace(jetson, folders=(home, *jetson.folders), user_folder=home))
    assert f"cv2 of {home} hides that of {jetson.root / SYSTEM}" in trap.found and "PYTHONNOUSERSITE=1" in trap.cure


def test_a_container_without_nvidias_runtime(jetson: Interpreter) -> None:
    write(jetson.root, ".dockerenv", "")
    shutil.rmtree(jetson.root / "etc")  # which that runtime hands in
    trap = the_trap(jetson)
    assert trap.what == "container" and "docker run --runtime nvidia" in trap.cure
    assert len(found(jetson, cuda_driver={"version": "13.0"}, cuda_bindings={"version": "13.0"})) == 1


def test_an_image_of_jetpack_6_on_a_board_of_jetpack_7(jetson: Interpreter) -> None:
    reason = "ImportError: libnvdla_compiler.so: cannot open shared object file: No such file or directory"
    assert "made for the JetPack of this board" in the_trap(jetson, tensorrt=Answer("broken", reason=reason)).cure


def test_a_device_that_this_user_may_not_use(jetson: Interpreter) -> None:
    write(jetson.root, "dev/nvmap", "")
    write(jetson.root, "dev/video0", "")
    trap = the_trap(replace(jetson, may_use=lambda path: path.name != "nvmap"))
    assert trap.found == "/dev/nvmap not open to this user" and "usermod -aG video,render" in trap.cure


def test_a_broken_distribution_is_no_end(jetson: Interpreter) -> None:
    (jetson.root / SITE / "odd-1.0.dist-info").mkdir()
    write(jetson.root, f"{SITE}/other-1.dist-info/METADATA", "Name:\n\n\x00")
    assert len(found(jetson)) == 1


# Real environments.

_ASK = """
import json, sys
sys.path.append(sys.argv[1])
from qtseg_edge.doctor.interpreter import this_interpreter
python = this_interpreter()
system, opencvs = ([str(folder) for folder in folders] for folders in (python.system_folders, python.folders_with("cv2")))
print(json.dumps([python.in_venv, system, opencvs, str(python.base_prefix)]))
"""


def ask(python: Path) -> Any:
    done = subprocess.run([python, "-I", "-c", _ASK, str(ROOT)], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_the_cure_of_a_venv_opens_it_to_the_systems_packages(tmp_path: Path) -> None:
    if not Path("/usr/lib/python3/dist-packages").is_dir() or subprocess.run(["/usr/bin/python3", "-c", "import venv"]).returncode:
        pytest.skip("no Debian or Ubuntu with python3-venv")
    venv = tmp_path / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    assert ask(venv / "bin" / "python")[:3] == [True, [], []]
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", "--system-site-packages", venv], check=True, timeout=60)
    in_venv, system, opencvs, base = ask(venv / "bin" / "python")
    assert in_venv and "/usr/lib/python3/dist-packages" in system and base == "/usr"
    assert all(folder.startswith("/usr/") for folder in opencvs)


def test_doctor_survives_an_opencv_that_does_not_load_and_names_the_numpy(tmp_path: Path) -> None:
    """Debian's OpenCV, built for NumPy 1, under the NumPy 2 of this environment."""
    library = next(iter(Path("/usr/lib/python3/dist-packages").glob(f"cv2.cpython-{sys.version_info[0]}{sys.version_info[1]}-*.so")), None)
    if library is None or int(np.__version__.split(".")[0]) < 2:
        pytest.skip("no Debian with python3-opencv for this Python, or no NumPy 2")
    os.symlink(library, tmp_path / library.name)
    done = doctor_where(tmp_path, "--json", missing=" ".join(VENDORS))
    rows = {row["what"]: row for row in json.loads(done.stdout)["findings"]}
    assert rows["OpenCV"]["state"] == "broken" and "multiarray" in rows["OpenCV"]["found"]
    assert rows["NumPy"]["cure"] == "pip install 'numpy>=1.26,<2'" and np.__version__ in rows["NumPy"]["found"]
    assert rows["hidden package"]["cure"] == "unset PYTHONPATH"
    assert done.returncode == 3 and "Traceback" not in done.stderr
