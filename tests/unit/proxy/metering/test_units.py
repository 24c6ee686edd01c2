"""What is billed by the piece: every way in which servers say how often their tools were called."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.usage import MOST_TOKENS, Usage
from proxy.metering.meter import Meter
from proxy.metering.units import units_of
from proxy.metering.usage import told_in

TOKENS = {"input_tokens": 5, "output_tokens": 6}


def metered(answer: dict[str, Any]) -> Usage:
    meter = Meter("application/json", uses_tokens=True)
    meter.see(json.dumps(answer).encode())
    meter.end()
    return meter.usage


def call(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "id": "x"} | more


@pytest.mark.parametrize(
    ("answer", "units"),
    [
        ({"usage": {"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}}}, {"web_search": 2}),
        ({"usage": {"server_tool_use": {"web_search_requests": 1, "new_requests": 3}}}, {"web_search": 1, "new": 3}),
        ({"usage": {"server_side_tool_usage": {"web_search": 2, "x_search": 1}}}, {"web_search": 2, "x_search": 1}),
        ({"usage": {"server_side_tool_usage_details": {"x_search_calls": 4, "mcp_calls": 0}}}, {"x_search": 4}),
        ({"usage": {"connectors": {"web_search": 3}}}, {"web_search": 3}),
        ({"usage": {"num_search_queries": 18}}, {"web_search": 18}),
        ({"usage": {"num_sources_used": 7}}, {"search_source": 7}),
        ({"usage_info": {"pages_processed": 3, "doc_size_bytes": 900}}, {"page": 3}),
        ({"meta": {"billed_units": {"search_units": 1}}}, {"search": 1}),
        ({"meta": {"billed_units": {"input_tokens": 41}}}, {}),
        ({"output": [call("web_search_call", action={"type": "search"}), call("message")]}, {"web_search": 1}),
        ({"output": [call("web_search_call"), call("web_search_call")]}, {"web_search": 2}),
        ({"output": [call("web_search_call", action={"type": each}) for each in ("open_page", "find_in_page")]}, {}),
        (
            {"output": [call("file_search_call"), call("code_interpreter_call")]},
            {"file_search": 1, "code_interpreter": 1},
        ),
        ({"output": [call("web_search_call", status="failed"), call("some.New_Tool_call")]}, {"some_new_tool": 1}),
        ({"output": [call(f"{each}_call") for each in ("function", "custom_tool", "computer", "local_shell")]}, {}),
        ({"output": [call("image_generation_call")], "tool_usage": {"image_gen": TOKENS}}, {}),
        ({"output": [call("image_generation_call")]}, {"image_generation": 1}),
        (
            {"usage": {"server_side_tool_usage": {"x_search": 1}}, "output": [call("web_search_call")]},
            {"x_search": 1},
        ),
        ({"usage": {"server_tool_use": None}, "output": "text", "meta": [], "usage_info": 5}, {}),
        ({"usage": {"server_tool_use": {"web_search_requests": -1, "a": True, "b": "2", "c": 1e300}}}, {}),
    ],
)
def test_every_way_in_which_servers_count_calls(answer: dict[str, Any], units: dict[str, int]) -> None:
    expected = tuple(sorted(units.items()))
    assert units_of(answer, answer.get("usage")) == expected
    with_tokens: dict[str, Any] = answer | {"usage": TOKENS | (answer.get("usage") or {})}
    used = metered(with_tokens)
    assert (used.units, used.source, used.input_tokens >= 5) == (expected, "reported", True)
    assert Usage.from_event(used.to_event()) == used


def test_pieces_without_tokens_are_a_report() -> None:
    assert metered({"results": [], "meta": {"billed_units": {"search_units": 2}}}) == Usage(
        source="reported", units=(("search", 2),)
    )
    assert metered({"results": [], "meta": {"billed_units": {"search_units": 0}}}).source == "missing"


def test_a_stream_of_responses_says_it_at_its_end() -> None:
    answer = {"id": "r", "object": "response", "status": "completed", "model": "m", "usage": TOKENS}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": answer | {"status": "in_progress", "usage": None, "output": []}},
        {"type": "response.completed", "response": answer | {"output": [call("web_search_call")] * 2}},
    ]
    meter = Meter("text/event-stream", uses_tokens=True)
    for event in events:
        meter.see(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps(event).encode()))
    assert meter.usage == Usage(5, 6, source="reported", units=(("web_search", 2),))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, MOST_TOKENS * 2) | st.floats() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=60), inner, max_size=20),
    max_leaves=30,
)
PLACES = ("server_tool_use", "server_side_tool_usage", "connectors", "num_search_queries")


@given(usage=st.dictionaries(st.sampled_from(PLACES), JSON), output=JSON, meta=JSON)
def test_whatever_a_server_says_is_bounded(usage: dict[str, Any], output: Any, meta: Any) -> None:
    answer = {"usage": usage | TOKENS, "output": output, "meta": meta, "usage_info": {"pages_processed": output}}
    used, _ = told_in(answer, is_whole=True)
    assert used is not None
    assert Usage.from_event(used.to_event()) == used
    assert len(used.units) <= 16
