"""Reads the masks that a QTSeg graph gives inside a DeepStream pipeline. Written by `qtseg-edge export-deepstream`; not run there.

    python3 masks.py file:///home/me/endoscope.mp4 --frame 1920x1080

needs DeepStream with its Python bindings (pyds, https://github.com/NVIDIA-AI-IOT/deepstream_python_apps) and numpy. For your own
pipeline take `masks_by_frame`. The arrays are of the network's size, letterboxed: the frame is their top left part.

Tensor meta: DeepStream Developer Guide, "Gst-nvinfer", "Tensor Metadata"; DeepStream Python API, NvDsInferTensorMeta.
Research use only. Not a medical device.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent


def masks_by_frame(pyds: Any, batch_meta: Any) -> Iterator[tuple[Any, dict[str, np.ndarray[Any, Any]]]]:
    """For every frame of a batch: its NvDsFrameMeta, and its output tensors by name, (H, W) uint8, copied.

    mask: class index. confidence: probability of that class x 255. Frames without output tensors are left out.
    """
    for frame in _items(batch_meta.frame_meta_list, pyds.NvDsFrameMeta.cast):
        for user in _items(frame.frame_user_meta_list, pyds.NvDsUserMeta.cast):
            if user.base_meta.meta_type == pyds.NvDsMetaType.NVDSINFER_TENSOR_OUTPUT_META:
                tensors = pyds.NvDsInferTensorMeta.cast(user.user_meta_data)
                layers = [pyds.get_nvds_LayerInfo(tensors, index) for index in range(tensors.num_output_layers)]
                yield frame, {layer.layerName: layer_array(pyds, layer) for layer in layers}


def layer_array(pyds: Any, layer: Any) -> np.ndarray[Any, Any]:
    """Its bytes are uint8 whatever its dataType says: nvinferserver calls them INT8."""
    shape = tuple(layer.inferDims.d[: layer.inferDims.numDims])
    address = pyds.get_ptr(layer.buffer)
    if not address:
        raise RuntimeError(f"{layer.layerName}: no host buffer; wanted output_mem_type: MEMORY_TYPE_CPU, or no disable-output-host-copy")
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_uint8)), shape).copy()


def _items(node: Any, cast: Callable[[Any], Any]) -> Iterator[Any]:
    """A GList of pyds, whose end is None or StopIteration."""
    while node is not None:
        try:
            yield cast(node.data)
            node = node.next
        except StopIteration:
            return


def inference(folder: Path) -> str:
    """The elements between nvstreammux and the masks, from the files beside this program."""
    if (folder / "nvinferserver.txt").is_file():
        return f"nvinferserver config-file-path={quoted(folder / 'nvinferserver.txt')}"
    return (
        f"nvdspreprocess config-file={quoted(folder / 'nvdspreprocess.txt')} ! "
        f"nvinfer config-file-path={quoted(folder / 'nvinfer.txt')} input-tensor-meta=true"
    )


def quoted(value: object) -> str:
    """A property's value as GStreamer's parser takes it: nothing in it can add an element."""
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def pipeline_text(folder: Path, uri: str, width: int, height: int) -> str:
    """interpolation-method 3: "GPU - Super", averaging, as the network was trained with."""
    return (
        f"nvstreammux name=mux batch-size=1 width={width} height={height} batched-push-timeout=40000 interpolation-method=3 ! "
        f"{inference(folder)} ! fakesink name=end sync=false uridecodebin uri={quoted(uri)} ! queue ! mux.sink_0"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Prints how much of each frame is foreground.")
    parser.add_argument("uri", help="file:///... or rtsp://...")
    parser.add_argument("--frame", default="1920x1080", help="width x height that nvstreammux makes of each frame")
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.frame.lower().split("x"))
    import gi

    gi.require_version("Gst", "1.0")
    import pyds
    from gi.repository import Gst

    Gst.init(None)
    pipeline = Gst.parse_launch(pipeline_text(FOLDER, arguments.uri, width, height))

    def report(_: Any, info: Any) -> Any:
        batch = pyds.gst_buffer_get_nvds_batch_meta(hash(info.get_buffer()))
        for frame, tensors in masks_by_frame(pyds, batch):
            print(f"frame {frame.frame_num}: {np.count_nonzero(tensors['mask'])} of {tensors['mask'].size} pixels")
        return Gst.PadProbeReturn.OK

    pipeline.get_by_name("end").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, report)
    pipeline.set_state(Gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, Gst.MessageType.EOS | Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
    if message.type == Gst.MessageType.ERROR:
        print(message.parse_error()[0], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
