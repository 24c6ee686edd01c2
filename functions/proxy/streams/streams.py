"""Resumable streams as the relay sees them: a stream is stored while it is answered, and clients that come back can
read it.

Its one rule: however often a stream is read, its inference has one terminal event, and reading has none.
"""

import json
from collections.abc import Callable

from openai_proxy.events.streams import LEASE_SECONDS, event_of_killed, unfinished_text

from proxy.admission import as_proxy_error
from proxy.aws.client import AwsError
from proxy.call import STREAMS, Call
from proxy.delivery import OFF, Delivery
from proxy.endpoints.error_forms import error_frames
from proxy.endpoints.responder import JSON, Responder, Response
from proxy.errors import ClientError, ProxyError, UnavailableError
from proxy.http.stopper import Stopper
from proxy.log import log
from proxy.metering.meter import Meter
from proxy.records.records import Records
from proxy.records.unfinished import unfinished_event
from proxy.request.parse import Target
from proxy.streams.detached import DetachedResponse
from proxy.streams.names import not_found, owner_of, place_of, stream_id_of, stream_object
from proxy.streams.numbering import Numbering
from proxy.streams.reading import Reader
from proxy.streams.recording import Recording, Watched
from proxy.streams.response import RecordedResponse
from proxy.streams.table import LOST, MOST_LOST, State, StreamsTable
from proxy.streams.written import Settings, Writing, Written
from proxy.timeline import Timeline

READ = "A stream was asked for"
"""What the log says of each reader; an inference has its own line."""
_EVENTS = {"content-type": "text/event-stream"}


class Streams:
    """Reads streams with `table`, and writes them with the table that `another` gives, which no other thread uses."""

    def __init__(
        self,
        table: StreamsTable,
        another: Callable[[], StreamsTable],
        records: Records,
        settings: Settings,
    ) -> None:
        self._another, self._records = another, records
        self._settings = settings
        self._reader = Reader(table, self._tell, _ending, settings.times)

    # ------------------------------------------------------------------------------------------------------- writing

    def begun(
        self, call: Call, response: Response, responder: Responder, timeline: Timeline, trace: str | None
    ) -> tuple[Call, Written | None]:
        """The call, and its answer, which is stored if it is a stream, or if its client does not wait for it.

        The call is refused if a client that does not wait cannot be told where its answer will be.
        """
        settings, stopper, writing = self._settings, Stopper(), Writing(self._settings.start, call.id)
        admitted = timeline.now()

        def describe() -> str:
            told = unfinished_event(call, timeline, trace, until=admitted)
            return unfinished_text(told, is_async=call.wants_no_wait)

        def recording(is_gone: Callable[[], bool]) -> Recording:
            watched = Watched(stopper.stop, is_gone, self._records.forget, describe)
            return Recording(self._another(), self._state(call, timeline), settings.kept, watched, settings.times)

        def begin() -> Recording:
            writing.begin(made := recording(lambda: response.broken))
            return made

        settings.let_stop(stopper)
        if not call.wants_no_wait:
            added = {"x-resumable": "true", **_policy_of(call)}
            recorded = RecordedResponse(response, call.id, begin, added)
            return call, Written(call, recorded, stopper, writing, settings)
        try:
            made = recording(lambda: False)
            _detach(call, made, responder, response, timeline)
        except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer
            settings.let_stop(None)
            return call._replace(refused=as_proxy_error(error, call.id)), None
        writing.begin(made)
        return call, Written(call, DetachedResponse(made, call.id, call.path), stopper, writing, settings)

    def _state(self, call: Call, timeline: Timeline) -> State:
        if call.key is None:
            raise ValueError("a call that was not let in")
        return State(
            call.id,
            owner_of(call.key),
            call.path,
            created_at=timeline.started_at,
            expires_at=call.deadline + LEASE_SECONDS + self._settings.kept,
            on_disconnect="stop" if call.stops_without_client else "",
            client_id=call.key.client_id,
        )

    # ------------------------------------------------------------------------------------------------------- reading

    def serve(self, call: Call, responder: Responder, response: Response, timeline: Timeline) -> None:
        """Answer a request for a stored stream, whatever happens. The request has no event: its inference has one."""
        sent, error = 0, None
        try:
            found, delivery = self._found(call)
            headers = responder.headers(found, delivery, OFF, timeline)
            for events in delivery.chunks:
                if not response.started:
                    response.start(200, {**headers, **delivery.headers})
                response.write(events)
                sent += len(events)
                if response.broken:
                    break
            if not response.started:
                response.start(200, {**headers, **delivery.headers})
            response.end()
        except Exception as failure:  # noqa: BLE001  # the outermost edge: the client gets an answer
            error = as_proxy_error(failure, call.id)
            _fail(error, call, responder, response, timeline)
        level = "ERROR" if error and error.status >= 500 else "INFO"
        client = call.key.client_id if call.key else ""
        log(level, READ, id=call.id, client_id=client, path=call.path, bytes=sent, error=error.code if error else None)

    def _found(self, call: Call) -> tuple[Call, Delivery]:
        """The call, with the id of the inference whose stream it reads, and the answer. Raises ProxyError."""
        request, target, key, reader = call.request, call.target, call.key, self._reader
        if request is None or target is None or key is None:
            raise not_found()
        stream_id, made_at, is_status = stream_id_of(target.path)
        method = request.method
        if method not in ("GET", "DELETE", "POST") or (is_status and method != "GET"):
            raise not_found()
        is_read = method == "GET" and not is_status
        place = place_of(stream_id, request.headers, request.query) if is_read else 0
        owner = owner_of(key)
        state = reader.state_of(stream_id, owner, made_at)
        found = call._replace(id=stream_id)
        if is_read:
            return found, Delivery(headers=_EVENTS, chunks=reader.events(state, place, call.deadline))
        if method == "DELETE" and not state.is_over:
            reader.stop(stream_id)
            state = reader.state_of(stream_id, owner, made_at)
        elif method == "POST" and state.on_disconnect == "stop":
            reader.seen(stream_id)
        return found, Delivery(headers=JSON, chunks=[json.dumps(stream_object(state)).encode()])

    def _tell(self, state: State) -> bool:
        """Publish the one terminal event of an inference whose sandbox was killed. False: it is still to be
        published.
        """
        now = self._settings.times.clock()
        try:
            event, header = event_of_killed(state.unfinished, state.events, now, self._settings.sign)
        except (ValueError, TypeError, KeyError) as error:
            log("ERROR", "A stream that was given up cannot be told of", id=state.id, error=type(error).__name__)
            return True
        return self._records.tell(event, header)


