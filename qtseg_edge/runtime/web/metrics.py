"""`/metrics`: a run's figures in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from qtseg_edge.board.watch import BoardState
from qtseg_edge.runtime.monitor import Monitor, Snapshot
from qtseg_edge.runtime.timing import LatencyHistogram
from qtseg_edge.runtime.web.status import unique

CONTENT_TYPE = CONTENT_TYPE_LATEST
_LIMITS_MS = (2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0, 2000.0)


class Metrics(Collector):
    """Everything of one scrape is of one snapshot."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        snapshot = self._monitor.snapshot()
        engine = GaugeMetricFamily("qtseg_edge_engine_info", "The engine and the model; always 1.", labels=["engine", "model"])
        engine.add_metric([snapshot.engine, snapshot.model], 1)
        yield engine
        yield GaugeMetricFamily("qtseg_edge_uptime_seconds", "Since the run began.", value=snapshot.uptime_s)
        yield from _of_streams(snapshot)
        yield from _of_sinks(snapshot)
        if snapshot.board is not None:
            yield from _of_board(snapshot.board)
        yield _histogram("qtseg_edge_inference_latency_seconds", "One call of the engine.", snapshot.latencies["infer"])
        yield _histogram("qtseg_edge_end_to_end_latency_seconds", "Capture to written, per output.", snapshot.latencies["end to end"])


def _of_streams(snapshot: Snapshot) -> Iterator[Metric]:
    frames = CounterMetricFamily("qtseg_edge_frames", "Segmented.", labels=["stream"])
    foreground = CounterMetricFamily("qtseg_edge_foreground_frames", "Segmented, with any foreground.", labels=["stream"])
    dropped = CounterMetricFamily("qtseg_edge_dropped_frames", "Not segmented, or not written.", labels=["stream", "reason"])
    age = GaugeMetricFamily("qtseg_edge_frame_age_seconds", "Since the newest segmented picture was captured.", labels=["stream"])
    up = GaugeMetricFamily("qtseg_edge_source_up", "1 while frames are coming.", labels=["stream"])
    reconnects = CounterMetricFamily("qtseg_edge_reconnects", "How often the source was opened again.", labels=["stream"])
    fps = GaugeMetricFamily("qtseg_edge_frames_per_second", "Segmented, over the last seconds.", labels=["stream"])
    share = GaugeMetricFamily("qtseg_edge_mask_share_ratio", "Foreground of the newest mask, 0 to 1.", labels=["stream"])
    for name, stream in zip(unique([stream.name for stream in snapshot.streams]), snapshot.streams, strict=True):
        frames.add_metric([name], stream.frames)
        foreground.add_metric([name], stream.foreground_frames)
        for reason, count in sorted(stream.dropped.items()):
            dropped.add_metric([name, reason], count)
        if stream.age_s is not None:
            age.add_metric([name], stream.age_s)
        up.add_metric([name], stream.status.up)
        reconnects.add_metric([name], stream.status.reopened)
        fps.add_metric([name], stream.fps)
        share.add_metric([name], stream.mask_share)
    yield from (frames, foreground, dropped, age, up, reconnects, fps, share)


def _of_sinks(snapshot: Snapshot) -> Iterator[Metric]:
    up = GaugeMetricFamily("qtseg_edge_sink_up", "0 where the output has failed.", labels=["sink"])
    written = CounterMetricFamily("qtseg_edge_sink_written", "Results.", labels=["sink"])
    for name, sink in zip(unique([sink.name for sink in snapshot.sinks]), snapshot.sinks, strict=True):
        up.add_metric([name], not sink.error)
        written.add_metric([name], sink.written)
    yield from (up, written)


def _of_board(board: BoardState) -> Iterator[Metric]:
    """What the machine does not tell, or has not told lately, is left out: 0 would be a figure."""
    reading = board.reading
    if reading is None:
        return
    temperature = GaugeMetricFamily("qtseg_edge_device_temperature_celsius", "By thermal zone.", labels=["zone"])
    for zone, celsius in sorted(reading.temperature_celsius.items()):
        temperature.add_metric([zone], celsius)
    yield temperature
    if reading.watts is not None:
        power = GaugeMetricFamily("qtseg_edge_device_power_watts", "Drawn now, by the whole board or the GPU alone.", labels=["of"])
        power.add_metric([reading.power_of], reading.watts)
        yield power
    if reading.throttled is not None:
        text = "1 while heat or the power supply make it slower than its power mode, and for some seconds after."
        yield GaugeMetricFamily("qtseg_edge_device_throttled", text, value=bool(board.throttled))
        yield CounterMetricFamily("qtseg_edge_device_throttled_seconds", "Of this run.", value=board.throttled_seconds)


def _histogram(name: str, text: str, latencies: LatencyHistogram) -> Metric:
    counts, total_ms = latencies.cumulative(_LIMITS_MS)
    counts[-1] = max(counts[-1], counts[-2])  # a latency may be in its bucket and not yet in the total
    limits = [*(str(limit / 1e3) for limit in _LIMITS_MS), "+Inf"]
    metric = HistogramMetricFamily(name, text)
    metric.add_metric([], list(zip(limits, counts, strict=True)), total_ms / 1e3)
    return metric
