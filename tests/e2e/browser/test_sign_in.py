"""The playground of the local stack in a real browser: people sign in, answers outlive reloads; and its example."""

import contextlib
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.browser.visit import Visit
from tests.e2e.harness import ROOT, Client, LocalStack, wait_for
from tests.e2e.packages import installed

OpenPage = Callable[..., Page]
NOTED = """(selector) => {
    const noted = [], element = document.querySelector(selector);
    new MutationObserver(() => noted.push(element.textContent)).observe(element, {childList: true});
    return noted;
}"""
"""Each text that the element has from now on."""
SAYS = "This is the demo server, not a model: it repeats what you send. Hello"


class _Files(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012
        ".mjs": "text/javascript",
        ".js": "text/javascript",
        ".html": "text/html",
        "": "application/octet-stream",
    }

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The example's folder, with its packages, as a web site of another origin than the proxy and the issuer."""
    folder = installed(ROOT / "examples/oidc", "examples/oidc")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def issuer_of(stack: LocalStack) -> str:
    return f"http://127.0.0.1:{stack.ports['ISSUER_PORT']}"


def test_a_page_signs_its_user_in_and_streams_with_the_users_token(open_page: OpenPage, site: str, stack: LocalStack):
    page = open_page("about:blank")
    config = {"issuer": issuer_of(stack), "clientId": "playground", "baseURL": stack.base_url, "model": "demo"}
    script = "\n".join(f"export const {name} = {value!r};" for name, value in config.items())

    def configured(route: Route) -> None:
        route.fulfill(body=script, content_type="text/javascript")

    page.route("**/config.mjs", configured)
    page.goto(site)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Sign in as Ada").click()
    expect(page.locator("#who")).to_have_text("Signed in as Ada.")
    assert page.url == site, "neither code nor state stay in the address"

    page.get_by_label("Question").fill("Hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#answer")).to_have_text(SAYS)
    expect(page.locator("#budget")).to_have_text(re.compile(r"Your budget: 0\.(5|49\d+) USD are left\."))
    assert page.locator("#answer").evaluate("element => element.childNodes.length") > 10
    kept = page.evaluate(
        "JSON.stringify([document.cookie, Object.entries(localStorage), Object.entries(sessionStorage)])"
    )
    assert "eyJ" not in kept

    page.reload()
    expect(page.locator("#who")).to_have_text("Nobody is signed in.")


def test_the_playground_of_the_local_stack_signs_in_with_one_click(open_page: OpenPage, stack: LocalStack):
    page = open_page(stack.url)
    page.get_by_role("button", name="Sign in as Grace (pro)").click()
    expect(page.locator("#question")).to_be_focused()
    page.select_option("#server", "demo")
    shown = page.evaluate_handle(NOTED, "#allowance")  # what is shown now may be of the next minute
    page.fill("#question", "Hello")
    page.press("#question", "Enter")
    expect(page.locator(".answer .text").last).to_have_text(SAYS)
    left = r"^Left: \$\d\.\d\d · 5\d\d of 600 requests this minute$"
    page.wait_for_function("([shown, left]) => shown.some((text) => RegExp(left).test(text))", arg=[shown, left])


def test_an_answer_outlives_a_reload_and_a_network_that_is_gone(open_page: OpenPage, stack: LocalStack, client: Client):
    words = "one two three four five six seven eight nine ten"
    page = open_page(stack.url)
    visitor = Visit(page)
    visitor.connect(client.key)
    visitor.ask("demo", "Before", server="demo")
    expect(visitor.text).to_have_text(SAYS.replace("Hello", "Before"))
    visitor.wait()
    visitor.ask("demo-slow", words, server="demo")
    expect(visitor.text).to_contain_text("This is")
    page.reload()
    assert client.key not in page.evaluate("JSON.stringify(Object.entries(sessionStorage))")

    visitor.connect(client.key)
    expect(visitor.text).to_contain_text("This is the demo")
    page.context.set_offline(True)
    expect(visitor.answer.locator(".waiting")).to_contain_text("No connection.")
    page.context.set_offline(False)

    expect(visitor.text).to_have_text(SAYS.replace("Hello", words))
    visitor.wait()
    assert page.locator(".asked p").all_inner_texts() == ["Before", words]
    assert page.locator(".answer .text").all_inner_texts() == [
        SAYS.replace("Hello", each) for each in ("Before", words)
    ]
    assert "asked" not in page.evaluate("Object.keys(sessionStorage)")
    assert "Before" not in page.evaluate("JSON.stringify(Object.entries(sessionStorage))")
    entries = wait_for(
        lambda: found if len(found := [each for each in client.entries() if each.get("stream")]) == 2 else [],
        "the entries of both answers",
    )
    assert {entry["outcome"] for entry in entries} == {"completed"}


