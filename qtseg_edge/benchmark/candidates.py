"""From model files, devices, image sizes and batches to what is measured; and what of it cannot be, with the reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from qtseg_edge.benchmark.limits import Cost, cost_of_onnx
from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime.devices import CHECKPOINT_SUFFIXES, DEVICES
from qtseg_edge.runtime.engine_file import ENGINE_SUFFIX, read_sidecar
from qtseg_edge.runtime.onnx_metadata import read_metadata, spec_from_onnx
from qtseg_edge.spec import ModelSpec

SizeHw = tuple[int, int]
_NOT_FOR_ONNX = ("auto", "fake", "torch", "tensorrt", "openvino")  # `openvino` is one of its two precisions


@dataclass(frozen=True)
class Candidate:
    """One model on one device at one size and batch.

    model: the file that was given; path: what is opened: the same, or an ONNX file exported from it for this size and batch.
    precision: of the file, such as "fp32": a device may compute in another. network: equal for candidates with the same weights and size.
    cost: of one image, as the file says; a text where it is not known. required: asked for by name, so that its absence is a failure.
    """

    model: Path
    path: Path
    device: str
    size_hw: SizeHw
    batch: int
    precision: str
    network: str
    classes: int
    cost: Cost | str
    required: bool

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """What it is called by: model, device, size and, where it is more than 1, batch."""
        return self.model.name, self.device, _side(self.size_hw), f"x{self.batch}" if self.batch > 1 else ""

    @property
    def label(self) -> str:
        return " ".join(part for part in self.parts if part)

    @property
    def uses_gpu(self) -> bool:
        return self.device == "tensorrt" or "cuda" in self.device


@dataclass(frozen=True)
class Skipped:
    """what: as `Candidate.label`, as far as it is known. is_failure: it could have been measured, had nothing gone wrong."""

    what: str
    reason: str
    is_failure: bool = False


@dataclass(frozen=True)
class Wanted:
    """sizes, batches: empty for those of the file. devices: empty for every one that works here."""

    models: tuple[Path, ...]
    devices: tuple[str, ...] = ()
    sizes: tuple[SizeHw, ...] = ()
    batches: tuple[int, ...] = ()


OnStep = Callable[[str], None]


def candidates_of(wanted: Wanted, folder: Path, on_step: OnStep = lambda step: None) -> tuple[list[Candidate], list[Skipped]]:
    """In the order model, size, batch, device. folder: takes the exported ONNX files. on_step: told of each export.

    Raises UsageError and IncompatibleError for a file that is no model of ours, and UsageError where nothing is left to be measured.
    """
    if unknown := [device for device in wanted.devices if device not in DEVICES]:
        raise UsageError(f"--device: wanted one of {', '.join(DEVICES)}; got {unknown[0]!r}")
    found: list[Candidate] = []
    skipped: list[Skipped] = []
    for model in wanted.models:
        if not model.is_file():
            raise UsageError(f"{model}: no such model; make one with: qtseg-edge export CHECKPOINT -o {model.with_suffix('.onnx')}")
        of_kind = _of_checkpoint if model.suffix.lower() in CHECKPOINT_SUFFIXES else _of_fixed
        for one in of_kind(model, wanted, folder, on_step):
            (found if isinstance(one, Candidate) else skipped).append(one)  # type: ignore[arg-type]
    if not found:
        why = "; ".join(f"{one.what}: {one.reason}" for one in skipped)
        raise UsageError(f"benchmark: nothing to measure; {why}")
    return _with_costs_of_engines(found), skipped


# A checkpoint: eager at any size, and exported for each size and batch.


def _of_checkpoint(model: Path, wanted: Wanted, folder: Path, on_step: OnStep) -> Iterator[Candidate | Skipped]:
    from qtseg_edge.model.checkpoint import load_checkpoint
    from qtseg_edge.model.complexity import multiply_accumulates, parameter_counts

    checkpoint = load_checkpoint(model)
    sizes, batches = wanted.sizes or (checkpoint.card.size_hw,), wanted.batches or (1,)
    eager, exported = _split_devices(wanted.devices)
    if "tensorrt" in wanted.devices:
        yield Skipped(f"{model.name} tensorrt", f"a checkpoint is built first: qtseg-edge build-engine {model}")
    for number, (size_hw, batch) in enumerate(product(sizes, batches)):
        spec = ModelSpec(checkpoint.card, size_hw, batch, checkpoint.sha256)
        macs = multiply_accumulates(checkpoint.config, size_hw)["total"]
        cost = Cost({"FP32": macs}, {"FP32": parameter_counts(checkpoint.network)["total"]}, size_hw)
        plain = _candidate(model, model, spec, "fp32", "torch", batch, cost, required=bool(wanted.devices))
        yield from (replace(plain, device=device) for device in eager)
        if not exported:
            continue
        on_step(f"exporting {model.name} at {size_hw[0]}x{size_hw[1]}, batch {batch}")
        path = folder / f"{model.stem}-{checkpoint.sha256[:8]}-{number}.onnx"
        try:
            _export(model, path, size_hw, batch)
        except QtsegError as error:
            yield Skipped(plain.label.replace(" torch ", " exported "), str(error), is_failure=True)
            continue
        exported_cost = cost_of_onnx(path, size_hw)
        yield from (replace(plain, path=path, device=device, cost=exported_cost) for device in exported)


def _split_devices(devices: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that open the checkpoint itself, and those that open an export of it."""
    if not devices:
        return ("torch",), _onnx_devices()
    eager = tuple(device for device in devices if device in ("auto", "torch"))
    return eager, tuple(device for device in devices if device not in (*eager, "tensorrt"))


