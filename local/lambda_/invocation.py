"""One event on its way through a sandbox, and its answer, from the Runtime API to the function URL.

Its one rule: an answer has one end, Ended or Failed, and nothing comes after it.
"""

import asyncio
import contextlib
import uuid
from collections import deque
from dataclasses import dataclass, field

_QUEUED_PARTS = 64


@dataclass(frozen=True, slots=True)
class Started:
    """The function began to answer. Whether it streams shows in `streaming`; chunks follow in both modes."""

    content_type: str
    streaming: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The function's answer is complete."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The invocation failed, before its answer began or in the middle of it. `report` is what the runtime posted."""

    error_type: str
    report: bytes = b""


Part = Started | bytes | Ended | Failed


@dataclass(slots=True)
class Invocation:
    """One event on its way through a sandbox, and the parts of its answer: the last one is Ended or Failed.

    `deadline` is in Unix seconds. `once` tells it from another one with the same request id.
    """

    request_id: str
    event: bytes
    deadline: float
    function_arn: str
    trace_id: str
    once: str = field(default_factory=lambda: str(uuid.uuid4()))
    _parts: deque[Part] = field(default_factory=deque[Part])
    _closed: asyncio.Event = field(default_factory=asyncio.Event)
    _arrival: asyncio.Future[None] | None = None
    """Done when a part has come; the reader waits for it."""
    _room: asyncio.Future[None] | None = None
    """Done when there is room again; the writer waits for it."""

    async def put(self, part: Part) -> None:
        """Pass a part on; it waits while the reader lags behind, but not with the last part. Parts after that are
        dropped.
        """
        if isinstance(part, (Ended, Failed)):
            self.end(part)
            return
        while len(self._parts) >= _QUEUED_PARTS and not self._closed.is_set():
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        if not self._closed.is_set():
            self._append(part)

    def end(self, part: Ended | Failed) -> None:
        """Pass the last part on."""
        if not self._closed.is_set():
            self._closed.set()
            if self._room is not None and not self._room.done():
                self._room.set_result(None)
            self._append(part)

    def _append(self, part: Part) -> None:
        self._parts.append(part)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def wait_closed(self, seconds: float) -> None:
        """Wait until the last part was put, but no longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)

    async def get(self) -> Part:
        """The next part."""
        while not self._parts:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        part = self._parts.popleft()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return part
