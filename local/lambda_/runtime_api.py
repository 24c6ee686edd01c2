"""The Lambda Runtime API, one server per sandbox, as the runtime interface of AWS behaves.

Its one rule: a runtime sees what it would see on Lambda, the refusals included. A second answer to an invocation or one
out of turn is a 403 `InvalidStateTransition`, another request's id a 400 `InvalidRequestID`, the answer to an earlier
invocation with the same request id a 410, an answer that is too large a 413.

Protocol: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html; states, codes and messages are those of AWS's
Runtime Interface Emulator (https://github.com/aws/aws-lambda-runtime-interface-emulator).
"""

import asyncio
import base64
import binascii
import contextlib
import json
import re
from collections.abc import Callable
from typing import Literal

from local.http.server import BodyTooLargeError, Exchange, HttpServer, PeerGoneError, TruncatedBodyError
from local.http.wire import Headers
from local.lambda_.invocation import Ended, Failed, Invocation, Started

MAX_RESPONSE_BYTES = 6 * 1024 * 1024 + 100
"""What Lambda takes of a buffered response. Streamed ones may be longer."""

_NEXT = "/2018-06-01/runtime/invocation/next"
_INIT_ERROR = "/2018-06-01/runtime/init/error"
_INVOCATION = re.compile("/2018-06-01/runtime/invocation/([^/]+)/(response|error)")
_INVOCATION_ID = "lambda-runtime-invocation-id"
_ERROR_TYPE = "lambda-runtime-function-error-type"
_ERROR_BODY = "lambda-runtime-function-error-body"
_VALID_ERROR_TYPE = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")
_TOO_LARGE = "Function.ResponseSizeTooLarge"

State = Literal[
    "Started",
    "InitError",
    "Ready",
    "Running",
    "InvocationResponse",
    "InvocationErrorResponse",
    "RuntimeResponseSentState",
]
"""The states, by the names that refusals quote."""


