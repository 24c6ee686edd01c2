"""What the fault server does on the wire, as data. Pure.

Its one rule: a `Reply` says every byte and every pause; the server adds nothing of its own.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal, Self, cast

PLACE = b"@conformance-id@"
"""Stands in requests, replies and expectations for the id of one run: answers that get mixed up do not match."""

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"

Headers = Sequence[tuple[str, str]]

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


class Act(Enum):
    """What a server can do beside sending bytes."""

    CUT = "close the connection"
    RESET = "end the connection with a TCP reset"
    SILENCE = "say nothing until the other side gives up"
    RELEASE = "wait until the client says that it has got everything so far"


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes outside of the body's framing."""

    data: bytes


Step = bytes | Raw | Wait | Act
"""Bytes are one piece of the body: one chunk, in one write."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. After its last step it ends as its framing demands, unless a step has ended the connection."""

    steps: Sequence[Step] = ()
    status: int = 200
    content_type: str | None = EVENT_STREAM
    headers: Headers = ()
    framing: Literal["chunked", "length", "close", "none"] = "chunked"
    encoding: Literal["gzip"] | None = None
    piece: int = 0
    """Split the body into chunks of so many bytes, after its encoding."""
    segment: int = 0
    """Write so many bytes at a time."""
    missing: int = 0
    """Announce a content length that is so many bytes too large."""
    head: bytes | None = None
    """In place of status line and headers."""

    def of_run(self, run: bytes) -> Self:
        """The reply to one run, its content encoding applied and its body cut into pieces."""
        steps: Iterable[Step] = (_of_run(step, run) for step in self.steps)
        if self.encoding == "gzip":
            steps = _gzipped(steps)
        if self.piece:
            steps = _cut(steps, self.piece)
        return replace(self, steps=tuple(steps))

    @property
    def head_bytes(self) -> bytes:
        """Status line and headers, blank line included."""
        if self.head is not None:
            return self.head
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Some Reason')}"]
        if self.content_type:
            lines.append(f"Content-Type: {self.content_type}")
        if self.encoding:
            lines.append(f"Content-Encoding: {self.encoding}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif self.framing == "length":
            size = sum(len(step) for step in self.steps if isinstance(step, bytes))
            lines.append(f"Content-Length: {size + self.missing}")
        elif self.framing == "close":
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _of_run(step: Step, run: bytes) -> Step:
    if isinstance(step, bytes):
        return step.replace(PLACE, run)
    return Raw(step.data.replace(PLACE, run)) if isinstance(step, Raw) else step


def _gzipped(steps: Iterable[Step]) -> Iterator[Step]:
    """Each piece can be decoded as soon as it has come. A connection that is ended early has no gzip trailer."""
    compressor = zlib.compressobj(wbits=31)
    for step in steps:
        if isinstance(step, bytes):
            yield compressor.compress(step) + compressor.flush(zlib.Z_SYNC_FLUSH)
            continue
        yield step
        if step in (Act.CUT, Act.RESET):
            return
    yield compressor.flush(zlib.Z_FINISH)


def _cut(steps: Iterable[Step], size: int) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, bytes):
            yield from (step[start : start + size] for start in range(0, len(step), size))
        else:
            yield step


def object_of(value: Any) -> dict[str, Any]:
    """`value` when it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def fields_of(text: bytes) -> dict[str, Any]:
    """A JSON object; empty when `text` is none."""
    try:
        return object_of(json.loads(text))
    except ValueError:
        return {}


@dataclass(frozen=True, slots=True)
class Received:
    """A request as the fault server got it. Header names are lower case; `count` is how often this run has asked."""

    method: str
    target: str
    headers: Headers
    body: bytes = b""
    run: bytes = b""
    count: int = 1

    @property
    def fields(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        return fields_of(self.body)

    def report(self) -> dict[str, Any]:
        """What the server tells of the request in its answer. Of the authorization only a digest: it is a secret."""
        names = sorted(name for name, _ in self.headers)
        shown = {name: value for name, value in self.headers if name != "authorization"}
        authorization = next((value for name, value in self.headers if name == "authorization"), "")
        return {
            "method": self.method,
            "target": self.target,
            "header_names": names,
            "headers": shown,
            "authorization_sha256": hashlib.sha256(authorization.encode("latin-1")).hexdigest(),
            "size": len(self.body),
            "sha256": hashlib.sha256(self.body).hexdigest(),
            "model": self.fields.get("model"),
            "stream_options": self.fields.get("stream_options"),
        }


Answer = Reply | Callable[[Received], Reply]
"""The same for every request, or made for one."""

_CASE_IN_BODY = re.compile(rb'(?:"model"\s*:\s*"|name="model"\r\n\r\n)conformance-([a-z0-9-]+)')
_RUN_IN_BODY = re.compile(rb'(?:"user"\s*:\s*"|name="user"\r\n\r\n)([0-9a-f]{16})')
_CASE_IN_TARGET = re.compile(r"/conformance-([a-z0-9-]+)")
_RUN_IN_TARGET = re.compile(r"[?&]user=([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which case a request is for, and in which run: by `model` and `user` of its body, else by path and query."""

    case: str
    run: bytes = b""

    @classmethod
    def by(cls, target: str, body: bytes) -> Self | None:
        """Read it from a request whose body may not have come whole; None when it does not say."""
        case, run = _CASE_IN_BODY.search(body), _RUN_IN_BODY.search(body)
        if case and run:
            return cls(case[1].decode(), run[1])
        in_target, run_in_target = _CASE_IN_TARGET.search(target), _RUN_IN_TARGET.search(target)
        name = case[1].decode() if case else in_target[1] if in_target else None
        found = run[1] if run else run_in_target[1].encode() if run_in_target else b""
        return cls(name, found) if name else None
