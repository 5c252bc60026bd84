"""`/metrics` as Prometheus reads it."""

from __future__ import annotations

import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from qtseg_edge.runtime.frames import SourceStatus
from qtseg_edge.runtime.monitor import Monitor
from qtseg_edge.runtime.web.metrics import Metrics
from qtseg_edge.runtime.web.status import unique
from tests.runtime.web.site import PATIENCE, Site

FIRST, SECOND = "rtsp://***@tower-1/live", "rtsp://***@tower-2/live"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(text: str) -> Samples:
    """(name, labels) -> value; the parser raises for what is not the format."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(found) == len(samples), "a series is told twice"
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[(f"qtseg_edge_{name}", tuple(sorted(labels.items())))]


def test_everything_of_a_run_is_told() -> None:
    with Site(streams=2) as site:
        for _ in range(4):
            site.push(0)
        site.push(1, age_s=5.0)
        site.drop(3)
        site.channels[1].status = SourceStatus(False, 2, 7, "gone")
        site.monitor.sink_failed(site.monitor.add_sink("out.mp4"), "the disk is full")
        site.monitor.latency("end to end", 80.0)
        answer = site.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        samples = scraped(answer.text)
        assert value(samples, "frames_total", stream=FIRST) == 4
        assert value(samples, "foreground_frames_total", stream=FIRST) == 2  # from the third on, when the filter believes it
        assert value(samples, "dropped_frames_total", stream=FIRST, reason="late") == 3
        assert value(samples, "dropped_frames_total", stream=SECOND, reason="damaged") == 7
        assert value(samples, "frame_age_seconds", stream=FIRST) < PATIENCE
        assert 5 <= value(samples, "frame_age_seconds", stream=SECOND) < 5 + PATIENCE
        assert (value(samples, "source_up", stream=FIRST), value(samples, "source_up", stream=SECOND)) == (1, 0)
        assert value(samples, "reconnects_total", stream=SECOND) == 2
        assert value(samples, "frames_per_second", stream=FIRST) >= 0
        assert value(samples, "mask_share_ratio", stream=FIRST) == pytest.approx(80 * 80 / (320 * 240), rel=0.05)
        assert value(samples, "engine_info", engine="fake", model="fake") == 1
        assert value(samples, "uptime_seconds") > 0
        web = f"web://{site.server.address}"
        assert value(samples, "sink_up", sink="out.mp4") == 0 and value(samples, "sink_up", sink=web) == 1
        assert value(samples, "sink_up", sink=f"{web} (2)") == 1 and value(samples, "sink_written_total", sink=web) >= 1


def test_latencies_are_histograms_in_seconds() -> None:
    monitor = Monitor("fake", "fake")
    for milliseconds in (4.0, 12.0, 45.0, 9000.0):
        monitor.latency("infer", milliseconds)
    samples = scraped(Metrics(monitor).text().decode())
    name = "inference_latency_seconds"
    assert value(samples, f"{name}_count") == 4
    assert value(samples, f"{name}_sum") == pytest.approx(9.061)
    below = {limit: value(samples, f"{name}_bucket", le=limit) for limit in ("0.0025", "0.005", "0.015", "0.05", "2.0", "+Inf")}
    assert below == {"0.0025": 0, "0.005": 1, "0.015": 2, "0.05": 3, "2.0": 3, "+Inf": 4}
    assert value(samples, "end_to_end_latency_seconds_count") == 0


def test_a_stream_without_a_picture_has_no_age() -> None:
    with Site() as site:
        samples = scraped(site.get("/metrics").text)
        assert ("qtseg_edge_frame_age_seconds", (("stream", FIRST),)) not in samples
        assert value(samples, "frames_total", stream=FIRST) == 0


def test_names_are_told_apart() -> None:
    assert unique(["cam", "cam", "other", "cam"]) == ["cam", "cam (2)", "other", "cam (3)"]


def test_a_histogram_that_grows_meanwhile_never_shrinks() -> None:
    """`+Inf` is never below the bucket before it, whatever the threads do."""
    monitor, over = Monitor("fake", "fake"), threading.Event()

    def busy() -> None:
        while not over.is_set():
            monitor.latency("infer", 1.0)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        metrics = Metrics(monitor)
        for _ in range(30):
            samples = scraped(metrics.text().decode())
            assert value(samples, "inference_latency_seconds_bucket", le="+Inf") >= value(
                samples, "inference_latency_seconds_bucket", le="2.0"
            )
    finally:
        over.set()
        thread.join()
