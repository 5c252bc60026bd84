"""What a Jetson installs comes as wheels alone: asked of PyPI, for the boards' architecture and Pythons."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "jetson"
# glibc 2.35 (Ubuntu 22.04, JetPack 6); JetPack 7 has a newer one. pip takes of a platform only what is named.
_PLATFORMS = [*(f"manylinux_2_{minor}_aarch64" for minor in range(35, 16, -1)), "manylinux2014_aarch64"]
_SECONDS = 300  # a busy machine that has none of the wheels yet
BOARDS = {"jetpack6": "3.10", "jetpack7": "3.12"}


def pip(*arguments: str, python: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Resolves and installs nothing. Markers that ask for the Python version are answered for the Python that runs this: so pip has it."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--disable-pip-version-check"]
    command += [
        "--timeout",
        "20",
        "--target",
        str(folder),
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        python,
        "--report",
        "-",
    ]
    command += [part for platform in _PLATFORMS for part in ("--platform", platform)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=_SECONDS, cwd=ROOT)


def resolved(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """File names by package. A network that fails on the way is no answer about wheels."""
    if done.returncode and "Retrying (" in done.stderr:
        pytest.skip(f"PyPI stopped answering: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout[done.stdout.index("{") :])["install"]
    return {entry["metadata"]["name"].lower(): entry["download_info"]["url"].rpartition("/")[2] for entry in entries}


def extras(*names: str) -> list[str]:
    """The package's own requirements and those of some extras, as its metadata has them."""
    asked = []
    for requirement in map(Requirement, requires("qtseg-edge") or []):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": name}) for name in names):
            asked.append(f"{requirement.name}{requirement.specifier}")
    return asked


def lines(board: str) -> list[str]:
    text = (FOLDER / f"requirements-{board}.txt").read_text(encoding="utf-8")
    return [line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip()]


@pytest.fixture(scope="module")
def pypi(tmp_path_factory: pytest.TempPathFactory) -> None:
    done = pip("--no-deps", "typer", python="3.10", folder=tmp_path_factory.mktemp("target"))
    if done.returncode:
        pytest.skip(f"PyPI does not answer: {done.stderr.strip().splitlines()[-1]}")


def wheels_of(asked: dict[str, list[str]], folder: Path) -> dict[str, dict[str, str]]:
    """By board, file names by package; every one of them is a wheel for the board."""
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda board: resolved(pip(*asked[board], python=BOARDS[board], folder=folder)), asked)
        wheels = dict(zip(asked, answers, strict=True))
    for board, files in wheels.items():
        assert all(name.endswith(("-any.whl", "_aarch64.whl")) for name in files.values()), files
        assert f"-cp{BOARDS[board].replace('.', '')}-" in files["numpy"]
    return wheels


@pytest.mark.timeout(_SECONDS)
@pytest.mark.usefixtures("pypi")
def test_what_a_jetson_installs_comes_as_wheels_and_leaves_jetpacks_own(tmp_path: Path) -> None:
    wheels = wheels_of({board: ["-r", str(FOLDER / f"requirements-{board}.txt")] for board in BOARDS}, tmp_path)
    for files in wheels.values():
        assert not [name for name in files if "opencv" in name or "tensorrt" in name or "torch" in name], "JetPack has its own"
        assert files["numpy"].startswith("numpy-1.26.")
    assert wheels["jetpack6"]["cuda-bindings"].startswith("cuda_bindings-12.")
    assert wheels["jetpack7"]["cuda-bindings"].startswith("cuda_bindings-13.")


@pytest.mark.timeout(_SECONDS)
@pytest.mark.usefixtures("pypi")
def test_the_package_with_its_runtime_extras_comes_as_wheels(tmp_path: Path) -> None:
    """On an arm64 machine that is no Jetson, OpenCV included."""
    wheels = wheels_of({board: extras("cpu", "web", "cuda") for board in BOARDS}, tmp_path)
    for files in wheels.values():
        assert {"opencv-python-headless", "openvino", "onnxruntime", "av", "cuda-bindings", "starlette"} <= files.keys()


@pytest.mark.usefixtures("pypi")
def test_a_package_that_must_be_built_is_found_out(tmp_path: Path) -> None:
    done = pip("pycuda", python="3.10", folder=tmp_path)
    assert done.returncode != 0 and "No matching distribution found for pycuda" in done.stderr


@pytest.mark.parametrize("board", BOARDS)
def test_the_files_say_what_the_package_says_without_what_jetpack_brings(board: str) -> None:
    """Compared as requirements: in which order a bound's two ends are written depends on what reads them."""
    texts = [text for text in extras("web") if not text.startswith("opencv")] + [text for text in extras("cpu") if text.startswith("av")]
    wanted = {requirement.name: requirement.specifier for requirement in map(Requirement, texts)}
    given = {requirement.name: requirement.specifier for requirement in map(Requirement, lines(board))}
    for name, specifier in wanted.items():
        assert set(specifier) <= set(given[name]), f"{name}{specifier} is not in requirements-{board}.txt"
    assert given.keys() == wanted.keys() | {"cuda-bindings"}
