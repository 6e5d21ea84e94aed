"""Local pages in headless Chromium: `open_page` opens one; if it errs or asks for anything else, the test fails.

Chromium is the system's. Where there is none, one line says so and no test runs; if REFRM_REQUIRE_BROWSER=1, that is a
failure.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


def watch_page(page: Page, own: str) -> list[str]:
    """Return a list that fills with what a page must not do: errors, warnings, and requests but for ``own``."""
    trouble: list[str] = []
    page.on("console", lambda m: trouble.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: trouble.append(f"exception: {error}"))
    page.on("request", lambda r: trouble.append(f"request: {r.url}") if r.url.partition("#")[0] != own else None)
    return trouble


def chromium() -> str | None:
    """Return the path of the system's Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def pytest_sessionstart() -> None:
    """End the session where there is no browser."""
    if chromium() is None:
        required = os.environ.get("REFRM_REQUIRE_BROWSER") == "1"
        pytest.exit(f"no browser, no test: none of {', '.join(NAMES)} is installed", returncode=int(required))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, one for all tests."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A function (path, fragment="", **settings of the context: viewport, color_scheme, reduced_motion) -> Page."""
    contexts, troubles = [], []

    def open_(path: Path, fragment: str = "", **settings: Any) -> Page:
        context = browser.new_context(**settings)
        context.set_default_timeout(10_000)
        page = context.new_page()
        contexts.append(context)
        troubles.append(watch_page(page, path.as_uri()))
        page.goto(path.as_uri() + fragment)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not any(troubles), troubles


@pytest.fixture
def watch() -> Callable[[Page, str], list[str]]:
    """The function that `open_page` watches pages with."""
    return watch_page


@pytest.fixture
def sideways() -> Callable[[Page], int]:
    """A function: by how many pixels a page is wider than its window."""
    return lambda page: page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
