"""Whether an answer with a success status reports an error, and what the error says. Pure.

Servers put an error into a stream that has begun, or into a document with the status 200, each in a form of its own:

    {"error": {"message": …}}   {"error": "text"}   [{"error": …}]                OpenAI; Ollama; Gemini
    {"type": "error", …}   {"type": "response.failed", "response": {"error": …}}  Responses API, Anthropic
    {"choices": [{"error": …, "finish_reason": "error"}]}                         OpenRouter, Mistral
    {"object": "error", "message": …}   {"code": 500, "message": …}               FastChat, vLLM, DashScope
    {"base_resp": {"status_code": 1004, "status_msg": …}}                         MiniMax
    {"Error": …}  {"fault": …}  {"exception": …}  {"error_code": 17, "message": …}
    event: error                                                                  whatever its data is
    {"detail": …}  {"message": …}                                                 in the place of a piece of an answer

Its one rule: only the places where an answer has its own error are read, so that no text that a model wrote is one. Any
empty value (`null`, `{}`, `""`, `false`, `0`) means that there is no error.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from proxy.json_shapes import array_of, object_of
from proxy.metering.sse import data_of, name_of

_LONGEST_MESSAGE = 2000
_LONGEST_CODE = 64
_LONGEST_EVENT = 64 * 1024
"""Bytes of an event, or of its text, that are looked at."""
_FAILED_EVENTS = re.compile(
    r"(?:\w*_)?(?:errors?|exception|fail(?:ed|ure)|fault)|response\.(?:failed|error)", re.IGNORECASE
)
"""Names of events and of types. A tool may fail (`response.mcp_call.failed`) in an answer that does not."""
_FAILED_TYPES = frozenset({"error", "response.failed", "response.error"})
_STATUS_NAMES = ("code", "status", "status_code", "statuscode", "http_status", "http_code")
_MESSAGE_NAMES = (
    *("error", "message", "msg", "status_msg", "title", "detail", "errors", "error_description"),
    *("error_message", "errormessage", "error_msg", "errormsg", "err_msg", "err"),
    *("exception", "fault", "faultstring", "failure"),
)
"""In lower case: some servers write them in another."""
_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Of the types of Anthropic's errors (https://docs.claude.com/en/api/errors)."""
_CODES = ("error_code", "errorcode", "err_code")
_KINDS = ("type", "__type", "kind", "event", "status", "state")
_OF_A_FAULT = re.compile(
    r"err|exception|fail|fault|invalid|denied|unavail|exceed|exhaust|overload|limit|time_?d?_?out|abort|cancel|forbidden|"
    r"unauthori|not_?found|bad_?request|conflict|about:|https?:|urn:",
    re.IGNORECASE,
)
"""In what an error calls its kind. Others, such as `status` or `queued`, are those of notices on the way."""
_OF_ERRORS = re.compile(
    r"err|errors?|err(?:or)?_?(?:code|type|msg|message|info|reason|text|details?)|exceptions?|fault|failure",
    re.IGNORECASE,
)
"""Names of fields that only an error has."""
_OF_ANSWERS = ("choices", "output", "data", "delta", "response", "item", "part", "usage", "object", "text")
"""Fields of which an answer or a piece of one has at least one; a bare error has none of them."""
_ANSWERS = ("response", "error", "chat.completion", "chat.completion.chunk", "text_completion", "list")
_DEEPEST, _MOST = 6, 16
"""How far an error is read: levels, and members of a list."""
_MOST_TEXTS = 1000
"""Lists in lists have millions of them."""


class ReportedError(NamedTuple):
    """What a server says of its error. `message` may be "", and may quote something that only the stack's owner should
    read.

    `status` is the HTTP status from 400 to 599 that the error names, if it names one.
    """

    message: str
    code: str | None
    status: int | None


def reported_error(document: Any, event_name: str = "") -> ReportedError | None:
    """The error that one JSON answer or one event of a stream reports, or None.

    `document` is the decoded JSON; for an event whose data is no JSON, it is the text. `event_name` is that of the
    event.
    """
    return _error_in(document, event_name, is_piece=False)


