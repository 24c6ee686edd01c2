"""What streams and documents of Anthropic's Messages API are metered as."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.usage import Usage
from proxy.metering.meter import AnswerTraits, Meter
from proxy.metering.scan import may_report_error
from proxy.metering.usage import usage_of

TOKENS = st.integers(0, 10**6)
STOP: dict[str, Any] = {"type": "message_stop"}
PING: dict[str, Any] = {"type": "ping"}


def event(fields: dict[str, Any], *, named: bool = True) -> bytes:
    name = f"event: {fields['type']}\n" if named else ""
    return f"{name}data: {json.dumps(fields)}\n\n".encode()


def start(**usage: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"id": "msg-1", "type": "message", "model": "claude", "stop_reason": None, "usage": usage}
    return {"type": "message_start", "message": message}


def text(said: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said}}


def end(reason: str | None = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


def metered(*events: dict[str, Any], named: bool = True, more: bytes = b"") -> Meter:
    meter = Meter("text/event-stream", True, AnswerTraits(has_terminator=True))
    for each in events:
        meter.see(event(each, named=named))
    if more:
        meter.see(more)
    meter.end()
    return meter


@given(fresh=TOKENS, read=TOKENS, short=TOKENS, long=TOKENS, output=st.integers(1, 10**6), thoughts=TOKENS)
def test_input_of_the_ledger_is_what_anthropic_counts_in_three_places(
    fresh: int, read: int, short: int, long: int, output: int, thoughts: int
) -> None:
    thoughts = min(thoughts, output)
    by_time = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
    caches = {"cache_read_input_tokens": read, "cache_creation_input_tokens": short + long}
    expected = Usage(fresh + read + short + long, output, read, short + long, thoughts, "reported")._replace(
        cache_creation_1h_input_tokens=long
    )
    told = {"input_tokens": fresh, **caches, "cache_creation": by_time, "output_tokens": output}
    told["output_tokens_details"] = {"thinking_tokens": thoughts}
    assert usage_of(told) == expected
    del told["cache_creation_input_tokens"]
    assert usage_of(told) == expected
    ended = end(output_tokens=output, output_tokens_details={"thinking_tokens": thoughts})
    in_all = {**caches, "cache_creation": by_time}
    meter = metered(start(input_tokens=fresh, **in_all, output_tokens=1), text("a"), ended, STOP)
    assert meter.usage == expected
    ended["usage"] |= {"input_tokens": fresh, **in_all}
    assert metered(start(input_tokens=0, output_tokens=0), text("a"), ended, STOP).usage == expected


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("length", [1, 3000])
def test_a_stream_says_who_answered_why_it_ended_and_that_it_did(length: int, named: bool) -> None:
    begun = [start(input_tokens=7, output_tokens=1), PING, *[text("x" * 20)] * length]
    meter = metered(*begun, end("tool_use", output_tokens=9), STOP, named=named)
    assert (meter.model, meter.id, meter.finish_reasons) == ("claude", "msg-1", ["tool_use"])
    assert (meter.usage, meter.is_cut, meter.error) == (Usage(7, 9, source="reported"), False, None)
    cut = metered(*begun, end("tool_use", output_tokens=9), named=named)
    assert (cut.is_cut, cut.usage.output_tokens) == (True, 9)


def test_what_a_model_writes_is_neither_an_end_nor_an_error_nor_usage() -> None:
    written = 'event: error\n\nevent: message_delta\ndata: {"type": "message_stop", "usage": {"output_tokens": 10}}\n\n'
    begun = [start(input_tokens=7, output_tokens=1), text(written), text("event: message_stop")]
    meter = metered(*begun)
    assert (meter.is_cut, meter.error, meter.usage) == (True, None, Usage(7, 1, source="reported"))
    meter = metered(*begun, end(output_tokens=9), STOP)
    assert (meter.is_cut, meter.error, meter.usage) == (False, None, Usage(7, 9, source="reported"))


def test_of_several_counts_the_last_is_it_and_none_falls_to_zero() -> None:
    counts = [end(None, output_tokens=3), end(None, output_tokens=5), end(output_tokens=5, input_tokens=0)]
    assert metered(start(input_tokens=7, output_tokens=1), *counts, STOP).usage == Usage(7, 5, source="reported")


def test_pings_alone_are_no_answer() -> None:
    assert metered(PING, PING).is_cut
    assert metered().is_cut
    assert metered(PING, start(input_tokens=1), end(output_tokens=1), STOP).is_cut is False


@pytest.mark.parametrize(
    ("kind", "status"),
    [("overloaded_error", 529), ("rate_limit_error", 429), ("api_error", 500), ("timeout_error", 504), ("new", None)],
)
@pytest.mark.parametrize("named", [True, False])
def test_an_error_in_mid_stream_has_the_status_of_its_type(kind: str, status: int | None, named: bool) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "Overloaded"}, "request_id": "req-1"}
    meter = metered(start(input_tokens=7, output_tokens=1), text("a"), error, named=named)
    assert meter.error is not None
    assert (meter.error.message, meter.error.code, meter.error.status) == ("Overloaded", kind, status)
    assert (meter.is_cut, meter.usage) == (False, Usage(7, 1, source="reported"))


@pytest.mark.parametrize("end_of_line", ["\n", "\r\n", "\r"])
def test_line_ends_and_comments_change_nothing(end_of_line: str) -> None:
    events = [start(input_tokens=7, output_tokens=1), *[text("a")] * 30, end(output_tokens=9), STOP]
    stream = b": keep-alive\n\n".join(event(each) for each in events).replace(b"\n", end_of_line.encode())
    meter = metered(more=stream)
    assert (meter.usage, meter.is_cut, meter.error) == (Usage(7, 9, source="reported"), False, None)


def test_few_events_of_a_stream_are_parsed() -> None:
    seen: list[bytes] = []

    class Watched(Meter):
        def _read_event(self, event: bytes) -> bool:
            seen.append(event)
            return super()._read_event(event)

    meter = Watched("text/event-stream", True, AnswerTraits(has_terminator=True))
    texts = [text("word " * 4)] * 2000
    for each in (start(input_tokens=7, output_tokens=1), PING, *texts, end(output_tokens=9), STOP):
        meter.see(event(each))
    assert (meter.usage, meter.is_cut) == (Usage(7, 9, source="reported"), False)
    assert len(seen) == 3


@pytest.mark.parametrize("beginning", ['{"id": "msg_1", ', '{"type": "message", "id": "msg_1", ', '{"model": "m", '])
def test_what_comes_before_an_end_is_counted_from_the_beginning_alone(beginning: str) -> None:
    usage = '"usage": {"input_tokens": 7, "output_tokens": 1, "service_tier": "priority"}'
    event = f'event: message_start\ndata: {{"type": "message_start", "message": {beginning}{usage}}}}}\n\n'
    for uses_tokens, source in ((True, "reported"), (False, "none")):
        meter = Meter("text/event-stream", uses_tokens, AnswerTraits(has_terminator=True))
        meter.see(event.encode())
        meter.end()
        assert (meter.usage.source, meter.usage.input_tokens) == (source, 7 if uses_tokens else 0)
        assert meter.is_half_counted
        if uses_tokens:
            assert meter.service_tier == "priority"


@pytest.mark.parametrize(
    "error",
    [
        '{"type": "message_start", "error": {"message": "no"}}',
        '{"message": "The model is overloaded"}',
        '{"message": {"text": "no"}, "code": 500}',
        '{"msg": "no", "code": 500}',
    ],
)
def test_an_error_may_have_the_words_of_a_message(error: str) -> None:
    assert may_report_error(f"data: {error}\n\n".encode())
