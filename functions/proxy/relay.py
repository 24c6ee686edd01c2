"""The hot path: one request from its event to its last byte, and then its one event. Read it from the top.

    bytes ─▶ InferenceRequest ─▶ ClientKey ─▶ Server ─▶ cached response │ upstream chunks ─▶ client, chunk by chunk
                                                                                          ─▶ terminal event

Its one rule: nothing is done between two chunks that the next chunk could wait for, and nothing is published before
the client has its last byte.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from openai_proxy.events.envelope import Event

from proxy.access.authenticator import Doorkeeper
from proxy.deadlines import for_client, for_event, for_servers
from proxy.endpoints.responder import Answers, Response
from proxy.errors import ProxyError, UnavailableError, UpstreamError
from proxy.http.transport import Answer
from proxy.inference import Inference
from proxy.json_shapes import object_of
from proxy.limits.table import LimitsTable
from proxy.log import log, place_of
from proxy.metering.cost import HEADER as HEADER_OF_COST
from proxy.metering.meter import Meter
from proxy.metering.scan import may_report_error
from proxy.metering.sse import EventFrames, WholeChunks
from proxy.records.records import Records
from proxy.request.body import RequestBody
from proxy.request.key_context import ClientKey
from proxy.request.parse import InferenceRequest, Target, parse, target_of
from proxy.request.routing import Candidate, Routes
from proxy.upstream.attempts import Attempts, Call, retry_after
from proxy.upstream.opened import OpenedAnswer
from proxy.upstream.response import broken_off, coding_left, content_type, error_body, returned_headers

if TYPE_CHECKING:  # loaded only where it is switched on, or asked for
    from proxy.cache.replay import Replay
    from proxy.cache.response_cache import ResponseCache
    from proxy.endpoints.playground import Playground
    from proxy.endpoints.routes import OwnPaths

_KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients skip. It keeps what is between from giving up on a server that thinks."""


class Switches(NamedTuple):
    """What most sandboxes do without. `cache` gives the response cache, which it loads when it is first asked."""

    playground: "Playground | None" = None
    cache: "Callable[[], ResponseCache] | None" = None