def error_of_event(event: bytes, document: Any, *, is_question: bool) -> ReportedError | None:
    """The error that one event of a stream reports. `document` is the JSON of its data; None where that is none.

    The answer to a question consists of pieces in known forms. So anything else that has a message for people is an
    error, and so is a text that is no JSON and names a fault.
    """
    if document is None:
        document = data_of(event)[:_LONGEST_EVENT].decode(errors="replace")
    return _error_in(document, name_of(event[:_LONGEST_EVENT]), is_piece=is_question)


def _error_in(document: Any, event_name: str, *, is_piece: bool) -> ReportedError | None:
    for each in array_of(document) or [document]:
        fields = object_of(each)
        for holder, error in _places(fields):
            if _says_something(error):
                return _error_of(object_of(error), holder, message_of(holder))
        bare = {name.lower(): value for name, value in fields.items()}
        if _is_error(fields, bare) or (is_piece and _is_message(bare)):
            return _told(fields, bare)
    if _FAILED_EVENTS.fullmatch(event_name) or (is_piece and _is_text_of_fault(document)):
        fields = object_of(document)
        return _told(fields, fields)._replace(message=message_of(document))
    return None


def _told(fields: Mapping[str, Any], bare: Mapping[str, Any]) -> ReportedError:
    answer = object_of(fields.get("response")) or _inner_error(bare)
    return _error_of(answer, bare, message_of(fields) or message_of(answer))


def message_of(document: Any) -> str:
    """What an error says, in whatever form: all of its texts that are meant for people, each once."""
    found: list[str] = []
    left = _LONGEST_MESSAGE
    for text in itertools.islice(_texts_of(document), _MOST_TEXTS):
        clean = text[:_LONGEST_MESSAGE].strip()
        if clean and not any(clean in other for other in found):
            found.append(clean)
            left -= len(clean)
            if left <= 0:
                break
    return ": ".join(found)[:_LONGEST_MESSAGE]


