"""A Lambda Runtime API loop that streams responses, which managed Python cannot.

Started by `bootstrap` (the function's exec wrapper) in place of the managed loop. Its one rule: whatever an
invocation does, exactly one answer is posted for it, and the next invocation is asked for only after the handler
has returned, so that work after the last byte is neither frozen nor lost.

Protocol: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html and
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html (response streaming).
"""

import base64
import gc
import importlib
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any, NoReturn

from proxy.connections import open_socket
from proxy.http1 import Connection
from proxy.http1_wire import Head, HttpError, request_head
from proxy.json_shapes import loads_or_none
from proxy.log import log

_API = "/2018-06-01/runtime"
_PRELUDE_END = b"\0" * 8
_ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY = "Lambda-Runtime-Function-Error-Body"
_STREAMING = {
    "content-type": "application/vnd.awslambda.http-integration-response",
    "lambda-runtime-function-response-mode": "streaming",
    "transfer-encoding": "chunked",
    "trailer": f"{_ERROR_TYPE}, {_ERROR_BODY}",
}


@dataclass(frozen=True, slots=True)
class Invocation:
    """One invocation: the event and what the handler may know of it. `deadline` is in Unix seconds, inf if untold."""

    id: str
    event: Any
    deadline: float
    trace_id: str | None


class RuntimeApi:
    """The connection to the Runtime API: one at a time, opened again when the other side has closed it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None

    def start(
        self, method: str, path: str, headers: Mapping[str, str], length: int | None, body: bytes
    ) -> Callable[[bytes], None]:
        """Send the head of a request and the beginning of its body. What it returns sends the rest. Raise HttpError."""
        if self._connection is None:
            host, _, port = self._address.rpartition(":")
            self._connection = Connection(open_socket(host.strip("[]"), int(port), 5.0))
        send = self._connection.send
        send(request_head(method, _API + path, self._address, headers, length) + body)
        return send

    def answer(self, method: str) -> tuple[Head, bytes]:
        """The answer to the request that was sent. Raises HttpError."""
        if self._connection is None:
            raise HttpError("not connected")
        head = self._connection.read_head()
        body = b"".join(self._connection.body(head, method))
        if not self._connection.reusable:
            self.close()
        return head, body

    def close(self) -> None:
        """Give the connection up; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class ResponseStream:
    """The answer to one invocation: `start` once, `write` any number of times, `end` once; or `fail` instead of `end`.

    A broken connection does not raise: `broken` becomes true and what follows is dropped, because the handler still
    has to meter what the upstream server sends.
    """

    def __init__(self, api: RuntimeApi, invocation: Invocation) -> None:
        self._api = api
        self._invocation = invocation
        self._send: Callable[[bytes], None] = _nothing_started
        self._held = self._has_body = False
        self._may_have_body = True
        self.started = False
        self.ended = False
        self.broken = False

    def start(self, status: int, headers: Mapping[str, str], cookies: Sequence[str] = ()) -> None:
        """Give status and headers. They go out with the first piece of the body, or with `flush`.

        The prelude and its delimiter are two HTTP chunks: some implementations insist.
        """
        prelude: dict[str, Any] = {"statusCode": status, "headers": dict(headers)}
        if cookies:
            prelude["cookies"] = list(cookies)
        self.started = True
        self._may_have_body = status not in (204, 304)
        opening = _chunk(json.dumps(prelude).encode()) + _chunk(_PRELUDE_END)
        path = f"/invocation/{self._invocation.id}/response"

        def begin(first: bytes) -> None:
            self._send = self._api.start("POST", path, _STREAMING, None, opening + first)
            self._held = False

        self._held, self._send = True, begin

    def flush(self) -> None:
        """Send status and headers now: nobody knows when the first piece will come."""
        if self._held and not self.broken:
            try:
                self._send(b"")
            except HttpError:
                self._break()

    def write(self, data: bytes) -> None:
        """Send one piece of the body now. Of an empty one only the head is: as an HTTP chunk it would end the body."""
        if not data:
            self.flush()
        elif not self.broken:
            self._has_body = True
            try:
                self._send(b"%x\r\n%b\r\n" % (len(data), data))
            except HttpError:
                self._break()

    def end(self) -> None:
        """Finish the body: the client has its last byte when this returns."""
        if not self._has_body and self._may_have_body:
            # Function URL clients were left waiting for minutes by an answer without a single body byte:
            # https://github.com/aws/aws-lambda-nodejs-runtime-interface-client/issues/95
            self.write(b"\n")
        self._finish(b"0\r\n\r\n")

    def fail(self, error: BaseException) -> None:
        """Report `error`: by `/error` before the first byte, by trailers (which end the body) after it."""
        report = _error_report(error)
        if self.started:
            body = base64.b64encode(json.dumps(report).encode()).decode()
            trailers = f"{_ERROR_TYPE}: {report['errorType']}\r\n{_ERROR_BODY}: {body}\r\n"
            self._finish(f"0\r\n{trailers}\r\n".encode())
        else:
            self.ended = True
            _post_error(self._api, f"/invocation/{self._invocation.id}/error", report)

    def _finish(self, last: bytes) -> None:
        self.ended = True
        if self.broken:
            return
        try:
            self._send(last)
            head, body = self._api.answer("POST")
        except HttpError:
            self._break()
            return
        if head.status >= 400:
            log("ERROR", "The Runtime API refused a response", status=head.status, answer=body.decode()[:500])

    def _break(self) -> None:
        self.broken = True
        self._api.close()


