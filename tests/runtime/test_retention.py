"""Which recordings may go: the grammar of what was asked, and the choice."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.sinks.retention import Retention, Segment, parse_retention, split_query, to_remove

SECONDS = {"s": 1, "min": 60, "h": 3600}
BYTES = {"MB": 1_000_000, "GB": 1_000_000_000, "TB": 1_000_000_000_000, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
START = datetime(2026, 11, 25, 8, tzinfo=timezone.utc)
NOW = START + timedelta(days=400)


def parsed(query: str) -> Retention:
    return parse_retention(query, f"recordings/?{query}")


def segment(number: int, size: int, ended_at: datetime = START) -> Segment:
    return Segment(f"{number}.mp4", ended_at - timedelta(minutes=1), ended_at, size)


# One in the making is `writing` bytes long; the others, oldest first, ended so many days ago (a clock may have been set between them).
segments = st.lists(st.tuples(st.integers(0, 10**10), st.floats(0, 500)), max_size=30).map(
    lambda pairs: [segment(number, size, NOW - timedelta(days=days)) for number, (size, days) in enumerate(pairs)]
)
retentions = st.builds(
    Retention, st.just(600.0), st.none() | st.integers(10**6, 10**11), st.none() | st.floats(0.001, 1000, allow_nan=False)
)


def test_all_three_settings_are_read() -> None:
    assert parsed("segment=10min&keep=50GB&days=30") == Retention(600, 50_000_000_000, 30)
    assert parsed("days=0.5") == Retention(600, None, 0.5)
    assert parsed("segment=90s") == Retention(90, None, None)


@given(
    st.permutations(["segment", "keep", "days"]),
    st.integers(1, 23),
    st.sampled_from(list(BYTES)),
    st.integers(1, 999),
    st.integers(1, 3650),
)
def test_any_order_and_unit_is_read(order: list[str], hours: int, unit: str, size: int, days: int) -> None:
    values = {"segment": f"{hours}h", "keep": f"{size}{unit}", "days": f"{days}"}
    assert parsed("&".join(f"{key}={values[key]}" for key in order)) == Retention(hours * 3600, size * BYTES[unit], days)


@pytest.mark.parametrize(
    "query",
    [
        *(
            "",
            "keep",
            "keep=",
            "keep=50",
            "keep=50gb",
            "keep=50 GB",
            "keep=-50GB",
            "keep=0GB",
            "keep=1kB",
            "keep=0.5MB",
            "keep=1e3GB",
            "keep=½GB",
        ),
        *("days=", "days=0", "days=-1", "days=30d", "days=nan", "days=inf", "days=3,5", "days=٣", "days=0.0000001"),
        *("segment=0s", "segment=10", "segment=0.5s", "segment=25h", "segment=10m", "segment=MB"),
        *("keep=50GB&keep=5GB", "days=3&days=4", "kep=50GB", "keep=50GB&", "&keep=50GB", "keep=50GB;days=3", "keep=50GB&days=3&delete=all"),
    ],
)
def test_whatever_is_not_exactly_right_is_refused(query: str) -> None:
    """A typing error must not decide what is removed, nor let a disk fill up that was to be kept small."""
    with pytest.raises(UsageError, match=r"--output recordings/\?"):
        parsed(query)


@given(st.text(max_size=40))
def test_no_text_does_anything_but_be_read_or_refused(query: str) -> None:
    try:
        retention = parsed(query)
    except UsageError as error:
        assert "\n" not in str(error) or "\n" in query
        return
    assert 1 <= retention.segment_s <= 86400
    assert retention.keep_bytes is None or retention.keep_bytes >= 1_000_000
    assert retention.days is None or retention.days > 0
    assert any(key in query for key in ("segment=", "keep=", "days="))


@given(st.sampled_from(["out.mp4", "masks/", "recordings/", "what?.mp4", "a/b?c=d/"]))
def test_other_outputs_have_no_query(text: str) -> None:
    assert split_query(text) is None
    assert split_query("/data/recordings/?keep=1GB") == ("/data/recordings/", "keep=1GB")


@given(segments, st.integers(0, 10**11), st.floats(1, 86400))
def test_nothing_goes_where_nothing_was_asked(finished: list[Segment], writing: int, segment_s: float) -> None:
    assert to_remove(finished, writing, Retention(segment_s), NOW) == []


@given(segments, st.integers(0, 10**11), retentions)
def test_what_stays_is_young_and_fits_and_what_goes_had_to(finished: list[Segment], writing: int, retention: Retention) -> None:
    gone = to_remove(finished, writing, retention, NOW)
    stays = [segment for segment in finished if segment not in gone]
    assert len({segment.file for segment in gone}) == len(gone)
    size = writing + sum(segment.bytes for segment in stays)
    if retention.days is not None:
        assert all(NOW - segment.ended_at <= timedelta(days=retention.days) for segment in stays)
    if retention.keep_bytes is not None:
        assert size <= retention.keep_bytes or not stays
    old = [segment for segment in gone if retention.days is not None and NOW - segment.ended_at > timedelta(days=retention.days)]
    for_size = [segment for segment in gone if segment not in old]
    if for_size:  # the oldest of those that are young enough, and not one too many
        assert retention.keep_bytes is not None
        young = [segment for segment in finished if segment not in old]
        assert for_size == young[: len(for_size)]
        assert size + for_size[-1].bytes > retention.keep_bytes


def test_the_age_of_a_segment_from_a_clock_that_was_never_set_is_not_known() -> None:
    """A board without a battery starts in 1970, then the network sets its clock: what it has just recorded is not 56 years old."""
    unset = Segment("a.mp4", datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(1970, 1, 1, 0, 10, tzinfo=timezone.utc), 10**9)
    across = Segment("b.mp4", datetime(1970, 1, 1, 0, 10, tzinfo=timezone.utc), START, 10**9)
    dated = segment(3, 10**9, START)
    assert to_remove([unset, across, dated], 0, Retention(days=30), NOW) == [dated]
    assert to_remove([unset, across, dated], 0, Retention(keep_bytes=2 * 10**9), NOW) == [unset]  # size takes them in their turn


def test_a_clock_that_was_set_back_removes_nothing() -> None:
    later = segment(1, 10**6, NOW + timedelta(days=9))
    assert to_remove([later], 0, Retention(days=1), NOW) == []
