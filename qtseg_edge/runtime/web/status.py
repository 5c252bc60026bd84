"""What the page, `/readyz` and `/metrics` say about a run, from one snapshot of its monitor."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from qtseg_edge.runtime.monitor import Monitor, Snapshot

READY_AGE_SECONDS = 2.0
_KEPT_SECONDS = 0.2


class Figures:
    """Snapshots for any number of viewers. Used by the server's thread alone."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._snapshot: Snapshot | None = None
        self._taken_at = 0.0

    def recent(self) -> Snapshot:
        """Of the last fifth of a second."""
        if self._snapshot is None or time.monotonic() - self._taken_at >= _KEPT_SECONDS:
            return self.fresh()
        return self._snapshot

    def fresh(self) -> Snapshot:
        self._snapshot, self._taken_at = self._monitor.snapshot(), time.monotonic()
        return self._snapshot


def unready(snapshot: Snapshot, limit_s: float) -> list[str]:
    """Why the run is not ready, one line per reason; empty where every stream is up and its newest mask young enough.

    One stream that is down makes the whole run unready: nobody must believe that a picture is watched which is not.
    """
    if not snapshot.streams:
        return ["no stream has been opened yet"]
    reasons = []
    for name, stream in zip(unique([stream.name for stream in snapshot.streams]), snapshot.streams, strict=True):
        if not stream.status.up:
            reasons.append(f"{name}: down ({stream.status.reason or 'no reason given'})")
        elif stream.age_s is None:
            reasons.append(f"{name}: no frame has been segmented yet")
        elif stream.age_s > limit_s:
            reasons.append(f"{name}: its newest mask is {stream.age_s:.1f} s old, the limit is {limit_s:g} s")
    return reasons


def stream_status(snapshot: Snapshot, number: int) -> dict[str, Any]:
    """For the page: what is known of one stream, and of the outputs of all."""
    sinks = [{"name": sink.name, "written": sink.written, "error": sink.error} for sink in snapshot.sinks]
    common = {"engine": snapshot.engine, "model": snapshot.model, "uptime_s": round(snapshot.uptime_s), "sinks": sinks}
    if number >= len(snapshot.streams):
        return {**common, "up": False, "reason": "starting", "frames": 0, "dropped": {}, "fps": 0.0, "reopened": 0}
    stream = snapshot.streams[number]
    return {
        **common,
        "up": stream.status.up,
        "reason": stream.status.reason,
        "frames": stream.frames,
        "dropped": stream.dropped,
        "fps": round(stream.fps, 1),
        "reopened": stream.status.reopened,
    }


def unique(names: Sequence[str]) -> list[str]:
    """`cam`, `cam (2)`: of equal names, all but the first get a number."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result
