"""What is an error of a server, in whichever form it comes, and what is none, whatever it looks like."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.metering.reported_error import ReportedError, error_of_event, message_of, reported_error

CHUNK: dict[str, Any] = {"id": "c-1", "object": "chat.completion.chunk", "model": "m"}
ANSWER: dict[str, Any] = {"id": "r-1", "object": "response", "model": "m", "status": "in_progress"}
TEXTS = st.text(min_size=1, max_size=200).filter(str.strip)
STATUSES = st.integers(400, 599)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=30,
)
NO_ERROR: list[Any] = [None, {}, "", " ", [], False, 0, {"message": ""}, {"code": None, "message": None}, [{}]]


def forms(text: str, status: object) -> list[tuple[Any, str]]:
    """One error in every form, with the name of its event."""
    said = {"message": text, "code": status}
    failed = {**ANSWER, "status": "failed", "error": said}
    return [
        ({"error": said}, ""),
        ({"error": text, "code": status}, ""),
        ({"error": text, "status": status}, ""),
        ({"error": True, **said}, ""),
        ({"error": [said], "status": status}, ""),
        ({**CHUNK, "error": said, "choices": [{"delta": {}, "finish_reason": "error"}]}, ""),
        ({**CHUNK, "choices": [{"delta": {"content": "a"}}, {"error": said, "finish_reason": "error"}]}, ""),
        ({**CHUNK, "choices": [{"error": text, "code": status}]}, ""),
        ([{"error": said}], ""),
        ([{"candidates": []}, {"error": {**said, "status": "RESOURCE_EXHAUSTED"}}], ""),
        ({"type": "error", "error": said}, ""),
        ({"type": "error", "sequence_number": 3, "param": None, **said}, ""),
        ({"type": "response.failed", "sequence_number": 3, "response": failed}, ""),
        ({"type": "response.failed", "response": {**ANSWER, "error": {"message": text}, "code": status}}, ""),
        (failed, ""),
        ({"object": "error", "message": text, "code": status}, ""),
        (said, ""),
        ({"msg": text, "code": status, "success": False, "data": None}, ""),
        ({"success": False, "errors": [said], "status_code": status, "result": None}, ""),
        ({"base_resp": {"status_msg": text, "status_code": status}, "choices": None}, ""),
        (said, "error"),
        ({"message": text, "status_code": status}, "error"),
        ({"detail": text, "status": status}, "error"),
        ({"error": said}, "error"),
    ]


@given(TEXTS, STATUSES, st.booleans())
def test_an_error_is_told_in_every_form(text: str, status: int, as_text: bool) -> None:
    for document, event_name in forms(text, str(status) if as_text else status):
        error = reported_error(json.loads(json.dumps(document)), event_name)
        assert error is not None, document
        assert text.strip() in error.message, document
        assert error.status == status, document


@pytest.mark.parametrize(
    ("document", "event_name", "message", "code"),
    [
        ("it broke", "error", "it broke", None),
        (None, "error", "", None),
        ({}, "ERROR", "", None),
        ({"type": "response.failed", "response": {"error": None}}, "response.failed", "", None),
        ({"choices": [{"finish_reason": "error"}]}, "", "", None),
        ({**ANSWER, "status": "failed", "error": None}, "", "", None),
        ({"code": "rate_limit_exceeded", "message": "m", "type": "error"}, "", "m", "rate_limit_exceeded"),
        ({"code": "InvalidApiKey", "message": "m", "request_id": "r"}, "", "m", "InvalidApiKey"),
        ({"error": {"type": "x"}}, "", '{"type": "x"}', "x"),
        ({"error": 17}, "", "17", None),
    ],
)
def test_an_error_that_names_no_status(document: Any, event_name: str, message: str, code: str | None) -> None:
    assert reported_error(document, event_name) == (message, code, None)


@pytest.mark.parametrize(
    "wrong", [0, 200, 399, 600, 10**40, -429, "42", "4290", "\uff14\uff12\uff19", True, [429], 1e300]
)
def test_what_is_no_status_of_an_error_is_not_named(wrong: object) -> None:
    for document in ({"error": {"message": "m", "code": wrong}}, {"error": "m", "status": wrong}):
        error = reported_error(document)
        assert error is not None
        assert error.status is None


@pytest.mark.parametrize("empty", NO_ERROR)
def test_an_empty_error_is_none(empty: Any) -> None:
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    for document in (
        {"error": empty},
        {**CHUNK, "choices": [choice], "error": empty},
        {**CHUNK, "choices": [{**choice, "error": empty}]},
        {"type": "response.created", "response": {**ANSWER, "error": empty}},
        {**ANSWER, "status": "completed", "error": empty},
        [{**CHUNK, "error": empty}],
    ):
        assert reported_error(document) is None, document


@given(JSON)
def test_what_a_model_wrote_is_no_error(said: Any) -> None:
    texts = [json.dumps({"error": said}), f"event: error\ndata: {said}", "[ERROR]", said]
    for text in texts:
        for document in (
            {**CHUNK, "choices": [{"delta": {"content": text, "error": said}, "finish_reason": "stop"}]},
            {"object": "chat.completion", "choices": [{"message": {"content": text}, "finish_reason": "stop"}]},
            {"object": "text_completion", "choices": [{"text": text}]},
            {"type": "response.output_text.delta", "delta": text, "code": 500, "message": "m"},
            {"type": "response.output_item.done", "item": {"type": "mcp_call", "error": text}},
            {"type": "response.completed", "response": {**ANSWER, "output": [{"error": text}], "error": None}},
            {"object": "list", "data": [{"embedding": text, "error": said}]},
        ):
            assert reported_error(document) is None, document


@pytest.mark.parametrize(
    "document",
    [
        {"object": "fine_tuning.job", "status": "failed", "error": {"code": "x", "message": "m"}},
        {"object": "video", "status": "failed", "error": {"code": "x", "message": "m"}},
        {"status": "in_progress", "message": "loading"},
        {"code": 0, "message": "success"},
        {"code": "200", "message": "ok"},
        {"base_resp": {"status_code": 0, "status_msg": "success"}, "choices": []},
        {"text": "a transcript", "code": 500, "message": "m"},
        {"success": True, "errors": []},
        # a name that is like that of an error is not enough
        {"error_code": 0, "error_msg": "success"},
        {"errorCode": "OK", "errorMessage": "Success"},
        {"error_count": 3, "error_rate": 0.5, "default_model": "m", "errand": "a"},
        {"type": "message_start", "message": {"id": "m", "role": "assistant"}},
        {"title": "An answer", "status": "done"},
        {"errors": [], "exception": None, "fault": {}, "detail": []},
        {"object": "file", "error_msg": "of a line of it", "status": "error"},
    ],
)
def test_what_is_no_error_of_the_call(document: Any) -> None:
    assert reported_error(document) is None


@given(JSON, st.text(max_size=10))
def test_any_json_can_be_read(document: Any, event_name: str) -> None:
    for each in (document, {"error": document}, [document], {"choices": document}, {"response": document}):
        error = reported_error(each, event_name)
        assert error is None or (len(error.message) <= 2000 and len(error.code or "") <= 64)


def test_what_is_deep_or_long_is_read_in_part() -> None:
    deep: Any = "end"
    for _ in range(100_000):
        deep = [deep]
    error = reported_error({"error": {"message": deep, "code": "c" * 10**6}})
    assert error == ("", "c" * 64, None)
    assert len(message_of({"error": "m" * 10**6})) == 2000
    assert len(message_of({"detail": ["m" * 500] * 1000})) <= 2000


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"error": "Not Found", "message": "There is no model x."}, "Not Found: There is no model x."),
        ({"error": {"message": "m"}, "message": "m"}, "m"),
        ({"detail": "Not allowed"}, "Not allowed"),
        ({"detail": {"error": "e", "message": "m"}}, "e: m"),
        (
            {"detail": [{"loc": ["body", "messages", 0], "msg": "field required", "type": "missing"}]},
            "body.messages.0: field required",
        ),
        (
            {"title": "Bad Request", "status": 400, "detail": "max_tokens is too large"},
            "Bad Request: max_tokens is too large",
        ),
        ({"object": "error", "message": "m", "code": 40001}, "m"),
        ({"errors": [{"code": 7003, "message": "No route"}], "success": False}, "No route"),
        ({"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "x"], "msg": "no"}]}}, "body.x: no"),
        ({"error": {"reason": "r"}}, '{"reason": "r"}'),
        ([{"error": {"message": "m", "details": [{"@type": "t"}]}}], "m"),
        ({"status": 404}, ""),
        ({"error": None, "message": ""}, ""),
        ("text", "text"),
        (None, ""),
    ],
)
def test_what_an_error_says(document: Any, said: str) -> None:
    assert message_of(document) == said


def nested(depth: int, names: Iterator[int]) -> Any:
    return [nested(depth - 1, names) for _ in range(16)] if depth else f"{next(names):x}"


def test_an_error_of_many_texts_costs_no_more_than_its_reading() -> None:
    said = message_of({"error": {"message": nested(4, itertools.count())}})
    assert said.startswith("0: 1: 2: 3: ")
    assert len(said) == 2000


def test_what_is_too_long_or_too_deep_to_be_written_is_left_out() -> None:
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    odd = {"deep": deep, "long": 10**5000}
    for error in ({"error": {"x": odd}}, {"error": {"code": 10**5000, "x": [odd, {"y": odd}]}}):
        assert reported_error(error) == ReportedError("", None, None)
    assert message_of({"error": {"message": "said", "x": odd}}) == "said"
    assert message_of({"detail": [{"loc": ["body", 10**5000], "msg": "no"}]}) == "body.: no"


@pytest.mark.parametrize(
    ("data", "is_error"),
    [
        (b"it failed", True),
        (b' "it failed', True),
        (b'{"it failed', False),
        (b' {"it failed', False),
        (b'[{"it failed', False),
        (b' ["it failed', False),
        (b"[it failed", True),
    ],
)
def test_a_text_that_names_a_fault_is_an_error_and_json_that_was_cut_is_none(data: bytes, is_error: bool) -> None:
    assert (error_of_event(b"data: %b\n\n" % data, None, is_question=True) is not None) is is_error


def test_that_there_is_an_error_is_no_text_of_it() -> None:
    for error, message in ((True, ""), ([True, "bad"], "bad"), ({"message": True, "detail": "bad"}, "bad")):
        found = reported_error({"error": error})
        assert found
        assert found.message == message
