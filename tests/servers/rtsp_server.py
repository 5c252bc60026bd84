"""A camera: H.264 over RTSP at /live, whose pictures carry the time at which they were made (see `clock_picture.age_of`).

Run by Debian's Python, which has GStreamer: `rtsp_server.py PORT [USER PASSWORD]`. Prints the port it listens on; 0 lets the system
choose. `basic` or `digest` as a fourth argument sets how the password is asked for.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from clock_picture import HEIGHT, RATE, WIDTH, clock_picture  # noqa: E402
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

LAUNCH = (
    f"( appsrc name=source is-live=true format=time do-timestamp=true caps=video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},"
    f"framerate={RATE}/1 ! videoconvert ! video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 "
    "bitrate=400 ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def feed(_factory: object, media: GstRtspServer.RTSPMedia) -> None:
    source = media.get_element().get_by_name("source")

    def push() -> bool:
        return source.emit("push-buffer", Gst.Buffer.new_wrapped(clock_picture().tobytes())) == Gst.FlowReturn.OK

    GLib.timeout_add(1000 // RATE, push)


def protect(server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, user: str, password: str, method: str) -> None:
    permissions = GstRtspServer.RTSPPermissions()
    for what in ("access", "construct"):
        permissions.add_permission_for_role("user", f"media.factory.{what}", True)
    factory.set_permissions(permissions)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth = GstRtspServer.RTSPAuth()
    if method == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)


def main(port: str, user: str = "", password: str = "", method: str = "basic") -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_shared(True)
    factory.set_latency(0)
    factory.set_launch(LAUNCH)
    factory.connect("media-configure", feed)
    if user:
        protect(server, factory, user, password, method)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


main(*sys.argv[1:])
