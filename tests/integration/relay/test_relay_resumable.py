"""Streams that outlive their connection, from the request to the one event: who asks for them, who may read them."""

import functools
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin

import pytest
from openai_proxy.key_context import ClientKey
from proxy.metering.sse import data_of, split_events
from proxy.streams.numbering import KEEP_ALIVE, last_number
from proxy.streams.recording import Recording, Times
from proxy.streams.streams import READ, Streams
from proxy.streams.table import StreamsTable
from proxy.streams.writers import Writers
from proxy.streams.written import Settings

from tests.fakes import Connection, Received, RecordedResponse, Script
from tests.relays import CONTENT, DONE, USAGE_CHUNK, Proxy, error_of, proxy, sse, streaming
from tests.streams.services import BUSY, FakeObjects, FakeStreamsTable

CHAT = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
WANTED = {"x-resumable": "true"}
SERVERS = "kept: {url: 'URL/kept', token: t, model: m, retries: 0, resumable: true}\n"
WRITERS = Writers(pause=0.01)
OWN: Any = {"key_id": "0123456789ab", "limits_id": "0123456789ab"}


@contextmanager
def resumable(
    script: Script, allowed: dict[str, str] | None = None, times: Times | None = None, **more: Any
) -> Generator[tuple[Proxy, FakeStreamsTable]]:
    services = FakeStreamsTable()
    aws: Any = services
    with proxy(script, OWN | (allowed or {}), more_servers=SERVERS) as (relay, _):
        table = StreamsTable(aws, "streams", FakeObjects())
        settings = Settings(600, times or quick_times(), WRITERS, relay.transport.let_stop)
        streams = Streams(table, lambda: table, relay.records, settings._replace(**more))
        relay.use(streams=lambda: streams)
        yield relay, services


def quick_times() -> Times:
    """A clock that goes on while somebody sleeps, and at no other time."""
    passed = [0.0]
    began = time.time()

    def sleep(seconds: float) -> None:
        passed[0] += seconds

    return Times(lambda: began + passed[0], sleep)


def doze(_: float) -> None:
    time.sleep(0.01)


def id_of(response: RecordedResponse) -> str:
    return response.headers["x-inference-id"]


def read(relay: Proxy, stream_id: str, **more: Any) -> RecordedResponse:
    return relay.call(path=f"/v1/streams/{stream_id}", method="GET", **more)


def as_key(relay: Proxy, **key: Any) -> None:
    """Go on as another client."""

    class Known:
        @staticmethod
        def authorize(_: Any) -> ClientKey:
            return ClientKey(**key)

        @staticmethod
        def forget() -> None:
            pass

    relay.use(authenticator=Known())


def test_a_stream_is_read_again_byte_for_byte_and_has_one_event(capsys: pytest.CaptureFixture[str]) -> None:
    with resumable(streaming(*CONTENT, USAGE_CHUNK, DONE)) as (relay, services):
        response = relay.call(CHAT, headers=WANTED)
        stream_id = id_of(response)
        writes = len(services.calls)
        whole = read(relay, stream_id)
        rest = read(relay, stream_id, headers={"last-event-id": f"{stream_id}.1"})
        same = relay.call(path=f"/up/v1/streams/{stream_id}", method="GET", query="after=1")
        nothing = read(relay, stream_id, query="after=3")

        assert response.headers["x-resumable"] == "true"
        events = [f"{event.decode()[:-1]}id: {stream_id}.{n}\n\n" for n, event in enumerate([*CONTENT, DONE], 1)]
        assert response.body.decode() == "".join(events)
        assert whole.body == response.body
        assert rest.body == same.body == "".join(events[1:]).encode()
        assert nothing.body == b""
        for each in (whole, rest, nothing):
            assert (each.status, each.headers["content-type"], id_of(each)) == (200, "text/event-stream", stream_id)
            assert each.headers["access-control-allow-origin"] == "*"
        assert relay.event[0] == "InferenceCompleted"
        assert relay.event[1]["usage"]["output_tokens"] == 3
        assert services.calls[:writes].count("put piece") <= 3
        assert not any(call.startswith(("put", "update")) for call in services.calls[writes:])
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        read_lines = [line for line in lines if line["message"] == READ]
        assert [(line["level"], line["bytes"], line["error"]) for line in read_lines] == [
            ("INFO", len(each.body), None) for each in (whole, rest, same, nothing)
        ]
        assert {line["path"] for line in read_lines} == {f"/streams/{stream_id}"}


