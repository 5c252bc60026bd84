#!/usr/bin/env python3
"""Makes deploy/secrets: what the containers must know and nobody else. python3 deploy/make_secrets.py HOST

HOST: the name or address that viewers type, for the certificate. What is there already is kept, so another certificate or another
camera's address is put in by replacing a file. Nothing but Python's own library and `openssl`.

The folder is for its owner alone (0700); the files in it are readable (0444), because Compose hands them to users of other numbers.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "secrets"
DAYS = "825"  # the longest that browsers take
NAME = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"


def written(name: str, text: str) -> str:
    """What the file holds: `text` where there was none."""
    path = FOLDER / name
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    return path.read_text(encoding="utf-8").strip()


def certificate(host: str) -> None:
    """Signed by itself: browsers warn. A hospital's own takes its place as tls_certificate and tls_key."""
    paths = FOLDER / "tls_certificate", FOLDER / "tls_key"
    there = [path for path in paths if path.exists()]
    if len(there) == 1:
        sys.exit(f"make_secrets.py: {there[0]}: is there without its other half; put that there too, or move it away")
    if there:
        return
    name = f"IP:{host}" if is_address(host) else f"DNS:{host}"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", DAYS]
    command += ["-subj", "/CN=qtseg-edge", "-addext", f"subjectAltName={name}", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    for path in paths:
        path.chmod(0o444)


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def hashed(password: str) -> str:
    """As MediaMTX wants it (mediamtx.org, "Authentication", hashed credentials)."""
    return "sha256:" + base64.b64encode(hashlib.sha256(password.encode()).digest()).decode()


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not (is_address(arguments[0]) or re.fullmatch(NAME, arguments[0])):
        print("make_secrets.py: wanted the name or address that viewers type: python3 make_secrets.py theatre-3.example", file=sys.stderr)
        return 2
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    FOLDER.chmod(0o700)
    certificate(arguments[0])
    written("web_token", secrets.token_urlsafe(32))
    written("source", "# One address of a network camera, for sources/rtsp.yaml: rtsp://user:password@10.0.0.7/endoscope")
    publisher = written("media_output", f"rtsp://edge:{secrets.token_hex(16)}@media:8554/endoscope").rpartition("@")[0].rpartition(":")[2]
    viewer = written("media_viewer", secrets.token_hex(16))
    template = (HERE / "media" / "mediamtx.yml").read_text(encoding="utf-8")
    config = FOLDER / "media_config"
    config.unlink(missing_ok=True)  # made of the template and the two passwords, so it is made anew
    written("media_config", template.replace("@PUBLISHER@", hashed(publisher)).replace("@VIEWER@", hashed(viewer)).strip())
    print(f"{FOLDER}: web_token is what the page asks for, media_viewer the password of the user `viewer` of RTSPS and WebRTC")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FileNotFoundError as error:
        sys.exit(f"make_secrets.py: {error.filename}: not found; it wants openssl (apt install openssl)")
    except subprocess.CalledProcessError as error:
        sys.exit(f"make_secrets.py: openssl: {error.stderr.decode().strip().splitlines()[-1]}")
