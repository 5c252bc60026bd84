"""The real Triton Inference Server 2.51 that the nvidia-pytriton wheel carries, on loopback. It has the Python back end and no other.

The wheel wants NumPy 1, and nothing of it but the server is used: `make test` unpacks it beside the virtual environment's packages,
in share/tritonserver; QTSEG_TRITON names another folder.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("QTSEG_TRITON") or Path(sys.prefix) / "share" / "tritonserver")
SERVER = FOLDER / "pytriton" / "tritonserver"
STUB = SERVER / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}" / "triton_python_backend_stub"
START_SECONDS = 60


def require_triton() -> Any:
    """The client module, where server and client can run."""
    client = pytest.importorskip("tritonclient.grpc", reason="pip install 'tritonclient[grpc]'")
    library = sysconfig.get_config_var("INSTSONAME") or ""
    if not (SERVER / "bin" / "tritonserver").is_file() or not STUB.is_file():
        pytest.skip(f"no Triton in {FOLDER}: pip install --no-deps --target {FOLDER} nvidia-pytriton==0.7.0 (x86-64, glibc 2.35)")
    if ".so" not in library or not any((folder / library).exists() for folder in _library_folders()):
        pytest.skip("Triton's Python back end wants a Python with a shared library (libpython3-dev, or python --enable-shared)")
    return client


@contextmanager
def triton(repository: Path, folder: Path, *models: str, options: tuple[str, ...] = ()) -> Iterator[Any]:
    """A client of a server that has loaded `models` of the repository and is ready. folder: for its log and its back ends.

    Besides its own methods it has `address`, of gRPC, and `http`, an URL. options: more of the server's.
    """
    client = require_triton()
    http, grpc = _free_ports(2)
    command = [SERVER / "bin" / "tritonserver", f"--model-repository={repository}", f"--backend-directory={_backends(folder)}"]
    command += [f"--http-address=127.0.0.1 --http-port={http} --grpc-address=127.0.0.1 --grpc-port={grpc}", "--allow-metrics=false"]
    command += ["--model-control-mode=explicit", "--exit-timeout-secs=3", *(f"--load-model={model}" for model in models), *options]
    with (folder / "triton.log").open("w") as log:
        arguments = [word for part in command for word in str(part).split(" ")]
        process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, env=_environment(), cwd=folder)
    try:
        asking = client.InferenceServerClient(f"127.0.0.1:{grpc}")
        asking.address, asking.http = f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}"
        _wait_until_ready(asking, process, folder / "triton.log")
        yield asking
        asking.close()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(asking: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    from tritonclient.utils import InferenceServerException

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if asking.is_server_ready():
                return
        except InferenceServerException:
            pass
        time.sleep(0.1)
    pytest.fail(f"Triton did not get ready:\n{log.read_text()[-3000:]}")


def _backends(folder: Path) -> Path:
    """Triton looks for its stub, of which the wheel has one for each Python, beside the back end."""
    python = folder / "backends" / "python"
    python.mkdir(parents=True, exist_ok=True)
    for file in [*(SERVER / "backends" / "python").iterdir(), STUB]:
        if not (python / file.name).exists():
            (python / file.name).symlink_to(file)
    STUB.chmod(0o755)
    (SERVER / "bin" / "tritonserver").chmod(0o755)
    return python.parent


def _environment() -> dict[str, str]:
    """The stub takes the first `python3` of PATH for its own, and so the packages of this virtual environment."""
    libraries = os.pathsep.join(map(str, [FOLDER / "nvidia_pytriton.libs", *_library_folders()]))
    return {**os.environ, "LD_LIBRARY_PATH": libraries, "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}


def _library_folders() -> list[Path]:
    return [Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"), Path("/usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "")]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
