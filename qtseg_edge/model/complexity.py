"""How large and how costly a network is, in total and by its parts."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from qtseg_edge.model.network import NetworkConfig, QTSeg, build_network

_PARTS = ("encoder", "distribution", "decoder")


def parameter_counts(network: QTSeg) -> dict[str, int]:
    """Learned numbers by part, and their `total`. Buffers, such as the positional projections, are none."""
    counts = {part: sum(p.numel() for p in network.get_submodule(part).parameters()) for part in _PARTS}
    return {**counts, "total": sum(counts.values())}


def multiply_accumulates(config: NetworkConfig, size_hw: tuple[int, int]) -> dict[str, int]:
    """Of one image, by part, and their `total`: convolutions and matrix products, as published figures count them.

    size_hw: multiples of 32. Nothing is computed: the network is built and run without memory.
    """
    with torch.device("meta"):
        network = build_network(config).eval().requires_grad_(False)
        image = torch.zeros(1, 3, *size_hw)
    with FlopCounterMode(display=False) as counter:
        network(image)
    operations = counter.get_flop_counts()
    counts = {part: sum(operations[f"{type(network).__name__}.{part}"].values()) // 2 for part in _PARTS}
    return {**counts, "total": sum(counts.values())}
