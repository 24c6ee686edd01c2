"""What an answer's status, headers and body are taken for, on both sides of every boundary."""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.errors import UpstreamError
from proxy.http.transport import UpstreamResponse
from proxy.metering.reported_error import ReportedError
from proxy.upstream.response import (
    broken_off,
    coding_left,
    codings_of,
    content_type,
    error_body,
    error_in_success,
    no_answer,
    returned_headers,
    unpacked,
)

OPENAI_ERROR = {"error": {"message": "no", "type": "t", "code": "c", "param": None}}


@dataclass
class Answer:
    """An answer with a body in pieces, of which the last may be a fault."""

    status: int
    headers: Mapping[str, str]
    pieces: tuple[bytes | UpstreamError, ...] = ()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, UpstreamError):
                raise piece
            yield piece


def answer(status: int, media_type: str, *pieces: bytes | UpstreamError, **headers: str) -> UpstreamResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return cast("UpstreamResponse", Answer(status, {"content-type": media_type, **named}, pieces))


def said_by(found: UpstreamResponse, token: str = "") -> tuple[int, str, int | None, str]:
    with pytest.raises(UpstreamError) as failed:
        b"".join(error_body(found, "s", token))
    error = failed.value
    return error.status, error.code, error.upstream_status, str(error)


@pytest.mark.parametrize("status", [300, 301, 399])
def test_a_redirect_is_not_followed(status: int) -> None:
    message = "The server 's' answered with a redirect, which the proxy does not follow."
    found = answer(status, "application/json", json.dumps(OPENAI_ERROR).encode())
    assert said_by(found) == (502, "upstream_redirect", status, message)


@pytest.mark.parametrize("status", [400, 402, 403, 499, 500, 599])
@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"])
def test_an_openai_error_passes_as_it_came(status: int, media_type: str) -> None:
    body = json.dumps(OPENAI_ERROR, indent=1).encode()
    assert list(error_body(answer(status, media_type, body[:7], body[7:]), "s", "")) == [body]
    cut = answer(status, media_type, body, UpstreamError(502, "upstream_broken_off", "cut"))
    assert list(error_body(cut, "s", "")) == [body]


def test_a_token_that_an_error_quotes_is_taken_out_of_either_form() -> None:
    quoting = json.dumps({"error": {"message": "not tok-1, and tok-1"}}).encode()
    passed = b"".join(error_body(answer(400, "application/json", quoting), "s", "tok-1"))
    assert json.loads(passed) == {"error": {"message": "not ..., and ..."}}
    other = answer(400, "application/json", b'{"message": "tok-1 and abcdefghij0123456789"}')
    assert said_by(other, "tok-1") == (400, "upstream_error", 400, "The server 's' answered 400: ... and ...")


SECRET = "tok/+=<&>'a~1"
ESCAPES: list[Callable[[str], str]] = [
    lambda each: f"\\u{ord(each):04x}",
    lambda each: f"\\u{ord(each):04X}",
    lambda each: each.replace("/", "\\/"),
]


@given(st.lists(st.sampled_from([*ESCAPES, str]), min_size=len(SECRET), max_size=len(SECRET)), st.booleans())
def test_a_token_is_taken_out_however_json_writes_it(written: list[Callable[[str], str]], is_name: bool) -> None:
    quoted = "".join(write(character) for write, character in zip(written, SECRET, strict=True))
    more = f'"{quoted}": 1' if is_name else f'"param": ["{quoted}"]'
    body = f'{{"error": {{"message": "not {quoted} \\u00e9", {more}}}}}'.encode()
    passed = b"".join(error_body(answer(403, "application/json", body), "s", SECRET))
    expected = {"message": "not ... é", **({"...": 1} if is_name else {"param": ["..."]})}
    assert json.loads(passed) == {"error": expected}


@pytest.mark.parametrize(
    ("media_type", "body", "said"),
    [
        ("application/json", b'{"message": "m"}', ": m"),
        ("application/json", b'{"error": {"code": 1}}', ': {"code": 1}'),
        ("text/plain", b'{"error": {"message": "m"}}', ": m"),
        ("text/html", b'{"error": {"message": "m"}}', " without an OpenAI error."),
        ("text/event-stream", b'data: {"a": 1}\n\ndata: {"error": {"message": "m"}}\n\n', ": m"),
        ("application/x-ndjson", b'{"a": 1}\n{"error": {"message": "m"}}\n', ": m"),
        ("application/json", b"", " without an OpenAI error."),
    ],
)
def test_another_error_is_said_in_the_proxys_form(media_type: str, body: bytes, said: str) -> None:
    assert said_by(answer(418, media_type, body)) == (418, "upstream_error", 418, f"The server 's' answered 418{said}")


