"""Images that INT8 scales are measured on: chosen, stored, checked. Nothing here imports torch or onnx."""

from qtseg_edge.calibration.calibration_set import CalibrationImage, CalibrationSet, default_calibration_set, load_calibration_set
from qtseg_edge.calibration.disjoint import require_disjoint

__all__ = ["CalibrationImage", "CalibrationSet", "default_calibration_set", "load_calibration_set", "require_disjoint"]
