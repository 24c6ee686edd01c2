"""An event as a consumer reads it: what is read of an envelope that lacks something, and whose batch a request was."""

import copy
import hashlib
import json
from typing import Any, get_args

import pytest
from openai_proxy.events.envelope import TERMINAL_DETAIL_TYPES, DetailType, Event
from openai_proxy.events.incoming import MalformedEventError, batch_told, from_envelope, from_sqs_body, is_terminal

from tests.fakes import envelope_of

EVENT: Event[Any, Any] = Event("InferenceFailed", "01M8", "2026-11-23T18:12:53.042Z", "mine", "team-a", {"a": ["ü"]})
ENVELOPE = envelope_of(EVENT.to_entry("bus"))
PLACES = (
    "detail-type",
    "detail",
    "detail/metadata",
    "detail/data",
    *(f"detail/metadata/{name}" for name in ENVELOPE["detail"]["metadata"]),
)


def test_an_event_is_read_as_it_was_written() -> None:
    assert from_envelope(ENVELOPE) == from_sqs_body(json.dumps(ENVELOPE)) == EVENT


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", ["missing", None, 5, ["a"], True])
def test_what_lacks_a_text_or_its_data_is_no_event(place: str, value: Any) -> None:
    envelope: Any = copy.deepcopy(ENVELOPE)
    *names, last = place.split("/")
    within = envelope
    for name in names:
        within = within[name]
    if value == "missing":
        del within[last]
    else:
        within[last] = value
    with pytest.raises(MalformedEventError, match="not an event of openai-proxy"):
        from_envelope(envelope)


@pytest.mark.parametrize(
    ("version", "is_read"), [("1.0", True), ("1.27", True), ("2.0", False), ("10.0", False), ("1", False)]
)
def test_an_event_of_another_version_is_refused(version: str, is_read: bool) -> None:
    envelope: Any = copy.deepcopy(ENVELOPE)
    envelope["detail"]["metadata"]["version"] = version
    if is_read:
        assert from_envelope(envelope) == EVENT
    else:
        with pytest.raises(MalformedEventError, match=f"event version '{version}' is not 1.x"):
            from_envelope(envelope)


@pytest.mark.parametrize("body", ["", "{", "{}", '{"detail": 3}', "[" * 100_000, "no", '"text"', "[]", "null", "5"])
def test_a_message_that_is_no_object_is_no_event(body: str) -> None:
    with pytest.raises(MalformedEventError):
        from_sqs_body(body)


def test_three_kinds_are_the_end_of_a_request() -> None:
    kinds = {name: is_terminal(EVENT._replace(detail_type=name)) for name in get_args(DetailType)}
    assert {name for name, is_end in kinds.items() if is_end} == set(TERMINAL_DETAIL_TYPES)
    assert set(TERMINAL_DETAIL_TYPES) == {"InferenceCompleted", "InferenceFailed", "InferenceThrottled"}
    others = {"ResponseCaptured", "BudgetThresholdReached", "IncidentReported", "ThrottleForecast", "GuardActed"}
    assert set(kinds) - set(TERMINAL_DETAIL_TYPES) == others


def told(**changes: Any) -> str:
    """The batch that a request was told the usage of: of `m`, which has two names, but for some changes."""
    data: Any = {
        "request": {"method": "GET"},
        "server": {"name": "openai"},
        "usage": {"source": "reported", "service_tier": "batch"},
        "fetched": {"names": ["batch_1", "file_\ud800"]},
    }
    event: Any = EVENT._replace(data={name: value for name, value in (data | changes).items() if value != "missing"})
    return batch_told(event)


def test_a_batch_is_known_by_its_server_and_the_last_of_its_names() -> None:
    assert told() == f"batch-{hashlib.sha256(b'openai' + bytes(1) + b'file_?').hexdigest()}"
    assert told(fetched={"names": ["file_?"]}) == told()
    assert len({told(), told(server={"name": "other"}), told(fetched={"names": ["batch_1"]})}) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"request": {"method": "POST"}},
        {"usage": {"source": "missing", "service_tier": "batch"}},
        {"usage": {"source": "reported", "service_tier": "flex"}},
        {"usage": {"source": "reported"}},
        {"fetched": {"names": []}},
        {"fetched": None},
        {"fetched": "missing"},
    ],
    ids=str,
)
def test_what_was_told_no_usage_of_a_batch_is_none(changes: dict[str, Any]) -> None:
    assert told(**changes) == ""
