"""The hot path: one request from its event to its last byte, and then its one event. Read it from the top.

    bytes ─▶ InferenceRequest ─▶ ClientKey ─▶ Server ─▶ upstream chunks ─▶ client, chunk by chunk ─▶ terminal event

Its one rule: nothing is done between two chunks that the next chunk could wait for, and nothing is published before
the client has its last byte.
"""

import re
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from openai_proxy.servers import Server

from proxy.attempts import Attempts, retry_after
from proxy.authorization import Authorizer, ClientKey
from proxy.cors import Cors
from proxy.errors import ClientError, ProxyError, UnavailableError, UpstreamError
from proxy.inference import Inference
from proxy.log import log
from proxy.meter import Meter, without_usage_chunk
from proxy.publisher import Publisher
from proxy.request import InferenceRequest, Target, outgoing_body, parse, target_of
from proxy.sse import EventFrames, WholeChunks
from proxy.upstream import Answer

_RETURNED_HEADER = re.compile(r"content-(type|encoding|disposition)|retry-after(-ms)?|openai-.+|x-ratelimit-.+")
_RESERVE = 3.0
"""Seconds kept from the invocation's time, or a fifth of a short one, to tell client and bus how the request ended."""

_KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients skip. It keeps what is between from giving up on a server that thinks."""


class Response(Protocol):
    """Where the answer goes: streamed by `runtime`, or collected by `handler`."""

    @property
    def started(self) -> bool: ...
    @property
    def broken(self) -> bool: ...
    def start(self, status: int, headers: Mapping[str, str], cookies: Sequence[str] = ()) -> None: ...
    def write(self, data: bytes) -> None: ...
    def end(self) -> None: ...
    def fail(self, error: BaseException) -> None: ...


class Relay:
    """Serves requests, one at a time. Everything it needs is handed to it."""

    def __init__(
        self,
        servers: Mapping[str, Server],
        authorizer: Authorizer,
        attempts: Attempts,
        publisher: Publisher,
        cors: Cors,
    ) -> None:
        self._servers = servers
        self._authorizer = authorizer
        self._attempts = attempts
        self._publisher = publisher
        self._cors = cors

    def serve(self, event: Any, response: Response, deadline: float, trace_id: str | None = None) -> None:
        """Answer one event through `response`, whatever happens. `deadline` is in Unix seconds."""
        inference = Inference()
        try:
            inference.request = request = parse(event)
            if request.method == "OPTIONS":
                self._answer_preflight(request, response)
                return
            key = self._authorizer.authorize(request)
            inference.authorized, inference.client_id = time.perf_counter(), key.client_id
            reserve = min(_RESERVE, 0.2 * (deadline - inference.started_at))
            self._relay(request, key, response, deadline - reserve, inference)
        except ProxyError as error:
            self._answer_error(inference, response, error)
        except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer, the bus its event
            self._answer_internal_error(inference, response, error)
        if inference.client_id is not None:
            self._publisher.publish([inference.to_event()], deadline, trace_id)

    def _relay(
        self, request: InferenceRequest, key: ClientKey, response: Response, deadline: float, inference: Inference
    ) -> None:
        inference.target = target = target_of(request.path)
        servers = self._route(target, key)
        inference.server = servers[0].name
        inference.body = body = outgoing_body(request, target.operation, servers[0].model)
        check_model(key, body.model)
        with self._attempts.answer(request, target, body, servers, deadline, inference) as answer:
            inference.status, server = answer.status, inference.server or ""
            inference.retry_after = retry_after(answer.headers)
            refuse_unusable(answer, server)
            response.start(answer.status, self._headers_for(request, inference, returned_headers(answer)))
            self._pass_on(answer, response, inference)
        response.end()
        if response.broken:
            raise ClientError(499, "client_gone", "The client went away before the end of the answer.")

    def _pass_on(self, answer: Answer, response: Response, inference: Inference) -> None:
        """The loop that everything else is arranged around: each chunk goes out before it is looked at."""
        hides_usage = inference.body is not None and inference.body.asks_usage_unasked
        content_type = answer.headers.get("content-type", "")
        frames = WholeChunks()
        if content_type.startswith("text/event-stream"):
            frames = EventFrames()
            answer.on_silence = lambda: response.write(_KEEP_ALIVE)
        inference.meter = meter = Meter(content_type, inference.uses_tokens and answer.status < 400)
        inference.wait()
        for chunk in answer:
            inference.heard_chunk()
            if events := frames.whole(chunk):
                response.write(without_usage_chunk(events) if hides_usage else events)
                meter.see(events)
            inference.wait()
        inference.heard()
        if rest := frames.rest():
            response.write(without_usage_chunk(rest) if hides_usage else rest)
            meter.see(rest)
        meter.end()

    def _route(self, target: Target, key: ClientKey) -> list[Server]:
        """The server that the path names, and those of its fallbacks that the key may use instead."""
        server = self._servers.get(target.server)
        if server is None:
            raise ClientError(404, "unknown_server", f"There is no server '{target.server[:64]}' at this proxy.")
        if not key.may_use(server):
            message = f"This client key may not use the server '{server.name}'."
            raise ClientError(403, "server_not_allowed", message, type="permission_error")
        fallbacks = (self._servers[name] for name in server.fallbacks)
        return [server, *(other for other in fallbacks if key.may_use(other) and key.may_ask_for(other.model))]

    def _headers_for(
        self, request: InferenceRequest | None, inference: Inference, headers: Mapping[str, str]
    ) -> dict[str, str]:
        """Those of the answer, with what every answer of the proxy says: ids, what it cost in time, who may read it."""
        origin = request.headers.get("origin") if request else None
        own = {"x-request-id": inference.request_id, "x-inference-id": inference.id, "cache-control": "no-cache"}
        served = {"x-served-by": inference.server} if inference.server else {}
        if inference.attempts:
            served["x-attempts"] = str(len(inference.attempts))
        return {**headers, **own, **served, "server-timing": inference.server_timing, **self._cors.headers(origin)}

    def _answer_preflight(self, request: InferenceRequest, response: Response) -> None:
        response.start(200, self._cors.preflight(request.headers))
        response.end()

    def _answer_error(self, inference: Inference, response: Response, error: ProxyError) -> None:
        """Before the first byte a status and an error body; after it an error frame where the format has room."""
        inference.error = error
        if response.broken:
            return
        if not response.started:
            inference.status = error.status
            headers = {"content-type": "application/json", **error.headers}
            response.start(error.status, self._headers_for(inference.request, inference, headers))
            response.write(error.to_json())
            response.end()
        elif inference.meter is not None and inference.meter.is_stream:
            response.write(b"data: " + error.to_json() + b"\n\ndata: [DONE]\n\n")
            response.end()
        else:
            response.fail(error)

    def _answer_internal_error(self, inference: Inference, response: Response, error: Exception) -> None:
        trace = "".join(traceback.format_exception(error))
        log("ERROR", "A request failed inside the proxy", request_id=inference.id, trace=trace)
        message = "The proxy failed. Its owner finds the reason in its log."
        self._answer_error(inference, response, UnavailableError(500, "internal_error", message))


def check_model(key: ClientKey, model: str | None) -> None:
    """Raises ClientError (403) when `key` is limited to certain models and `model` is not among them."""
    if not key.may_ask_for(model):
        message = f"This client key may not use the model '{(model or '')[:128]}'."
        raise ClientError(403, "model_not_allowed", message, type="permission_error")


def refuse_unusable(answer: Answer, server: str) -> None:
    """Raises UpstreamError for answers that must not reach the client as they are.

    A redirect could lead anywhere; a 401 would tell the client that *its* key is wrong, and quotes part of the
    provider's; an error that is not JSON is no OpenAI error.
    """
    status, content_type = answer.status, answer.headers.get("content-type", "")
    if 300 <= status < 400:
        message = f"The server '{server}' answered with a redirect, which the proxy does not follow."
        raise UpstreamError(502, "upstream_redirect", message, upstream_status=status)
    if status == 401:
        log("ERROR", "A server refused the proxy's token", server=server)
        message = f"The server '{server}' refused the proxy's token. The proxy's owner has to renew it."
        raise UpstreamError(502, "upstream_authentication_failed", message, upstream_status=status)
    if status >= 400 and "json" not in content_type:
        message = f"The server '{server}' answered {status} without an OpenAI error."
        raise UpstreamError(status, "upstream_error", message, upstream_status=status)


def returned_headers(answer: Answer) -> dict[str, str]:
    """The server's headers that a client may see, its request id under a name of its own; clean text only."""
    renamed = {"x-request-id": "x-upstream-request-id"}
    return {
        renamed.get(name, name): value
        for name, value in answer.headers.items()
        if (name in renamed or _RETURNED_HEADER.fullmatch(name)) and value.isprintable()
    }
