"""A recording in segments: nothing is lost between two, each plays, and what is removed is what was asked for and ours."""

from __future__ import annotations

import json
import os
import signal
import stat
import struct
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime.sinks import for_start, for_stream, open_sink, open_sinks
from qtseg_edge.runtime.sinks.retention import Retention
from qtseg_edge.runtime.sinks.segment_list import LIST_NAME
from qtseg_edge.runtime.sinks.segments import Segments
from tests.disks import small_disk
from tests.live_runs import LiveRun
from tests.media import decoded, number_of, numbered_frame, require_forbidden, times_of
from tests.runtime.stand_ins import info, result_of

START = datetime(2026, 11, 25, 8, tzinfo=timezone.utc)


class Clock:
    """Goes on by `step` whenever somebody looks."""

    def __init__(self, moment: datetime = START, step: timedelta = timedelta(0)) -> None:
        self.moment, self._step = moment, step

    def __call__(self) -> datetime:
        self.moment += self._step
        return self.moment


def segments(folder: Path, retention: Retention, notes: list[str] | None = None, clock: Clock | None = None) -> Segments:
    """clock: one that was set before the boot."""
    said, told = [] if notes is None else notes, clock or Clock(step=timedelta(seconds=1))
    return Segments(folder, info(), retention, said.append, told, lambda: told.moment.timestamp())


def record(sink: Segments, frames: int, first: int = 0, size_hw: tuple[int, int] = (48, 64)) -> None:
    for index in range(first, first + frames):
        sink.write(result_of(numbered_frame(index % 256, size_hw), index=index))


def videos(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mp4"))


def listed(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / LIST_NAME).read_text(encoding="utf-8"))
    return document


