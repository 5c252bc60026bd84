"""Which engines are opened: every check of the sidecar, and that it comes before TensorRT or a GPU is asked."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.errors import IncompatibleError, MissingError, QtsegError, UsageError
from qtseg_edge.runtime.cuda.contract import Gpu
from qtseg_edge.runtime.engine_file import (
    EngineSidecar,
    read_plan,
    read_sidecar,
    require_gpu,
    require_library,
    require_platform,
    sidecar_path,
    write_sidecar,
)
from qtseg_edge.runtime.tensorrt import TensorRtBackend
from tests.runtime.engines import engine_sidecar, write_engine

ROOT = Path(__file__).parents[2]
REBUILD = r"build it on this machine: qtseg-edge build-engine MODEL -o .*model\.engine"
STAND_IN = Gpu("Stand-in GPU", "8.6", False, "12.6")


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "qtseg-edge" / "engine.key"


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return write_engine(tmp_path)


def altered(engine: Path, **changed: Any) -> Path:
    """The sidecar with other fields than were signed."""
    path = sidecar_path(engine)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    return engine


def test_a_sidecar_reads_as_it_was_written(engine: Path) -> None:
    sidecar = read_sidecar(engine)
    assert replace(sidecar, signature="") == engine_sidecar(engine.read_bytes())
    assert EngineSidecar.from_json(sidecar.to_json()) == sidecar
    assert read_plan(engine, sidecar) == engine.read_bytes()


def test_no_engine_is_a_usage_error_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"model\.engine: no such engine; {REBUILD}"):
        read_sidecar(tmp_path / "model.engine")


def test_an_engine_without_a_sidecar_is_refused(engine: Path) -> None:
    sidecar_path(engine).unlink()
    with pytest.raises(IncompatibleError, match=rf"model\.engine\.json is not beside it.*{REBUILD}") as raised:
        read_sidecar(engine)
    assert raised.value.exit_code == 4


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"version": 2}', b'"text"'],
    ids=lambda content: content[:9],
)
def test_a_sidecar_that_is_none_is_refused(engine: Path, content: bytes) -> None:
    sidecar_path(engine).write_bytes(content)
    with pytest.raises(IncompatibleError, match=rf"model\.engine\.json: not a sidecar of this version \(.*{REBUILD}"):
        read_sidecar(engine)


@pytest.mark.parametrize(
    "changed",
    [
        {"flavour": "tensorrt-cloud"},
        {"flavour": ["tensorrt"]},
        {"precision": "fp4"},
        {"verified": "believed"},
        {"batches": [1, 2]},
        {"batches": [4, 2, 8]},
        {"batches": [0, 1, 1]},
        {"batches": [1, 1, float("inf")]},
        {"compute_capabilities": None},
        {"signature": None},
        {"plan_sha256": 7},
        {"gpu": {"name": "x"}},
        {"spec": {}},
        {"spec": None},
        {"more": 1},
    ],
    ids=str,
)
def test_a_field_that_cannot_be_is_refused(engine: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleError, match="not a sidecar of this version"):
        read_sidecar(altered(engine, **changed))


@pytest.mark.parametrize(
    "field", ["plan_sha256", "plan_bytes", "flavour", "tensorrt", "platform", "batches", "signature", "spec", "version"]
)
def test_a_field_that_is_missing_is_refused(engine: Path, field: str) -> None:
    fields = json.loads(sidecar_path(engine).read_text())
    del fields[field]
    sidecar_path(engine).write_text(json.dumps(fields))
    with pytest.raises((IncompatibleError, QtsegError)) as raised:
        read_plan(engine, read_sidecar(engine))
    assert raised.value.exit_code == 4


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3))


@given(field=st.sampled_from(sorted(json.loads(engine_sidecar(b"plan").to_json()))), value=JSON)
def test_whatever_a_field_holds_it_is_refused_or_read_and_never_signed(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-field"
    folder.mkdir(exist_ok=True)
    engine = write_engine(folder)
    before = json.loads(sidecar_path(engine).read_text())[field]
    try:
        sidecar = read_sidecar(altered(engine, **{field: value}))
        read_plan(engine, sidecar)
    except IncompatibleError:
        return
    assert value == before or field == "version"


@pytest.mark.parametrize(
    "changed", [{"gpu": "Other GPU"}, {"precision": "int8"}, {"layers": {"FP32": 1}}, {"gate": {"passed": True}}], ids=str
)
@pytest.mark.parametrize("trust", [False, True])
def test_an_altered_sidecar_is_refused_unless_it_is_trusted(engine: Path, changed: dict[str, Any], trust: bool) -> None:
    sidecar = read_sidecar(altered(engine, **changed))
    if trust:
        assert read_plan(engine, sidecar, trust=True) == engine.read_bytes()
        return
    with pytest.raises(IncompatibleError, match=rf"not built by this user.*or its sidecar was changed.*{REBUILD}, or open it with --trust"):
        read_plan(engine, sidecar)


@pytest.mark.parametrize("how", ["flipped", "truncated", "longer", "empty"])
@pytest.mark.parametrize("trust", [False, True])
def test_other_bytes_than_described_are_refused_trusted_or_not(engine: Path, how: str, trust: bool) -> None:
    plan = engine.read_bytes()
    changed = {"flipped": bytes([plan[0] ^ 1]) + plan[1:], "truncated": plan[:-1], "longer": plan + b"\0", "empty": b""}
    engine.write_bytes(changed[how])
    with pytest.raises(IncompatibleError, match=rf"model\.engine: its bytes are not those its sidecar describes; {REBUILD}"):
        read_plan(engine, read_sidecar(engine), trust)


def test_an_engine_of_another_user_needs_trust(engine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))
    with pytest.raises(IncompatibleError, match="--trust"):
        read_plan(engine, read_sidecar(engine))
    assert not (tmp_path / "other").exists()  # asking makes no key
    engine_sidecar(b"plan").signed()  # now this user has one
    with pytest.raises(IncompatibleError, match="--trust"):
        read_plan(engine, read_sidecar(engine))
    assert read_plan(engine, read_sidecar(engine), trust=True) == engine.read_bytes()


@pytest.mark.parametrize("signature", ["", "0" * 64, "é", "\ud800"])
def test_a_signature_of_nobody_is_refused(engine: Path, signature: str) -> None:
    with pytest.raises(IncompatibleError, match="--trust"):
        read_plan(engine, read_sidecar(altered(engine, signature=signature)))


def test_the_key_is_the_users_alone_and_stays(engine: Path, own_key: Path) -> None:
    key = own_key.read_bytes()
    assert len(key) == 32 and stat.S_IMODE(own_key.stat().st_mode) == 0o600
    write_sidecar(engine, engine_sidecar(engine.read_bytes()).signed())
    assert own_key.read_bytes() == key
    assert os.listdir(own_key.parent) == ["engine.key"]


def test_a_key_cut_short_signs_nothing_and_opens_nothing(engine: Path, own_key: Path) -> None:
    own_key.write_bytes(b"")
    with pytest.raises(IncompatibleError, match="--trust"):
        read_plan(engine, read_sidecar(engine))
    with pytest.raises(QtsegError, match=r"engine\.key: wanted a key of 32 bytes; delete it"):
        engine_sidecar(b"plan").signed()


def test_builds_at_once_get_one_key(tmp_path: Path) -> None:
    signed: list[EngineSidecar] = []
    threads = [threading.Thread(target=lambda: signed.append(engine_sidecar(b"plan").signed())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len({sidecar.signature for sidecar in signed}) == 1 and signed[0].is_signed_here()


def test_an_engine_of_another_platform_is_refused(tmp_path: Path) -> None:
    engine = write_engine(tmp_path, platform="linux-riscv64")
    with pytest.raises(IncompatibleError, match=rf"was built on linux-riscv64, this is \w+-\w+; {REBUILD}"):
        TensorRtBackend(engine)


@pytest.mark.parametrize("version", ["10.3.0.26", "10.4.0", "11.3.0", "", "10.3"])
def test_an_engine_of_another_version_is_refused(tmp_path: Path, version: str) -> None:
    engine = write_engine(tmp_path, tensorrt=version)
    with pytest.raises(IncompatibleError, match=rf"was built with tensorrt {version}, installed is 10\.3\.0; {REBUILD}"):
        require_library(engine, read_sidecar(engine), "10.3.0")


def test_what_fits_is_accepted(engine: Path, tmp_path: Path) -> None:
    sidecar = read_sidecar(engine)
    require_platform(engine, sidecar)
    require_library(engine, sidecar, "10.3.0")
    require_gpu(engine, sidecar, STAND_IN)


@pytest.mark.parametrize(
    "gpu", [replace(STAND_IN, name="Other GPU"), replace(STAND_IN, compute_capability="8.7")], ids=["name", "capability"]
)
def test_an_engine_of_another_gpu_is_refused(engine: Path, gpu: Gpu) -> None:
    here = rf"{gpu.name} with compute capability {gpu.compute_capability}"
    with pytest.raises(IncompatibleError, match=rf"was built for Stand-in GPU with compute capability 8\.6, this is {here}; {REBUILD}"):
        require_gpu(engine, read_sidecar(engine), gpu)


def test_full_tensorrt_that_does_not_say_its_gpu_is_refused(tmp_path: Path) -> None:
    engine = write_engine(tmp_path, gpu="", gpu_compute_capability="")
    with pytest.raises(IncompatibleError, match="was built for an unknown GPU with compute capability unknown"):
        require_gpu(engine, read_sidecar(engine), STAND_IN)


@pytest.mark.parametrize(
    ("built", "here", "accepted"),
    [
        ((), "8.6", True),
        ((), "12.1", True),
        ((), "7.5", False),  # Turing only where it is asked for
        (("7.5",), "7.5", True),
        (("8.6", "8.9"), "8.9", True),
        (("8.6", "8.9"), "12.0", False),
    ],
)
def test_tensorrt_rtx_runs_on_what_it_was_built_for(tmp_path: Path, built: tuple[str, ...], here: str, accepted: bool) -> None:
    engine = write_engine(tmp_path, "tensorrt-rtx", compute_capabilities=built)
    gpu = replace(STAND_IN, compute_capability=here)
    if accepted:
        require_gpu(engine, read_sidecar(engine), gpu)
        return
    with pytest.raises(IncompatibleError, match=rf"was built for compute capability .*{REBUILD} --compute-capability {here}"):
        require_gpu(engine, read_sidecar(engine), gpu)


@pytest.mark.parametrize("here", ["9.0", "8.7", "10.0", "11.0", "7.0"])
def test_a_gpu_that_tensorrt_rtx_does_not_know_is_sent_to_full_tensorrt(tmp_path: Path, here: str) -> None:
    engine = write_engine(tmp_path, "tensorrt-rtx")
    wanted = (
        rf"TensorRT-RTX runs on compute capability 7\.5, .*, this is Stand-in GPU with compute capability {here}; install full TensorRT"
    )
    with pytest.raises(IncompatibleError, match=rf"{wanted}.*{REBUILD} --flavour tensorrt"):
        require_gpu(engine, read_sidecar(engine), replace(STAND_IN, compute_capability=here))


def test_a_flavour_that_is_not_installed_is_missing(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingError, match=r"tensorrt is not installed; on a Jetson it comes with JetPack.*qtseg-edge\[tensorrt\]"):
        TensorRtBackend(engine)


def test_the_plan_is_looked_at_before_tensorrt_is_loaded(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    engine.write_bytes(b"other")
    with pytest.raises(IncompatibleError, match="its bytes are not those"):
        TensorRtBackend(engine)


@pytest.mark.parametrize(
    ("version", "code", "says"), [("", 3, "no NVIDIA GPU answers"), ("99.0", 4, "was built with tensorrt-rtx 99.0, inst")]
)
def test_the_real_tensorrt_rtx_without_a_gpu_ends_in_one_line(tmp_path: Path, version: str, code: int, says: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("cuda.bindings")
    engine = write_engine(tmp_path, "tensorrt-rtx", tensorrt=version or trt.__version__)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    frames = ROOT / "qtseg_edge" / "assets" / "frames"
    command = [sys.executable, "-m", "qtseg_edge.cli", "run", "--source", str(frames), "--model", str(engine), "--output", "null://"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("qtseg-edge: ") and says in done.stderr and done.stderr.count("\n") == 1
