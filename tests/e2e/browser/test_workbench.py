"""What one comes to a playground for: ask again and otherwise, find a model, take the request and the chat along."""

import base64
import io
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.e2e.browser.rig import KEY, Rig, end, failing, piece, saying
from tests.e2e.browser.visit import OpenPage, Visit, visit
from tests.e2e.harness import wait_for
from tests.fakes import Connection

CLIPBOARD = ["clipboard-read", "clipboard-write"]
SAID = ".asked p:visible, .answer .text:visible"


def told(rig: Rig) -> list[Any]:
    """What the model was told last."""
    return [each["content"] for each in rig.house.questions[-1]["messages"]]


def press(visitor: Visit, name: str, place: int = -1) -> None:
    visitor.page.get_by_role("button", name=name, exact=True).nth(place).click()


def test_any_answer_is_asked_for_again_any_question_is_changed_and_what_was_there_comes_back(
    open_page: OpenPage, rig: Rig
):
    rig.house.chats["text"] = lambda connection, question: saying(f"To {question['messages'][-1]['content']}")(
        connection, question
    )
    visitor = visit(open_page, rig)
    visitor.page.clock.install()
    visitor.connect()
    for question in ("one", "two", "three"):
        visitor.ask("text", question)
        visitor.wait()
    press(visitor, "Ask again", 1)
    visitor.wait()
    assert told(rig) == ["one", "To one", "two"]
    expect(visitor.page.locator(SAID)).to_have_text(["one", "To one", "two", "To two"])
    press(visitor, "Edit")
    field = visitor.page.locator(".changing textarea")
    expect(field).to_be_focused()
    field.fill("never mind")
    field.press("Escape")
    press(visitor, "Edit")
    expect(field).to_have_value("two")
    field.fill("deux\nlines")
    field.press("Enter")
    visitor.wait()
    assert told(rig) == ["one", "To one", "deux\nlines"]
    expect(visitor.page.locator(".versions")).to_have_text("\u20393 of 3")
    press(visitor, "Earlier version")
    expect(visitor.page.locator(".versions")).to_have_text("\u20392 of 3\u203a")
    press(visitor, "Earlier version")
    expect(visitor.page.locator(SAID)).to_have_text(["one", "To one", "two", "To two", "three", "To three"])
    visitor.ask("text", "four")
    visitor.wait()
    assert told(rig) == ["one", "To one", "two", "To two", "three", "To three", "four"]
    for _ in range(3):
        visitor.page.clock.fast_forward(5000)
    expect(visitor.page.locator(".sum")).to_contain_text("This chat: 6 answers · 7,200 in, 204 out · $0.00738")


def kept_for(visitor: Visit, key: str) -> Any:
    """The chats that a reload would bring back for who has this key."""
    return visitor.page.evaluate(f"import('/playground/resuming.js').then(({{ kept }}) => kept('{key}'))")


def test_chats_come_back_after_a_reload_for_who_had_them_and_for_nobody_else(open_page: OpenPage, rig: Rig):
    rig.house.chats["text"] = saying("An answer")
    visitor = visit(open_page, rig)
    visitor.connect()
    for text in ("One question", "Another question"):
        press(visitor, "New chat")
        visitor.ask("text", text)
        visitor.wait()
    wait_for(lambda: [len(each["turns"]) for each in kept_for(visitor, KEY)] == [1, 1], "both chats to be kept")
    stored = visitor.page.evaluate("JSON.stringify(Object.entries(sessionStorage))")
    assert "question" not in stored
    assert KEY not in stored

    visitor.page.reload()
    visitor.connect()
    expect(visitor.page.locator(".asked p:visible")).to_have_text(["Another question"])
    expect(visitor.text).to_have_text("An answer")
    press(visitor, "Chats")
    expect(visitor.page.locator("#chat-list button")).to_have_text(["Another question", "One question"])
    visitor.page.locator("#chat-list button").last.click()
    visitor.ask("text", "And now?")
    visitor.wait()
    assert told(rig) == ["One question", "An answer", "And now?"]

    wait_for(lambda: [len(each["turns"]) for each in kept_for(visitor, KEY)] == [2, 1], "what was said since")
    assert kept_for(visitor, "opx-another") == []
    assert kept_for(visitor, KEY) == [], "another key has ended it"
    visitor.page.click("#forget")
    assert visitor.page.evaluate("sessionStorage.length") == 0


