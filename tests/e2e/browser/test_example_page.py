"""The example for browsers in a real one: its page on another origin than the proxy, and the whole stack."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.harness import ROOT, Client, LocalStack

BEGINNING = "This is the demo server"


class _Files(SimpleHTTPRequestHandler):
    extensions_map = {".mjs": "text/javascript", ".html": "text/html", "": "application/octet-stream"}  # noqa: RUF012

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The example's folder as a web site."""
    files = partial(_Files, directory=str(ROOT / "examples/browser"))
    with ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(open_page: Callable[..., Page], site: str, stack: LocalStack, client: Client) -> Page:
    """The page, with address and key filled in."""
    page = open_page(site)
    page.get_by_label("Base URL").fill(f"{stack.base_url}/")
    page.get_by_label("Client key").fill(client.key)
    return page


def ask(page: Page, model: str, question: str) -> None:
    page.get_by_label("Model").fill(model)
    page.get_by_label("Question").fill(question)
    page.get_by_role("button", name="Send").click()


def test_an_answer_comes_in_pieces_and_as_text(page: Page):
    ask(page, "demo", "<img src=x onerror=alert(1)>")

    expect(page.locator("#answer")).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    assert page.locator("#answer img").count() == 0
    assert page.locator("#answer").evaluate("element => element.childNodes.length") > 15


def test_stop_and_ask_again(page: Page):
    ask(page, "demo-slow", "word " * 400)
    expect(page.locator("#answer")).to_contain_text(BEGINNING)
    page.get_by_role("button", name="Stop").click()

    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    expect(page.locator("#problem")).to_be_empty()
    assert page.locator("#answer").text_content() != ""
    ask(page, "demo", "Hello")
    expect(page.locator("#answer")).to_have_text(f"{BEGINNING}, not a model: it repeats what you send. Hello")


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("demo-error-429", "The demo server answers 429, as ordered. Try again in 1 s."),
        ("demo-cut", "The server 'demo' broke off the connection."),
    ],
)
def test_what_went_wrong_is_shown(page: Page, model: str, problem: str):
    ask(page, model, "Hello")

    expect(page.get_by_role("alert")).to_have_text(problem)


def test_a_proxy_that_is_not_there(page: Page):
    page.get_by_label("Base URL").fill("http://127.0.0.1:9/v1")
    ask(page, "demo", "Hello")

    expect(page.get_by_role("alert")).to_contain_text("cannot be reached from this page")