@pytest.mark.parametrize(
    ("key", "server", "header", "is_resumable"),
    [
        ("", "up", None, False),
        ("on", "up", None, True),
        ("", "kept", None, True),
        ("on", "kept", "false", False),
        ("", "up", "True", True),
        ("", "up", "maybe", False),
    ],
)
def test_who_asks_for_it(key: str, server: str, header: str | None, is_resumable: bool) -> None:
    with resumable(streaming(*CONTENT, DONE), {"resumable": key}) as (relay, services):
        headers = {"x-resumable": header} if header is not None else None
        response = relay.call(CHAT, path=f"/{server}/v1/chat/completions", headers=headers)

        assert (b"\nid: " in response.body, "x-resumable" in response.headers) == (is_resumable, is_resumable)
        assert bool(services.calls) == is_resumable
        if not is_resumable:
            assert response.body == b"".join([*CONTENT, DONE])


def other_answers(connection: Connection, request: Received) -> None:
    if request.target.endswith("/embeddings"):
        connection.answer(b'{"data": []}')
    else:
        connection.answer(b'{"error": {"message": "no"}}', "400 Bad Request")


def test_what_is_no_stream_is_answered_as_ever() -> None:
    with resumable(other_answers) as (relay, services):
        for path in ("/up/v1/embeddings", "/up/v1/chat/completions"):
            response = relay.call({"model": "m", "input": "x", **CHAT}, path=path, headers=WANTED)

            assert "x-resumable" not in response.headers
            assert services.calls == []
            refused = read(relay, id_of(response))
            assert (refused.status, error_of(refused)["code"]) == (404, "stream_not_found")
            services.calls.clear()


OTHERS = [
    {"client_id": "team-b", "key_id": "0123456789ab", "line": "0123456789ab"},
    {"client_id": "team-a", "key_id": "ba9876543210", "line": "ba9876543210"},
    {"client_id": "team-a", "key_id": "0123456789ab", "line": "0123456789ab", "end_user": "ada"},
]


def test_nobody_else_can_tell_that_it_is_there() -> None:
    with resumable(streaming(*CONTENT, DONE)) as (relay, _):
        stream_id = id_of(relay.call(CHAT, headers=WANTED))
        for key in OTHERS:
            as_key(relay, **key)
            response, missing = read(relay, stream_id), read(relay, "00000000000000000000000000")

            assert (response.status, response.body) == (404, missing.body)
            assert error_of(response)["code"] == "stream_not_found"


def test_a_rotated_key_reads_what_its_line_has_asked() -> None:
    with resumable(streaming(*CONTENT, DONE)) as (relay, _):
        response = relay.call(CHAT, headers=WANTED)
        as_key(relay, client_id="team-a", key_id="ba9876543210", line="0123456789ab")

        assert read(relay, id_of(response)).body == response.body


WRONG_NAMES = [
    *("", "x", "../chat", "01arz3ndektsv4rrffq69g5fav", "01ARZ3NDEKTSV4RRFFQ69G5FA", "81ARZ3NDEKTSV4RRFFQ69G5FAV"),
    *("01ARZ3NDEKTSV4RRFFQ69G5FAV/", "01ARZ3NDEKTSV4RRFFQ69G5FAV.1", "01ARZ3NDEKTSV4RRFFQ69G5FAV%0A"),
    "7" + "Z" * 25,  # made in the year 10889
]


def test_a_name_that_is_none_is_the_name_of_nothing() -> None:
    with resumable(streaming(DONE)) as (relay, services):
        for name, method in itertools.product(WRONG_NAMES, ("GET", "DELETE", "POST", "PUT")):
            response = relay.call(path=f"/v1/streams/{name}", method=method)

            assert response.status == 404, (name, method)
            assert error_of(response)["type"] == "invalid_request_error"
        assert services.calls == []