def test_every_frame_is_in_exactly_one_segment_and_each_begins_at_0(tmp_path: Path) -> None:
    sink = segments(tmp_path, Retention(segment_s=1))
    record(sink, 60)
    sink.close()
    shown = [[number_of(picture) for picture in decoded(path)] for path in videos(tmp_path)]
    assert shown == [list(range(25)), list(range(25, 50)), list(range(50, 60))]
    assert times_of(videos(tmp_path)[1]) == [Fraction(n, 25) for n in range(25)]
    assert [path.name for path in videos(tmp_path)] == [entry["file"] for entry in listed(tmp_path)["segments"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([LIST_NAME, *(path.name for path in videos(tmp_path))])


def test_they_are_named_by_the_time_in_utc_and_never_take_each_others_place(tmp_path: Path) -> None:
    elsewhere = timezone(timedelta(hours=9))
    sink = segments(tmp_path, Retention(segment_s=1), clock=Clock(datetime(2026, 11, 25, 17, 5, 9, tzinfo=elsewhere)))
    record(sink, 75)  # the clock stands still
    sink.close()
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"20261125T080509Z.mp4", "20261125T080509Z-2.mp4", "20261125T080509Z-3.mp4"}


def test_a_segment_is_whole_as_soon_as_the_next_one_begins(tmp_path: Path) -> None:
    sink = segments(tmp_path, Retention(segment_s=1))
    record(sink, 26)
    (first, second) = videos(tmp_path)
    assert len(decoded(first)) == 25 and second.name.endswith(".recording.mp4")
    assert [entry["file"] for entry in listed(tmp_path)["writing"]] == [second.name.replace(".recording", "")]
    sink.close()


def test_without_keep_and_days_nothing_is_ever_removed(tmp_path: Path) -> None:
    notes: list[str] = []
    sink = segments(tmp_path, Retention(segment_s=1), notes, Clock(step=timedelta(days=1000)))
    record(sink, 100)
    sink.close()
    assert len(videos(tmp_path)) == 4 and notes == []


def test_the_oldest_go_when_they_no_longer_fit_and_that_is_told(tmp_path: Path) -> None:
    sink = segments(tmp_path, Retention(segment_s=1))
    record(sink, 100)
    sink.close()
    before, sizes = videos(tmp_path), [path.stat().st_size for path in videos(tmp_path)]
    notes: list[str] = []
    room = sum(sizes)  # for one more segment than there will be
    later = segments(tmp_path, Retention(1, room), notes, Clock(START + timedelta(hours=1), timedelta(seconds=1)))
    record(later, 50, first=100)
    later.close()
    left = videos(tmp_path)
    assert sum(path.stat().st_size for path in left) <= room
    assert before[0] not in left and set(before[2:]) <= set(left) and len(left) >= 4
    assert all(len(decoded(path)) == 25 for path in left)
    assert all("removed (keep=" in note for note in notes) and str(before[0]) in notes[0]
    assert [entry["file"] for entry in listed(tmp_path)["segments"]] == [path.name for path in left]


def test_the_budget_holds_while_a_segment_grows(tmp_path: Path) -> None:
    """A segment of hours must take neither the disk before it ends, nor the place of all others, and of itself, when it does."""
    sink = segments(tmp_path, Retention(segment_s=1))
    record(sink, 300)
    sink.close()
    room = sum(path.stat().st_size for path in videos(tmp_path))
    growing = segments(tmp_path, Retention(3600, room), clock=Clock(START + timedelta(hours=1), timedelta(seconds=1)))
    for index in range(600):
        record(growing, 1, first=index)
        assert sum(path.stat().st_size for path in videos(tmp_path)) <= room
    growing.close()
    left = videos(tmp_path)
    shown = [number_of(picture) for path in left for picture in decoded(path)]
    assert 2 <= len(left) <= 8 and room / 2 < sum(path.stat().st_size for path in left) <= room
    assert shown == [index % 256 for index in range(600 - len(shown), 600)]  # the newest, without a gap


def test_the_old_go_by_age(tmp_path: Path) -> None:
    clock = Clock(step=timedelta(seconds=1))
    sink = segments(tmp_path, Retention(segment_s=1, days=30), clock=clock)
    record(sink, 26)
    clock.moment += timedelta(days=20)
    record(sink, 25, first=26)
    clock.moment += timedelta(days=11)
    record(sink, 25, first=51)
    sink.close()
    assert [decoded(path) != [] for path in videos(tmp_path)] == [True, True, True]
    assert not (tmp_path / "20261125T080001Z.mp4").exists()


def test_a_clock_that_is_set_by_months_makes_nothing_older(tmp_path: Path) -> None:
    """A board without a battery begins on the day its image was made, until it finds a time server."""
    notes: list[str] = []
    clock, uptime = Clock(START - timedelta(days=200), timedelta(seconds=1)), 20.0
    sink = Segments(tmp_path, info(), Retention(segment_s=1, days=30), notes.append, clock, lambda: uptime)
    record(sink, 60)
    clock.moment = START
    record(sink, 60, first=60)
    assert notes == []
    uptime += timedelta(days=31).total_seconds()
    record(sink, 25, first=120)
    sink.close()
    assert len(notes) == 4 and all("removed (days=30)" in note for note in notes)


def test_what_was_recorded_before_the_clock_was_set_by_months_outlives_a_restart(tmp_path: Path) -> None:
    notes: list[str] = []
    clock, uptime = Clock(START - timedelta(days=200)), 20.0
    sink = Segments(tmp_path, info(), Retention(segment_s=1, days=30), notes.append, clock, lambda: uptime)
    record(sink, 60)
    clock.moment, uptime = START, 320.0
    record(sink, 25, first=60)
    sink.close()
    assert {entry["ended_at"] for entry in listed(tmp_path)["segments"][:2]} == {(START - timedelta(minutes=5)).isoformat()}
    clock.moment += timedelta(hours=1)
    sink = Segments(tmp_path, info(), Retention(segment_s=1, days=30), notes.append, clock, lambda: 0.0)
    record(sink, 30)
    sink.close()
    assert notes == []


def test_a_clock_that_is_set_back_dates_nothing_back(tmp_path: Path) -> None:
    clock, uptime = Clock(START), 20.0
    sink = Segments(tmp_path, info(), Retention(segment_s=1), print, clock, lambda: uptime)
    record(sink, 30)
    clock.moment, uptime = START - timedelta(days=200), 80.0
    record(sink, 30, first=30)
    sink.close()
    assert listed(tmp_path)["segments"][0]["ended_at"] == START.isoformat()


def test_files_of_others_stay_whatever_they_are_called(tmp_path: Path) -> None:
    """Only what the list names is ours; a copy from another device has the same kind of name."""
    others = {"20200101T000000Z.mp4": b"copied from another device", "holiday.mp4": b"x" * 2_000_000, "notes.txt": b"important"}
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    sink = segments(tmp_path, Retention(1, 1_000, 1), clock=Clock(step=timedelta(days=1)))
    record(sink, 100)
    sink.close()
    assert {name: (tmp_path / name).read_bytes() for name in others} == others
    assert len(videos(tmp_path)) == 2 and listed(tmp_path)["segments"] == []  # keep is less than one segment


def test_a_file_that_was_changed_is_its_changers(tmp_path: Path) -> None:
    sink = segments(tmp_path, Retention(segment_s=1))
    record(sink, 75)
    sink.close()
    cut, linked, whole = videos(tmp_path)
    cut.write_bytes(b"cut by a doctor")
    outside = tmp_path / "precious"
    linked.rename(outside)
    linked.symlink_to(outside)
    notes: list[str] = []
    later = segments(tmp_path, Retention(1, 1_000), notes, Clock(START + timedelta(hours=1), timedelta(seconds=1)))
    record(later, 30)
    later.close()
    assert cut.read_bytes() == b"cut by a doctor" and linked.is_symlink() and outside.exists() and not whole.exists()
    assert sum("is not as it was recorded; it stays" in note for note in notes) == 2


def test_what_was_moved_away_takes_no_room(tmp_path: Path) -> None:
    """Else the rest would have to go for files that are elsewhere, kept."""
    folder = tmp_path / "recordings"
    sink = segments(folder, Retention(segment_s=1))
    record(sink, 100)
    sink.close()
    before = videos(folder)
    room = 2 * sum(path.stat().st_size for path in before)
    notes: list[str] = []
    sink = segments(folder, Retention(1, room), notes, Clock(START + timedelta(hours=1), timedelta(seconds=1)))
    record(sink, 75)
    for path in videos(folder)[3:6]:
        path.rename(tmp_path / path.name)
    record(sink, 75, first=75)
    sink.close()
    assert notes == [] and all(path.exists() for path in before[:3])
    assert sum(path.stat().st_size for path in videos(folder)) <= room
    assert [entry["file"] for entry in listed(folder)["segments"]] == [path.name for path in videos(folder)]


def test_a_file_that_somebody_took_away_is_not_missed(tmp_path: Path) -> None:
    sink = segments(tmp_path, Retention(segment_s=1, keep_bytes=1_000))
    record(sink, 26)
    for path in tmp_path.glob("*Z.mp4"):
        path.unlink()
    record(sink, 50, first=26)
    sink.close()
    assert listed(tmp_path)["writing"] == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 100,
        b"[]",
        b'{"version": 2, "segments": [], "writing": []}',
        b'{"version": 1, "segments": [{"file": "../precious.mp4", "started_at": "2026-11-25T08:00:00+00:00", '
        b'"ended_at": "2026-11-25T08:00:00+00:00", "bytes": 9, "complete": true}], "writing": []}',
        b'{"version": 1, "segments": [{"file": "precious.mp4", "started_at": "2026-11-25T08:00:00", '
        b'"ended_at": "2026-11-25T08:00:00", "bytes": 9, "complete": true}], "writing": []}',
        b'{"version": 1, "segments": [{"file": "precious.mp4"}], "writing": []}',
        b'{"version": 1, "segments": [], "writing": [{"file": "/etc/passwd", "started_at": "2026-11-25T08:00:00+00:00"}]}',
    ],
)
def test_a_list_that_cannot_be_believed_removes_nothing_and_stops_nothing(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    precious = [tmp_path / "precious.mp4", folder / "precious.mp4"]
    for path in precious:
        path.write_bytes(b"123456789")
    (folder / LIST_NAME).write_bytes(content)
    notes: list[str] = []
    sink = segments(folder, Retention(1, 1_000, 0.001), notes, Clock(START + timedelta(days=9), timedelta(seconds=1)))
    record(sink, 30)
    sink.close()
    assert [path.read_bytes() for path in precious] == [b"123456789"] * 2
    assert (folder / f"{LIST_NAME}.damaged").read_bytes() == content
    assert "not readable" in notes[0] and "stays for good" in notes[0]


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    sink = segments(tmp_path, Retention())
    with pytest.raises(UsageError, match="another run records into it"):
        segments(tmp_path, Retention())
    sink.abandon()
    segments(tmp_path, Retention()).abandon()


def test_a_full_disk_stops_the_recording_and_leaves_what_plays(tmp_path: Path) -> None:
    sink = segments(tmp_path, Retention(segment_s=1))
    record(sink, 30)
    noise = np.random.default_rng(7)
    with small_disk(), pytest.raises(QtsegError, match=r"recording stopped after|cannot be written"):
        for index in range(30, 200):
            sink.write(result_of(noise.integers(0, 256, (240, 320, 3), np.uint8), index=index))
    sink.abandon()
    assert [len(decoded(path)) > 0 for path in videos(tmp_path)] == [True] * len(videos(tmp_path))
    assert len(decoded(videos(tmp_path)[0])) == 25
    assert {entry["file"] for entry in listed(tmp_path)["segments"]} == {path.name for path in videos(tmp_path)}


def test_a_folder_that_lets_nothing_go_stops_the_recording_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    sink = segments(folder, Retention(segment_s=1))
    record(sink, 30)
    sink.close()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        require_forbidden(folder, os.W_OK)
        with pytest.raises(QtsegError, match="cannot be written"):
            segments(folder, Retention(1, 1_000))
    finally:
        folder.chmod(stat.S_IRWXU)


def test_a_sink_that_got_no_frame_leaves_no_recording(tmp_path: Path) -> None:
    segments(tmp_path / "a" / "b", Retention()).abandon()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [LIST_NAME]


def test_a_run_that_was_killed_is_found_by_the_next_one(tmp_path: Path) -> None:
    output = ["--source", "testsrc://160x120@25", "-o", "recordings/?segment=1h"]
    folder = tmp_path / "recordings"
    with LiveRun(tmp_path, *output) as run:
        run.wait(lambda _: any(path.stat().st_size > 2000 for path in folder.glob("*.recording.mp4")))  # two seconds, up to a key frame
        run.kill()
    (cut_off,) = folder.glob("*.recording.mp4")
    with LiveRun(tmp_path, *output) as run:
        run.wait(lambda _: "cut off" in run.err and any(folder.glob("*.recording.mp4")))
        code, _ = run.end(signal.SIGTERM)
    assert code == 130 and "an earlier run was cut off while it wrote this" in run.err
    found = folder / cut_off.name.replace(".recording", "")
    assert len(decoded(found)) > 20
    entries = {entry["file"]: entry["complete"] for entry in listed(folder)["segments"]}
    assert not entries.pop(found.name) and entries and all(entries.values())
    assert not any(folder.glob("*.recording*.mp4"))
    assert all(decoded(path) for path in videos(folder))


def test_a_live_run_removes_what_is_older_than_was_asked_and_says_so(tmp_path: Path) -> None:
    """Real time, real files: 0.00001 days are 0.9 seconds."""
    folder = tmp_path / "recordings"
    with LiveRun(tmp_path, "--source", "testsrc://160x120@25", "-o", "recordings/?segment=1s&days=0.00001") as run:
        run.wait(lambda _: run.err.count("removed (days=1e-05)") >= 2)
        code, _ = run.end(signal.SIGTERM)
    assert code == 130, run.err
    assert 1 <= len(videos(folder)) <= 3 and all(decoded(path) for path in videos(folder))
    assert not any(line.split(":")[1].strip() in map(str, videos(folder)) for line in run.err.splitlines() if "removed" in line)


def test_an_output_is_opened_by_what_was_typed(tmp_path: Path) -> None:
    sink = open_sink(f"{tmp_path}/recordings/?segment=1min&keep=1GB", info())
    assert isinstance(sink, Segments) and sink.name == f"{tmp_path}/recordings/"
    sink.abandon()
    with pytest.raises(UsageError, match="knows segment, keep and days"):
        open_sink(f"{tmp_path}/other/?segment=1min&kep=1GB", info())
    assert not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match="is given twice"):
        open_sinks([f"{tmp_path}/a/?segment=1s", f"{tmp_path}/a/?segment=2s"], info())


