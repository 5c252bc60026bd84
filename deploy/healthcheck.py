#!/usr/bin/env python3
"""A container's health: 0 where the page says that it is ready, 1 with the reasons where not.

Ready is that every source's newest mask is fresher than 2 s. While the engine is built at first start there is no page yet: that is
what the start period is for. Nothing but Python's own library.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

URL = os.environ.get("QTSEG_EDGE_HEALTH_URL") or "http://127.0.0.1:8080/readyz"
SECONDS = 4.0
MOST_BYTES = 2000


def token() -> str | None:
    """As `qtseg-edge run` finds it. Raises OSError."""
    path = os.environ.get("QTSEG_EDGE_WEB_TOKEN_FILE")
    return Path(path).read_text(encoding="utf-8").strip() if path else os.environ.get("QTSEG_EDGE_WEB_TOKEN")


def main() -> int:
    try:
        known = token()
        request = urllib.request.Request(URL, headers={"Authorization": f"Bearer {known}"} if known else {})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=SECONDS) as answer:
            text, code = answer.read(MOST_BYTES), 0
    except urllib.error.HTTPError as error:
        with error:
            text, code = error.read(MOST_BYTES), 1
    except (OSError, ValueError) as error:
        text, code = str(error).encode(), 1
    print(text.decode(errors="replace").strip())
    return code


if __name__ == "__main__":
    sys.exit(main())