PLACES = [
    *(
        "1",
        ".1",
        "{}",
        "{}.",
        "{}.-1",
        "{}.01",
        "{}.1.1",
        "{}.1e1",
        "{}.999",
        "{}.9999999999",
        "{}.\N{ARABIC-INDIC DIGIT ONE}",
    ),
    "01ARZ3NDEKTSV4RRFFQ69G5FAV.1",
]


def test_a_place_that_is_none_is_not_there() -> None:
    with resumable(streaming(*CONTENT, DONE)) as (relay, _):
        stream_id = id_of(relay.call(CHAT, headers=WANTED))
        for place in PLACES:
            named, query = place.format(stream_id), f"after={place.removeprefix('{}.').replace('{}', 'x')}"
            responses = [read(relay, stream_id, headers={"last-event-id": named})]
            if place != "1":
                responses += [read(relay, stream_id, query=query), read(relay, stream_id, query=f"{query}&after=1")]

            assert {each.status for each in responses} == {404}, place
            assert {error_of(each)["code"] for each in responses} == {"stream_not_found"}


def test_a_server_that_breaks_off_is_told_of_in_the_stream_and_to_who_reads_it_again() -> None:
    with resumable(streaming(sse("Hello"), end=Connection.reset)) as (relay, _):
        response = relay.call(CHAT, headers=WANTED)

        assert b"upstream_broken_off" in response.body
        assert read(relay, id_of(response), query="after=1").body == response.body.split(b".1\n\n", 1)[1]
        assert relay.event[1]["error"]["type"] == "upstream_broken_off"


def test_comments_and_receipts_have_their_place() -> None:
    with resumable(streaming(b": busy\n\n", *CONTENT, USAGE_CHUNK, DONE)) as (relay, _):
        response = relay.call(CHAT, headers={**WANTED, "x-receipt": "comment"})
        *_, receipt = re.split(rb"(?<=\n\n)", response.body)[:-1]

        assert response.body.startswith(b": busy\ndata: ")
        assert receipt.startswith(b": receipt {")
        assert json.loads(receipt.removeprefix(b": receipt ").split(b"\n")[0])["id"] == id_of(response)
        assert read(relay, id_of(response), query="after=3").body == receipt


def test_a_client_that_goes_away_costs_nobody_the_rest() -> None:
    with resumable(streaming(*CONTENT, USAGE_CHUNK, DONE)) as (relay, _):
        gone = relay.call(CHAT, headers=WANTED, response=RecordedResponse(break_after=1))
        rest = read(relay, id_of(gone), query=f"after={last_number(gone.body, id_of(gone))}")

        assert gone.broken
        assert gone.body + rest.body == read(relay, id_of(gone)).body
        assert last_number(gone.body + rest.body, id_of(gone)) == 3
        assert relay.event[0] == "InferenceCompleted"


def test_a_proxy_without_the_table_keeps_nothing_and_says_so() -> None:
    with resumable(streaming(*CONTENT, DONE)) as (relay, _):
        relay.use(streams=None)
        response = relay.call(CHAT, headers=WANTED)

        assert response.body == b"".join([*CONTENT, DONE])
        assert read(relay, id_of(response)).status == 404


def test_a_sandbox_that_cannot_write_streams_down_passes_them_on_all_the_same() -> None:
    def no_thread(_: object) -> Any:
        raise RuntimeError("can't start new thread")

    with resumable(streaming(*CONTENT, USAGE_CHUNK, DONE), start=no_thread) as (relay, services):
        response = relay.call(CHAT, headers=WANTED)

        assert last_number(response.body, id_of(response)) == 3
        assert (response.ended, services.calls, relay.event[0]) == (True, [], "InferenceCompleted")


def test_its_end_is_written_when_its_event_is_published_and_not_before() -> None:
    """Who is killed between the two has an event twice, with one id, and never none."""
    with resumable(streaming(*CONTENT, DONE)) as (relay, services):
        published = list[int]()
        services.on_call = lambda call: published.append(len(relay.bus.details)) if call == "put state" else None
        response = relay.call(CHAT, headers=WANTED)

        assert published[-1] == 1
        assert read(relay, id_of(response)).body.endswith(response.body)


