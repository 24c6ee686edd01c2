"""An answer that nobody waits for: whatever it is, it is written down as a stream that a reader can read."""

import json
from typing import Any

import pytest
from proxy.errors import UpstreamError
from proxy.streams.detached import DetachedResponse

LARGEST = 16 * 1024 * 1024
EVENTS, JSON = {"content-type": "Text/Event-Stream; charset=utf-8"}, {"content-type": "application/json"}
UNREADABLE = {
    "error": {
        "message": "The server's answer is compressed or too long: it cannot be kept for a client that did not wait.",
        "type": "upstream_error",
        "param": None,
        "code": "async_unreadable",
    }
}


class Kept:
    """A recording: what was added."""

    def __init__(self) -> None:
        self.added: list[tuple[bytes, int]] = []

    def add(self, events: bytes, number: int) -> None:
        self.added.append((events, number))


def answered(headers: dict[str, str], *pieces: bytes, path: str = "/x", fails: Any = None) -> list[tuple[bytes, int]]:
    kept: Any = Kept()
    response = DetachedResponse(kept, "S", path)
    assert (response.started, response.broken, response.fault) == (False, False, None)
    response.start(200, headers)
    assert response.started
    response.flush()
    for piece in pieces:
        response.write(piece)
    response.fail(fails) if fails else response.end()
    assert response.number == (kept.added[-1][1] if kept.added else 0)
    return kept.added


def test_a_stream_is_kept_as_it_comes_without_what_says_that_it_lives() -> None:
    found = answered(EVENTS, b"data: a\n\nda", b": keep-alive\n\n", b": keep-alive\n", b"ta: b\n\n", b"data: c")
    assert found == [(b"data: a\nid: S.1\n\n", 1), (b"data: b\nid: S.2\n\n", 2), (b"data: c\nid: S.3\n\n", 3)]


@pytest.mark.parametrize(("path", "ends"), [("/chat/completions", True), ("/messages", False)])
def test_a_document_is_one_event_and_the_mark_of_its_end(path: str, ends: bool) -> None:
    event, mark = b'data: {"a":\ndata:  1}\nid: S.1\n\n', b"data: [DONE]\nid: S.2\n\n"
    assert answered(JSON, b'{"a":', b": keep-alive\n\n", b"\r\n 1}", path=path) == [
        (event + (mark if ends else b""), 2 if ends else 1)
    ]


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"], ids=ascii)
def test_what_ends_a_line_of_a_text_alone_ends_none_of_an_event(end: str) -> None:
    [(events, _)] = answered(JSON, f'{{"a": "one{end}two"}}'.encode())
    assert events.startswith(f'data: {{"a": "one{end}two"}}\nid: S.1\n\n'.encode())


def test_of_nothing_nothing_is_kept() -> None:
    assert answered(JSON) == []
    assert answered(EVENTS) == []


@pytest.mark.parametrize(
    ("headers", "pieces"),
    [
        (JSON, [b"x" * LARGEST, b"y"]),
        (JSON, [b"x" * (LARGEST + 1), b"y" * LARGEST]),
        ({**JSON, "content-encoding": "br"}, [b"x"]),
        ({**EVENTS, "content-encoding": "br"}, [b"data: a\n\n"]),
    ],
    ids=["long", "longer", "packed document", "packed stream"],
)
def test_what_cannot_be_kept_is_an_error_in_its_place(headers: dict[str, str], pieces: list[bytes]) -> None:
    [(events, number)] = answered(headers, *pieces)
    data, mark = events.split(b"\nid: S.1\n\n")
    assert (json.loads(data.removeprefix(b"data: ")), mark, number) == (UNREADABLE, b"data: [DONE]\nid: S.2\n\n", 2)


def test_the_longest_document_is_kept() -> None:
    [(events, _)] = answered(JSON, b"x" * LARGEST)
    assert events == b"data: " + b"x" * LARGEST + b"\nid: S.1\n\ndata: [DONE]\nid: S.2\n\n"


@pytest.mark.parametrize("error", [UpstreamError(502, "upstream_broken_off", "It broke."), ValueError("a secret")])
def test_an_answer_that_breaks_off_ends_in_an_error_and_half_a_document_is_not_kept(error: Exception) -> None:
    said = error.to_object() if isinstance(error, UpstreamError) else {"error": {"message": "The proxy failed."}}
    for headers, first in ((JSON, b'{"a":'), (EVENTS, b"")):
        [(events, number)] = answered(headers, first, fails=error)
        data, mark = events.split(b"\nid: S.1\n\n")
        assert json.loads(data.removeprefix(b"data: ")) == said
        assert (mark, number) == (b"data: [DONE]\nid: S.2\n\n", 2)
