"""A stream that is written down while it passes, and read again from any place: the whole is what its client got.

Nothing here takes time: the second that the writer waits for passes when a test says so.
"""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.errors import ProxyError
from proxy.http.stopper import Stopper
from proxy.streams.names import stream_object
from proxy.streams.numbering import KEEP_ALIVE, last_number
from proxy.streams.reading import Reader
from proxy.streams.recording import ABSENT_SECONDS, LEASE_SECONDS, Recording, Times, Watched
from proxy.streams.response import RecordedResponse
from proxy.streams.table import KILLED, LARGEST_ITEM, LOST, MOST_LOST, STATE, State, Status, StreamsTable
from proxy.streams.writers import Writers

from tests.examples import examples
from tests.fakes import RecordedResponse as Client
from tests.streams.services import BUSY, FakeObjects, FakeStreamsTable
from tests.streams.services import LOST as ANSWER_LOST

STREAM = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
OWNER = "o" * 64
HEADERS = {"content-type": "text/event-stream"}
NOW = 1_000.0


class World:
    """One stream, its client, its recording, and readers of it."""

    def __init__(self, on_disconnect: str = "") -> None:
        self.now = NOW
        self.services, self.objects = FakeStreamsTable(), FakeObjects()
        services: Any = self.services
        self.table = StreamsTable(services, "streams", self.objects, queue="queue")
        self.told: list[State] = []
        self.is_looked_after = 0
        self.while_waiting: Callable[[], None] = lambda: None
        self.client = Client()
        state = State(STREAM, OWNER, "/chat/completions", created_at=NOW, expires_at=NOW + 1500, unfinished="[]")
        state = state._replace(on_disconnect=on_disconnect)
        self.stopper = Stopper()
        watched = Watched(self.stopper.stop, lambda: self.client.broken, self.looked_after)
        self.recording = Recording(self.table, state, 600, watched, Times(self.clock, self.sleep))
        self.response = RecordedResponse(self.client, STREAM, lambda: self.recording, {"x-resumable": "true"})

    def clock(self) -> float:
        return self.now

    def looked_after(self) -> None:
        self.is_looked_after += 1

    def tell(self, state: State) -> bool:
        self.told.append(state)
        return True

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.while_waiting()

    def stream(self, pieces: list[bytes], ticks: Iterator[bool]) -> None:
        self.response.start(200, HEADERS)
        self.recording.tick()
        for piece in pieces:
            self.response.write(piece)
            if next(ticks):
                self.tick()

    def tick(self) -> None:
        self.now += 1
        self.recording.tick()

    def finish(self, status: Status = "completed", error: str = "") -> None:
        self.response.end()
        self.recording.end(status, error)
        self.recording.write_rest()

    def reader(self) -> Reader:
        return Reader(self.table, self.tell, ending, Times(self.clock, self.sleep))

    def read(self, place: int = 0, until: float = NOW + 900) -> Iterator[bytes]:
        reader = self.reader()
        return reader.events(reader.state_of(STREAM, OWNER, NOW), place, until)


def ending(state: State, latest: bytes) -> bytes:
    number = state.events + MOST_LOST + 1
    return f"data: {state.error} after {last_number(latest, STREAM)}\nid: {STREAM}.{number}\n\n".encode()


def event(number: int) -> bytes:
    return f"data: {number}\n\n".encode()


PIECES = st.lists(
    st.sampled_from(
        [b"data: a\n\n", b"data: b\r\n\r\n", b"da", b"ta: c\n", b"\n", b": busy\n\n", KEEP_ALIVE, b"id: 1\n"]
    ),
    max_size=12,
)
TICKS = st.lists(st.booleans(), max_size=12).map(lambda ticks: itertools.chain(ticks, itertools.repeat(False)))
FAULTS = st.lists(st.sampled_from([None, None, None, None, BUSY, ANSWER_LOST]), max_size=40)


