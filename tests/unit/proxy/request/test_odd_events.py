"""Whatever the function is called with, by whichever implementation of Lambda: an answer, and no fault of its own."""

import contextlib
import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.errors import ClientError
from proxy.request.parse import InferenceRequest, parse

from tests.examples import examples
from tests.fakes import LACKS, changed, places
from tests.timed_relays import World, WorldClient, document, rest_event, timed_proxy, url_event

KEY = {"client_id": "team-a"}
ASKED = {"messages": [{"role": "user", "content": "Hi"}]}
EVENTS: Mapping[str, dict[str, Any]] = {
    "function_url": url_event("/main/v1/chat/completions", ASKED) | {"isBase64Encoded": False, "cookies": ["a=b"]},
    "rest_api": rest_event("/main/v1/chat/completions", KEY, ASKED)
    | {"multiValueHeaders": {"a": ["b", "c"]}, "multiValueQueryStringParameters": {"a": ["1", "2"]}}
    | {"pathParameters": {"proxy": "main/v1/chat/completions"}},
}
ODD: list[Any] = [
    *(LACKS, None, True, False, 0, -1, 7.5, "", "text", "\ud800", "\x00", "é", [], [None], ["a", 1], {}, {"a": None}),
    *({"a": ["b", None, {}]}, {"client_id": 7}, {"Authorization": None}, "a" * 9000),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NO_REQUESTS: Mapping[str, Any] = {
    "nothing": {},
    "null": None,
    "text": "ping",
    "list": [1],
    "schedule": {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},
    "console": {"key1": "value1", "key2": "value2", "key3": "value3"},
    "queue": {"Records": [{"eventSource": "aws:sqs", "body": "secret words"}]},
}


def served(event: Any) -> WorldClient:
    """What whoever called the function with an event gets."""
    world = World({"main": [document(b'{"choices": [{"message": {}}]}')] * 3})
    with timed_proxy(world, KEY) as proxy:
        return proxy.call(event)


@pytest.mark.parametrize("door", EVENTS)
def test_whatever_a_field_of_an_event_is_the_answer_is_no_fault_of_the_proxy(door: str) -> None:
    assert served(copy.deepcopy(EVENTS[door])).status == 200
    for place in places(EVENTS[door]):
        for value in ODD:
            if place[-1] == "client_id" and isinstance(value, str):
                continue  # the authorizer names clients, and checks their names
            client = served(changed(EVENTS[door], place, value))
            assert client.ended
            is_unknown_client = place[-1] == "client_id" or value == {"client_id": 7}
            assert client.status < 500 or (client.status == 503 and is_unknown_client), (place, value)


@settings(max_examples=examples(100))
@given(JSON)
def test_any_json_is_a_request_or_refused(event: Any) -> None:
    with contextlib.suppress(ClientError):
        assert isinstance(parse(event), InferenceRequest)


def test_a_header_that_is_too_deep_to_be_written_is_no_request() -> None:
    deep: list[Any] = []
    for _ in range(50_000):
        deep = [deep]
    with pytest.raises(ClientError) as refused:
        parse(changed({**EVENTS["function_url"], "headers": {}}, ("headers", "x"), deep))
    assert (refused.value.status, refused.value.code) == (400, "unknown_event")


@pytest.mark.parametrize("missing", [LACKS, None, ""])
def test_an_event_without_a_query_has_an_empty_one(missing: object) -> None:
    assert parse(changed(EVENTS["function_url"], ("rawQueryString",), missing)).query == ""


def test_a_header_without_a_value_is_no_header() -> None:
    event = changed(EVENTS["function_url"], ("headers", "content-type"), None)
    assert "content-type" not in parse(event).headers


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_an_event_that_is_no_request_is_answered_calmly_and_told_in_the_log(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = served(copy.deepcopy(NO_REQUESTS[name]))
    assert (client.status, json.loads(client.body)["error"]["code"]) == (400, "unknown_event")
    [line] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["level"], line["message"]) == ("WARN", "An event is no request")
    assert "secret words" not in str(line)
    for field in NO_REQUESTS[name] if isinstance(NO_REQUESTS[name], dict) else ():
        assert field in line["event"]
