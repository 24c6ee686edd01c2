"""Sandboxes as Lambda keeps them: one process per concurrent request, warm ones reused, broken ones replaced.

Its one rule: every invocation ends. A sandbox that exits or runs into the function's timeout ends its invocation with a
failure and is gone; the next request gets another sandbox.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from local.lambda_ import ids
from local.lambda_.invocation import Failed, Invocation
from local.lambda_.runtime_api import RuntimeApi
from local.stack.processes import Child

_STOP_SECONDS = 2.0
_DRAIN_SECONDS = 1.0
_REAP_SECONDS = 1.0


class SandboxError(Exception):
    """No sandbox can take an invocation. `error_type` is Lambda's name for the reason."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a sandbox: command, environment (AWS_LAMBDA_RUNTIME_API is added), folder and log file."""

    command: tuple[str | Path, ...]
    environment: Mapping[str, str]
    folder: Path
    log: Path


class Sandbox:
    """One process with its Runtime API. `idle_since` is monotonic seconds."""

    def __init__(self, child: Child, api: RuntimeApi) -> None:
        self._child = child
        self._api = api
        self.pid = child.pid
        self.exited = child.exited
        self.idle_since = 0.0
        self._ended: Callable[[bool], None] | None = None
        api.became_idle = self._became_idle
        self.exited.add_done_callback(lambda _: self._end(is_usable=False))

    @classmethod
    async def start(cls, launch: Launch, init_timeout: float) -> "Sandbox":
        """Start a process and wait until it asks for its first invocation. Raises SandboxError."""
        api = RuntimeApi()
        environment = {**launch.environment, "AWS_LAMBDA_RUNTIME_API": await api.start()}
        try:
            child = await Child.start(launch.command, environment, launch.folder, launch.log)
        except OSError as error:
            await api.close()
            raise SandboxError("Runtime.InvalidEntrypoint", f"the proxy did not start: {error}") from error
        sandbox = cls(child, api)
        if not await sandbox._is_idle_within(init_timeout):
            error = api.init_error or Failed("Runtime.ExitError" if sandbox.exited.done() else "Sandbox.Timedout")
            await sandbox.stop()
            raise SandboxError(error.error_type, f"the proxy did not start ({error.error_type}); see {launch.log}")
        return sandbox

    def has_ended(self) -> bool:
        """Whether the process runs no more."""
        return self._child.has_ended()

    def hand_over(self, invocation: Invocation, ended: Callable[[bool], None]) -> None:
        """Begin an invocation. `ended` is called once, when the work after its response is done too.

        False: the process ended or the time is over, and the invocation is to be failed by `fail`.
        """
        self._ended = ended
        seconds = max(0.0, invocation.deadline - time.time())
        self._timer = asyncio.get_running_loop().call_later(seconds, lambda: self._end(is_usable=False))
        self._api.hand_over(invocation)

    async def fail(self, invocation: Invocation) -> None:
        """Fail an invocation that its runtime did not end, and stop the sandbox."""
        if self.exited.done():
            if self._api.is_answering:
                # What the process wrote before it ended is still on its way through the socket.
                await invocation.wait_closed(_DRAIN_SECONDS)
            await invocation.put(Failed("Runtime.ExitError"))
        else:
            self._child.kill()
            await invocation.put(Failed("Sandbox.Timedout"))
        await self.stop()

    async def stop(self) -> None:
        """End the process: ask it to, and kill it if it has not ended a moment later."""
        await self._child.stop(_STOP_SECONDS)
        await self._api.close()

    async def _is_idle_within(self, seconds: float) -> bool:
        idle = asyncio.create_task(self._api.idle.wait())
        await asyncio.wait({idle, self.exited}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        return self._api.idle.is_set() and not self.exited.done()

    def _became_idle(self) -> None:
        self._end(is_usable=not self.exited.done())

    def _end(self, *, is_usable: bool) -> None:
        if self._ended is not None:
            self._timer.cancel()
            ended, self._ended = self._ended, None
            ended(is_usable)


class Bounds(NamedTuple):
    """How many sandboxes a function has at most, which is its concurrency, and how long an idle one is kept."""

    most: int = 100
    idle_seconds: float = 300.0


_USUAL = Bounds()


class SandboxPool:
    """All sandboxes of one function. `timeout` (seconds) is the function's, `report` tells a person."""

    def __init__(
        self,
        launch: Launch,
        function_arn: str,
        *,
        timeout: float,
        report: Callable[[str], None],
        bounds: Bounds = _USUAL,
    ) -> None:
        self._launch = launch
        self._function_arn = function_arn
        self._timeout = timeout
        self._report = report
        self._bounds = bounds
        self._warm: list[Sandbox] = []
        # More starts at once than there are processors would only slow each other down.
        self._starting = asyncio.Semaphore(os.cpu_count() or 1)
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._live: set[Sandbox] = set()
        self._closed = False

    async def open(self) -> None:
        """Start one sandbox, so that a proxy that cannot start is known at once. Raises SandboxError."""
        self._release(await self._start_or_take())
        self._in_background(self._stop_idle())

    async def invoke(self, event: bytes, trace_id: str) -> Invocation:
        """Run `event` in a sandbox of its own; read the answer from the invocation. Raises SandboxError."""
        sandbox = self._take() or await self._start_or_take()
        deadline = time.time() + self._timeout
        invocation = Invocation(ids.uuid4(), event, deadline, self._function_arn, trace_id)
        # No task is made for it, so the event is sent sooner, and the first byte of the answer comes sooner.
        sandbox.hand_over(invocation, lambda is_usable: self._finish(sandbox, invocation, is_usable=is_usable))
        return invocation

    async def close(self) -> None:
        """Stop every sandbox; whatever they were doing ends."""
        self._closed = True
        await asyncio.gather(*(sandbox.stop() for sandbox in self._live))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _start_or_take(self) -> Sandbox:
        """Start a sandbox, or take one that became free while this start waited for its turn."""
        if self._count >= self._bounds.most:
            raise SandboxError("TooManyRequestsException", f"all {self._bounds.most} sandboxes are busy")
        self._count += 1
        try:
            async with self._starting:
                if sandbox := self._take():
                    self._count -= 1
                    return sandbox
                return await self._start()
        except BaseException:
            self._count -= 1
            raise

    def _take(self) -> Sandbox | None:
        """A warm sandbox. One that has just ended stays where it is until the pool hears of it."""
        running = (at for at in reversed(range(len(self._warm))) if not self._warm[at].has_ended())
        at = next(running, None)
        return None if at is None else self._warm.pop(at)

    async def _start(self) -> Sandbox:
        sandbox = await Sandbox.start(self._launch, self._timeout)
        self._live.add(sandbox)
        sandbox.exited.add_done_callback(lambda _: self._gone(sandbox))
        if self._closed:
            await sandbox.stop()
        return sandbox

    def _finish(self, sandbox: Sandbox, invocation: Invocation, *, is_usable: bool) -> None:
        if is_usable:
            self._release(sandbox)
        else:
            self._in_background(self._fail(sandbox, invocation))

    async def _fail(self, sandbox: Sandbox, invocation: Invocation) -> None:
        await sandbox.fail(invocation)
        if not self._closed:
            status = sandbox.exited.result()
            self._report(
                f"sandbox {sandbox.pid} ended in the middle of a request (status {status}); see {self._launch.log}"
            )

    def _release(self, sandbox: Sandbox) -> None:
        sandbox.idle_since = time.monotonic()
        self._warm.append(sandbox)

    def _gone(self, sandbox: Sandbox) -> None:
        self._count -= 1
        self._live.discard(sandbox)
        if sandbox in self._warm and not self._closed:
            self._warm.remove(sandbox)
            self._in_background(sandbox.stop())
            self._report(f"idle sandbox {sandbox.pid} ended; the next request starts another")

    async def _stop_idle(self) -> None:
        while True:
            await asyncio.sleep(_REAP_SECONDS)
            before = time.monotonic() - self._bounds.idle_seconds
            stale = [sandbox for sandbox in self._warm if sandbox.idle_since < before]
            self._warm = [sandbox for sandbox in self._warm if sandbox not in stale]
            await asyncio.gather(*(sandbox.stop() for sandbox in stale))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
