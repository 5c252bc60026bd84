"""`qtseg-edge export-triton`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from qtseg_edge.commands.options import Trust


def export_triton(
    model: Annotated[
        Path | None, typer.Argument(help="An .onnx file or an engine; the built-in polyp model when left out.", show_default=False)
    ] = None,
    repository: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The model repository.")] = Path("triton"),
    name: Annotated[str | None, typer.Option(help="Of the model in it; that of the model card when left out.", show_default=False)] = None,
    backend: Annotated[
        Literal["auto", "tensorrt", "onnxruntime", "python"],
        typer.Option(help="Triton's; auto takes tensorrt for an engine, else onnxruntime. python: this package's engines, on the CPU."),
    ] = "auto",
    max_batch: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Images at once; 8, or an engine's largest.", show_default=False)
    ] = None,
    preferred_batch: Annotated[
        list[int] | None, typer.Option(min=1, help="A size worth waiting for; repeat. An engine's best if none.", show_default=False)
    ] = None,
    max_queue_delay: Annotated[float, typer.Option(min=0, max=1000, metavar="MS", help="How long a request may wait for others.")] = 2.0,
    instances: Annotated[int, typer.Option(min=1, max=64, help="Copies that run side by side, on each GPU or on the CPU.")] = 1,
    instance_kind: Annotated[
        Literal["auto", "gpu", "cpu"], typer.Option(help="Where; auto is gpu for tensorrt, cpu for python, else what Triton finds.")
    ] = "auto",
    device: Annotated[
        Literal["auto", "openvino", "openvino:f32", "openvino:bf16", "onnxruntime"], typer.Option(help="What --backend python opens.")
    ] = "auto",
    trust: Trust = False,
) -> None:
    """Add a model, or its next version, to a Triton model repository: one GPU machine for many rooms."""
    from qtseg_edge.runtime.devices import default_model
    from qtseg_edge.serving.servable import read_servable
    from qtseg_edge.serving.triton_config import TritonOptions
    from qtseg_edge.serving.triton_repository import add_version
    from qtseg_edge.serving.triton_text import triton_text

    servable = read_servable(model or default_model(), trust)
    chosen = backend if backend != "auto" else "onnxruntime" if servable.sidecar is None else "tensorrt"
    options = TritonOptions(
        name=servable.spec.card.name if name is None else name,
        backend=chosen,
        largest_batch=max_batch,
        preferred_batches=tuple(preferred_batch or ()),
        max_queue_delay_ms=max_queue_delay,
        instances=instances,
        kind=instance_kind if instance_kind != "auto" else {"tensorrt": "gpu", "python": "cpu"}.get(chosen, "auto"),  # type: ignore[arg-type]
        device=device,
    )
    print(triton_text(add_version(repository, servable, options), servable, options))
