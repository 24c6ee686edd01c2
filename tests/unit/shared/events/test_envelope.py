"""An event on its way: what it is written as, and what is read of an envelope that lacks something."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events.envelope import Event, calls_made, rfc3339

EVENT: Event[Any, Any] = Event("InferenceFailed", "01M8", "2026-11-23T18:12:53.042Z", "mine", "team-a", {"a": ["ü"]})
DETAIL = {
    "metadata": {
        "id": "01M8",
        "version": "1.0",
        "timestamp": "2026-11-23T18:12:53.042Z",
        "request_id": "mine",
        "client_id": "team-a",
    },
    "data": {"a": ["ü"]},
}


def test_an_event_is_written_whole_and_its_trace_beside_it() -> None:
    entry = EVENT.to_entry("bus")
    assert json.loads(entry["Detail"]) == DETAIL
    detail = entry.pop("Detail")
    assert entry == {"Source": "openai-proxy", "DetailType": "InferenceFailed", "EventBusName": "bus"}
    assert detail.startswith('{"metadata":{"id":"01M8","version":"1.0",')
    assert EVENT.to_entry("bus", "Root=1") == {**entry, "Detail": detail, "TraceHeader": "Root=1"}
    assert "TraceHeader" not in EVENT.to_entry("bus", "")


def test_an_attempt_that_came_to_no_call_is_not_counted() -> None:
    not_called = ["circuit_open", "kept_out", "server_not_configured", "token_unavailable"]
    assert calls_made(not_called) == 0
    assert calls_made([None, "upstream_timeout", *not_called, None]) == 3


@given(st.integers(0, 253_402_300_799_999))
def test_a_moment_is_written_with_its_milliseconds(milliseconds: int) -> None:
    text = rfc3339(milliseconds / 1000)
    assert len(text) == len("2026-11-23T18:12:53.042Z")
    assert text.endswith("Z")
    assert rfc3339(1795457573.042) == "2026-11-23T18:12:53.042Z"
