"""Signs that an answer must not be given again: each word that is one, wherever it stands, and the places of none."""

from typing import Any

import pytest
from proxy.metering.answer_signs import is_bad_event, sign_in

ERRORS = "error errors error_code errorMessage last_error exception failures"
FILTERS = (
    "filtered content_filtered blocked flagged block_reason blockReason sensitive violation unsafe censored truncated"
)
SEARCHES = "citations search_results web_search grounding_metadata retrieved executed_tools annotations sources"
BAD_REASONS = (
    "content_filter safety error exception failed blocked prohibited recitation spii sensitive cancelled aborted"
    " guardrail moderation unsafe timeout malformed_function_call SAFETY"
)
GOOD_REASONS = "stop length tool_calls function_call end_turn max_tokens"
NOT_READ = (
    "tools tool_choice response_format metadata instructions input prompt parameters arguments embedding logprobs"
    " top_logprobs delta_logprobs"
)
STATES = "status state type object outcome result"
EMPTY: list[Any] = ["", 0, False, None, [], {}, [{"a": [0, None]}]]


def anywhere(part: Any) -> list[Any]:
    """Documents in which a part of an answer stands."""
    return [part, {"choices": [{"message": part}]}, [[part]], {"a": {"b": [{"c": part}]}}]


def signs(part: Any, **options: Any) -> set[str | None]:
    return {sign_in(document, **options) for document in anywhere(part)}


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        *((name, "error") for name in ERRORS.split()),
        *((name, "filtered") for name in FILTERS.split()),
        *((name, "searched") for name in SEARCHES.split()),
    ],
)
def test_a_field_of_such_a_name_is_a_sign_unless_it_is_empty(name: str, sign: str) -> None:
    for written in (name, name.upper()):
        assert signs({written: "x"}) == {sign}
        assert signs({written: [{"a": 1}]}) == {sign}
    for empty in EMPTY:
        assert signs({name: empty}) == {None}
    may_search = signs({name: "x"}, may_search=True)
    assert may_search == ({None} if sign == "searched" else {sign})


@pytest.mark.parametrize("reason", BAD_REASONS.split())
def test_a_reason_that_is_none_of_its_own_is_a_filter(reason: str) -> None:
    for name in ("finish_reason", "stop_reason", "finishReason", "reason"):
        assert signs({name: reason}) == {"filtered"}
    assert signs({"reasoning": f"a {reason} of mine"}) == {None}
    assert is_bad_event(reason)


@pytest.mark.parametrize("reason", GOOD_REASONS.split())
def test_a_reason_of_its_own_is_none(reason: str) -> None:
    assert signs({"finish_reason": reason, "content": "an error, filtered"}) == {None}
    assert not is_bad_event(reason)


@pytest.mark.parametrize("name", STATES.split())
def test_a_state_that_says_so_is_an_error(name: str) -> None:
    for state in ("an_error", "exception", "failed", "cancelled", "aborted", "Failed"):
        assert signs({name: state}) == {"error"}
        assert signs({f"{name}_x": state}) == {None}
    assert signs({name: "completed"}) == {None}


@pytest.mark.parametrize(
    ("kind", "sign", "may_search"),
    [
        ("function_call", None, None),
        ("custom_tool_call", None, None),
        ("function_call_output", None, None),
        ("response.function_call_arguments.delta", None, None),
        ("web_search_call", "searched", None),
        ("response.web_search_call.completed", "searched", None),
        ("code_interpreter_call", "searched", "searched"),
        ("file_search_call", "searched", "searched"),
        ("url_citation", "searched", None),
        ("citations_delta", "searched", None),
        ("annotation.added", "searched", None),
        ("web_search_result", "searched", None),
        ("server_tool_use", "searched", None),
        ("message", None, None),
    ],
)
def test_what_a_server_ran_shows_by_its_type(kind: str, sign: str | None, may_search: str | None) -> None:
    assert signs({"type": kind}) == {sign}
    assert signs({"type": kind}, may_search=True) == {may_search}
    assert signs({"kind": kind}) == {None}


@pytest.mark.parametrize("name", NOT_READ.split())
def test_what_a_client_sent_and_what_a_model_wrote_is_no_sign(name: str) -> None:
    said = {"error": "x", "filtered": True, "finish_reason": "safety", "sources": [1]}
    assert signs({name: said}) == {None}
    assert signs({name: [said]}) == {None}
    assert signs({f"{name}_x": said}) - {None}
    assert sign_in({"text": said}) is None, "the configuration of texts"
    assert sign_in({"text": [said]}) is not None


def test_an_event_says_by_its_name_that_something_went_wrong() -> None:
    assert sign_in({"a": 1}, "response.failed") == "error"
    assert sign_in({"a": 1}, "error") == "error"
    assert sign_in({"a": 1}, "response.created") is None
    assert not is_bad_event("content_block_start")
    assert not is_bad_event("content_block_stop")
    assert is_bad_event("content_blocked")
