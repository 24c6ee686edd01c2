"""The hot path: one request from its event to its last byte, and then its one event. Read it from the top.

    bytes ─▶ InferenceRequest ─▶ ClientKey ─▶ Server ─▶ upstream chunks ─▶ client, chunk by chunk ─▶ terminal event

Its one rule: nothing is done between two chunks that the next chunk could wait for, and nothing is published before
the client has its last byte.
"""

import time
from collections.abc import Iterable
from typing import Any

from proxy.answers import Answers, Response
from proxy.attempts import Attempts, retry_after
from proxy.authorization import Doorkeeper
from proxy.body import RequestBody
from proxy.client_key import ClientKey
from proxy.errors import ClientError, ProxyError, UpstreamError
from proxy.inference import Inference
from proxy.limits import LimitsTable
from proxy.meter import Meter, find_news, without_usage_chunk
from proxy.own_paths import OwnPaths
from proxy.publisher import Publisher
from proxy.request import InferenceRequest, parse, target_of
from proxy.routing import Routes
from proxy.sse import EventFrames, WholeChunks
from proxy.upstream import Answer
from proxy.upstream_answer import content_type, returned_headers, usable_body

_RESERVE = 3.0
"""Seconds kept from the invocation's time, or a fifth of a short one, to tell client and bus how the request ended."""

_KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients skip. It keeps what is between from giving up on a server that thinks."""


class Relay:
    """Serves requests, one at a time. Everything it needs is handed to it."""

    def __init__(
        self,
        routes: Routes,
        doorkeeper: Doorkeeper,
        limits: LimitsTable,
        attempts: Attempts,
        own_paths: OwnPaths,
        publisher: Publisher,
        answers: Answers,
    ) -> None:
        self._routes = routes
        self._doorkeeper = doorkeeper
        self._limits = limits
        self._attempts = attempts
        self._own_paths = own_paths
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
            key = self._doorkeeper.authorize(request)
            inference.authorized, inference.key = time.perf_counter(), key
            reserve = min(_RESERVE, 0.2 * (deadline - inference.started_at))
            self._relay(request, key, response, deadline - reserve, inference)
        except ProxyError as error:
            self._answers.error(inference, response, error)
        except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer, the bus its event
            self._answers.internal_error(inference, response, error)
        if inference.taken:
            self._limits.release(inference.taken, inference.usage)
        if inference.key:
            self._publisher.publish([inference.to_event()], deadline, trace_id)

    def _relay(
        self, request: InferenceRequest, key: ClientKey, response: Response, deadline: float, inference: Inference
    ) -> None:
        inference.target = target = target_of(request.path)
        document = self._own_paths.document(request, target, key, inference)
        if document is not None:
            self._answers.document(inference, response, document)
            return
        asked = RequestBody(request, target)
        inference.end_user = asked.end_user
        candidates = self._routes.candidates(target, asked, key)
        if key.limits:
            inference.taken = self._limits.take(key.limits, inference.id, asked, candidates[0], deadline)
        with self._attempts.answer(request, target, asked, candidates, deadline, inference) as answer:
            inference.status, server = answer.status, inference.server or ""
            inference.retry_after = retry_after(answer.headers)
            must_be_json, asked_stream = inference.says_its_end, inference.asked_stream
            body = usable_body(answer, server, inference.token, must_be_json=must_be_json, asked_stream=asked_stream)
            response.start(answer.status, self._answers.headers(inference, returned_headers(answer)))
            self._pass_on(answer, body, response, inference)
        response.end()
        if response.broken:
            raise ClientError(499, "client_gone", "The client went away before the end of the answer.")

    def _pass_on(self, answer: Answer, body: Iterable[bytes], response: Response, inference: Inference) -> None:
        """The loop that everything else is arranged around: a chunk is only glanced at before it goes out."""
        hides_usage = inference.body is not None and inference.body.asks_usage_unasked
        is_success, asked_stream = answer.status < 400, inference.asked_stream
        uses_tokens, says_its_end = inference.uses_tokens and is_success, inference.says_its_end and is_success
        inference.meter = meter = Meter(
            content_type(answer), uses_tokens, says_its_end=says_its_end, asked_stream=asked_stream
        )
        frames = EventFrames() if meter.is_stream else WholeChunks()
        if meter.is_stream:
            answer.on_silence = lambda: response.write(_KEEP_ALIVE)
        inference.wait()
        for chunk in body:
            inference.heard_chunk()
            if events := frames.whole(chunk):
                news = find_news(events)
                response.write(events if news is None or not hides_usage else without_usage_chunk(events, news))
                meter.see(events, news)
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
        if meter.is_stream and not rest and inference.wants_receipt:
            response.write(self._answers.receipt_comment(inference))
