"""The log of events: a line for each that has ended, with a picture of its best frame."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks import open_sink
from qtseg_edge.runtime.sinks.events import EventLog
from qtseg_edge.runtime.temporal.events import Event
from qtseg_edge.runtime.temporal.tracker import WINDOW
from tests.disks import small_disk
from tests.media import numbered_frame
from tests.runtime.stand_ins import info, result_of
from tests.runtime.temporal.stream import SIZE_HW, Stream, box, masks_of, nothing

ROOT = Path(__file__).parents[2]
SMALL, LARGE, ELSEWHERE = box(24, 30, 10, 10), box(22, 28, 14, 14), box(44, 70)


def event(number: int = 1, ended_s: float | None = None, **fields: Any) -> Event:
    """Of one frame, which is its best."""
    values = {"started_s": 0.0, "frames": 1, "peak_area": 100, "confidence": 0.8, "best_frame": 0, "best_time_s": 0.0}
    return Event(id=number, class_index=1, ended_s=ended_s, **(values | fields))


def result(index: int, *events: Event, size_hw: tuple[int, int] = SIZE_HW) -> Result:
    return replace(result_of(numbered_frame(index % 256, size_hw), index=index), events=events)


def story() -> list[Result]:
    """What a filter makes of a lesion that is best in frame 5, goes after frame 7, and of another one that is there to the end."""
    stream, results = Stream(), []
    for index in range(18):
        lesion = LARGE if index == 5 else SMALL if 1 <= index <= 7 else nothing()
        marked = lesion | (ELSEWHERE if index >= 12 else nothing())
        filtered = stream.feed(masks_of(marked))
        shown = filtered.masks.mask[0] if filtered.masks is not None else None
        results.append(replace(result_of(numbered_frame(index, SIZE_HW), shown, index), tracks=filtered.tracks, events=filtered.events))
    return results


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def closest(picture: NDArray[np.uint8], results: list[Result]) -> int:
    """Index of the frame that a saved picture (BGR) is of."""
    rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(int)
    differences = [float(np.abs(rgb - each.picture).mean()) for each in results]
    assert min(differences) < 6
    return results[int(np.argmin(differences))].frame.index


def test_every_event_is_a_line_and_a_picture_of_its_best_frame(tmp_path: Path) -> None:
    sink = open_sink(str(tmp_path / "a.events.jsonl"), info())
    assert isinstance(sink, EventLog)
    results = story()
    for each in results:
        sink.write(each)
    sink.close()
    first, second = lines(tmp_path / "a.events.jsonl")
    assert first == {
        "id": 1,
        "stream": 0,
        "source": "clip.mp4",
        "class": "polyp",
        "started_s": 3 / 25,
        "ended_s": 7 / 25,
        "started_at": None,  # a file has no clock
        "ended_at": None,
        "open_at_end": False,
        "frames": 5,
        "peak_area": 196,
        "peak_share": round(196 / (64 * 96), 6),
        "confidence": round(200 / 255, 4),
        "best_frame": 5,
        "best_time_s": 5 / 25,
        "picture": "a.events/1.jpg",
        "picture_frame": 5,
    }
    assert (second["id"], second["started_s"], second["ended_s"], second["open_at_end"]) == (2, 14 / 25, None, True)
    assert names(tmp_path) == ["a.events", "a.events.jsonl", "a.events/1.jpg", "a.events/2.jpg"]
    for line in (first, second):
        picture = cv2.imread(str(tmp_path / line["picture"]))
        assert picture is not None
        assert closest(picture.astype(np.uint8), results) == line["best_frame"] == line["picture_frame"]


def test_a_line_is_on_the_disk_as_soon_as_its_event_has_ended(tmp_path: Path) -> None:
    sink = EventLog(tmp_path / "a.events.jsonl", info())
    written = []
    for each in story():
        sink.write(each)
        written.append(len(lines(tmp_path / "a.events.recording.jsonl")))
    assert written == [0] * (7 + WINDOW) + [1] * 5
    assert names(tmp_path) == ["a.events", "a.events.recording.jsonl", "a.events/1.jpg"]
    sink.close()


def test_a_run_without_events_leaves_an_empty_log_and_no_folder(tmp_path: Path) -> None:
    sink = EventLog(tmp_path / "a.events.jsonl", info())
    for index in range(5):
        sink.write(result(index))
    sink.close()
    assert names(tmp_path) == ["a.events.jsonl"]
    assert lines(tmp_path / "a.events.jsonl") == []


def test_a_run_that_failed_before_its_first_event_leaves_nothing(tmp_path: Path) -> None:
    sink = EventLog(tmp_path / "a.events.jsonl", info())
    sink.write(result(0, event()))
    sink.abandon()
    assert names(tmp_path) == []


def test_a_run_that_failed_later_keeps_its_lines(tmp_path: Path) -> None:
    sink = EventLog(tmp_path / "a.events.jsonl", info())
    sink.write(result(0, event(1), event(2)))
    sink.write(result(1, event(1, 0.0), event(2)))
    sink.abandon()
    assert [line["id"] for line in lines(tmp_path / "a.events.jsonl")] == [1]
    assert names(tmp_path) == ["a.events", "a.events.jsonl", "a.events/1.jpg"]


def test_a_log_that_exists_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "a.events.jsonl").write_text("mine")
    with pytest.raises(UsageError, match=r"a\.events\.jsonl: exists already, and events are kept; give another name, or move it away"):
        EventLog(tmp_path / "a.events.jsonl", info())
    assert names(tmp_path) == ["a.events.jsonl"]
    assert (tmp_path / "a.events.jsonl").read_text() == "mine"


def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(QtsegError, match=r"a\.events: cannot be written \(No space left on device\)"):
        EventLog(tmp_path / "a.events.jsonl", info())
    assert names(tmp_path) == []


def test_what_the_sink_was_too_slow_for_is_not_made_up(tmp_path: Path) -> None:
    """The best frame of 1 never came, nor its end; of 2 nothing but its end."""
    sink = EventLog(tmp_path / "a.events.jsonl", info())
    sink.write(result(0, event(1)))
    sink.write(result(4, event(1, frames=5, best_frame=2, best_time_s=2 / 25, peak_area=400)))
    sink.write(result(20, event(2, 0.5, best_frame=12, best_time_s=12 / 25)))
    sink.close()
    by_id = {line["id"]: line for line in lines(tmp_path / "a.events.jsonl")}
    assert [by_id[1][name] for name in ("best_frame", "picture_frame", "picture")] == [2, 0, "a.events/1.jpg"]
    assert (by_id[1]["ended_s"], by_id[1]["open_at_end"], by_id[1]["peak_area"]) == (None, False, 400)
    assert [by_id[2][name] for name in ("ended_s", "picture_frame", "picture")] == [0.5, None, None]
    assert names(tmp_path) == ["a.events", "a.events.jsonl", "a.events/1.jpg"]


def test_live_events_say_when_they_were_by_the_clock(tmp_path: Path) -> None:
    """Captured before they came here, the event 3 s before that."""
    sink = EventLog(tmp_path / "a.events.jsonl", replace(info(), live=True))
    now, start = datetime.now(timezone.utc), time.perf_counter()

    def at(seconds: float, ago: float, *events: Event) -> Result:
        """Of the stream's second `seconds`, captured `ago` seconds before the test began."""
        each = result(0, *events)
        return replace(each, frame=replace(each.frame, time=Fraction(seconds), captured_at=start - ago))

    sink.write(at(100, 4, event(1, started_s=100.0)))
    sink.write(at(103, 1, event(1, 102.5, started_s=100.0), event(2, started_s=101.0)))
    sink.close()
    ended, still_open = lines(tmp_path / "a.events.jsonl")
    moments = [datetime.fromisoformat(text) for text in (ended["started_at"], ended["ended_at"], still_open["started_at"])]
    for moment, before_s in zip(moments, (4, 1.5, 3), strict=True):
        assert moment.utcoffset() == timedelta(0)
        assert abs((now - moment).total_seconds() - before_s) < 0.5
    assert (still_open["ended_s"], still_open["ended_at"], still_open["open_at_end"]) == (None, None, True)


