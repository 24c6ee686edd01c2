"""Counts that clients send: bounded, named where they are too large, and never the end of anything else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.errors import ClientError
from proxy.request.asked_counts import MOST_ANSWERS, MOST_TOKENS, AskedCounts, asked_counts
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target

CHAT = "/chat/completions"
NAMES = {
    "max_tokens": 2_147_483_647,
    "max_completion_tokens": 2_147_483_647,
    "max_output_tokens": 2_147_483_647,
    "n": 1024,
    "best_of": 1024,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "number",
    ["1" + "0" * 127, "1e127", "1e400", "9" * 45, "9" * 400, '"1e127"', '"' + "9" * 999 + '"'],
    ids=["10^127", "1e127", "1e400", "45 digits", "400 digits", "text", "text of 999 digits"],
)
def test_a_count_that_no_model_takes_is_refused_by_name(name: str, number: str) -> None:
    with pytest.raises(ClientError) as refused:
        asked_counts(json.loads(f'{{"{name}": {number}}}'), CHAT)
    error = refused.value
    assert (error.status, error.code, error.param) == (400, "integer_above_max_value", name)
    assert error.to_object()["error"]["param"] == name


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_count_is_taken_and_one_more_is_not(name: str) -> None:
    asked_counts({name: NAMES[name]}, CHAT)
    with pytest.raises(ClientError):
        asked_counts({name: NAMES[name] + 1}, CHAT)


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({}, AskedCounts()),
        ({"max_tokens": 7}, AskedCounts(7)),
        ({"max_tokens": 1, "n": 1}, AskedCounts(1)),
        ({"max_tokens": 0.5, "n": "1.5"}, AskedCounts(1, 2)),
        ({"max_tokens": 2**31 - 1, "n": 1024}, AskedCounts(2147483647, 1024)),
        ({"max_tokens": 7, "max_completion_tokens": 9}, AskedCounts(9)),
        ({"max_tokens": 100.0}, AskedCounts(100)),
        ({"n": " 3\n"}, AskedCounts(None, 3)),
        ({"n": "1_0"}, AskedCounts(None, 10)),
        ({"n": "0x1F"}, AskedCounts(None, 31)),
        ({"n": "+0b11", "max_tokens": "0o17"}, AskedCounts(15, 3)),
        ({"n": "0x", "max_tokens": "x1"}, AskedCounts()),
        ({"max_tokens": 100.2, "n": "3"}, AskedCounts(101, 3)),
        ({"max_tokens": "1e2"}, AskedCounts(100)),
        ({"n": 2, "best_of": 5}, AskedCounts(None, 5)),
        ({"n": True, "max_tokens": True}, AskedCounts()),
        ({"n": -1, "max_tokens": -1}, AskedCounts()),
        ({"n": 0, "max_tokens": -(10**400)}, AskedCounts()),
        ({"n": [2], "max_tokens": {"a": 1}}, AskedCounts()),
        ({"n": "two", "max_tokens": "inf"}, AskedCounts()),
        ({"prompt": ["one", "two"], "n": 3}, AskedCounts(None, 6)),
        ({"prompt": [[1, 2], [3]]}, AskedCounts(None, 2)),
        ({"prompt": [1, 2, 3]}, AskedCounts()),
        ({"prompt": "text"}, AskedCounts()),
    ],
)
def test_what_counts(fields: dict[str, Any], counts: AskedCounts) -> None:
    assert asked_counts(fields, CHAT) == counts


@pytest.mark.parametrize(
    ("path", "bounds"),
    [
        ("/chat/completions", {"max_completion_tokens", "max_tokens"}),
        ("/completions", {"max_tokens"}),
        ("/responses", {"max_output_tokens"}),
        ("/messages", {"max_tokens"}),
        ("/images/generations", set[str]()),
        ("/embeddings", set[str]()),
    ],
)
def test_what_an_api_passes_over_bounds_no_answer(path: str, bounds: set[str]) -> None:
    for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
        assert asked_counts({name: 1}, path).tokens == (1 if name in bounds else None)
        assert {asked_counts({name: 9, own: 3}, path).tokens for own in bounds - {name}} <= {9}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.integers(10**30, 10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*NAMES, "prompt", "messages", "input"], anything)))
def test_no_body_has_any_other_end_than_counts_within_bounds_or_a_refusal(fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    asked = read_or_refuse(body)
    if isinstance(asked, ClientError):
        assert asked.param in NAMES or asked.code == "invalid_json"
        return
    assert asked.asked.tokens is None or 1 <= asked.asked.tokens <= MOST_TOKENS
    assert 1 <= asked.asked.answers <= MOST_ANSWERS * max(1, len(body))
    assert 0 <= asked.input_tokens <= len(body) + 1000


@pytest.mark.parametrize("begin", ["1", "0.", "1e"])
@pytest.mark.parametrize("end", ["x", ".x"])
def test_a_text_of_megabytes_that_is_nearly_a_count_is_read_once(begin: str, end: str) -> None:
    text = begin + "1" * 1_000_000 + end  # what reads it in more than one way does not come back in an hour
    assert asked_counts({"max_tokens": text, "n": text}, CHAT) == AskedCounts()


def read_or_refuse(body: bytes) -> RequestBody | ClientError:
    try:
        return RequestBody(posted(body), Target("up", "/completions"))
    except ClientError as error:
        return error


def posted(body: bytes) -> InferenceRequest:
    return InferenceRequest("function_url", "POST", "/", "", {}, body, None)


def test_a_body_that_is_for_no_model_is_the_servers_to_read() -> None:
    assert RequestBody(posted(b'{"n": 1e99}'), Target("up", "/files")).asked == AskedCounts()
