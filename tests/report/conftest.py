"""A browser, for the tests that look at pages as people do; they are slow, and skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium or Chrome without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("needs Chromium or Chrome")
    with api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        yield opened
        opened.close()
