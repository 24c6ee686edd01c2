"""Whether a server reports an error in what it calls an answer, and what the error says. Pure.

Servers put an error into a stream that has begun, or into a document with the status 200, each in a form of its own:

    {"error": {"message": …}}   {"error": "text"}   [{"error": …}]                OpenAI; Ollama; Gemini
    {"type": "error", …}   {"type": "response.failed", "response": {"error": …}}  Responses API, Anthropic
    {"choices": [{"error": …, "finish_reason": "error"}]}                         OpenRouter, Mistral
    {"object": "error", "message": …}   {"code": 500, "message": …}               FastChat, vLLM, DashScope
    {"base_resp": {"status_code": 1004, "status_msg": …}}                         MiniMax
    event: error                                                                  whatever its data is

Its one rule: only the places where an answer has its own error are read, so that no text that a model wrote is one.
Everything empty (`null`, `{}`, `""`, `false`, `0`) says that there is none.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from proxy.json_shapes import array_of, object_of

_LONGEST_MESSAGE = 2000
_LONGEST_CODE = 64
_FAILED_EVENTS = frozenset({"error", "response.failed", "response.error"})
_STATUS_NAMES = ("code", "status", "status_code", "statusCode", "http_status", "http_code")
_MESSAGE_NAMES = (
    *("error", "message", "msg", "status_msg", "title", "detail", "errors", "error_description"),
    *("error_message", "errormessage", "error_msg", "errormsg", "err_msg", "err", "exception", "fault", "faultstring"),
)
"""In lower case: some servers write them in another."""
_CODES = ("error_code", "errorcode", "err_code")
_OF_ERRORS = re.compile(
    r"err|errors?|err(?:or)?_?(?:code|type|msg|message|info|reason|text|details?)|exceptions?|fault", re.IGNORECASE
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
    """What a server says of its error. `message` may be "", and may quote what nobody but its owner should read.

    `status` is the HTTP status from 400 to 599 that the error names, if it names one.
    """

    message: str
    code: str | None
    status: int | None


def reported_error(document: Any, event_name: str = "") -> ReportedError | None:
    """The error that one JSON answer or one event of a stream reports, or None.

    `document` is what was decoded; the data of an event that is no JSON is its text. `event_name` is that of the event.
    """
    for each in array_of(document) or [document]:
        fields = object_of(each)
        for holder, error in _places(fields):
            if _says_something(error):
                return _error_of(object_of(error), holder, message_of(holder))
    fields = object_of(document)
    if event_name.lower() in _FAILED_EVENTS or _is_error(fields):
        answer = object_of(fields.get("response"))
        return _error_of(answer, fields, message_of(document) or message_of(answer))
    return None


def message_of(document: Any) -> str:
    """What an error says, in whatever form: every text of it that is meant for people, each once."""
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
    """Where an answer has its error: each with the object that it stands in."""
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
    """Whether it is a record of something that failed some time ago, such as a job: asking for it did not fail."""
    kind = fields.get("object")
    return isinstance(kind, str) and kind not in _ANSWERS and isinstance(fields.get("status"), str)


def _is_error(fields: Mapping[str, Any]) -> bool:
    """Whether an answer without an `error` is one all the same."""
    kind, answer = fields.get("type"), object_of(fields.get("response"))
    if (isinstance(kind, str) and kind in _FAILED_EVENTS) or fields.get("object") == "error":
        return True
    if answer.get("status") == "failed" or (fields.get("object") == "response" and fields.get("status") == "failed"):
        return True
    if any(object_of(choice).get("finish_reason") == "error" for choice in array_of(fields.get("choices"))):
        return True
    if any(fields.get(name) for name in _OF_ANSWERS) or str(kind).startswith("response."):
        return False
    return fields.get("success") is False or _is_bare_error(fields)


def _is_bare_error(fields: Mapping[str, Any]) -> bool:
    """Whether what holds no part of an answer says in words of its own that something failed."""
    codes = [value for name, value in fields.items() if name.lower() in _CODES]
    if any(_OF_ERRORS.fullmatch(name) and _says_something(value) for name, value in fields.items()):
        return not codes or any(map(_names_a_fault, codes))
    if isinstance(detail := fields.get("detail"), dict | list) and _says_something(detail):
        return True
    says = any(isinstance(fields.get(name), str) and fields[name] for name in ("message", "msg", "detail", "title"))
    return says and (_names_a_fault(fields.get("code")) or _status_of(fields) is not None)


def _says_something(error: Any, depth: int = 0) -> bool:
    """Whether an `error` is one: most answers have none, some an empty one."""
    if isinstance(error, str):
        return bool(error.strip())
    if isinstance(error, dict | list) and depth < _DEEPEST:
        values = [*object_of(error).values(), *array_of(error)]
        return any(_says_something(value, depth + 1) for value in values)
    return error not in (None, False, 0, {}, [])


def _names_a_fault(code: Any) -> bool:
    """Whether a code stands for a fault; 0 and 200 are how some servers say that all is well."""
    if isinstance(code, str) and not code.isdecimal():
        return code.lower() not in ("", "ok", "success")
    return not isinstance(code, bool) and isinstance(code, str | int) and code not in (0, 200, "0", "200")


def _error_of(error: Mapping[str, Any], holder: Mapping[str, Any], message: str) -> ReportedError:
    return ReportedError(message, _code_of(error) or _code_of(holder), _status_of(error) or _status_of(holder))


def _code_of(fields: Mapping[str, Any]) -> str | None:
    for name in ("code", "type"):
        code = fields.get(name)
        if isinstance(code, str | int) and not isinstance(code, bool) and code not in _FAILED_EVENTS:
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
    """JSON as text; "" for what is too deep or too long to be written."""
    try:
        return (value if isinstance(value, str) else json.dumps(value))[:_LONGEST_MESSAGE]
    except (ValueError, RecursionError):
        return ""
