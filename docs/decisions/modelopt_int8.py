"""The built-in model in INT8 by NVIDIA ModelOpt, for 0012-precision.md. It wants an environment of its own (1.4 GB):

pip install torch==2.13.0 && pip install --no-deps nvidia-modelopt && pip install onnx onnx-graphsurgeon onnxruntime onnxconverter-common \
    onnxslim onnxscript polygraphy ml_dtypes lief cppimport rich pydantic scipy omegaconf pulp ninja regex safetensors nvidia-ml-py tqdm \
    pyyaml opencv-python-headless typer
PYTHONPATH=. python docs/decisions/modelopt_int8.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from modelopt.onnx.quantization import quantize

from qtseg_edge.calibration import default_calibration_set, load_calibration_set
from qtseg_edge.export.precision.graph import as_float32
from qtseg_edge.runtime.devices import default_model
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx

CONVOLUTIONS = ["Conv", "ConvTranspose"]


def main(folder: Path) -> None:
    images = load_calibration_set(default_calibration_set())
    frames = np.concatenate(list(images.frames(spec_from_onnx(default_model()), images.calibrating)))
    source = folder / "float32.onnx"
    onnx.save(as_float32(onnx.load(default_model())), source)
    for name, operations in (("all", None), ("convolutions", CONVOLUTIONS)):
        for method in ("max", "entropy"):
            quantize(
                str(source),
                quantize_mode="int8",
                calibration_data={"image": frames},
                calibration_method=method,
                calibration_eps=["cpu"],
                op_types_to_quantize=operations,
                op_types_to_exclude=["Sigmoid", "Softmax"],
                disable_mha_qdq=True,
                high_precision_dtype="fp32",
                output_path=str(folder / f"modelopt-{name}-{method}.onnx"),
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
