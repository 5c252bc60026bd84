from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.sources.uri import NETWORK_SCHEMES, CaptureMode, parse, redacted

SECRET = "Zq9Kx7"  # in no other part of an address
ANY = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
PASSWORDS = st.tuples(ANY, ANY).map(SECRET.join).filter(lambda text: "://" not in text)
WORDS = PASSWORDS.filter(lambda text: not any(letter.isspace() or letter in "\"'" for letter in text))  # as they can stand amid others
USERS = st.from_regex(r"[\w.-]{0,8}", fullmatch=True)
HOSTS = st.sampled_from(["10.0.0.5", "camera.local:8554", "[::1]:554", "h"])
PATHS = st.sampled_from(["", "/", "/live", "/a/b.mp4?x=1", "/a@b"])
SCHEMES = st.sampled_from([*NETWORK_SCHEMES, "RTSP", "Http"])


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("0", "camera", "0"),
        ("v4l2:///dev/video2", "camera", "/dev/video2"),
        ("csi://1", "csi", "1"),
        ("gst://videotestsrc ! fakesink", "gst", "videotestsrc ! fakesink"),
        ("rtsp://h:8554/live", "network", "rtsp://h:8554/live"),
        ("RTSP://h/live", "network", "rtsp://h/live"),
        ("https://u:p@h/live.ts", "network", "https://u:p@h/live.ts"),
        ("testsrc://640x480@30", "testsrc", "640x480@30"),
        ("testsrc://", "testsrc", ""),
        ("file://a%20b.mp4", "files", "a b.mp4"),
        ("clips/*.mp4", "files", "clips/*.mp4"),
        ("12:30.mp4", "files", "12:30.mp4"),
        ("1234", "files", "1234"),
    ],
)
def test_what_a_user_types_is_understood(text: str, kind: str, value: str) -> None:
    uri = parse(text)
    assert (uri.kind, uri.value) == (kind, value)


@pytest.mark.parametrize(
    "text",
    ["", "  ", "rtsp://", "http:///x", "v4l2://video0", "csi://left", "csi://", "gst://", "gst:// ", "file://", "ftp://h/x.mp4", "x://y"],
)
def test_what_no_source_can_be_is_refused_with_what_is_wanted(text: str) -> None:
    with pytest.raises(UsageError, match="wanted"):
        parse(text)


def test_a_file_named_like_a_camera_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("7").mkdir()
    assert parse("7").kind == "files"


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        uri = parse(text)
    except UsageError:
        return
    assert uri.name == redacted(text)


@given(SCHEMES, USERS, PASSWORDS, HOSTS, PATHS)
def test_no_password_of_an_address_survives(scheme: str, user: str, password: str, host: str, path: str) -> None:
    address = f"{scheme}://{user}:{password}@{host}{path}"
    assert SECRET not in redacted(address)
    assert SECRET not in parse(address).name


@given(SCHEMES, USERS, WORDS, HOSTS, st.sampled_from(["{} did not answer", "cannot open '{}': timed out", 'no "{}"', "({})", "a {} b {}"]))
def test_no_password_survives_amid_other_words(scheme: str, user: str, password: str, host: str, words: str) -> None:
    address = f"{scheme}://{user}:{password}@{host}/live"
    shown = redacted(words.format(address, address))
    assert SECRET not in shown
    assert host in shown


@given(
    st.sampled_from(["token", "password", "user-pw", "api_key", "X-Auth", "pwd", "access_token"]),
    st.from_regex("[A-Za-z0-9]*", fullmatch=True),
)
def test_no_value_of_a_secret_name_survives(name: str, value: str) -> None:
    for text in (
        f"http://h/a.ts?x=1&{name}={SECRET}{value}&y=2",
        f'gst://rtspsrc location=rtsp://h/a {name}="{SECRET} {value}" ! decodebin',
    ):
        shown = redacted(text)
        assert SECRET not in shown
        assert "***" in shown and shown.endswith(("y=2", "! decodebin"))


@given(
    st.one_of(
        st.from_regex(r"[\w ./:,'()*-]{0,40}", fullmatch=True), st.tuples(SCHEMES, HOSTS, PATHS).map(lambda p: f"{p[0]}://{p[1]}{p[2]}")
    )
)
def test_a_text_without_credentials_comes_back_as_it_is(text: str) -> None:
    if ":" in text.partition("://")[2] and "@" in text:  # a port, then an @: hidden to be on the safe side
        return
    assert redacted(text) == text


@given(st.text())
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize("text", ["a" * 200_000, "rtsp://" * 20_000, "a:b@" * 30_000, "token=" * 30_000, "x://y:z@" * 20_000])
def test_redacting_takes_no_time_whatever_the_text(text: str) -> None:
    started = time.perf_counter()
    redacted(text[:5000])
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("text", "value", "mode"),
    [
        ("csi://0?size=1280x720&rate=60", "0", CaptureMode((1280, 720), Fraction(60))),
        ("v4l2:///dev/video1?rate=29.97", "/dev/video1", CaptureMode(rate=Fraction(30000, 1001))),
        ("v4l2:///dev/video1?format=yuyv&size=640x480", "/dev/video1", CaptureMode((640, 480), pixels="yuyv")),
        ("v4l2:///dev/video1", "/dev/video1", CaptureMode()),
    ],
)
def test_a_camera_may_be_asked_for_size_rate_and_form(text: str, value: str, mode: CaptureMode) -> None:
    uri = parse(text)
    assert (uri.value, uri.mode, uri.name) == (value, mode, text)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "size",
        "size=",
        "size=0x5",
        "size=640x480x3",
        "size=-1x5",
        "rate=0",
        "rate=1/0",
        "rate=nan",
        "rate=1e3",
        "rate=30&rate=30",
        "fps=3",
        "format=nv12",
        "size=640x480 ! filesink location=x",
        "rate=30,format=NV12",
    ],
)
def test_what_a_camera_cannot_be_asked_for_is_a_usage_error(query: str) -> None:
    with pytest.raises(UsageError, match="wanted"):
        parse(f"v4l2:///dev/video0?{query}")
    with pytest.raises(UsageError, match="wanted"):
        parse(f"csi://0?{query or 'format=mjpeg'}")
