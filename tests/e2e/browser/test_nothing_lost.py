"""What a visitor has said, pasted and read stays theirs, and the page says why something cannot be done."""

import json
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.e2e.browser.rig import KEY, Rig, end, failing, piece, saying
from tests.e2e.browser.visit import OpenPage, Visit, visit
from tests.e2e.harness import wait_for
from tests.fakes import Connection

AT_END = "scrollY + innerHeight > document.documentElement.scrollHeight - 8"


@pytest.mark.parametrize("how", ["wheel", "ArrowUp"])
def test_whoever_scrolls_up_however_little_is_left_there_and_is_taken_along_again_from_the_end(
    open_page: OpenPage, rig: Rig, how: str
):
    may = threading.Semaphore(0)

    def grows(connection: Connection, _question: dict[str, Any]) -> None:
        connection.start_chunked()
        connection.chunk(piece("A line.\n\n" * 60))
        for _ in range(4):
            may.acquire(timeout=60)
            connection.chunk(piece("Another line.\n\n" * 10))
        end(connection)

    def height() -> int:
        return visitor.page.evaluate("document.documentElement.scrollHeight")

    def grow() -> None:
        before = height()
        may.release()
        wait_for(lambda: height() > before, "more lines")

    rig.house.chats["long"] = grows
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("long")
    wait_for(lambda: height() > 2000 and visitor.page.evaluate(AT_END), "the end of the page")
    visitor.page.evaluate("document.activeElement.blur()")
    visitor.page.mouse.wheel(0, -30) if how == "wheel" else visitor.page.keyboard.press(how)
    wait_for(lambda: not visitor.page.evaluate(AT_END), "a place above the end")
    place = visitor.page.evaluate("scrollY")
    for _ in range(3):
        grow()
    assert visitor.page.evaluate("scrollY") <= place, "nobody was pulled to the end"
    visitor.page.keyboard.press("End")
    wait_for(lambda: visitor.page.evaluate(AT_END), "the end of the page")
    grow()
    wait_for(lambda: visitor.page.evaluate(AT_END), "the end of the longer page")
    visitor.wait()


def test_another_key_finds_the_chat_as_it_was(open_page: OpenPage, rig: Rig):
    rig.house.chats["text"] = saying("Hello ", "there")
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("text", "First")
    visitor.wait()
    refused = {"error": {"message": "No.", "type": "authentication_error", "code": "invalid_api_key", "param": None}}
    visitor.page.route("**/chat/completions", lambda route: route.fulfill(status=401, json=refused))
    visitor.ask("text", "Second")
    visitor.trouble.get_by_role("button", name="Enter another key").click()
    expect(visitor.page.locator("#key")).to_be_focused()
    visitor.page.unroute("**/chat/completions")
    visitor.connect()
    expect(visitor.page.locator(".asked p")).to_have_text(["First", "Second"])
    expect(visitor.page.locator("#model")).to_have_value("text")
    visitor.ask("text", "Third")
    visitor.wait()
    told = [each["content"] for each in rig.house.questions[-1]["messages"]]
    assert told == ["First", "Hello there", "Third"]
    visitor.page.click("#forget")
    visitor.connect()
    expect(visitor.page.locator(".asked")).to_have_count(0)


def test_chats_go_on_beside_each_other_and_each_is_found_again(open_page: OpenPage, rig: Rig):
    may = threading.Semaphore(0)

    def slow(connection: Connection, _question: dict[str, Any]) -> None:
        connection.start_chunked()
        connection.chunk(piece("Hello "))
        may.acquire(timeout=60)
        connection.chunk(piece("there"))
        end(connection)

    rig.house.chats |= {"gate": slow, "text": saying("Quick")}
    visitor = visit(open_page, rig)
    visitor.connect()
    chats, listed = visitor.page.locator("#chats"), visitor.page.locator("#chat-list button")
    expect(chats).to_be_hidden()
    visitor.ask("gate", "First")
    expect(visitor.text).to_have_text("Hello")
    visitor.page.fill("#question", "A draft")
    visitor.page.click("#new-chat")
    visitor.page.click("#new-chat")
    expect(visitor.page.locator("#question")).to_have_value("")
    visitor.ask("text", "Another")
    expect(visitor.page.locator("#send")).to_be_visible()
    chats.click()
    expect(listed).to_have_text(["Another", "First · is being answered"])
    expect(listed.first).to_have_attribute("aria-current", "true")
    may.release()
    expect(listed.last).to_have_text("First")
    listed.last.click()
    expect(visitor.page.locator(".asked p:visible")).to_have_text(["First"])
    expect(visitor.page.locator(".answer .text:visible")).to_have_text("Hello there")
    expect(visitor.page.locator("#question")).to_have_value("A draft")
    visitor.ask("text", "Second")
    expect(visitor.page.locator(".answer .text:visible").last).to_have_text("Quick")
    assert [each["content"] for each in rig.house.questions[-1]["messages"]] == ["First", "Hello there", "Second"]
    visitor.page.fill("#system", "Be short.")
    visitor.page.click("#forget")
    visitor.connect()
    expect(visitor.page.locator(".asked, #chat-list li")).to_have_count(0)
    expect(visitor.page.locator("#system")).to_have_value("")
    expect(chats).to_be_hidden()


