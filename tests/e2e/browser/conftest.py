"""A real browser: Chromium, driven through its DevTools protocol. Without one these tests say so and are skipped.

Its one rule: a page that breaks its own policy, or throws, fails its test, whatever the test was about.
"""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Page, expect, sync_playwright

from tests.e2e.browser.chromium import find_chromium
from tests.e2e.browser.rig import House, Rig, running
from tests.e2e.packages import installed

HERE = Path(__file__).parent
PATIENCE = 60_000
"""Milliseconds until something that should appear is taken for missing."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium for one module: its driver has an event loop, which no other test should meet."""
    command = find_chromium()
    if command is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium-headless-shell, or name one in CHROMIUM")
    with sync_playwright() as driver:
        expect.set_options(PATIENCE)
        started = driver.chromium.launch(executable_path=command)
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages, each in a browser profile of its own; after the test none of them may have broken a rule."""
    broken: list[str] = []
    contexts: list[Any] = []

    def heard(message: ConsoleMessage) -> None:
        # A failed call is written to the console too; that is what some tests are about.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            broken.append(message.text)

    def threw(error: Error) -> None:
        broken.append(str(error))

    def opened(dialog: Dialog) -> None:
        broken.append(f"a dialog: {dialog.message}")

    def open_one(url: str, **options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", heard)
        page.on("pageerror", threw)
        page.on("dialog", opened)
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert broken == []


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The real proxy with its playground, and servers that do as they are told."""
    with running(tmp_path_factory.mktemp("rig"), House()) as started:
        yield started


@pytest.fixture(scope="session")
def packages() -> Path:
    """The packages of npm that browsers load here."""
    return installed(HERE / "npm", "browser") / "node_modules"


class _Quiet(SimpleHTTPRequestHandler):
    """Files of the pages' folder, and of the packages below `/npm/`."""

    packages: Path
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

    def translate_path(self, path: str) -> str:
        found = Path(super().translate_path(path))
        pages = Path(self.directory)
        if path.startswith("/npm/"):
            return str(self.packages / found.relative_to(pages / "npm"))
        return str(found)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def other_origin(packages: Path) -> Iterator[str]:
    """A web site that is not the proxy: the address under which `pages` and the packages are."""
    handler = type("Files", (_Quiet,), {"packages": packages})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(HERE / "pages"))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