class RuntimeApi:
    """The Runtime API of one sandbox. Give it an invocation with `hand_over` whenever it is `idle`."""

    def __init__(self) -> None:
        self._server = HttpServer(self.handle, lambda fault: (_JSON, _error("InvalidRequest", fault)))
        self._state: State = "Started"
        self.invocation: Invocation | None = None
        """The invocation that the runtime got last."""
        self._asking: list[Exchange] = []
        self._handed_over = asyncio.Event()
        self.idle = asyncio.Event()
        """Set while the runtime waits for an invocation: it has started, or is done with the one before."""
        self.became_idle: Callable[[], None] = lambda: None
        """Called each time the runtime begins to wait."""
        self.init_error: Failed | None = None

    @property
    def is_answering(self) -> bool:
        """Whether the runtime has begun to post an answer and is not done with it."""
        return self._state in ("InvocationResponse", "InvocationErrorResponse")

    @property
    def has_answered(self) -> bool:
        """Whether the runtime has answered its invocation."""
        return self._state == "RuntimeResponseSentState"

    async def start(self) -> str:
        """Listen on a free port. Returns the value of AWS_LAMBDA_RUNTIME_API."""
        return f"127.0.0.1:{await self._server.start('127.0.0.1', 0)}"

    async def close(self) -> None:
        """Stop listening."""
        await self._server.close()

    def hand_over(self, invocation: Invocation) -> None:
        """Give the waiting runtime its next invocation: it is on its way at once, before any task has its turn."""
        assert self.idle.is_set(), "the runtime is busy"
        self.idle.clear()
        self.invocation = invocation
        self._state = "Running"
        for exchange in self._asking:
            with contextlib.suppress(PeerGoneError):  # it asks again, and gets this one; or it has ended
                exchange.hand_out(200, _next_headers(invocation), invocation.event)
        self._asking = []
        self._handed_over.set()
        self._handed_over = asyncio.Event()

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request of the runtime."""
        path = exchange.request.target
        answer = _INVOCATION.fullmatch(path)
        allowed = {_NEXT: "GET", _INIT_ERROR: "POST"}.get(path, "POST" if answer else None)
        if allowed is None:
            # Lambda has no /restore outside SnapStart either, and says so as Go's router does.
            await exchange.respond(404, [("content-type", "text/plain; charset=utf-8")], b"404 page not found\n")
        elif exchange.request.method != allowed:
            await exchange.respond(405, [("allow", allowed)], b"")
        elif answer:
            await self._answer(exchange, answer[1], answer[2])
        elif path == _NEXT:
            await self._next(exchange)
        else:
            await self._init_error(exchange)

    async def _next(self, exchange: Exchange) -> None:
        if self._state in ("Started", "Ready", "RuntimeResponseSentState"):
            self._state = "Ready"
            self._asking.append(exchange)
            self.idle.set()
            self.became_idle()
            await self._handed_over.wait()
        elif self._state == "Running":  # Lambda gives a runtime that asks again the same event again
            assert self.invocation is not None
            await exchange.respond(200, _next_headers(self.invocation), self.invocation.event)
        else:
            await self._refuse_transition(exchange, "Ready")

    async def _init_error(self, exchange: Exchange) -> None:
        report = await exchange.body(MAX_RESPONSE_BYTES)
        if self._state != "Started":
            await self._refuse_transition(exchange, "InitError")
            return
        self._state = "InitError"
        self.init_error = Failed(_error_type(exchange.request.header(_ERROR_TYPE)), report)
        await _accept(exchange)

    async def _answer(self, exchange: Exchange, request_id: str, kind: str) -> None:
        target: State = "InvocationResponse" if kind == "response" else "InvocationErrorResponse"
        if self.invocation is None or request_id != self.invocation.request_id:
            await _refuse(exchange, 400, "InvalidRequestID", "Invalid request ID")
        elif exchange.request.header(_INVOCATION_ID) not in (None, self.invocation.once):
            await _refuse(exchange, 410, "ErrorRuntimeInvokeTimeout", "The invocation has timed out")
        elif self._state != "Running":
            await self._refuse_transition(exchange, target)
        else:
            self._state = target
            await (self._response if kind == "response" else self._error)(exchange, self.invocation)

    async def _response(self, exchange: Exchange, invocation: Invocation) -> None:
        mode = exchange.request.header("lambda-runtime-function-response-mode")
        if mode not in (None, "streaming"):
            await invocation.put(Failed("Runtime.InvalidResponseModeHeader"))
            # The state stays: on Lambda, too, such a runtime has ended its sandbox.
            await _refuse(exchange, 400, "InvalidFunctionResponseMode", "Invalid function response mode")
            return
        content_type = exchange.request.header("content-type") or "application/octet-stream"
        try:
            if mode == "streaming":
                await self._streamed(exchange, invocation, content_type)
            else:
                body = await exchange.body(MAX_RESPONSE_BYTES)
                for part in (Started(content_type, streaming=False), body, Ended()):
                    await invocation.put(part)
        except BodyTooLargeError:
            message = f"Exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
            await invocation.put(Failed(_TOO_LARGE, _error(_TOO_LARGE, message)))
            await self._sent(exchange, 413, "RequestEntityTooLarge", message)
        except TruncatedBodyError:
            await invocation.put(Failed("Runtime.TruncatedResponse"))
            await self._sent(exchange, 400, "TruncatedHTTPRequest", "HTTP request detected as truncated")
        else:
            await self._sent(exchange)

    async def _streamed(self, exchange: Exchange, invocation: Invocation, content_type: str) -> None:
        await invocation.put(Started(content_type, streaming=True))
        async for chunk in exchange.chunks():
            await invocation.put(chunk)
        error_type = exchange.trailers.get(_ERROR_TYPE)
        if error_type is None:
            await invocation.put(Ended())
        else:
            report = _decoded(exchange.trailers.get(_ERROR_BODY, ""))
            await invocation.put(Failed(_error_type(error_type), report))

    async def _error(self, exchange: Exchange, invocation: Invocation) -> None:
        error_type = _error_type(exchange.request.header(_ERROR_TYPE))
        try:
            report = await exchange.body(MAX_RESPONSE_BYTES)
        except (TruncatedBodyError, BodyTooLargeError):
            report = b""
        await invocation.put(Failed(error_type, report))
        await self._sent(exchange)

    async def _sent(self, exchange: Exchange, status: int = 202, error_type: str = "", message: str = "") -> None:
        self._state = "RuntimeResponseSentState"
        if status == 202:
            await _accept(exchange)
        else:
            await _refuse(exchange, status, error_type, message)

    async def _refuse_transition(self, exchange: Exchange, target: State) -> None:
        transition = f"State transition from {self._state} to {target} failed for runtime."
        await _refuse(exchange, 403, "InvalidStateTransition", f"{transition} Error: State transition is not allowed")


_JSON: Headers = [("content-type", "application/json")]


def _next_headers(invocation: Invocation) -> Headers:
    return [
        ("Content-Type", "application/json"),
        ("Lambda-Runtime-Aws-Request-Id", invocation.request_id),
        ("Lambda-Runtime-Invocation-Id", invocation.once),
        ("Lambda-Runtime-Deadline-Ms", str(int(invocation.deadline * 1000))),
        ("Lambda-Runtime-Invoked-Function-Arn", invocation.function_arn),
        ("Lambda-Runtime-Trace-Id", invocation.trace_id),
    ]


async def _accept(exchange: Exchange) -> None:
    await exchange.respond(202, _JSON, b'{"status":"OK"}\n')


async def _refuse(exchange: Exchange, status: int, error_type: str, message: str) -> None:
    await exchange.respond(status, _JSON, _error(error_type, message))


def _error(error_type: str, message: str) -> bytes:
    return json.dumps({"errorMessage": message, "errorType": error_type}).encode()


def _error_type(value: str | None) -> str:
    """Lambda passes an error type on only in its own form."""
    if value and _VALID_ERROR_TYPE.fullmatch(value):
        return value
    return "Function.Unknown" if value and value.startswith("Function.") else "Runtime.Unknown"


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return b""