@pytest.mark.parametrize(("beyond", "said"), [(0, ": m"), (1, " without an OpenAI error.")])
def test_a_long_body_is_no_error(beyond: int, said: str) -> None:
    body = b'{"message": "m"}'.ljust(64 * 1024 + beyond)
    assert said_by(answer(418, "application/json", body))[3] == f"The server 's' answered 418{said}"


def test_a_long_message_is_quoted_in_part() -> None:
    body = json.dumps({"message": "a b " * 200}).encode()
    assert said_by(answer(418, "application/json", body))[3] == "The server 's' answered 418: " + "a b " * 125


GZIP = zlib.compressobj(wbits=31)
PACKED = GZIP.compress(b"{}") + GZIP.flush()


@pytest.mark.parametrize(
    ("coding", "named", "left"),
    [
        ("", [], False),
        ("identity", [], False),
        ("UTF-8", [], False),
        ("none, utf8", [], False),
        ("gzip, utf-8", ["gzip"], False),
        ("Identity, ,", [], False),
        ("gzip", ["gzip"], False),
        ("X-GZIP , identity", ["x-gzip"], False),
        ("gzip,deflate,gzip,deflate", ["gzip", "deflate", "gzip", "deflate"], False),
        ("gzip,deflate,gzip,deflate,gzip", [], True),
        ("br", [], True),
        ("gzip, br", [], True),
    ],
)
def test_which_codings_are_taken_off(coding: str, named: list[str], left: bool) -> None:
    found = answer(200, "application/json", content_encoding=coding)
    assert codings_of(found) == named
    assert coding_left(found) is left


@pytest.mark.parametrize(
    ("media_type", "body"),
    [("application/json", b"{}"), ("text/event-stream; charset=utf-8", b"{}"), ("audio/mpeg", PACKED)],
)
def test_only_what_is_read_is_unpacked(media_type: str, body: bytes) -> None:
    found = answer(200, media_type, PACKED, content_encoding="gzip")
    assert b"".join(unpacked(found, "s")) == body
    returned: Any = returned_headers(found, "")
    assert ("content-encoding" in returned) is (body == PACKED)
    assert content_type(found) == media_type


@pytest.mark.parametrize(
    ("token", "kept"),
    [
        ("sk-own-12", False),
        ("own-12, o", False),
        ("sk-own-13", True),
        ("SK-OWN-12", True),
        ("", True),
        ("sk-own", True),
    ],
)
def test_a_header_that_quotes_the_token_stays_here(token: str, kept: bool) -> None:
    quoting = {"openai_processing_ms": "7", "x_request_id": "r-1 sk-own-12, ok", "retry_after": "3"}
    returned = returned_headers(answer(429, "application/json", **quoting), token)
    both = {"openai-processing-ms": "7", "retry-after": "3"}
    assert {name: value for name, value in returned.items() if name != "content-type"} == (
        {**both, "x-upstream-request-id": "r-1 sk-own-12, ok"} if kept else both
    )
    with pytest.raises(UpstreamError) as failed:
        error_body(answer(429, "text/plain", b"no", **quoting), "s", token)
    assert ("x-upstream-request-id" in failed.value.headers) is kept


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (ReportedError("a sk-own b", "c", 429), 429, "upstream_error", "answered 200 with an error: a ... b"),
        (ReportedError("a " * 300, None, None), 502, "upstream_error", "answered 200 with an error: " + "a " * 250),
        (ReportedError("", None, 400), 400, "upstream_error", "answered 200 with an error"),
        (
            ReportedError("sk-own", None, 401),
            502,
            "upstream_authentication_failed",
            "refused the proxy's token. The proxy's owner has to renew it.",
        ),
    ],
    ids=["status", "no status", "no message", "token"],
)
def test_an_error_that_calls_itself_a_success_has_its_own_status(
    error: ReportedError, status: int, code: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = {"retry_after": "1", "x_ratelimit_limit": "2", "openai_version": "3"}
    found = error_in_success(answer(200, "application/json", **limits), "s", "sk-own", error)
    assert (found.status, found.code, found.upstream_status) == (status, code, 200)
    assert found.message == f"The server 's' {message}"
    is_token = code != "upstream_error"
    assert found.headers == ({} if is_token else {"retry-after": "1", "x-ratelimit-limit": "2"})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(line["level"], line["message"], line["server"]) for line in lines]
    assert told == ([("ERROR", "A server refused the proxy's token", "s")] if is_token else [])


def test_what_is_no_answer_is_told_by_its_servers_name() -> None:
    cut, other = broken_off("s"), no_answer("s", 203, "w" * 501)
    assert (cut.status, cut.code, cut.message) == (
        502,
        "upstream_broken_off",
        "The server 's' ended its answer before it was complete.",
    )
    assert (other.status, other.code, other.upstream_status) == (502, "upstream_no_answer", 203)
    assert other.message == "The server 's' answered with " + "w" * 500
