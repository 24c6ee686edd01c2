"""Between the sandboxes and MiniStack: everything passes, but only so many invocations of functions at once.

MiniStack starts a process for each concurrent invocation and unpacks the function's code for it, some seconds of CPU on
a small machine. Twenty requests that ask the authorizer at once would each wait for a process of their own, longer than
the proxy waits; in a short queue for two that run they are served in a moment. Lambda has more processors.
"""

import asyncio
import contextlib

import httpx

from local.http1 import Exchange, HttpServer

_INVOCATIONS = "/2015-03-31/functions/"
_MAX_BODY_BYTES = 16 * 1024 * 1024
_TIMEOUT_SECONDS = 60.0
_NOT_PASSED_ON = ("connection", "content-length", "transfer-encoding", "keep-alive", "host")


class AwsGate:
    """A forwarding server. `limit` invocations of functions run at once; the others wait for their turn."""

    def __init__(self, endpoint: str, limit: int) -> None:
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
        headers = [(name, value) for name, value in request.headers if name not in _NOT_PASSED_ON]
        try:
            async with self._turns if request.target.startswith(_INVOCATIONS) else contextlib.nullcontext():
                answer = await self._http.request(request.method, request.target, headers=headers, content=body)
        except httpx.TransportError:
            exchange.cut()
            return
        returned = [(name, value) for name, value in answer.headers.items() if name not in _NOT_PASSED_ON]
        await exchange.respond(answer.status_code, returned, answer.content)
