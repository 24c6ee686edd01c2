"""Whether an answer is proven to be whole and good, so that the cache may serve it again. Pure.

    chat, text    each choice that was asked for ended once, for a reason of its own, and its calls of tools are whole;
                  a stream ends in its end mark
    responses     completed, every item too; a stream tells every item to its end, without a gap, and ends in that
    messages      ended for a reason of its own, every block and every call of a tool is whole
    embeddings    one vector of finite numbers for each input, all of one length

Its one rule: an answer that is not proven is not kept. So an unknown form costs another call of a server, and nothing
more.
"""

import base64
import json
import math
import re
from array import array
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.json_shapes import array_of, object_of
from proxy.metering.answer_signs import is_bad_event, sign_in
from proxy.metering.sse import data_of, split_events

_END_MARK = b"[DONE]"
_END: dict[str, Any] = {}
"""Stands for the end mark among the documents of a stream."""
_GOOD_REASONS = frozenset({"stop", "length", "tool_calls", "function_call"})
"""Finish reasons of an answer that would be the same again; `length` because its bound is in the key."""
_LINE = re.compile(rb"[^\r\n]+")
_FIELD = re.compile(rb"(?:data|event|id|retry)(?::|$)|:")
_PINGS = frozenset({"keepalive", "ping"})
_COMPLETED = "response.completed"
_OTHER_ENDS = frozenset({"response.failed", "response.incomplete", "response.cancelled"})
_SAYS = ("content", "refusal", "reasoning_content", "reasoning", "tool_calls", "function_call", "audio")
"""What a message, or a part of one, says something with."""
_WHOLE_TEXTS = ("text", "refusal", "arguments", "input", "code", "transcript")
"""Under which name the last event of a text has the whole."""


class _Flaw(Exception):  # noqa: N818 - no error: the answer is not kept
    """What is wrong with an answer, in one word."""


class _Call:
    """A tool call, as far as it has come."""

    def __init__(self, name: str = "", arguments: str = "") -> None:
        self.name = name
        self.arguments = arguments
        self.is_custom = False

    def add(self, part: Mapping[str, Any]) -> None:
        custom = object_of(part.get("custom"))
        function = custom or object_of(part.get("function"))
        self.is_custom = self.is_custom or bool(custom)
        self.name += function.get("name") or ""
        arguments = function.get("arguments")
        self.arguments += json.dumps(arguments) if isinstance(arguments, dict) else arguments or ""

    def check(self) -> None:
        if not self.name or (not self.is_custom and not isinstance(_loads(self.arguments), dict)):
            raise _Flaw("cut")


class _Choice:
    """One choice of a chat or a text, as far as it has come."""

    def __init__(self) -> None:
        self.reason = ""
        self.calls: dict[int, _Call] = {}
        self.old_call: _Call | None = None
        """The one `function_call` of before there were tools."""

    def add(self, part: Mapping[str, Any], said: Mapping[str, Any]) -> None:
        """Add a part of the choice; `said` is its delta or message."""
        if self.reason and (part.get("finish_reason") or part.get("text") or any(said.get(name) for name in _SAYS)):
            raise _Flaw("unending")
        for number, call in enumerate(array_of(said.get("tool_calls"))):
            index = object_of(call).get("index", number)
            self.calls.setdefault(_whole(index), _Call()).add(object_of(call))
        if old := object_of(said.get("function_call")):
            self.old_call = self.old_call or _Call()
            self.old_call.add({"function": old})
        self.reason = part.get("finish_reason") or self.reason

    def check(self) -> None:
        if self.reason not in _GOOD_REASONS:
            raise _Flaw("unended")
        if sorted(self.calls) != list(range(len(self.calls))):
            raise _Flaw("cut")
        calls = [*self.calls.values(), *([self.old_call] if self.old_call else [])]
        if not calls and self.reason in ("tool_calls", "function_call"):
            raise _Flaw("cut")
        for call in calls:
            call.check()