def test_every_stream_and_every_start_has_a_place_of_its_own(tmp_path: Path) -> None:
    assert for_stream("recordings/?keep=1GB", 1, 2) == "recordings/2/?keep=1GB"
    assert for_stream("/data/recordings/?keep=1GB", 0, 1) == "/data/recordings/?keep=1GB"
    assert for_start("events/{start}.events.jsonl", START) == "events/20261125T080000Z.events.jsonl"
    assert for_start("rtsp://host/{start}", START) == "rtsp://host/{start}"
    (tmp_path / "rec").mkdir()
    with pytest.raises(UsageError, match="segment="):
        open_sink(for_start(f"{tmp_path}/rec/?segment={{start}}", START), info())


def test_what_was_cut_off_before_its_first_picture_is_not_kept_as_if_it_played(tmp_path: Path) -> None:
    for frames, size in ((1, None), (60, None), (130, 200), (130, 1500), (130, 0), (130, None)):
        folder = tmp_path / f"{frames}-{size}"
        cut_off = segments(folder, Retention())
        record(cut_off, frames)
        cut_off._list.close()  # as the system does when a process is killed
        (left,) = folder.glob("*.recording.mp4")
        if size is not None:
            os.truncate(left, size)
        notes: list[str] = []
        segments(folder, Retention(), notes).abandon()
        shown = [100] if (frames, size) == (130, None) else []
        assert [len(decoded(path)) for path in videos(folder)] == shown
        assert len(notes) == len(listed(folder)["segments"]) == len(shown)


