"""The form in which a client is told of an error: OpenAI's, or Anthropic's where it calls the Messages API. Pure.

    {"error": {"message", "type", "param", "code"}}                             every other path
    {"type": "error", "error": {"type", "message", "code"}, "request_id"}       /v1/messages, and what is below it

Anthropic's `type` follows from the status (https://docs.claude.com/en/api/errors); the stable `code` stands beside it.
"""

import json
import re
from typing import Any
from urllib.parse import unquote

from proxy.call import Call
from proxy.delivery import Delivery
from proxy.errors import ProxyError
from proxy.metering.meter import Meter

_RESPONSES = "/responses"
_MESSAGES = r"/v1/messages(?:/|$)"
_TYPES_OF_ANTHROPIC = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_END = b"data: [DONE]\n\n"


def error_document(error: ProxyError, call: Call) -> bytes:
    """The body of an answer that is an error."""
    return json.dumps(_of_anthropic(error, call)).encode() if _is_of_messages(call) else error.to_json()


def error_headers(call: Call) -> dict[str, str]:
    """The headers that SDKs read with an error in this form, beside those that every answer has."""
    return {"request-id": call.request_id} if _is_of_messages(call) else {}


def error_frames(error: ProxyError, call: Call, meter: Meter, delivery: Delivery, created_at: float) -> bytes:
    """The last events of a stream that failed. SDKs of the Responses API know two events for a failure, and need
    both.
    """
    if _is_of_messages(call):
        return _frame("error", _of_anthropic(error, call))
    if call.path != _RESPONSES:
        return b"data: " + error.to_json() + b"\n\n" + _END
    number, said = meter.next_sequence_number, {"code": error.code, "message": error.message}
    failed: dict[str, Any] = {
        "id": meter.id or call.id,
        "object": "response",
        "created_at": int(created_at),
        "status": "failed",
        "model": meter.model or delivery.model or "",
        "output": [],
        "error": said,
    }
    last = {"type": "error", "sequence_number": number + 1, **said, "param": None, **error.to_object()}
    first = {"type": "response.failed", "sequence_number": number, "response": failed}
    return _frame("response.failed", first) + _frame("error", last) + _END


def _frame(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _is_of_messages(call: Call) -> bool:
    """Whether the call is for the Messages API. The path as it was sent decides, so that a client that is refused
    before its path is parsed also gets an error that it can read.
    """
    path = unquote(call.request.path) if call.request else f"/v1{call.path}"
    return re.search(_MESSAGES, path) is not None


def _of_anthropic(error: ProxyError, call: Call) -> dict[str, Any]:
    kind = _TYPES_OF_ANTHROPIC.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    said = {"type": kind, "message": error.message, "code": error.code}
    return {"type": "error", "error": said, "request_id": call.request_id}
