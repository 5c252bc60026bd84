"""What goes wrong with installations, on Jetsons above all, each with what to type against it.

Where users met these traps: a wheel of OpenCV without GStreamer before JetPack's own (autorope/donkeycar#970,
ultralytics/ultralytics#22010), two OpenCV distributions in one folder, NumPy 2 under an OpenCV made for NumPy 1 (`_ARRAY_API not found`),
TensorRT invisible in a virtual environment (pytorch/TensorRT#1233) or one of pyenv (NVIDIA/TensorRT#4176), nvcc that is not on the path
(jkjung-avt/tensorrt_demos#389), containers that lack libnvdla_compiler.so (dusty-nv/jetson-inference#1920), cuda-bindings 13 on a driver of
CUDA 12 (NVIDIA/cutlass#2866).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping

from qtseg_edge.doctor.asking import Answer
from qtseg_edge.doctor.findings import Finding
from qtseg_edge.doctor.interpreter import Distribution, Interpreter
from qtseg_edge.jetson import l4t_release
from qtseg_edge.jetson.generation import generation_of

_OPENCVS = frozenset({"opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"})
_TENSORRT_WHEEL = re.compile(r"tensorrt(-(lean|dispatch))?(-cu\d+)?(-(bindings|libs))?")
_PYTHONS = {36: (3, 10), 38: (3, 12), 39: (3, 12)}  # that JetPack's packages are for, by the first number of its Linux
_BINDINGS = {36: "'cuda-bindings>=12.8,<13'", 38: "'cuda-bindings>=13,<14'", 39: "'cuda-bindings>=13,<14'"}
_FIRST_WITH_WHEELS = 38  # of TensorRT
# One of them before another of the same name is what was meant, or a trap.
_PACKAGES = ("numpy", "cv2", "tensorrt", "av", "pycuda", "cuda", "typer", "rich")
_OTHER_NUMPY = re.compile(r"multiarray failed to import|_ARRAY_API|numpy\.dtype size changed|compiled using NumPy 1")
_DEVICES = ("dev/nvmap", "dev/nvgpu/igpu0/ctrl", "dev/dri/renderD128", "dev/video0")
_IN_CONTAINER = (".dockerenv", "run/.containerenv")
_NVCC = "usr/local/cuda/bin/nvcc"

Answers = Mapping[str, Answer]
_REQUIREMENTS = {36: "deploy/jetson/requirements-jetpack6.txt", 38: "deploy/jetson/requirements-jetpack7.txt"}


def installation_findings(answers: Answers, python: Interpreter) -> list[Finding]:
    """One row that says where things come from, then one for each trap. answers: of `ask_all`."""
    checks: tuple[Callable[[Answers, Interpreter], Finding | None], ...] = (
        _container,
        _wrong_python,
        _no_system_packages,
        _opencv_wheel,
        _two_opencvs,
        _tensorrt_wheel,
        _no_dla,
        _hidden_package,
        _other_numpy,
        _newer_bindings,
        _no_compiler,
        _hidden_gpus,
        _forbidden_device,
    )
    traps = [finding for check in checks if (finding := check(answers, python)) is not None]
    return [_installation(python, sum(trap.state == "broken" for trap in traps)), *traps]


def _installation(python: Interpreter, traps: int) -> Finding:
    where = [f"{name} of {folders[0]}" for name in ("cv2", "tensorrt", "numpy") if (folders := python.folders_with(name))]
    kind = "no virtual environment"
    if python.in_venv:
        kind = f"virtual environment {'with' if python.system_folders else 'without'} system packages"
    told = "no known trap" if not traps else f"{traps} known trap{'s' if traps > 1 else ''}, below"
    return Finding("installation", "ok" if not traps else "broken", "; ".join([told, kind, *where]))


def _is_jetson(python: Interpreter) -> bool:
    return bool(l4t_release(python.root)) or generation_of(python.root) is not None


def _branch(python: Interpreter) -> int:
    """The first number of its Linux, 36 or 38; 0 where it is not known."""
    return int(l4t_release(python.root).split(".")[0] or 0)


def _container(answers: Answers, python: Interpreter) -> Finding | None:
    """JetPack's libraries and the GPU are handed in by NVIDIA's runtime only."""
    inside = any((python.root / mark).exists() for mark in _IN_CONTAINER)
    if not (inside and _is_jetson(python) and answers["cuda-driver"].state == "missing"):
        return None
    return Finding("container", "broken", "was started without NVIDIA's runtime: no CUDA driver in it", "docker run --runtime nvidia ...")


def _wrong_python(_: Answers, python: Interpreter) -> Finding | None:
    wanted = _PYTHONS.get(_branch(python))
    if wanted is None or wanted == python.version:
        return None
    found = f"JetPack's OpenCV and TensorRT are for Python {_dotted(wanted)}, this is {_dotted(python.version)}"
    return Finding("Python version", "broken", found, _new_venv(python))


def _no_system_packages(_: Answers, python: Interpreter) -> Finding | None:
    wanted = _PYTHONS.get(_branch(python))
    if not _is_jetson(python) or python.system_folders or (wanted is not None and wanted != python.version):
        return None
    if python.in_venv and python.base_prefix == python.root / "usr":
        found = "virtual environment without system packages: JetPack's OpenCV and TensorRT are not seen"
        return Finding("venv", "broken", found, f"/usr/bin/python3 -m venv --system-site-packages {python.prefix}")
    return Finding("venv", "broken", f"the Python of {python.base_prefix} does not see JetPack's packages", _new_venv(python))


def _new_venv(python: Interpreter) -> str:
    branch = _branch(python)
    requirements = _REQUIREMENTS.get(min(branch, 38), "deploy/jetson/requirements-jetpack6.txt")
    return f"/usr/bin/python3 -m venv --system-site-packages ~/qtseg, and in it: pip install -r {requirements}"


def _opencv_wheel(_: Answers, python: Interpreter) -> Finding | None:
    wheels = _of_pip(python, lambda name: name in _OPENCVS)
    if not wheels or not _is_jetson(python):
        return None
    found = f"{_listed(wheels)} takes the place of JetPack's OpenCV, and has no GStreamer"
    return Finding("OpenCV wheel", "broken", found, _uninstall(wheels))


def _two_opencvs(_: Answers, python: Interpreter) -> Finding | None:
    """Both write into the folder cv2, so that what is there is a mixture; to remove one breaks the other."""
    wheels = _of_pip(python, lambda name: name in _OPENCVS)
    if len({wheel.name for wheel in wheels}) < 2 or _is_jetson(python):
        return None
    cure = f"{_uninstall(wheels)}; pip install opencv-python-headless"
    return Finding("two OpenCVs", "broken", f"{_listed(wheels)} overwrite each other", cure)


def _tensorrt_wheel(_: Answers, python: Interpreter) -> Finding | None:
    """PyPI's are for CUDA 13 where they are for arm64 at all: of use from JetPack 7 on, where nothing is hidden by them."""
    wheels = _of_pip(python, lambda name: _TENSORRT_WHEEL.fullmatch(name) is not None)
    has_jetpacks = any(python.is_system(folder) for folder in python.folders_with("tensorrt"))
    if not wheels or not _is_jetson(python) or (_branch(python) >= _FIRST_WITH_WHEELS and not has_jetpacks):
        return None
    found = f"{_listed(wheels)} takes the place of JetPack's TensorRT, which engines are built with and services run"
    return Finding("TensorRT wheel", "broken", found, _uninstall(wheels))


