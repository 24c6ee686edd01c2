"""The one reader of events: which fields it looks at, and which values of each it takes. Compared with a table."""

import copy
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.reader import read_event
from openai_proxy.events.ulid import first_ulid_of, new_ulid

SAMPLES = Path(__file__).parents[4] / "events" / "samples"
NOW = 1_795_426_900.0
VALUES: dict[str, Any] = {
    "nothing": None,
    "true": True,
    "text": "a",
    "no text": "",
    "list": [],
    "object": {},
    "0": 0,
    "1": 1,
    "1/2": 0.5,
    "-1": -1,
    "10^9": 10**9,
    "10^9 + 1": 10**9 + 1,
    "10^12": 10**12,
    "10^12 + 1": 10**12 + 1,
    "not a number": math.nan,
    "without end": math.inf,
    "10^400": 10**400,
    "texts": ["a", None],
    "one text": ["a"],
    "numbers": [1],
    "map": {"a": "b", "c": None},
    "map of numbers": {"a": 1},
    "attempts": [{"server": "a", "error": None}],
    "no attempt": [{"server": "a"}],
    "odd": [{"server": 1, "error": ""}],
    "parts": [{"model": None}, {"model": "a"}],
    "no part": [{}],
    "odd part": [{"model": 1}],
}
LACKING = {"no attempt", "no part", "odd", "odd part", "attempts", "parts"}
"""Of which the reason names what a part of them lacks."""
COUNT = {"0", "1", "10^9", "10^9 + 1", "10^12"}
SECONDS = {"0", "1", "1/2", "10^9"}
NAME = {"nothing", "text", "no text"}
MAP = {"nothing", "object", "map"}
OF_ANY: dict[str, set[str]] = {
    **dict.fromkeys(("operation.name", "server.name", "request.method", "request.path", "request.model"), NAME),
    **dict.fromkeys(("response.model", "response.id", "cache.status", "door"), NAME),
    **dict.fromkeys(("request.size", "response.status_code", "response.size", "response.chunks"), COUNT),
    **dict.fromkeys(("timings.total", "timings.authorization", "timings.upstream", "timings.proxy"), SECONDS),
    "response.time_to_first_chunk": SECONDS | {"nothing"},
    "request.stream": {"nothing", "true"},
    "response.finish_reasons": {"list", "texts", "one text"},
}
SELDOM: dict[str, set[str]] = {
    **dict.fromkeys(("client.key_id", "client.name", "client.owner", "team.name", "end_user", "fetched.digest"), NAME),
    **dict.fromkeys(("client.tags", "tags"), MAP),
    "response.time_per_output_token": SECONDS | {"nothing"},
    "limits": {name for name, value in VALUES.items() if value is None or isinstance(value, dict)},
    "attempts": {"list", "attempts"},
    "fetched.names": {"list", "one text"},
    "fetched.others": {"list", "parts"},
}
"""Fields that events of before do not have."""
OF_FAILED = {"error.type": NAME, "error.source": NAME, "error.upstream_status": COUNT | {"nothing"}}
OF_THROTTLED = {"throttle.source": {"text", "no text"}}
CASES: list[tuple[str, dict[str, set[str]], bool]] = [
    ("InferenceCompleted.chat-stream", OF_ANY, False),
    ("InferenceCompleted.chat-stream", SELDOM, True),
    ("InferenceFailed.broken-off", OF_FAILED, False),
    ("InferenceThrottled.key-rpm", OF_THROTTLED, False),
]


def envelope_of(sample: str) -> Any:
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    envelope["detail"]["metadata"]["id"] = new_ulid(NOW)
    return envelope


def reason(envelope: Any, now: float = NOW) -> str:
    """Why an event is refused; "" where it is taken."""
    try:
        read_event(json.dumps(envelope), now)
    except MalformedEventError as error:
        return str(error)
    return ""