@settings(max_examples=examples(60), deadline=None)
@given(PIECES, TICKS, FAULTS)
def test_the_beginning_and_the_rest_are_the_whole(pieces: list[bytes], ticks: Iterator[bool], faults: Any) -> None:
    world = World()
    world.services.faults = iter(faults)
    world.stream(pieces, ticks)
    world.finish()
    world.services.faults = iter(())
    whole = world.client.body.replace(KEEP_ALIVE, b"")

    assert b"".join(world.read()) == whole
    for number in range(1, last_number(whole, STREAM) + 1):
        rest = b"".join(world.read(number))
        assert whole.endswith(rest)
        assert last_number(whole[: len(whole) - len(rest)], STREAM) == number
    with pytest.raises(ProxyError, match="no such stream"):
        b"".join(world.read(last_number(whole, STREAM) + 1))


@settings(max_examples=examples(30), deadline=None)
@given(st.integers(0, 6), st.integers(0, 6), FAULTS)
def test_a_reader_follows_a_stream_that_goes_on(written: int, place: int, faults: Any) -> None:
    """Also one whose client has had more than is written by then."""
    world = World()
    left = iter(range(written + 1, 9))

    def go_on() -> None:
        if (number := next(left, None)) is None and not world.recording.ended.is_set():
            world.finish()
        elif number is not None:
            world.response.write(event(number))
            world.recording.tick()

    world.stream([event(number) for number in range(1, written + 1)], itertools.repeat(True))
    world.while_waiting = go_on
    world.services.faults = iter(faults)

    assert (
        b"".join(world.read(place)).replace(KEEP_ALIVE, b"")
        == world.client.body[len(b"".join(map(numbered, range(1, place + 1)))) :]
    )


def numbered(number: int) -> bytes:
    return f"data: {number}\nid: {STREAM}.{number}\n\n".encode()


def test_there_is_one_write_a_second_at_most_and_none_while_nothing_comes() -> None:
    world = World()
    world.stream([], itertools.repeat(False))
    for number in range(1, 61):
        for _ in range(20):
            world.response.write(event(number))
        before = len(world.services.calls)
        world.tick()
        [*_, write] = made = world.services.calls[before:]
        assert made in ([write], [made[0], "get"]), "a write, and a look whether it is to stop"
    assert world.services.calls.count("update") == 3, "the lease is renewed"
    assert world.services.calls.count("put piece") == 57
    quiet = len(world.services.calls)
    for _ in range(10):
        world.tick()
    assert [call for call in world.services.calls[quiet:] if call != "get"] in ([], ["update"])
    world.finish()
    assert b"".join(world.read()) == world.client.body


def test_a_lease_is_renewed_when_half_of_it_is_over() -> None:
    world, moments = World(), list[float]()
    world.stream([], itertools.repeat(False))
    world.services.on_call = lambda call: moments.append(world.now - NOW) if call == "update" else None
    for _ in range(50):
        world.tick()
    assert moments == [16, 32, 48]
    state = world.table.state(STREAM)
    assert state
    assert (state.lease_until, ABSENT_SECONDS) == (NOW + 48 + 30, 30), "as the documents say"


def test_what_is_large_lies_in_the_bucket() -> None:
    world = World()
    noise = b"".join(str(number).encode() for number in range(100_000))
    world.stream([b"data: " + noise + b"\n\n", event(2)], itertools.repeat(True))
    world.finish()

    assert list(world.objects.objects) == [f"streams/{STREAM}/1"]
    assert all(len(str(item)) < 2 * LARGEST_ITEM for item in world.services.items.values())
    assert b"".join(world.read()) == world.client.body


