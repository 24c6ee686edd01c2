"""An environment of Lambda's managed instances: one process tree, and a Runtime API that hands out many invocations.

Its one rule: every invocation ends. One whose worker ends, or whose time is over, fails alone: the others go on, and so
does the worker that is late, whose answer is refused with a 410.
"""

import asyncio
import re
import time
from collections.abc import Callable

from local.http.server import Exchange, HttpServer
from local.http.wire import Headers
from local.lambda_ import ids
from local.lambda_.invocation import Failed, Invocation
from local.lambda_.runtime_api import RuntimeApi
from local.lambda_.sandboxes import Launch, SandboxError
from local.stack.processes import Child

_INVOCATION = re.compile("/2018-06-01/runtime/invocation/([^/]+)/(?:response|error)")
_NEXT = "/2018-06-01/runtime/invocation/next"
_STOP_SECONDS = 2.0
_RESTART_SECONDS = 1.0
_MOST_LATE = 10_000
_JSON: Headers = [("content-type", "application/json")]
_TIMED_OUT = b'{"errorMessage":"The invocation has timed out","errorType":"ErrorRuntimeInvokeTimeout"}'
_UNKNOWN = b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}'


class Environment:
    """Takes the place of a `SandboxPool`. `timeout` (seconds) is the function's, `report` tells a person."""

    def __init__(self, launch: Launch, function_arn: str, *, timeout: float, report: Callable[[str], None]) -> None:
        self._launch = launch
        self._function_arn = function_arn
        self._timeout = timeout
        self._report = report
        self._server = HttpServer(self._handle, lambda fault: (_JSON, fault.encode()))
        self._first = RuntimeApi()
        """Of the process before it has workers: it may say why it cannot start."""
        self._waiting: list[RuntimeApi] = []
        self._asked = asyncio.Event()
        self._at_work: dict[str, RuntimeApi] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._late: dict[str, None] = {}
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start the process and wait until a worker asks for its first invocation. Raises SandboxError."""
        address = f"127.0.0.1:{await self._server.start('127.0.0.1', 0)}"
        child = await self._start(address)
        asked = asyncio.create_task(self._asked.wait())
        await asyncio.wait({asked, child.exited}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not self._asked.is_set():
            await self.close()
            error = self._first.init_error or Failed("Runtime.ExitError" if child.exited.done() else "Sandbox.Timedout")
            text = f"the proxy did not start ({error.error_type}); see {self._launch.log}"
            raise SandboxError(error.error_type, text)
        self._keeper = asyncio.create_task(self._keep(child, address))

    async def invoke(self, event: bytes, trace_id: str) -> Invocation:
        """Hand `event` to a worker that waits; read the answer from the invocation. Raises SandboxError."""
        if not self._waiting:
            raise SandboxError("TooManyRequestsException", "all workers are busy")
        worker = self._waiting.pop(0)
        invocation = Invocation(ids.uuid4(), event, time.time() + self._timeout, self._function_arn, trace_id)
        self._at_work[invocation.request_id] = worker
        timer = asyncio.get_running_loop().call_later(self._timeout, self._end, invocation, Failed("Sandbox.Timedout"))
        self._timers[invocation.request_id] = timer
        worker.hand_over(invocation)
        return invocation

    async def close(self) -> None:
        """Stop the process and its workers; whatever they were doing ends."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._child is not None:
            await self._child.stop(_STOP_SECONDS)
        await self._server.close()

    async def _start(self, address: str) -> Child:
        environment = {**self._launch.environment, "AWS_LAMBDA_RUNTIME_API": address}
        try:
            self._child = await Child.start(self._launch.command, environment, self._launch.folder, self._launch.log)
        except OSError as error:
            await self._server.close()
            raise SandboxError("Runtime.InvalidEntrypoint", f"the proxy did not start: {error}") from error
        return self._child

    async def _keep(self, child: Child, address: str) -> None:
        """Start the process again whenever it ends."""
        while True:
            status = await asyncio.shield(child.exited)
            self._report(f"the environment {child.pid} ended (status {status}); see {self._launch.log}")
            await child.stop(0)
            await asyncio.sleep(_RESTART_SECONDS)
            child = await self._start(address)

    async def _handle(self, exchange: Exchange) -> None:
        answer = _INVOCATION.fullmatch(exchange.request.target)
        if exchange.request.target == _NEXT:
            await self._next(exchange)
        elif answer is None:
            await self._first.handle(exchange)
        elif worker := self._at_work.get(answer[1]):
            try:
                await worker.handle(exchange)
            finally:
                if worker.has_answered:
                    self._forget(answer[1])
        elif answer[1] in self._late:
            await exchange.respond(410, _JSON, _TIMED_OUT)
        else:
            await exchange.respond(400, _JSON, _UNKNOWN)

    async def _next(self, exchange: Exchange) -> None:
        worker = RuntimeApi()
        exchange.when_gone(lambda: self._gone(worker))
        self._waiting.append(worker)
        self._asked.set()
        await worker.handle(exchange)

    def _gone(self, worker: RuntimeApi) -> None:
        """A worker has closed its connection: it has ended, or else it asks again on another one."""
        if worker in self._waiting:
            self._waiting.remove(worker)
        invocation = worker.invocation
        if invocation and self._at_work.get(invocation.request_id) is worker and not worker.is_answering:
            self._end(invocation, Failed("Runtime.ExitError"))

    def _forget(self, request_id: str) -> None:
        self._at_work.pop(request_id, None)
        if timer := self._timers.pop(request_id, None):
            timer.cancel()

    def _end(self, invocation: Invocation, why: Failed) -> None:
        """Fail an invocation. Whatever its worker still says of it comes too late."""
        self._forget(invocation.request_id)
        self._late[invocation.request_id] = None
        while len(self._late) > _MOST_LATE:
            self._late.pop(next(iter(self._late)))
        invocation.end(why)
