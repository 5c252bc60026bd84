"""What DeepStream 7.1 and 8.0 read, of what `export-deepstream` writes: groups, keys, types and values, from NVIDIA's documentation.

Gst-nvinfer and Gst-nvdspreprocess: "File Configuration Specifications" of the DeepStream Developer Guide, and the parsers of the SDK's
sources (gstnvinfer_property_parser.cpp, nvdspreprocess_property_parser.cpp), whose switch statements give the values that are taken.
[user-configs] belongs to the preprocessing library: README of deepstream_tao_apps/apps/tao_others/deepstream_custom_preprocessing_app.
Gst-nvinferserver: "Configuration File Specifications" there; messages are matched by name, so the field numbers are our own.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable
from typing import Any

Check = Callable[[str], bool]


def one_of(*values: int) -> Check:
    return lambda text: text in {str(value) for value in values}


def number(smallest: int, largest: int = 2**31 - 1) -> Check:
    return lambda text: text.isascii() and text.isdigit() and smallest <= int(text) <= largest


def numbers(count: int | None = None, smallest: int = 0) -> Check:
    def check(text: str) -> bool:
        parts = text.rstrip(";").split(";")
        return (count is None or len(parts) == count) and all(number(smallest)(part) for part in parts)

    return check


def reals(count: int) -> Check:
    def check(text: str) -> bool:
        return len(text.split(";")) == count and all(re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", part) for part in text.split(";"))

    return check


def filled(text: str) -> bool:
    return bool(text.strip())


FLAG = one_of(0, 1)
SCALING_FILTERS = one_of(0, 1, 2, 3, 4, 5, 6)  # NvBufSurfTransform_Inter
NVINFER: dict[str, dict[str, Check]] = {
    "property": {
        "gpu-id": number(0),
        "gie-unique-id": number(1),
        "model-engine-file": filled,
        "labelfile-path": filled,
        "batch-size": number(1, 1024),  # NVDSINFER_MAX_BATCH_SIZE
        "network-mode": one_of(0, 1, 2),  # FP32, INT8, FP16
        "network-type": one_of(0, 1, 2, 3, 100),
        "process-mode": one_of(1, 2),
        "interval": number(0),
        "infer-dims": numbers(3, 1),
        "model-color-format": one_of(0, 1, 2),  # RGB, BGR, GRAY
        "input-tensor-from-meta": FLAG,
        "output-tensor-meta": FLAG,
        "output-blob-names": filled,
    }
}
NVDSPREPROCESS: dict[str, dict[str, Check]] = {
    "property": {
        "enable": FLAG,
        "target-unique-ids": numbers(),
        "network-input-order": one_of(0, 1, 2),  # NCHW, NHWC, CUSTOM
        "process-on-frame": FLAG,
        "unique-id": number(0),
        "gpu-id": number(0),
        "maintain-aspect-ratio": FLAG,
        "symmetric-padding": FLAG,
        "processing-width": number(1),
        "processing-height": number(1),
        "scaling-buf-pool-size": number(1),
        "tensor-buf-pool-size": number(1),
        "network-input-shape": numbers(4, 1),
        "network-color-format": one_of(0, 1, 2),
        "tensor-data-type": one_of(0, 1, 2, 3, 4, 5),  # FP32, UINT8, INT8, UINT32, INT32, FP16
        "tensor-name": filled,
        "scaling-pool-memory-type": one_of(0, 1, 2, 3, 4),
        "scaling-pool-compute-hw": one_of(0, 1, 2),
        "scaling-filter": SCALING_FILTERS,
        "custom-lib-path": filled,
        "custom-tensor-preparation-function": filled,
    },
    "user-configs": {
        "pixel-normalization-factor": reals(3),
        "offsets": reals(3),
        "scaling-filter": one_of(0, 1, 2),
        "scale-type": one_of(0, 1, 2),
        "affine-matrix": reals(6),
    },
    "group-0": {"src-ids": numbers(), "custom-input-transformation-function": filled, "process-on-roi": FLAG},
}
# The parser gives up where one of these is missing: property_set in nvdspreprocess_property_parser.cpp.
NVDSPREPROCESS_REQUIRED = {
    "processing-width",
    "processing-height",
    "network-input-order",
    "network-input-shape",
    "network-color-format",
    "tensor-data-type",
    "tensor-name",
    "custom-lib-path",
    "custom-tensor-preparation-function",
    "scaling-filter",
    "scaling-pool-memory-type",
}


def read_key_file(text: str, table: dict[str, dict[str, Check]]) -> dict[str, dict[str, str]]:
    """As GLib reads it: no comment after a value. Fails for a group, key or value that is not in the table."""
    parser = configparser.ConfigParser(delimiters="=", comment_prefixes="#", inline_comment_prefixes=None, interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    found = {group: dict(parser[group]) for group in parser.sections()}
    for group, keys in found.items():
        for key, value in keys.items():
            assert key in table[group], f"[{group}] {key} is no key of DeepStream"
            assert table[group][key](value), f"[{group}] {key}={value} is no value of it"
    return found


_ENUMS = {
    "TensorDataType": ["TENSOR_DT_NONE", "TENSOR_DT_FP32", "TENSOR_DT_FP16", "TENSOR_DT_INT8", "TENSOR_DT_INT32", "TENSOR_DT_UINT8"],
    "MemoryType": ["MEMORY_TYPE_DEFAULT", "MEMORY_TYPE_CPU", "MEMORY_TYPE_GPU"],
    "MediaFormat": ["MEDIA_FORMAT_NONE", "IMAGE_FORMAT_RGB", "IMAGE_FORMAT_BGR", "IMAGE_FORMAT_GRAY"],
    "TensorOrder": ["TENSOR_ORDER_NONE", "TENSOR_ORDER_LINEAR", "TENSOR_ORDER_NHWC"],
    "FrameScalingHW": ["FRAME_SCALING_HW_DEFAULT", "FRAME_SCALING_HW_GPU", "FRAME_SCALING_HW_VIC"],
    "ProcessMode": ["PROCESS_MODE_DEFAULT", "PROCESS_MODE_FULL_FRAME", "PROCESS_MODE_CLIP_OBJECTS"],
}
_MESSAGES = {
    "InputLayer": {"name": "string", "dims": "*int32", "data_type": "TensorDataType"},
    "OutputLayer": {"name": "string"},
    "ModelRepo": {"root": "*string", "strict_model_config": "bool", "log_level": "uint32"},
    "Grpc": {"url": "string", "enable_cuda_buffer_sharing": "bool"},
    "Triton": {"model_name": "string", "version": "int64", "model_repo": "ModelRepo", "grpc": "Grpc"},
    "Backend": {"inputs": "*InputLayer", "outputs": "*OutputLayer", "output_mem_type": "MemoryType", "triton": "Triton"},
    "Normalize": {"scale_factor": "float", "channel_offsets": "*float", "mean_file": "string"},
    "PreProcess": {
        "network_format": "MediaFormat",
        "tensor_order": "TensorOrder",
        "tensor_name": "string",
        "maintain_aspect_ratio": "int32",
        "symmetric_padding": "int32",
        "frame_scaling_hw": "FrameScalingHW",
        "frame_scaling_filter": "uint32",
        "normalize": "Normalize",
    },
    "Other": {"type_name": "string"},
    "PostProcess": {"labelfile_path": "string", "other": "Other"},
    "InferenceConfig": {
        "unique_id": "uint32",
        "gpu_ids": "*int32",
        "max_batch_size": "uint32",
        "backend": "Backend",
        "preprocess": "PreProcess",
        "postprocess": "PostProcess",
    },
    "InputControl": {"process_mode": "ProcessMode", "interval": "uint32"},
    "OutputControl": {"output_tensor_meta": "bool"},
    "PluginControl": {"infer_config": "InferenceConfig", "input_control": "InputControl", "output_control": "OutputControl"},
}


def read_nvinferserver(text: str) -> Any:
    """A PluginControl message. Raises text_format.ParseError for a field, type or value that it does not have."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    file = descriptor_pb2.FileDescriptorProto(name="nvinferserver.proto", package="ds", syntax="proto3")
    for enum, names in _ENUMS.items():
        file.enum_type.add(name=enum).value.extend(descriptor_pb2.EnumValueDescriptorProto(name=n, number=i) for i, n in enumerate(names))
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for index, (name, kind) in enumerate(fields.items(), 1):
            field = described.field.add(name=name, number=index, label=3 if kind.startswith("*") else 1)
            kind = kind.removeprefix("*")
            if kind in _ENUMS or kind in _MESSAGES:
                field.type, field.type_name = (14 if kind in _ENUMS else 11), f".ds.{kind}"
            else:
                field.type = getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return text_format.Parse(text, message_factory.GetMessageClass(pool.FindMessageTypeByName("ds.PluginControl"))())
