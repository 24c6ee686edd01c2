"""Every name by which servers call what their errors say, each once, and the bounds of what is read of them."""

import json
from typing import Any

import pytest
from proxy.metering.reported_error import ReportedError, error_of_event, message_of, reported_error

TEXTS = (
    "error message msg status_msg title detail errors error_description error_message errormessage error_msg errormsg"
    " err_msg err exception fault faultstring failure"
)
STATUSES = "code status status_code statuscode http_status http_code"
CODES = "error_code errorcode err_code"
KINDS = "type __type kind event status state"
OF_ANSWERS = "choices output data delta response item part usage object text"
FAULTS = (
    "err exception failed fault invalid denied unavailable exceeded exhausted overloaded limit timeout timed_out"
    " aborted cancelled forbidden unauthorized not_found notfound bad_request conflict about: http: https: urn:"
)


def in_stream(document: dict[str, Any]) -> ReportedError | None:
    return error_of_event(b"data: " + json.dumps(document).encode(), document, is_question=True)


@pytest.mark.parametrize("name", TEXTS.split())
@pytest.mark.parametrize("written", [str.lower, str.upper])
def test_what_an_error_says_stands_under_any_of_these_names(name: str, written: Any) -> None:
    found = reported_error({"error": {written(name): "said"}})
    assert found
    assert found.message == "said"
    assert message_of({f"{name}_x": "said", "message": "other"}) == "other"


@pytest.mark.parametrize("written", [str.lower, str.upper, str.capitalize])
def test_an_error_alone_says_the_same_however_its_names_are_written(written: Any) -> None:
    for kind in ({}, {"type": "error"}):
        document = {
            written(name): value for name, value in ({"message": "m", "code": "c", "status": 429} | kind).items()
        }
        assert reported_error(document) == in_stream(document) == ReportedError("m", "c", 429)


@pytest.mark.parametrize("name", STATUSES.split())
@pytest.mark.parametrize(
    ("value", "status"),
    [
        (399, None),
        (400, 400),
        (599, 599),
        (600, None),
        ("418", 418),
        ("4180", None),
        ("418.0", None),
        ("\u0664\u0661\u0668", None),
        (418.9, 418),
        (True, None),
        (None, None),
    ],
)
def test_the_status_of_an_error_stands_under_any_of_these_names(name: str, value: Any, status: int | None) -> None:
    for document in ({"error": {"message": "m", name: value}}, {"error": "m", name: value}):
        found = reported_error(document)
        assert found
        assert (found.message, found.status) == ("m", status)
    if value == 418:
        unknown = reported_error({"error": {"message": "m", f"{name}_x": value}})
        assert unknown
        assert unknown.status is None


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("invalid_request_error", 400),
        ("authentication_error", 401),
        ("billing_error", 402),
        ("permission_error", 403),
        ("not_found_error", 404),
        ("request_too_large", 413),
        ("rate_limit_error", 429),
        ("api_error", 500),
        ("timeout_error", 504),
        ("overloaded_error", 529),
        ("another_error", None),
    ],
)
def test_the_types_of_anthropics_errors_are_statuses(kind: str, status: int | None) -> None:
    error = {"type": kind, "message": "m"}
    assert reported_error({"type": "error", "error": error}) == ("m", kind, status)
    assert reported_error({"error": error}) == ("m", kind, None)


@pytest.mark.parametrize("name", CODES.split())
def test_a_code_that_is_named_so_tells_whether_there_is_a_fault(name: str) -> None:
    assert reported_error({name: 17, "message": "m"}) == ("m", "17", None)
    assert reported_error({"error": {name: "E17", "message": "m"}}) == ("m", "E17", None)
    for well in (0, 200, "0", "200", "", "OK", "success"):
        assert reported_error({name: well, "message": "m"}) is None
        assert in_stream({name: well, "message": "m"}) is None


@pytest.mark.parametrize("name", KINDS.split())
def test_a_notice_of_another_kind_is_no_error(name: str) -> None:
    assert in_stream({"message": "m"}) == ("m", None, None)
    assert in_stream({"message": "m", f"{name}_x": "queued"}) is not None
    assert in_stream({"message": "m", name: "queued"}) is None
    for fault in FAULTS.split():
        found = in_stream({"message": "m", name: f"x{fault}" if fault[-1] != ":" else fault})
        assert found, fault
        assert found.message == "m"


