"""The page in a real browser: Debian's Chromium, driven by Playwright, looking at a run with moving pictures."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import cv2
import pytest

from qtseg_edge.runtime.frames import SourceStatus
from tests.runtime.web.site import BESIDE_XY, BRIGHT_XY, FAINT_XY, PATIENCE, TOKEN, Site, use_token

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NOTHING = "\N{EN DASH}"
_READ = """([x, y]) => Array.from(document.querySelector(".stage canvas").getContext("2d").getImageData(x, y, 1, 1).data)"""
# A checksum of the row of numbers: another one for another frame.
_TOP_ROW = """() => { const c = document.querySelector(".stage canvas");
  return Array.from(c.getContext("2d").getImageData(0, 3, 64, 1).data).map((v, i) => i % 4 === 1 && v > 120 ? "1" : "0").join(""); }"""
# How many pixels are a tinted lesion (red with green) or an edge; untinted, the lesion has no green, and tissue has little red.
_TINTED = """() => { const c = document.querySelector(".stage canvas");
  const d = c.getContext("2d").getImageData(0, 30, c.width, c.height - 60).data;
  let n = 0;
  for (let i = 0; i < d.length; i += 4) n += (d[i] > 100 && d[i + 1] > 60) || (d[i] < 40 && d[i + 1] > 170 && d[i + 2] > 90);
  return n; }"""
_VISIBLE_TEXT = """() => getComputedStyle(document.querySelector(".stage .card")).display !== "none"
  ? document.querySelector(".stage .card").innerText : "" """


class Viewer:
    """A page that has been opened, and every request that it has made."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page, self.requests, self.errors = page, [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if "Content Security" in message.text else None)
        page.goto(site.url)

    def until(self, wanted: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (found := wanted()):
            assert time.monotonic() < deadline, f"{what}: it did not happen; {self.errors}; {self.text('#state')}"
            self.page.wait_for_timeout(40)
        return found

    def pixel(self, place: tuple[int, int]) -> tuple[int, int, int]:
        red, green, blue, _ = self.page.evaluate(_READ, list(place))
        return red, green, blue

    def tinted(self) -> int:
        return int(self.page.evaluate(_TINTED))

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def no_signal(self) -> str:
        """What is said instead of a picture."""
        return str(self.page.evaluate(_VISIBLE_TEXT))

    def number(self) -> str:
        return str(self.page.evaluate(_TOP_ROW))

    def set(self, slider: str, value: float) -> None:
        self.page.locator(slider).evaluate("(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value)

    def sees_the_lesion(self) -> None:
        self.until(lambda: self.text("#state") == "LIVE" and self.tinted() > 3000, "the mask is shown")


Opened = Callable[[Site], Viewer]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    contexts = []

    def opened(site: Site) -> Viewer:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
        contexts.append(context)
        return Viewer(context.new_page(), site)

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def run() -> Iterator[Site]:
    with Site() as site:
        yield site.start()


def test_the_picture_moves_and_the_mask_is_where_the_lesion_is(run: Site, opened: Opened) -> None:
    viewer = opened(run)
    viewer.sees_the_lesion()
    first = viewer.number()
    viewer.until(lambda: viewer.number() != first, "the picture moves")
    for place in (FAINT_XY, BRIGHT_XY):
        red, green, _ = viewer.pixel(place)
        assert green == pytest.approx(0.65 * 20 + 0.35 * 200, abs=14) and red > 90  # tinted, and the lesion shows through
    red, green, blue = viewer.pixel(BESIDE_XY)
    assert abs(green - red) < 70 and abs(green - blue) < 70
    assert viewer.tinted() == pytest.approx(80 * 80, rel=0.08)
    assert viewer.text("#source") == "rtsp://***@tower-1/live"
    viewer.until(lambda: viewer.text("#engine") == "fake on fake", "the engine is told")
    assert viewer.text("#notice") == "Research use only. Not a medical device."
    viewer.until(lambda: re.fullmatch(r"\d+", viewer.text("#age")) and int(viewer.text("#age")) < 1000, "the age is told")
    viewer.until(lambda: float(viewer.text("#share").replace(NOTHING, "0")) == pytest.approx(8.3, abs=0.6), "the area is told")
    viewer.until(lambda: float(viewer.text("#fps").replace(NOTHING, "0")) > 0, "the rate is told")
    assert viewer.errors == []


def test_the_sliders_act(run: Site, opened: Opened) -> None:
    viewer = opened(run)
    viewer.sees_the_lesion()
    viewer.set("#opacity", 100)
    viewer.until(lambda: viewer.pixel(FAINT_XY)[0] < 30 and viewer.pixel(FAINT_XY)[1] > 180, "the tint covers")
    viewer.set("#opacity", 0)
    viewer.until(lambda: viewer.pixel(FAINT_XY)[1] < 60 and viewer.pixel(FAINT_XY)[0] > 150, "the tint is gone")
    viewer.set("#opacity", 35)
    slider = viewer.page.locator("#threshold")
    assert float(slider.get_attribute("min") or 0) == 0.5  # the run's own: what it has hidden cannot be called back
    assert "held back" in str(viewer.page.locator("label:has(#threshold)").get_attribute("title"))
    viewer.set("#threshold", 0.8)  # above 180 / 255, below 245 / 255
    viewer.until(lambda: viewer.pixel(FAINT_XY)[1] < 60, "the faint half is no longer marked")
    assert viewer.pixel(BRIGHT_XY)[1] > 80
    viewer.set("#threshold", 0.98)
    viewer.until(lambda: viewer.tinted() < 500, "nothing is marked")  # but for colours that bleed at the edge
    viewer.set("#threshold", 0.5)
    viewer.sees_the_lesion()


def test_an_event_appears_and_ends(run: Site, opened: Opened) -> None:
    viewer = opened(run)
    row = viewer.page.locator("#events li")
    viewer.until(lambda: row.count() == 1 and "open" in row.inner_text(), "the event appears")
    viewer.until(lambda: row.locator("img").evaluate("image => image.naturalWidth") == 160, "its picture is shown")
    text = row.inner_text()
    assert "bright red" in text and "confidence 83 %" in text and re.search(r"peak 8\.\d %", text) and re.search(r"\d\d:\d\d:\d\d", text)
    run.channels[0].lesion = False
    viewer.until(lambda: "ended" in row.inner_text(), "the event ends")
    viewer.until(lambda: viewer.tinted() == 0, "no mask without a lesion")


def test_two_viewers_and_a_third_that_takes_nothing(run: Site, opened: Opened) -> None:
    first = opened(run)
    first.sees_the_lesion()
    with run.watch(max_queue=1) as greedy:
        for _ in range(200):
            greedy.send("picture")
        second = opened(run)
        second.sees_the_lesion()
        second.set("#opacity", 100)
        second.until(lambda: second.pixel(FAINT_XY)[1] > 180, "the second's tint covers")
        assert first.pixel(FAINT_XY)[1] < 120  # everybody's own
        for viewer in (first, second):
            before = viewer.number()
            viewer.until(lambda viewer=viewer, before=before: viewer.number() != before, "the picture moves")  # type: ignore[misc]


def test_everything_comes_from_the_server_itself(run: Site, opened: Opened) -> None:
    viewer = opened(run)
    viewer.sees_the_lesion()
    viewer.until(lambda: any("/events/" in url for url in viewer.requests), "the event's picture is asked for")
    own = str(run.server.address)
    assert {urlsplit(url).netloc for url in viewer.requests if not url.startswith("blob:")} == {own}
    assert {urlsplit(url).scheme for url in viewer.requests} <= {"http", "ws", "blob"}
    assert viewer.errors == []


def test_a_lost_source_takes_picture_and_mask_away(run: Site, opened: Opened) -> None:
    viewer = opened(run)
    viewer.sees_the_lesion()
    run.channels[0].status = SourceStatus(False, 1, 0, "no answer from the camera")
    viewer.until(lambda: "NO SIGNAL" in viewer.no_signal() and "no answer from the camera" in viewer.no_signal(), "NO SIGNAL, and why")
    assert viewer.tinted() == 0 and viewer.pixel(BRIGHT_XY) == (0, 0, 0) and viewer.text("#state") == "NO SIGNAL"
    viewer.until(lambda: viewer.text("#age") == NOTHING and viewer.page.locator("#snapshot").is_disabled(), "no age, and nothing to save")
    run.channels[0].status = SourceStatus(True, 2)
    viewer.sees_the_lesion()
    assert viewer.no_signal() == ""


def test_a_run_that_hangs_takes_picture_and_mask_away(run: Site, opened: Opened) -> None:
    viewer = opened(run)
    viewer.sees_the_lesion()
    run.feeds.clear()
    started = time.monotonic()
    viewer.until(lambda: "NO SIGNAL" in viewer.no_signal() and viewer.tinted() == 0, "NO SIGNAL")
    assert time.monotonic() - started < 4


def test_a_server_that_is_gone_takes_picture_and_mask_away(opened: Opened) -> None:
    with Site().start() as site:
        viewer = opened(site)
        viewer.sees_the_lesion()
        port = site.server.address.port
        site.server.__exit__(None, None, None)
        started = time.monotonic()
        viewer.until(lambda: "NO SIGNAL" in viewer.no_signal() and viewer.tinted() == 0, "NO SIGNAL")
        assert time.monotonic() - started < 2
        assert "connection to the server is lost" in viewer.no_signal()
    with Site(port=port).start():
        viewer.sees_the_lesion()  # by itself, when there is a server again


def test_a_connection_that_says_nothing_takes_picture_and_mask_away(run: Site, opened: Opened) -> None:
    """The network swallows everything, and nobody tells the page."""
    viewer = opened(run)
    viewer.sees_the_lesion()
    viewer.page.evaluate("WebSocket.prototype.send = function () {}")
    started = time.monotonic()
    viewer.until(lambda: "nothing from the server" in viewer.no_signal() and viewer.tinted() == 0, "NO SIGNAL")
    assert time.monotonic() - started < 3


def test_a_paused_picture_cannot_be_mistaken_for_live(run: Site, opened: Opened) -> None:
    viewer = opened(run)
    viewer.sees_the_lesion()
    viewer.page.keyboard.press("Space")
    viewer.until(lambda: viewer.text("#state") == "PAUSED", "it is paused")
    frozen, frames = viewer.number(), run.frames
    viewer.until(lambda: run.frames > frames + 30, "the run goes on")
    assert viewer.number() == frozen and viewer.tinted() > 3000
    viewer.until(lambda: re.fullmatch(r"PAUSED \d\d:\d\d:\d\d, [1-9]\d* s ago", viewer.text(".stage .banner")), "how old it is")
    assert "not live" in viewer.text(".stage .reading")
    viewer.set("#opacity", 100)
    viewer.until(lambda: viewer.pixel(FAINT_XY)[1] > 180, "the sliders act on it")
    viewer.page.locator("#pause").click()
    viewer.until(lambda: viewer.text("#state") == "LIVE" and viewer.number() != frozen, "it is live again")
    assert not viewer.page.locator(".stage .banner").is_visible()


def test_a_snapshot_is_what_is_shown(run: Site, opened: Opened, tmp_path: Path) -> None:
    viewer = opened(run)
    viewer.sees_the_lesion()
    with viewer.page.expect_download() as downloading:
        viewer.page.locator("#snapshot").click()
    name = downloading.value.suggested_filename
    assert re.fullmatch(r"qtseg-edge-rtsp-tower-1-live-\d{8}-\d{6}\.png", name), name
    downloading.value.save_as(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    picture = cv2.imread(str(tmp_path / name))
    assert picture is not None and picture.shape[1] == 320 and picture.shape[0] > 260
    blue, green, red = (int(level) for level in picture[BRIGHT_XY[1], BRIGHT_XY[0]])
    assert green > 60 and red > 120 and blue < 120
    below = picture[245:].astype(int)
    assert (below.max(axis=2) > 150).sum() > 100  # when, what, and that it is for research only


def test_full_screen_by_key(run: Site, opened: Opened) -> None:
    viewer = opened(run)
    viewer.sees_the_lesion()
    viewer.page.keyboard.press("f")
    viewer.until(lambda: viewer.page.evaluate("!!document.fullscreenElement"), "full screen")
    assert viewer.page.locator(".stage .use").is_visible()
    viewer.page.keyboard.press("f")
    viewer.until(lambda: viewer.page.evaluate("!document.fullscreenElement"), "and back")


def test_the_token_is_asked_for_and_a_wrong_one_refused(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    use_token(monkeypatch)
    with Site().start() as site:
        viewer = opened(site)
        page = viewer.page
        assert urlsplit(page.url).path == "/login"
        page.get_by_label("Token").fill("the wrong one, and long enough")
        with page.expect_response(lambda answer: answer.url.endswith("/login")) as answered:
            page.get_by_role("button").click()
        assert answered.value.status == 401
        viewer.until(lambda: "That is not the token" in page.locator("body").inner_text(), "it is refused")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        viewer.sees_the_lesion()
        assert page.evaluate("document.cookie") == ""
        (cookie,) = page.context.cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and TOKEN not in cookie["value"]
        assert not [url for url in viewer.requests if TOKEN in url]
        assert viewer.errors == []


def test_every_stream_has_a_picture_and_the_selected_one_its_figures(opened: Opened) -> None:
    with Site(streams=3) as site:
        site.channels[1].lesion = False
        site.start()
        viewer = opened(site)
        viewer.sees_the_lesion()
        stages = viewer.page.locator(".stage")
        assert stages.count() == 3
        viewer.until(lambda: all(stages.nth(number).get_attribute("data-state") == "live" for number in range(3)), "all are live")
        site.channels[2].status = SourceStatus(False, 0, 0, "tower 3 is off")
        viewer.until(lambda: "tower 3 is off" in stages.nth(2).locator(".card").inner_text(), "the third says why")
        assert viewer.text("#state") == "LIVE"
        stages.nth(2).click()
        viewer.until(lambda: viewer.text("#state") == "NO SIGNAL" and viewer.text("#source").endswith("tower-3/live"), "its state is shown")
        stages.nth(1).click()
        viewer.until(lambda: viewer.text("#share") == "0.0", "its figures are shown")
        viewer.until(lambda: viewer.page.locator("#events li", has_text="tower-1/live").count() == 1, "an event says where it is")


def test_it_fits_a_phone(run: Site, browser: Browser) -> None:
    with browser.new_context(viewport={"width": 390, "height": 844}, device_scale_factor=2, is_mobile=True, has_touch=True) as context:
        viewer = Viewer(context.new_page(), run)
        viewer.sees_the_lesion()
        assert viewer.page.evaluate("document.documentElement.scrollWidth") <= 390
        box = viewer.page.locator("#pause").bounding_box()
        assert box is not None and box["height"] >= 44
        viewer.page.locator("#pause").tap()
        viewer.until(lambda: viewer.text("#state") == "PAUSED", "it is paused")


def test_what_can_be_used_has_a_name(run: Site, opened: Opened) -> None:
    viewer = opened(run)
    viewer.sees_the_lesion()
    for role, name in (("button", "Pause"), ("button", "Snapshot"), ("button", "Full screen"), ("slider", "Tint"), ("slider", "Threshold")):
        assert viewer.page.get_by_role(role, name=re.compile(name)).count() == 1  # type: ignore[arg-type]
    assert viewer.page.get_by_role("img", name="Live picture of rtsp://***@tower-1/live").count() == 1
