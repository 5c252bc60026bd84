"""Latency percentiles of a run of any length in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

_GROWTH = 1.01  # neighbouring buckets differ by 1 %, so a percentile is right to 0.5 %
_SMALLEST_MS = 0.001
_BUCKETS = 2100  # 1 us to about 20 minutes


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds. mean and max are exact, percentiles right to 0.5 %."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class LatencyHistogram:
    """Counts of latencies in logarithmic buckets. One thread adds; what others read meanwhile may lack the newest latency."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._count = 0
        self._sum = 0.0
        self._min = math.inf
        self._max = 0.0

    def add(self, milliseconds: float) -> None:
        value = max(milliseconds, _SMALLEST_MS)
        self._counts[self._bucket(value)] += 1
        self._count += 1
        self._sum += value
        self._min, self._max = min(self._min, value), max(self._max, value)

    def percentiles(self) -> Percentiles:
        if not self._count:
            return Percentiles(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        p50, p95, p99 = (self._percentile(share) for share in (0.50, 0.95, 0.99))
        return Percentiles(self._count, self._sum / self._count, p50, p95, p99, self._max)

    def cumulative(self, limits_ms: tuple[float, ...]) -> tuple[list[int], float]:
        """How many latencies did not exceed each limit (right to 1 % of the limit), all of them last; and their sum in milliseconds."""
        ends = [self._bucket(limit) + 1 for limit in limits_ms]
        return [*(sum(self._counts[:end]) for end in ends), self._count], self._sum

    @staticmethod
    def _bucket(milliseconds: float) -> int:
        value = max(milliseconds, _SMALLEST_MS)
        return min(int(math.log(value / _SMALLEST_MS) / math.log(_GROWTH)), _BUCKETS - 1)

    def _percentile(self, share: float) -> float:
        """The smallest latency that `share` of all do not exceed (nearest rank)."""
        rank, seen = math.ceil(share * self._count), 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                middle: float = _SMALLEST_MS * _GROWTH ** (bucket + 0.5)
                return min(max(middle, self._min), self._max)
        return self._max
