"""The Lambda Runtime API: a connection to it, and the answer to one invocation as it goes out.

Its one rule: no wait is longer than the invocation's time. Only the wait for the next invocation may last for ever.

Protocol: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html and
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html (response streaming).
"""

import base64
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from proxy.errors import ClientError, ProxyError, UnavailableError
from proxy.http.http1 import Connection
from proxy.http.pool import is_quiet, open_socket
from proxy.http.wire import Head, HttpError, SilenceError, request_head
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
_REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_INVOCATION_ID = "lambda-runtime-invocation-id"
_INVOCATION_IDS = re.compile(r"[!-~]{1,256}")
_MOMENT = re.compile(r"[0-9]{1,15}")
_USUAL_TIME = 900.0
_LONGEST_TIME = 5400.0
"""Seconds that an invocation may take: on Lambda itself, and on its managed instances."""
_WHOLE_EVENT = 30.0
"""Seconds for an event of up to 8 MB whose beginning is there."""
_TIME_FOR_AN_ERROR = 1.0
_GONE = 410
"""The status for what comes when its invocation has timed out."""
_LARGE = 65536


class Invocation(NamedTuple):
    """One invocation: the event, and what the handler may know about the invocation. `deadline` is in Unix seconds.

    Two invocations may have the same `id`, because callers choose it; `once` (of July 2026, absent before) is of this
    one alone. It goes back with the answer, so that a late answer of an invocation that timed out reaches no other.
    """

    id: str
    event: Any
    deadline: float
    trace_id: str | None
    once: str = ""

    @property
    def headers_of_answer(self) -> dict[str, str]:
        """The headers that each answer to the invocation has to carry."""
        return {_INVOCATION_ID: self.once} if self.once else {}


def invocation_of(head: Head, body: bytes | bytearray, now: float) -> Invocation | None:
    """The invocation in an answer to `/next`; None if it has no id under which it could be answered.

    A deadline that is missing, unreadable or impossibly far away is replaced by the usual one.
    """
    request_id = head.headers.get("lambda-runtime-aws-request-id", "")
    if not _REQUEST_ID.fullmatch(request_id):
        return None
    told = head.headers.get("lambda-runtime-deadline-ms", "")
    deadline = int(told) / 1000 if _MOMENT.fullmatch(told) else math.inf
    if deadline > now + _LONGEST_TIME:
        deadline = now + _USUAL_TIME
    # An event that is no JSON is no HTTP request either, which the handler says.
    trace_id, once = head.headers.get("lambda-runtime-trace-id"), head.headers.get(_INVOCATION_ID, "")
    return Invocation(
        request_id, loads_or_none(body), deadline, trace_id, once if _INVOCATION_IDS.fullmatch(once) else ""
    )