def _no_dla(answers: Answers, python: Interpreter) -> Finding | None:
    if "libnvdla_compiler.so" not in answers["tensorrt"].reason or not _is_jetson(python):
        return None
    found = "this TensorRT needs libnvdla_compiler.so, which JetPack hands in up to 6.2 and no longer from 7.2 on"
    return Finding("TensorRT's DLA", "broken", found, "take an image that was made for the JetPack of this board")


def _hidden_package(_: Answers, python: Interpreter) -> Finding | None:
    """Of two packages of one name that outside the usual order wins: PYTHONPATH, or ~/.local where nobody looks."""
    listed = [entry for entry in python.variables.get("PYTHONPATH", "").split(":") if entry]
    for package in _PACKAGES:
        first, *hidden = python.folders_with(package) or (None,)
        if first is None or not hidden:
            continue
        if any(str(first) == entry.rstrip("/") for entry in listed):
            return Finding("hidden package", "broken", f"{package} of PYTHONPATH ({first}) hides that of {hidden[0]}", "unset PYTHONPATH")
        if first == python.user_folder:
            cure = "export PYTHONNOUSERSITE=1, or a virtual environment"
            return Finding("hidden package", "broken", f"{package} of {first} hides that of {hidden[0]}", cure)
    return None


def _other_numpy(answers: Answers, python: Interpreter) -> Finding | None:
    broken = [name for name in ("opencv", "tensorrt", "pycuda") if _OTHER_NUMPY.search(answers[name].reason)]
    if not broken:
        return None
    numpy = next((found.version for found in python.distributions if found.name == "numpy"), "this NumPy")
    cure = "pip install 'numpy>=1.26,<2'"
    return Finding("NumPy", "broken", f"{' and '.join(broken)} of this machine were built for another NumPy than {numpy}", cure)


