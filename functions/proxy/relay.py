"""The hot path: one request from its event to its last byte, and then its one event. Read it from the top.

    call = admit(event)                              parse, authenticate, route, reserve
    delivery = cache.find(call) or servers.ask(call)
    outcome = send(delivery, response)               chunk by chunk, metered
    records.keep(call, outcome)                      one terminal event

Its one rule: nothing between two chunks may delay the next one, and nothing is published before the client has its last
byte. What changes is the `Timeline` of a request, and what watches the bytes that pass: meter, recorder, capture.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from openai_proxy.key_context import CACHE_ONLY

from proxy.admission import Admission, as_proxy_error, received, refused
from proxy.call import Call
from proxy.deadlines import for_client, for_event
from proxy.delivery import ESCAPED, OFF, Delivery
from proxy.endpoints.responder import JSON, Responder, Response
from proxy.errors import ProxyError
from proxy.log import log, place_of
from proxy.metering.meter import AnswerTraits, Meter
from proxy.metering.scan import may_report_error
from proxy.metering.sse import EventFrames, WholeChunks
from proxy.outcome import UNREADABLE, Outcome, spent_of, usage_of
from proxy.records.records import Invocation, Records
from proxy.timeline import Timeline
from proxy.upstream.attempts import Attempts
from proxy.upstream.response import broken_off, coding_left

if TYPE_CHECKING:  # loaded only where it is switched on
    from openai_proxy.events.types import CapturedEvent

    from proxy.cache.fill import Lookup
    from proxy.cache.response_cache import ResponseCache
    from proxy.streams.streams import Streams

_KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients skip. It keeps proxies in between from giving up while a server thinks."""
_STREAM = "text/event-stream"


