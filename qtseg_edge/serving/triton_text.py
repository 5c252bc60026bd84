"""What `export-triton` tells: what was written, the next command to type, and what nobody has checked."""

from __future__ import annotations

import shlex

from qtseg_edge.serving.servable import ServableModel
from qtseg_edge.serving.triton_config import TritonOptions, max_batch_size
from qtseg_edge.serving.triton_repository import ServedVersion, versions

_IMAGE = "nvcr.io/nvidia/tritonserver:YY.MM-py3"


def triton_text(served: ServedVersion, model: ServableModel, options: TritonOptions) -> str:
    largest = max_batch_size(model, options)
    batches = f"up to {largest} images at once" if largest else f"{model.images} image at once (a fixed batch: nothing is batched)"
    state = "is there already, nothing was written" if not served.is_new else f"of {len(versions(served.folder))}"
    lines = [
        ("model", f"{served.folder}, version {served.version} {state}"),
        ("file", f"{served.model_file}, {len(model.content) / 1e6:.1f} MB, sha256 {model.sha256[:16]}"),
        ("served by", f"{options.backend}, {batches}"),
        ("start", serve_command(served, options)),
        ("load", f"curl -X POST http://127.0.0.1:8000/v2/repository/models/{options.name}/load   # a new version, while it runs"),
        *(("unverified", text) for text in unverified(model, options)),
    ]
    return "\n".join(f"{label:<12}{text}" for label, text in lines)


def serve_command(served: ServedVersion, options: TritonOptions) -> str:
    """On this machine only: ports on loopback, the repository read-only, models loaded when asked for by name."""
    control = f"--model-control-mode=explicit --load-model={options.name}"
    repository = served.folder.parent
    if options.backend == "python":
        return f"tritonserver --model-repository={shlex.quote(str(repository))} --http-address=127.0.0.1 --grpc-address=127.0.0.1 {control}"
    gpus = "" if options.kind == "cpu" else "--gpus all "
    folder = shlex.quote(f"{repository.resolve()}:/models:ro")
    ports = " ".join(f"-p 127.0.0.1:{port}:{port}" for port in (8000, 8001, 8002))
    return f"docker run --rm {gpus}{ports} -v {folder} {_IMAGE} tritonserver --model-repository=/models {control}"


def unverified(model: ServableModel, options: TritonOptions) -> list[str]:
    if options.backend == "python":
        return ["any Triton but 2.51, which serves it in the tests; its Python needs qtseg-edge[cpu] (docs/guides/serving.md)"]
    if model.sidecar is None:
        return [
            "Triton's ONNX Runtime back end: the tests parse such a config.pbtxt with Triton's protobuf, and run the graph without Triton"
        ]
    needs = f"a Triton with exactly TensorRT {model.sidecar.tensorrt}, on {model.sidecar.gpu or 'its GPU'}"
    return [
        f"the engine in Triton, which must be {needs}:",
        'find YY.MM in NVIDIA\'s "Deep Learning Frameworks Support Matrix", or build the engine in that container',
    ]