def _policy_of(call: Call) -> dict[str, str]:
    return {"x-on-disconnect": "stop"} if call.stops_without_client else {}


def _detach(call: Call, recording: Recording, responder: Responder, response: Response, timeline: Timeline) -> None:
    """Tell a client where its answer will be, and end its connection. Raises ProxyError if the answer could not be
    stored.

    The invocation goes on: Lambda lets a streaming function work until it asks for its next event.
    """
    if not call.is_question:
        message = "Only a question to a model can be answered later: remove the header x-respond-async."
        raise ClientError(400, "async_unsupported", message)
    try:
        state = recording.begin_now()
    except AwsError as error:
        message = "Answers cannot be kept at the moment."
        raise UnavailableError(503, "streams_unavailable", message, headers={"retry-after": "2"}) from error
    up = "../" * (call.path.count("/") - 1)
    own = {"location": f"{up}{STREAMS[1:]}{call.id}", "x-resumable": "true", **_policy_of(call)}
    response.start(202, {**JSON, **responder.headers(call, Delivery(), OFF, timeline), **own})
    response.write(json.dumps(stream_object(state)).encode())
    response.end()


def _ending(state: State, latest: bytes) -> bytes:
    """The events that end a stream that was cut, in the form of its API. `latest` are the events before them."""
    meter = Meter("text/event-stream", uses_tokens=False)
    if latest:
        meter.see(latest)
    call = Call(state.id, 0.0, target=Target(None, state.path))
    error = UnavailableError(502, "worker_killed", "The proxy was killed while it answered.")
    if state.error == LOST:
        error = UnavailableError(502, "stream_not_kept", "The rest of this answer could not be kept.")
    numbering = Numbering(state.id)
    numbering.number = state.events + MOST_LOST
    return numbering.feed(error_frames(error, call, meter, Delivery(), state.created_at))


def _fail(error: ProxyError, call: Call, responder: Responder, response: Response, timeline: Timeline) -> None:
    if response.broken:
        return
    if response.started:
        response.fail(error)
        return
    headers = responder.headers(call, Delivery(), OFF, timeline)
    responder.error(error, call, headers, response)
