"""The hot path: one request from its event to its last byte, and then its one event. Read it from the top.

    bytes ─▶ InferenceRequest ─▶ ClientKey ─▶ Server ─▶ upstream chunks ─▶ client, chunk by chunk ─▶ terminal event

Its one rule: nothing is done between two chunks that the next chunk could wait for, and nothing is published before
the client has its last byte.
"""

import re
import time
from collections.abc import Iterable
from typing import Any

from proxy.answers import Answers, Response
from proxy.attempts import Attempts, retry_after
from proxy.authorization import Authorizer
from proxy.body import RequestBody
from proxy.client_key import ClientKey
from proxy.errors import ClientError, ProxyError, UpstreamError
from proxy.inference import Inference
from proxy.log import log
from proxy.meter import Meter, has_news, without_usage_chunk
from proxy.model_list import ModelList
from proxy.publisher import Publisher
from proxy.request import InferenceRequest, parse, target_of
from proxy.routing import Routes
from proxy.sse import EventFrames, WholeChunks
from proxy.upstream import Answer

_RETURNED_HEADER = re.compile(r"content-(type|encoding|disposition)|retry-after(-ms)?|openai-.+|x-ratelimit-.+")
_CODINGS = ("gzip", "x-gzip", "deflate")
_READABLE = ("text/event-stream", "application/json")
_RESERVE = 3.0
"""Seconds kept from the invocation's time, or a fifth of a short one, to tell client and bus how the request ended."""

_KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients skip. It keeps what is between from giving up on a server that thinks."""


class Relay:
    """Serves requests, one at a time. Everything it needs is handed to it."""

    def __init__(
        self,
        routes: Routes,
        authorizer: Authorizer,
        attempts: Attempts,
        models: ModelList,
        publisher: Publisher,
        answers: Answers,
    ) -> None:
        self._routes = routes
        self._authorizer = authorizer
        self._attempts = attempts
        self._models = models
        self._publisher = publisher
        self._answers = answers

    def serve(self, event: Any, response: Response, deadline: float, trace_id: str | None = None) -> None:
        """Answer one event through `response`, whatever happens. `deadline` is in Unix seconds."""
        inference = Inference()
        try:
            inference.request = request = parse(event)
            if request.method == "OPTIONS":
                self._answers.preflight(request, response)
                return
            key = self._authorizer.authorize(request)
            inference.authorized, inference.client_id = time.perf_counter(), key.client_id
            reserve = min(_RESERVE, 0.2 * (deadline - inference.started_at))
            self._relay(request, key, response, deadline - reserve, inference)
        except ProxyError as error:
            self._answers.error(inference, response, error)
        except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer, the bus its event
            self._answers.internal_error(inference, response, error)
        if inference.client_id is not None:
            self._publisher.publish([inference.to_event()], deadline, trace_id)

    def _relay(
        self, request: InferenceRequest, key: ClientKey, response: Response, deadline: float, inference: Inference
    ) -> None:
        inference.target = target = target_of(request.path)
        if self._models.answers(request, target):
            self._answers.document(inference, response, self._models.document(target, key, inference))
            return
        body = RequestBody(request, target)
        candidates = self._routes.candidates(target, body, key)
        with self._attempts.answer(request, target, body, candidates, deadline, inference) as answer:
            inference.status, server = answer.status, inference.server or ""
            inference.retry_after = retry_after(answer.headers)
            refuse_unusable(answer, server)
            response.start(answer.status, self._answers.headers(inference, returned_headers(answer)))
            self._pass_on(answer, response, inference)
        response.end()
        if response.broken:
            raise ClientError(499, "client_gone", "The client went away before the end of the answer.")

    def _pass_on(self, answer: Answer, response: Response, inference: Inference) -> None:
        """The loop that everything else is arranged around: a chunk is only glanced at before it goes out."""
        hides_usage = inference.body is not None and inference.body.asks_usage_unasked
        inference.meter = meter = Meter(content_type(answer), inference.uses_tokens and answer.status < 400)
        frames = EventFrames() if meter.is_stream else WholeChunks()
        if meter.is_stream:
            answer.on_silence = lambda: response.write(_KEEP_ALIVE)
        inference.wait()
        for chunk in readable(answer, inference.server or ""):
            inference.heard_chunk()
            if events := frames.whole(chunk):
                is_news = has_news(events)
                response.write(without_usage_chunk(events) if is_news and hides_usage else events)
                meter.see(events, is_news=is_news)
            inference.wait()
        inference.heard()
        rest = frames.rest()
        if rest:
            meter.see(rest)
        meter.end()
        if meter.is_cut:
            message = f"The server '{inference.server}' ended its answer before it was complete."
            raise UpstreamError(502, "upstream_broken_off", message)
        response.write(without_usage_chunk(rest) if hides_usage else rest)


def content_type(answer: Answer) -> str:
    """The media type of `answer` in lower case, parameters and all."""
    return answer.headers.get("content-type", "").lower()


def packing(answer: Answer) -> str:
    """The content coding that is taken off `answer`, or ""."""
    coding = answer.headers.get("content-encoding", "").strip().lower()
    return coding if coding in _CODINGS and content_type(answer).startswith(_READABLE) else ""


def readable(answer: Answer, server: str) -> Iterable[bytes]:
    """The body of `answer` as it comes, or unpacked: no server was asked for a compressed one, some send it."""
    if not (coding := packing(answer)):
        return answer
    from proxy.compression import decompressed  # noqa: PLC0415  # few servers need it, and zlib takes time to load

    return decompressed(answer, coding, server)


def refuse_unusable(answer: Answer, server: str) -> None:
    """Raises UpstreamError for answers that must not reach the client as they are.

    A redirect could lead anywhere; a 401 would tell the client that *its* key is wrong, and quotes part of the
    provider's; an error that is not JSON is no OpenAI error.
    """
    status = answer.status
    if 300 <= status < 400:
        message = f"The server '{server}' answered with a redirect, which the proxy does not follow."
        raise UpstreamError(502, "upstream_redirect", message, upstream_status=status)
    if status == 401:
        log("ERROR", "A server refused the proxy's token", server=server)
        message = f"The server '{server}' refused the proxy's token. The proxy's owner has to renew it."
        raise UpstreamError(502, "upstream_authentication_failed", message, upstream_status=status)
    if status >= 400 and "json" not in content_type(answer):
        message = f"The server '{server}' answered {status} without an OpenAI error."
        raise UpstreamError(status, "upstream_error", message, upstream_status=status)


def returned_headers(answer: Answer) -> dict[str, str]:
    """The server's headers that a client may see, its request id under a name of its own; clean text only."""
    renamed = {"x-request-id": "x-upstream-request-id"}
    dropped = "content-encoding" if packing(answer) else None
    return {
        renamed.get(name, name): value
        for name, value in answer.headers.items()
        if (name in renamed or _RETURNED_HEADER.fullmatch(name)) and name != dropped and value.isprintable()
    }
