"""The watch of a run, on the files of boards, and what `/metrics` says of it over the network."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from qtseg_edge.board.reading import BoardReading
from qtseg_edge.board.watch import BoardState, BoardWatch, watching
from qtseg_edge.jetson.sensors import JetsonSensors
from qtseg_edge.runtime.monitor import Monitor
from qtseg_edge.runtime.web import web_server
from tests.jetson.boards import orin_nano, program, thor

PATIENCE = 20.0
ALERT = "sys/class/thermal/cooling_device3/cur_state"


def wait(until: Callable[[], object]) -> None:
    started = time.monotonic()
    while not until():
        assert time.monotonic() - started < PATIENCE
        time.sleep(0.01)


def scraped(address: object) -> dict[str, float]:
    """Name, and labels where there are some -> value, of the device alone."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples if sample.name.startswith("qtseg_edge_device_")]
    return {" ".join([sample.name.removeprefix("qtseg_edge_device_"), *sample.labels.values()]): sample.value for sample in samples}


def test_a_scrape_tells_temperature_power_and_throttling(tmp_path: Path) -> None:
    root, lines = orin_nano(tmp_path), list[str]()
    with BoardWatch(JetsonSensors(root), lines.append, every_s=0.02) as watch:
        monitor = Monitor("fake", "fake", watch.state)
        wait(lambda: (state := watch.state()) and state.reading)
        server = web_server(["web://127.0.0.1:0"], monitor)
        assert server is not None
        with server:
            samples = scraped(server.address)
            celsius = {"cpu": 47.656, "gpu": 47.343, "soc0": 46, "tj": 48.218}
            assert samples == {
                **{f"temperature_celsius {zone}": value for zone, value in celsius.items()},
                "power_watts board": pytest.approx(4.984),
                "throttled": 0,
                "throttled_seconds_total": 0,
            }
            (root / ALERT).write_text("1\n", encoding="utf-8")
            (root / "sys/class/thermal/thermal_zone1/temp").write_text("99500\n", encoding="utf-8")
            wait(lambda: watch.state().throttled_seconds > 0 and "gpu" in watch.state().throttled_by[0])
            samples = scraped(server.address)
    assert (samples["throttled"], samples["temperature_celsius gpu"]) == (1, 99.5) and samples["throttled_seconds_total"] > 0
    assert len(lines) == 1 and lines[0].startswith("throttled (gpu over temperature, ")
    assert "throttled: gpu over temperature" in monitor.snapshot().note()
    assert watch.state().hottest_celsius["gpu"] == 99.5


class Slow:
    """A sensor that hangs at its second reading."""

    def __init__(self) -> None:
        self.hangs, self.calls = threading.Event(), 0

    def read(self) -> BoardReading:
        self.calls += 1
        if self.calls > 1:
            self.hangs.wait(PATIENCE)
        return BoardReading({"cpu": 50.0}, None, "board", None)


def test_a_sensor_that_hangs_holds_up_nobody_and_its_last_word_is_not_told_for_ever() -> None:
    slow = Slow()
    with BoardWatch(slow, lambda line: None, every_s=0.05) as watch:
        wait(lambda: watch.state().reading is not None)
        wait(lambda: watch.state().reading is None)
        assert watch.state() == BoardState(None, {"cpu": 50.0}, (), (), 0.0)
        ended = time.monotonic()
    assert time.monotonic() - ended < 5
    slow.hangs.set()


def test_a_machine_that_tells_nothing_is_not_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    before = threading.active_count()
    with watching(lambda line: None, tmp_path) as state:
        assert state() is None and threading.active_count() == before
    assert Monitor("fake", "fake", state).snapshot().board is None


def test_a_jetson_is_watched_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "nvidia-smi", f": > {tmp_path}/asked", monkeypatch)
    with watching(lambda line: None, thor(tmp_path)) as state:
        wait(lambda: (now := state()) and now.reading)
    assert not (tmp_path / "asked").exists()


def test_a_gpu_is_watched_by_one_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f'echo >> {tmp_path}/asked; echo "88, 312.50, 1410, 0x0000000000000020"; case "$*" in *-lms*) exec sleep 60;; esac'
    program(tmp_path / "bin", "nvidia-smi", script, monkeypatch)
    lines: list[str] = []
    with watching(lines.append, tmp_path) as state:
        wait(lambda: (now := state()) and now.throttled)
    assert lines == ["throttled (GPU over temperature, gpu 88.0 °C): " + lines[0].split(": ", 1)[1]]
    assert (tmp_path / "asked").read_text() == "\n\n", "once to know the driver's names, once for all readings"
