"""What a viewer gets over its connection: the newest picture with the mask of the same frame, or NO SIGNAL, never an old one."""

from __future__ import annotations

import json
import time
from fractions import Fraction

import cv2
import numpy as np
import pytest

from qtseg_edge.runtime.frames import SourceInfo, SourceStatus
from qtseg_edge.runtime.web.picture import picture_of
from tests.media import number_of
from tests.runtime.stand_ins import result_of
from tests.runtime.web.site import BESIDE_XY, BRIGHT_XY, FAINT_XY, LESION_XYXY, Message, Site, ask, ask_until, scene


def level_at(message: Message, x: int, y: int) -> int:
    """Of a pixel of the picture; 0 where the mask has none."""
    left, top, width, height = message.header["box"]
    if not (left <= x < left + width and top <= y < top + height):
        return 0
    return int(message.levels[y - top, x - left])


def test_the_run_is_described(site: Site) -> None:
    told = json.loads(site.get("/streams").text)
    assert told["notice"] == "Research use only. Not a medical device."
    assert told["stale_ms"] == 1000
    assert told["streams"] == [
        {
            "number": 0,
            "name": "rtsp://***@tower-1/live",
            "live": True,
            "classes": ["background", "bright red"],
            "colours": [[0, 0, 0], [0, 200, 120]],
            "threshold": 0.5,
        }
    ]


def test_a_picture_comes_with_the_mask_of_the_same_frame(site: Site) -> None:
    site.start()
    with site.watch() as viewer:
        message = ask_until(viewer, lambda message: message.header.get("box"))
        numbers = [number_of(message.picture)]
        for _ in range(5):
            message = ask_until(viewer, lambda message: message.header["has_picture"])
            assert number_of(message.picture) == message.header["frame"] % 256
            numbers.append(message.header["frame"])
        assert numbers == sorted(set(numbers))  # always a newer one
        assert (message.header["width"], message.header["height"]) == (320, 240)
        left, top, right, bottom = LESION_XYXY
        assert message.header["box"] == pytest.approx([left, top, right - left, bottom - top], abs=2)
        assert level_at(message, *FAINT_XY) == pytest.approx(180, abs=3)
        assert level_at(message, *BRIGHT_XY) == pytest.approx(245, abs=3)
        assert level_at(message, *BESIDE_XY) == 0
        assert message.header["share"] == pytest.approx(80 * 80 / (320 * 240), rel=0.05)


def test_a_region_that_the_filter_holds_back_is_in_no_message(site: Site) -> None:
    with site.watch() as viewer:
        ask(viewer)
        site.push()
        flash = ask_until(viewer, lambda message: message.header["has_picture"])
        assert flash.header["box"] is None and flash.png == b"" and flash.header["share"] == 0
        for _ in range(3):
            site.push()
            time.sleep(0.1)
        confirmed = ask_until(viewer, lambda message: message.header["has_picture"])
        assert confirmed.header["box"] is not None


