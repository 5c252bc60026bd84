from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn", reason="the web server is not installed; get it with: pip install 'qtseg-edge[web]'")

from tests.runtime.web.site import Site, use_token


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user has set."""
    use_token(monkeypatch, None)


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