def fulfilled(visitor: Visit, **answer: Any) -> None:
    visitor.page.route("**/v1/models", lambda route: route.fulfill(**answer))


NOT_THE_PROXY = "What answers here is not the proxy"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"body": "<html>Welcome</html>", "content_type": "text/html"}, NOT_THE_PROXY),
    ({"json": {}}, NOT_THE_PROXY),
    ({"json": {"data": "gpt"}}, NOT_THE_PROXY),
    ({"json": {"data": [None, {"id": 5}]}}, "This key may use no model"),
    ({"status": 500, "json": {"error": {"code": 500, "message": {}}}}, "The server failed"),
    ({"status": 404, "body": "null"}, "The request was refused"),
]


def test_who_cannot_connect_reads_why(open_page: OpenPage, rig: Rig):
    visitor = visit(open_page, rig)
    for answer, title in WRONG:
        fulfilled(visitor, **answer)
        visitor.page.fill("#key", KEY)
        visitor.page.press("#key", "Enter")
        expect(visitor.page.locator(".trouble .title")).to_have_text(title)
        expect(visitor.page.locator("#playground")).to_be_hidden()
        visitor.page.unroute("**/v1/models")
        visitor.page.get_by_role("button", name="Try again").click()
        expect(visitor.page.locator("#question")).to_be_focused()
        visitor.page.click("#forget")


def test_a_throttle_at_the_door_waits_until_a_date_and_then_goes_on(open_page: OpenPage, rig: Rig):
    def throttled(route: Route) -> None:
        until = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
        error = {"message": "Slow down.", "type": "requests", "code": "rate_limit_exceeded", "param": None}
        route.fulfill(status=429, headers={"retry-after": until}, json={"error": error})

    visitor = visit(open_page, rig)
    visitor.page.clock.install()
    visitor.page.route("**/v1/models", throttled)
    visitor.page.fill("#key", KEY)
    visitor.page.press("#key", "Enter")
    again = visitor.page.get_by_role("button", name="Try again")
    expect(again).to_be_disabled()
    expect(visitor.page.locator(".trouble .wait")).to_contain_text("possible in 1 min")
    visitor.page.unroute("**/v1/models")
    visitor.page.clock.fast_forward(100_000)
    again.click()
    expect(visitor.page.locator("#question")).to_be_focused()


def test_a_button_is_where_it_helps_and_a_long_message_is_folded(open_page: OpenPage, rig: Rig):
    rig.house.chats |= {
        "broken": failing("500 Internal Server Error", "broken", "Why it failed. " * 100),
        "busy": failing("400 Bad Request", "context_length_exceeded"),
        "empty": failing("404 Not Found", "model_not_found"),
    }
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("broken")
    expect(visitor.trouble.get_by_role("button", name="Try again")).to_be_visible()
    folded = visitor.trouble.locator(".technical details span")
    expect(folded).to_be_hidden()
    visitor.trouble.locator("summary").click()
    expect(folded).to_contain_text("Why it failed. Why it failed.")
    visitor.ask("busy")
    expect(visitor.trouble.locator(".title")).to_contain_text("too long for this model")
    expect(visitor.answer.get_by_role("button", name="again")).to_have_count(0)
    visitor.ask("empty")
    expect(visitor.trouble.get_by_role("button", name="Ask again with what is chosen now")).to_be_visible()


AROUND = ("Bearer {}", "authorization: bearer {}", "“{}”", "'{}',", "\u200b{}\ufeff", "{} ", '"Bearer {}"')


def test_a_key_as_people_paste_it(open_page: OpenPage, rig: Rig):
    visitor = visit(open_page, rig)
    half = len(KEY) // 2
    for around in AROUND:
        visitor.connect(around.format(f"{KEY[:half]} {KEY[half:]}"))
        expect(visitor.page.locator("#playground")).to_be_visible()
        visitor.page.click("#forget")


def test_a_temperature_that_is_none_is_said_and_not_sent_and_the_terminal_gets_what_was_sent(
    open_page: OpenPage, rig: Rig
):
    rig.house.chats["text"] = saying("Hello")
    visitor = visit(open_page, rig, permissions=["clipboard-read", "clipboard-write"])
    visitor.connect()
    asked = len(rig.house.questions)
    visitor.page.fill("#temperature", "7")
    visitor.ask("text", 'It\'s "so"')
    expect(visitor.page.locator("#temperature-trouble")).to_be_visible()
    expect(visitor.page.locator("#question")).to_have_value('It\'s "so"')
    assert len(rig.house.questions) == asked
    visitor.page.fill("#temperature", "0.25")
    visitor.page.check("#no-cache")
    visitor.page.press("#question", "Enter")
    visitor.wait()
    visitor.answer.get_by_role("button", name="Copy as curl").click()
    expect(visitor.answer.get_by_role("button", name="Copied")).to_be_visible()
    copied: str = visitor.page.evaluate("navigator.clipboard.readText()")
    head, _, data = copied.partition(" -d ")
    assert json.loads(data.strip("'").replace("'\\''", "'")) == rig.house.questions[-1]
    assert "-H 'cache-control: no-cache'" in head
    assert 'Bearer $OPENAI_API_KEY"' in head
    assert KEY not in copied