def test_a_sandbox_that_was_taken_for_dead_has_been_told_of_and_says_nothing_more() -> None:
    """Whoever found that its lease was over has published the one event."""
    made, tables = list[Recording](), list[Any]()
    written = threading.Event()

    def start(recording: Recording) -> Callable[[float], object]:
        made.append(recording)
        return WRITERS(recording)

    def script(connection: Connection, _: Received) -> None:
        connection.start_chunked()
        connection.chunk(CONTENT[0])
        assert written.wait(20)
        [stream_id] = {stream_id for stream_id, _ in tables[0].items}
        assert StreamsTable(tables[0], "streams", FakeObjects()).give_up(stream_id, 1, time.time() + 100)
        until = time.monotonic() + 20
        while not made[0].is_given_up and time.monotonic() < until:
            doze(0)
        connection.chunk(CONTENT[1] + DONE)
        connection.end_chunked()

    with resumable(script, times=Times(sleep=doze), start=start) as (relay, services):
        tables.append(services)
        services.on_call = lambda call: written.set() if call == "put piece" else None
        response = relay.call(CHAT, headers=WANTED)

        assert response.ended
        assert last_number(response.body, id_of(response)) == 3
        assert relay.bus.details == []


def test_two_readers_have_the_same_while_it_goes_on() -> None:
    """Two tabs: each of them reads while the server still speaks."""
    may_end = threading.Event()

    def script(connection: Connection, _: Received) -> None:
        connection.start_chunked()
        connection.chunk(CONTENT[0])
        may_end.wait(20)
        connection.chunk(CONTENT[1] + DONE)
        connection.end_chunked()

    with resumable(script, times=Times(sleep=doze)) as (relay, services):
        written, bodies = threading.Event(), dict[int, bytes]()
        services.on_call = lambda call: written.set() if call == "put piece" else None
        client = RecordedResponse()
        streamer = threading.Thread(target=relay.call, args=(CHAT,), kwargs={"headers": WANTED, "response": client})
        streamer.start()
        assert written.wait(20)

        def follow(number: int) -> None:
            reader = RecordedResponse(on_piece=lambda _: may_end.set())
            bodies[number] = read(relay, id_of(client), response=reader).body

        readers = [threading.Thread(target=follow, args=(number,)) for number in range(2)]
        for each in readers:
            each.start()
        for each in (streamer, *readers):
            each.join(20)

        assert bodies == {0: client.body, 1: client.body}
        assert relay.event[0] == "InferenceCompleted"


def endless(ended: threading.Event, *, chunked: bool = True, begins: bool = True) -> Script:
    """Says one thing, and then nothing until its client closes the connection."""

    def script(connection: Connection, _: Received) -> None:
        if begins and chunked:
            connection.start_chunked()
            connection.chunk(CONTENT[0])
        elif begins:
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + CONTENT[0])
        connection.wait_for_end()
        ended.set()

    return script


@pytest.mark.parametrize("chunked", [True, False])
def test_who_stops_a_stream_stops_the_model_and_pays_what_came(chunked: bool) -> None:
    ended = threading.Event()
    with resumable(endless(ended, chunked=chunked), times=Times(sleep=doze)) as (relay, services):
        written = threading.Event()
        services.on_call = lambda call: written.set() if call == "put piece" else None
        client = RecordedResponse()
        streamer = threading.Thread(target=relay.call, args=(CHAT,), kwargs={"headers": WANTED, "response": client})
        streamer.start()
        assert written.wait(20)
        path = f"/up/v1/streams/{id_of(client)}"
        said = relay.call(path=path, method="DELETE")
        assert ended.wait(20), "the connection to the server is closed"
        streamer.join(20)

        assert (said.status, json.loads(said.body)["status"]) == (200, "stopping")
        assert b'"code": "stream_stopped"' in client.body
        assert read(relay, id_of(client)).body == client.body
        for method, below in (("DELETE", ""), ("POST", ""), ("GET", "/status")):
            state = json.loads(relay.call(path=path + below, method=method).body)
            assert (state["status"], state["error"], state["events"]) == ("stopped", "stream_stopped", 3)
        kind, data = relay.event
        assert (kind, data["error"]["type"], data["error"]["source"]) == ("InferenceFailed", "stream_stopped", "client")
        assert (data["usage"]["source"], data["usage"]["output_tokens"] > 0) == ("estimated", True)
        assert data["server"]["name"] == "up"


