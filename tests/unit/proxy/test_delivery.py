"""A server that quotes its token in the middle of a stream: the client does not get it, and all else as it came."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.servers import parse_servers
from proxy.delivery import NOTHING, OFF, CacheUse, Delivery
from proxy.request.body import OutgoingBody

TOKEN = "sk-proj/0123456789+abcdef"
PIECE = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def passed(events: bytes, token: str = TOKEN, *, is_question: bool = True) -> bytes:
    return Delivery(token=token).without_token(events, is_question=is_question)


def error(said: str) -> bytes:
    return f"data: {json.dumps({'error': {'message': said, 'code': 401}})}\n\n".encode()


@pytest.mark.parametrize("quoted", [TOKEN, f"Bearer {TOKEN} and {TOKEN}"])
def test_an_error_comes_without_the_token_and_its_neighbours_as_they_were(quoted: str) -> None:
    expected = error(quoted.replace(TOKEN, "..."))
    assert passed(PIECE + error(quoted) + DONE) == PIECE + expected + DONE


def test_slashes_that_are_escaped_hide_nothing() -> None:
    event = error(f"no: {TOKEN}").replace(b"/", rb"\/")
    assert passed(event) == error("no: ...")


ODD_TOKEN = 'sk-"a\\b"/.*[x]'


@given(st.sampled_from([TOKEN, ODD_TOKEN]), st.data())
def test_nor_does_any_other_spelling_that_json_allows(token: str, data: st.DataObject) -> None:
    spellings = [
        [json.dumps(character)[1:-1], f"\\u{ord(character):04x}", f"\\u{ord(character):04X}", f"\\{character}"][
            : 4 if character == "/" else 3
        ]
        for character in token
    ]
    quoted = "".join(data.draw(st.sampled_from(each)) for each in spellings)
    event = error("é \n no: #").replace(b"#", quoted.encode())
    assert json.loads(event[6:])["error"]["message"].endswith(token)
    assert passed(PIECE + event + DONE, token) == PIECE + error("é \n no: ...") + DONE
    piece = PIECE.replace(b"Hi", quoted.encode())
    assert passed(piece, token) == piece


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
    assert passed(event.replace(b"%b", TOKEN.encode())) == event.replace(b"%b", b"...")


@pytest.mark.parametrize("token", ["sk-no-key-required", TOKEN])
def test_what_a_model_writes_is_not_changed(token: str) -> None:
    piece = {"choices": [{"delta": {"content": f'set {token} as "error": {token}'}}]}
    named = (
        f"event: response.output_text.delta\ndata: {json.dumps({'type': 'response.output_text.delta', 'delta': token})}"
    )
    events = f"data: {json.dumps(piece)}\n\n{named}\n\n".encode()
    assert passed(events, token) == events


def test_of_a_stream_in_a_form_of_its_own_only_what_says_error_is_one() -> None:
    bare = f'data: {{"detail": "{TOKEN}"}}\n\n'.encode()
    assert passed(bare + error(TOKEN), is_question=False) == bare + error("...")


@pytest.mark.parametrize(("token", "secret"), [("EMPTY", b""), ("1234567", b""), ("12345678", b"12345678"), ("", b"")])
def test_a_short_word_is_no_secret(token: str, secret: bytes) -> None:
    assert Delivery(token=token).secret == secret
    assert passed(error(f"{token} is wrong"), token) == error("... is wrong" if secret else f"{token} is wrong")


def test_one_search_finds_each_spelling() -> None:
    assert Delivery(token="ab/cdefgh/ij").secret == b"cdefgh"


@pytest.mark.parametrize(
    ("use", "headers"),
    [
        (OFF, {}),
        (CacheUse("MISS", "not_found"), {"x-cache": "MISS", "x-cache-reason": "not_found"}),
        (CacheUse("HIT", None, 0, ""), {"x-cache": "HIT", "age": "0"}),
        (CacheUse("HIT", None, 7, "0.5 USD"), {"x-cache": "HIT", "age": "7", "x-cache-saved": "0.5 USD"}),
    ],
)
def test_the_headers_say_what_the_cache_did(use: CacheUse, headers: dict[str, str]) -> None:
    assert use.headers == headers
    assert use.to_event() == {"status": use.status, "reason": use.reason}


def test_an_answer_says_who_gave_it_and_never_its_token() -> None:
    server = parse_servers("a: {url: 'http://a.test/v1', token: t, model: own}")["a"]
    answer = Delivery(server, OutgoingBody(b"{}", "own", False, False), 200, token=TOKEN)
    assert (answer.server_name, answer.model) == ("a", "own")
    assert repr(answer) == "Delivery(server='a', status=200)"
    assert (NOTHING.server_name, NOTHING.model, NOTHING.status) == (None, None, 0)