def flaw_of(
    path: str, fields: Mapping[str, Any], body: bytes, *, is_stream: bool, may_search: bool = False
) -> str | None:
    """Why `body` is not proven to be a whole and good answer to a request with these `fields`, in one word; None if it
    is.

    With `may_search`, an answer that used a web search is good.
    """
    try:
        documents = list(_events(body, may_search=may_search)) if is_stream else [_document(body)]
        if not is_stream and (sign := sign_in(documents[0], may_search=may_search)):
            return sign
        if path == "/embeddings" and not is_stream:
            _check_vectors(documents[0], _inputs_of(fields.get("input")), fields.get("dimensions"))
        elif path == "/messages":
            from proxy.metering.whole_message import flaw_of_message  # noqa: PLC0415  # most answers are chats

            return flaw_of_message(documents, is_stream=is_stream)
        elif path == "/responses":
            _check_response_stream(documents) if is_stream else _check_response(documents[0])
        else:
            _check_choices(path, documents, _choices_of(path, fields), is_stream=is_stream)
    except _Flaw as flaw:
        return str(flaw)
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError, AttributeError):
        return "unreadable"
    return None


def _events(body: bytes, *, may_search: bool) -> Iterator[dict[str, Any]]:
    """The documents of a stream; `_END` stands for the end mark. Raises _Flaw for a bad sign."""
    is_over = False
    for event in split_events(body):
        name = _name_of(event)
        data = data_of(event).strip()
        if not data:
            if is_bad_event(name):
                raise _Flaw("error")
            continue
        if is_over:
            raise _Flaw("unending")
        if not event.endswith((b"\n\n", b"\n\r", b"\n\r\n", b"\r\r", b"\r\r\n")):
            raise _Flaw("cut")
        is_over = data == _END_MARK
        document = _END if is_over else _document(data)
        if sign := sign_in(document, name, may_search=may_search):
            raise _Flaw(sign)
        yield document


def _name_of(event: bytes) -> str:
    """The name of an event, or "". Raises _Flaw for a line that no stream may have, or a comment about an error."""
    name = ""
    for line in _LINE.findall(event):
        if not _FIELD.match(line) or (line[:1] == b":" and b"error" in line.lower()):
            raise _Flaw("error" if b"error" in line.lower() else "unreadable")
        if line.startswith(b"event:"):
            name = line[6:].strip().decode()
    return name


def _document(text: bytes) -> dict[str, Any]:
    """A JSON object, read strictly: no repeated names, no NaN. Raises ValueError."""
    document = _loads(text.decode())
    if not isinstance(document, dict):
        raise TypeError("no object")
    return object_of(document)


def _loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_json)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice")
    return fields


def _no_json(constant: str) -> Any:
    raise ValueError(constant)


def _choices_of(path: str, fields: Mapping[str, Any]) -> int:
    """How many choices the answer should have: for each prompt as many as were asked for."""
    number = fields.get("n")
    if number is not None and (type(number) is not int or number < 1):
        raise _Flaw("unclear")
    prompts = 1 if path != "/completions" or fields.get("prompt") is None else _inputs_of(fields["prompt"])
    return (number or 1) * prompts


def _inputs_of(given: Any) -> int:
    """How many inputs a `prompt` or `input` holds: a text or a list of tokens is one, a list of either as many."""
    inputs = array_of(given)
    if isinstance(given, str) or (inputs and _are_tokens(inputs)):
        return 1
    if inputs and (all(isinstance(each, str) for each in inputs) or all(map(_are_tokens, inputs))):
        return len(inputs)
    raise _Flaw("unclear")


def _are_tokens(value: Any) -> bool:
    tokens = array_of(value)
    return bool(tokens) and all(type(token) is int for token in tokens)