def test_a_request_has_every_field_that_was_written_and_runs_elsewhere_as_it_ran_here(
    open_page: OpenPage, rig: Rig, packages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rig.house.chats["text"] = saying("Once ", "more")
    visitor = visit(open_page, rig, permissions=CLIPBOARD)
    visitor.connect()
    asked = len(rig.house.questions)
    visitor.page.locator("#further summary").click()
    for field, wrong in (("max-tokens", "1.5"), ("more-fields", "[1]"), ("more-fields", '{"messages": []}')):
        visitor.page.fill(f"#{field}", wrong)
        visitor.ask("text", 'It\'s "so"\\ ${HOME}\n\u2028 größer 🎉')
        expect(visitor.page.locator(f"#{field}-trouble")).to_be_visible()
        expect(visitor.page.locator(f"#{field}")).to_be_focused()
        visitor.page.fill(f"#{field}", "")
        expect(visitor.page.locator(f"#{field}-trouble")).to_be_hidden()
    assert len(rig.house.questions) == asked
    more: dict[str, Any] = {"seed": 7, "logit_bias": {}, "stop": None, "user": "it's", "parallel_tool_calls": False}
    visitor.page.fill("#more-fields", json.dumps(more))
    visitor.page.fill("#max-tokens", "64")
    visitor.page.fill("#system", "Be\nshort.")
    visitor.page.press("#question", "Enter")
    visitor.wait()
    here = rig.house.questions[-1]
    assert {name: here[name] for name in (*more, "max_tokens")} == {**more, "max_tokens": 64}

    def copied(language: str, begins: str) -> str:
        visitor.answer.get_by_role("button", name=f"Copy as {language}").click()
        wait_for(lambda: visitor.page.evaluate("navigator.clipboard.readText()").startswith(begins), language)
        code: str = visitor.page.evaluate("navigator.clipboard.readText()")
        assert KEY not in code
        return code

    beginnings = {"curl": "curl -N", "Python": "import os", "Node": "import OpenAI"}
    codes = {language: copied(language, begins) for language, begins in beginnings.items()}
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    exec(codes["Python"], {})  # the page wrote it
    assert capsys.readouterr().out == "Once more"
    assert rig.house.questions[-1] == here
    for command in (["sh", "-c", codes["curl"]], ["node", "--input-type=module", "-e", codes["Node"]]):
        environment = {**os.environ, "no_proxy": "127.0.0.1"}
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60, cwd=packages, env=environment)
        assert b"more" in ran.stdout
        assert rig.house.questions[-1] == here


def test_a_tool_that_the_model_calls_is_shown_and_a_long_number_is_sent_as_it_was_written(
    open_page: OpenPage, rig: Rig
):
    def calling(connection: Connection, _question: dict[str, Any]) -> None:
        connection.start_chunked()
        for call in ({"name": "weather", "arguments": ""}, {"arguments": '{"city": '}, {"arguments": '"<b>Rome</b>"}'}):
            connection.chunk(piece(delta={"tool_calls": [{"index": 0, "id": "call_1", "function": call}]}))
        far = {
            "index": 4_000_000_000,
            "function": {"name": "clock", "arguments": {"zone": "UTC"}},
        }  # as some servers say it
        connection.chunk(piece(delta={"tool_calls": [far]}))
        connection.chunk(piece(finish="tool_calls"))
        end(connection)

    rig.house.chats["text"] = calling
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.page.locator("#further summary").click()
    visitor.page.fill("#more-fields", '{"seed": 12345678901234567890, "top_p": 1.0}')
    visitor.ask("text")
    visitor.wait()
    expect(visitor.answer.locator(".ended")).to_have_text("The model wants to call a tool. This page has none.")
    expect(visitor.answer.locator(".calls")).to_have_text('weather({"city": "<b>Rome</b>"})\nclock({"zone":"UTC"})')
    assert rig.house.questions[-1]["seed"] == 12345678901234567890


def test_a_model_that_wants_the_most_tokens_under_the_newer_name_gets_it(open_page: OpenPage, rig: Rig):
    def new(connection: Connection, question: dict[str, Any]) -> None:
        error = {
            "message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "unsupported_parameter",
        }
        if "max_tokens" in question:
            connection.answer(json.dumps({"error": error}).encode(), "400 Bad Request")
        else:
            saying("Hello")(connection, question)

    rig.house.chats |= {"text": new, "busy": failing("400 Bad Request", "unsupported_parameter")}
    visitor = visit(open_page, rig)
    visitor.connect()
    visitor.page.locator("#further summary").click()
    visitor.page.fill("#max-tokens", "64")
    asked = len(rig.house.questions)
    for _ in range(2):
        visitor.ask("text")
        visitor.wait()
        expect(visitor.text).to_have_text("Hello")
    names = [[name for name in each if name.startswith("max_")] for each in rig.house.questions[asked:]]
    assert names == [["max_tokens"], ["max_completion_tokens"], ["max_completion_tokens"]]
    visitor.ask("busy")
    expect(visitor.trouble.locator(".title")).to_have_text("The request was refused")
    assert len(rig.house.questions) == asked + 4