def test_a_stopped_stream_says_nothing_against_its_server_and_is_not_asked_again() -> None:
    ended = threading.Event()
    with resumable(endless(ended), times=Times(sleep=doze)) as (relay, services):
        client = RecordedResponse()
        stop = functools.partial(relay.call, method="DELETE")

        def stop_when_written(call: str) -> None:
            if call == "put piece" and not ended.is_set():
                stop(path=f"/v1/streams/{id_of(client)}")

        services.on_call = stop_when_written
        for _ in range(2):
            client = RecordedResponse()
            ended.clear()
            relay.call(CHAT, path="/guarded/v1/chat/completions", headers=WANTED, response=client)
            assert client.headers["x-attempts"] == "1"
        assert [data["data"]["server"]["name"] for _, data in relay.bus.details] == ["guarded", "guarded"]


def test_what_a_client_is_told_of_the_policy() -> None:
    with resumable(streaming(*CONTENT, DONE), {"on_disconnect": "stop"}) as (relay, _):
        response = relay.call(CHAT, headers=WANTED)
        assert response.headers["x-on-disconnect"] == "stop"
        status = json.loads(relay.call(path=f"/v1/streams/{id_of(response)}/status", method="GET").body)
        assert status == {
            "object": "stream",
            "id": id_of(response),
            "status": "completed",
            "created_at": status["created_at"],
            "events": 3,
            "error": None,
            "url": f"/v1/streams/{id_of(response)}",
        }
        as_key(relay, client_id="team-b", key_id="0123456789ab", line="0123456789ab")
        for method in ("DELETE", "POST"):
            assert relay.call(path=status["url"], method=method).status == 404


NO_WAIT = {"x-respond-async": "true"}


def answered(connection: Connection, request: Received) -> None:
    """Whatever a server answers, in one piece."""
    asked = json.loads(request.body)
    if asked["model"] == "refused":
        connection.answer(b'{"error": {"message": "no"}}', "400 Bad Request")
    elif asked["model"] == "gone":
        connection.reset()
    else:
        connection.answer(b'{"model": "m",\n "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}')


def test_a_client_that_does_not_wait_is_told_where_its_answer_will_be_before_a_server_is_asked() -> None:
    seen = list[tuple[bool, list[str]]]()
    client, known = RecordedResponse(), list[FakeStreamsTable]()
    answer = streaming(*CONTENT, USAGE_CHUNK, DONE)

    def script(connection: Connection, request: Received) -> None:
        seen.append((client.ended, known[0].calls[:1]))
        answer(connection, request)

    with resumable(script) as (relay, services):
        known.append(services)
        relay.call(CHAT, headers=NO_WAIT, response=client)
        said = json.loads(client.body)
        events = read(relay, said["id"]).body

        assert seen == [(True, ["put state"])]
        assert (client.status, said["status"], said["id"]) == (202, "in_progress", id_of(client))
        assert (client.headers["location"], client.headers["x-resumable"]) == (f"../streams/{said['id']}", "true")
        assert urljoin("https://proxy/dev/up/v1/chat/completions", client.headers["location"]) == (
            f"https://proxy/dev/up/v1/streams/{said['id']}"
        )
        assert [json.loads(data)["choices"][0]["delta"]["content"] for data in texts_of(events)[:-1]] == [
            "Hello",
            " world",
        ]
        kind, data = relay.event
        assert (kind, data["stream"]) == (
            "InferenceCompleted",
            {"status": "completed", "events": 3, "respond_async": True},
        )
        assert data["usage"]["output_tokens"] == 3


def texts_of(events: bytes) -> list[str]:
    """The data of each event."""
    return [data_of(event).decode() for event in split_events(events)]


def test_an_answer_that_is_no_stream_is_read_as_one_by_who_did_not_wait() -> None:
    expected = {
        "m": ("completed", None),
        "refused": ("failed", "upstream_error"),
        "gone": ("failed", "upstream_broken_off"),
    }
    with resumable(answered) as (relay, _):
        for model, (status, error) in expected.items():
            said = json.loads(relay.call(CHAT | {"stream": False, "model": model}, headers=NO_WAIT).body)
            *events, last = texts_of(read(relay, said["id"]).body)
            state = json.loads(relay.call(path=f"/v1/streams/{said['id']}/status", method="GET").body)

            assert (len(events), last) == (1, "[DONE]")
            assert ("error" in json.loads(events[0])) == (error is not None)
            assert (state["status"], state["error"], state["events"]) == (status, error, 2)
        assert [kind for kind, _ in relay.bus.details] == ["InferenceCompleted", "InferenceFailed", "InferenceFailed"]