class RuntimeApi:
    """The connection to the Runtime API: one at a time, opened again when the other side has closed it.

    Sending and receiving have to end by the moment `until` (of `time.monotonic`).
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None
        self.until = math.inf

    def ask(self, path: str) -> None:
        """Send a GET. Raises HttpError."""
        self._connected().send(request_head("GET", _API + path, self._address, {}, None))

    def start(
        self, path: str, headers: Mapping[str, str], length: int | None, body: bytes, more: bytes = b""
    ) -> Callable[[bytes], None]:
        """Send the head of a POST, `body` and `more`. Returns the function that sends the rest. Raises HttpError."""
        connection = self._connected()
        head = request_head("POST", _API + path, self._address, headers, length) + body
        if len(more) < _LARGE:
            connection.send(head + more)
        else:
            connection.send(head, more)
        return connection.send

    def _connected(self) -> Connection:
        """The connection: another one where the other side has closed it, or said something unasked."""
        if self._connection is not None and not is_quiet(self._connection):
            self.close()
        if self._connection is None:
            host, _, port = self._address.rpartition(":")
            self._connection = Connection(open_socket(host.strip("[]"), int(port), 5.0))
        self._connection.until = self.until
        return self._connection

    def answer(self, method: str) -> tuple[Head, bytearray]:
        """Read the answer to the request that was sent. Raises HttpError; then the connection is closed."""
        connection = self._connection
        if connection is None:
            raise HttpError("not connected")
        body = bytearray()
        try:
            head = connection.read_head()
            connection.until = min(self.until, time.monotonic() + _WHOLE_EVENT)
            for piece in connection.body(head, method):
                body += piece
        except HttpError:
            self.close()
            raise
        if not connection.reusable:
            self.close()
        return head, body

    def post_error(self, path: str, report: Mapping[str, Any], more: Mapping[str, str] | None = None) -> None:
        """Report an error, with `more` headers. Never raises: a report that is not accepted is logged."""
        body = json.dumps(report).encode()
        kind = {"content-type": "application/vnd.aws.lambda.error+json", _ERROR_TYPE.lower(): report["errorType"]}
        headers = {**kind, **(more or {})}
        self.until = max(self.until, time.monotonic() + _TIME_FOR_AN_ERROR)
        try:
            self.start(path, headers, len(body), body)
            head, said = self.answer("POST")
        except HttpError as error:
            self.close()
            log("ERROR", "The Runtime API did not take an error", error=repr(error))
        else:
            if head.status == _GONE:
                log("WARN", "An error came too late: its invocation was over")
            elif head.status >= 300:
                log("ERROR", "The Runtime API refused an error", status=head.status, answer=_text(said))

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class ResponseStream:
    """The answer to one invocation: `start` once, `write` any number of times, `end` once; or `fail` instead of `end`.

    If the answer cannot reach its client, nothing is raised: `broken` becomes true, `fault` says why, and the rest is
    dropped, because the handler still has to meter what the upstream server sends.
    """

    def __init__(self, api: RuntimeApi, invocation: Invocation) -> None:
        self._api = api
        self._invocation = invocation
        self._send: Callable[[bytes], None] = _nothing_started
        self._held = self._has_body = False
        self._may_have_body = True
        self.started = self.ended = self.broken = False
        self.fault: ProxyError | None = None

    def start(self, status: int, headers: Mapping[str, str], cookies: Sequence[str] = ()) -> None:
        """Set status and headers. They go out with the first piece of the body, or with `flush`.

        The prelude and its delimiter are two HTTP chunks: some implementations insist. They also insist on `cookies`,
        which AWS's own runtimes always send.
        """
        prelude = {"statusCode": status, "headers": dict(headers), "cookies": list(cookies)}
        self.started = True
        self._may_have_body = status not in (204, 304)
        opening = _chunk(json.dumps(prelude).encode()) + _chunk(_PRELUDE_END)
        path = f"/invocation/{self._invocation.id}/response"
        headers_of_stream = {**_STREAMING, **self._invocation.headers_of_answer}

        def begin(first: bytes) -> None:
            self._send = self._api.start(path, headers_of_stream, None, opening, first)
            self._held = False

        self._held, self._send = True, begin

    def flush(self) -> None:
        """Send status and headers now, because the first piece may take a long time."""
        if self._held and not self.broken:
            try:
                self._send(b"")
            except HttpError as error:
                self._break(error)

    def write(self, data: bytes) -> None:
        """Send a piece of the body now; of an empty one the head alone: an empty HTTP chunk would end the body."""
        if not data:
            self.flush()
        elif not self.broken:
            self._has_body = True
            try:
                self._send(b"%x\r\n%b\r\n" % (len(data), data))
            except HttpError as error:
                self._break(error)

    def end(self) -> None:
        """Finish the body: the client has its last byte when this returns."""
        if not self._has_body and self._may_have_body:
            # Function URL clients were left waiting for minutes by an answer without a single body byte:
            # https://github.com/aws/aws-lambda-nodejs-runtime-interface-client/issues/95
            self.write(b"\n")
        self._finish(b"0\r\n\r\n")

    def fail(self, error: BaseException) -> None:
        """Report `error`: by `/error` before the first byte, by trailers (which end the body) after it."""
        report = error_report(error)
        if self.started:
            body = base64.b64encode(json.dumps(report).encode()).decode()
            trailers = f"{_ERROR_TYPE}: {report['errorType']}\r\n{_ERROR_BODY}: {body}\r\n"
            self._finish(f"0\r\n{trailers}\r\n".encode())
        else:
            self.ended = True
            path = f"/invocation/{self._invocation.id}/error"
            self._api.post_error(path, report, self._invocation.headers_of_answer)

    def _finish(self, last: bytes) -> None:
        self.ended = True
        if self.broken:
            return
        try:
            self._send(last)
            head, body = self._api.answer("POST")
        except HttpError as error:
            self._break(error)
            return
        if head.status >= 300:
            self.broken, self.fault = True, _refused(head, body)

    def _break(self, error: HttpError) -> None:
        """Stop the answer. Lambda may have refused it already, and said why."""
        self.broken = True
        self.fault = ClientError(499, "client_gone", "The client went away before the end of the answer.")
        if not isinstance(error, SilenceError):
            try:
                head, body = self._api.answer("POST")
                if head.status >= 300:
                    self.fault = _refused(head, body)
            except HttpError as then:
                error = then
        if isinstance(error, SilenceError):
            self.fault = ClientError(499, "client_too_slow", "The client did not take the answer in time.")
        self._api.close()


def error_report(error: BaseException, error_type: str | None = None) -> dict[str, Any]:
    """The Runtime API's error object. It has no message, which stays in the log, because it may quote something that a
    client must not read.
    """
    name = re.sub("[^A-Za-z]", "", type(error).__name__)
    return {
        "errorMessage": "The function failed; its log has the details.",
        "errorType": error_type or f"Function.{name}",
        "stackTrace": [],
    }


def _refused(head: Head, body: bytearray) -> ProxyError:
    if head.status == _GONE:
        log("WARN", "A response came too late: its invocation was over")
    else:
        log("ERROR", "The Runtime API refused a response", status=head.status, answer=_text(body))
    return UnavailableError(502, "response_refused", "Lambda did not take the answer.")


def _text(body: bytearray) -> str:
    return body[:500].decode(errors="replace")


def _nothing_started(_: bytes) -> None:
    raise HttpError("no answer was started")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
