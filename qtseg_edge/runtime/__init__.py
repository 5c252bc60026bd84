"""Segment images and video: the few names that a program needs. Nothing here imports torch, onnx or a video library."""

from qtseg_edge.runtime.backend import Backend, Masks
from qtseg_edge.runtime.devices import open_backend
from qtseg_edge.runtime.fake import FakeBackend
from qtseg_edge.runtime.pipeline import Pipeline, RunReport
from qtseg_edge.runtime.segmenter import Segmentation, Segmenter
from qtseg_edge.runtime.sinks import open_sink
from qtseg_edge.runtime.sources import open_source

__all__ = [
    "Backend",
    "FakeBackend",
    "Masks",
    "Pipeline",
    "RunReport",
    "Segmentation",
    "Segmenter",
    "open_backend",
    "open_sink",
    "open_source",
]
