"""Which nodes stay float32 in a half-precision graph: by what they compute, and by how large the numbers are."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import numpy as np
from onnx import ModelProto, numpy_helper

from qtseg_edge.errors import UsageError
from qtseg_edge.export.precision.graph import FLOATS, element_types
from qtseg_edge.export.precision.half import LARGEST_HALF

# Pre- and post-processing is what stands outside the network. The affinities of channel attention, sums over all pixels, reached
# 37,000 on real images. Statistics of a normalisation and the sum of a softmax need more than 11 bits.
_PATTERNS = ("graph/*", "*.channel/*", "*/Softmax*", "*/LayerNormalization*", "*/GroupNormalization*", "*/InstanceNormalization*")
# Images that were not looked at may go higher than those that were.
_HEADROOM = 4.0


def float32_nodes(model: ModelProto, largest: Mapping[str, float]) -> frozenset[str]:
    """Names of nodes. largest: of each activation, the largest magnitude seen on real images."""
    types = element_types(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    limit = LARGEST_HALF / _HEADROOM

    def is_large(name: str) -> bool:
        if name in weights and types[name] in FLOATS:
            return bool(np.abs(numpy_helper.to_array(weights[name])).max(initial=0.0) > LARGEST_HALF)
        return largest.get(name, 0.0) > limit

    by_name = {node.name for node in model.graph.node if any(fnmatchcase(node.name, pattern) for pattern in _PATTERNS)}
    return frozenset(by_name | {node.name for node in model.graph.node if any(map(is_large, (*node.input, *node.output)))})


def matching_nodes(model: ModelProto, patterns: tuple[str, ...]) -> frozenset[str]:
    """Names of nodes that a pattern such as `decoder.stage0.*` matches. Raises UsageError for a pattern that matches none."""
    names = [node.name for node in model.graph.node]
    found: set[str] = set()
    for pattern in patterns:
        matches = {name for name in names if fnmatchcase(name, pattern)}
        if not matches:
            raise UsageError(f"--exclude {pattern}: no node of the graph has such a name; list them with: qtseg-edge inspect MODEL --json")
        found |= matches
    return frozenset(found)