StreamHandler = Callable[[Invocation, ResponseStream], None]


class Runtime:
    """The loop: next invocation, handler, answer, again."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._api = RuntimeApi(environ["AWS_LAMBDA_RUNTIME_API"])
        self._waiting = False
        self._stopping = False

    def run(self) -> NoReturn:
        """Load the handler's module and serve invocations until the process is told to stop."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        module = self._load()
        handle: StreamHandler = module.stream
        if self._environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            self._snapshot(module)
        gc.freeze()  # what INIT has made stays: the collector need not look at it again and again
        while not self._stopping:
            invocation = self._next()
            response = ResponseStream(self._api, invocation)
            try:
                handle(invocation, response)
                if not response.ended:
                    raise RuntimeError("the handler returned without ending its response")
            except Exception as error:  # noqa: BLE001  # the outermost edge: the sandbox serves the next one
                log("ERROR", "The handler failed", error=type(error).__name__, trace=traceback.format_exc())
                if not response.ended:
                    response.fail(error)
        sys.exit(0)

    def _load(self) -> ModuleType:
        try:
            return importlib.import_module(self._environ["_HANDLER"].rpartition(".")[0])
        except BaseException as error:  # noqa: BLE001  # whatever it is, the owner has to read it
            log("CRITICAL", "The function could not start", error=str(error), trace=traceback.format_exc())
            report = _error_report(error, "Runtime.ImportModuleError" if isinstance(error, ImportError) else None)
            _post_error(self._api, "/init/error", report)
            sys.exit(1)

    def _next(self) -> Invocation:
        self._waiting = True
        self._api.start("GET", "/invocation/next", {}, None, b"")
        head, body = self._api.answer("GET")
        self._waiting = False
        if head.status != 200:
            raise RuntimeError(f"the Runtime API answered {head.status} to /next")
        trace_id = head.headers.get("lambda-runtime-trace-id")
        if trace_id:
            self._environ["_X_AMZN_TRACE_ID"] = trace_id
        else:
            self._environ.pop("_X_AMZN_TRACE_ID", None)
        return Invocation(
            id=head.headers["lambda-runtime-aws-request-id"],
            event=loads_or_none(body),  # what is no JSON is no HTTP request either: the handler says so
            deadline=float(head.headers.get("lambda-runtime-deadline-ms") or "inf") / 1000,
            trace_id=trace_id,
        )

    def _snapshot(self, module: ModuleType) -> None:
        """Wait over a SnapStart snapshot, then let the module renew what must not be shared by its copies."""
        self._api.start("GET", "/restore/next", {}, None, b"")
        self._api.answer("GET")
        try:
            module.after_restore()
        except Exception as error:  # noqa: BLE001  # as above
            log("CRITICAL", "The function could not be restored", trace=traceback.format_exc())
            report = _error_report(error, "Runtime.AfterRestoreError")
            _post_error(self._api, "/restore/error", report)
            sys.exit(65)

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._waiting:
            sys.exit(0)


def _nothing_started(_: bytes) -> None:
    raise HttpError("no answer was started")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _error_report(error: BaseException, error_type: str | None = None) -> dict[str, Any]:
    """The Runtime API's error object. The message stays in the log: it may quote what a client must not read."""
    name = re.sub("[^A-Za-z]", "", type(error).__name__)
    return {
        "errorMessage": "The function failed; its log has the details.",
        "errorType": error_type or f"Function.{name}",
        "stackTrace": [],
    }


def _post_error(api: RuntimeApi, path: str, report: dict[str, Any]) -> None:
    body = json.dumps(report).encode()
    headers = {"content-type": "application/vnd.aws.lambda.error+json", _ERROR_TYPE.lower(): report["errorType"]}
    try:
        api.start("POST", path, headers, len(body), body)
        api.answer("POST")
    except HttpError as error:
        api.close()
        log("ERROR", "The Runtime API did not take an error", error=repr(error))


if __name__ == "__main__":
    Runtime(os.environ).run()