def test_nothing_beside_the_mask_is_marked_whatever_the_sizes() -> None:
    rng = np.random.default_rng(5)
    for size_hw in ((1080, 1920), (720, 1280), (97, 133)):
        mask = np.zeros(size_hw, np.uint8)
        cv2.circle(mask, (size_hw[1] // 3, size_hw[0] // 2), min(size_hw) // 4, 1, -1)
        cv2.circle(mask, (size_hw[1] // 3, size_hw[0] // 2), min(size_hw) // 9, 0, -1)
        rgb = rng.integers(0, 255, (*size_hw, 3), np.uint8)
        picture = picture_of(result_of(rgb, mask, confidence=200), Fraction(1))
        width, height = picture.size_wh
        assert width == min(1280, size_hw[1]) and height == round(size_hw[0] * width / size_hw[1])
        assert picture.box is not None
        levels = cv2.imdecode(np.frombuffer(picture.levels, np.uint8), cv2.IMREAD_UNCHANGED)
        x, y, box_w, box_h = picture.box
        whole = np.zeros((height, width), np.uint8)
        whole[y : y + box_h, x : x + box_w] = levels
        small = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(whole > 0, small > 0) and set(np.unique(levels)) <= {0, 200}


def test_a_marked_pixel_of_no_confidence_is_still_shown() -> None:
    mask = np.ones((40, 60), np.uint8)
    picture = picture_of(result_of(np.zeros((40, 60, 3), np.uint8), mask, confidence=0), Fraction(1))
    assert cv2.imdecode(np.frombuffer(picture.levels, np.uint8), cv2.IMREAD_UNCHANGED).min() == 1


def test_more_than_two_classes_carry_their_index() -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[10:20, 10:30], mask[30:50, 40:70] = 1, 2
    picture = picture_of(result_of(np.full((60, 80, 3), 90, np.uint8), mask, classes=3, confidence=222), Fraction(1))
    assert picture.box == (10, 10, 60, 40)
    bgr = cv2.imdecode(np.frombuffer(picture.levels, np.uint8), cv2.IMREAD_UNCHANGED)
    inside = mask[10:50, 10:70]
    assert np.array_equal(bgr[..., 1], inside) and np.array_equal(bgr[..., 2], np.where(inside > 0, 222, 0)) and not bgr[..., 0].any()


def test_pixels_that_are_not_square_are_made_square() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[20:40, 10:30] = 1
    picture = picture_of(result_of(np.full((100, 100, 3), 90, np.uint8), mask), Fraction(3, 2))
    assert picture.size_wh == (150, 100) and picture.box == (15, 20, 30, 20)


def test_no_picture_is_encoded_while_nobody_looks(site: Site) -> None:
    view = site.channels[0].view

    def newest_has_picture() -> bool:
        before = view.latest.number
        site.push()
        deadline = time.monotonic() + 20
        while view.latest.number == before and time.monotonic() < deadline:
            time.sleep(0.005)
        return view.latest.picture is not None

    assert not newest_has_picture()
    with site.watch() as viewer:
        ask(viewer, "status")
        assert not newest_has_picture()  # this one only wants the figures
        ask(viewer, "picture")
        assert newest_has_picture()
    deadline = time.monotonic() + 20
    while view.watchers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not newest_has_picture()


def test_the_age_is_that_of_the_capture_when_it_is_sent(site: Site) -> None:
    with site.watch() as viewer:
        ask(viewer)
        before = time.perf_counter()
        site.push(age_s=0.3)
        message = ask_until(viewer, lambda message: message.header["has_picture"])
        assert 300 <= message.header["age_ms"] <= 300 + (time.perf_counter() - before) * 1e3
        later = ask(viewer)  # nothing newer: the answer waits
        assert not later.header["has_picture"] and later.header["signal"] and not later.header["is_new"]
        assert later.header["age_ms"] >= message.header["age_ms"] + 400
        assert later.header["waited_ms"] >= 400


def test_a_picture_is_not_sent_again_once_it_is_old(site: Site) -> None:
    site.start()
    with site.watch() as viewer:
        ask_until(viewer, lambda message: message.header["has_picture"])
        site.feeds.clear()
        message = ask_until(viewer, lambda message: not message.header["signal"])
        assert message.jpeg == b"" and message.header["reason"].startswith("no picture for ")
    with site.watch() as newcomer:
        assert not ask(newcomer).header["signal"]  # nor to somebody who has not seen it
    site.feeds.set()
    with site.watch() as viewer:
        assert ask_until(viewer, lambda message: message.header["has_picture"]).header["signal"]


def test_a_server_whose_run_hangs_says_that_nothing_comes(site: Site) -> None:
    """Also where the thread of the output is what hangs, so that nobody calls `starved`."""
    with site.watch() as viewer:
        ask(viewer)
        site.push()
        ask_until(viewer, lambda message: message.header["has_picture"])
        site.channels[0].view.starved = lambda: None  # type: ignore[method-assign]
        message = ask_until(viewer, lambda message: not message.header["signal"])
        assert message.header["reason"].startswith("no picture for ")


def test_a_source_that_is_lost_says_why(site: Site) -> None:
    site.start()
    with site.watch() as viewer:
        ask_until(viewer, lambda message: message.header.get("box"))
        site.channels[0].status = SourceStatus(False, 2, 0, "no answer from the camera")
        message = ask_until(viewer, lambda message: not message.header["signal"])
        assert (message.header["reason"], message.jpeg, message.png) == ("no answer from the camera", b"", b"")
        site.channels[0].status = SourceStatus(True, 3)
        assert ask_until(viewer, lambda message: message.header["has_picture"]).header["signal"]
        status = ask_until(viewer, lambda message: message.header.get("status", {}).get("up")).header["status"]
        assert status["reopened"] == 3


def test_a_run_that_has_ended_says_so(site: Site) -> None:
    site.start()
    with site.watch() as viewer:
        ask_until(viewer, lambda message: message.header["has_picture"])
        site.feeds.clear()
        site.channels[0].worker.finish()
        message = ask_until(viewer, lambda message: not message.header["signal"])
        assert message.header["reason"] in ("the run has ended", "no picture for 1 s")
        ask_until(viewer, lambda message: message.header.get("reason") == "the run has ended")


def test_a_viewer_that_takes_nothing_slows_nobody(site: Site) -> None:
    site.start()
    with site.watch() as quick, site.watch(max_queue=1) as greedy, site.watch() as silent:
        ask(silent)
        for _ in range(300):
            greedy.send("picture")  # and reads none of the answers
        ask_until(quick, lambda message: message.header["has_picture"])
        frames = [ask_until(quick, lambda message: message.header["has_picture"]).header for _ in range(20)]
        assert [header["frame"] for header in frames] == sorted(header["frame"] for header in frames)
        assert sorted(header["age_ms"] for header in frames)[10] < 500
        assert site.channels[0].worker.is_working


def test_a_slow_viewer_gets_the_newest_not_the_next(site: Site) -> None:
    site.start()
    with site.watch() as viewer:
        first = ask_until(viewer, lambda message: message.header["has_picture"]).header["frame"]
        time.sleep(0.5)
        header = ask_until(viewer, lambda message: message.header["has_picture"]).header
        assert header["frame"] >= first + 4 and header["age_ms"] < 500


def test_figures_and_events_come_with_the_pictures_but_not_with_each(site: Site) -> None:
    site.start()
    site.drop(7)
    with site.watch() as viewer:
        headers = [ask(viewer).header for _ in range(30)]
    reports = [header["status"] for header in headers if "status" in header]
    assert 0 < len(reports) < 20
    last = reports[-1]
    assert last["engine"] == "fake" and last["model"] == "fake" and last["dropped"] == {"late": 7} and last["frames"] > 0
    assert last["sinks"][0]["name"] == f"web://{site.server.address}" and last["sinks"][0]["error"] == ""


def test_an_event_is_told_to_those_who_come_later(site: Site) -> None:
    site.start()
    with site.watch() as viewer:
        ask_until(
            viewer, lambda message: any(event["is_open"] and event["picture"] is not None for event in message.header.get("events", []))
        )
        site.channels[0].lesion = False
        ask_until(viewer, lambda message: message.header.get("events") and not message.header["events"][0]["is_open"])
    with site.watch() as newcomer:
        (event,) = ask_until(newcomer, lambda message: "events" in message.header).header["events"]
    assert event["class"] == "bright red" and event["is_exact"] and event["duration_s"] >= 0
    assert event["peak_share"] == pytest.approx(80 * 80 / (320 * 240), rel=0.05)
    assert event["confidence"] == pytest.approx((180 + 245) / 2 / 255, abs=0.02)
    assert abs(event["started_at"] - time.time()) < 60
    answer = site.get(f"/streams/0/events/{event['id']}.jpg")
    assert answer.headers["Content-Type"] == "image/jpeg"
    picture = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (120, 160, 3) and picture[60, 60, 2] > 200  # BGR: the lesion, red
    assert site.get("/streams/0/events/99.jpg").status == 404


def test_the_view_is_the_output_of_a_file_too(site: Site) -> None:
    """Its events have the time of the file."""
    info = SourceInfo("clip.mp4", Fraction(25), Fraction(1, 25), 10)
    view = site.server.view(info, 0, site.backend.spec.card, 0.5)
    for index in range(6):
        view.write(result_of(scene(index), index=index))
    assert view.latest.has_signal and view.latest.time_s == pytest.approx(0.2)
    view.close()
    assert (view.latest.has_signal, view.latest.reason) == (False, "the run has ended")
