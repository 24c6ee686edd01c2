"""What a visitor does on the playground, for the tests of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.e2e.browser.rig import KEY, Rig

WIDE = {"width": 1240, "height": 860}
PHONE = {"width": 360, "height": 740}

OpenPage = Callable[..., Page]


@dataclass
class Visit:
    """A visitor of the playground."""

    page: Page

    @property
    def answer(self) -> Locator:
        """The latest answer."""
        return self.page.locator(".answer").last

    @property
    def text(self) -> Locator:
        """What the latest answer says."""
        return self.answer.locator(".text")

    @property
    def trouble(self) -> Locator:
        """What the latest answer says of a failure."""
        return self.answer.locator(".trouble")

    def connect(self, key: str = KEY) -> None:
        """Paste a key; the chat opens."""
        self.page.fill("#key", key)
        self.page.press("#key", "Enter")
        expect(self.page.locator("#question")).to_be_focused()

    def choose(self, model: str, server: str) -> None:
        """Choose a server and a model of it."""
        settings = self.page.locator("#settings")
        folded = settings.get_attribute("open") is None
        if folded:
            settings.locator("summary").first.click()
        self.page.select_option("#server", server)
        self.page.select_option("#model", model)
        if folded:
            settings.locator("summary").first.click()

    def ask(self, model: str, text: str = "Hello", server: str = "house") -> None:
        """Send a message."""
        self.choose(model, server)
        self.page.fill("#question", text)
        self.page.press("#question", "Enter")

    def wait(self) -> None:
        """Until the answer is over."""
        expect(self.page.locator("#send")).to_be_visible()
        expect(self.answer).not_to_have_class("writing")

    def figure(self, name: str) -> Locator:
        """A figure beside the latest answer, by its name."""
        pair = self.answer.locator(".figures > div").filter(has=self.page.locator("dt", has_text=name))
        return pair.locator("dd")


def visit(open_page: OpenPage, rig: Rig, **options: Any) -> Visit:
    """Somebody who has just come, with a wide window unless `options` say otherwise."""
    return Visit(open_page(f"{rig.url}/", **{"viewport": WIDE, **options}))
