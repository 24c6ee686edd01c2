"""What becomes of a success, by what was asked and by what came: an answer, an error of its own, or one in-band."""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import pytest
from openai_proxy.servers import Server, TokenReference
from proxy.errors import UpstreamError
from proxy.upstream.opened import Expected, OpenedAnswer, opened

SERVER = Server("s", "https://s", TokenReference("literal", ""), "m")
QUESTION = Expected(is_question=True, is_post=True, is_stream=False, has_terminator=False)
JSON, STREAM = "application/json", "text/event-stream"
BROKEN = UpstreamError(502, "upstream_broken_off", "gone")


class Answer:
    """An answer whose body comes in these pieces; None is a silence, an error a break."""

    def __init__(self, pieces: Sequence[bytes | UpstreamError | None], kind: str = JSON, **headers: str) -> None:
        self._pieces = pieces
        self.status, self.patience = 200, 10.0
        self.headers: Mapping[str, str] = {"content-type": kind} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        self.on_silence: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if piece is None:
                self.on_silence()
            elif isinstance(piece, UpstreamError):
                raise piece
            else:
                yield piece


def look(answer: Answer, expected: Expected = QUESTION) -> tuple[OpenedAnswer, int]:
    """What comes of an answer, and how often its client was given the status meanwhile."""
    begun: list[int] = []
    found = opened(cast("Any", answer), SERVER, "sk-own", expected, lambda: begun.append(1))
    return found, len(begun)


EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
FAULT = b'data: {"error":{"message":"overloaded sk-own"}}\n\n'
STREAMING = QUESTION._replace(is_stream=True, has_terminator=True)


@pytest.mark.parametrize("silences", [0, 1, 2])
@pytest.mark.parametrize(
    ("pieces", "code", "came"),
    [
        ([BROKEN], "upstream_broken_off", b""),
        ([b": ping\n\n", BROKEN], "upstream_broken_off", b": ping\n\n"),
        ([b"data: [DONE]\n\n"], "upstream_broken_off", b"data: [DONE]\n\n"),
        ([FAULT], "upstream_error", FAULT),
    ],
)
def test_an_error_before_the_client_has_its_status_is_raised_and_after_it_comes_in_band(
    silences: int, pieces: list[bytes | UpstreamError | None], code: str, came: bytes
) -> None:
    answer = Answer([*[None] * silences, *pieces], STREAM)
    if not silences:
        with pytest.raises(UpstreamError) as raised:
            look(answer, STREAMING)
        assert raised.value.code == code
    else:
        found, begun = look(answer, STREAMING)
        assert begun == 1
        body = iter(found.body)
        if came == b"data: [DONE]\n\n":
            assert b"".join(body) == came, "nobody looks at what comes after the status"
        else:
            with pytest.raises(UpstreamError) as raised:
                list(body)
            assert raised.value.code == code


@pytest.mark.parametrize(
    ("pieces", "kind", "code"),
    [
        ([b'{"error": {"message": "no"}}', BROKEN], JSON, "upstream_error"),
        ([b'{"error": {"message"', BROKEN], JSON, "upstream_broken_off"),
        ([b'{"choices": [{"message": {}}]}', BROKEN], JSON, "upstream_broken_off"),
        ([FAULT.rstrip(), BROKEN], STREAM, "upstream_error"),
        ([EVENT.rstrip(), BROKEN], STREAM, "upstream_broken_off"),
    ],
    ids=range(5),
)
def test_an_error_that_came_before_a_break_says_more_than_the_break(pieces: Any, kind: str, code: str) -> None:
    with pytest.raises(UpstreamError) as raised:
        look(Answer(pieces, kind), STREAMING if kind == STREAM else QUESTION)
    assert raised.value.code == code


def test_an_answer_that_begins_is_passed_on_whole_with_its_break() -> None:
    found, begun = look(Answer([EVENT, EVENT, BROKEN], STREAM), STREAMING)
    body = iter(found.body)
    assert (next(body), next(body), begun) == (EVENT, EVENT, 0)
    with pytest.raises(UpstreamError):
        next(body)


@pytest.mark.parametrize("first", ["data: 1", "event: a", "id: 1", "retry: 9", "id", "data", ": a comment"])
@pytest.mark.parametrize("cut", range(1, 8))
def test_a_stream_is_known_by_the_name_of_its_first_field_wherever_it_is_cut(first: str, cut: int) -> None:
    content = f"{first}\n".encode() + EVENT
    answer = Answer([content[:cut], content[cut:]], "text/plain")
    if ":" in first:
        found, _ = look(answer, STREAMING)
        assert (found.content_type, b"".join(found.body)) == (STREAM, content)
    else:
        with pytest.raises(UpstreamError, match="neither JSON nor a stream"):
            look(answer, STREAMING)


@pytest.mark.parametrize("first", ["date: 1", "idea: 1", "i: 1", "DATA: 1", "x", "reply: 1"])
def test_text_with_a_colon_is_no_stream(first: str) -> None:
    with pytest.raises(UpstreamError, match="neither JSON nor a stream"):
        look(Answer([f"{first}\n\n".encode()], "text/plain"), STREAMING)


