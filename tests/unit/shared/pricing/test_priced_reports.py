"""What an answer costs, from what its server writes to the last digit, against the price list read by plain arithmetic.

What was used is dealt out to classes first; then it is told as that server tells it, whole or as a stream, read by the
meter and priced by the book that is shipped. The figures beside it are made of the list's own text, with fractions.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.pricing.list_prices import PRICE_LIST_FILE, PriceList
from openai_proxy.pricing.price_book import Cost, PriceBook
from proxy.metering.meter import AnswerTraits, Meter

DOCUMENT: dict[str, Any] = json.loads(PRICE_LIST_FILE.read_text("utf-8"))
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SEEN = ("input", "cached_input", "cache_write", "cache_write_1h", "output", "reasoning", "units", "from", "hours")
PART_OF = {"cached_input": "input", "cache_write": "input", "cache_write_1h": "cache_write", "reasoning": "output"}
TIERS = (None, "default", "flex", "priority", "batch", "fast", "never-heard-of")


class Used(NamedTuple):
    """Tokens of each class, and searches."""

    fresh: int
    cached: int
    minutes: int
    hour: int
    answer: int
    thoughts: int
    searches: int


Answer = dict[str, Any]


def chat(used: Used) -> Answer:
    """OpenAI's form, and that of most servers; what was written for an hour is told as LiteLLM does."""
    prompt, completion = used.fresh + used.cached + used.minutes + used.hour, used.answer + used.thoughts
    written = {"ephemeral_5m_input_tokens": used.minutes, "ephemeral_1h_input_tokens": used.hour}
    of_input = {"cached_tokens": used.cached, "cache_creation_tokens": used.minutes + used.hour}
    usage: Answer = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    usage |= {"prompt_tokens_details": of_input | {"cache_creation_token_details": written}}
    usage |= {"completion_tokens_details": {"reasoning_tokens": used.thoughts}}
    return {"object": "chat.completion", "usage": usage}


def response(used: Used) -> Answer:
    told = chat(used)["usage"]
    usage = {"input_tokens": told["prompt_tokens"], "output_tokens": told["completion_tokens"]}
    usage |= {"input_tokens_details": told["prompt_tokens_details"], "total_tokens": told["total_tokens"]}
    usage |= {"output_tokens_details": told["completion_tokens_details"]}
    searches = [{"type": "web_search_call", "action": {"type": "search"}}] * used.searches
    return {"object": "response", "status": "completed", "usage": usage, "output": searches}


def message(used: Used) -> Answer:
    written = {"ephemeral_5m_input_tokens": used.minutes, "ephemeral_1h_input_tokens": used.hour}
    usage: Answer = {"input_tokens": used.fresh, "output_tokens": used.answer + used.thoughts}
    usage |= {"cache_read_input_tokens": used.cached, "cache_creation_input_tokens": used.minutes + used.hour}
    usage |= {"cache_creation": written, "output_tokens_details": {"thinking_tokens": used.thoughts}}
    return {"type": "message", "usage": usage | {"server_tool_use": {"web_search_requests": used.searches}}}


def with_searches(field: str, name: str) -> Callable[[Used], Answer]:
    def told(used: Used) -> Answer:
        answer = chat(used)
        return answer | {"usage": answer["usage"] | {field: {name: used.searches} if name else used.searches}}

    return told


def thoughts_beside(used: Used) -> Answer:
    answer = with_searches("server_side_tool_usage", "web_search")(used)
    return answer | {"usage": answer["usage"] | {"completion_tokens": used.answer}}


def connectors(used: Used) -> Answer:
    """Mistral's Conversations: what a search gave the model to read is beside the prompt."""
    answer = with_searches("connectors", "web_search")(used)
    usage = answer["usage"]
    read = used.fresh // 2
    return {"usage": usage | {"prompt_tokens": usage["prompt_tokens"] - read, "connector_tokens": read}}


def executed(used: Used) -> Answer:
    tools = [{"index": index, "type": "search", "arguments": ""} for index in range(used.searches)]
    return chat(used) | {"choices": [{"index": 0, "message": {"content": "", "executed_tools": tools}}]}


FORMS: Mapping[str, Callable[[Used], Answer]] = {
    "anthropic": message,
    "meta": response,
    "openai": response,
    "openrouter": with_searches("server_tool_use", "web_search_requests"),
    "perplexity": with_searches("num_search_queries", ""),
    "mistral": connectors,
    "groq": executed,
    "x-ai": thoughts_beside,
}
SERVERS = (
    *("anthropic", "avian", "aws", "azure", "cerebras", "cloudflare", "databricks", "deepseek", "fireworks", "google"),
    *("groq", "meta", "minimax", "mistral", "moonshotai", "novita", "openai", "openrouter", "ovhcloud", "perplexity"),
    *("together", "x-ai", "zai"),
)
BOOK = PriceBook(PriceList(DOCUMENT), urls={"own": "https://models.example"})
BOOK.providers |= {name: name for name in SERVERS}


