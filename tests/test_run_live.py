"""Live runs of the real command: a camera that goes and comes back, signals, systemd, passwords."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.disks import slow_disk
from tests.live_runs import PATIENCE, LiveRun, no_signal, pictures
from tests.media import decoded
from tests.servers import RtspServer, require_rtsp_server
from tests.servers.clock_picture import age_of

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", autouse=True)
def _servers() -> None:
    require_rtsp_server()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def require_no_old_picture(folder: Path, lines: list[dict[str, Any]]) -> None:
    """The pictures say when they were made: as they are shown, that must go on as the recording's own time does."""
    with av.open(str(folder / "out.mp4")) as video:
        shown = [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in video.decode(video=0)]
    lags = np.array([age_of(rgb, time_s) for line, (time_s, rgb) in zip(lines, shown, strict=True) if line["signal"]])
    half = 2**24 / 2000  # the pictures' clock goes round
    assert np.abs((lags - lags[0] + half) % (2 * half) - half).max() < 1.5


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_camera_that_is_lost_shows_no_signal_and_comes_back(tmp_path: Path, how: str) -> None:
    port = free_port()
    server = RtspServer(port)
    options = ["-o", "out.mp4", "-o", "out.events.jsonl", "--stall-timeout", "2", "--json"]
    with LiveRun(tmp_path, "--source", f"rtsp://{server.address}", *options) as run:
        run.wait(pictures(25))
        server.freeze() if how == "frozen" else server.kill()
        lost_at = len(run.lines())
        run.wait(no_signal(after=lost_at))
        if how == "frozen":
            run.wait(lambda lines: sum(not line["signal"] for line in lines) >= 5)
            server.thaw()
        else:
            server = RtspServer(port)
        run.wait(pictures(25, after=lost_at + 2))
        code, seconds = run.end(signal.SIGTERM)
        server.kill()
    assert (code, "Traceback" in run.err) == (130, False), run.err
    assert seconds < 8  # 2 on a quiet machine: docs/results/live.md
    lines = run.lines()
    blank = [line for line in lines if not line["signal"]]
    assert all(line["mask_area"] is None and line["regions"] == [] == line["tracks"] for line in blank)
    assert all(line["age_ms"] < 1500 for line in lines)
    assert all(later["time_s"] > earlier["time_s"] for earlier, later in pairwise(lines))
    assert len(decoded(tmp_path / "out.mp4")) == len(lines)
    require_no_old_picture(tmp_path, lines)
    (source,) = json.loads(run.out)["sources"]
    assert source["reopened"] >= 1 and source["frames"] == len(lines) - len(blank)
    assert "opening again (attempt 1)" in run.err and "back after" in run.err


def test_a_camera_that_stays_away_ends_the_run_with_whole_files_and_exit_code_6(tmp_path: Path) -> None:
    with RtspServer() as server, LiveRun(tmp_path, "--source", f"rtsp://{server.address}", "-o", "out.mp4", "--restarts", "1") as run:
        run.wait(pictures(10))
        server.kill()
        assert run.process.wait(PATIENCE) == 6
    assert "lost (" in run.err and "not back after 1 attempt" in run.err and "--restarts -1" in run.err
    assert len(decoded(tmp_path / "out.mp4")) == len(run.lines()) > 10


def test_a_password_is_shown_nowhere(tmp_path: Path) -> None:
    secret, port = "s3cr-et", free_port()
    server = RtspServer(port, "theatre", secret)
    outputs = ["-o", "out.mp4", "-o", "out.events.jsonl", "-o", "out.coco.json", "-o", f"web://127.0.0.1:{free_port()}", "--json"]
    with LiveRun(tmp_path, "--source", f"rtsp://theatre:{secret}@{server.address}", *outputs, "--stall-timeout", "2") as run:
        run.wait(pictures(15))
        address = run.err.split("Look at ")[1].split()[0]
        served = [urllib.request.urlopen(f"{address}/{path}", timeout=10).read().decode() for path in ("metrics", "streams", "readyz")]
        server.kill()
        run.wait(no_signal())
        run.wait(lambda _: "attempt 2" in run.err)
        code, _ = run.end()
    assert code == 130
    assert f"rtsp://***@{server.address}" in served[0] and "***@" in run.err
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 6
    assert not any(secret.encode() in content for content in (*written, *(text.encode() for text in served)))


