"""Pictures to H.264 that every browser plays: yuv420p of even sides, a key frame at least every two seconds."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from qtseg_edge.transforms import Letterbox

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

# How swscale makes YUV of RGB (AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG). Untold, a player takes BT.709 for a large picture and tints it.
_BT601, _LIMITED_RANGE = 6, 1
_KEY_FRAME_SECONDS = 2


class H264Encoder:
    """Adds a stream to `container`. The picture has the size of the first one, to even numbers (H.264 wants them); one of another size
    is scaled to fit and padded. options: of libx264. Raises av.FFmpegError everywhere.
    """

    def __init__(
        self,
        container: OutputContainer,
        size_hw: tuple[int, int],
        options: dict[str, str],
        *,
        rate: Fraction,
        time_base: Fraction,
        pixel_aspect: Fraction,
    ) -> None:
        self._size_hw = (size_hw[0] + size_hw[0] % 2, size_hw[1] + size_hw[1] % 2)
        self._time_base = time_base
        self._next_key_pts = 0
        self._stream = container.add_stream("libx264", rate=rate, options=options)
        self._stream.height, self._stream.width = self._size_hw
        self._stream.pix_fmt = "yuv420p"
        # Threads that take a frame each hold as many frames back, whatever the tune says.
        self._stream.thread_type = "SLICE" if options.get("tune") == "zerolatency" else "AUTO"
        context = self._stream.codec_context
        context.time_base, context.sample_aspect_ratio = time_base, pixel_aspect
        context.colorspace, context.color_range = _BT601, _LIMITED_RANGE

    def encode(self, picture: NDArray[np.uint8], pts: int) -> list[Packet[Any]]:
        """picture: RGB (h, w, 3) uint8. pts: in time bases, more than the one before. The packets may be those of earlier pictures."""
        frame = av.VideoFrame.from_ndarray(self._fitted(picture), format="rgb24")
        frame.pts, frame.time_base = pts, self._time_base
        if pts >= self._next_key_pts:
            frame.pict_type = PictureType.I
            self._next_key_pts = pts + int(_KEY_FRAME_SECONDS / self._time_base)
        return self._stream.encode(frame)

    def flush(self) -> list[Packet[Any]]:
        """The packets still missing; nothing can be encoded after it."""
        return self._stream.encode(None)

    def _fitted(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self._size_hw
        missing_h, missing_w = height - picture.shape[0], width - picture.shape[1]
        if (missing_h, missing_w) == (0, 0):
            return picture
        if missing_h in (0, 1) and missing_w in (0, 1):
            return np.pad(picture, ((0, missing_h), (0, missing_w), (0, 0)), mode="edge")
        return Letterbox((picture.shape[0], picture.shape[1]), self._size_hw).frame(picture)
