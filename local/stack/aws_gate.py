"""Stands between a caller and MiniStack. It limits how many invocations of functions run at once, and refuses calls of
PutEvents that AWS would refuse for their size; everything else passes.

MiniStack starts a process for each concurrent invocation and unpacks the function's code for it, some seconds of CPU on
a small machine. Twenty requests that ask the authorizer at once would each wait for a process of their own, longer than
the proxy waits; in a short queue for two that run they are served in a moment. Lambda has more processors.
"""

import asyncio
import contextlib
import json
from typing import Any

import httpx

from local.faults.call import call_of
from local.faults.injection import inject
from local.faults.rules import Faults
from local.http.server import Exchange, HttpServer
from local.http.wire import Headers

_INVOCATIONS = "/2015-03-31/functions/"
_MAX_BODY_BYTES = 16 * 1024 * 1024
_TIMEOUT_SECONDS = 60.0
_PUT_EVENTS = "AWSEvents.PutEvents"
_MOST_ENTRIES = 10
_MOST_BYTES_OF_ENTRIES = 256 * 1024
"""All entries of one call together have to stay below. Newer documents of AWS say 1 MB: this holds everywhere."""
_BYTES_OF_TIME = 14
_NOT_PASSED_ON = ("connection", "content-length", "transfer-encoding", "keep-alive", "host")


class AwsGate:
    """A forwarding server. `limit` invocations of functions run at once; the others wait for their turn.

    `caller` is who calls through this gate: `proxy` or `functions`. Its calls go wrong as `faults` says.
    """

    def __init__(self, endpoint: str, limit: int, caller: str = "proxy", faults: Faults | None = None) -> None:
        self._caller, self._faults = caller, faults
        self._http = httpx.AsyncClient(base_url=endpoint, timeout=_TIMEOUT_SECONDS, trust_env=False)
        self._turns = asyncio.Semaphore(limit)
        self._server = HttpServer(self._forward, lambda fault: ([], fault.encode()))

    async def start(self, host: str) -> str:
        """Listen on a free port. Returns the address: the sandboxes' AWS_ENDPOINT_URL."""
        return f"http://{host}:{await self._server.start(host, 0)}"

    async def close(self) -> None:
        """Stop listening."""
        await self._server.close()
        await self._http.aclose()

    async def _forward(self, exchange: Exchange) -> None:
        request = exchange.request
        body = await exchange.body(_MAX_BODY_BYTES)

        async def execute() -> tuple[int, Headers, bytes]:
            headers = [(name, value) for name, value in request.headers if name not in _NOT_PASSED_ON]
            async with self._turns if request.target.startswith(_INVOCATIONS) else contextlib.nullcontext():
                answer = await self._http.request(request.method, request.target, headers=headers, content=body)
            returned = [(name, value) for name, value in answer.headers.items() if name not in _NOT_PASSED_ON]
            return answer.status_code, returned, answer.content

        try:
            if self._faults:
                call = call_of(request.method, request.target, request.header("x-amz-target") or "", body)
                if rule := self._faults.strike(call, self._caller):
                    await inject(rule, call, exchange, execute)
                    return
            refusal = _refusal(body) if request.header("x-amz-target") == _PUT_EVENTS else None
            await exchange.respond(*(refusal or await execute()))
        except httpx.TransportError:
            exchange.cut()


def _refusal(body: bytes) -> tuple[int, Headers, bytes] | None:
    """What AWS answers to a call of PutEvents that has too many entries, or too large ones; None for a fit one.

    A call that is too large is refused whole. What cannot be read is MiniStack's to refuse.
    """
    try:
        entries: list[dict[str, Any]] = json.loads(body)["Entries"]
        size = sum(map(entry_size, entries))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    if len(entries) > _MOST_ENTRIES:
        message = "1 validation error detected: 'entries' failed to satisfy constraint: length must be 10 or less"
    elif size >= _MOST_BYTES_OF_ENTRIES:
        message = "Total size of the entries in the request is over the limit."
    else:
        return None
    said = json.dumps({"__type": "ValidationException", "message": message}).encode()
    return 400, [("content-type", "application/x-amz-json-1.1")], said


def entry_size(entry: dict[str, Any]) -> int:
    """The bytes of one entry as AWS counts them: 14 for a time, and the UTF-8 of source, type, detail and resources.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html
    """
    texts = [entry.get("Source"), entry.get("DetailType"), entry.get("Detail"), *(entry.get("Resources") or ())]
    size = sum(len(text.encode(errors="surrogatepass")) for text in texts if text)
    return size + (_BYTES_OF_TIME if entry.get("Time") is not None else 0)
