"""What clients call a stream and a place in it, whose it is, and what they are told of one."""

from typing import Any

import pytest
from openai_proxy.events.ulid import ulid_time
from openai_proxy.key_context import ClientKey
from proxy.errors import ClientError
from proxy.streams.names import not_found, owner_of, place_of, stream_id_of, stream_object
from proxy.streams.table import State

STREAM = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
MADE = ulid_time(STREAM).timestamp()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"/streams/{STREAM}", (STREAM, MADE, False)),
        (f"/streams/{STREAM}/status", (STREAM, MADE, True)),
        (f"/streams/{STREAM}/", None),
        (f"/streams/{STREAM}/status/", None),
        (f"/streams/{STREAM}/other", None),
        (f"/streams/{STREAM}x", None),
        (f"/streams/{STREAM[:-1]}", None),
        ("/streams/7ZZZZZZZZZZZZZZZZZZZZZZZZZ", None),
        ("/streams/", None),
    ],
)
def test_the_name_of_a_stream_is_exactly_one_of_ours(path: str, found: Any) -> None:
    if found:
        assert stream_id_of(path) == found
        return
    with pytest.raises(ClientError) as refused:
        stream_id_of(path)
    assert refused.value.to_object() == not_found().to_object()
    assert (refused.value.status, refused.value.code) == (404, "stream_not_found")


@pytest.mark.parametrize(
    ("header", "query", "place"),
    [
        ("", "", 0),
        (f"{STREAM}.7", "", 7),
        (f" {STREAM}.999999999 ", "after=3", 999_999_999),
        (f"{STREAM}.0", "", 0),
        ("", "after=3", 3),
        ("", "before=1&after=12", 12),
        (" ", "after=999999999", 999_999_999),
        ("", "after=0", 0),
        (f"{STREAM}.1000000000", "", None),
        (f"{STREAM}.07", "", None),
        (f"{STREAM}.-1", "", None),
        (f"{STREAM}.", "", None),
        (STREAM, "", None),
        ("other.7", "after=3", None),
        (f"x.{STREAM}.7", "", None),
        ("", "after=", None),
        ("", "after=1&after=1", None),
        ("", "after=1x", None),
        ("", "&".join(["after=1", *["a=1"] * 19]), 1),
        ("", "&".join(["after=1", *["a=1"] * 20]), None),
    ],
    ids=range(20),
)
def test_a_place_is_named_by_the_header_or_else_by_the_query(header: str, query: str, place: int | None) -> None:
    headers = {"last-event-id": header} if header else {}
    if place is not None:
        assert place_of(STREAM, headers, query) == place
        return
    with pytest.raises(ClientError) as refused:
        place_of(STREAM, headers, query)
    assert (refused.value.status, refused.value.code) == (404, "stream_not_found")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, {"status": "in_progress"}),
        ({"stop_at": 5.0}, {"status": "stopping"}),
        ({"stop_at": 5.0, "status": "stopped", "events": 3}, {"status": "stopped", "events": 3}),
        ({"status": "completed", "events": 0}, {"status": "completed", "events": 0}),
        ({"events": 3}, {"status": "in_progress"}),
        ({"status": "failed", "error": "worker_killed"}, {"status": "failed", "events": 0, "error": "worker_killed"}),
    ],
)
def test_what_is_told_of_a_stream(changed: Any, told: dict[str, Any]) -> None:
    state = State(STREAM, "owner", "/chat/completions", created_at=1000.9)._replace(**changed)
    whole = {"object": "stream", "id": STREAM, "created_at": 1000, "events": None, "error": None}
    assert stream_object(state) == {**whole, "url": f"/v1/streams/{STREAM}", **told}


def test_a_stream_is_its_lines_or_its_users_and_nobody_elses() -> None:
    keys = [
        ClientKey("a", key_id="k", line="l"),
        ClientKey("b", key_id="k", line="l"),
        ClientKey("a", key_id="k", line="m"),
        ClientKey("a", key_id="k"),
        ClientKey("a", key_id="k", line="l", end_user="u"),
        ClientKey("a", key_id="l"),
        ClientKey("a", key_id="other", line="l"),
        ClientKey("al", key_id="", line=""),
        ClientKey("\ud800", key_id="k"),
    ]
    owners = [owner_of(key) for key in keys]
    same = {owners[0], owners[5], owners[6]}
    assert len(same) == 1, "a rotated key is of the line that its first key began"
    assert len(set(owners)) == len(owners) - 2
    assert {len(owner) for owner in owners} == {64}
