"""What a user may type for a source, and how it is shown: without its credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from qtseg_edge.errors import UsageError

Kind = Literal["files", "network", "camera", "csi", "gst", "testsrc"]
NETWORK_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https")
_LOCAL_SCHEMES = frozenset({"file", "v4l2", "csi", "gst", "testsrc", "null", "display"})
_NEARLY = Fraction(1, 200)
_OPTIONS = "?size=1920x1080&rate=30"
WANTED = "wanted 0, v4l2:///dev/video0, csi://0, gst://PIPELINE, rtsp(s)://, rtmp://, http(s)://, testsrc://640x480@30, file:// or a path"


@dataclass(frozen=True)
class CaptureMode:
    """What a camera is asked for; None: whatever it gives by itself. size_wh: in pixels. rate: frames per second. pixels: how a USB camera
    sends them, JPEG by JPEG or raw.
    """

    size_wh: tuple[int, int] | None = None
    rate: Fraction | None = None
    pixels: Literal["mjpeg", "yuyv"] | None = None


ANY_MODE = CaptureMode()


@dataclass(frozen=True)
class SourceUri:
    """value: a path or pattern (files), the whole address (network), an index or a device's path (camera), a number (csi), the pipeline
    (gst), or `WxH@FPS` (testsrc). name: what the user typed, fit to be shown. mode: of a camera.
    """

    kind: Kind
    value: str
    name: str
    mode: CaptureMode = ANY_MODE


def parse(text: str) -> SourceUri:
    """Raises UsageError where the scheme is unknown, or what follows it is not what it wants."""
    if not text.strip():
        raise UsageError(f"--source: is empty; {WANTED}")
    name = redacted(text)
    if re.fullmatch("[0-9]{1,3}", text) and not Path(text).exists():
        return SourceUri("camera", text, name)
    found = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", text, re.DOTALL)
    if not found:
        return SourceUri("files", text, name)
    scheme, rest = found[1].lower(), found[2]
    if scheme in NETWORK_SCHEMES:
        _require(re.match(r"[^/?#]", rest), name, f"a host, as in {scheme}://HOST/PATH")
        return SourceUri("network", f"{scheme}://{rest}", name)
    if scheme == "file":
        _require(rest, name, "a path, as in file://clip.mp4")
        return SourceUri("files", unquote(rest), name)
    if scheme == "v4l2":
        device, mode = _with_mode(rest, name, ("size", "rate", "format"))
        _require(device.startswith("/"), name, "a device, as in v4l2:///dev/video0")
        return SourceUri("camera", device, name, mode)
    if scheme == "csi":
        number, mode = _with_mode(rest, name, ("size", "rate"))
        _require(re.fullmatch("[0-9]{1,3}", number), name, "the camera's number, as in csi://0")
        return SourceUri("csi", number, name, mode)
    if scheme == "gst":
        _require(rest.strip(), name, "a pipeline, as in 'gst://v4l2src device=/dev/video0 ! videoconvert'")
        return SourceUri("gst", rest.strip(), name)
    if scheme == "testsrc":
        return SourceUri("testsrc", rest, name)
    raise UsageError(f"{name}: unknown kind of source {scheme}://; {WANTED}")


def _with_mode(rest: str, name: str, keys: tuple[str, ...]) -> tuple[str, CaptureMode]:
    """What stands before the question mark, and what a camera is asked for behind it, each key once at most."""
    value, marked, query = rest.partition("?")
    given: dict[str, str] = {}
    for part in query.split("&") if marked else []:
        key, _, text = part.partition("=")
        _require(key in keys and key not in given, name, f"{', '.join(keys)} behind the ?, each once, as in {_OPTIONS}")
        given[key] = text
    return value, CaptureMode(_size(given.get("size"), name), _rate(given.get("rate"), name), _pixels(given.get("format"), name))


def _size(text: str | None, name: str) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch("([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    _require(found, name, "a size of WIDTHxHEIGHT, as in size=1920x1080")
    return (int(found[1]), int(found[2])) if found else None


def _rate(text: str | None, name: str) -> Fraction | None:
    if text is None:
        return None
    found = re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", text)
    rate = Fraction(text) if found else Fraction(0)
    _require(rate > 0, name, "frames per second, as in rate=30 or rate=29.97")
    television = Fraction(round(rate * Fraction(1001, 1000)) * 1000, 1001)  # 29.97 is 30000/1001
    return television if rate.denominator > 1 and abs(television - rate) < _NEARLY else rate


def _pixels(text: str | None, name: str) -> Literal["mjpeg", "yuyv"] | None:
    _require(text in (None, "mjpeg", "yuyv"), name, "format=mjpeg or format=yuyv")
    return text  # type: ignore[return-value]


def _require(found: object, name: str, wanted: str) -> None:
    if not found:
        raise UsageError(f"{name}: wanted {wanted}")


# On the safe side: nobody misses the middle of an odd address, but a password in a log cannot be taken back. So what stands before the
# last @ is hidden even where the grammar of addresses would call it a path, if a colon makes it look like `user:password`.
_SCHEME = r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30})"
_ADDRESSES = (
    # The text is one address, with a password that may hold anything. Not across another address.
    re.compile(rf"\A\s*{_SCHEME}:/+(?!/|\*\*\*@)(?P<user>(?:(?!://).)*)@", re.DOTALL),
    # In quotes: up to the one that closes it.
    re.compile(rf"""(?<=(?P<quote>["'])){_SCHEME}:/+(?!/|\*\*\*@)(?P<user>(?:(?!(?P=quote)).)*)@""", re.DOTALL),
    # Amid other words.
    re.compile(rf"{_SCHEME}:/+(?!/|\*\*\*@)(?P<user>\S*)@"),
)
_ENCODED_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}%3A%2F%2F)[^\s&]*%40", re.IGNORECASE)
_NO_SCHEME = re.compile(r"(?<!\S)[^\s:/@=]+:[^\s@/][^\s@]*@(?=[\w\[])")
_ASSIGNED = re.compile(r"(?<![\w%.-])(?P<name>[\w%.-]+)\s*=\s*")
_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|auth|credential|signature|(^|[^a-z])(pw|psw|sig|key)($|[^a-z])|(api|access|private|stream)key", re.IGNORECASE
)
_VALUE = re.compile(
    r"""(?:(?:Basic|Bearer|Digest)\s+)?(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^&\s]*?(?=["')\]}>,;]*(?:[&\s]|\Z)))""", re.IGNORECASE
)


def redacted(text: str) -> str:
    """`text` with `user:password@` of every address as `***@`, and with `***` for what is assigned to names such as token or user-pw.

    For whole addresses, pipelines, and messages that repeat them. Never fails; a text without credentials comes back as it is.
    """
    for pattern in _ADDRESSES:
        text = pattern.sub(_without_user, text)
    text = _NO_SCHEME.sub("***@", _ENCODED_ADDRESS.sub(r"\1***%40", text))
    parts, end = [], 0
    for assigned in _ASSIGNED.finditer(text):
        if assigned.end() < end or not _SECRET_NAME.search(unquote(assigned["name"])):
            continue
        value = _VALUE.match(text, assigned.end())
        if value and value[0]:
            parts += [text[end : assigned.end()], "***"]
            end = value.end()
    return "".join([*parts, text[end:]])


def _without_user(found: re.Match[str]) -> str:
    user = found["user"]
    if found["scheme"].lower() in _LOCAL_SCHEMES or (":" not in user and re.search(r"[/?#\s]", user)):
        return found[0]
    return f"{found[0][: found.start('user') - found.start()]}***@"
