"""A folder of DeepStream configuration for a deployed graph: uint8 NHWC image in, uint8 mask and confidence out.

Two ways lead from a decoded frame to this graph, and neither ends in a parser that DeepStream brings along (those of nvinfer and
nvdspostprocess read float outputs), so both attach the output tensors to each frame, and masks.py reads them there.

nvinferserver (any engine or .onnx file, through a Triton model repository or a Triton elsewhere): its own preprocessing produces
"FP32/FP16/INT8/UINT8/... planar/packed data" (DeepStream Developer Guide, "Gst-nvinferserver"), with TENSOR_ORDER_NHWC (InferTensorOrder,
SDK API Reference, nvdsinferserver/infer_datatypes.h). Output tensors of UINT8 are labelled INT8 there and hold the same bytes.

nvdspreprocess + nvinfer (an engine): nvinfer's own preprocessing makes "float RGB/BGR/GRAY planar data" only, so the tensor comes from
nvdspreprocess and nvinfer passes it on as it is (DeepStream Developer Guide, "Gst-nvinfer", "Preprocessed Tensor Input mode").
NvDsInferDataType has UINT8 in the SDK API Reference of DeepStream 8.0 and 9.0, and has not in those of 6.x; 7.1 is not documented.
The bundled libcustom2d_preprocess.so writes floats whatever `tensor-data-type` says (sources/gst-plugins/gst-nvdspreprocess/
nvdspreprocess_lib/nvdspreprocess_impl.cpp, prepare_tensor), four times past the end of a UINT8 tensor. NVIDIA's library of the same name
in github.com/NVIDIA-AI-IOT/deepstream_tao_apps, apps/tao_others/deepstream_custom_preprocessing_app, writes UINT8 in NHWC.

Keys and values: the tables of those pages and of "Gst-nvdspreprocess", and the property parsers in the SDK's sources.
None of this has been run: there is no DeepStream where it was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.runtime.backend import INPUT, OUTPUTS
from qtseg_edge.runtime.engine_file import rebuild_command, sidecar_path
from qtseg_edge.serving.servable import ServableModel
from qtseg_edge.serving.staging import new_folder, write_whole
from qtseg_edge.serving.triton_config import quoted
from qtseg_edge.transforms import Letterbox

_NETWORK_MODES = {"fp32": 0, "int8": 1, "fp16": 2}
_SUPER_SAMPLING = 3  # NvBufSurfTransformInter_Algo2, "GPU-Super": the nearest to the area averaging that the network was trained with
PROGRAM = "masks.py"


@dataclass(frozen=True)
class DeepStreamOptions:
    """streams: how many sources nvstreammux gathers. frame_hw: the size it makes of each, network for network frame.

    triton: host:port of a Triton (gRPC), or the folder of a model repository that DeepStream opens itself; None: no nvinferserver.
    triton_model: the model's name there. preprocess_library: NVIDIA's, built on the device.
    """

    streams: int = 1
    frame_hw: tuple[int, int] = (1080, 1920)
    triton: str | None = None
    triton_model: str = ""
    preprocess_library: str = "libcustom2d_preprocess.so"


def write_deepstream(folder: Path, model: ServableModel, options: DeepStreamOptions) -> tuple[str, ...]:
    """The names of the files in `folder`, which must not exist. Raises UsageError, IncompatibleError, QtsegError."""
    files = deepstream_files(model, options)
    with new_folder(folder) as pending:
        for name, content in files.items():
            write_whole(pending / name, content)
    return tuple(files)


def deepstream_files(model: ServableModel, options: DeepStreamOptions) -> dict[str, bytes]:
    """Contents by name, for one of the two ways: nvinferserver where `options.triton` is given, else nvdspreprocess and nvinfer."""
    texts = {"labels.txt": labels_text(model)}
    binaries = {PROGRAM: (resources.files("qtseg_edge") / "serving" / "deepstream_masks.py").read_bytes()}
    if options.triton is not None:
        texts["nvinferserver.txt"] = nvinferserver_text(model, options)
    else:
        _require_engine(model, options)
        texts |= {"nvdspreprocess.txt": nvdspreprocess_text(model, options), "nvinfer.txt": nvinfer_text(model, options)}
        binaries |= {"model.engine": model.content, "model.engine.json": sidecar_path(model.path).read_bytes()}
    return {name: text.encode() for name, text in texts.items()} | binaries


def labels_text(model: ServableModel) -> str:
    """One class a line, in index order."""
    classes = model.spec.card.classes
    if any(not name.strip() or len(name.splitlines()) != 1 for name in classes):
        raise IncompatibleError(f"{model.path}: a class name is empty or of several lines, which a label file cannot hold: {classes}")
    return "".join(f"{name}\n" for name in classes)


def nvinferserver_text(model: ServableModel, options: DeepStreamOptions) -> str:
    """Protobuf text of PluginControl: DeepStream Developer Guide, "Gst-nvinferserver Configuration File Specifications"."""
    if model.batches is None:
        raise UsageError(
            f"{model.path}: takes {model.images} at once; nvinferserver wants a batch it can fill: "
            "qtseg-edge export CHECKPOINT --batch dynamic -o MODEL.onnx"
        )
    if model.sidecar is not None and options.streams > model.batches[2]:
        raise UsageError(f"--streams: {model.path} takes up to {model.batches[2]} images at once, got {options.streams}")
    height, width = model.spec.size_hw
    outputs = ", ".join(f"{{ name: {quoted(name)} }}" for name in OUTPUTS)
    return f"""# Written by qtseg-edge export-deepstream; not run there. docs/guides/serving.md