def holder_of(envelope: Any, path: str) -> tuple[Any, str]:
    """What has a field, made where it is not there, and the field's name."""
    *outer, last = path.split(".")
    holder = envelope["detail"]["data"]
    for name in outer:
        holder[name] = holder.get(name) or {}
        holder = holder[name]
    return holder, last


@pytest.mark.parametrize(("sample", "fields", "may_lack"), CASES)
def test_each_field_takes_what_the_table_says_and_is_named_when_it_refuses(
    sample: str, fields: dict[str, set[str]], may_lack: bool
) -> None:
    for path, taken in fields.items():
        envelope = envelope_of(sample)
        holder, name = holder_of(envelope, path)
        for called, value in VALUES.items():
            holder[name] = copy.deepcopy(value)
            found = reason(envelope)
            assert (found == "") == (called in taken), (path, called, found)
            names_it = repr(path) in found or f"('{path} " in found or f'("{path} ' in found
            assert not found or names_it or called in LACKING, found
            assert len(found) < 200
        del holder[name]
        assert (reason(envelope) == "") == may_lack, path


@pytest.mark.parametrize("sample", sorted({sample for sample, _, _ in CASES}))
def test_only_the_fields_of_its_kind_are_looked_at(sample: str) -> None:
    assert reason(envelope_of(sample)) == ""
    others = [fields for each, fields, _ in CASES[2:] if each != sample]
    for path in (path for fields in others for path in fields):
        envelope = envelope_of(sample)
        holder, name = holder_of(envelope, path)
        holder[name] = 0.5
        assert reason(envelope) == ""


@pytest.mark.parametrize(
    ("client", "is_one"),
    [("a", True), ("A-z_0.9", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("a b", False), ("a#b", False)],
)
def test_a_client_has_an_id_that_a_key_can_have(client: str, is_one: bool) -> None:
    envelope = envelope_of("InferenceCompleted.chat-stream")
    envelope["detail"]["metadata"]["client_id"] = client
    assert reason(envelope) == ("" if is_one else "not a InferenceCompleted event: ValueError('client_id')")


@pytest.mark.parametrize(
    ("timestamp", "is_one"),
    [
        *(("2026-11-23T09:38:06Z", True), ("2026-11-23T09:38:06.1Z", True), ("2026-11-23T09:38:06.123456Z", True)),
        *(("2026-11-23T09:38:06.1234567Z", False), ("2026-11-23T09:38:06", False), ("2026-13-23T09:38:06Z", False)),
        *(("2026-11-23T09:38:06+00:00", False), ("2026-11-23", False), ("", False)),
    ],
)
def test_a_moment_is_written_in_utc(timestamp: str, is_one: bool) -> None:
    envelope = envelope_of("InferenceCompleted.chat-stream")
    envelope["detail"]["metadata"]["timestamp"] = timestamp
    assert (reason(envelope) == "") == is_one


@pytest.mark.parametrize(("seconds", "is_taken"), [(-0.001, True), (0.0, False)])
def test_an_event_is_too_old_from_the_moment_in_which_its_entry_would_be_gone(seconds: float, is_taken: bool) -> None:
    envelope = envelope_of("InferenceCompleted.chat-stream")
    envelope["detail"]["metadata"]["id"] = first_ulid_of(NOW)
    found = reason(envelope, (datetime.fromtimestamp(NOW, UTC) + timedelta(days=400)).timestamp() + seconds)
    assert found == ("" if is_taken else "too old: an event of 2026-11-23, and the ledger keeps entries for 400 days")


def test_of_what_is_no_end_of_a_request_only_the_envelope_is_read() -> None:
    envelope = envelope_of("ResponseCaptured.chat-stream")
    envelope["detail"]["data"] = {"any": 1}
    envelope["detail"]["metadata"]["client_id"] = "a b"
    assert reason(envelope) == ""
    del envelope["detail"]["metadata"]["version"]
    assert reason(envelope) != ""
