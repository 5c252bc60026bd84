"""Pixel values to the network's input range, as the model's card says."""

from __future__ import annotations

from torch import Tensor

from qtseg_edge.spec import Normalisation

_SMALLEST_RANGE = 1.0  # one grey level: below it the image is flat


def normalise(image: Tensor, how: Normalisation) -> Tensor:
    """(N, 3, H, W) or (N, H, W, 3), float in 0..255 -> the same shape in -1..1.

    `minmax` stretches each padded image by its own extremes over all channels; a flat image becomes -1 throughout.
    """
    if how == "scale":
        return image * (2 / 255) - 1
    low = image.amin(dim=(1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    span = (image.amax(dim=(1, 2, 3), keepdim=True) - low).clamp(min=_SMALLEST_RANGE)
    return (image - low) * (2 / span) - 1
