"""The cost in an answer's own usage: one member more, and not a byte else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.endpoints.cost_in_usage import CostWriter, with_cost
from proxy.metering.meter import Meter

COST = "0.00012"
MEMBER = b'"cost":"0.00012",'
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["usage", "cost", "response", "a"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def event(data: str) -> bytes:
    return f"event: x\ndata: {data}\n\n".encode()


@given(document=values, indent=st.sampled_from([None, 2]))
def test_what_is_read_afterwards_is_the_same_but_for_the_cost(document: Any, indent: int | None) -> None:
    before = json.dumps(document, indent=indent).encode()
    after = with_cost(before, COST)
    if after == before:
        return
    assert after.replace(MEMBER, b"", 1) == before
    found = json.loads(after)
    while "response" in found:
        found = found["response"]
    assert found["usage"].pop("cost") == COST


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"usage":{"a":1}}', '{"usage":{"cost":"0.00012","a":1}}'),
        ('{"x":1.50, "usage" : { "a":1e2 }}', '{"x":1.50, "usage" : {"cost":"0.00012", "a":1e2 }}'),
        ('{"response":{"usage":{"a":1},"id":"ü"}}', '{"response":{"usage":{"cost":"0.00012","a":1},"id":"ü"}}'),
        (
            '{"response":{"tools":[{"usage":{"a":1}}],"usage":{"a":1},"text":{"usage":{"b":2}}}}',
            '{"response":{"tools":[{"usage":{"a":1}}],"usage":{"cost":"0.00012","a":1},"text":{"usage":{"b":2}}}}',
        ),
        ('{"usage":{"a":1,"cost":0.5}}', None),
        ('{"usage":{"a":1,"cost":null}}', None),
        ('{"usage":{"cost":"0.00012"}}', None),
        ('{"usage":{}}', None),
        ('{"usage":null}', None),
        ('{"usage":[1]}', None),
        ('{"choices":[{"text":"\\"usage\\":{\\"a\\":1}"}]}', None),
        ('{"tools":[{"usage":{"a":1}}]}', None),
        ('[{"usage":{"a":1}}]', None),
        ('{"usage":{"a":1}', None),
        ('{"response":{"response":{"usage":{"a":1}}}}', None),
        ("", None),
    ],
)
def test_where_it_goes(before: str, after: str | None) -> None:
    expected = before if after is None else after
    assert with_cost(before.encode(), COST).decode() == expected
    assert with_cost(event(before), COST, is_event=True) == event(expected)


@pytest.mark.parametrize(("others", "is_found"), [(15, True), (16, False)])
def test_of_many_places_the_last_are_tried(others: int, is_found: bool) -> None:
    tools = ",".join(['{"usage":{"a":1}}'] * others)
    before = f'{{"usage":{{"a":1}},"tools":[{tools}]}}'.encode()
    assert with_cost(before, COST) == (
        before.replace(b"{", b"{" + MEMBER, 2).replace(MEMBER, b"", 1) if is_found else before
    )


@pytest.mark.parametrize(("more", "is_read"), [(0, True), (1, False)])
def test_what_is_very_long_is_not_looked_into(more: int, is_read: bool) -> None:
    before = b'{"usage":{"a":1}}'.ljust(4 * 1024 * 1024 + more)
    assert (with_cost(before, COST) != before) is is_read


def test_data_on_several_lines() -> None:
    before = b'data: {"choices": [],\ndata: "usage": {\ndata: "prompt_tokens": 1}}\n\n'
    assert with_cost(before, COST, is_event=True) == before.replace(b'"usage": {', b'"usage": {' + MEMBER)


def written(meter: Meter, parts: list[bytes], cost: str | None = COST) -> list[bytes]:
    found: list[bytes] = []
    writer = CostWriter(found.append, meter, lambda: cost)
    for part in parts:
        writer.write(meter.see(part))
    meter.end()
    writer.end()
    return found


def test_events_go_out_as_they_come() -> None:
    parts = [event('{"choices":[{"index":0}]}'), event('{"usage":{"prompt_tokens":1}}'), b"data: [DONE]\n\n"]
    meter = Meter("text/event-stream", uses_tokens=True)
    assert written(meter, parts) == [parts[0], parts[1].replace(b'{"prompt', b'{"cost":"0.00012","prompt'), parts[2]]
    assert written(Meter("text/event-stream", uses_tokens=True), parts, None) == parts


def test_a_message_has_its_cost_where_it_ends() -> None:
    start = event('{"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}')
    delta = event('{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}')
    stop = event('{"type":"message_stop"}')
    found = written(Meter("text/event-stream", uses_tokens=True), [start, delta, stop])
    assert found == [start, delta.replace(b'{"output', b'{"cost":"0.00012","output'), stop]


def test_a_document_is_written_whole_and_one_that_is_large_as_it_comes() -> None:
    document = b'{"object":"list","usage":{"prompt_tokens":1},"data":["' + b"x" * 100 + b'"]}'
    parts = [document[:30], document[30:60], document[60:]]
    assert written(Meter("application/json", uses_tokens=True), parts) == [with_cost(document, COST)]
    large = [b'{"usage":{"prompt_tokens":1},"data":"', *[b"x" * 1024 * 1024] * 5, b'"}']
    found = written(Meter("application/json", uses_tokens=True), large)
    assert b"".join(found) == b"".join(large)
    assert len(found) > 1
    assert written(Meter("application/json", uses_tokens=True), []) == []
    longest = b'{"usage":{"prompt_tokens":1}}'.ljust(4 * 1024 * 1024)
    assert written(Meter("application/json", uses_tokens=True), [longest]) == [with_cost(longest, COST)]
    pieces = [longest, b" ", b" ", b" "]
    assert written(Meter("application/json", uses_tokens=True), pieces) == [longest + b" ", b" ", b" "]
