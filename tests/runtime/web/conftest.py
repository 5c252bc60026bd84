from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("uvicorn", reason="the web server is not installed; get it with: pip install 'qtseg-edge[web]'")

from qtseg_edge.runtime.web.address import PROXIES_VARIABLE, TOKEN_FILE_VARIABLE
from tests.runtime.web.site import Site, use_token

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user has set."""
    use_token(monkeypatch, None)
    monkeypatch.delenv(TOKEN_FILE_VARIABLE, raising=False)
    monkeypatch.delenv(PROXIES_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def still() -> Iterator[Site]:
    """One stream, without a token, that gets no frames; for tests that change nothing."""
    with pytest.MonkeyPatch.context() as patch:
        use_token(patch, None)
        site = Site()
    with site:
        yield site


@pytest.fixture
def site() -> Iterator[Site]:
    """One stream, without a token, that gets no frames yet."""
    with Site() as site:
        yield site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a screen."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed; get it with: pip install playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"no {CHROMIUM}; get it with: apt install chromium")
    # Nothing of its own on the network, so that every request is the page's.
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=[*arguments, "--autoplay-policy=no-user-gesture-required"]
        )
        yield browser
        browser.close()
