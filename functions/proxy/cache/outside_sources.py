"""Whether an answer depends on more than its request: a search, something stored elsewhere, or what a server remembers.
Pure.

Its one rule: in doubt, an answer counts as one that does. A request that needlessly bypasses the response cache costs
no more than one call of a server.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.json_shapes import array_of, object_of
from proxy.request.kept import is_reference

_REMEMBERED = re.compile(
    r"previous_\w+|conversation(_id)?|container|thread(_id)?|(session|chat|assistant|agent|bot|memory)_id|cached_content"
)
_SEARCH = re.compile(
    r"search|plugin|connector|extension|extra_body|ground|retriev|data_?source|citation|brows|internet|online|compound|"
    r"^web|knowledge|dataset|^rag(?![a-z])|^mcp|tool_(resource|server|id)s?$"
)
"""In the name of a field: every provider calls it something else."""
_SAID_BY_THE_CLIENT = frozenset(
    {
        *("messages", "input", "prompt", "tools", "functions", "tool_choice", "function_call", "response_format"),
        *("text", "metadata", "prediction", "logit_bias"),
    }
)
"""Fields of the body in which no server has an option that lets it search; tools are looked at apart."""
_SEARCHING_MODELS = frozenset(
    {"sonar", "search", "deepsearch", "research", "deepresearch", "online", "compound", "web", "browsing", "grounded"}
)
"""Words in the names of models that search whether they are asked to or not: `sonar-pro`, `gpt-4o-search-preview`,
`some/model:online`, `o3-deep-research`, `groq/compound`."""
_ADDRESS = re.compile(
    r"(ur[il]|href)s?$|(file|image|video|audio|document|media|asset|store|upload|attachment)_?ids?$", re.IGNORECASE
)
_WHOLE_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]{1,20}://\S+\s*", re.IGNORECASE)
_WORDS = frozenset(
    {
        *("content", "text", "input", "prompt", "arguments", "output", "instructions", "suffix", "stop", "refusal"),
        *("name", "title", "description", "pattern", "default", "const", "enum", "examples", "model", "user"),
    }
)
"""Fields whose texts are for the model, or belong to a schema: an address there is a word like others."""
_SEARCHING_TOOL = re.compile(r"web_search")
_PURE_TOOLS = frozenset({"function", "custom"})
"""Tools that the client runs. All others the server runs, with answers from elsewhere and effects of their own."""
_RUN_BY_CLIENTS = re.compile(r"(?:bash|text_editor|computer|memory)_\d{8}")
"""Tools that Anthropic names, and the client runs."""
_WITHOUT_NAMES = "metadata"


def is_stateful(fields: Mapping[str, Any]) -> bool:
    """Whether the answer depends on what the server remembers, or the server is told to remember it."""
    if fields.get("store") or fields.get("background"):  # some servers read a text or a number as true
        return True
    if any(value and _REMEMBERED.fullmatch(name) for name, value in fields.items()):
        return True
    if object_of(fields.get("prompt")):  # a prompt that the server stores, and whose version may change
        return True
    return any(is_reference(object_of(item)) for item in array_of(fields.get("input")))


def is_remembered(path: str, fields: Mapping[str, Any]) -> bool:
    """Whether the server remembers the answer by an id, which all who get the answer would share.

    Servers remember the answers of `/responses` unless they are told not to, and spoken answers for a while.
    """
    return (path == "/responses" and fields.get("store") is not False) or "audio" in array_of(fields.get("modalities"))


def uses_hosted_tools(fields: Mapping[str, Any], *, may_search: bool) -> bool:
    """Whether the server may run tools. With `may_search`, a tool that searches the web does not count."""
    return any(not _is_of_the_client(object_of(tool), may_search) for tool in array_of(fields.get("tools")))


def _is_of_the_client(tool: Mapping[str, Any], may_search: bool) -> bool:
    kind, name = str(tool.get("type")), object_of(tool.get("function")).get("name")
    if _RUN_BY_CLIENTS.fullmatch(kind) or ("type" not in tool and "input_schema" in tool):  # Anthropic's
        return True
    if kind in _PURE_TOOLS:
        return not str(name).startswith("$")  # some servers name their tools like this
    return may_search and _SEARCHING_TOOL.match(kind) is not None


def lets_search(model: str | None, fields: Mapping[str, Any]) -> bool:
    """Whether the server may search: either `model` always does, or a field at any depth allows it."""
    if not _SEARCHING_MODELS.isdisjoint(re.split(r"[^a-z0-9]+", (model or "").lower())):
        return True
    waiting: list[Any] = [{name: value for name, value in fields.items() if name not in _SAID_BY_THE_CLIENT}]
    while waiting:
        value = waiting.pop()
        found = object_of(value)
        if any(not _is_off(name, each) and _SEARCH.search(name.lower()) for name, each in found.items()):
            return True
        waiting += found.values() or array_of(value)
    return False


def refers_elsewhere(fields: Mapping[str, Any]) -> bool:
    """Whether the body refers by address or id to something elsewhere, which may change."""
    waiting: list[Any] = [value for name, value in fields.items() if name != _WITHOUT_NAMES]
    if any(_names_a_place(name, value) for name, value in fields.items()):
        return True
    while waiting:
        value = waiting.pop()
        found = object_of(value)
        if any(_names_a_place(name, each) for name, each in found.items()):
            return True
        waiting += found.values() or array_of(value)
    return False


def _is_off(name: str, value: Any) -> bool:
    """Whether an option is switched off. `{}` does not switch it off: for some options it means the defaults."""
    return value is None or value == [] or (value is False and not name.startswith("disable"))


def _names_a_place(name: str, value: Any) -> bool:
    if name == "audio" and object_of(value).get("id"):  # an earlier answer, which the server remembers
        return True
    if _ADDRESS.search(name):
        return any(not text.lower().startswith("data:") for text in _texts(value) if text)
    is_said = name in _WORDS or name.startswith("$")
    return not is_said and any(_WHOLE_ADDRESS.fullmatch(text) for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    for each in array_of(value) or [value]:
        if isinstance(each, str):
            yield each
