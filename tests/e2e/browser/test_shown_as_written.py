"""What a model wrote is what one reads: everyday answers, in parts, cut off, or silent for a while."""

import json
import re
import threading
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Page, expect

from tests.e2e.browser.rig import Rig, end, piece, saying
from tests.e2e.browser.visit import OpenPage, visit
from tests.fakes import Connection

ANSWERS = Path(__file__).parents[2] / "data" / "answers.yaml"
PAGES_OF = """async (answers) => {
    const { GrowingMarkdown } = await import("/playground/markdown.js");
    return answers.map((pieces) => {
        const root = document.createElement("div");
        document.body.append(root);
        const growing = new GrowingMarkdown(root);
        for (const piece of pieces) { growing.add(piece); growing.render(); }
        growing.end();
        for (const cell of root.querySelectorAll("[align]")) {
            const { textAlign } = getComputedStyle(cell);
            if (!textAlign.endsWith(cell.align)) throw new Error(`${textAlign}: ${cell.outerHTML}`);
        }
        const html = root.innerHTML;
        root.remove();
        return html;
    });
}"""


def without_blank_lines(html: str) -> str:
    return re.sub(r"\n+(?=<|$)", "\n", html).strip()


@pytest.fixture
def page(open_page: OpenPage, rig: Rig) -> Page:
    return open_page(f"{rig.url}/")


@pytest.mark.parametrize("cut", ["whole", "line by line"])
def test_everyday_answers_become_the_page_that_is_expected(page: Page, cut: str):
    answers: list[dict[str, str]] = yaml.load(ANSWERS.read_text(encoding="utf-8"), yaml.CSafeLoader)
    assert len(answers) >= 60
    pieces = [[each["text"]] if cut == "whole" else each["text"].splitlines(keepends=True) for each in answers]
    found = page.evaluate(PAGES_OF, pieces)
    shown = {each["name"]: without_blank_lines(html) for each, html in zip(answers, found, strict=True)}
    assert shown == {each["name"]: without_blank_lines(each["html"]) for each in answers}


def test_content_in_parts_is_text_and_thoughts_and_so_is_what_the_model_is_told_next(open_page: OpenPage, rig: Rig):
    def in_parts(connection: Connection, _question: dict[str, Any]) -> None:
        connection.start_chunked()
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Let me see …"}]}
        connection.chunk(piece(delta={"content": [thought]}))
        connection.chunk(piece(delta={"content": [{"type": "text", "text": "4"}, "2", {"type": "odd"}, None]}))
        end(connection)

    rig.house.chats["text"] = in_parts
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.ask("text")
    visitor.wait()
    expect(visitor.text).to_have_text("42")
    expect(visitor.answer.locator(".thoughts p")).to_have_text("Let me see …")
    visitor.ask("text", "مرحبا")
    visitor.wait()
    told = [each["content"] for each in rig.house.questions[-1]["messages"]]
    assert told == ["Hello", "42", "مرحبا"]
    asked = visitor.page.locator(".asked p").last
    assert asked.evaluate("(node) => getComputedStyle(node).direction") == "rtl"


NOTES = {
    "length": "Cut off: the answer had reached the most tokens that it may have.",
    "content_filter": "Cut off by the server\u2019s content filter.",
    "tool_calls": "The model wants to call a tool. This page has none.",
    "model_length": "The server ended the answer: model_length.",
    "constructor": "The server ended the answer: constructor.",
}


def test_an_answer_that_is_not_whole_says_so_and_nobody_is_told_that_it_is(open_page: OpenPage, rig: Rig):
    visitor = visit(open_page, rig)
    visitor.connect()
    for (finish, note), words in product(NOTES.items(), ("Half", "")):
        choice = {"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": finish}
        whole = json.dumps({"choices": [choice]}).encode()
        rig.house.chats["whole"] = lambda connection, _, whole=whole: connection.answer(whole)
        visitor.ask("whole")
        visitor.wait()
        expect(visitor.answer.locator(".ended")).to_have_text(note)
        expect(visitor.page.locator("#said")).to_contain_text(note)
    expect(visitor.page.locator("#said")).not_to_contain_text("complete")


def test_silence_in_the_middle_of_an_answer_shows_a_clock(open_page: OpenPage, rig: Rig):
    may = threading.Event()

    def silent(connection: Connection, _question: dict[str, Any]) -> None:
        connection.start_chunked()
        connection.chunk(piece("Once"))
        may.wait(60)
        connection.chunk(piece(" more"))
        end(connection)

    rig.house.chats["text"] = silent
    visitor = visit(open_page, rig)
    visitor.page.clock.install()
    visitor.connect()
    visitor.ask("text")
    expect(visitor.text).to_have_text("Once")
    expect(visitor.answer.locator(".waiting")).to_be_hidden()
    visitor.page.clock.fast_forward(5000)
    expect(visitor.answer.locator(".waiting")).to_contain_text("Waiting for more … ")
    may.set()
    visitor.wait()
    expect(visitor.text).to_have_text("Once more")
    expect(visitor.answer.locator(".waiting")).to_have_count(0)
    rig.house.chats["text"] = saying("x")
