"""A server that quotes its token in the middle of a stream: the client does not get it, and all else as it came."""

import json

import pytest
from proxy.endpoints.quoted_token import WithoutToken, spellings_of

TOKEN = "sk-proj/0123456789+abcdef"
PIECE = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def written(*pieces: bytes, token: str = TOKEN, is_question: bool = True) -> list[bytes]:
    found: list[bytes] = []
    write = WithoutToken(found.append, spellings_of(token), is_question)
    for piece in pieces:
        write(piece)
    return found


def error(said: str) -> bytes:
    return f"data: {json.dumps({'error': {'message': said, 'code': 401}})}\n\n".encode()


@pytest.mark.parametrize("quoted", [TOKEN, f"Bearer {TOKEN} and {TOKEN}"])
def test_an_error_comes_without_the_token_and_its_neighbours_as_they_were(quoted: str) -> None:
    expected = error(quoted.replace(TOKEN, "..."))
    assert written(PIECE + error(quoted) + DONE, PIECE) == [PIECE + expected + DONE, PIECE]


def test_slashes_that_are_escaped_hide_nothing() -> None:
    event = error(f"no: {TOKEN}").replace(b"/", rb"\/")
    assert written(event) == [error("no: ...")]


@pytest.mark.parametrize(
    "event",
    [
        b"event: error\ndata: %b is wrong\n\n",
        b'event: error\ndata: {"type": "error", "error": {"message": "%b"}}\n\n',
        b'data: {"type": "response.failed", "response": {"error": {"message": "%b"}}}\n\n',
        b'data: {"detail": "%b"}\n\n',
        b'data: {"error": "%b"}\r\n\r\n',
        b'data: {"error":\ndata: "%b"}\n\n',
    ],
)
def test_whatever_form_the_error_has(event: bytes) -> None:
    assert written(event.replace(b"%b", TOKEN.encode())) == [event.replace(b"%b", b"...")]


@pytest.mark.parametrize("token", ["none", "sk-no-key-required", TOKEN])
def test_what_a_model_writes_is_not_changed(token: str) -> None:
    piece = {"choices": [{"delta": {"content": f'set {token} as "error": {token}'}}]}
    named = (
        f"event: response.output_text.delta\ndata: {json.dumps({'type': 'response.output_text.delta', 'delta': token})}"
    )
    events = f"data: {json.dumps(piece)}\n\n{named}\n\n".encode()
    assert written(events, token=token) == [events]


def test_of_a_stream_in_a_form_of_its_own_only_what_says_error_is_one() -> None:
    bare = f'data: {{"detail": "{TOKEN}"}}\n\n'.encode()
    assert written(bare, error(TOKEN), is_question=False) == [bare, error("...")]
