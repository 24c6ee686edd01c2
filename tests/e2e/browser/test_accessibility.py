"""Every state of the playground, light and dark, wide and narrow, against the rules of axe-core."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page as BrowserPage
from playwright.sync_api import expect

from console.report.charts import ranges
from console.report.page import Page, Section, Table, Tile
from console.report.plot import Series
from tests.e2e.browser.rig import Rig, failing, saying
from tests.e2e.browser.visit import PHONE, WIDE, OpenPage, Visit, visit

ANSWER = """## How

Some **bold** text with `code`, a [link](https://example.com/) and a long line of code:

```python
def f(x: int) -> str:  # what it does
    return "a very long string that does not fit into the width of a window" * x + "and even more of it" + str(1.5)
```

| a | b |
|---|---|
| 1 | 2 |

> quoted

- [x] done
"""


def first_visit(_visitor: Visit) -> None:
    """Nothing yet."""


def wrong_key(visitor: Visit) -> None:
    visitor.page.fill("#key", "opx-wrong")
    visitor.page.press("#key", "Enter")
    expect(visitor.page.locator(".trouble")).to_be_visible()


def empty_chat(visitor: Visit) -> None:
    visitor.connect()


def chat(visitor: Visit) -> None:
    visitor.page.clock.install()
    visitor.connect()
    visitor.ask("text", "Another chat")
    visitor.wait()
    visitor.page.click("#new-chat")
    visitor.ask("text", "A question")
    visitor.wait()
    visitor.answer.get_by_role("button", name="Ask again").click()
    visitor.wait()
    expect(visitor.text.locator(".hljs-keyword")).to_have_count(2)
    visitor.answer.locator(".more summary").click()
    visitor.page.clock.fast_forward(5000)
    expect(visitor.figure("Cost")).to_have_text("$0.00123")
    visitor.page.locator(".asked:visible").get_by_role("button", name="Edit").click()
    visitor.page.click("#chats")


def trouble(visitor: Visit) -> None:
    visitor.connect()
    visitor.ask("busy")
    expect(visitor.trouble).to_be_visible()
    visitor.ask("broken")
    expect(visitor.trouble).to_be_visible()


def settings_open(visitor: Visit) -> None:
    visitor.connect()
    settings = visitor.page.locator("#settings")
    if settings.get_attribute("open") is None:
        settings.locator("summary").first.click()
    settings.locator("#further summary").click()
    visitor.page.fill("#more-fields", "no JSON")
    visitor.page.fill("#question", "Hello")
    visitor.page.press("#question", "Enter")
    expect(visitor.page.locator("#more-fields-trouble")).to_be_visible()
    visitor.page.select_option("#model", label="Another one …")
    expect(visitor.page.locator("#other-model")).to_be_focused()


def many_models(visitor: Visit) -> None:
    names = [*(f"house/maker/model-{number}" for number in range(40)), "fast"]
    listed = {"object": "list", "data": [{"id": name} for name in names]}
    visitor.page.route("**/v1/models", lambda route: route.fulfill(json=listed))
    visitor.connect()
    if visitor.page.locator("#settings").get_attribute("open") is None:
        visitor.page.locator("#settings summary").first.click()
    visitor.page.click("#find-model")
    visitor.page.get_by_role("combobox", name="Search 41 models").fill("model")
    expect(visitor.page.locator(".picker [role=option]")).to_have_count(41)


STATES: list[Callable[[Visit], None]] = [
    *(first_visit, wrong_key, empty_chat, chat, trouble, settings_open, many_models),
]


@pytest.fixture(scope="module")
def axe(packages: Path) -> str:
    """The source of axe-core."""
    return (packages / "axe-core/axe.min.js").read_text()


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("state", STATES, ids=lambda state: str(state.__name__))
def test_nothing_stands_in_the_way(
    open_page: OpenPage, rig: Rig, axe: str, state: Callable[[Visit], None], viewport: dict[str, int]
):
    rig.house.chats |= {
        "text": saying(ANSWER),
        "busy": failing("429 Too Many Requests", "rate_limit_exceeded", more="retry-after: 60\r\n"),
        "broken": failing("500 Internal Server Error", "broken"),
    }
    visitor = visit(open_page, rig, viewport=viewport, color_scheme="light", reduced_motion="reduce")
    state(visitor)
    visitor.page.evaluate(axe)
    assert problems(visitor.page) == []
    visitor.page.emulate_media(color_scheme="dark")
    assert problems(visitor.page) == [], "in the dark"


LETTERS = """[...document.querySelectorAll("figure svg text")].filter((each) => each.checkVisibility()).map((each) => {
    const { a, b } = each.getScreenCTM();
    return parseFloat(getComputedStyle(each).fontSize) * Math.hypot(a, b);
})"""
"""The height of every letter that is seen in a chart, in pixels."""


def test_a_report_at_every_width(open_page: OpenPage, axe: str, tmp_path: Path):
    chart = ranges(["a-model-with-a-name-that-is-long"], [Series("p50", [1.0]), Series("p99", [1.0])], "s", "Latency")
    table = Table("Latency", ["Model", "p50"], [["a-model", "1.0 s"]])
    sections = [Section("Latency", "How long.", chart, table), Section("All", "", chart, table, wide=True)]
    file = tmp_path / "report.html"
    file.write_text(
        Page("A report", "Of a day", [Tile("Spend", "$1", "a day")], ["A note"], sections, "The end").to_html()
    )
    page = open_page(file.as_uri(), color_scheme="light")
    page.evaluate(axe)
    for width in (320, 390, 640, 820, 1240):
        page.set_viewport_size({"width": width, "height": 800})
        assert min(page.evaluate(LETTERS)) >= 11
        assert page.evaluate("document.documentElement.scrollWidth") == width
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert problems(page) == []


def problems(page: BrowserPage) -> list[tuple[str, str, list[str]]]:
    """What axe-core finds in the page as it is: how grave, which rule, where."""
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert len(found["passes"]) > 10, "the rules were looked at"
    return [
        (each["impact"], each["id"], [node["html"] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical", "moderate")
    ]