infer_config {{
  unique_id: 1
  gpu_ids: [0]
  max_batch_size: {options.streams}
  backend {{
    inputs [ {{ name: {quoted(INPUT)} dims: [{height}, {width}, 3] data_type: TENSOR_DT_UINT8 }} ]
    outputs [ {outputs} ]
    output_mem_type: MEMORY_TYPE_CPU
    triton {{
      model_name: {quoted(options.triton_model)}
      version: -1
      {_triton_server(options)}
    }}
  }}
  preprocess {{
    network_format: IMAGE_FORMAT_RGB
    tensor_order: TENSOR_ORDER_NHWC
    tensor_name: {quoted(INPUT)}
    maintain_aspect_ratio: 1
    symmetric_padding: 0
    frame_scaling_hw: FRAME_SCALING_HW_GPU
    frame_scaling_filter: {_SUPER_SAMPLING}
    normalize {{ scale_factor: 1.0 }}
  }}
  postprocess {{
    labelfile_path: "labels.txt"
    other {{ }}
  }}
}}
input_control {{
  process_mode: PROCESS_MODE_FULL_FRAME
  interval: 0
}}
output_control {{ output_tensor_meta: true }}
"""


def _triton_server(options: DeepStreamOptions) -> str:
    where = options.triton or ""
    if _is_address(where):
        return f"grpc {{ url: {quoted(where)} enable_cuda_buffer_sharing: false }}"
    repository = Path(where).resolve()
    config = repository / options.triton_model / "config.pbtxt"
    if not config.is_file():
        raise UsageError(
            f"--triton: wanted HOST:PORT or a model repository with {options.triton_model}, got {where}; "
            f"make one with: qtseg-edge export-triton MODEL -o {where} --name {options.triton_model}"
        )
    largest = re.search(r"^\s*max_batch_size\s*:\s*(\d+)", config.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    if largest is not None and options.streams > int(largest[1]):
        raise UsageError(
            f"--streams: {config} takes up to {largest[1]} images at once, got {options.streams}; "
            f"export it again, to another folder: qtseg-edge export-triton MODEL --max-batch {options.streams} -o DIR"
        )
    return f"model_repo {{ root: {quoted(str(repository))} strict_model_config: true }}"


def _is_address(where: str) -> bool:
    host, _, port = where.rpartition(":")
    return bool(host) and "/" not in where and port.isascii() and port.isdigit()


def _require_engine(model: ServableModel, options: DeepStreamOptions) -> None:
    if model.sidecar is None:
        raise UsageError(
            f"{model.path}: nvinfer would build it with precision flags of its own; wanted an engine: "
            f"qtseg-edge build-engine {model.path} -o MODEL.engine, or with --triton HOST:PORT a Triton that serves it"
        )
    if model.sidecar.flavour != "tensorrt":
        raise IncompatibleError(
            f"{model.path}: DeepStream opens engines of full TensorRT, this is one of {model.sidecar.flavour}; "
            f"{rebuild_command(model.path)} --flavour tensorrt"
        )
    largest = model.batches[2] if model.batches else model.images
    fits = options.streams == model.images if model.batches is None else options.streams <= model.batches[2]
    if not fits:
        raise UsageError(
            f"--streams: {model.path} takes {'up to ' if model.batches else ''}{largest} at once, got {options.streams}; "
            f"qtseg-edge build-engine MODEL --batch 1:{options.streams}:{options.streams} -o {model.path}"
        )


def nvdspreprocess_text(model: ServableModel, options: DeepStreamOptions) -> str:
    """GLib key file: DeepStream Guide, "Gst-nvdspreprocess File Configuration Specifications"; [user-configs]: README of the library.

    Its affine matrix maps pixels of the frame to pixels of the input. It samples bilinearly and does not average: let nvstreammux make
    frames of about the network's size (--frame), as the network was trained with averaged ones.
    """
    height, width = model.spec.size_hw
    content_h, content_w = Letterbox(options.frame_hw, model.spec.size_hw).content_hw
    frame_h, frame_w = options.frame_hw
    matrix = ";".join(f"{value:.9g}" for value in (content_w / frame_w, 0.0, 0.0, 0.0, content_h / frame_h, 0.0))
    properties = {
        "enable": 1,
        "target-unique-ids": 1,
        "network-input-order": 1,  # NHWC
        "process-on-frame": 1,
        "unique-id": 5,
        "gpu-id": 0,
        "maintain-aspect-ratio": 1,
        "symmetric-padding": 0,
        "processing-width": width,
        "processing-height": height,
        "scaling-buf-pool-size": 6,
        "tensor-buf-pool-size": 6,
        "network-input-shape": f"{options.streams};{height};{width};3",
        "network-color-format": 0,  # RGB
        "tensor-data-type": 1,  # UINT8
        "tensor-name": INPUT,
        "scaling-pool-memory-type": 0,
        "scaling-pool-compute-hw": 1,  # GPU
        "scaling-filter": _SUPER_SAMPLING,
        "custom-lib-path": options.preprocess_library,
        "custom-tensor-preparation-function": "CustomTensorPreparation",
    }
    user = {"pixel-normalization-factor": "1;1;1", "offsets": "0;0;0", "scaling-filter": 1, "scale-type": 2, "affine-matrix": matrix}
    sources = ";".join(str(source) for source in range(options.streams))
    group = {"src-ids": sources, "custom-input-transformation-function": "CustomAsyncTransformation", "process-on-roi": 0}
    return _key_file({"property": properties, "user-configs": user, "group-0": group})


def nvinfer_text(model: ServableModel, options: DeepStreamOptions) -> str:
    """GLib key file: DeepStream Developer Guide, "Gst-nvinfer File Configuration Specifications"."""
    assert model.sidecar is not None
    height, width = model.spec.size_hw
    properties = {
        "gpu-id": 0,
        "gie-unique-id": 1,
        "model-engine-file": "model.engine",
        "labelfile-path": "labels.txt",
        "batch-size": options.streams,
        "network-mode": _NETWORK_MODES[model.sidecar.precision],
        "network-type": 100,  # other: nothing is parsed
        "process-mode": 1,
        "interval": 0,
        "infer-dims": f"3;{height};{width}",  # channels first whatever the graph says; without it the height is taken for the channels
        "model-color-format": 0,
        "input-tensor-from-meta": 1,
        "output-tensor-meta": 1,
        "output-blob-names": ";".join(OUTPUTS),
    }
    return _key_file({"property": properties})


def _key_file(groups: dict[str, dict[str, object]]) -> str:
    head = "# Written by qtseg-edge export-deepstream; not run there. docs/guides/serving.md\n"
    return head + "\n".join(f"[{group}]\n" + "".join(f"{key}={value}\n" for key, value in keys.items()) for group, keys in groups.items())
