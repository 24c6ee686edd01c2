"""An answer that is looked at before its client has it: what a silence does, and what a refusal of usage is."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from openai_proxy.servers import Server, TokenReference
from proxy.errors import UpstreamError
from proxy.http.transport import Timeouts, UpstreamResponse, Waiting
from proxy.http.wire import Head, Outgoing
from proxy.upstream.opened import Expected, opened
from proxy.upstream.usage_refusal import refuses_usage

SERVER = Server("s", "https://s", TokenReference("literal", ""), "m")
STREAM = Expected(is_question=True, is_post=True, is_stream=True, has_terminator=True)


@dataclass
class Silent:
    """An answer whose server is silent before its first piece, as often as it is told."""

    patience: float
    silences: int
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    status: int = 200
    on_silence: Callable[[], None] = lambda: None
    patiences: list[float] = field(default_factory=list[float])

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.silences):
            self.patiences.append(self.patience)
            self.on_silence()
        self.patiences.append(self.patience)
        yield b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
        self.patiences.append(self.patience)
        self.on_silence()
        yield b"data: [DONE]\n\n"


@pytest.mark.parametrize(("patience", "first"), [(0.5, 0.25), (2.0, 1.0), (15.0, 1.0)])
@pytest.mark.parametrize("silences", [0, 1, 3])
def test_a_silence_gives_the_client_its_status_once_and_then_the_usual_time(
    patience: float, first: float, silences: int
) -> None:
    begun: list[int] = []
    answer = Silent(patience, silences)
    found = opened(cast("Any", answer), SERVER, "", STREAM, lambda: begun.append(1))
    assert begun == [1] * min(silences, 1)
    assert answer.patience == patience
    assert b"".join(found.body).endswith(b"data: [DONE]\n\n")
    assert begun == [1] * min(silences, 1)
    held = [first] if silences else []
    usual = patience if silences else first
    assert answer.patiences == [*held, *[patience] * max(0, silences - 1), usual, patience]


@dataclass
class Said:
    """An exchange whose answer has a body of one piece."""

    outgoing = Outgoing("POST", "/", {})

    content: bytes
    stopped_by: None = None

    @property
    def connection(self) -> "Said":
        return self

    def body(self, *_: object) -> Iterator[bytes]:
        yield self.content


def refusal(status: int, content: bytes) -> UpstreamResponse:
    waiting = Waiting(Timeouts(), 9.0, lambda: 0.0)
    return UpstreamResponse(cast("Any", Said(content)), Head(status, {}, True), "s", waiting)


NOT_OF_THE_BODY = {401, 402, 403, 404, 408, 429, 502, 503, 504, 529}


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (b'{"detail": "stream_options is not permitted"}', set(range(400, 600)) - NOT_OF_THE_BODY),
        (b"include_usage?", set(range(400, 600)) - NOT_OF_THE_BODY),
        (b'{"detail": "Extra inputs are not permitted"}', {400, 422}),
        (b" \n", {400, 422}),
        (b'{"error": {"message": "the prompt is too long"}}', set[int]()),
    ],
)
def test_which_answers_may_refuse_the_question_for_usage(content: bytes, statuses: set[int]) -> None:
    found = {status for status in range(200, 600) if refuses_usage(refusal(status, content))}
    assert found == statuses


@pytest.mark.parametrize(
    ("code", "message", "refuses"),
    [
        ("upstream_error", "streamOptions", True),
        ("upstream_error", "another", False),
        ("upstream_broken_off", "stream_options", False),
    ],
)
def test_an_error_that_came_as_a_success_may_refuse_it_too(code: str, message: str, refuses: bool) -> None:
    assert refuses_usage(UpstreamError(502, code, message)) is refuses
    assert refuses_usage(ValueError(message)) is False


def test_what_was_read_of_a_refusal_comes_again() -> None:
    answer = refusal(400, b"stream_options")
    assert refuses_usage(answer)
    assert b"".join(answer) == b"stream_options"


@dataclass
class Long(Silent):
    """An answer of many pieces, of which it counts those that were taken."""

    size: int = 1024 * 1024
    taken: int = 0

    def __iter__(self) -> Iterator[bytes]:
        for number in range(9):
            self.taken += 1
            yield (b"{" if number == 0 else b" ") * self.size


@pytest.mark.parametrize(("size", "taken"), [(1024 * 1024, 5), (4 * 1024 * 1024, 2), (4 * 1024 * 1024 + 1, 1)])
def test_a_long_document_goes_on_as_it_comes(size: int, taken: int) -> None:
    answer = Long(9.0, 0, {"content-type": "application/json"}, size=size)
    question = STREAM._replace(is_stream=False)
    found = opened(cast("Any", answer), SERVER, "", question, lambda: None)
    assert answer.taken == taken
    assert sum(map(len, found.body)) == 9 * size


@dataclass
class Plain(Silent):
    """An answer of one piece, of a type that says nothing."""

    piece: bytes = b""

    def __iter__(self) -> Iterator[bytes]:
        yield self.piece


QUESTION = STREAM._replace(is_stream=False)


def read(piece: bytes, expected: Expected = QUESTION, status: int = 200, content_type: str = "text/plain") -> bytes:
    answer = Plain(9.0, 0, {"content-type": content_type}, status, piece=piece)
    return b"".join(opened(cast("Any", answer), SERVER, "", expected, lambda: None).body)


@pytest.mark.parametrize(
    ("piece", "what"),
    [
        (b"Hello", "what is neither JSON nor a stream"),
        (b"", "nothing"),
        (b" \r\n", "nothing"),
        (b"\xef\xbb\xbf <html>", "a web page"),
        (b"null", "JSON that is no answer"),
    ],
)
def test_what_is_no_answer_to_a_question_is_an_error_of_its_server(piece: bytes, what: str) -> None:
    with pytest.raises(UpstreamError, match=what) as raised:
        read(piece)
    assert raised.value.status == 502
    assert read(piece, QUESTION._replace(is_question=False)) == piece, "of anything else it may be the answer"


@pytest.mark.parametrize(("status", "is_looked_at"), [(200, True), (299, True), (300, False), (400, False)])
def test_a_success_is_looked_at_and_an_error_is_passed_on(status: int, is_looked_at: bool) -> None:
    said = b'{"error": {"message": "out of memory", "code": 500}}'
    if is_looked_at:
        with pytest.raises(UpstreamError, match="out of memory"):
            read(said, status=status, content_type="application/json")
    else:
        assert read(said, status=status, content_type="application/json") == b"", "it is still to be read"


@pytest.mark.parametrize("cut", [1, 2, 9])
def test_an_error_in_a_list_is_one_though_a_stream_was_asked(cut: int) -> None:
    """As Gemini says it."""
    said = b'[{"error": {"message": "out of memory", "code": 503}}]'
    answer = Told([said[:cut], said[cut:]], {"content-type": "text/plain"})
    with pytest.raises(UpstreamError, match="out of memory") as raised:
        opened(cast("Any", answer), SERVER, "", STREAM, lambda: None)
    assert (raised.value.status, raised.value.code) == (503, "upstream_error")


@dataclass
class Told:
    """An answer with these pieces, and no other."""

    pieces: list[bytes]
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    status: int = 200
    patience: float = 5.0
    on_silence: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b"data: [DONE]", b"data:[DONE]\r\n\r\n"])
@pytest.mark.parametrize("before", [b"", b": hello\n\n", b'data: {"type": "ping"}\n\n', b"event: ping\n\n"])
def test_an_end_alone_is_no_answer(before: bytes, end: bytes) -> None:
    pieces = [each for each in (before, end) if each]
    with pytest.raises(UpstreamError) as broken:
        opened(cast("Any", Told(pieces)), SERVER, "", STREAM, lambda: None)
    assert broken.value.code == "upstream_broken_off"
    other = STREAM._replace(has_terminator=False)
    assert b"".join(opened(cast("Any", Told(pieces)), SERVER, "", other, lambda: None).body) == before + end


@dataclass
class Patient(Told):
    """One that notes how long it is waited for before each piece."""

    patiences: list[float] = field(default_factory=list[float])

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.patiences.append(self.patience)
            yield piece


@pytest.mark.parametrize("first", [b":", b"event:", b"data: ", b"retry:"])
def test_a_stream_that_is_called_something_else_is_one_as_soon_as_it_can_be_told(first: bytes) -> None:
    answer = Patient([first, b" 1", b'\n\ndata: {"choices": [{}]}\n\n'], {"content-type": "text/plain"})
    opened(cast("Any", answer), SERVER, "", STREAM, lambda: None)
    assert answer.patiences == [5.0, 1.0, 1.0]


@pytest.mark.parametrize("first", [b"Hello!", b"Hello, you"])
def test_for_more_of_what_cannot_be_an_answer_nobody_waits(first: bytes) -> None:
    answer = Patient([first, b"and more"], {"content-type": "text/plain"})
    with pytest.raises(UpstreamError, match="neither JSON nor a stream"):
        opened(cast("Any", answer), SERVER, "", STREAM, lambda: None)
    assert answer.patiences == [5.0]


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices": [{"error": {"message": "failed"}}]}',  # a piece of an answer, and an error
        b"it failed",  # no piece of an answer, and nothing by the name of an error
        b'{"error": {"message": "failed"}}',
    ],
)
def test_a_first_event_that_is_an_error_in_any_form_is_raised(data: bytes) -> None:
    with pytest.raises(UpstreamError, match="failed"):
        opened(cast("Any", Told([b"data: " + data + b"\n\n"])), SERVER, "", STREAM, lambda: None)