def test_memory_holds_few_pictures_whatever_is_open_and_nothing_of_what_has_ended(tmp_path: Path) -> None:
    sink = EventLog(tmp_path / "a.events.jsonl", info())
    for index in range(40):
        going_on = [event(number, best_frame=number) for number in range(index + 1)]
        sink.write(result(index, *going_on))
    pictures = [entry.picture for entry in sink._open.values()]
    assert len(pictures) == 40
    assert sum(isinstance(picture, np.ndarray) for picture in pictures) == 16
    assert all(isinstance(picture, (bytes, np.ndarray)) for picture in pictures)
    sink.write(result(40, *(event(number, 1.0, best_frame=number) for number in range(40))))
    assert sink._open == {}
    sink.close()
    assert [line["picture_frame"] for line in lines(tmp_path / "a.events.jsonl")] == list(range(40))
    results = [result(index) for index in range(40)]
    for number in range(40):  # those that were held as JPEG are as good
        picture = cv2.imread(str(tmp_path / "a.events" / f"{number}.jpg"))
        assert picture is not None and closest(picture.astype(np.uint8), results) == number


def test_ten_thousand_events_leave_no_object_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without their pictures, which would only take time."""
    import gc

    sink = EventLog(tmp_path / "a.events.jsonl", info())
    monkeypatch.setattr(sink, "_written_picture", lambda entry: None)
    each, counts = result(0), []
    for number in range(10_001):
        sink.write(replace(each, events=(event(number), event(number - 1, 1.0))))
        if number in (2_000, 10_000):
            gc.collect()
            counts.append(len(gc.get_objects()))
    sink.close()
    assert counts[1] - counts[0] < 500
    assert len(lines(tmp_path / "a.events.jsonl")) == 10_002


@pytest.mark.parametrize("noisy", [True, False], ids=["picture", "line"])
def test_a_full_disk_says_so_and_leaves_whole_lines_with_their_pictures(tmp_path: Path, noisy: bool) -> None:
    """What does not fit is a picture (noise takes space) or, after many events, a line."""
    sink = EventLog(tmp_path / "a.events.jsonl", info())
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    with small_disk():
        with pytest.raises(QtsegError) as caught:
            for index in range(200):
                each = result(index, event(index, best_frame=index), *([event(index - 1, 1.0)] if index else []))
                sink.write(replace(each, frame=replace(each.frame, rgb=noise)) if noisy and index == 5 else each)
        sink.abandon()
    found = lines(tmp_path / "a.events.jsonl")
    assert [line["id"] for line in found] == list(range(len(found)))
    assert len(found) == 5 if noisy else len(found) > 20
    assert f"a.events.jsonl: stopped after {len(found)} events (File too large); they are whole and stay; free some space" in str(
        caught.value
    )
    pictures = {f"a.events/{line['id']}.jpg" for line in found}
    assert pictures == {line["picture"] for line in found}
    assert pictures <= set(names(tmp_path)) <= pictures | {"a.events", "a.events.jsonl", f"a.events/{len(found)}.jpg"}
    assert all(cv2.imread(str(tmp_path / name)) is not None for name in names(tmp_path) if name.endswith(".jpg"))


CHILD = """
import sys
from pathlib import Path
from qtseg_edge.runtime.sinks.events import EventLog
from tests.runtime.stand_ins import info
from tests.runtime.test_event_log import event, result
sink = EventLog(Path(sys.argv[1]), info())
for index in range(100_000):
    sink.write(result(index, event(index, best_frame=index), event(index - 1, 1.0)))
    print(index, flush=True)
