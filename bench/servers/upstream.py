"""An OpenAI-like upstream server that costs next to nothing: every answer is rendered before the first request.

A process of its own (`python -m bench.servers.upstream PORT`), so that its CPU is nobody else's. The `model` of a
request says what it wants: `plain` streams come in one write; of `paced-2` the first chunk comes with the head and
another every two milliseconds, each with the moment it was sent.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator
from itertools import repeat
from typing import Any

CHUNKS = 64
STAMP = re.compile(rb'"content":"(\d{20})"')
"""Where a paced chunk holds `time.monotonic_ns` of its sending."""

_PACED = re.compile(rb"paced-(\d+)")
_PLACE = b"0" * 20
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-request-id: req_8f2d6c0a41\r\nopenai-processing-ms: 180\r\ntransfer-encoding: chunked\r\n\r\n"
)
_USAGE: dict[str, Any] = {
    "prompt_tokens": 312,
    "completion_tokens": 62,
    "total_tokens": 374,
    "prompt_tokens_details": {"cached_tokens": 256, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
    document = {
        "id": "chatcmpl-Bq3Xv0aT7mPz1LwEeYd5",
        "object": "chat.completion.chunk",
        "created": 1795000000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_34a54ae93c",
        "choices": choices,
        "usage": usage,
    }
    return _http_chunk(b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n")


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]


_ROLE = _event(_choice({"role": "assistant", "content": ""}))
_TEXT = _event(_choice({"content": _PLACE.decode()}))
_STOP = _event(_choice({}, "stop"))
_USAGE_CHUNK = _event([], _USAGE)
_DONE = _http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-Bq3Xv0aT7mPz1LwEeYd5",
        "object": "chat.completion",
        "created": 1795000000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "A ledger is a book of accounts. " * 6, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
        "service_tier": "default",
    },
    separators=(",", ":"),
).encode()
_ANSWER_WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_8f2d6c0a41\r\ncontent-length: %d\r\n\r\n%b"
    % (len(_ANSWER), _ANSWER)
)


def chunks_of(body: bytes, count: int = CHUNKS) -> Iterator[bytes]:
    """The chunks of one stream: `count` events, the usage chunk for those who ask, and the end."""
    yield _ROLE
    yield from repeat(_TEXT, count - 2)
    yield _STOP
    if b'"include_usage"' in body:
        yield _USAGE_CHUNK
    yield _DONE


def pace_of(body: bytes) -> float:
    """Seconds between two chunks of the stream that `body` asks for; 0 when it is not to be paced."""
    pace = _PACED.search(body)
    return int(pace[1]) / 1000 if pace else 0.0


def stamped(chunk: bytes) -> bytes:
    """`chunk` with the moment of its sending, which is now, if it has a place for it."""
    return chunk.replace(_PLACE, b"%020d" % time.monotonic_ns())


class Upstream(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self) -> None:
        self._received = b""
        self._streams: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        size = int(length[1]) if length else 0
        if not end or len(rest) < size:
            return
        body, self._received = rest[:size], rest[size:]
        if re.search(rb'"stream": *true', body) is None:
            self._transport.write(_ANSWER_WHOLE)
        elif pace := pace_of(body):
            task = asyncio.get_running_loop().create_task(self._pace(chunks_of(body), pace))
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
        else:
            self._transport.write(STREAM_HEAD + b"".join(chunks_of(body)))

    async def _pace(self, chunks: Iterator[bytes], seconds: float) -> None:
        self._transport.write(STREAM_HEAD + stamped(next(chunks)))
        for chunk in chunks:
            await asyncio.sleep(seconds)
            if self._transport.is_closing():  # whoever asked was killed
                return
            self._transport.write(stamped(chunk))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
