"""Dice and mask IoU of FP16 and INT8 graphs, half precision emulated: the table of 0012-precision.md.

python docs/decisions/measure_precision.py --data KVASIR-SEG/val [OTHER.onnx ...]: of other graphs, such as modelopt_int8.py makes, the
float32 parts stay as they are.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import onnx
from onnx import helper

from qtseg_edge.calibration import default_calibration_set, load_calibration_set
from qtseg_edge.console import progress
from qtseg_edge.errors import QtsegError
from qtseg_edge.export.gate import labelled_gate_images
from qtseg_edge.export.low_precision import Calibrated, judged_on_cpu
from qtseg_edge.export.precision.histogram import METHODS
from qtseg_edge.runtime.devices import default_model
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from qtseg_edge.spec import SPEC_KEY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, default=default_calibration_set())
    parser.add_argument("others", type=Path, nargs="*")
    arguments = parser.parse_args()
    model, spec = onnx.load(default_model()), spec_from_onnx(default_model())
    images = load_calibration_set(arguments.calibration)
    graphs = {"fp16": Calibrated(model, spec, images, "entropy", progress).lowered("fp16")}
    for method in METHODS:
        graphs[f"int8 {method}"] = Calibrated(model, spec, images, method, progress).lowered("int8")
    transposed = ("*/ConvTranspose",)
    graphs["int8 percentile, transposed convolutions FP16"] = Calibrated(model, spec, images, "percentile", progress).lowered(
        "int8", transposed
    )
    for path in arguments.others:
        graphs[path.stem] = onnx.load(path)
        helper.set_model_props(graphs[path.stem], {SPEC_KEY: spec.to_json()})  # which other quantizers drop
    with tempfile.TemporaryDirectory() as name:
        for title, graph in graphs.items():
            folder = Path(name)
            onnx.save(graph, folder / "graph.onnx")
            with progress(title, "images", None) as advance:
                pairs = labelled_gate_images(arguments.data, spec.classes)
                try:
                    result = judged_on_cpu(default_model(), folder / "graph.onnx", folder, pairs, "val", None, advance)
                except QtsegError as error:
                    print(f"{title:44s} {error}", flush=True)
                    continue
            worst = result.worst[0].mask_iou
            scores = f"Dice {100 * result.dice:.2f} ({-result.points_lost:+.2f})  mask IoU {result.mask_iou:.4f}  worst {worst:.3f}"
            print(f"{title:44s} {scores}", flush=True)


if __name__ == "__main__":
    main()