@pytest.mark.parametrize("name", OF_ANSWERS.split())
def test_what_holds_a_part_of_an_answer_is_no_bare_error(name: str) -> None:
    part: Any = {"x": "y"} if name in ("delta", "response", "item", "part", "usage") else "text"
    assert in_stream({"message": "m", name: part}) is None
    assert in_stream({"message": "m", f"{name}_x": part}) is not None
    assert reported_error({"error_code": 17, name: part}) is None
    for empty in ("", None, 0):
        assert in_stream({"message": "m", name: empty}) is not None


@pytest.mark.parametrize("said", [{"model": "m"}, {"success": True}, {"ok": True}, {"type": "response.created"}])
def test_what_says_that_all_is_well_is_no_error(said: dict[str, Any]) -> None:
    assert in_stream({"message": "m", **said}) is None


@pytest.mark.parametrize(
    "kind", ["response", "error", "chat.completion", "chat.completion.chunk", "text_completion", "list"]
)
def test_an_answer_that_has_an_error_is_no_record_of_one(kind: str) -> None:
    failed = {"status": "x", "error": {"message": "m"}}
    assert reported_error(failed | {"object": kind}) == ("m", None, None)
    assert reported_error(failed | {"object": f"{kind}.x"}) is None
    assert reported_error(failed | {"object": f"{kind}.x", "status": 5}) == ("m", None, None)


# --------------------------------------------------------------------------------------------------------------- bounds


def nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = {"error": inner}
    return inner


class Unread(str):
    """A text that is not to be looked at."""

    __slots__ = ()

    def __getitem__(self, _place: Any) -> str:
        raise AssertionError("it was looked at")


def test_an_error_is_read_to_its_bounds_and_no_further() -> None:
    assert message_of(nested(6, "deep")) == "deep"
    assert message_of(nested(7, "deep")) == '{"error": "deep"}', "what is deeper is told as it stands"
    assert message_of([f"{number:02}" for number in range(20)]) == ": ".join(f"{number:02}" for number in range(16))
    assert message_of("x" * 2000) == message_of("x" * 2001) == "x" * 2000
    assert message_of(["x" * 1999, "yyy", "never"]) == "x" * 1999 + ":"
    assert message_of(["x" * 1000, "y" * 1000, Unread()]) == "x" * 1000 + ": " + "y" * 998, "no further than it tells"
    assert message_of({"error": [{"loc": ["body", 0, "x"], "msg": "missing"}]}) == "body.0.x: missing"
    assert message_of({"error": [{"loc": list(range(20)), "msg": "m"}]}) == ".".join(map(str, range(16))) + ": m"
    two = {"loc": ["body", "x"], "message": "too long", "detail": "by three"}
    assert message_of([two]) == "body.x: too long, by three"
    assert message_of({"message": "the same", "error": "same"}) == "same: the same"
    assert message_of({"message": "same", "detail": "the same"}) == "same: the same"
    found = reported_error({"error": {"message": "m", "code": "c" * 70}})
    assert found
    assert found.code == "c" * 64


@pytest.mark.parametrize("depth", [5, 6, 7])
def test_what_is_empty_is_looked_for_six_levels_deep(depth: int) -> None:
    value: Any = ""
    for _ in range(depth):
        value = [value]
    assert (reported_error({"error": value}) is None) == (depth <= 6)


def test_of_a_long_event_no_more_than_its_beginning_is_read() -> None:
    text = b"x" * (64 * 1024 - 8) + b" timeout"
    assert error_of_event(b"data: " + text, None, is_question=True)
    assert error_of_event(b"data: x" + text, None, is_question=True) is None
    assert error_of_event(b"event: error\ndata: x", None, is_question=False) == ("x", None, None)
    assert error_of_event(b"event: error\ndata: x\xff", None, is_question=False) == ("x\ufffd", None, None)
    assert error_of_event(b"data: x\n" * 9000 + b"event: error\n", None, is_question=False) is None
