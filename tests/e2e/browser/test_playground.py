"""The playground in a real browser: what its visitor sees of good, slow, broken and hostile servers."""

import json
import re
import threading
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Request, expect

from tests.e2e.browser.rig import KEY, Rig, end, piece, saying
from tests.e2e.browser.visit import OpenPage, visit
from tests.e2e.harness import wait_for
from tests.fakes import Connection

WAIT_SECONDS = 60.0


class Gate:
    """A model that says its words one by one, each when it is told to."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self._may = threading.Semaphore(0)
        self.over = threading.Event()

    def __call__(self, connection: Connection, _question: dict[str, Any]) -> None:
        connection.start_chunked()
        for word in self._words:
            if not self._may.acquire(timeout=WAIT_SECONDS):
                break
            connection.chunk(piece(word))
        end(connection)
        self.over.set()

    def say(self, words: int = 1) -> None:
        self._may.release(words)


def answering(status: str, error: dict[str, Any], more: str = "") -> Any:
    """A model that answers an error."""

    def chat(connection: Connection, _question: dict[str, Any]) -> None:
        connection.answer(json.dumps({"error": {"param": None, **error}}).encode(), status, more=more)

    return chat


SENT = "performance.getEntriesByType('resource').filter((each) => each.transferSize).map((each) => each.name)"
"""The files of the page that were sent, which are those that the browser did not have."""


def first_visit_requests(open_page: OpenPage, rig: Rig) -> list[Request]:
    visitor, asked = visit(open_page, rig), list[Request]()
    assert len(visitor.page.evaluate(SENT)) > 10
    visitor.page.on("request", lambda request: asked.append(request))  # noqa: PLW0108  # the driver marks what it calls
    visitor.page.reload()
    again = [name for name in visitor.page.evaluate(SENT) if not name.endswith("/playground/sign-in")]
    assert again == [], "whoever comes again is sent the page alone"
    visitor.connect()
    visitor.ask("text")
    visitor.wait()
    return asked


# --------------------------------------------------------------------------------------------------------------- visits


def test_a_first_visit(open_page: OpenPage, rig: Rig):
    visitor = visit(open_page, rig)
    expect(visitor.page).to_have_title("Playground · OpenAI proxy")
    expect(visitor.page.locator("h2")).to_have_text("Try the models behind this proxy")
    expect(visitor.page.locator("#playground")).to_be_hidden()
    visitor.connect()
    expect(visitor.page.locator("#welcome")).to_be_hidden()
    expect(visitor.page.locator("#server")).to_have_value("house")
    expect(visitor.page.locator("#unavailable")).to_have_text("No token yet: closed.")


def test_a_wrong_key(open_page: OpenPage, rig: Rig):
    visitor = visit(open_page, rig)
    visitor.page.fill("#key", "opx-wrong")
    visitor.page.press("#key", "Enter")
    expect(visitor.page.locator(".trouble .title")).to_have_text("This key was refused")
    expect(visitor.page.locator("#key")).to_be_focused()
    expect(visitor.page.locator("#key")).to_have_attribute("aria-invalid", "true")
    visitor.connect()
    expect(visitor.page.locator("#connect-trouble")).to_be_empty()


def test_a_key_that_is_no_header(open_page: OpenPage, rig: Rig):
    visitor = visit(open_page, rig)
    visitor.page.fill("#key", "opx-“smart quotes”")
    visitor.page.press("#key", "Enter")
    expect(visitor.page.locator(".trouble .title")).to_have_text("This key was refused")


def test_everything_comes_from_the_proxy_and_the_key_is_in_headers_and_nowhere_else(open_page: OpenPage, rig: Rig):
    rig.house.chats["text"] = saying("Hello")
    asked = first_visit_requests(open_page, rig)
    assert len(asked) > 10
    assert {request.url[: len(rig.url) + 1] for request in asked} == {f"{rig.url}/"}
    with_key = [request for request in asked if request.all_headers().get("authorization") == f"Bearer {KEY}"]
    assert {request.url.removeprefix(rig.url).split("?")[0] for request in with_key} >= {
        "/v1/models",
        "/house/v1/chat/completions",
    }
    for request in asked:
        assert KEY not in request.url
        assert KEY not in (request.post_data or "")
        others = {name: value for name, value in request.all_headers().items() if name != "authorization"}
        assert KEY not in json.dumps(others)


def test_the_key_is_in_no_part_of_the_page(open_page: OpenPage, rig: Rig):
    rig.house.chats["text"] = saying("Hello")
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("text")
    visitor.wait()
    kept = visitor.page.evaluate("""async () => JSON.stringify([
        document.documentElement.outerHTML,
        [...document.querySelectorAll("input, textarea, select")].map((field) => field.value),
        Object.entries(localStorage), Object.entries(sessionStorage), document.cookie, location.href,
        history.state, window.name, await indexedDB.databases(), await caches.keys(),
        (await navigator.serviceWorker.getRegistrations()).length,
        Object.keys(window).map((name) => String(window[name])),
    ])""")
    assert KEY not in kept
    visitor.page.reload()
    expect(visitor.page.locator("#key")).to_have_value("")


def test_a_forgotten_key_is_forgotten(open_page: OpenPage, rig: Rig):
    rig.house.chats["text"] = saying("Hello")
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("text")
    visitor.wait()
    visitor.page.click("#forget")
    expect(visitor.page.locator("#key")).to_be_focused()
    expect(visitor.page.locator(".answer")).to_have_count(0)
    visitor.page.click("#connect-button")
    expect(visitor.page.locator(".trouble .title")).to_have_text("This key was refused")


# ---------------------------------------------------------------------------------------------------------------- chats


def test_words_appear_as_they_are_said(open_page: OpenPage, rig: Rig):
    words = ["One, ", "two, ", "three.\n\n", "A **second** ", "paragraph."]
    rig.house.chats["gate"] = gate = Gate(*words)
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("gate")
    expect(visitor.answer.locator(".waiting")).to_be_visible()
    for said in range(1, len(words) + 1):
        gate.say()
        expect(visitor.text).to_have_text("".join(words[:said]).replace("**", "").strip())
    visitor.wait()
    expect(visitor.text.locator("p")).to_have_count(2)
    expect(visitor.text.locator("strong")).to_have_text("second")
    expect(visitor.answer.locator(".by")).to_have_text("house · gate")


def test_what_an_answer_took(open_page: OpenPage, rig: Rig):
    rig.house.early_looks = 2
    rig.house.chats["text"] = saying("Hello ", "there")
    visitor = visit(open_page, rig)
    visitor.page.clock.install()
    visitor.connect()
    visitor.ask("text")
    visitor.wait()
    expect(visitor.figure("Cost")).to_have_text("counting …")  # the clock goes on: soon it is counted
    expect(visitor.figure("Tokens")).to_have_text("1,200 in, 34 out")
    expect(visitor.figure("Attempts")).to_have_text("1")
    expect(visitor.figure("First token")).to_contain_text("s")
    for _ in range(3):
        visitor.page.clock.fast_forward(5000)
    expect(visitor.figure("Cost")).to_have_text("$0.00123")
    visitor.answer.locator(".more summary").click()
    expect(visitor.answer.locator(".details")).to_contain_text("house · text")
    inference = rig.house.events[-1]["metadata"]
    assert inference["client_id"] == "browser"
    rig.house.early_looks = 0


def test_the_next_question_has_what_was_said_before(open_page: OpenPage, rig: Rig):
    rig.house.chats["text"] = saying("Hello ", "there")
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.page.fill("#system", "Be short.")
    visitor.page.fill("#temperature", "0.5")
    for question in ("First", "Second\nline"):
        visitor.ask("text", question)
        visitor.wait()
    asked = rig.house.questions[-1]
    assert asked["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "First"},
        {"role": "assistant", "content": "Hello there"},
        {"role": "user", "content": "Second\nline"},
    ]
    assert (asked["model"], asked["temperature"], asked["stream"]) == ("text", 0.5, True)
    visitor.page.click("#new-chat")
    expect(visitor.page.locator(":is(.answer, .asked):visible")).to_have_count(0)
    expect(visitor.page.locator("#question")).to_be_focused()


def test_stop(open_page: OpenPage, rig: Rig):
    rig.house.chats["gate"] = gate = Gate("One ", "two ", "never")
    visitor = visit(open_page, rig)
    visitor.connect()
    for number, stop in enumerate(("#stop", "Escape")):
        visitor.ask("gate")
        gate.say(2)
        expect(visitor.text).to_have_text("One two")
        expect(visitor.page.locator("#send")).to_be_hidden()
        visitor.page.click(stop) if stop.startswith("#") else visitor.page.keyboard.press(stop)
        expect(visitor.answer.locator(".ended")).to_have_text("Stopped.")
        expect(visitor.page.locator("#question")).to_be_focused()
        gate.say()
        assert gate.over.wait(WAIT_SECONDS), "as on Lambda, the function reads its server to the end"
        gate.over.clear()
        assert [each["content"] for each in rig.house.questions[-1]["messages"][1:-1:2]] == ["One two "] * number
    expect(visitor.figure("Cost")).to_have_text("$0.00123")


def test_a_server_that_takes_its_time(open_page: OpenPage, rig: Rig):
    rig.house.chats["gate"] = gate = Gate("At last")
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("gate")
    expect(visitor.answer.locator(".waiting")).to_contain_text(re.compile("Waiting for the first word … [1-7] s"))
    gate.say()
    expect(visitor.text).to_have_text("At last")
    expect(visitor.answer.locator(".waiting")).to_have_count(0)


def test_a_very_long_answer(open_page: OpenPage, rig: Rig):
    line = "A line with **bold** words and `code`.\n\n"
    rig.house.chats |= {"long": saying(*[line] * 1500), "whole": saying("Before that")}
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("whole")
    visitor.wait()
    visitor.page.evaluate("""() => {
        window.made = 0;
        new MutationObserver((changes) => {
            for (const { addedNodes } of changes) for (const node of addedNodes) window.made += node.nodeName === "P";
        }).observe(document.getElementById("conversation"), { childList: true, subtree: true });
    }""")
    visitor.ask("long")
    visitor.wait()
    expect(visitor.text.locator("p")).to_have_count(1500)
    made = visitor.page.evaluate("window.made")
    assert made < 3 * 1500, "a paragraph that is finished is not made again"
    at_end = "scrollY + innerHeight > document.documentElement.scrollHeight - 100"
    wait_for(lambda: visitor.page.evaluate(at_end), "the end of the page")
    first_is_laid_out = "document.querySelector('.answer .by').checkVisibility({contentVisibilityAuto: true})"
    wait_for(lambda: not visitor.page.evaluate(first_is_laid_out), "that nothing is done for what is far away")
    visitor.page.evaluate("scrollTo(0, 0)")
    wait_for(lambda: visitor.page.evaluate(first_is_laid_out), "the first answer")
    visitor.page.click("#jump")
    wait_for(lambda: visitor.page.evaluate(at_end), "the end of the page")


# -------------------------------------------------------------------------------------------------------------- trouble


def test_a_throttle_counts_down_and_then_goes_on(open_page: OpenPage, rig: Rig):
    error = {"message": "Slow down.", "type": "requests", "code": "rate_limit_exceeded"}
    rig.house.chats["busy"] = answering("429 Too Many Requests", error, "retry-after: 120\r\n")
    visitor = visit(open_page, rig)
    visitor.page.clock.install()
    visitor.connect()
    visitor.ask("busy")
    expect(visitor.trouble.locator(".title")).to_have_text("The server is busy")
    expect(visitor.trouble.locator(".wait")).to_have_text(re.compile(r"possible in (2 min|1 min 5\d s)"))
    again = visitor.trouble.get_by_role("button", name="Try again")
    expect(again).to_be_disabled()
    visitor.page.clock.fast_forward(100_000)
    expect(visitor.trouble.locator(".wait")).to_have_text(re.compile(r"possible in (20|1\d) s"))
    visitor.page.clock.fast_forward(20_000)
    expect(again).to_be_enabled()
    rig.house.chats["busy"] = saying("Here ", "I am")
    again.click()
    expect(visitor.text).to_have_text("Here I am")
    expect(visitor.page.locator(".answer")).to_have_count(1)
    expect(visitor.page.locator(".asked")).to_have_count(1)


def test_a_stream_that_is_cut(open_page: OpenPage, rig: Rig):
    def cut(connection: Connection, _question: dict[str, Any]) -> None:
        connection.start_chunked()
        connection.chunk(piece("Half an ") + piece("answ"))
        connection.close()

    rig.house.chats["cut"] = cut
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("cut")
    expect(visitor.trouble.locator(".title")).to_have_text("The server broke off")
    expect(visitor.trouble).to_contain_text("upstream_broken_off")
    expect(visitor.text).to_have_text("Half an answ")
    rig.house.chats["cut"] = saying("Half an answer")
    visitor.trouble.get_by_role("button", name="Try again").click()
    expect(visitor.text).to_have_text("Half an answer")
    assert len(rig.house.questions[-1]["messages"]) == 1, "what was cut is not taken for an answer"


def test_errors_in_plain_words(open_page: OpenPage, rig: Rig):
    def mute(connection: Connection, _question: dict[str, Any]) -> None:
        connection.start_chunked()
        connection.wait_for_end()

    error = {"message": "The engine is overloaded.", "type": "server_error", "code": None}
    rig.house.chats["broken"] = answering("500 Internal Server Error", error)
    rig.house.chats["mute"] = mute
    rig.house.chats["empty"] = saying()
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("broken")
    expect(visitor.trouble.locator(".title")).to_have_text("The server failed")
    expect(visitor.trouble).to_contain_text("500 · The engine is overloaded.")
    rig.house.chats["broken"] = answering("400 Bad Request", {**error, "code": "constructor"})
    visitor.ask("broken")
    expect(visitor.trouble.locator(".title")).to_have_text("The request was refused")
    visitor.ask("mute", server="hasty")
    expect(visitor.trouble.locator(".title")).to_have_text("The server fell silent")
    visitor.ask("empty")
    expect(visitor.answer.locator(".ended")).to_have_text("The server sent an empty answer.")
    visitor.page.route("**/v1/chat/completions", lambda route: route.abort())
    visitor.ask("empty")
    expect(visitor.trouble.locator(".title")).to_have_text("The proxy cannot be reached")


def test_a_whole_answer_in_one_piece(open_page: OpenPage, rig: Rig):
    """As a server that cannot stream gives it."""
    whole = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "All of it"}, "finish_reason": "stop"}]
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    rig.house.chats["whole"] = lambda connection, _: connection.answer(json.dumps({**whole, "usage": usage}).encode())
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("whole")
    expect(visitor.text).to_have_text("All of it")
    expect(visitor.figure("Tokens")).to_have_text("3 in, 4 out")


def test_thoughts_are_folded(open_page: OpenPage, rig: Rig):
    def thinking(connection: Connection, _question: dict[str, Any]) -> None:
        connection.start_chunked()
        connection.chunk(piece(delta={"reasoning_content": "Let me see …"}))
        connection.chunk(piece("42"))
        end(connection)

    rig.house.chats["thinker"] = thinking
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("thinker")
    expect(visitor.text).to_have_text("42")
    thoughts = visitor.answer.locator(".thoughts")
    expect(thoughts.locator("p")).to_be_hidden()
    thoughts.locator("summary").click()
    expect(thoughts.locator("p")).to_have_text("Let me see …")


# ------------------------------------------------------------------------------------------------------ phone, keyboard


SMALL = """(least) => [...document.querySelectorAll("button, summary, input, select, textarea, [role=option]")]
    .filter((each) => each.checkVisibility({visibilityProperty: true}) && each.id !== "skip")
    .map((each) => (each.type === "checkbox" ? each.labels[0] : each))
    .map((each) => [each.id || each.textContent, each.getBoundingClientRect()])
    .filter(([, { width, height }]) => width && Math.min(width, height) < least - 0.1)"""
"""What can be hit, and is smaller than `least` pixels."""


@pytest.mark.parametrize("width", [320, 390, 640])
def test_a_narrow_window(open_page: OpenPage, rig: Rig, width: int):
    wide = (
        "```python\n" + "x = " + "1 + " * 60 + "1\n```\n\n" + "| a | b |\n|---|---|\n| " + "w" * 90 + " | c |\n\nEnd."
    )
    rig.house.chats |= {"wide": saying(wide), "text": saying("Hello")}
    phone = {"has_touch": True, "is_mobile": True} if width < 600 else {}
    visitor = visit(open_page, rig, viewport={"width": width, "height": 740}, **phone)
    sticks_out = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    visitor.connect()
    expect(visitor.page.locator("#server")).to_be_hidden()
    visitor.ask("text", "Another chat")
    visitor.wait()
    visitor.page.click("#new-chat")
    visitor.ask("wide", "w" * 200)
    visitor.wait()
    visitor.page.get_by_role("button", name="Ask again").last.click()
    visitor.wait()
    expect(visitor.text.locator("pre")).to_be_visible()
    assert visitor.page.evaluate(sticks_out) == 0, "nothing sticks out"
    tops = [each.bounding_box() for each in visitor.page.locator(".top .plain").all()]
    assert len({box["y"] for box in tops if box}) == 1, "the buttons above are on one line"
    figures = [each.bounding_box() for each in visitor.answer.locator(".figures > div").all()]
    assert max(after["x"] - before["x"] for before, after in pairwise(each for each in figures if each)) < 120
    visitor.page.locator("#settings summary").first.click()
    visitor.page.locator("#further summary").click()
    assert visitor.page.evaluate(SMALL, 44 if phone else 24) == []
    visitor.page.locator("#settings summary").first.click()
    box = visitor.page.locator("#send").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 740, "one can always write"
    if width >= 390:
        visitor.page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert visitor.page.evaluate(sticks_out) == 0, "not in twice the size either"
        visitor.page.click("#forget")
        assert visitor.page.evaluate(sticks_out) == 0


def test_by_keyboard_alone(open_page: OpenPage, rig: Rig):
    rig.house.chats["text"] = saying("```python\nx = " + "1 + " * 90 + "1\n```\n\nA [link](https://example.com/).")
    visitor = visit(open_page, rig)
    press, type_text = visitor.page.keyboard.press, visitor.page.keyboard.type
    press("Tab")
    expect(visitor.page.locator("#skip")).to_be_focused()
    expect(visitor.page.locator("#skip")).to_be_in_viewport()
    press("Enter")
    expect(visitor.page.locator("#key")).to_be_focused()
    type_text(KEY)
    press("Enter")
    expect(visitor.page.locator("#question")).to_be_focused()
    type_text("Hello")
    press("Shift+Enter")
    type_text("again")
    press("Enter")
    visitor.wait()
    assert rig.house.questions[-1]["messages"][0]["content"] == "Hello\nagain"
    expect(visitor.figure("Cost")).to_have_text("$0.00123")
    visited: list[str] = []
    visitor.page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
    visitor.page.locator("#skip").focus()
    for _ in range(30):
        press("Tab")
        visited.append(
            visitor.page.evaluate("document.activeElement.id || document.activeElement.textContent.trim().slice(0, 12)")
        )
        if visited[-1] == "send":
            break
    code = next(each for each in visited if each.startswith("x = 1"))
    assert visited == [
        *("new-chat", "forget", "server", "model", "system", "temperature", "no-cache", "More"),
        *("Edit", "Copy", code, "link", "Details", "Copy answer", "Ask again", "curl", "Python", "Node"),
        *("Save as Mark", "Save as JSON", "question", "attach", "send"),
    ]


def test_what_a_screen_reader_is_told(open_page: OpenPage, rig: Rig):
    words = ["First ", "paragraph.\n\n", "```python\n", "x = 1\n", "y = 2\n", "```\n\n", "Last."]
    rig.house.chats["gate"] = gate = Gate(*words)
    visitor = visit(open_page, rig)
    log = visitor.page.locator("#said")
    expect(log).to_have_attribute("aria-live", "polite")
    visitor.connect()
    visitor.page.evaluate("""() => {
        window.said = [];
        new MutationObserver((changes) => {
            for (const { addedNodes } of changes) for (const node of addedNodes) window.said.push(node.textContent);
        }).observe(document.getElementById("said"), { childList: true });
    }""")
    visitor.ask("gate")
    for _ in words:
        gate.say()
    wait_for(lambda: visitor.page.evaluate("window.said").count("The answer is complete."), "the end of the answer")
    said = visitor.page.evaluate("window.said")
    assert " ".join(said) == "First paragraph. Code, python, 2 lines. Last. The answer is complete."
    assert len(said) <= 4, "by paragraphs, not by words"


def test_nothing_moves_for_who_wants_no_motion(open_page: OpenPage, rig: Rig):
    moving = "document.getAnimations().filter((each) => each.playState === 'running').length"
    for preference, expected in (("no-preference", True), ("reduce", False)):
        rig.house.chats["gate"] = gate = Gate("Hello ", "there")
        visitor = visit(open_page, rig, reduced_motion=preference)
        visitor.connect()
        visitor.ask("gate")
        expect(visitor.answer.locator(".pulse")).to_be_visible()
        assert (visitor.page.evaluate(moving) > 0) is expected
        gate.say()
        expect(visitor.text).to_have_text("Hello")
        assert (visitor.page.evaluate(moving) > 0) is expected
        gate.say()
        visitor.wait()
