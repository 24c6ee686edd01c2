"""What is kept of a request whose writer may be killed, what is told of it then, and how that is signed."""

import json
from typing import Any

import pytest
from openai_proxy.events.streams import event_at, event_of_killed, signature_of, signed, unfinished_text

STATE = 999_999_999_999

BEGAN, NOW = 1_796_000_000.0, 1_796_000_012.5
TEXT = '[1796000000.0,"Root=1-x",["InferenceFailed","id","","own","team-a",{"timings":{"total":0,"proxy":0.5}}],%s]'


def event() -> tuple[Any, ...]:
    return ("InferenceFailed", "id", "", "own", "team-a", {"timings": {"total": 0, "proxy": 0.5}})


def test_the_state_comes_after_every_piece_that_a_number_can_name() -> None:
    """Numbers of events have twelve digits at most."""
    assert int("9" * 12) == STATE


@pytest.mark.parametrize("is_async", [True, False])
def test_what_is_kept_is_what_is_told(is_async: bool) -> None:
    text = unfinished_text((BEGAN, "Root=1-x", event()), is_async=is_async)
    assert text == TEXT % json.dumps(is_async)

    told, trace = event_of_killed(text, 7, NOW, lambda signed: f"signature of {signed}")
    stream: dict[str, Any] = {"status": "failed", "events": 7, "respond_async": is_async}
    if is_async:
        stream["signature"] = f"signature of id.{told.timestamp}.failed"
    timings = {"total": 12.5, "proxy": 0.5, "upstream": 12.0}
    assert (told.detail_type, told.id, told.timestamp, told.request_id, told.client_id, trace) == (
        *("InferenceFailed", "id", "2026-11-30T00:53:32.500Z", "own", "team-a", "Root=1-x"),
    )
    assert told.data == {"timings": timings, "stream": stream}


@pytest.mark.parametrize(("now", "total", "upstream"), [(BEGAN - 3, 0.0, 0.0), (BEGAN + 0.25, 0.25, 0.0)])
def test_clocks_that_differ_make_no_time_negative(now: float, total: float, upstream: float) -> None:
    told, _ = event_at(now, (BEGAN, None, event()))
    assert told.data["timings"] == {"total": total, "proxy": 0.5, "upstream": upstream}


def test_what_cannot_be_signed_is_told_unsigned() -> None:
    found: Any = {"status": "completed", "events": 1, "respond_async": True}
    assert signed(None, "id", NOW, found) == signed(lambda _: "", "id", NOW, found) == found


def test_a_signature_is_that_of_standard_webhooks() -> None:
    """Computed with `openssl dgst -sha256 -hmac 'the secret' -binary | base64`."""
    assert (
        signature_of("the secret", "id.2026-11-30T00:53:32.500Z.failed")
        == "v1,nd+jqzYc/79fUEESLpSng6MWMoizy2m7Fa3yJH4X490="
    )


def test_times_are_told_to_the_microsecond() -> None:
    told, _ = event_at(1.23456789, (0.0, None, event()))
    assert told.data["timings"] == {"total": 1.234568, "proxy": 0.5, "upstream": 0.734568}
    data: Any = {"timings": {"total": 0, "proxy": 0.12345649}}
    told, _ = event_at(1.0, (0.0, None, (*event()[:-1], data)))
    assert told.data["timings"]["upstream"] == 0.876544
