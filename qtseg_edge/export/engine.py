"""`build-engine`: a model to a TensorRT engine of a given precision, which takes its name only when it has been compared with FP32.

A graph that has its precision in it already needs neither the onnx package nor ONNX Runtime, which a Jetson may lack.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtseg_edge import __version__
from qtseg_edge.calibration import CalibrationSet, default_calibration_set, load_calibration_set, require_disjoint
from qtseg_edge.console import OnProgress, Steps
from qtseg_edge.data import labelled_images
from qtseg_edge.errors import GateError, IncompatibleError, MissingError, QtsegError, UsageError
from qtseg_edge.export.builder import BuildOptions, BuiltPlan, build_plan, require_fitting
from qtseg_edge.export.gate import GateImage, GateResult, compare, gate_images, labelled_gate_images
from qtseg_edge.export.precision_note import PRECISION_KEY, PrecisionNote
from qtseg_edge.files import PendingFile, replacing
from qtseg_edge.runtime.devices import CHECKPOINT_SUFFIXES, default_model, open_backend
from qtseg_edge.runtime.engine_file import ENGINE_SUFFIX, EngineSidecar, Precision, require_key, sidecar_path, write_sidecar
from qtseg_edge.runtime.onnx_metadata import read_metadata, spec_from_onnx
from qtseg_edge.spec import ModelSpec

if TYPE_CHECKING:
    from onnx import ModelProto

    from qtseg_edge.export.precision.histogram import Method
    from qtseg_edge.export.sensitivity import LayerCost


@dataclass(frozen=True)
class EngineRequest:
    """What `build-engine` was asked for.

    output: NAME.engine, or NAME.onnx for the low-precision graph alone, to be built elsewhere. calibration: a folder that `calibrate`
    made; the built-in set for the built-in model when None. data: a folder with images/ and masks/ to compare on; held-out calibration
    images when None. exclude: patterns of node names. limit: of the gate. keep_failed: keep what failed it, as NAME.failed.SUFFIX.
    """

    model: Path
    output: Path
    precision: Precision
    build: BuildOptions
    calibration: Path | None = None
    data: Path | None = None
    method: Method = "percentile"
    exclude: tuple[str, ...] = ()
    limit: float | None = None
    sensitivity: bool = False
    keep_failed: bool = False


@dataclass(frozen=True)
class EngineReport:
    """output: the file that was written, None where the gate failed and nothing was kept. layers: how many of each precision."""

    output: Path | None
    bytes: int
    precision: Precision
    layers: dict[str, int]
    verified: str
    gate: GateResult | None
    costs: tuple[LayerCost, ...]
    built: BuiltPlan | None

    def require(self) -> None:
        """Raises GateError where the gate failed."""
        if self.gate is not None and not self.gate.passed:
            kept = f"kept as {self.output}" if self.output else "nothing was written"
            cure = "see which layers cost most with --sensitivity and leave them out with --exclude, or build with --precision fp16"
            raise GateError(f"{self.precision} is not accurate enough: {self.gate.verdict()}; {kept}; {cure}")


def build_engine(request: EngineRequest, steps: Steps) -> EngineReport:
    """Write `request.output` and its sidecar, or nothing. steps: opens a progress bar, `console.progress`.

    Raises UsageError, MissingError (no TensorRT), IncompatibleError (the model), GateError (an engine of another precision than asked),
    QtsegError (the builder failed). A comparison that failed is in the report; `EngineReport.require` raises for it.
    """
    _require_request(request)
    with tempfile.TemporaryDirectory(prefix="qtseg-edge-") as name:
        return _Build(request, steps, Path(name)).done()


def calibration_of(spec: ModelSpec) -> Path | None:
    """The set that belongs to the built-in model. None for every other."""
    return default_calibration_set() if spec.checkpoint_sha256 == spec_from_onnx(default_model()).checkpoint_sha256 else None


class _Build:
    def __init__(self, request: EngineRequest, steps: Steps, folder: Path) -> None:
        self._request, self._steps, self._folder = request, steps, folder
        self._source = self._onnx(request.model)
        self._spec = spec_from_onnx(self._source)
        self._model_sha256 = hashlib.sha256(request.model.read_bytes()).hexdigest()
        self._images: CalibrationSet | None = None
        self._costs: tuple[LayerCost, ...] = ()
        if request.output.suffix.lower() == ENGINE_SUFFIX:
            require_fitting(self._source, request.build)  # now, and not after minutes of calibration

    def done(self) -> EngineReport:
        graph, note = self._graph()
        _require_precision(note.precision, note.totals)
        if self._request.output.suffix.lower() == ".onnx":
            gate = None if note.gate else self._judge_graph(graph)
            return self._write_graph(graph, note, gate)
        plan = self._folder / "model.engine"
        built = self._built(graph, plan)
        layers = built.inspected or note.totals
        _require_precision(note.precision, layers)
        sidecar = self._sidecar(graph, note, built, layers)
        gate = self._judge(plan, sidecar, graph, note)
        sidecar = replace(sidecar, gate=gate.document() if gate else note.gate).signed()
        output = self._write_engine(plan, sidecar, gate)
        return EngineReport(output, len(plan.read_bytes()), note.precision, layers, sidecar.verified, gate, self._costs, built)

    def _onnx(self, model: Path) -> Path:
        if model.suffix.lower() not in CHECKPOINT_SUFFIXES:
            return model
        from qtseg_edge.export import example_frames, export_checkpoint

        exported = self._folder / "exported.onnx"
        batches = self._request.build.batches
        with self._steps("export", "steps", None):
            export_checkpoint(model, exported, example_frames(), batch=None if batches else 1)
        return exported

    def _graph(self) -> tuple[Path, PrecisionNote]:
        """The graph that is built, in its precision, and what it says of itself."""
        note = _note_of(self._source)
        if note is not None and (note.precision != "fp32" or self._request.precision == "fp32"):
            self._require_as_lowered(note)
            return self._source, note
        import onnx

        from qtseg_edge.export.low_precision import Calibrated
        from qtseg_edge.export.precision.lower import with_note

        model = _loaded(self._source)
        if self._request.precision == "fp32":
            more: dict[str, object] = {}
        else:
            self._images = self._calibration()
            calibrated = Calibrated(model, self._spec, self._images, self._request.method, self._steps)
            model = calibrated.lowered(self._request.precision, self._request.exclude)
            if self._request.sensitivity:
                self._costs = calibrated.layer_costs(self._request.exclude)
            more = {"exclude": self._request.exclude, "calibration": self._calibration_note()}
        model, note = with_note(model, self._request.precision, self._model_sha256, **more)
        path = self._folder / "graph.onnx"
        onnx.save(model, path)
        return path, note

    def _require_as_lowered(self, note: PrecisionNote) -> None:
        """Raises UsageError for options that come too late, GateError for a graph that failed its comparison when it was made."""
        if note.precision != self._request.precision:
            raise UsageError(f"--precision {self._request.precision}: {self._source} is {note.precision} already; give the FP32 model")
        if self._request.exclude or self._request.sensitivity or self._request.data:
            raise UsageError(f"{self._source}: its precision is in it already; --exclude, --sensitivity and --data want the FP32 model")
        if not note.gate.get("passed", True):
            cure = "make it anew from the FP32 model, with --exclude or another precision"
            raise GateError(f"{self._source}: was not accurate enough when it was compared with FP32; nothing was written; {cure}")

    def _calibration(self) -> CalibrationSet:
        folder = self._request.calibration or calibration_of(self._spec)
        if folder is None:
            raise UsageError(
                f"--precision {self._request.precision} wants images like those the model will see: --calibration DIR; "
                "make it with: qtseg-edge calibrate VIDEO... -o DIR"
            )
        images = load_calibration_set(folder)
        if self._request.data is not None:
            require_disjoint(images, self._request.data)
        return images

    def _calibration_note(self) -> dict[str, object]:
        if self._images is None:
            return {}
        return {
            "manifest_sha256": self._images.manifest_sha256,
            "images": len(self._images.calibrating),
            "method": self._request.method if self._request.precision == "int8" else "magnitudes",
        }

    def _built(self, graph: Path, plan: Path) -> BuiltPlan:
        try:
            with self._steps("build", "steps", None) as advance:
                return build_plan(graph, plan, self._request.build, advance)
        except QtsegError as error:  # told of the file that the user knows
            raise type(error)(str(error).replace(str(graph), str(self._request.model))) from error

    def _judge(self, plan: Path, sidecar: EngineSidecar, graph: Path, note: PrecisionNote) -> GateResult | None:
        """The engine itself where a GPU here can run it, FP32 too if there is something to compare on: builders err. Else its graph."""
        if self._source == graph:
            return None  # it was judged when it was made, and its FP32 graph is not at hand
        if self._images is None and self._request.data is None:
            return None
        write_sidecar(plan, sidecar.signed())
        try:
            engine = open_backend(plan, "tensorrt")
        except (MissingError, IncompatibleError):  # no GPU, or not one that this engine is for
            return self._judge_graph(graph)
        from qtseg_edge.export.low_precision import one_image
        from qtseg_edge.runtime.onnxruntime import OnnxRuntimeBackend

        with OnnxRuntimeBackend(self._source) as reference, engine, self._comparing() as advance:
            images, data = self._gate_images()
            return compare(one_image(reference), one_image(engine, sidecar.batches[0]), images, data, self._request.limit, advance)

    def _judge_graph(self, graph: Path) -> GateResult | None:
        if self._request.precision == "fp32":
            return None
        from qtseg_edge.export.low_precision import judged_on_cpu

        images, data = self._gate_images()
        with self._comparing() as advance:
            return judged_on_cpu(self._source, graph, self._folder, images, data, self._request.limit, advance)

    def _comparing(self) -> AbstractContextManager[OnProgress]:
        data, images = self._request.data, self._images
        count = len(labelled_images(data)) if data else len(images.held_out) if images else None
        return self._steps("compare", "images", count)

    def _gate_images(self) -> tuple[Iterator[GateImage], str]:
        if self._request.data is not None:
            return labelled_gate_images(self._request.data, self._spec.classes), self._request.data.name
        held_out = self._images.held_out if self._images else ()
        return gate_images(image.path for image in held_out), "the calibration set, held out"

    def _sidecar(self, graph: Path, note: PrecisionNote, built: BuiltPlan, layers: dict[str, int]) -> EngineSidecar:
        options = self._request.build
        batch = self._spec.batch
        return EngineSidecar(
            spec=self._spec,
            plan_sha256=built.sha256,
            plan_bytes=built.bytes,
            onnx_sha256=hashlib.sha256(graph.read_bytes()).hexdigest(),
            model_sha256=note.model_sha256,
            flavour=options.flavour,
            tensorrt=built.tensorrt,
            platform=built.platform,
            precision=note.precision,
            layers=layers,
            verified="inspector" if built.inspected else "graph",
            batches=options.batches or (batch or 1, batch or 1, batch or 1),
            gpu=built.gpu,
            gpu_compute_capability=built.gpu_compute_capability,
            compute_capabilities=options.compute_capabilities,
            cuda=built.cuda,
            l4t=built.l4t,
            calibration=note.calibration,
            build={
                "qtseg_edge": __version__,
                "seconds": round(built.seconds, 2),
                "workspace_gib": options.workspace_gib,
                "optimization_level": options.optimization_level,
                "exclude": list(note.exclude),
                "parameters": note.parameters,
                "macs": note.macs,
                "layers_by_type": note.layers,
            },
        )

    def _write_engine(self, plan: Path, sidecar: EngineSidecar, gate: GateResult | None) -> Path | None:
        output = self._final_name(gate)
        if output is None:
            return None
        with replacing(output) as temporary:
            shutil.copyfile(plan, temporary)
            sidecar_path(output).unlink(missing_ok=True)  # an engine beside another one's sidecar is refused, but need not be there
        write_sidecar(output, sidecar)
        return output

    def _write_graph(self, graph: Path, note: PrecisionNote, gate: GateResult | None) -> EngineReport:
        output = self._final_name(gate)
        if output is not None:
            with replacing(output) as temporary:
                shutil.copyfile(graph, temporary)
                if gate is not None:
                    from qtseg_edge.export.low_precision import note_gate

                    note_gate(temporary, gate.document())
        return EngineReport(output, graph.stat().st_size, note.precision, note.totals, "graph", gate, self._costs, None)

    def _final_name(self, gate: GateResult | None) -> Path | None:
        output = self._request.output
        if gate is None or gate.passed:
            return output
        return output.with_name(f"{output.stem}.failed{output.suffix}") if self._request.keep_failed else None


def _require_request(request: EngineRequest) -> None:
    if not request.model.is_file():
        raise UsageError(f"{request.model}: no such model; make one with: qtseg-edge export CHECKPOINT -o MODEL.onnx")
    if request.output.suffix.lower() not in (ENGINE_SUFFIX, ".onnx"):
        raise UsageError(f"--output {request.output}: wanted a name that ends in {ENGINE_SUFFIX}, or in .onnx for the graph alone")
    if not request.output.parent.is_dir():
        raise UsageError(f"{request.output.parent}: no such folder; create it with: mkdir -p {request.output.parent}")
    is_engine = request.output.suffix.lower() == ENGINE_SUFFIX
    for path in (request.output, *([sidecar_path(request.output)] if is_engine else [])):
        _require_writable(path)
    if is_engine:
        require_key()
    if request.output.resolve() == request.model.resolve():
        raise UsageError(f"--output {request.output}: is the model itself; give another name")
    if request.precision == "fp32" and (request.exclude or request.sensitivity):
        raise UsageError("--exclude and --sensitivity are about fp16 and int8; give --precision")


def _require_writable(path: Path) -> None:
    """Now, and not after minutes of building."""
    pending = PendingFile(path)
    try:
        pending.temporary.touch()
        pending.discard()
    except OSError as error:
        raise QtsegError(f"{path}: cannot be written ({error.strerror})") from error
    if path.is_dir():
        raise UsageError(f"--output: {path} is a folder; give another name")


def _note_of(graph: Path) -> PrecisionNote | None:
    """What a graph says of its precision, None where it says nothing. Raises IncompatibleError where that cannot be read.

    Its layers are counted anew: other tools keep the note and change the graph. Not where the onnx package is absent, as on a board;
    the inspector of its GPU tells then.
    """
    text = read_metadata(graph).get(PRECISION_KEY)
    if text is None:
        return None
    try:
        note = PrecisionNote.from_json(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IncompatibleError(f"{graph}: its {PRECISION_KEY} is not readable ({error}); make it again") from error
    if importlib.util.find_spec("onnx") is None:
        return note
    from qtseg_edge.onnx_layers import layers_by_precision

    return replace(note, layers=layers_by_precision(_loaded(graph)))


def _loaded(graph: Path) -> ModelProto:
    import onnx

    try:
        return onnx.load(graph)
    except Exception as error:  # protobuf's own errors
        raise IncompatibleError(f"{graph}: not a whole ONNX file ({type(error).__name__})") from error


def _require_precision(precision: Precision, layers: dict[str, int]) -> None:
    """Raises GateError for an engine that silently came out in another precision."""
    name = {"fp32": "FP32", "fp16": "FP16", "int8": "INT8"}[precision]
    if not layers.get(name):
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(layers.items())) or "none"
        raise GateError(f"asked for {precision}, but no layer came out as {name} (layers: {found}); nothing was written")
