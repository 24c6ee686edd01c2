"""Resumable streams as the relay sees them: a stream is stored while it is answered, and clients that come back can
read it.

Its one rule: however often a stream is read, its inference has one terminal event, and reading has none.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from openai_proxy.events.streams import LEASE_SECONDS, event_of_killed, signed, unfinished_text

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
from proxy.outcome import Outcome
from proxy.records.records import Records
from proxy.records.unfinished import unfinished_event
from proxy.request.parse import Target
from proxy.streams.detached import DetachedResponse
from proxy.streams.names import not_found, owner_of, place_of, stream_id_of, stream_object
from proxy.streams.numbering import Numbering
from proxy.streams.reading import Reader
from proxy.streams.recording import Recording, Times, Watched
from proxy.streams.response import RecordedResponse
from proxy.streams.table import LOST, MOST_LOST, Ended, State, StreamsTable
from proxy.streams.writers import Writers
from proxy.timeline import Timeline

if TYPE_CHECKING:
    from openai_proxy.events.stream_types import StreamData

READ = "A stream was asked for"
"""What the log says of each reader; an inference has its own line."""
_EVENTS = {"content-type": "text/event-stream"}


def _stops_nothing(_: Stopper | None) -> None: ...


def _waits_for_nothing(_seconds: float) -> None: ...


class Settings(NamedTuple):
    """`kept` is for how many seconds a stream can be read after its end; `start` begins to write a recording.

    `let_stop` names what may stop the current request. `sign` signs what a webhook is told when an answer is ready; it
    gives "" if that cannot be done.
    """

    kept: float = 600.0
    times: Times = Times()
    start: Callable[[Recording], Callable[[float], object]] = Writers()
    let_stop: Callable[[Stopper | None], None] = _stops_nothing
    sign: Callable[[str], str] | None = None


class Written(NamedTuple):
    """The answer to a request that asks for a resumable stream.

    `finish` gives what the terminal event says of the stream. `is_told` says whether somebody has taken the writer for
    dead, and published that event. `close` ends the recording, and waits until all is written, for at most so many
    seconds. It is called after the event is published, so that `end_streams` finds a process that is killed between the
    two.
    """

    response: RecordedResponse | DetachedResponse
    finish: "Callable[[Outcome, Timeline], StreamData | None]"
    is_told: Callable[[], bool]
    close: Callable[[float], None]


class Streams:
    """Reads streams with `table`, and writes them with the table that `another` gives, which no other thread uses."""

    def __init__(
        self,
        table: StreamsTable,
        another: Callable[[], StreamsTable],
        records: Records,
        settings: Settings = Settings(),  # noqa: B008  # it cannot be changed
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
        settings, stopper = self._settings, Stopper()
        waits: list[Callable[[float], object]] = []
        ends: list[tuple[Ended, str]] = []
        admitted = timeline.now()

        def describe() -> str:
            told = unfinished_event(call, timeline, trace, until=admitted)
            return unfinished_text(told, is_async=call.wants_no_wait)

        def recording(is_gone: Callable[[], bool]) -> Recording:
            watched = Watched(stopper.stop, is_gone, self._records.forget, describe)
            return Recording(self._another(), self._state(call, timeline), settings.kept, watched, settings.times)

        def begin() -> Recording:
            made = recording(lambda: response.broken)
            waits.append(self._started(made, call.id))
            return made

        settings.let_stop(stopper)
        if call.wants_no_wait:
            made = recording(lambda: False)
            try:
                _detach(call, made, responder, response, timeline)
            except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer
                settings.let_stop(None)
                return call._replace(refused=as_proxy_error(error, call.id)), None
            waits.append(self._started(made, call.id))
            answer: RecordedResponse | DetachedResponse = DetachedResponse(made, call.id, call.path)
        else:
            answer = RecordedResponse(response, call.id, begin, {"x-resumable": "true", **_policy_of(call)})

        def finish(outcome: Outcome, timeline: Timeline) -> "StreamData | None":
            stopper.over()
            settings.let_stop(None)
            ends.append(_end_of(outcome))
            return self._told_of(call, answer, ends[0][0], timeline)

        def close(seconds: float) -> None:
            if answer.recording is not None:
                answer.recording.end(*(ends or [("failed", "internal_error")])[0])
            for each in waits:
                each(max(0.0, seconds))

        return call, Written(answer, finish, lambda: _is_told(answer), close)

    def _started(self, made: Recording, call_id: str) -> Callable[[float], object]:
        """Begin to write a recording. Returns a function that waits for its end, for at most so many seconds."""
        try:
            return self._settings.start(made)
        except RuntimeError as error:  # no thread can be started: the answer goes on without a recording
            made.is_lost = True
            log("ERROR", "A resumable stream is not written down", id=call_id, reason=str(error))
            return _waits_for_nothing

    def _told_of(
        self, call: Call, answer: RecordedResponse | DetachedResponse, status: Ended, timeline: Timeline
    ) -> "StreamData | None":
        """What the terminal event says of a recording, if there is one."""
        if answer.recording is None:
            return None
        found: StreamData = {"status": status, "events": answer.number, "respond_async": call.wants_no_wait}
        return signed(self._settings.sign, call.id, timeline.unix(timeline.ended), found)

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


def _is_told(answer: RecordedResponse | DetachedResponse) -> bool:
    return answer.recording is not None and answer.recording.is_given_up


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


def _end_of(outcome: Outcome) -> tuple[Ended, str]:
    """How a stream has ended, and by which error."""
    if outcome.error:
        is_stopped = outcome.error.code in ("stream_stopped", "client_absent")
        return "stopped" if is_stopped else "failed", outcome.error.code
    is_error = outcome.status >= 400 or (outcome.meter is not None and outcome.meter.error)
    return ("failed", "upstream_error") if is_error else ("completed", "")


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