def test_a_wrong_password_is_told_without_it(tmp_path: Path) -> None:
    with RtspServer(0, "theatre", "right-one") as server:
        with LiveRun(tmp_path, "--source", f"rtsp://theatre:wr-0ng@{server.address}") as run:
            assert run.process.wait(PATIENCE) == 6
        assert "wr-0ng" not in run.err and "give the right user and password" in run.err
        assert len(run.err.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_live_run_of_many_outputs_with_all_of_them_whole(tmp_path: Path, number: signal.Signals) -> None:
    outputs = ["-o", "out.mp4", "-o", "masks/", "-o", "out.events.jsonl", "-o", "out.coco.json", "-o", f"web://127.0.0.1:{free_port()}"]
    with LiveRun(tmp_path, "--source", "testsrc://640x480@25", *outputs) as run:
        run.wait(pictures(40))
        code, seconds = run.end(number)
    assert code == 130 and seconds < 8, run.err
    count = len(run.lines())
    assert len(decoded(tmp_path / "out.mp4")) == len(list((tmp_path / "masks").iterdir())) == count
    coco: dict[str, Any] = json.loads((tmp_path / "out.coco.json").read_text(encoding="utf-8"))
    assert len(coco["images"]) == count
    events = [json.loads(line) for line in (tmp_path / "out.events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert events and all((tmp_path / event["picture"]).exists() for event in events)


def test_systemd_is_told_that_it_is_ready_and_alive(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "900000"}
        with LiveRun(tmp_path, "--source", "testsrc://160x120@25", environment=environment) as run:
            messages = [systemd.recv(1000).decode()]
            assert messages == ["READY=1"] and run.process.poll() is None
            while sum(message == "WATCHDOG=1" for message in messages) < 5:
                messages.append(systemd.recv(1000).decode())
            run.end(signal.SIGTERM)
        systemd.setblocking(False)
        try:
            while True:
                messages.append(systemd.recv(1000).decode())
        except BlockingIOError:
            pass
    assert messages[-1] == "STOPPING=1"
    assert any(message.startswith("STATUS=") and "age" in message for message in messages)


def test_a_full_disk_stops_the_recording_which_plays_and_the_rest_goes_on(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        with LiveRun(tmp_path, "--source", "testsrc://640x480@25", "-o", "disk/out.mp4", "-o", "out.events.jsonl", "--json") as run:
            run.wait(lambda _: "the rest of the run goes on" in run.err)
            run.wait(pictures(20, after=len(run.lines())))
            code, _ = run.end()
        assert code == 1
        assert "disk/out.mp4: recording stopped after" in run.err and "No space left on device" in run.err
        recorded = len(decoded(disk / "out.mp4"))
        assert 20 < recorded < len(run.lines())
        assert [sink["error"] is not None for sink in json.loads(run.out)["outputs"]] == [False, True, False]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_slow_disk_costs_the_recording_frames_and_nobody_else_anything(tmp_path: Path) -> None:
    with slow_disk(tmp_path, 20_000) as disk:
        with LiveRun(tmp_path, "--source", "testsrc://640x480@25", "-o", "slow/out.mp4", "--json") as run:
            run.wait(pictures(175))
            run.end()
            lines = run.lines()
        report = json.loads(run.out)
        (recorded,) = disk.glob("out*.mp4")  # under the name of its recording where the disk did not take its end in time
        assert 20 < len(decoded(recorded)) <= len(lines)
    assert report["sources"][0]["dropped"]["slow output"] > 10
    assert len(lines) == report["frames"]
    assert np.median([line["age_ms"] for line in lines]) < 200
    assert max(after["time_s"] - before["time_s"] for before, after in pairwise(lines)) < 2


def test_two_cameras_run_with_one_engine(tmp_path: Path) -> None:
    with RtspServer() as server:
        sources = ["--source", f"rtsp://{server.address}", "--source", "testsrc://160x120@25"]
        with LiveRun(tmp_path, *sources, "-o", "out.mp4", "--json") as run:
            files = [tmp_path / f"out-{number}.recording.jsonl" for number in (1, 2)]
            run.wait(lambda _: all(path.exists() and path.read_text().count("\n") > 20 for path in files))
            code, _ = run.end()
    assert code == 130
    assert all(source["frames"] >= 10 for source in json.loads(run.out)["sources"])
    assert all(len(decoded(tmp_path / f"out-{number}.mp4")) >= 10 for number in (1, 2))
