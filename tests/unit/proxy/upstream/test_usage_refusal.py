"""Which answers may refuse a request for its question about usage: by status, by what they say, and by nothing else."""

import gzip
from typing import Any, cast

import pytest
from openai_proxy.servers import Server, TokenReference
from proxy.errors import ClientError, UpstreamError
from proxy.http.transport import UpstreamResponse
from proxy.upstream.usage_refusal import UsageRefusals, refuses_usage

NAMED, UNNAMED, OTHER = b'{"detail": "stream_options"}', b"Unknown field", b"The prompt is too long."


class Said(UpstreamResponse):
    """An answer that has come."""

    def __init__(self, status: int, body: bytes, coding: str = "", *, breaks: bool = False) -> None:
        self.status, self.headers = status, {"content-encoding": coding}
        self._body = iter([body, *[cast("Any", UpstreamError(502, "upstream_broken_off", "gone"))] * breaks])

    def __iter__(self) -> Any:
        body, self._body = self._body, None
        for piece in body or ():
            if isinstance(piece, UpstreamError):
                raise piece
            yield piece


def test_the_status_says_whether_the_question_may_be_at_fault() -> None:
    of_others = {401, 402, 403, 404, 408, 429, 502, 503, 504, 529}
    for status in range(200, 600):
        may_be = status >= 400 and status not in of_others
        assert refuses_usage(Said(status, NAMED)) is may_be, status
        for body in (UNNAMED, b"", b" \r\n"):
            assert refuses_usage(Said(status, body)) is (status in (400, 422)), status
        assert not refuses_usage(Said(status, OTHER))


@pytest.mark.parametrize(
    "words", ["stream_options", "STREAM_OPTIONS", "streamOptions", "include_usage", "includeUsage"]
)
def test_whoever_names_the_question_may_refuse_it(words: str) -> None:
    assert refuses_usage(Said(500, f"what is {words}?".encode()))
    assert refuses_usage(UpstreamError(400, "upstream_error", f"what is {words}?"))
    assert not refuses_usage(UpstreamError(400, "upstream_no_answer", f"what is {words}?"))
    assert not refuses_usage(UpstreamError(400, "upstream_error", "what is it?"))
    assert not refuses_usage(ClientError(400, "upstream_error", f"what is {words}?"))


def test_what_was_looked_at_comes_again_whole() -> None:
    for status, body in ((400, NAMED), (400, OTHER), (404, NAMED)):
        answer = Said(status, body)
        refuses_usage(answer)
        assert b"".join(answer) == body


def test_a_body_that_breaks_off_or_cannot_be_unpacked_refuses_nothing() -> None:
    assert not refuses_usage(Said(400, NAMED, breaks=True))
    assert not refuses_usage(Said(400, NAMED, "gzip"))
    assert refuses_usage(Said(400, gzip.compress(NAMED), "gzip"))
    assert refuses_usage(Said(400, NAMED, "br")), "what it says may be read all the same"


def test_a_server_is_asked_for_usage_unless_its_owner_or_it_has_said_no() -> None:
    server, refusals = Server("s", "https://s", TokenReference("literal", ""), "m"), UsageRefusals()
    other = server._replace(name="other")
    assert refusals.may_ask(server)
    assert not refusals.may_ask(server._replace(include_usage=False))
    refusals.learn(server)
    assert (refusals.may_ask(server), refusals.may_ask(other)) == (False, True)
