"""What was done for an answer that is billed by the piece: searches, other tool calls, pages. Pure.

    usage.server_tool_use                  {"web_search_requests": 2}     Anthropic, OpenRouter
    usage.iterations                       [{"type": "advisor_message"}]  Anthropic, of another model
    container                              {"id": …}                      Anthropic, which bills its hours
    usage.server_side_tool_usage(_details) {"web_search_calls": 2}        xAI, also as SERVER_SIDE_TOOL_WEB_SEARCH
    usage.connectors                       {"web_search": 2}              Mistral
    choices[].message.executed_tools       [{"type": "search"}]           Groq; in streams those of each delta
    usage.num_search_queries               2                              Perplexity
    usage_info.pages_processed             2                              Mistral's OCR
    meta.billed_units.search_units         2                              Cohere's rerank
    output                                 [{"type": "web_search_call"}]  the Responses API, where no usage counts calls

xAI's names are those of https://docs.x.ai/developers/tools/tool-usage-details and https://docs.x.ai/developers/pricing,
Mistral's of `ConversationUsageInfo` in https://github.com/mistralai/client-python, Groq's of
https://console.groq.com/docs/compound/built-in-tools and of `ExecutedTool` in https://github.com/groq/groq-python;
`units` in the price list and in prices.yaml are named so too.

Its one rule: a unit has the name that the server uses, without the part that only says that it is a count. A tool that
the client itself runs is not counted, because servers bill nothing for it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from openai_proxy.usage import MOST_TOKENS, counted_units, unit_of

from proxy.json_shapes import array_of, loads_or_none, object_of
from proxy.metering.scan import EXECUTED
from proxy.metering.sse import LONGEST_EVENT, data_of, find_events

_COUNTS_BY_NAME = ("server_tool_use", "server_side_tool_usage", "server_side_tool_usage_details", "connectors")
_COUNT_ENDS = ("_requests", "_calls")
_CATEGORY = "SERVER_SIDE_TOOL_"
_AT_PRICE_OF_MODEL = frozenset({"message", "compaction"})
"""Iterations whose tokens are counted as those of the model."""
_OF_GROQ = {"search": "web_search", "python": "code_execution"}
_OF_USAGE = {"num_search_queries": "web_search", "num_sources_used": "search_source"}
_RUN_BY_CLIENTS = frozenset({"function", "custom_tool", "computer", "local_shell", "apply_patch"})
_NO_SEARCH = frozenset({"open_page", "find_in_page", "find"})
"""What a call of the web search does that is no search, and costs nothing."""
_MOST_NAMES = 16
_MOST_ITEMS = 10_000
_DEEPEST = 4
"""Levels of a usage that hold counts: what is deeper is none, and JSON may be thousands of levels deep."""
_EXECUTED = re.compile(re.escape(EXECUTED))


def units_of(answer: Mapping[str, Any], usage: Any) -> tuple[tuple[str, int], ...]:
    """How many units there were, by name. A value that is no count is ignored."""
    fields = object_of(usage)
    told = [_counts(fields.get(name)) for name in _COUNTS_BY_NAME]
    told.append({name: _count(fields.get(field)) for field, name in _OF_USAGE.items()})
    told.append({"page": _count(object_of(answer.get("usage_info")).get("pages_processed"))})
    told.append(_counts(object_of(answer.get("meta")).get("billed_units"), "search_units"))
    found: dict[str, int] = {}
    for counts in told:
        found |= {name: count for name, count in counts.items() if count}
    if object_of(answer.get("container")).get("id") and "code_execution" not in found:
        found["container"] = 1
    calls = () if found else (*_calls(answer), *_executed(answer))
    for name in (*calls, *_iterations(fields)):
        found[name] = found.get(name, 0) + 1
    return counted_units(dict(list(found.items())[:_MOST_NAMES]))


def _counts(value: Any, only: str = "") -> dict[str, int]:
    """The counts in an object, by their names."""
    counts = {name: _count(each) for name, each in object_of(value).items() if only in ("", name)}
    return {_unit(name): count for name, count in counts.items() if count}


def _unit(name: str) -> str:
    if name == "search_units":
        return "search"
    name = name.removeprefix(_CATEGORY)
    return unit_of(next((name.removesuffix(end) for end in _COUNT_ENDS if name.endswith(end)), name))


def with_what_is_beside(usage: Mapping[str, Any]) -> dict[str, Any]:
    """`usage` with what its sums leave out: the tokens of Anthropic's compaction of the context, and those that
    Mistral's connectors gave the model to read.

    (https://docs.claude.com/en/docs/build-with-claude/compaction) Mistral's total is the sum of prompt, completion and
    connector tokens, as in the answers of https://docs.mistral.ai/agents/connectors/websearch.
    """
    found = dict(usage)
    if (read := found.pop("connector_tokens", None)) and not _is_without(found, read):
        found = _sum_of(found, {"prompt_tokens": read})
    for each in map(object_of, array_of(usage.get("iterations"))[:_MOST_ITEMS]):
        if each.get("type") == "compaction":
            found = _sum_of(found, {name: value for name, value in each.items() if name != "type"})
    return found


def _is_without(usage: Mapping[str, Any], read: Any) -> bool:
    """Whether the total shows that the prompt already includes what connectors read."""
    names = ("total_tokens", "prompt_tokens", "completion_tokens")
    counts = [count for name in names if type(count := usage.get(name)) is int and type(read) is int]
    return len(counts) == len(names) and counts[0] == sum(counts[1:])


def _sum_of(one: Mapping[str, Any], other: Mapping[str, Any], levels: int = _DEEPEST) -> dict[str, Any]:
    """Two objects with their counts added up. A value that is no count replaces the sum, so that it is noticed."""
    found = dict(one)
    for name, value in other.items():
        before = found.get(name)
        if isinstance(value, dict):
            found[name] = _sum_of(object_of(before), object_of(value), levels - 1) if levels else -1
        elif value is not None:
            counts = [each for each in (before or 0, value) if type(each) is int and each >= 0]
            found[name] = sum(counts) if len(counts) == 2 else -1
    return found


def _iterations(usage: Mapping[str, Any]) -> Iterator[str]:
    """The parts of an answer that do not have the price of its model."""
    for each in map(object_of, array_of(usage.get("iterations"))[:_MOST_ITEMS]):
        if isinstance(kind := each.get("type"), str) and kind not in _AT_PRICE_OF_MODEL:
            yield unit_of(kind)


def _executed(answer: Mapping[str, Any]) -> Iterator[str]:
    """The tools that were run for a chat."""
    for choice in map(object_of, array_of(answer.get("choices"))[:_MOST_ITEMS]):
        for tool in map(object_of, array_of(object_of(choice.get("message")).get("executed_tools"))[:_MOST_ITEMS]):
            if name := _name_of(tool):
                yield name


def executed_in(events: bytes) -> dict[Any, str]:
    """The names of the tools that were run for a streamed chat. A tool may be named twice: once alone, and again with
    its result.

    Equal keys mean the same run of a tool.
    """
    found: dict[Any, str] = {}
    for start, end in find_events(_EXECUTED, events):
        document = loads_or_none(data_of(events[start:end])) if end - start <= LONGEST_EVENT else None
        for choice in map(object_of, array_of(object_of(document).get("choices"))[:_MOST_ITEMS]):
            for tool in map(object_of, array_of(object_of(choice.get("delta")).get("executed_tools"))[:_MOST_ITEMS]):
                if name := _name_of(tool):
                    found[str(choice.get("index")), str(tool.get("index", tool.get("arguments")))] = name
    return dict(list(found.items())[:_MOST_ITEMS])


def _name_of(tool: Mapping[str, Any]) -> str | None:
    """The name of a tool that Groq ran; for a function, the function's name."""
    kind = tool.get("name") if tool.get("type") == "function" else tool.get("type")
    return (_OF_GROQ.get(kind) or unit_of(kind)) if isinstance(kind, str) else None


def counted(names: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """How often each of these names occurs."""
    found: dict[str, int] = {}
    for name in names:
        if name in found or len(found) < _MOST_NAMES:
            found[name] = found.get(name, 0) + 1
    return counted_units(found)


def _calls(answer: Mapping[str, Any]) -> Iterator[str]:
    """The tools that were called for a Responses answer, one name for each call."""
    draws_by_tokens = bool(object_of(answer.get("tool_usage")).get("image_gen"))
    for item in map(object_of, array_of(answer.get("output"))[:_MOST_ITEMS]):
        kind = item.get("type")
        if not (isinstance(kind, str) and kind.endswith("_call")) or item.get("status") == "failed":
            continue
        name = unit_of(kind.removesuffix("_call"))
        if name in _RUN_BY_CLIENTS or (name == "image_generation" and draws_by_tokens):
            continue
        if name != "web_search" or object_of(item.get("action")).get("type") not in _NO_SEARCH:
            yield name


def _count(value: Any) -> int:
    """A count; some servers write whole numbers as floats."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_TOKENS:
        return 0
    return max(1, int(value))
