"""A frontend on another origin than the proxy, in a real browser, with the OpenAI SDK and with fetch; the whole stack.

What appears is told by the order and number of changes of the page, never by a clock.
"""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Page, Request, expect

from tests.e2e.browser.visit import Visit
from tests.e2e.harness import Client, LocalStack

QUESTION = "Tell me about proxies, and why their answers come word by word"
READABLE = ("x-request-id", "x-inference-id", "x-served-by", "x-served-model", "x-attempts", "server-timing")

OpenPage = Callable[..., Page]


@pytest.fixture
def frontend(open_page: OpenPage, other_origin: str, stack: LocalStack, client: Client) -> Iterator["Frontend"]:
    """The frontend's page, with the key that its user was given."""
    page = open_page(f"{other_origin}/chat.html")
    page.wait_for_selector("#answer", state="attached")
    frontend = Frontend(page, stack.base_url, client.key)
    page.on("request", lambda request: frontend.asked.append(request))  # noqa: PLW0108  # the driver marks what it calls
    yield frontend
    frontend.check_that_the_key_is_nowhere()


class Frontend:
    """What a test does with the frontend, and what the browser asked for then."""

    def __init__(self, page: Page, base_url: str, key: str) -> None:
        self.page = page
        self.base_url = base_url
        self.key = key
        self.asked: list[Request] = []
        self.preflights = _preflights(page)

    def call(self, name: str, *arguments: Any, key: str | None = None) -> Any:
        """Call a function of `window.frontend` with base URL, key and `arguments`."""
        script = "async ([name, ...rest]) => await window.frontend[name](...rest)"
        return self.page.evaluate(script, [name, self.base_url, key or self.key, *arguments])

    def check_that_the_key_is_nowhere(self) -> None:
        """Neither the page, what it keeps, nor any address has the key."""
        kept = self.page.evaluate("""async () => JSON.stringify([
            document.documentElement.outerHTML, location.href, document.cookie, Object.entries(localStorage),
            Object.entries(sessionStorage), await indexedDB.databases(), history.state, window.name,
        ])""")
        assert self.key not in kept
        assert not [request.url for request in self.asked if self.key in request.url]


def _preflights(page: Page) -> list[str]:
    """The headers that pre-flight requests of a page announce. Only the DevTools protocol tells of them."""
    found: list[str] = []
    session = page.context.new_cdp_session(page)

    def heard(event: dict[str, Any]) -> None:
        if announced := event["headers"].get("Access-Control-Request-Headers"):
            found.append(announced)

    session.on("Network.requestWillBeSentExtraInfo", heard)
    session.send("Network.enable")  # pyright: ignore[reportUnknownMemberType]
    return found


def check_progress(seen: list[str], least: int) -> None:
    """The page has changed so often at least, and each time something was added to what stood there."""
    assert len(seen) >= least
    for before, after in pairwise(seen):
        assert after.startswith(before)
        assert len(after) > len(before)
    assert len(seen[0]) < len(seen[-1]) / 4, "the first words stood there long before the last"


@pytest.mark.parametrize("way", ["withFetch", "withSdk"])
def test_words_appear_as_they_come(frontend: Frontend, way: str):
    got = frontend.call(way, "demo", QUESTION)
    check_progress(got["seen"], least=15)
    assert got["seen"][-1].endswith("word by word")
    expect(frontend.page.locator("#answer")).to_have_text(got["seen"][-1])


def test_the_sdk_passes_its_pre_flight(frontend: Frontend):
    frontend.call("withSdk", "demo", "Hello")
    [request] = [each for each in frontend.asked if each.method == "POST"]
    sent = [name for name in request.all_headers() if name.startswith("x-stainless-")]
    assert len(sent) >= 5
    [announced] = frontend.preflights
    assert {"authorization", "content-type", *sent} <= set(announced.split(","))
    response = request.response()
    assert response is not None
    assert response.status == 200