GOOD: dict[str, Any] = {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}
BAD: dict[str, Any] = {"index": 1, "error": {"message": "overloaded sk-own"}}
SAID = "The server 's' answered 200 with an error: overloaded ..."
ERROR: dict[str, Any] = {"error": {"message": "overloaded sk-own", "code": 503}}


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"choices": [GOOD]}, None),
        ({"choices": [GOOD, BAD]}, None),
        ({"choices": [BAD]}, 502),
        ({"choices": [BAD, BAD]}, 502),
        ({"data": [1], **ERROR}, None),
        ({"object": "response", "status": "failed", **ERROR}, None),
        (ERROR, 503),
        ([ERROR], 503),
    ],
)
def test_an_error_beside_something_of_use_is_passed_on(document: Any, status: int | None) -> None:
    content = json.dumps(document).encode()
    if status is None:
        found, _ = look(Answer([content]))
        assert (found.document, b"".join(found.body), found.content_type) == (document, content, JSON)
    else:
        with pytest.raises(UpstreamError) as raised:
            look(Answer([content]))
        assert (raised.value.status, raised.value.code, str(raised.value)) == (status, "upstream_error", SAID)


@pytest.mark.parametrize("is_question", [True, False])
@pytest.mark.parametrize("is_post", [True, False])
@pytest.mark.parametrize("kind", [JSON, "text/html", "application/octet-stream"])
@pytest.mark.parametrize("coding", ["identity", "br"])
def test_what_was_no_question_is_looked_at_only_for_an_error_of_what_was_done(
    is_question: bool, is_post: bool, kind: str, coding: str
) -> None:
    content = json.dumps(ERROR).encode()
    answer = Answer([content], kind, content_encoding=coding)
    expected = Expected(is_question, is_post, is_stream=False, has_terminator=False)
    is_read = coding == "identity" or (kind == JSON and is_post)
    is_error = is_read and (is_question or (is_post and kind == JSON))
    if (is_question and kind == "text/html") or is_error:
        with pytest.raises(UpstreamError) as raised:
            look(answer, expected)
        assert raised.value.code == ("upstream_no_answer" if kind == "text/html" else "upstream_error")
    else:
        found, _ = look(answer, expected)
        assert b"".join(found.body) == content
        assert found.content_type == kind


@pytest.mark.parametrize("kind", [JSON, "application/json; charset=utf-8", "application/jsonl", "text/plain", ""])
@pytest.mark.parametrize("is_question", [True, False])
def test_an_answer_to_a_question_is_a_document_whatever_it_is_called(kind: str, is_question: bool) -> None:
    content = json.dumps({"choices": [GOOD]}).encode()
    found, _ = look(Answer([content], kind), QUESTION._replace(is_question=is_question))
    assert found.content_type == (JSON if is_question else kind)
    assert b"".join(found.body) == content


@pytest.mark.parametrize(
    ("begin", "end", "is_answer"), [("{", "}", True), ("{", "]", False), ("[", "}", False), ("[", "]", False)]
)
@pytest.mark.parametrize("blank", [b"", b" \r\n"])
@pytest.mark.parametrize("more", [1, 70_000])
def test_a_long_answer_to_a_question_is_an_object_from_its_first_to_its_last_byte(
    begin: str, end: str, is_answer: bool, blank: bytes, more: int
) -> None:
    content = blank + f"{begin}{'x' * 65_535}{'y' * (more - 1)}{end}".encode() + blank
    answer = Answer([content[:9], content[9:]])
    if is_answer:
        found, begun = look(answer)
        assert (b"".join(found.body), found.document, begun) == (content, None, 0)
    else:
        with pytest.raises(UpstreamError, match="what is neither JSON nor a stream"):
            look(answer)


@pytest.mark.parametrize("name", ["choices", "output", "data", "usage", "model", "text", "results", "response"])
def test_what_has_any_part_of_an_answer_is_one_whatever_else_it_says(name: str) -> None:
    said = {"message": "of nothing"}
    found, _ = look(Answer([json.dumps(said | {name: "x"}).encode()]))
    assert found.document == said | {name: "x"}
    with pytest.raises(UpstreamError, match="JSON that is no answer: of nothing"):
        look(Answer([json.dumps(said | {f"{name}_x": "x"}).encode()]))


def test_what_cannot_be_unpacked_is_told_by_its_servers_name() -> None:
    with pytest.raises(UpstreamError, match=r"^The server 's' sent an answer that cannot be unpacked"):
        look(Answer([b"plain text, and more of it"], content_encoding="gzip"))
    packed = gzip.compress(json.dumps({"choices": [GOOD]}).encode())
    found, _ = look(Answer([packed], content_encoding="gzip"))
    assert found.document == {"choices": [GOOD]}


def test_an_error_beside_something_of_use_does_not_show_the_servers_token() -> None:
    token = "sk-own-0123456789"
    document = {"choices": [GOOD], "error": {"message": f"half of it: {token}"}}
    answer = Answer([json.dumps(document).encode()])
    found = opened(cast("Any", answer), SERVER, token, QUESTION, lambda: None)
    told = {"choices": [GOOD], "error": {"message": "half of it: ..."}}
    assert (json.loads(b"".join(found.body)), found.document) == (told, told)
