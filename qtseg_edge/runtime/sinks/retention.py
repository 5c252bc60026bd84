"""How a recording that never ends is cut into segments, and which of them may go: `recordings/?segment=10min&keep=50GB&days=30`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from qtseg_edge.errors import UsageError

WANTED = "wanted such as recordings/?segment=10min&keep=50GB&days=30"
_SECONDS = {"s": 1, "min": 60, "h": 3600}
_BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SHORTEST_S, _LONGEST_S = 1, 24 * 3600
# Of a clock that was never set nothing can be said: boards without a battery start in 1970 or on the day their image was made.
_CLOCKS_ARE_SET_FROM = datetime(2026, 1, 1, tzinfo=timezone.utc)
_CLOCK_WAS_SET = timedelta(minutes=1)  # more than what a time server corrects as it goes


@dataclass(frozen=True)
class Retention:
    """segment_s: length of a segment in seconds. keep_bytes: what all segments together may take, the one in the making included.
    days: how old one may get. Without the last two nothing is ever removed.
    """

    segment_s: float = 600.0
    keep_bytes: int | None = None
    days: float | None = None

    @property
    def asked(self) -> str:
        """What may remove a segment, as the user may type it."""
        keep = "" if self.keep_bytes is None else f"keep={self.keep_bytes / 1e9:g}GB"
        return "&".join(filter(None, (keep, "" if self.days is None else f"days={self.days:g}")))


@dataclass(frozen=True)
class Segment:
    """A finished one. file: its name in the folder. started_at, ended_at: by this machine's clock. complete: False where the run that wrote
    it was cut off, so that its last seconds may be missing. ended_uptime_s: seconds since the boot when it ended, by a clock that nobody
    sets; None where another run recorded it.
    """

    file: str
    started_at: datetime
    ended_at: datetime
    bytes: int
    complete: bool = True
    ended_uptime_s: float | None = None


def split_query(text: str) -> tuple[str, str] | None:
    """The folder, with its slash, and what follows the question mark. None for any other output."""
    folder, found, query = text.partition("/?")
    return (f"{folder}/", query) if found else None


def parse_retention(query: str, text: str) -> Retention:
    """query: what `split_query` gave of text, the whole output. UsageError for whatever is not right: it is about removing."""
    values: dict[str, str] = {}
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key not in ("segment", "keep", "days"):
            raise UsageError(f"--output {text}: knows segment, keep and days, got {part!r}; {WANTED}")
        if key in values:
            raise UsageError(f"--output {text}: {key} is given twice; leave one out")
        values[key] = value
    segment_s = Retention.segment_s
    if "segment" in values:
        segment_s = _measure(values["segment"], _SECONDS, f"--output {text}: segment")
        if not _SHORTEST_S <= segment_s <= _LONGEST_S:
            raise UsageError(f"--output {text}: segment: wanted 1s to 24h, got {values['segment']}")
    keep = _measure(values["keep"], _BYTES, f"--output {text}: keep") if "keep" in values else None
    days = _measure(values["days"], {"": 1}, f"--output {text}: days") if "days" in values else None
    return Retention(segment_s, None if keep is None else int(keep), days)


def to_remove(
    finished: Sequence[Segment], writing_bytes: int, retention: Retention, now: datetime, uptime_s: float | None = None
) -> list[Segment]:
    """Those that are too old, and then the oldest until the rest fits; never the one being written, of which only the size is given.

    finished: in the order in which they were recorded, which no clock that is set back changes. The age of what this run has recorded is
    told by uptime_s, since a clock that is set by months makes nothing older. That of others counts only where they were dated by a clock
    that was set.
    """
    gone = [segment for segment in finished if retention.days is not None and _age(segment, now, uptime_s) > timedelta(days=retention.days)]
    if retention.keep_bytes is None:
        return gone
    size = writing_bytes + sum(segment.bytes for segment in finished) - sum(segment.bytes for segment in gone)
    for segment in finished:
        if size <= retention.keep_bytes:
            break
        if segment not in gone:
            gone.append(segment)
            size -= segment.bytes
    return gone


def dated_anew(segment: Segment, now: datetime, uptime_s: float) -> Segment:
    """As a clock would have dated it that is right now. Never earlier: a clock that is wrong now must make nothing older."""
    if segment.ended_uptime_s is None:
        return segment
    late = now - timedelta(seconds=uptime_s - segment.ended_uptime_s) - segment.ended_at
    if late < _CLOCK_WAS_SET:
        return segment
    return replace(segment, started_at=segment.started_at + late, ended_at=segment.ended_at + late)


def _age(segment: Segment, now: datetime, uptime_s: float | None) -> timedelta:
    """0 where nothing is known of it."""
    if segment.ended_uptime_s is not None and uptime_s is not None:
        return timedelta(seconds=uptime_s - segment.ended_uptime_s)
    return now - segment.ended_at if segment.started_at >= _CLOCKS_ARE_SET_FROM else timedelta(0)


def _measure(text: str, units: dict[str, int], what: str) -> float:
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([A-Za-z]*)", text, re.ASCII)
    if not found or found[2] not in units or not float(found[1]) > 0:
        wanted = f"a number above 0 and one of {', '.join(units)}" if "" not in units else "a number above 0"
        raise UsageError(f"{what}: wanted {wanted}, got {text!r}; {WANTED}")
    value = float(found[1]) * units[found[2]]
    if units is _BYTES and value < 1e6:
        raise UsageError(f"{what}: wanted at least 1MB, got {text!r}")
    return value