def test_whose_writer_is_killed_ends_with_an_error_when_its_lease_does_and_is_told_of_once() -> None:
    world = World()
    world.stream([event(1), event(2)], itertools.repeat(True))
    world.response.write(event(3))  # is not written any more
    readers = [world.read(), world.read(1), world.read(3)]
    last = f"data: {KILLED} after 2\nid: {STREAM}.{2 + MOST_LOST + 1}\n\n".encode()

    assert b"".join(readers[0]) == numbered(1) + numbered(2) + KEEP_ALIVE + last
    assert world.now >= NOW + LEASE_SECONDS
    assert [b"".join(reader) for reader in readers[1:]] == [numbered(2) + last, last]
    assert b"".join(world.read(2 + MOST_LOST)) == last
    assert [state.id for state in world.told] == [STREAM]


def test_a_writer_that_was_believed_dead_writes_nothing_more() -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))
    world.now += LEASE_SECONDS + 1
    b"".join(world.read())
    world.response.write(event(2))
    world.tick()
    writes = world.recording.writes
    world.finish()

    assert (world.recording.is_lost, world.recording.is_given_up, world.recording.writes) == (True, True, writes)
    state = world.table.state(STREAM)
    assert state
    assert (state.status, state.error) == ("failed", KILLED)


@pytest.mark.parametrize("is_given_up", [True, False])
def test_a_stream_that_is_over_when_its_writer_looks_is_written_no_more(is_given_up: bool) -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))
    state = world.table.state(STREAM)
    assert state
    if is_given_up:
        world.table.give_up(STREAM, 1, NOW + 2 * LEASE_SECONDS)
    else:
        world.table.end(state._replace(status="completed", events=1))
    world.tick()
    assert (world.recording.is_lost, world.recording.is_given_up) == (True, is_given_up)
    over = world.table.state(STREAM)
    world.response.write(event(2))
    world.finish("failed", "late")
    assert world.table.state(STREAM) == over


def test_a_writer_whose_stream_is_gone_has_been_told_of_by_nobody() -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))
    world.services.items.clear()
    for _ in range(40):
        world.tick()
    world.finish()

    assert (world.recording.is_lost, world.recording.is_given_up) == (True, False)
    assert world.services.items == {}


def test_what_cannot_be_written_is_given_up_and_the_stream_goes_on() -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))
    world.services.faults = itertools.repeat(BUSY)
    large = b"data: " + b"x" * (9 * 1024 * 1024) + b"\n\n"
    for _ in range(3):
        world.response.write(large)
        world.tick()
    assert world.recording.is_lost
    world.response.write(event(5))
    assert not world.recording._came, "nothing is kept for a write that never comes"
    world.services.faults = itertools.repeat(None)
    world.finish()

    assert len(world.client.body) > 3 * len(large)
    assert world.client.ended
    assert (
        b"".join(world.read()) == numbered(1) + f"data: {LOST} after 1\nid: {STREAM}.{1 + MOST_LOST + 1}\n\n".encode()
    )
    assert world.told == [], "its own sandbox has told"


def test_nothing_is_written_before_the_beginning_of_the_answer_has_had_its_moment() -> None:
    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            order.append("wait")
            return True

    order, world = list[str](), World()
    world.services.on_call = order.append
    world.recording.ended = Ended()
    world.response.start(200, HEADERS)
    world.response.write(event(1))
    world.response.end()
    world.recording.end("completed")
    Writers()(world.recording)(20)

    assert order == ["wait", "put state"], "of one that is over so soon nobody has to know that it had begun"
    assert b"".join(world.read()) == numbered(1)


def test_comments_that_wait_for_their_event_count_among_what_may_wait() -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))
    for _ in range(3):
        assert not world.recording.is_lost
        world.response.write(b": " + b"x" * (6 * 1024 * 1024) + b"\n\n")
        world.tick()
    assert world.recording.is_lost


def test_a_client_that_goes_away_ends_nothing() -> None:
    world = World()
    world.client.break_after = 1
    world.stream([event(1), event(2)], itertools.repeat(True))

    assert world.client.broken
    assert (world.response.broken, world.response.fault) == (False, None)
    world.finish()
    assert b"".join(world.read(1)) == numbered(2)


