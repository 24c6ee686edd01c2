"""What is billed by the piece: every way in which servers say how often their tools were called."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai_proxy.usage import MOST_TOKENS, Usage
from proxy.metering.meter import AnswerTraits, Meter
from proxy.metering.sse import EventFrames
from proxy.metering.units import counted, units_of, with_what_is_beside
from proxy.metering.usage import told_in

TOKENS = {"input_tokens": 5, "output_tokens": 6}
NOTHING: list[Any] = []
RUN_BY_CLIENTS = ("function", "custom_tool", "computer", "local_shell", "apply_patch")


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
        ({"usage": {"server_side_tool_usage": {"SERVER_SIDE_TOOL_X_SEARCH": 3}}}, {"x_search": 3}),
        ({"usage": {"connectors": {"web_search": 3}}}, {"web_search": 3}),
        (
            {"choices": [{"message": {"executed_tools": [{"type": "search"}, {"type": "python"}, {"type": "visit"}]}}]},
            {"web_search": 1, "code_execution": 1, "visit": 1},
        ),
        ({"choices": [{"message": {"executed_tools": [{"type": "search"}] * 2}}] * 2}, {"web_search": 4}),
        ({"choices": [{"message": {"executed_tools": NOTHING}}, {"message": None}, 5]}, {}),
        ({"container": {"id": "container_1", "expires_at": "2026-01-01T00:00:00Z"}}, {"container": 1}),
        (
            {"container": {"id": "c"}, "usage": {"server_tool_use": {"code_execution_requests": 2}}},
            {"code_execution": 2},
        ),
        ({"container": None}, {}),
        (
            {"usage": {"iterations": [{"type": "message"}, {"type": "compaction"}, {"type": "advisor_message"}]}},
            {"advisor_message": 1},
        ),
        (
            {"usage": {"iterations": [{"type": "advisor_message"}] * 2, "server_tool_use": {"web_search_requests": 1}}},
            {"advisor_message": 2, "web_search": 1},
        ),
        ({"usage": {"num_search_queries": 18}}, {"web_search": 18}),
        ({"usage": {"num_sources_used": 7}}, {"search_source": 7}),
        ({"usage_info": {"pages_processed": 3, "doc_size_bytes": 900}}, {"page": 3}),
        ({"meta": {"billed_units": {"search_units": 1}}}, {"search": 1}),
        ({"meta": {"billed_units": {"input_tokens": 41}}}, {}),
        ({"output": [call("web_search_call", action={"type": "search"}), call("message")]}, {"web_search": 1}),
        ({"output": [call("web_search_call"), call("web_search_call")]}, {"web_search": 2}),
        (
            {
                "output": [
                    call("web_search_call", action={"type": each}) for each in ("open_page", "find_in_page", "find")
                ]
            },
            {},
        ),
        (
            {"output": [call("file_search_call"), call("code_interpreter_call")]},
            {"file_search": 1, "code_interpreter": 1},
        ),
        ({"output": [call("web_search_call", status="failed"), call("some.New_Tool_call")]}, {"some_new_tool": 1}),
        ({"output": [call(f"{each}_call") for each in RUN_BY_CLIENTS]}, {}),
        ({"output": [call(f"{RUN_BY_CLIENTS[0]}_call"), call("web_search_call")]}, {"web_search": 1}),
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


RUNS = st.lists(st.tuples(st.sampled_from(["search", "python", "visit", "browser.search"]), st.booleans()), max_size=6)


@given(choices=st.lists(RUNS, min_size=1, max_size=3), text=st.text(max_size=30), cut=st.integers(1, 400))
def test_tools_that_a_stream_says_were_run_are_counted_once_however_they_are_told_and_cut(
    choices: list[Any], text: str, cut: int
) -> None:
    """Groq tells each when it starts and again with what it found, or once."""
    deltas: list[tuple[int, dict[str, Any]]] = []
    for choice, runs in enumerate(choices):
        for index, (kind, is_told_again) in enumerate(runs):
            tool: dict[str, Any] = {"index": index, "type": kind, "arguments": '{"query": "\\"executed_tools\\": []"}'}
            if kind == "browser.search":
                tool |= {"type": "function", "name": kind}
            tells = [{"executed_tools": [tool]}, {"executed_tools": [tool | {"output": text}]}]
            deltas += [(choice, told) for told in tells[0 if is_told_again else 1 :]]
        deltas.append((choice, {"content": text + '"executed_tools": [{"type": "search"}]'}))
    events: list[dict[str, Any]] = [
        {"choices": [{"index": choice, "delta": delta, "finish_reason": None}]} for choice, delta in deltas
    ]
    events += [{"choices": [{"index": n, "delta": {}, "finish_reason": "stop"}]} for n in range(len(choices))]
    events[-1] |= {"x_groq": {"usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}}}
    stream = b"".join(
        b"data: %s\n\n" % json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m", **each}).encode()
        for each in events
    )
    names = {"search": "web_search", "python": "code_execution", "browser.search": "browser_search", "visit": "visit"}
    expected = Counter[str](names[kind] for runs in choices for kind, _ in runs)
    meter = Meter("text/event-stream", True, AnswerTraits(has_terminator=True))
    frames = EventFrames()
    for start in range(0, len(stream), cut):
        meter.see(frames.whole(stream[start : start + cut]))
    meter.see(b"data: [DONE]\n\n")
    meter.end()
    assert meter.usage == Usage(5, 6, source="reported", units=tuple(sorted(expected.items())))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        # As https://docs.mistral.ai/agents/connectors/websearch and …/code_interpreter show them.
        ((188, 55, 7355, 7112), (7300, 55)),
        ((95, 209, 399, 95), (190, 209)),
        ((900, 160, None, 5000), (5900, 160)),
        ((10, 8, 18, 4), (10, 8)),  # a total without them says that they are in the prompt
        ((91, 29, 120, None), (91, 29)),
        ((91, 29, 120, 0), (91, 29)),
    ],
)
def test_what_connectors_gave_the_model_to_read_is_input(usage: Any, tokens: tuple[int, int]) -> None:
    prompt, completion, total, read = usage
    told: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, "connector_tokens": read}
    told |= {"total_tokens": total} if total else {}
    found = metered({"object": "conversation.response", "usage": told | {"connectors": {"web_search": 1}}})
    assert (found.input_tokens, found.output_tokens, found.reasoning_output_tokens) == (*tokens, 0)
    assert found.units == (("web_search", 1),)
    events: list[dict[str, Any]] = [
        {"type": "conversation.response.started", "conversation_id": "conv_1"},
        {"type": "tool.execution.started", "name": "web_search", "arguments": ""},
        {"type": "message.output.delta", "model": "mistral-medium-2505", "content": "Hello"},
        {"type": "conversation.response.done", "usage": told},
    ]
    meter = Meter("text/event-stream", True, AnswerTraits(has_own_form=True))
    for event in events:
        meter.see(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps(event).encode()))
    meter.end()
    assert (meter.error, meter.model) == (None, "mistral-medium-2505")
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == tokens


@pytest.mark.parametrize(
    ("read", "total"), [(-1, 9), *((read, total) for read in ("7", 1.5, True, [7]) for total in (2, 9))]
)
def test_what_connectors_read_is_a_count_or_the_report_is_invalid(read: Any, total: int) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": total, "connector_tokens": read}
    assert metered({"usage": usage}).source == "invalid"


@pytest.mark.parametrize("name", ["total_tokens", "prompt_tokens", "completion_tokens"])
@pytest.mark.parametrize("value", [None, "7", [7]])
def test_a_total_speaks_of_connectors_only_beside_counts(name: str, value: Any) -> None:
    usage = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6, "connector_tokens": 3}
    beside = with_what_is_beside(usage | {name: value})
    read = usage.pop("connector_tokens")
    prompt = usage["prompt_tokens"] + read if name != "prompt_tokens" else read if value is None else -1
    assert beside == usage | {name: value} | {"prompt_tokens": prompt}


@pytest.mark.parametrize("levels", [1, 4, 50, 3000])
@pytest.mark.parametrize("whole", ["iterations", "connector_tokens"])
def test_however_deep_a_usage_is_it_is_read(whole: str, levels: int) -> None:
    deep: Any = 7
    for _ in range(levels):
        deep = {"a": deep}
    beside = [{"type": "compaction", "b": deep, "input_tokens": 2}] if whole == "iterations" else deep
    found, _ = told_in({"usage": TOKENS | {whole: beside}}, is_whole=True)
    assert found
    assert (found.source, found.input_tokens) == (("reported", 7) if whole == "iterations" else ("invalid", 0))


@pytest.mark.parametrize("levels", range(7))
def test_what_lies_too_deep_in_a_compaction_is_noticed(levels: int) -> None:
    def nested(count: int, depth: int) -> Any:
        return {"a": nested(count, depth - 1)} if depth else count

    beside = with_what_is_beside({"iterations": [{"type": "compaction", "b": nested(7, levels)}]})
    assert beside["b"] == (nested(7, levels) if levels <= 4 else nested(-1, 4))


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


COUNTS = st.integers(0, 10**6)
KINDS = ("message", "compaction", "advisor_message")
WRITTEN = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")


def in_stream(usage: dict[str, Any], **more: Any) -> Usage:
    begun: dict[str, Any] = {"id": "msg_1", "type": "message", "model": "m", "usage": {}, **more}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]
    meter = Meter("text/event-stream", True, AnswerTraits(has_terminator=True))
    for each in events:
        meter.see(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode())
    meter.end()
    return meter.usage


@given(
    turns=st.lists(st.tuples(st.sampled_from(KINDS), COUNTS, COUNTS, COUNTS, COUNTS, COUNTS), min_size=1, max_size=5)
)
@example(turns=[("message", 0, 0, 0, 0, 1)])
@example(turns=[("message", 0, 5, 700, 0, 0)])
def test_a_compaction_counts_beside_the_sums_and_another_model_is_no_token_of_this_one(turns: list[Any]) -> None:
    def sums(*kinds: str) -> list[int]:
        own = [figures for kind, *figures in turns if kind in kinds]
        return [sum(each) for each in zip([0] * 5, *own, strict=True)]

    def usage_of(figures: list[int]) -> dict[str, Any]:
        fresh, output, read, *written = figures
        creation = dict(zip(WRITTEN, written, strict=True))
        return {
            "input_tokens": fresh,
            "output_tokens": output,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": sum(written),
            "cache_creation": creation,
        }

    iterations = [{"type": kind, **usage_of(figures)} for kind, *figures in turns]
    usage = usage_of(sums("message")) | {"iterations": iterations}
    fresh, output, read, minutes, hour = sums("message", "compaction")
    advised = sum(kind == "advisor_message" for kind, *_ in turns)
    if fresh + output + read + minutes + hour == 0:
        return
    for found in (metered({"id": "m", "usage": usage}), in_stream(usage)):
        assert (found.input_tokens, found.output_tokens) == (fresh + read + minutes + hour, output)
        assert found.cache_read_input_tokens == read
        assert (found.cache_creation_input_tokens, found.cache_creation_1h_input_tokens) == (minutes + hour, hour)
        assert dict(found.units) == ({"advisor_message": advised} if advised else {})


@pytest.mark.parametrize("wrong", [-1, "5", 1.5, True, []])
def test_a_compaction_that_is_no_count_is_not_taken_for_one(wrong: Any) -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "iterations": [{"type": "compaction", "input_tokens": wrong}]}
    assert metered({"id": "m", "usage": usage}).source == "invalid"


def test_a_container_of_a_stream_is_counted_wherever_it_is_told() -> None:
    usage = {"input_tokens": 5, "output_tokens": 6}
    assert in_stream(usage, container={"id": "container_1"}).units == (("container", 1),)
    assert in_stream(usage, container={"id": "container_1"}).input_tokens == 5
    assert in_stream(usage, container=None).units == ()


def test_as_many_names_are_counted_as_an_event_may_have_and_each_of_them_to_its_end() -> None:
    names = [f"tool_{number:02}" for number in range(20)]
    assert counted([*names, *names]) == tuple((name, 2) for name in names[:16])