def test_who_cannot_be_told_where_the_answer_will_be_is_told_that_at_once() -> None:
    with resumable(streaming(DONE)) as (relay, services):
        unsupported = relay.call({"model": "m", "file": "x"}, path="/up/v1/files", headers=NO_WAIT)
        assert (unsupported.status, error_of(unsupported)["code"]) == (400, "async_unsupported")
        assert services.calls == []
        services.faults = itertools.repeat(BUSY)
        failed = relay.call(CHAT, headers=NO_WAIT)
        assert (failed.status, error_of(failed)["code"]) == (503, "streams_unavailable")
        assert [detail["data"]["attempts"] for _, detail in relay.bus.details] == [[], []], "no server was asked"


def test_an_answer_is_stopped_before_its_server_has_said_anything() -> None:
    ended = threading.Event()
    with resumable(endless(ended, begins=False), times=Times(sleep=doze)) as (relay, _):
        client = RecordedResponse()
        streamer = threading.Thread(
            target=relay.call,
            args=(CHAT,),
            kwargs={"path": "/again/v1/chat/completions", "headers": NO_WAIT, "response": client},
        )
        streamer.start()
        deadline = time.monotonic() + 20
        while not client.ended and time.monotonic() < deadline:
            time.sleep(0.01)
        relay.call(path=f"/v1/streams/{id_of(client)}", method="DELETE")
        streamer.join(20)
        said = texts_of(read(relay, id_of(client)).body)

        assert json.loads(said[0])["error"]["code"] == "stream_stopped"
        assert [each["error"] for each in relay.event[1]["attempts"]] in ([], ["stream_stopped"])
        assert relay.event[1]["stream"]["status"] == "stopped"


def test_a_webhook_is_told_of_answers_that_nobody_waited_for_and_of_no_others() -> None:
    def sign(text: str) -> str:
        texts.append(text)
        return f"v1,{'A' * 43}="

    texts = list[str]()
    with resumable(streaming(*CONTENT, DONE), sign=sign) as (relay, _):
        relay.call(CHAT)
        relay.call(CHAT, headers=WANTED)
        assert texts == []
        stream_id = id_of(relay.call(CHAT, headers=NO_WAIT))
        *others, (_, told) = relay.bus.details

        assert texts == [f"{stream_id}.{told['metadata']['timestamp']}.completed"]
        assert told["data"]["stream"]["signature"] == f"v1,{'A' * 43}="
        assert ["stream" in detail["data"] for _, detail in others] == [False, True]


def test_the_one_event_of_a_killed_sandbox_is_told_by_the_first_reader_and_signed() -> None:
    """What is left of the request is what its sandbox wrote when it began."""
    told = list[str]()

    def sign(text: str) -> str:
        told.append(text.rpartition(".")[2])
        return f"v1,{'A' * 43}="

    def nothing(_: object) -> None: ...

    def killed(_: object) -> Any:
        return nothing

    with resumable(streaming(*CONTENT, DONE), sign=sign, start=killed) as (relay, services):
        stream_id = id_of(relay.call(CHAT, headers=NO_WAIT))
        [of_the_call] = relay.bus.details
        assert [call for call in services.calls if call.startswith("put")] == ["put state"]
        bodies = [read(relay, stream_id).body.replace(KEEP_ALIVE, b"") for _ in range(2)]

        assert bodies[0] == bodies[1]
        assert json.loads(texts_of(bodies[0])[0])["error"]["code"] == "worker_killed"
        [_, (kind, event)] = relay.bus.details
        assert (kind, event["metadata"]["id"]) == ("InferenceFailed", of_the_call[1]["metadata"]["id"])
        assert event["data"]["error"]["type"] == "worker_killed"
        assert event["data"]["stream"]["status"] == "failed"
        assert told == ["completed", "failed"]