def _export(model: Path, path: Path, size_hw: SizeHw, batch: int) -> None:
    from qtseg_edge.export import example_frames, export_checkpoint

    export_checkpoint(model, path, example_frames(), size_hw, batch)


# An ONNX file or an engine: what it was made for, and nothing else.


def _of_fixed(model: Path, wanted: Wanted, folder: Path, on_step: OnStep) -> Iterator[Candidate | Skipped]:
    is_engine = model.suffix.lower() == ENGINE_SUFFIX
    spec, precision, (smallest, largest) = _engine_facts(model) if is_engine else _onnx_facts(model)
    cost = "" if is_engine else cost_of_onnx(model, spec.size_hw)
    for size_hw in wanted.sizes:
        if size_hw != spec.size_hw:
            yield Skipped(f"{model.name} {_side(size_hw)}", f"it takes {_side(spec.size_hw)} alone; give the checkpoint to compare sizes")
    if wanted.sizes and spec.size_hw not in wanted.sizes:
        return
    batches = wanted.batches or (smallest,)
    for batch in batches:
        if not smallest <= batch <= largest:
            range_ = f"{smallest} to {largest}" if largest > smallest else str(smallest)
            yield Skipped(f"{model.name} x{batch}", f"it takes a batch of {range_}")
            continue
        for device in wanted.devices or (("tensorrt",) if is_engine else _onnx_devices()):
            if reason := _misfit(model, device, is_engine):
                yield Skipped(f"{model.name} {device}", reason)
            else:
                yield _candidate(model, model, spec, precision, device, batch, cost, required=bool(wanted.devices))


def _misfit(model: Path, device: str, is_engine: bool) -> str:
    """Why this kind of file does not open there; "" where it does."""
    if device in ("auto", "fake") or (is_engine == (device == "tensorrt") and device != "torch"):
        return ""
    if is_engine:
        return "an engine runs on tensorrt alone"
    return "an .onnx file is built first: qtseg-edge build-engine" if device == "tensorrt" else "torch opens checkpoints alone"


def _onnx_facts(model: Path) -> tuple[ModelSpec, str, tuple[int, int]]:
    """Spec, precision (build-engine's graphs say theirs, every other computes in float32), smallest and largest batch."""
    from qtseg_edge.export.precision_note import PRECISION_KEY, PrecisionNote

    spec = spec_from_onnx(model)
    note = read_metadata(model).get(PRECISION_KEY)
    precision = "fp32"
    if note:
        try:
            precision = PrecisionNote.from_json(note).precision
        except (ValueError, KeyError, TypeError, AttributeError):
            precision = "not known"
    return spec, precision, (1, 64) if spec.batch is None else (spec.batch, spec.batch)


def _engine_facts(model: Path) -> tuple[ModelSpec, str, tuple[int, int]]:
    sidecar = read_sidecar(model)
    smallest, _, largest = sidecar.batches
    return sidecar.spec, sidecar.precision, (smallest, largest)


def _candidate(
    model: Path, path: Path, spec: ModelSpec, precision: str, device: str, batch: int, cost: Cost | str, required: bool
) -> Candidate:
    weights = spec.checkpoint_sha256 or hashlib.sha256(model.read_bytes()).hexdigest()
    network = f"{weights} {spec.size_hw[0]}x{spec.size_hw[1]}"
    return Candidate(model, path, device, spec.size_hw, batch, precision, network, spec.classes, cost, required)


def _onnx_devices() -> tuple[str, ...]:
    return tuple(device for device in DEVICES if device not in _NOT_FOR_ONNX)


def _with_costs_of_engines(found: list[Candidate]) -> list[Candidate]:
    """An engine's file tells no cost: it has that of the same network in another file, where no layer of it is INT8."""
    costs = {one.network: one.cost for one in found if isinstance(one.cost, Cost) and one.precision == "fp32"}
    lacking = "it is counted in a graph: give the .onnx file or the checkpoint of this network too"
    return [one if one.cost else replace(one, cost=_cost_of_engine(one, costs.get(one.network, lacking))) for one in found]


def _cost_of_engine(engine: Candidate, cost: Cost | str) -> Cost | str:
    if engine.precision == "int8" and not isinstance(cost, str):
        return "which of its layers are INT8 is told by no file but the .onnx it was built from"
    return cost if isinstance(cost, str) else cost.computed_in(engine.precision.upper())


def _side(size_hw: SizeHw) -> str:
    return str(size_hw[0]) if size_hw[0] == size_hw[1] else f"{size_hw[0]}x{size_hw[1]}"
