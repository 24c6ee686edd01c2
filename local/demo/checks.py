"""Whether OpenAI would accept a chat: each field has the right form and keeps to its bounds. Pure.

Its one rule: what OpenAI refuses is refused with its words, so that a client's mistake is seen before it costs money.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from local.demo.replies import Body, RefusedError, list_of, object_of
from local.demo.schemas.strict import strict_fault

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_PARTS = ("text", "image_url", "input_audio", "refusal", "audio", "file")
_FORMATS = ("json_object", "json_schema", "text")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MOST_STOPS = 4
_KINDS: Mapping[type, str] = {
    str: "a string",
    bool: "a boolean",  # before the integers, because to Python a bool is an int
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


class _Field(NamedTuple):
    """What a field may be, in OpenAI's words; of a number its bounds."""

    expected: str
    kinds: tuple[type, ...]
    least: float = float("-inf")
    most: float = float("inf")


_NUMBERS = (int, float)
_FIELDS: Mapping[str, _Field] = {
    "frequency_penalty": _Field("a decimal", _NUMBERS, -2, 2),
    "logprobs": _Field("a boolean", (bool,)),
    "max_completion_tokens": _Field("an integer", (int,), 1),
    "max_tokens": _Field("an integer", (int,), 1),
    "metadata": _Field("an object", (dict,)),
    "model": _Field("a string", (str,)),
    "n": _Field("an integer", (int,), 1, 128),
    "parallel_tool_calls": _Field("a boolean", (bool,)),
    "presence_penalty": _Field("a decimal", _NUMBERS, -2, 2),
    "response_format": _Field("an object", (dict,)),
    "seed": _Field("an integer", (int,)),
    "stop": _Field("a string or an array of strings", (str, list)),
    "stream": _Field("a boolean", (bool,)),
    "stream_options": _Field("an object", (dict,)),
    "temperature": _Field("a decimal", _NUMBERS, 0, 2),
    "tool_choice": _Field("one of 'none', 'auto' and 'required', or an object", (str, dict)),
    "tools": _Field("an array of objects", (list,)),
    "top_logprobs": _Field("an integer", (int,), 0, 20),
    "top_p": _Field("a decimal", _NUMBERS, 0, 1),
    "user": _Field("a string", (str,)),
}


def check_chat(body: Body) -> None:
    """Raises RefusedError (400) for a chat that OpenAI would refuse."""
    for name, field in _FIELDS.items():
        if (value := body.get(name)) is not None:
            _check_field(name, value, field)
    for number, message in enumerate(list_of(body["messages"])):
        _check_message(f"messages[{number}]", object_of(message))
    stops = body.get("stop") or ()
    if len(list_of(stops)) > _MOST_STOPS or not all(isinstance(stop, str) for stop in stops):
        raise _invalid("stop", f"Expected a string, or an array of at most {_MOST_STOPS} strings.")
    for number, tool in enumerate(list_of(body.get("tools"))):
        _check_tool(f"tools[{number}]", object_of(tool))
    _check_format(object_of(body.get("response_format")))
    if body.get("tool_choice") not in (None, "none", "auto") and not body.get("tools"):
        message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise RefusedError(400, message, "tool_choice")
    if body.get("stream_options") is not None and not body.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise RefusedError(400, message, "stream_options")


def _check_field(name: str, value: Any, field: _Field) -> None:
    if type(value) not in field.kinds:
        raise _wrong_type(name, value, field.expected)
    if isinstance(value, int | float) and not field.least <= value <= field.most:
        kind = "decimal" if field.kinds is _NUMBERS else "integer"
        side, sign, bound = ("below min", ">=", field.least) if value < field.least else ("above max", "<=", field.most)
        message = f"{kind} {side}imum value. Expected a value {sign} {bound:g}, but got {value} instead."
        raise RefusedError(400, f"Invalid '{name}': {message}", name, f"{kind}_{side.replace(' ', '_')}_value")