def _newer_bindings(answers: Answers, _: Interpreter) -> Finding | None:
    driver, bindings = (str(answers[name].facts.get("version", "")) for name in ("cuda-driver", "cuda-bindings"))
    if not driver or not bindings or _major(bindings) <= _major(driver):
        return None
    cure = f"pip install 'cuda-bindings>={'12.8' if _major(driver) == 12 else _major(driver)},<{_major(driver) + 1}'"
    return Finding(
        "CUDA's majors", "broken", f"cuda-bindings {bindings} need a driver of CUDA {_major(bindings)}, this one is {driver}", cure
    )


def _no_compiler(answers: Answers, python: Interpreter) -> Finding | None:
    """Only who has a GPU and no way to CUDA might now try to build PyCUDA, and fail for want of the compiler."""
    usable = any(answers[name].ok for name in ("cuda-bindings", "pycuda"))
    on_path = shutil.which("nvcc", path=python.variables.get("PATH", "")) is not None
    if usable or on_path or not answers["cuda-driver"].ok:
        return None
    wheel = f"pip install {_BINDINGS.get(_branch(python), 'cuda-bindings')} needs no compiler"
    if (python.root / _NVCC).exists():
        return Finding("nvcc", "broken", "is not on the PATH, so PyCUDA cannot be built", f"{wheel}; export PATH=/usr/local/cuda/bin:$PATH")
    return Finding("nvcc", "none", f"no CUDA compiler here, so PyCUDA cannot be built; {wheel}")


def _hidden_gpus(_: Answers, python: Interpreter) -> Finding | None:
    value = python.variables.get("CUDA_VISIBLE_DEVICES")
    if value is None or re.match(r"\s*\d|GPU-|MIG-", value):
        return None
    return Finding("visible GPUs", "broken", f"CUDA_VISIBLE_DEVICES={value!r} hides every GPU", "unset CUDA_VISIBLE_DEVICES")


def _forbidden_device(_: Answers, python: Interpreter) -> Finding | None:
    if not _is_jetson(python):
        return None
    forbidden = [f"/{name}" for name in _DEVICES if (python.root / name).exists() and not python.may_use(python.root / name)]
    if not forbidden:
        return None
    cure = "sudo usermod -aG video,render $USER, then log in again; a container: --group-add video --group-add render"
    return Finding("device access", "broken", f"{', '.join(forbidden)} not open to this user", cure)


def _of_pip(python: Interpreter, wanted: Callable[[str], bool]) -> list[Distribution]:
    return [found for found in python.distributions if wanted(found.name) and not python.is_system(found.folder)]


def _listed(wheels: list[Distribution]) -> str:
    return " and ".join(f"{wheel.name} {wheel.version} ({wheel.folder})" for wheel in wheels)


def _uninstall(wheels: list[Distribution]) -> str:
    return f"pip uninstall --yes {' '.join(dict.fromkeys(wheel.name for wheel in wheels))}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0