def _places(fields: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """The places where an answer may have its error, each with the object around it."""
    if _is_record(fields):
        return
    if "error" in fields:
        yield fields, fields["error"]
    answer = object_of(fields.get("response"))
    if "error" in answer:
        yield answer, answer["error"]
    for choice in map(object_of, array_of(fields.get("choices"))):
        if "error" in choice:
            yield choice, choice["error"]
    base = object_of(fields.get("base_resp"))
    if _names_a_fault(base.get("status_code")):
        yield base, base


def _is_record(fields: Mapping[str, Any]) -> bool:
    """Whether it is a record of something that failed earlier, such as a job: fetching the record has not failed."""
    kind = fields.get("object")
    return isinstance(kind, str) and kind not in _ANSWERS and isinstance(fields.get("status"), str)


def _is_error(fields: Mapping[str, Any], bare: Mapping[str, Any]) -> bool:
    """Whether an answer without the field `error` is still an error. `bare` are its fields, with names in lower
    case.
    """
    kind, answer = fields.get("type"), object_of(fields.get("response"))
    if (isinstance(kind, str) and kind in _FAILED_TYPES) or fields.get("object") == "error":
        return True
    if answer.get("status") == "failed" or (fields.get("object") == "response" and fields.get("status") == "failed"):
        return True
    if any(object_of(choice).get("finish_reason") == "error" for choice in array_of(fields.get("choices"))):
        return True
    return not _is_of_answer(bare) and (fields.get("success") is False or _is_bare_error(bare))


def _is_of_answer(bare: Mapping[str, Any]) -> bool:
    """Whether the object holds any part of an answer."""
    return any(bare.get(name) for name in _OF_ANSWERS) or str(bare.get("type")).startswith("response.")


def _is_bare_error(bare: Mapping[str, Any]) -> bool:
    """Whether an object without any part of an answer says, in other words than `error`, that something failed."""
    codes = [bare[name] for name in _CODES if name in bare]
    if any(_OF_ERRORS.fullmatch(name) and _says_something(value) for name, value in bare.items()):
        return not codes or any(map(_names_a_fault, codes))
    if isinstance(detail := bare.get("detail"), dict | list) and _says_something(detail):
        return True
    return _has_message(bare, "title") and (_names_a_fault(bare.get("code")) or _status_of(bare) is not None)


def _is_message(bare: Mapping[str, Any]) -> bool:
    """Whether an object without any part of an answer is an error: its `type` says so, or it has a message for people
    and says neither that all is well nor that it is of another kind.
    """
    if _is_of_answer(bare) or bare.get("model") or bare.get("success") is True or bare.get("ok") is True:
        return False
    kinds = [value for name in _KINDS if isinstance(value := bare.get(name), str) and value]
    if any(map(_FAILED_EVENTS.fullmatch, kinds)):
        return True
    if any(bare.get(name) is not None and not _names_a_fault(bare[name]) for name in ("code", *_CODES)):
        return False
    return _has_message(bare) and (not kinds or any(map(_OF_A_FAULT.search, kinds)))


def _is_text_of_fault(document: Any) -> bool:
    """Whether it is a text that names a fault. JSON that was cut is no such text, nor are `ping` and the like."""
    is_text = isinstance(document, str) and not document.lstrip().startswith(("{", "[{", '["'))
    return is_text and _OF_A_FAULT.search(document) is not None


def _has_message(bare: Mapping[str, Any], *more: str) -> bool:
    names = ("message", "msg", "detail", *more)
    return any(isinstance(value := bare.get(name), str) and value.strip() for name in names)


def _inner_error(bare: Mapping[str, Any]) -> dict[str, Any]:
    """The value of a field that only errors have: `fault`, `exception`, `Error`, …"""
    named = (object_of(value) for name, value in bare.items() if _OF_ERRORS.fullmatch(name))
    return next(filter(None, named), object_of(None))


def _says_something(error: Any, depth: int = 0) -> bool:
    """Whether the field `error` holds an error: some answers have an empty one."""
    if isinstance(error, str):
        return bool(error.strip())
    if isinstance(error, dict | list) and depth < _DEEPEST:
        values = [*object_of(error).values(), *array_of(error)]
        return any(_says_something(value, depth + 1) for value in values)
    return error not in (None, False, {}, [])  # 0 is False


def _names_a_fault(code: Any) -> bool:
    """Whether a code means a fault. Some servers say with 0 or 200 that all is well."""
    if isinstance(code, str) and not code.isdecimal():
        return code.lower() not in ("", "ok", "success")
    return not isinstance(code, bool) and isinstance(code, str | int) and code not in (0, 200, "0", "200")


def _error_of(error: Mapping[str, Any], holder: Mapping[str, Any], message: str) -> ReportedError:
    kind = error.get("type") if holder.get("type") == "error" else None
    status = _status_of(error) or _status_of(holder) or (_STATUS_OF.get(kind) if isinstance(kind, str) else None)
    return ReportedError(message, _code_of(error) or _code_of(holder), status)


def _code_of(fields: Mapping[str, Any]) -> str | None:
    for name in ("code", "type", *_CODES):
        code = fields.get(name)
        if isinstance(code, str | int) and not isinstance(code, bool) and code not in _FAILED_TYPES:
            return _text_of(code)[:_LONGEST_CODE] or None
    return None


def _status_of(fields: Mapping[str, Any]) -> int | None:
    for name in _STATUS_NAMES:
        value = fields.get(name)
        if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdecimal():
            value = int(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and 400 <= value <= 599:
            return int(value)
    return None


def _texts_of(value: Any, depth: int = 0) -> Iterator[str]:
    """Every text for people in an error: `error.message`, FastAPI's list of faults with the place of each, …"""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth < _DEEPEST:
        for each in array_of(value)[:_MOST]:
            yield from _texts_of(each, depth + 1)
    elif isinstance(value, dict) and depth < _DEEPEST:
        fields = {name.lower(): each for name, each in object_of(value).items()}
        texts = [text for name in _MESSAGE_NAMES for text in _texts_of(fields.get(name), depth + 1) if text]
        if where := array_of(fields.get("loc")):
            yield ".".join(map(_text_of, where[:_MOST])) + ": " + ", ".join(texts)
        elif texts or depth == 0:
            yield from texts
        elif _says_something(value):
            yield _text_of(value)
    elif value and value is not True:
        yield _text_of(value)


def _text_of(value: Any) -> str:
    """JSON as text; "" if it is too deep or too long to be written."""
    try:
        return (value if isinstance(value, str) else json.dumps(value))[:_LONGEST_MESSAGE]
    except (ValueError, RecursionError):
        return ""