def test_what_is_no_stream_passes_as_it_is() -> None:
    for headers, body in (
        ({"content-type": "application/json"}, b"{}"),
        ({**HEADERS, "content-encoding": "gzip"}, b"\x1f\x8b"),
        (HEADERS, b'{"choices": []}'),
    ):
        world = World()
        world.response.start(200, headers)
        world.response.write(body)
        world.response.end()
        assert world.client.body == body


def test_somebody_elses_stream_and_one_that_is_over_are_not_there() -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))
    world.finish()
    reader = world.reader()
    state = reader.state_of(STREAM, OWNER, NOW)

    for owner, stream, now in (
        ("p" * 64, STREAM, world.now),
        (OWNER, STREAM[:-1] + "W", world.now),
        (OWNER, STREAM, state.expires_at),
    ):
        world.now = now
        with pytest.raises(ProxyError) as refused:
            reader.state_of(stream, owner, NOW - 100)
        assert (refused.value.status, refused.value.code) == (404, "stream_not_found")


def test_a_stream_whose_first_write_is_on_its_way_is_waited_for() -> None:
    world = World()
    world.while_waiting = lambda: None if (STREAM, STATE) in world.services.items else world.recording.tick()
    reader = world.reader()

    assert reader.state_of(STREAM, OWNER, NOW).id == STREAM


def test_a_table_that_cannot_be_read_is_said_so() -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))
    world.services.faults = itertools.repeat(BUSY)

    with pytest.raises(ProxyError) as failed:
        world.read()
    assert (failed.value.status, failed.value.code) == (503, "streams_unavailable")


def test_who_asks_for_a_stop_is_heard_at_the_next_look_and_once() -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))
    reader = world.reader()
    reader.stop(STREAM)
    reader.stop(STREAM)
    state = world.table.state(STREAM)
    assert state
    assert world.stopper.error is None
    assert stream_object(state)["status"] == "stopping"

    world.tick()
    assert world.stopper.error
    error = world.stopper.error
    assert (error.status, error.code, error.fault) == (499, "stream_stopped", "client")
    assert error.message == "The client stopped this stream."
    world.finish("stopped", "stream_stopped")
    writes = len(world.services.calls)
    reader.stop(STREAM)
    state = world.table.state(STREAM)
    assert state
    assert (stream_object(state)["status"], stream_object(state)["error"]) == ("stopped", "stream_stopped")
    assert world.services.calls[writes:] == ["update", "get"]


def test_a_stop_is_heard_although_its_first_write_was_made_twice() -> None:
    world = World()
    world.services.faults = iter([ANSWER_LOST])
    world.response.start(200, HEADERS)
    world.recording.tick()
    world.reader().stop(STREAM)
    world.tick()

    assert world.stopper.error, "the second write of the beginning undoes nothing"


@pytest.mark.parametrize(
    ("policy", "sign", "is_stopped"),
    [
        ("stop", "none", False),
        ("stop", "heartbeat", True),
        ("stop", "reader", True),
        ("stop", "gone", True),
        ("", "heartbeat", False),
        ("", "reader", False),
        ("", "gone", False),
    ],
)
def test_a_stream_that_nobody_reads_any_more_stops_where_its_owner_wants_that(
    policy: str, sign: str, is_stopped: bool
) -> None:
    """Of a client that never gave a sign of life nobody knows whether it is gone."""
    world = World(policy)
    world.stream([event(1)], itertools.repeat(True))
    if sign == "heartbeat" and policy:
        world.reader().seen(STREAM)
    elif sign == "reader":
        assert next(world.read())
    world.client.broken = sign == "gone"
    world.tick()
    for _ in range(int(ABSENT_SECONDS) - 2):
        world.tick()
        assert world.stopper.error is None
    for _ in range(3):
        world.tick()

    assert (world.stopper.error.code if world.stopper.error else None) == ("client_absent" if is_stopped else None)


