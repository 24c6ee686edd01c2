"""The transport of examples/resumable, against a stream that is cut at any byte, in pieces of any size."""

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import httpx2 as httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples

FILE = Path(__file__).parents[3] / "examples/resumable/resumable.py"
ID = "01KABCDEFGHJKMNPQRSTVWXYZ0"
ASK = "https://proxy.example/demo/v1/chat/completions"
STREAM = f"https://proxy.example/demo/v1/streams/{ID}"
WORDS = ["Grüße", "👩‍👩‍👧", 'data: [DONE]', "id: 9", "x" * 200, ""]  # fmt: skip


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("resumable_example", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


RESUMABLE = _module()


def numbered(*lines: str) -> list[bytes]:
    return [f'data: {{"content": "{line}"}}\nid: {ID}.{n}\n\n'.encode() for n, line in enumerate(lines, 1)] + [
        f"data: [DONE]\nid: {ID}.{len(lines) + 1}\n\n".encode()
    ]


@dataclass
class Piecewise(httpx.AsyncByteStream):
    """The bytes of one connection, which may be cut."""

    content: bytes
    size: int
    is_cut: bool

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.content), self.size):
            yield self.content[at : at + self.size]
        if self.is_cut:
            raise httpx.ReadError("cut")


@dataclass
class Proxy(httpx.AsyncBaseTransport):
    """Streams `events`. Each of `cuts` ends a connection: after so many bytes, or before its answer."""

    events: list[bytes]
    cuts: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    size: int = 7
    status: int = 200
    asked: list[tuple[str, str, str | None]] = field(default_factory=list[tuple[str, str, str | None]])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        last = request.headers.get("last-event-id")
        self.asked.append((request.method, str(request.url), last))
        assert request.headers["authorization"] == "Bearer opx-key"
        if request.method == "DELETE":
            return httpx.Response(204)
        if request.method == "GET" and self.status != 200:
            return httpx.Response(self.status)
        content = b"".join(self.events[int(last.rpartition(".")[2]) if last else 0 :])
        length, how = self.cuts.pop(0) if self.cuts else (len(content), "whole")
        if how == "refused" and request.method == "GET":
            raise httpx.ConnectError("refused")
        if how == "busy" and request.method == "GET":
            return httpx.Response(503)
        headers = {"content-type": "text/event-stream", "x-inference-id": ID, "x-resumable": "true"}
        stream = Piecewise(content[:length], self.size, how == "broken")
        return httpx.Response(200, headers=headers, stream=stream)


async def _at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


async def read(proxy: Proxy, most: int = 10**9) -> bytes:
    """What a client reads of an answer; it leaves after `most` bytes."""
    headers = {"authorization": "Bearer opx-key"}
    transport = RESUMABLE.ResumableTransport(proxy, sleep=_at_once)
    got = b""
    client = httpx.AsyncClient(transport=transport)
    async with client, client.stream("POST", ASK, headers=headers, json={"stream": True}) as response:
        async for piece in response.aiter_raw():
            got += piece
            if len(got) >= most:
                break
    return got


CUTS = st.lists(st.tuples(st.integers(1, 400), st.sampled_from(["broken", "closed", "refused", "busy"])), max_size=8)


@given(st.lists(st.sampled_from(WORDS), max_size=8), CUTS, st.integers(1, 300))
@settings(max_examples=examples(25), deadline=None)
def test_whatever_is_cut_every_event_comes_once(words: list[str], cuts: list[tuple[int, str]], size: int) -> None:
    proxy = Proxy(numbered(*words), cuts, size)
    assert asyncio.run(read(proxy)) == b"".join(proxy.events)
    assert {(method, address) for method, address, _ in proxy.asked[1:]} <= {("GET", STREAM)}


def test_a_stream_that_is_gone_ends_as_a_cut_one_does() -> None:
    proxy = Proxy(numbered("one", "two"), [(50, "broken")], status=404)
    with pytest.raises(httpx.ReadError, match="cut"):
        asyncio.run(read(proxy))
    assert [method for method, _, _ in proxy.asked] == ["POST", "GET"]


def test_who_leaves_early_stops_the_model() -> None:
    proxy = Proxy(numbered("one", "two"))
    asyncio.run(read(proxy, most=1))
    assert [call[:2] for call in proxy.asked] == [("POST", ASK), ("DELETE", STREAM)]


def test_what_is_no_stream_is_not_marked() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    async def ask() -> None:
        transport = RESUMABLE.ResumableTransport(httpx.MockTransport(answer))
        async with httpx.AsyncClient(transport=transport) as client:
            await client.post(ASK, json={"messages": ['"stream": true']})
            await client.get("https://proxy.example/demo/v1/models")

    asyncio.run(ask())
    assert [request.headers.get("x-resumable") for request in seen] == [None, None]