def test_what_was_finalised_and_not_named_is_whole(tmp_path: Path) -> None:
    """A power cut while the disk takes the last of a segment: its index is behind its pictures by then."""
    sink = segments(tmp_path, Retention())
    record(sink, 130)
    assert sink._video is not None
    sink._video._finalise()
    sink._list.close()
    notes: list[str] = []
    segments(tmp_path, Retention(), notes).abandon()
    assert [len(decoded(path)) for path in videos(tmp_path)] == [130]
    assert len(notes) == len(listed(tmp_path)["segments"]) == 1


def test_what_was_cut_off_while_it_was_finalised_stays(tmp_path: Path) -> None:
    """Its beginning is on the disk, its end is not: it does not play, and most of its pictures can still be had."""
    sink = segments(tmp_path, Retention())
    record(sink, 130)
    assert sink._video is not None
    sink._video._finalise()
    sink._list.close()
    (left,) = tmp_path.glob("*.recording.mp4")
    os.truncate(left, left.stat().st_size - 1000)
    notes: list[str] = []
    segments(tmp_path, Retention(1, 1_000), notes).abandon()
    assert videos(tmp_path) == [left] and listed(tmp_path)["segments"] == listed(tmp_path)["writing"] == []
    assert len(notes) == 1 and "stays as it is" in notes[0]


@pytest.mark.parametrize(("kinds", "is_kept"), [((b"mdat", b"moov"), True), ((b"moov", b"mdat"), True), ((b"moov", b"moof"), False)])
def test_boxes_of_more_than_4_gb_are_read_by_their_long_length(tmp_path: Path, kinds: tuple[bytes, ...], is_kept: bool) -> None:
    segments(tmp_path, Retention()).abandon()
    document = listed(tmp_path) | {"writing": [{"file": "long.mp4", "started_at": START.isoformat()}]}
    (tmp_path / LIST_NAME).write_text(json.dumps(document), encoding="utf-8")
    content = b"".join(struct.pack(">I4sQ", 1, kind, 116) + bytes(100) for kind in kinds)
    (tmp_path / "long.recording.mp4").write_bytes(content)
    segments(tmp_path, Retention()).abandon()
    assert [path.name for path in videos(tmp_path)] == (["long.mp4"] if is_kept else [])
