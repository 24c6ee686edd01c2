"""When a server that failed may be asked again, and what the client is told about it."""

from email.utils import formatdate
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.servers import Server, TokenReference
from proxy.errors import ProxyError, UpstreamError
from proxy.timeline import Timeline
from proxy.upstream.opened import OpenedAnswer
from proxy.upstream.repeats import ENOUGH, is_final, most_repeats, pause_after, retry_after, says_when, told_of

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


class Answer:
    """As much of an answer as says when to ask again."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}


def answered(status: int, **headers: str) -> OpenedAnswer:
    server = Server("s", "https://s", TokenReference("literal", ""), "m")
    return OpenedAnswer(cast("Any", Answer(status, **headers)), server, "")


def test_only_what_says_not_now_is_asked_again_and_only_that_or_a_refused_token_elsewhere() -> None:
    not_now = {408, 429, 500, 502, 503, 504, 529}
    for status in range(200, 600):
        of_answer = [UpstreamError(status, code, "no") for code in ("upstream_error", "upstream_no_answer")]
        for outcome in (answered(status), *of_answer):
            assert is_final(outcome) is (status not in {*not_now, 401}), status
            assert (pause_after(outcome, 0, lambda: 0.5) is not None) is (status in not_now), status


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("upstream_unreachable", True),
        ("upstream_broken_off", True),
        ("upstream_timeout", False),
        ("deadline_exceeded", False),
        ("upstream_redirect", False),
    ],
)
def test_what_goes_wrong_on_the_way_is_left_to_others(code: str, again: bool) -> None:
    error = UpstreamError(400, code, "no")
    assert (pause_after(error, 0, lambda: 0.5) is not None) is again
    assert not is_final(error)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({}, 0.25),
        ({"retry_after": "1"}, None),
        ({"retry_after_ms": "1"}, None),
        ({"retry_after": "soon"}, 0.25),
        ({"x_should_retry": "false"}, None),
        ({"x_should_retry": "true"}, 0.25),
    ],
)
def test_when_a_server_says_when_it_is_the_clients_to_wait(headers: dict[str, str], pause: float | None) -> None:
    assert pause_after(answered(503, **headers), 0, lambda: 0.5) == pause


def test_pauses_double_up_to_five_seconds_and_differ_by_half() -> None:
    error = UpstreamError(502, "upstream_unreachable", "no")
    assert [pause_after(error, tried, lambda: 0.5) for tried in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert [pause_after(error, 1, lambda: chance) for chance in (0.0, 1.0)] == [0.25, 0.75]  # noqa: B023  # called at once
