"""The answer of a resumable stream as it goes out: what is a stream, and what passes as it is, piece by piece."""

from typing import Any

import pytest
from proxy.errors import ClientError
from proxy.metering.sse import LONGEST_EVENT
from proxy.streams.numbering import KEEP_ALIVE, KEEP_ALIVES
from proxy.streams.response import RecordedResponse

from tests.fakes import RecordedResponse as Client

EVENTS = {"content-type": "Text/Event-Stream; charset=utf-8"}


class Kept:
    """A recording: what was added, and how it has ended."""

    is_lost = False

    def __init__(self) -> None:
        self.added: list[tuple[bytes, int]] = []
        self.ends: list[tuple[str, str]] = []

    def add(self, events: bytes, number: int) -> None:
        self.added.append((events, number))

    def end(self, status: str, error: str = "") -> None:
        self.ends.append((status, error))


def answered(headers: dict[str, str], *pieces: bytes, status: int = 200) -> tuple[Client, RecordedResponse, list[Kept]]:
    client, made = Client(), list[Kept]()

    def begin() -> Any:
        made.append(Kept())
        return made[-1]

    response = RecordedResponse(client, "S", begin, {"x-resumable": "true"})
    response.start(status, headers)
    for piece in pieces:
        response.write(piece)
    response.end()
    return client, response, made


def test_a_stream_is_numbered_for_its_client_and_kept_as_it_was_sent() -> None:
    client, response, [kept] = answered(EVENTS, b"data: a\n\nda", b"", *KEEP_ALIVES, b"ta: b\n\n", KEEP_ALIVES[0])

    assert client.headers == {**EVENTS, "x-resumable": "true"}
    assert client.pieces == [b"data: a\nid: S.1\n\n", *[KEEP_ALIVE] * 2, b"data: b\nid: S.2\n\n", KEEP_ALIVE]
    assert kept.added == [(b"data: a\nid: S.1\n\n", 1), (b"data: b\nid: S.2\n\n", 2)]
    assert (kept.ends, response.number, response.recording, client.ended) == ([], 2, kept, True)


def test_nothing_is_put_into_an_event_that_is_half_written() -> None:
    large = b"data: " + b"a" * LONGEST_EVENT
    client, _, [kept] = answered(EVENTS, large, KEEP_ALIVES[0], b"\n\n", KEEP_ALIVES[0])

    assert client.pieces == [large, b"\nid: S.1\n\n", KEEP_ALIVE]
    assert b"".join(events for events, _ in kept.added) == client.body.removesuffix(KEEP_ALIVE)


@pytest.mark.parametrize("rest", [b"data: c", b"data: c\n"])
def test_the_rest_of_a_stream_is_an_event_too(rest: bytes) -> None:
    client, response, [kept] = answered(EVENTS, b"data: a\n\n", rest)

    assert client.pieces[1:] == [b"data: c\nid: S.2\n\n"]
    assert (kept.added[1:], response.number) == ([(b"data: c\nid: S.2\n\n", 2)], 2)


@pytest.mark.parametrize("first", [b"{", b" \r\n[", b'{"a": "\n\n'])
def test_a_document_that_calls_itself_a_stream_passes_in_its_pieces_and_nothing_of_it_is_kept(first: bytes) -> None:
    pieces = [first, b": keep-alive\n\n", b"data: no event\n\n", b"1}"]
    client, response, [kept] = answered(EVENTS, *pieces)

    assert client.pieces == pieces
    assert (kept.added, kept.ends, response.recording) == ([], [("failed", "no_stream")], None)


def test_what_begins_as_a_stream_is_one_whatever_comes_later() -> None:
    client, _, [kept] = answered(EVENTS, b"data: a\n\n", b"{}\n\n")

    assert (client.body, kept.ends) == (b"data: a\nid: S.1\n\n{}\nid: S.2\n\n", [])


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {}),
        (200, {"content-type": "application/json"}),
        (200, {**EVENTS, "content-encoding": "gzip"}),
        (201, EVENTS),
        (400, EVENTS),
    ],
)
def test_what_is_no_stream_has_no_recording(status: int, headers: dict[str, str]) -> None:
    client, response, made = answered(headers, b"data: a", b"\n\n", status=status)

    assert (client.status, client.headers, client.pieces) == (status, headers, [b"data: a", b"\n\n"])
    assert (made, response.recording, response.number) == ([], None, 0)


def test_of_a_client_that_is_gone_nothing_is_said_while_others_can_read_on() -> None:
    client, response, [kept] = answered(EVENTS)
    client.broken, client.fault = True, ClientError(499, "client_gone", "It went away.")
    assert (response.broken, response.fault, response.started) == (False, None, True)
    kept.is_lost = True
    assert (response.broken, response.fault) == (True, client.fault)