class Relay(NamedTuple):
    """Serves requests, one at a time. `cache` and `streams` are loaded when they are first asked for."""

    admission: Admission
    servers: Attempts
    responder: Responder
    records: Records
    cache: "Callable[[], ResponseCache] | None" = None
    streams: "Callable[[], Streams] | None" = None

    def serve(self, event: Any, response: Response, deadline: float, trace_id: str | None = None) -> None:
        """Answer one event through `response`, whatever happens. `deadline` is in Unix seconds."""
        timeline, is_first = self.records.begin()
        call = received(event, timeline, deadline)
        try:
            if call.request is not None and self.responder.serve(call.request, response):
                return
        except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer
            call = refused(call, error)
        if call.refused is None:
            call = self.admission.admit(call, timeline)
        call, streams = self._streams_for(call)
        if streams and call.asks_for_stream:
            streams.serve(call, self.responder, response, timeline)
            return
        self.records.admitted(call, timeline, trace_id)
        call, written = streams.begun(call, response, self.responder, timeline, trace_id) if streams else (call, None)
        response = written.response if written else response
        lookup = self._look_up(call, timeline)
        delivery = self._delivery(call, lookup, response, timeline)
        outcome = self._send(call, delivery, lookup, response, timeline)
        timeline.end()
        if written:
            outcome = outcome._replace(stream=written.finish(outcome, timeline))
        if call.key is None:
            self.records.unauthorized(call)
            return
        outcome = self._settled(call, outcome, timeline, deadline)
        invocation = Invocation(for_event(deadline, timeline.started_at), trace_id, is_first)
        try:
            if not (written and written.is_told()):
                captured = self._captured(call, lookup, outcome, invocation.deadline)
                self.records.keep(call, outcome, timeline, invocation, captured)
                if captured and self.cache and lookup and lookup.fill:
                    self.cache().published(lookup.fill, call, captured)
        finally:
            if written:
                written.close(invocation.deadline - timeline.unix(timeline.now()))

    def _streams_for(self, call: Call) -> "tuple[Call, Streams | None]":
        """What serves resumable streams, if the call is for them. If it cannot be built, the call goes no further."""
        if self.streams is None or not (call.asks_for_stream or call.wants_to_resume or call.wants_no_wait):
            return call, None
        try:
            return call, self.streams()
        except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer, the bus its event
            return refused(call, error), None

    def _look_up(self, call: Call, timeline: Timeline) -> "Lookup | None":
        """What the response cache has for a call. Where no policy is on, the cache is not asked, nor even loaded."""
        key, candidates = call.key, call.candidates
        if call.refused or self.cache is None or key is None or not candidates:
            return None
        if not (key.cache or candidates[0].server.cache):
            return None
        try:
            return self.cache().find(call, timeline)
        except Exception as error:  # noqa: BLE001  # the outermost edge: a server can still be asked
            log("ERROR", "The response cache failed", id=call.id, error=type(error).__name__, trace=place_of(error))
            return None
        finally:
            timeline.passed("cache")

    def _delivery(self, call: Call, lookup: "Lookup | None", response: Response, timeline: Timeline) -> Delivery:
        """The answer, wherever it comes from; or the reason why there is none."""
        if call.refused:
            return Delivery(error=call.refused)
        if lookup and lookup.delivery:
            return lookup.delivery
        try:
            if (document := self.responder.document(call, timeline)) is not None:
                return Delivery(status=200, headers=JSON, chunks=[document])
            is_held = call.key is not None and call.key.guards == CACHE_ONLY
            if call.request and (is_held or "only-if-cached" in call.request.headers.get("cache-control", "").lower()):
                from proxy.cache.control import check_may_be_fetched  # noqa: PLC0415  # hardly any request says so

                check_may_be_fetched(call.request.headers, is_held=is_held)
            return self.servers.ask(call, timeline, lambda begun: self._begin(call, begun, lookup, response, timeline))
        except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer, the bus its event
            return Delivery(error=as_proxy_error(error, call.id))

    def _begin(
        self, call: Call, begun: Delivery, lookup: "Lookup | None", response: Response, timeline: Timeline
    ) -> None:
        """Send status and headers now: the server takes its time with the first piece."""
        headers = self.responder.headers(call, begun, lookup.use if lookup else OFF, timeline)
        response.start(begun.status, {**begun.headers, **headers})
        response.flush()
        if begun.upstream and begun.content_type.startswith(_STREAM) and not coding_left(begun.upstream):
            begun.upstream.on_silence = lambda: response.write(_KEEP_ALIVE)

    def _send(
        self, call: Call, delivery: Delivery, lookup: "Lookup | None", response: Response, timeline: Timeline
    ) -> Outcome:
        """Pass an answer on to the client, or tell it why there is none. Returns what came of it."""
        outcome = Outcome(delivery.status, delivery, lookup.use if lookup else OFF, reservation=call.reservation)
        try:
            if delivery.error:
                raise delivery.error
            chunks = self._visible(call, delivery)
            if delivery.server is not None:
                recorder = self.records.recorder(call.key, delivery)
                outcome = outcome._replace(meter=_meter(call, delivery), content=recorder)
                chunks = recorder.pass_on(chunks) if recorder else chunks
            if lookup and lookup.fill and delivery.upstream:
                chunks = lookup.fill.capture.watch(chunks)
            if not response.started:
                headers = self.responder.headers(call, delivery, outcome.cache, timeline)
                response.start(delivery.status, {**delivery.headers, **headers})
            self._pass_on(chunks, call, outcome, response, timeline)
            response.end()
        except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer, the bus its event
            outcome = self._failed(as_proxy_error(error, call.id), call, outcome, response, timeline)
        finally:
            if delivery.upstream:
                timeline.waited(delivery.upstream.waited())
                delivery.upstream.close()
        if response.fault and (outcome.error is None or outcome.error.code == "deadline_exceeded"):
            return outcome._replace(error=response.fault)  # the time went by because the client took nothing
        return outcome

    def _visible(self, call: Call, delivery: Delivery) -> Iterable[bytes]:
        """The body; of a list of models only the part that the key may see. Raises UpstreamError."""
        key, server, body = call.key, delivery.server, call.body
        is_list = body is not None and body.looks_up == "" and delivery.status < 300
        if key is None or server is None or key.models is None or not is_list:
            return delivery.chunks
        from proxy.endpoints.models import allowed_models  # noqa: PLC0415  # few keys are held to models

        return [allowed_models(delivery.chunks, server.name, self.admission.names(server, key))]

    def _pass_on(
        self, chunks: Iterable[bytes], call: Call, outcome: Outcome, response: Response, timeline: Timeline
    ) -> None:
        """Pass on the chunks, and after them the rest. Raises ProxyError if the answer was cut."""
        delivery, meter = outcome.delivery, outcome.meter
        if meter is None:  # a document of the proxy's own
            response.write(b"".join(chunks))
            return
        frames, secret = (EventFrames(), delivery.secret) if meter.is_stream else (WholeChunks(), b"")
        broken, is_question = None, not call.has_own_form
        write, end = self.responder.writing(call, outcome, response, timeline)
        if meter.is_stream and delivery.upstream:  # the blank line of a comment would end the event that it is in
            delivery.upstream.on_silence = lambda: None if frames.is_inside else response.write(_KEEP_ALIVE)
        try:  # the loop that everything else is arranged around: a chunk is only glanced at before it goes out
            for chunk in chunks:
                if not timeline.first_chunk:
                    timeline.chunk()
                if events := frames.whole(chunk):
                    is_told = secret and (events.rfind(secret) >= 0 or events.rfind(ESCAPED) >= 0)  # hardly ever
                    events = delivery.without_token(events, is_question=is_question) if is_told else events
                    write(meter.see(events))
        except ProxyError as error:
            broken = error
        rest = frames.rest()
        if broken and (meter.error or not may_report_error(rest)):
            rest = b""  # half an event
        if rest:
            rest = meter.see(delivery.without_token(rest, is_question=is_question))
        meter.end(delivery.document)
        if error := self._judged(delivery, meter, broken):
            if frames.is_inside:
                response.write(b"\n\n")  # so that the error is an event of its own
            raise error
        write(rest)
        end()
        if meter.is_stream and not rest and call.wants_receipt:
            response.write(self.responder.receipt(call, outcome, timeline))

    def _judged(self, delivery: Delivery, meter: Meter, broken: ProxyError | None) -> ProxyError | None:
        """Why an ended answer is not whole; None if it is whole, or if the server itself has said what is wrong.

        The server's breaker is told how the answer ended, unless the client was the reason.
        """
        if broken and broken.fault == "client":
            return broken
        error = None
        if meter.error is None and (broken or meter.is_cut):
            error = broken or broken_off(delivery.server_name or "")
        if delivery.upstream and delivery.server and (error or delivery.status < 400):
            of_error = 0 if error and error.code == "deadline_exceeded" else error.status if error else 0
            self.servers.judge(delivery.server, meter.error.status or 0 if meter.error else of_error)
        return error

    def _failed(
        self, error: ProxyError, call: Call, outcome: Outcome, response: Response, timeline: Timeline
    ) -> Outcome:
        """Tell the client of an error: by a status before the first byte, else in the stream or by breaking off."""
        outcome = outcome._replace(error=error)
        if response.broken:
            return outcome
        if not response.started:
            headers = self.responder.headers(call, outcome.delivery._replace(error=error), outcome.cache, timeline)
            self.responder.error(error, call, headers, response)
            return outcome._replace(status=error.status)
        if outcome.meter is not None and outcome.meter.is_stream:
            from proxy.endpoints.error_forms import error_frames  # noqa: PLC0415  # few streams fail

            response.write(error_frames(error, call, outcome.meter, outcome.delivery, timeline.started_at))
            response.end()
        else:
            response.fail(error)
        return outcome

    def _settled(self, call: Call, outcome: Outcome, timeline: Timeline, deadline: float) -> Outcome:
        """The outcome with its usage, after its share of the key's limits has been given back."""
        try:
            outcome = outcome._replace(usage=usage_of(call, outcome, timeline.started_at))
        except Exception as error:  # noqa: BLE001  # the outermost edge: the limits get their share back, the bus its event
            log("ERROR", "The usage of an answer cannot be told", id=call.id, trace=place_of(error))
            outcome = outcome.untold()._replace(usage=UNREADABLE)
        if outcome.reservation is None:
            return outcome
        until = for_client(deadline, timeline.started_at)
        left = self.admission.release(outcome.reservation, spent_of(call, outcome), until)
        return outcome._replace(reservation=left)

    def _captured(
        self, call: Call, lookup: "Lookup | None", outcome: Outcome, deadline: float
    ) -> "list[CapturedEvent]":
        """The answer for the response cache, if it is to be kept; the client has it by now."""
        if self.cache is None or lookup is None or lookup.fill is None:
            return []
        try:
            return self.cache().captured(lookup.fill, call, outcome, deadline)
        except Exception as error:  # noqa: BLE001  # the outermost edge: the request has been served
            log("ERROR", "An answer was not cached", id=call.id, error=type(error).__name__, trace=place_of(error))
            return []


def _meter(call: Call, delivery: Delivery) -> Meter:
    """The meter for an answer. A stored answer has been paid for already, and is known to be whole."""
    sent, upstream, is_success = delivery.sent, delivery.upstream, delivery.status < 400
    if call.lines_of and upstream is not None and is_success:
        from proxy.records.batch_lines import BatchLines  # noqa: PLC0415  # few requests fetch what a batch has made

        return BatchLines()
    has_terminator = upstream is not None and call.has_terminator and is_success
    hides_usage = sent is not None and sent.asks_usage_unasked and not call.wants_cost
    one_choice = sent is not None and sent.one_choice
    is_packed = upstream is not None and coding_left(upstream)
    return Meter(
        delivery.content_type,
        upstream is not None and call.uses_tokens and is_success,
        AnswerTraits(has_terminator, hides_usage, one_choice, call.has_own_form, is_packed),
    )