class Relay:
    """Serves requests, one at a time. Everything it needs is handed to it."""

    def __init__(
        self,
        routes: Routes,
        doorkeeper: Doorkeeper,
        limits: LimitsTable,
        attempts: Attempts,
        own_paths: "Callable[[], OwnPaths]",
        records: Records,
        answers: Answers,
        switches: Switches | None = None,
    ) -> None:
        self._routes = routes
        self._doorkeeper = doorkeeper
        self._limits = limits
        self._attempts = attempts
        self._own_paths = own_paths
        self._records = records
        self._answers = answers
        switches = switches or Switches()
        self._playground, self._cache = switches.playground, switches.cache

    def serve(self, event: Any, response: Response, deadline: float, trace_id: str | None = None) -> None:
        """Answer one event through `response`, whatever happens. `deadline` is in Unix seconds."""
        inference = self._records.begin()
        try:
            inference.request = request = parse(event)
            object_of(event).pop("body", None)  # the request has its bytes: megabytes would be held twice
            if request.method == "OPTIONS":
                self._answers.preflight(request, response)
                return
            if self._playground and self._playground.serve(request, response):
                return
            key = self._doorkeeper.authorize(request)
            inference.authorized, inference.key = time.perf_counter(), key
            latest = for_servers(deadline, inference.started_at)
            if latest <= time.time():
                raise UnavailableError(504, "deadline_exceeded", "The request came when its time was over.")
            self._relay(request, key, response, latest, inference)
        except ProxyError as error:
            self._answers.error(inference, response, error)
        except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer, the bus its event
            self._answers.internal_error(inference, response, error)
        if response.fault and (inference.error is None or inference.error.code == "deadline_exceeded"):
            inference.error = response.fault  # time goes by while a client does not take what is there
        if inference.taken:
            until = for_client(deadline, inference.started_at)
            inference.taken = self._limits.release(inference.taken, inference.spent, until)
        if inference.key:
            deadline = for_event(deadline, inference.started_at)
            captured = self._captured(inference, deadline)
            self._records.keep(inference, deadline, trace_id, captured)
            if captured and self._cache:
                self._cache().published(inference, captured)
        else:
            self._records.unauthorized(inference)

    def _relay(
        self, request: InferenceRequest, key: ClientKey, response: Response, deadline: float, inference: Inference
    ) -> None:
        inference.target = target = target_of(request.path)
        if target.server is None and request.method == "GET":
            document = self._own_paths().document(target, key, inference)
            if document is not None:
                self._answers.document(inference, response, document)
                return
        if "content-encoding" in request.headers:
            from proxy.request.coding import unpacked  # noqa: PLC0415  # few clients pack what they send

            inference.request = request = unpacked(request)
        asked = RequestBody(request, target)
        inference.end_user = asked.end_user
        candidates = self._routes.candidates(target, asked, key)
        if key.limits:
            inference.passed("request")
            inference.taken = taken = self._limits.take(key.limits, inference.id, asked, candidates, deadline)
            inference.passed("limits")
            if taken.refused:
                raise taken.refused
        cached = self._cached(request, asked, candidates[0], key, inference, deadline)
        if cached is not None:
            self._replay(cached, response, inference)
        else:
            if "only-if-cached" in request.headers.get("cache-control", "").lower():
                from proxy.cache.control import check_may_be_fetched  # noqa: PLC0415  # hardly any request says so

                check_may_be_fetched(request.headers)
            self._stream(request, target, asked, candidates, response, inference, deadline)
        response.end()

    def _cached(
        self,
        request: InferenceRequest,
        asked: RequestBody,
        candidate: Candidate,
        key: ClientKey,
        inference: Inference,
        deadline: float,
    ) -> "Replay | None":
        """The answer that the response cache has. Where no policy is on, nothing is asked, nor even loaded."""
        if self._cache is None or not (key.cache or candidate.server.cache):
            return None
        cached = self._cache().find(request, asked, candidate, key, inference, deadline)
        inference.passed("cache")
        if cached is not None:
            inference.status, inference.server = 200, candidate.server.name
            inference.body = asked.outgoing(candidate.server.model, candidate.replacement)
        return cached

    def _replay(self, cached: "Replay", response: Response, inference: Inference) -> None:
        """Pass on a stored answer as if a server had given it."""
        inference.meter = meter = Meter(
            cached.content_type.lower(),
            uses_tokens=False,
            hides_usage=inference.hides_usage,
            one_choice=inference.one_choice,
        )
        response.start(200, self._answers.headers(inference, {"content-type": cached.content_type}))
        for piece in self._records.watched(inference, cached.pieces(), cached.content_type):
            inference.first_chunk = inference.first_chunk or time.perf_counter()
            response.write(meter.see(piece))
        meter.end()
        if meter.is_stream and inference.wants_receipt:
            response.write(self._answers.receipt_comment(inference))

    def _stream(
        self,
        request: InferenceRequest,
        target: Target,
        asked: RequestBody,
        candidates: Sequence[Candidate],
        response: Response,
        inference: Inference,
        deadline: float,
    ) -> None:
        """Ask a server, and pass on what it answers."""

        def begin(answer: Answer) -> None:
            self._begin(answer, response, inference)

        call = Call(request, target, asked, deadline, begin)
        with self._attempts.answer(call, candidates, inference) as opened:
            answer, body = opened.answer, opened.body
            try:
                if answer.status >= 300:
                    inference.status, inference.retry_after = answer.status, retry_after(answer.headers)
                    body = error_body(answer, opened.server.name, inference.token)
                body = self._visible(body, asked, opened, inference)
                body = self._records.watched(inference, body, opened.content_type)
                if inference.flight:
                    body = inference.flight.watched(body, returned_headers(answer), answer.headers)
                if not response.started:
                    self._start(answer, response, inference)
                self._pass_on(opened, body, response, inference)
            finally:
                inference.upstream_waited += answer.waited()

    def _visible(
        self, body: Iterable[bytes], asked: RequestBody, opened: OpenedAnswer, inference: Inference
    ) -> Iterable[bytes]:
        """The body, or of a list of models what a key may see that is held to some. Raises UpstreamError."""
        key, server = inference.key, opened.server
        if asked.looks_up != "" or key is None or key.models is None or opened.status >= 300:
            return body
        from proxy.endpoints.models import allowed_models  # noqa: PLC0415  # few requests ask for a list

        return [allowed_models(body, server.name, lambda model: self._routes.name_for(model, server, key))]

    def _start(self, answer: Answer, response: Response, inference: Inference) -> None:
        """Status and headers, which wait for the first piece of the body."""
        inference.status, inference.retry_after = answer.status, retry_after(answer.headers)
        inference.upstream_waited += answer.waited()
        response.start(answer.status, self._answers.headers(inference, returned_headers(answer)))

    def _begin(self, answer: Answer, response: Response, inference: Inference) -> None:
        """Status and headers at once: the server lets wait for its first piece."""
        self._start(answer, response, inference)
        response.flush()
        if content_type(answer).startswith("text/event-stream"):
            answer.on_silence = lambda: response.write(_KEEP_ALIVE)

    def _captured(self, inference: Inference, deadline: float) -> list[Event]:
        """The answer for the response cache, if it is to be kept; the client has it by now."""
        if self._cache is None or inference.flight is None:
            return []
        inference.ended = time.perf_counter()
        try:
            return self._cache().captured(inference, deadline)
        except Exception as error:  # noqa: BLE001  # the outermost edge: the request has been served
            name, where = type(error).__name__, place_of(error)
            log("ERROR", "An answer was not cached", id=inference.id, error=name, trace=where)
            return []

    def _pass_on(self, opened: OpenedAnswer, body: Iterable[bytes], response: Response, inference: Inference) -> None:
        """The loop that everything else is arranged around: a chunk is only glanced at before it goes out."""
        answer, is_success = opened.answer, opened.status < 400
        inference.stated_cost = answer.headers.get(HEADER_OF_COST, "")
        inference.meter = meter = Meter(
            opened.content_type,
            inference.uses_tokens and is_success,
            says_its_end=inference.says_its_end and is_success,
            hides_usage=inference.hides_usage,
            one_choice=inference.one_choice,
            is_packed=coding_left(answer),
        )
        frames = EventFrames() if meter.is_stream else WholeChunks()
        if meter.is_stream:
            answer.on_silence = lambda: response.write(_KEEP_ALIVE)
        broken: UpstreamError | None = None
        try:
            for chunk in body:
                if not inference.first_chunk:
                    inference.first_chunk = time.perf_counter()
                if events := frames.whole(chunk):
                    response.write(meter.see(events))
        except UpstreamError as error:
            broken = error
        rest = frames.rest()
        if broken and (meter.error or not may_report_error(rest)):
            rest = b""  # half an event
        if rest:
            rest = meter.see(rest)
        meter.end(opened.document)
        if meter.error is None and (broken or meter.is_cut):  # else the client has the server's own error
            broken = broken or broken_off(opened.server.name)
            self._attempts.judge(opened.server, 0 if broken.code == "deadline_exceeded" else broken.status)
            if frames.is_inside:
                response.write(b"\n\n")  # so that the error is an event of its own
            raise broken
        if is_success:
            self._attempts.judge(opened.server, meter.error.status or 0 if meter.error else 0)
        response.write(rest)
        if meter.is_stream and not rest and inference.wants_receipt:
            response.write(self._answers.receipt_comment(inference))
