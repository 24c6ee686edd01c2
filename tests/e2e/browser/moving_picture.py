"""The README's moving picture: a terminal, then the playground, as they are used, of a running local stack.

What is seen is what the stack printed and answered. Only the pace is set here, because a GIF has to be short.
"""

import html
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.e2e.browser.visit import Visit
from tests.e2e.harness import ROOT, LocalStack, wait_for

SIZE: ViewportSize = {"width": 880, "height": 550}
COLOURS = 48
TYPED = 5
"""Letters that are typed from one frame to the next."""
MOST_PIECES = 24
"""Frames of an answer that comes in pieces."""
QUESTION = "Tell me in two sentences what stands between a chat and its model, and who pays for it."
ROWS = 24
PORTS = {"PORT": 8080, "MINISTACK_PORT": 4566, "DEMO_PORT": 8090}

_TERMINAL = """<style>
  body { margin: 0; background: #14181f; color: #d7dde6; font: 15px/1.45 "DejaVu Sans Mono", monospace }
  pre { margin: 0; padding: 18px 22px; font: inherit; white-space: pre-wrap; overflow-wrap: anywhere }
  b { color: #7ee0a0; font-weight: normal } i { background: #d7dde6 }
</style><pre></pre>"""


class Frame(NamedTuple):
    """A picture, and for how many milliseconds it is seen."""

    png: bytes
    shown: int


def save_moving_picture(browser: Browser, stack: LocalStack, file: Path) -> None:
    """Take the frames and write them as one GIF of one palette."""
    frames = [*_terminal(browser, stack), *_playground(browser, stack)]
    pictures = [Image.open(io.BytesIO(frame.png)).convert("RGB") for frame in frames]
    palette = _side_by_side([pictures[len(pictures) // 3], pictures[-1]]).quantize(COLOURS, dither=Image.Dither.NONE)
    first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    shown = [frame.shown for frame in frames]
    first.save(file, save_all=True, append_images=others, duration=shown, loop=0, optimize=False, disposal=1)
    seconds, size = sum(shown) / 1000, file.stat().st_size // 1000
    print(f"{file.relative_to(ROOT)}  {first.width} x {first.height}, {len(frames)} frames, {seconds:.0f} s, {size} kB")


def _side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """One picture with the colours of all."""
    both = Image.new("RGB", (sum(each.width for each in pictures), pictures[0].height))
    at = 0
    for each in pictures:
        both.paste(each, (at, 0))
        at += each.width
    return both


# ------------------------------------------------------------------------------------------------------------- terminal


def _terminal(browser: Browser, stack: LocalStack) -> Iterator[Frame]:
    page = browser.new_page(viewport=SIZE)
    page.set_content(_TERMINAL)
    lines: list[str] = []
    yield from _command(page, lines, "make run")
    for line in _printed(stack):
        lines.append(line)
        yield _seen(page, lines, 120)
    yield _seen(page, lines, 2500)
    lines = []
    yield from _command(page, lines, ". .local/env")
    yield from _command(page, lines, f"python examples/python/chat.py '{QUESTION}'")
    yield from _answer(page, lines, stack)
    wait_for(lambda: _costs(stack).count("demo") > 1, "the answer's cost")
    yield from _command(page, lines, "openai-proxy costs entries --client demo")
    lines += _costs(stack).splitlines()
    yield _seen(page, lines, 3000)
    page.close()


def _printed(stack: LocalStack) -> list[str]:
    """What `make run` printed, but for how long this machine took, with the ports and the folder that a user has."""
    said = re.sub(r"opx-\w{8}\w+", "opx-…", stack.said).replace(str(stack.folder), ".local")
    for name, port in PORTS.items():
        said = said.replace(f":{stack.ports[name]}", f":{port}")
    return [line for line in said.splitlines() if line.strip() and not line.startswith(("Building", "Ready after"))]


def _command(page: Page, lines: list[str], text: str) -> Iterator[Frame]:
    """A command that is typed after a prompt."""
    lines.append("$ ")
    for end in range(TYPED, len(text) + TYPED, TYPED):
        lines[-1] = f"$ {text[:end]}"
        yield _seen(page, lines, 60)
    yield _seen(page, lines, 350)


def _answer(page: Page, lines: list[str], stack: LocalStack) -> Iterator[Frame]:
    """An answer, piece by piece as it came."""
    script = [sys.executable, str(ROOT / "examples/python/chat.py"), QUESTION]
    environment = {**os.environ, **stack.environment}
    with subprocess.Popen(script, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        pieces = [piece.decode() for piece in iter(lambda: os.read(process.stdout.fileno(), 4096), b"")]  # type: ignore[union-attr]
    said, before = "", list(lines)
    several = max(1, len(pieces) // MOST_PIECES)
    for number, piece in enumerate(pieces, 1):
        said += piece
        lines[:] = [*before, *said.splitlines()]
        if number % several == 0:
            yield _seen(page, lines, 70)
    yield _seen(page, lines, 1000)


def _costs(stack: LocalStack) -> str:
    command = [sys.executable, "-m", "console", "costs", "entries", "--client", "demo"]
    environment = {**os.environ, **stack.environment, "COLUMNS": "92", "NO_COLOR": "1"}
    return subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True).stdout


def _seen(page: Page, lines: list[str], shown: int) -> Frame:
    rows = [html.escape(line) for line in lines[-ROWS:]]
    text = "\n".join(f"<b>{row}</b>" if row.startswith("$ ") else row for row in rows)
    page.evaluate("text => document.querySelector('pre').innerHTML = text", f"{text}<i> </i>")
    return Frame(page.screenshot(), shown)


# ----------------------------------------------------------------------------------------------------------- playground


def _playground(browser: Browser, stack: LocalStack) -> Iterator[Frame]:
    page = browser.new_page(viewport=SIZE, color_scheme="light")
    visitor = Visit(page)
    page.goto(stack.url)
    yield Frame(page.screenshot(), 900)
    visitor.connect(stack.key)
    visitor.choose("demo", "demo")
    for end in range(TYPED, len(QUESTION) + TYPED, TYPED):
        page.fill("#question", QUESTION[:end])
        yield Frame(page.screenshot(), 60)
    page.press("#question", "Enter")
    while page.locator(".answer.writing").count() or not page.locator(".answer").count():
        yield Frame(page.screenshot(), 90)
    expect(visitor.figure("Cost")).to_contain_text("$", timeout=60_000)
    page.evaluate("document.activeElement.blur()")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    yield Frame(page.screenshot(), 4000)
    page.close()