def _check_choices(path: str, documents: list[dict[str, Any]], expected: int, *, is_stream: bool) -> None:
    if is_stream and (not documents or documents[-1] is not _END):
        raise _Flaw("cut")
    choices: dict[int, _Choice] = {}
    for document in documents[:-1] if is_stream else documents:
        if not isinstance(document.get("choices"), list):
            raise _Flaw("unreadable")
        for part in map(object_of, document["choices"]):
            said = object_of(part.get("delta")) if is_stream else object_of(part.get("message"))
            if not is_stream and not (said if path == "/chat/completions" else isinstance(part.get("text"), str)):
                raise _Flaw("unreadable")
            index = _whole(part.get("index", 0 if expected == 1 else None))
            if index >= expected:
                raise _Flaw("unclear")
            choices.setdefault(index, _Choice()).add(part, said)
    if len(choices) != expected:
        raise _Flaw("unended")
    for choice in choices.values():
        choice.check()


def _check_response(response: dict[str, Any]) -> None:
    if response.get("status") != "completed" or response.get("incomplete_details"):
        raise _Flaw("unended")
    if not isinstance(response["output"], list):
        raise _Flaw("unreadable")
    for item in map(object_of, array_of(response["output"])):
        if not isinstance(item["type"], str) or item.get("status", "completed") not in ("completed", None):
            raise _Flaw("cut")
        if item["type"] == "function_call":
            _Call(item["name"], item["arguments"]).check()


def _check_response_stream(documents: list[dict[str, Any]]) -> None:
    events = [each for each in documents if each is not _END]  # some servers send an end mark here too
    told = [each for each in events if each["type"] not in _PINGS]
    kinds: list[str] = [each["type"] for each in told]
    if kinds[-1] != _COMPLETED or kinds.count(_COMPLETED) != 1 or not _OTHER_ENDS.isdisjoint(kinds):
        raise _Flaw("unended")
    if not all(kind.startswith("response.") for kind in kinds):
        raise _Flaw("unreadable")
    response = object_of(told[-1]["response"])
    _check_response(response)
    numbers = [each["sequence_number"] for each in events if "sequence_number" in each]
    if numbers and numbers != list(range(_whole(numbers[0]), numbers[0] + len(events))):
        raise _Flaw("cut")
    added, done = (
        sorted(_whole(each["output_index"]) for each in told if each["type"] == f"response.output_item.{step}")
        for step in ("added", "done")
    )
    if added != done or (added and added != list(range(len(response["output"])))):
        raise _Flaw("cut")
    _check_texts(told)


def _check_texts(events: list[dict[str, Any]]) -> None:
    """Check that each text that came in pieces equals, at the end, the sum of its pieces."""
    texts: dict[tuple[Any, ...], str] = {}
    for event in events:
        kind, _, step = event["type"].rpartition(".")
        place = (kind, *(event.get(name) for name in ("output_index", "content_index", "summary_index")))
        if step == "delta" and isinstance(event.get("delta"), str):
            texts[place] = texts.get(place, "") + event["delta"]
        elif step == "done" and place in texts and texts.pop(place) not in [event.get(name) for name in _WHOLE_TEXTS]:
            raise _Flaw("cut")
    if texts:
        raise _Flaw("cut")


def _check_vectors(answer: Mapping[str, Any], expected: int, length: int | None) -> None:
    found = [object_of(each) for each in array_of(answer.get("data"))]
    indices = [_whole(each.get("index", 0 if expected == 1 else None)) for each in found]
    if sorted(indices) != list(range(len(indices))) or len(indices) != expected:
        raise _Flaw("unended")
    lengths = {len(_vector_of(each["embedding"])) for each in found}
    if len(lengths) != 1 or 0 in lengths or lengths != {length or max(lengths)}:
        raise _Flaw("cut")


def _vector_of(embedding: Any) -> list[float]:
    """The numbers of a vector, which may be written as 32-bit floats in base64. Raises ValueError."""
    if isinstance(embedding, str):
        numbers = array("f", base64.b64decode(embedding, validate=True)).tolist()
    else:
        numbers = array_of(embedding)
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError("no numbers")
    return numbers


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("no whole number")
    return value