def test_a_reader_is_a_sign_of_life_when_it_comes_and_not_while_it_stays() -> None:
    """Of a reader whose own client has gone Lambda tells nobody: what it does then must keep no model at work."""
    world = World("stop")
    world.stream([event(1)], itertools.repeat(True))
    came, ticks = world.now, itertools.count()

    def go_on() -> None:
        if next(ticks) % 2 and world.stopper.error is None:
            world.recording.tick()

    world.while_waiting = go_on
    reading = world.read(until=world.now + 5 * ABSENT_SECONDS)
    while world.stopper.error is None:
        next(reading)

    error = world.stopper.error
    assert (error.status, error.code, error.fault) == (499, "client_absent", "client")
    assert error.message == "Nobody was there any more to read this stream."
    assert ABSENT_SECONDS < world.now - came < 2 * ABSENT_SECONDS


def test_somebody_looks_after_a_stream_from_its_first_write_on() -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))

    assert world.services.calls[:2] == ["send", "put state"]
    assert world.services.messages == [("queue", f'{{"stream_id":"{STREAM}"}}', 32)]
    assert world.is_looked_after == 1
    for _ in range(60):
        world.tick()
    assert world.services.calls.count("send") == 1


@pytest.mark.parametrize("seconds", [3, 40])
def test_a_first_write_that_is_long_in_coming_has_somebody_look_again(seconds: int) -> None:
    """Who looks and finds nothing does not come back: the latest one to be sent comes after the write."""
    world = World()
    world.response.start(200, HEADERS)
    world.services.faults = iter(lambda: None if world.services.calls[-1] == "send" else BUSY, 0)
    sent = list[float]()
    world.services.on_call = lambda call: sent.append(world.now) if call == "send" else None
    for _ in range(seconds):
        world.tick()
    world.services.faults = itertools.repeat(None)
    world.tick()

    assert world.table.state(STREAM)
    assert world.now - sent[-1] <= 15
    assert len(sent) == 1 + seconds // 15


def test_failed_calls_are_one_line_of_their_stream(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))
    world.services.faults = iter([BUSY] * 9)
    for _ in range(9):
        world.tick()
    world.finish()

    [line] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["level"], line["id"]) == ("WARN", STREAM)
    assert 0 < line["times"] <= 9
    assert "ThrottlingException" in line["reason"]
    assert b"".join(world.read()) == numbered(1)


def test_a_name_that_nobody_has_given_is_waited_for_as_long_as_a_write_may_take_and_not_for_one_of_before() -> None:
    for made_at, waited in ((NOW, 3.0), (NOW - 2, 1.0), (NOW - 3, 0.0), (NOW + 1, 0.0)):
        world = World()
        with pytest.raises(ProxyError, match="no such stream"):
            world.reader().state_of(STREAM, OWNER, made_at)
        assert world.now - NOW == waited


def test_a_stream_that_is_over_before_its_first_write_is_written_at_once() -> None:
    world = World()
    world.response.start(200, HEADERS)
    for number in range(1, 65):
        world.response.write(event(number))
    world.finish()

    assert world.services.calls == ["put state"]
    assert world.services.messages == []
    state = world.table.state(STREAM)
    assert state
    assert state._asdict() == {
        "id": STREAM,
        "owner": OWNER,
        "path": "/chat/completions",
        "status": "completed",
        "created_at": NOW,
        "lease_until": world.now,
        "expires_at": world.now + 601,  # in whole seconds, and never sooner
        "events": 64,
        "error": "",
        "stop_at": 0.0,
        "seen_at": 0.0,
        "on_disconnect": "",
        "unfinished": "",
        "client_id": "",
    }
    for place in range(65):
        assert b"".join(world.read(place)) == b"".join(map(numbered, range(place + 1, 65)))


