"""When a server that failed may be asked again, and what the client is told about it."""

from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.errors import ProxyError
from proxy.timeline import Timeline
from proxy.upstream.repeats import ENOUGH, most_repeats, retry_after, says_when, told_of

from tests.examples import examples


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("-3", 0.0),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_when_to_ask_again_is_a_number_of_seconds(said: str | None, seconds: float | None) -> None:
    assert retry_after({} if said is None else {"retry-after": said}) == seconds


def test_milliseconds_come_before_seconds_and_a_number_before_none() -> None:
    assert retry_after({"retry-after-ms": "1500", "retry-after": "7"}) == 1.5
    assert retry_after({"retry-after-ms": "soon", "retry-after": "7"}) == 7.0
    assert retry_after({"retry-after-ms": "nan"}) is None


@settings(max_examples=examples(25))
@given(st.one_of(st.text(max_size=30), st.integers(0, 4_000_000_000).map(lambda unix: formatdate(unix, usegmt=True))))
def test_whatever_a_header_says_it_names_a_time_or_not(said: str) -> None:
    is_date = said.endswith("GMT") and ":" in said and "," in said
    assert says_when({"retry-after": said}) or not is_date
    assert not says_when({"retry-after-ms": ""})


@pytest.mark.parametrize(
    ("headers", "most"),
    [
        ({}, 3),
        ({"user-agent": "curl/8.0"}, 3),
        ({"user-agent": "OpenAI/Python 3.57.0", "x-stainless-retry-count": "0"}, 3),
        ({"user-agent": "OpenAI/Python 3.57.0", "x-stainless-retry-count": "1"}, 0),
        ({"user-agent": "ai/6.0.326 ai-sdk/provider-utils/4.0.23 runtime/node.js/20"}, 0),
        ({"user-agent": "opencode/1.18.33 ai-sdk/provider-utils/4.0.23 runtime/bun/1.3.14"}, 0),
        ({"user-agent": "codex_exec/0.171.0 (Debian 12.0.0; x86_64) unknown"}, 0),
        ({"user-agent": "DSPy/3.4.1", "x-stainless-retry-count": "0"}, 0),
        ({"user-agent": "my-ai-sdk-wrapper/1.0"}, 3),
        ({"user-agent": "notDSPy/1.0"}, 3),
        ({"user-agent": "mycodex/1.0"}, 3),
    ],
)
def test_a_client_that_repeats_by_itself_is_not_helped(headers: dict[str, str], most: int) -> None:
    assert most_repeats(3, headers) == most


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("upstream_authentication_failed", ENOUGH),
        ("upstream_redirect", ENOUGH),
        ("server_not_configured", ENOUGH),
        ("deadline_exceeded", ENOUGH),
        ("upstream_timeout", {}),
        ("upstream_unreachable", {}),
        ("token_unavailable", {}),
    ],
)
def test_what_a_repetition_cannot_mend_is_not_to_be_repeated(code: str, told: dict[str, str]) -> None:
    assert told_of(ProxyError(502, code, "no"), Timeline()) == told
    assert told_of(None, Timeline()) == {}


@pytest.mark.parametrize(
    ("calls", "is_repeated"),
    [
        ([("a", None)], False),
        ([("a", "upstream_timeout"), ("b", None)], False),
        ([("a", "circuit_open"), ("a", None)], False),
        ([("a", None), ("a", None)], True),
        ([("a", None), ("b", None), ("a", None)], True),
    ],
)
def test_a_call_is_repeated_when_one_server_was_called_twice(
    calls: list[tuple[str, str | None]], is_repeated: bool
) -> None:
    timeline = Timeline()
    for server, error in calls:
        timeline.attempted(server, None, error)
    assert told_of(None, timeline) == (ENOUGH if is_repeated else {})