def test_what_the_gateway_says_can_be_read(frontend: Frontend):
    headers = frontend.call("withSdk", "demo", "Hello")["headers"]
    assert set(READABLE) <= set(headers)
    assert (headers["x-served-by"], headers["x-served-model"], headers["x-attempts"]) == ("demo", "demo", "1")


@pytest.mark.parametrize("way", ["withFetch", "withSdk"])
def test_stop(frontend: Frontend, client: Client, way: str):
    got = frontend.call(way, "demo-slow", QUESTION, 5)
    assert 5 <= got["events"] < 12, "nothing more was read"
    assert "word by word" not in got["seen"][-1]
    if way == "withFetch":
        assert got["ended"] == "AbortError"
    [entry] = client.wait_for_entries(1)
    assert (entry["outcome"], entry.get("error_code")) in (("completed", None), ("failed", "client_gone"))
    assert entry["output_tokens"] > 5, "what the server made is counted"


@pytest.mark.parametrize(
    ("key", "model", "status", "code", "shown"),
    [
        ("opx-wrong", "demo", 401, "invalid_api_key", "[invalid_api_key]"),
        (None, "demo-error-500", 500, None, "[null]"),
        (None, "demo-error-429", 429, "rate_limit_exceeded", "[rate_limit_exceeded]"),
        (None, "demo-cut", None, "upstream_broken_off", "[upstream_broken_off]"),
    ],
)
def test_an_error_shows(
    frontend: Frontend, key: str | None, model: str, status: int | None, code: str | None, shown: str
):
    got = frontend.call("failure", model, key=key)
    assert (got.get("status"), got["code"]) == (status, code)
    assert got["shown"].endswith(shown)
    if status:
        assert got["requestID"]


def limit(client: Client, **limits: int) -> None:
    """Hold the client's key to limits."""
    for name, value in limits.items():
        client.stack.table("KEYS_TABLE").update_item(
            Key={"key_hash": client.key_hash},
            UpdateExpression="SET #name = :value",
            ExpressionAttributeNames={"#name": name},
            ExpressionAttributeValues={":value": value},
        )


def test_a_throttle_shows(frontend: Frontend, client: Client):
    limit(client, rpm=1)
    got = [frontend.call("failure", "demo") for _ in range(3)]
    refused = [each for each in got if each]
    assert refused, "at most two minutes are touched"
    assert (refused[0]["status"], refused[0]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused[0]["retryAfter"]) <= 60


def test_the_playground_of_the_stack(open_page: OpenPage, stack: LocalStack, client: Client):
    limit(client, rpm=1)
    visitor = Visit(open_page(stack.url))
    visitor.connect(client.key)
    visitor.ask("demo", QUESTION, server="demo")
    visitor.wait()
    expect(visitor.text).to_contain_text("word by word")
    expect(visitor.figure("Cost")).to_contain_text("$0.0", timeout=300_000)
    [entry] = [each for each in client.entries() if each["operation"] == "chat"]
    tokens = f"{entry['input_tokens']} in, {entry['output_tokens']} out"
    expect(visitor.figure("Tokens")).to_have_text(tokens)
    expect(visitor.figure("Attempts")).to_have_text("1")
    while visitor.trouble.count() == 0:
        visitor.ask("demo", "Again", server="demo")
        visitor.wait()
    expect(visitor.trouble.locator(".title")).to_have_text("That was too fast for your key")
    expect(visitor.trouble.locator(".wait")).to_contain_text("possible in")
    kept = visitor.page.evaluate("JSON.stringify([document.documentElement.outerHTML, Object.entries(localStorage)])")
    assert client.key not in kept


def test_the_page_says_what_it_may(stack: LocalStack, open_page: OpenPage):
    page = open_page("about:blank")
    response = page.goto(stack.url)
    assert response is not None
    assert "default-src 'none'" in response.headers["content-security-policy"]
    listed = json.dumps(response.headers)
    assert "access-control-allow-origin" not in listed