def matches(rule: Mapping[str, Any], name: str) -> bool:
    [(kind, value)] = rule.items()
    match kind:
        case "or" | "and":
            parts: list[bool] = [matches(each, name) for each in value]
            return any(parts) if kind == "or" else all(parts)
        case "regex":
            return re.search(value, name) is not None
        case "equals":
            return name == value
        case "contains":
            return value in name
        case _:
            return name.startswith(value) if kind == "starts_with" else name.endswith(value)


def in_force(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def holds(entry: dict[str, Any]) -> bool:
        begin, end = entry.get("hours", ("00:00:00", "24:00:00"))
        now = NOW.strftime("%H:%M:%S")
        is_now = begin <= now < end if begin <= end else now >= begin or now < end
        return is_now and entry.get("from", "") <= f"{NOW:%Y-%m-%d}"

    return [entry for entry in entries if holds(entry)]


def listed(server: str, number: int) -> tuple[str, dict[str, Any]]:
    """A model of a server, by its name, and its entry: the first that matches that name."""
    models: list[dict[str, Any]] = DOCUMENT["providers"][server]["models"]
    name: str = models[number % len(models)]["id"].lower()
    return name, next((each for each in models if matches(each["match"], name)), dict[str, Any]())


def rate(price: Mapping[str, Any], name: str, tokens: int) -> Fraction | None:
    """USD for a million tokens of a class: its own, or that of the class it is a part of."""
    own: Any = price.get(name)
    if isinstance(own, list):
        steps: list[Any] = [*own]
        own = next((value for above, value in reversed(steps[1:]) if tokens > above), steps[0])
    return Fraction(own) if own is not None else rate(price, PART_OF[name], tokens) if name in PART_OF else None


def expected(entry: dict[str, Any], tier: str | None, used: Used) -> Fraction | None:
    """What it costs, by the list alone; None where it does not say."""
    standard = in_force(entry["prices"])
    changes = in_force(entry.get("tiers", {}).get(tier, []))
    if not standard or not (changes or tier is None or tier in DOCUMENT["standard_tiers"] or "free" in standard[-1]):
        return None
    price = standard[-1] | (changes[0] if changes else {})
    if "free" in price:
        return Fraction(0)
    prompt = used.fresh + used.cached + used.minutes + used.hour
    classes = {"input": used.fresh, "cached_input": used.cached, "cache_write": used.minutes}
    classes |= {"cache_write_1h": used.hour, "output": used.answer, "reasoning": used.thoughts}
    total = Fraction(0)
    for name, count in classes.items():
        if count:
            usd = rate(price, name, 0 if tier == "batch" else prompt)
            if usd is None:
                return None
            total += usd * count / 1_000_000
    return total + used.searches * Fraction(price.get("units", {}).get("web_search", 0))


COUNTS = st.sampled_from([0, 1, 999, 150_000, 272_001])
USED = st.builds(Used, *[COUNTS] * 4, st.integers(1, 5000), COUNTS, st.integers(0, 3))


@given(server=st.sampled_from(SERVERS), number=st.integers(0, 10**3), tier=st.sampled_from(TIERS), used=USED)
def test_an_answer_costs_what_the_list_says_in_every_form_and_at_every_tier(
    server: str, number: int, tier: str | None, used: Used
) -> None:
    name, entry = listed(server, number)
    prices = [*entry.get("prices", ()), *(each for tiers in entry.get("tiers", {}).values() for each in tiers)]
    if not prices or any(key not in SEEN for price in prices for key in price if key != "free"):
        return  # of what is paid in another way other tests tell
    form = FORMS.get(server, chat)
    if form is chat:
        used = used._replace(searches=0)
    if form is thoughts_beside:
        used = used._replace(fresh=max(used.fresh, 1))
    document = {"id": "a", "model": name, "service_tier": tier, **form(used)}
    meter = Meter("application/json", uses_tokens=True)
    meter.see(json.dumps(document).encode())
    meter.end()
    cost, _ = BOOK.price_answer(meter.usage._replace(service_tier=meter.service_tier), server, meter.model, None, NOW)
    wanted = expected(entry, tier, used)
    assert (Fraction(cost.total) if isinstance(cost, Cost) else None) == wanted, (name, tier, meter.usage)


@given(used=USED, tier=st.sampled_from(["batch", "fast", "standard"]), number=st.integers(0, 10**3))
def test_a_stream_of_messages_costs_what_the_whole_message_costs(used: Used, tier: str, number: int) -> None:
    name, entry = listed("anthropic", number)
    usage = message(used)["usage"] | ({"speed": "fast"} if tier == "fast" else {"service_tier": tier})
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {"id": "m", "type": "message", "model": name, "usage": {**usage, "output_tokens": 1}},
        },
        {"type": "ping"},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]
    meter = Meter("text/event-stream", True, AnswerTraits(has_terminator=True))
    for each in events:
        meter.see(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode())
    meter.end()
    cost, _ = BOOK.price_answer(meter.usage._replace(service_tier=meter.service_tier), "anthropic", name, None, NOW)
    assert (Fraction(cost.total) if isinstance(cost, Cost) else None) == expected(entry, tier, used)
