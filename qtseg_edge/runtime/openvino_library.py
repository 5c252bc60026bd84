"""The one way in which this package imports OpenVINO: without `openvino.tools.ovc`.

`import openvino` loads OpenVINO's model converter as well, which takes as long as all the rest of it and sends a usage event to a server
of its maker unless the user has opted out (`openvino/tools/ovc/__init__.py`: `telemetry.send_event("ov", "import", ...)`). Neither belongs
into a run. OpenVINO lets the converter be absent (`except ImportError: pass` in its `__init__`), and so it is while this import lasts.
"""

from __future__ import annotations

import sys
from typing import Any, cast

_CONVERTER = "openvino.tools.ovc"
_modules = cast("dict[str, Any]", sys.modules)
_modules.setdefault(_CONVERTER, None)  # makes its import raise ImportError
try:
    import openvino
finally:
    if _modules[_CONVERTER] is None:
        del _modules[_CONVERTER]

__all__ = ["openvino"]