def test_an_end_that_is_written_twice_is_one() -> None:
    world = World()
    world.services.faults = iter([ANSWER_LOST, ANSWER_LOST])
    world.response.start(200, HEADERS)
    world.response.write(event(1))
    world.finish()

    assert b"".join(world.read()) == numbered(1)


def test_a_last_piece_that_was_written_by_a_call_whose_answer_was_lost_is_read_once() -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))
    world.response.write(event(2))
    world.services.faults = iter([ANSWER_LOST])
    world.tick()
    assert (STREAM, 2) in world.services.items
    world.finish()

    assert "packed" in world.services.items[STREAM, STATE]
    assert b"".join(world.read()) == numbered(1) + numbered(2)
    assert b"".join(world.read(1)) == numbered(2)


def test_threads_that_write_are_used_again() -> None:
    writers, worlds, threads = Writers(pause=0.01), [World() for _ in range(3)], set[int]()
    for world in worlds:
        world.services.on_call = lambda _: threads.add(threading.get_ident())
        world.response.start(200, HEADERS)
        world.response.write(event(1))
        wait = writers(world.recording)
        world.response.end()
        world.recording.end("completed")
        assert wait(20)
        assert b"".join(world.read()) == numbered(1)

    assert len(threads - {threading.get_ident()}) == 1


def test_a_thread_whose_recording_fails_says_so_and_writes_the_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    writers, broken, good, threads = Writers(pause=0.01), World(), World(), set[int]()

    def fail(_: str) -> None:
        threads.add(threading.get_ident())
        raise ZeroDivisionError

    broken.services.on_call = fail
    good.services.on_call = lambda _: threads.add(threading.get_ident())
    for world in (broken, good):
        world.response.start(200, HEADERS)
        world.response.write(event(1))
        world.response.end()
        world.recording.end("completed")
        assert writers(world.recording)(20)
    line = json.loads(capsys.readouterr().out)
    assert (line["level"], line["message"]) == ("ERROR", "A resumable stream was not written down")
    assert "ZeroDivisionError" in str(line["trace"])
    assert len(threads) == 1
    assert b"".join(good.read()) == numbered(1)


def test_a_queue_that_takes_nothing_costs_no_stream_and_is_tried_again() -> None:
    world = World()
    world.services.faults = iter([BUSY])
    world.stream([event(1)], itertools.repeat(True))
    assert world.is_looked_after == 0
    for _ in range(16):
        world.tick()

    assert world.services.calls.count("send") == 2
    assert len(world.services.messages) == 1
    world.finish()
    assert b"".join(world.read()) == numbered(1)


def test_a_reader_that_could_not_tell_leaves_it_to_be_told() -> None:
    world = World()
    world.stream([event(1)], itertools.repeat(True))
    world.now += LEASE_SECONDS + 1
    reader = Reader(world.table, lambda _: False, ending, Times(world.clock, world.sleep))
    b"".join(reader.events(reader.state_of(STREAM, OWNER, NOW), 0, NOW + 900))

    state = world.table.state(STREAM)
    assert state
    assert (state.status, state.unfinished) == ("failed", "[]")
    assert world.table.give_up(STREAM, 1, world.now + LEASE_SECONDS + 1)


class Exchange:
    """What a stopper ends."""

    def __init__(self) -> None:
        self.stopped_by: list[ProxyError] = []

    def stop(self, error: ProxyError) -> None:
        self.stopped_by.append(error)


def test_a_stop_that_comes_late_ends_nobody_elses_exchange() -> None:
    stopper, exchange = Stopper(), Exchange()
    own: Any = exchange
    error = ProxyError(499, "stream_stopped", "")
    stopper.watch(own)
    stopper.over()
    stopper.stop(error)
    assert (stopper.error, exchange.stopped_by) == (None, [])

    another = Stopper()
    another.stop(error)
    with pytest.raises(ProxyError):
        another.watch(own)
    assert exchange.stopped_by == [], "nothing more is asked of a server"