def _check_message(place: str, message: Mapping[str, Any]) -> None:
    role, content = message.get("role"), message.get("content")
    if "role" not in message:
        raise _missing(f"{place}.role")
    _one_of(role, _ROLES, f"{place}.role")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise _missing(f"{place}.tool_call_id")
    if message.get("tool_calls") is not None:
        _check_calls(f"{place}.tool_calls", message["tool_calls"])
    if content is None:
        if role != "assistant" or not any(
            message.get(each) for each in ("tool_calls", "function_call", "audio", "refusal")
        ):
            raise RefusedError(400, "Invalid value for 'content': expected a string, got null.", f"{place}.content")
    elif not isinstance(content, str | list):
        raise _wrong_type(f"{place}.content", content, "one of a string or array of objects")
    for number, part in enumerate(list_of(content)):
        _check_part(f"{place}.content[{number}]", part)


def _check_part(place: str, part: Any) -> None:
    if not isinstance(part, dict):
        raise _wrong_type(place, part, "an object")
    fields = object_of(part)
    if "type" not in fields:
        raise _missing(f"{place}.type")
    kind = fields["type"]
    _one_of(kind, _PARTS, f"{place}.type")
    if kind not in fields:
        raise _missing(f"{place}.{kind}")
    wanted = str if kind in ("text", "refusal") else dict
    if not isinstance(fields[kind], wanted):
        raise _wrong_type(f"{place}.{kind}", fields[kind], _KINDS[wanted])


def _check_calls(place: str, calls: Any) -> None:
    if not isinstance(calls, list):
        raise _wrong_type(place, calls, "an array of objects")
    for number, call in enumerate(list_of(calls)):
        fields, here = object_of(call), f"{place}[{number}]"
        for name in ("id", "type"):
            if not isinstance(fields.get(name), str):
                raise _missing(f"{here}.{name}")
        if fields["type"] == "function":
            for name in ("name", "arguments"):
                if not isinstance(object_of(fields.get("function")).get(name), str):
                    raise _missing(f"{here}.function.{name}")


def _check_tool(place: str, tool: Mapping[str, Any]) -> None:
    if not isinstance(tool.get("type"), str):
        raise _missing(f"{place}.type")
    if tool["type"] != "function":
        return
    function = object_of(tool.get("function"))
    if "name" not in function:
        raise _missing(f"{place}.function.name")
    if not isinstance(function["name"], str):
        raise _wrong_type(f"{place}.function.name", function["name"], "a string")
    if not _NAME.fullmatch(function["name"]):
        pattern = "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        raise _invalid(f"{place}.function.name", pattern)
    if function.get("strict") and (fault := strict_fault(function.get("parameters", {}))):
        message = f"Invalid schema for function '{function['name']}': {fault}"
        raise RefusedError(400, message, f"{place}.function.parameters", "invalid_function_parameters")


def _check_format(form: Mapping[str, Any]) -> None:
    if not form:
        return
    _one_of(form.get("type"), _FORMATS, "response_format.type")
    if form["type"] != "json_schema":
        return
    described = object_of(form.get("json_schema"))
    if not isinstance(described.get("name"), str):
        raise _missing("response_format.json_schema.name")
    if described.get("strict") and (fault := strict_fault(described.get("schema"))):
        message = f"Invalid schema for response_format '{described['name'][:100]}': {fault}"
        raise RefusedError(400, message, "response_format")


def _one_of(value: Any, allowed: Sequence[str], place: str) -> None:
    if value not in allowed:
        named = ", ".join(f"'{each}'" for each in allowed[:-1])
        message = f"Invalid value: '{str(value)[:50]}'. Supported values are: {named}, and '{allowed[-1]}'."
        raise RefusedError(400, message, place, "invalid_value")


def _missing(place: str) -> RefusedError:
    return RefusedError(400, f"Missing required parameter: '{place}'.", place, "missing_required_parameter")


def _wrong_type(place: str, value: Any, expected: str) -> RefusedError:
    got = next((name for kind, name in _KINDS.items() if isinstance(value, kind)), "something else")
    message = f"Invalid type for '{place}': expected {expected}, but got {got} instead."
    return RefusedError(400, message, place, "invalid_type")


def _invalid(place: str, told: str) -> RefusedError:
    return RefusedError(400, f"Invalid '{place}': {told}", place, "invalid_value")
