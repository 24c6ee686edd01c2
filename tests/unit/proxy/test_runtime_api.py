"""What a Runtime API says of an invocation, read with care."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.http.wire import Head
from proxy.runtime_api import invocation_of

NOW = 1_800_000_000.0


def head(**headers: str) -> Head:
    return Head(200, {f"lambda-runtime-{name.replace('_', '-')}": value for name, value in headers.items()}, True)


def test_an_invocation() -> None:
    told = head(aws_request_id="8476a536-e9f4", deadline_ms="1800000005500", trace_id="Root=1")
    found = invocation_of(told, b'{"a": 1}', NOW)
    assert found
    assert (found.id, found.event, found.deadline, found.trace_id) == ("8476a536-e9f4", {"a": 1}, NOW + 5.5, "Root=1")


@pytest.mark.parametrize("request_id", ["", "a b", "a, b", "../x", "a/b", "a?b", "ü", "x" * 129])
def test_an_id_that_no_answer_could_be_posted_under_is_none(request_id: str) -> None:
    assert invocation_of(head(aws_request_id=request_id), b"{}", NOW) is None
    assert invocation_of(head(), b"{}", NOW) is None


@given(
    st.one_of(st.text(), st.integers().map(str), st.sampled_from(["nan", "inf", "1e400", "9" * 400, "", "-1", "1.5"]))
)
def test_a_deadline_is_always_a_moment(told: str) -> None:
    found = invocation_of(head(aws_request_id="a", deadline_ms=told), b"{", NOW)
    assert found
    assert math.isfinite(found.deadline)
    assert 0 <= found.deadline <= NOW + 5400
    if not told.isascii() or not told.isdigit():
        assert found.deadline == NOW + 900
