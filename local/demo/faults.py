"""How the demo server fails on demand, and how it sends its answer until it fails.

Faults come by the model's name or by the field `demo` of the body: docs/local.md has both.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.responses import Response, StreamingResponse

from local.demo.replies import INVALID, Body, Events, error, object_of

_ERROR_MODEL = re.compile(r"demo-error-(\d{3})")
_FOREVER = 24 * 3600.0

_BY_MODEL: dict[str, dict[str, Any]] = {
    "demo-slow": {"delay": 0.5},
    "demo-no-usage": {"usage": False},
    "demo-flaky": {"status": 500, "times": 1},
    "demo-cut": {"cut_after": 6},
    "demo-hang": {"hang_after": 0},
    "demo-not-json": {"not_json": True},
}
MODELS = ("demo", "demo-reasoning", "demo-error-429", "demo-error-500", *_BY_MODEL)


class CutError(Exception):
    """Ends a response in the middle: the server closes the connection."""


def directions(body: Body) -> dict[str, Any]:
    """How a request wants the server to misbehave: what the model's name says, overridden by the field `demo`."""
    name = str(body.get("model"))
    by_name = dict(_BY_MODEL.get(name, {}))
    if match := _ERROR_MODEL.fullmatch(name):
        by_name["status"] = int(match[1])
    return by_name | object_of(body.get("demo"))


def ordered_error(status: int) -> dict[str, Any]:
    """The error object of the error that the directions ask for."""
    kind = "rate_limit_error" if status == 429 else INVALID if status < 500 else "server_error"
    code = "rate_limit_exceeded" if status == 429 else None
    return error(f"The demo server answers {status}, as ordered.", kind, code)


async def events(reply: Events, delay: float, demo: Body) -> AsyncIterator[bytes]:
    """Server-sent events, one chunk each, `delay` seconds apart."""
    number = 0
    for number, chunk in enumerate(reply.chunks):
        await _fault(number, demo)
        if number:
            await asyncio.sleep(delay)
        name = f"event: {chunk['type']}\n".encode() if reply.named else b""
        yield name + b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"
    if reply.done:
        yield b"data: [DONE]\n\n"


async def pieces(whole: Iterator[bytes], demo: Body) -> AsyncIterator[bytes]:
    """The pieces of a body, up to the fault that the directions ask for."""
    for number, piece in enumerate(whole):
        await _fault(number, demo)
        yield piece


async def _fault(number: int, demo: Body) -> None:
    if number == demo.get("cut_after"):
        raise CutError
    if number == demo.get("hang_after"):
        await asyncio.sleep(_FOREVER)


def broken_off(whole: dict[str, Any]) -> Response:
    """The first half of an answer in one piece."""
    content = json.dumps(whole).encode()

    async def half() -> AsyncIterator[bytes]:
        yield content[: len(content) // 2]
        raise CutError

    return StreamingResponse(half(), media_type="application/json", headers={"content-length": str(len(content))})
