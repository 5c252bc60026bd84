"""The least time that a network needs at the rates measured on this machine: for its arithmetic, and for the bytes that it must move.

Counted are the multiply-accumulates of convolutions and matrix products, each in the precision that it is computed in, and the bytes of
every weight once per call and of images and masks. Activations are not: how many of them leave the caches is the engine's affair.
Arithmetic and copying can go on at once, so the limit is the longer of the two. Weights that a large cache keeps from call to call take
less than their part.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from qtseg_edge.benchmark.rates import BYTES, Place

_WIDTHS = {"INT8": 1, "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8}
_IMAGE_AND_MASKS = 5  # bytes per pixel: RGB in, class index and confidence out


@dataclass(frozen=True)
class Rate:
    """per_second: operations or bytes, by the tenth percentile of the times of `calls` calls. what: a precision, or `BYTES`."""

    place: Place
    what: str
    by: str
    per_second: float
    calls: int


@dataclass(frozen=True)
class Cost:
    """macs: multiply-accumulates of one image, parameters: stored numbers of the network; both by precision."""

    macs: dict[str, int]
    parameters: dict[str, int]
    size_hw: tuple[int, int]

    def computed_in(self, floats: str | None) -> Cost:
        """As an engine that computes all floating point in `floats` runs it; as the graph says where that is None."""
        if floats is None:
            return self
        return Cost(_with_floats(self.macs, floats), _with_floats(self.parameters, floats), self.size_hw)

    def bytes_of(self, batch: int) -> int:
        weights = sum(count * _WIDTHS.get(precision, 4) for precision, count in self.parameters.items())
        return weights + batch * _IMAGE_AND_MASKS * self.size_hw[0] * self.size_hw[1]


@dataclass(frozen=True)
class Limit:
    """Milliseconds of one call."""

    arithmetic_ms: float
    bytes_ms: float

    @property
    def ms(self) -> float:
        return max(self.arithmetic_ms, self.bytes_ms)


def limit_of(cost: Cost, batch: int, place: Place, rates: list[Rate]) -> Limit | str:
    """By the fastest measured rate of each kind. A text says which rate is lacking."""
    fastest: dict[str, float] = {}
    for rate in rates:
        if rate.place == place:
            fastest[rate.what] = max(rate.per_second, fastest.get(rate.what, 0.0))
    lacking = [what for what in (*(precision for precision, macs in cost.macs.items() if macs), BYTES) if what not in fastest]
    if lacking:
        return f"no rate of {', '.join(lacking)} was measured on the {place.upper()}"
    seconds = sum(2 * batch * macs / fastest[precision] for precision, macs in cost.macs.items() if macs)
    return Limit(1e3 * seconds, 1e3 * cost.bytes_of(batch) / fastest[BYTES])


def cost_of_onnx(path: Path, size_hw: tuple[int, int]) -> Cost | str:
    """A text says why it is not known."""
    try:
        import onnx

        from qtseg_edge.onnx_layers import macs_by_precision, parameters_by_precision
    except ModuleNotFoundError:
        return "the graph is not read: pip install 'qtseg-edge[export]'"
    model = onnx.load(path, load_external_data=False)
    macs = macs_by_precision(model)
    return Cost(macs, parameters_by_precision(model), size_hw) if macs is not None else "a shape in the graph cannot be inferred"


def _with_floats(counts: dict[str, int], floats: str) -> dict[str, int]:
    found: Counter[str] = Counter()
    for precision, count in counts.items():
        found["INT8" if precision == "INT8" else floats] += count
    return dict(found)