"""


def test_a_killed_run_leaves_its_lines_and_the_next_one_leaves_them_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.events.jsonl"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    written = next(int(line) for line in child.stdout if int(line) >= 20)
    os.kill(child.pid, signal.SIGKILL)
    child.stdout.close()
    child.wait(30)
    left = tmp_path / "a.events.recording.jsonl"
    content = left.read_bytes()
    found = [json.loads(line) for line in content.decode().splitlines()]
    assert len(found) >= written
    assert all((tmp_path / line["picture"]).is_file() for line in found if line["picture"])
    again = EventLog(path, info())
    again.write(result(0, event(1)))
    again.close()
    assert [line["picture"] for line in lines(path)] == ["a.events-2/1.jpg"]
    assert left.read_bytes() == content


@pytest.mark.parametrize("ending", [EventLog.close, EventLog.abandon])
def test_a_log_that_cannot_take_its_name_is_where_it_was(tmp_path: Path, ending: Callable[[EventLog], None]) -> None:
    sink = EventLog(tmp_path / "a.events.jsonl", info())
    sink.write(result(0, event(1)))
    sink.write(result(1, event(1, 0.0)))
    (tmp_path / "a.events.jsonl").mkdir()
    if ending is EventLog.close:
        with pytest.raises(QtsegError, match=r"cannot take its name .* what was written is in .*a\.events\.recording\.jsonl, rename that"):
            ending(sink)
    else:
        ending(sink)
    assert [line["id"] for line in lines(tmp_path / "a.events.recording.jsonl")] == [1]
