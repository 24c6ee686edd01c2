"""By what guards know a request again: the same of the same, another of all else, and nothing without the key."""

from typing import Any

import pytest
from proxy.call import Call
from proxy.records.digest import digest_of
from proxy.request.parse import InferenceRequest, Target

BODY = b'{"model": "m", "messages": []}'
SENT = {"authorization": "Bearer opx-one"}


def call(body: bytes = BODY, headers: dict[str, str] = SENT, path: str = "/chat/completions", **of: Any) -> Call:
    request = InferenceRequest("function_url", of.get("method", "POST"), f"/up/v1{path}", "", headers, body, None)
    return Call(of.get("id", "a"), 0.0, request, target=Target("up", path))


def test_the_same_request_of_the_same_key_has_the_same_digest_through_both_doors_and_whatever_else_it_says() -> None:
    found = digest_of(call())
    assert found is not None
    assert len(bytes.fromhex(found)) == 8
    assert found == digest_of(call(id="b", headers={**SENT, "x-tags": "a=b", "x-request-id": "7"}))
    assert found == digest_of(call(headers={"x-api-key": "opx-one"}))


@pytest.mark.parametrize(
    "other",
    [
        call(BODY + b" "),
        call(headers={"authorization": "Bearer opx-two"}),
        call(headers={}),
        call(path="/completions"),
        call(b""),
    ],
    ids=["body", "key", "no_key", "path", "empty"],
)
def test_another_request_has_another_one(other: Call) -> None:
    assert digest_of(other) not in (None, digest_of(call()))


def test_path_and_body_are_told_apart() -> None:
    assert digest_of(call(b"b\0c", path="/a")) != digest_of(call(b"c", path="/a\0b"))


@pytest.mark.parametrize(
    "free",
    [
        call(method="GET", path="/models"),
        call(method="GET", path="/responses/resp_1"),
        call(path="/files"),
        Call("a", 0.0),
    ],
    ids=["models", "an_answer", "files", "no_request"],
)
def test_what_costs_nothing_has_none_however_often_it_comes(free: Call) -> None:
    assert digest_of(free) is None