def test_a_model_among_hundreds_is_found_by_its_whole_name(open_page: OpenPage, rig: Rig):
    long = [f"maker/a-model-whose-name-is-longer-than-any-field-is-wide-{number}-instruct" for number in range(300)]
    names = [*(f"house/{name}" for name in (*long, "gpt-5.4", "gpt-5.4-mini", "o3")), "other/gpt-5.4-mini", "fast"]
    visitor = visit(open_page, rig)
    visitor.page.route("**/v1/models", lambda route: route.fulfill(json={"data": [{"id": name} for name in names]}))
    visitor.connect()
    button, options = visitor.page.locator("#find-model"), visitor.page.locator(".picker [role=option]")

    def click() -> None:
        button.click()
        expect(visitor.page.get_by_role("combobox", name="Search 305 models")).to_be_focused()

    expect(button).to_have_text("The server\u2019s default")
    click()
    expect(options).to_have_count(306)
    expect(visitor.page.locator(".picker-group")).to_have_text(
        ["house · gpt", "house · maker", "house · others", "other", "Aliases"]
    )
    cut = "[...document.querySelectorAll('[role=option]')].filter((each) => each.scrollWidth > each.clientWidth).length"
    assert visitor.page.evaluate(cut) == 0
    visitor.page.keyboard.type("MINI gpt")
    expect(options).to_have_text(["gpt-5.4-mini", "gpt-5.4-mini", "MINI gpt"])
    visitor.page.keyboard.press("ArrowDown")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#server")).to_have_value("other")
    expect(button).to_have_text("gpt-5.4-mini")
    expect(button).to_be_focused()
    click()
    visitor.page.keyboard.type("name-is-longer 299")
    visitor.page.keyboard.press("Escape")
    expect(button).to_have_text("gpt-5.4-mini")
    click()
    visitor.page.keyboard.type("my/own")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#other-model")).to_have_value("my/own")
    click()
    visitor.page.keyboard.type("299")
    options.first.click()
    expect(button).to_have_text(long[-1])
    rig.house.chats[long[-1]] = saying("Hello")
    visitor.page.fill("#question", "Hello")
    visitor.page.press("#question", "Enter")
    visitor.wait()
    expect(visitor.text).to_have_text("Hello")
    assert rig.house.questions[-1]["model"] == long[-1]


def picture(kind: str, width: int, height: int) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "where it was taken"
    Image.new("RGB", (width, height), "teal").save(file, kind, exif=exif)
    return file.getvalue()


def test_pictures_go_with_a_question_small_and_without_what_else_their_files_say(open_page: OpenPage, rig: Rig):
    rig.house.chats["text"] = saying("A square")
    visitor = visit(open_page, rig)
    visitor.connect()
    photo, text = picture("JPEG", 3200, 80), b"no picture"
    files = [("photo.jpg", "image/jpeg", photo), ("a.png", "image/png", picture("PNG", 20, 30)), ("a.txt", "", text)]
    visitor.page.set_input_files("#files", [{"name": n, "mimeType": kind, "buffer": data} for n, kind, data in files])
    expect(visitor.page.locator("#attach-trouble")).to_have_text("a.txt is no picture that this browser can read.")
    expect(visitor.page.locator("#attached canvas")).to_have_count(2)
    visitor.ask("text", "")
    visitor.wait()
    expect(visitor.page.locator("#attached")).to_be_hidden()
    expect(visitor.page.locator(".asked canvas")).to_have_count(2)
    [[first, second]] = told(rig)
    assert {first["type"], second["type"]} == {"image_url"}
    sent = [base64.b64decode(each["image_url"]["url"].partition(",")[2]) for each in (first, second)]
    assert [Image.open(io.BytesIO(each)).size for each in sent] == [(1600, 40), (20, 30)]
    assert not any(b"where it was taken" in each for each in sent)
    press(visitor, "Edit")
    visitor.page.locator(".changing textarea").fill("What is this?")
    press(visitor, "Ask")
    visitor.wait()
    assert told(rig) == [[{"type": "text", "text": "What is this?"}, first, second]]


def test_a_chat_is_saved_as_markdown_and_as_json_without_the_key(open_page: OpenPage, rig: Rig):
    rig.house.chats |= {"text": saying("# Yes\n\n- *so*"), "busy": failing("429 Too Many Requests", "slow", "Not now.")}
    visitor = visit(open_page, rig)
    visitor.connect()
    for model, question in (("text", "Is <b>it</b>?"), ("busy", "And now?")):
        visitor.ask(model, question)
        visitor.wait()
    saved: dict[str, str] = {}
    for kind in ("Markdown", "JSON"):
        with visitor.page.expect_download() as download:
            press(visitor, f"Save as {kind}")
        saved[kind] = download.value.path().read_text(encoding="utf-8")
        assert re.fullmatch(r"chat-[\dT-]+\.(md|json)", download.value.suggested_filename)
        assert KEY not in saved[kind]
    for part in ("## You\n\nIs <b>it</b>?", "## house · text\n\n# Yes\n\n- *so*\n", "And now?", "_Not now._"):
        assert part in saved["Markdown"]
    chat = json.loads(saved["JSON"])
    assert [each["question"] for each in chat["turns"]] == ["Is <b>it</b>?", "And now?"]
    first = chat["turns"][0]["answer"]
    assert (first["content"], first["finish_reason"]) == ("# Yes\n\n- *so*", "stop")
    assert (first["server"], first["model"], first["output_tokens"]) == ("house", "text", 34)
    assert chat["proxy"] == rig.url