class Network:
    """Passes the bytes of TCP connections on. It resets those that carry a stream, at random places, `cuts` times."""

    def __init__(self, port: int) -> None:
        self.cuts, self._is_first = 0, True
        self._port, self._random = port, random.Random(19)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/"

    def run(self) -> None:
        """Take connections until it is closed."""
        with self._server:
            while True:
                try:
                    near, _ = self._server.accept()
                except OSError:
                    return
                far = socket.create_connection(("127.0.0.1", self._port))
                for source, sink, is_answer in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._pass, args=(source, sink, is_answer), daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._server.shutdown(socket.SHUT_RDWR)

    def _pass(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        left = None
        try:
            while piece := source.recv(4096):
                if is_answer and self.cuts and left is None and b"text/event-stream" in piece:
                    # The first answer's head has the id: whoever does not get that can only ask anew.
                    left = self._random.randrange(1500) + (len(piece) if self._is_first else 0)
                    self._is_first = False
                sink.sendall(piece[:left])
                left = None if left is None else left - len(piece)
                if left is not None and left <= 0:
                    self.cuts -= 1
                    time.sleep(0.05)  # a browser forgets what it has not read when a connection is reset
                    sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
        except OSError:
            pass  # the other direction has closed both
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def network(stack: LocalStack) -> Generator[Network]:
    """A network between a browser and the proxy."""
    between = Network(stack.ports["PORT"])
    thread = threading.Thread(target=between.run)
    thread.start()
    try:
        yield between
    finally:
        between.close()
        thread.join()


def test_an_answer_over_a_network_that_is_cut_twenty_times_is_whole_and_booked_once(
    open_page: OpenPage, stack: LocalStack, client: Client
):
    words = " ".join(f"{number}-äöü-🙂" for number in range(20))  # more bytes than pass before the last cut
    with network(stack) as between:
        page = open_page("about:blank")
        page.add_init_script("Math.random = () => 0")  # to come back it waits no longer than it has to
        page.goto(between.url)
        visitor = Visit(page)
        visitor.connect(client.key)
        between.cuts = 20
        visitor.ask("demo", words, server="demo")
        expect(visitor.text).to_have_text(SAYS.replace("Hello", words))
        visitor.wait()
        assert (between.cuts, visitor.trouble.count()) == (0, 0)
    asked = wait_for(lambda: [each for each in client.entries() if each.get("stream")], "the entry of the answer")
    assert [each["outcome"] for each in asked] == ["completed"]


def test_both_doors_take_a_token_and_refuse_a_forged_one(stack: LocalStack):
    form = {"grant_type": "password", "client_id": "playground", "username": "ada", "password": "ada"}
    token = httpx.post(f"{issuer_of(stack)}/token", data=form).json()["access_token"]
    head, claims, signature = token.split(".")
    for door in (stack.url, stack.environment["REST_API_URL"]):
        for sent, status in ((token, 200), (f"{head}.{claims}.{signature[::-1]}", 401), (f"{head}.{claims}.", 401)):
            asked = httpx.get(f"{door}demo/v1/models", headers={"authorization": f"Bearer {sent}"}, timeout=60)
            assert asked.status_code == status
            if status == 401:
                assert asked.json()["error"]["type"] == "authentication_error"
