"""Errors in the form that a client's API has for them, compared whole."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from proxy.call import Call
from proxy.delivery import Delivery
from proxy.endpoints.error_forms import error_document, error_frames, error_headers
from proxy.errors import ClientError, ProxyError, UpstreamError
from proxy.request.body import OutgoingBody
from proxy.request.parse import InferenceRequest, Target

ERROR = UpstreamError(502, "upstream_no_answer", "No.")
OPENAI = {"error": {"message": "No.", "type": "upstream_error", "param": None, "code": "upstream_no_answer"}}


def call_of(path: str) -> Call:
    """A call whose target nobody has read yet."""
    return Call(
        "inference-1", 0.0, InferenceRequest("function_url", "POST", path, "", {"x-request-id": "own"}, b"", None)
    )


@pytest.mark.parametrize(
    ("path", "is_of_messages"),
    [
        ("/v1/messages", True),
        ("/v1/messages/", True),
        ("/up/v1/messages/batches", True),
        ("/v1/%6Dessages", True),
        ("/v1/messagesX", False),
        ("/v1/chat/completions", False),
        ("/v2/messages", False),
    ],
)
def test_the_path_as_it_was_sent_says_which_form_it_is(path: str, is_of_messages: bool) -> None:
    call = call_of(path)
    said = {"type": "api_error", "message": "No.", "code": "upstream_no_answer"}
    anthropic = {"type": "error", "error": said, "request_id": "own"}
    assert json.loads(error_document(ERROR, call)) == (anthropic if is_of_messages else OPENAI)
    assert error_headers(call) == ({"request-id": "own"} if is_of_messages else {})


def test_of_a_request_that_could_not_be_read_the_target_says_it() -> None:
    assert error_headers(Call("id-1", 0.0, target=Target(None, "/messages"))) == {"request-id": "id-1"}
    assert error_headers(Call("id-1", 0.0)) == {}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (408, "timeout_error"),
        (409, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (499, "invalid_request_error"),
        (500, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_the_type_that_anthropics_sdks_know_follows_from_the_status(status: int, kind: str) -> None:
    document = json.loads(error_document(ProxyError(status, "c", "m"), call_of("/v1/messages")))
    assert document == {"type": "error", "error": {"type": kind, "message": "m", "code": "c"}, "request_id": "own"}


# -------------------------------------------------------------------------------------------------------------- streams


def frames(path: str, meter_id: str | None, meter_model: str | None, model: str | None = "asked") -> str:
    meter = SimpleNamespace(next_sequence_number=7, id=meter_id, model=meter_model)
    delivery = Delivery(sent=OutgoingBody(b"", model, True, False))
    error = ClientError(400, "c", "m", param="p")
    call = call_of(f"/v1{path}")._replace(target=Target(None, path))
    return error_frames(error, call, cast("Any", meter), delivery, 1_900_000_000.9).decode()


def test_a_stream_of_chunks_ends_in_an_error_and_the_end_mark() -> None:
    error = {"error": {"message": "m", "type": "invalid_request_error", "param": "p", "code": "c"}}
    assert frames("/chat/completions", "x", "y") == f"data: {json.dumps(error)}\n\ndata: [DONE]\n\n"


def test_a_stream_of_messages_ends_in_an_event_of_its_own() -> None:
    said = {"type": "invalid_request_error", "message": "m", "code": "c"}
    error = {"type": "error", "error": said, "request_id": "own"}
    assert frames("/messages", "x", "y") == f"event: error\ndata: {json.dumps(error)}\n\n"


@pytest.mark.parametrize(
    ("meter_id", "meter_model", "model", "wanted_id", "wanted_model"),
    [
        ("resp_1", "real", "asked", "resp_1", "real"),
        (None, None, "asked", "inference-1", "asked"),
        (None, None, None, "inference-1", ""),
    ],
)
def test_a_stream_of_a_response_ends_in_both_events_that_sdks_read(
    meter_id: str | None, meter_model: str | None, model: str | None, wanted_id: str, wanted_model: str
) -> None:
    first, last, end = frames("/responses", meter_id, meter_model, model).split("\n\n", 2)
    assert end == "data: [DONE]\n\n"
    kind, data = first.split("\ndata: ")
    assert (kind, json.loads(data)) == (
        "event: response.failed",
        {
            "type": "response.failed",
            "sequence_number": 7,
            "response": {
                "id": wanted_id,
                "object": "response",
                "created_at": 1_900_000_000,
                "status": "failed",
                "model": wanted_model,
                "output": [],
                "error": {"code": "c", "message": "m"},
            },
        },
    )
    kind, data = last.split("\ndata: ")
    assert (kind, json.loads(data)) == (
        "event: error",
        {
            "type": "error",
            "sequence_number": 8,
            "code": "c",
            "message": "m",
            "param": None,
            "error": {"message": "m", "type": "invalid_request_error", "param": "p", "code": "c"},
        },
    )
