"""A meter that looks at a stream once, at its end, says what one says that has looked at every event."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from proxy.metering.meter import AnswerTraits, Meter

FACTS = {"id": "c", "object": "chat.completion.chunk", "model": "m"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def said(content: str, reason: str | None = None) -> dict[str, Any]:
    return FACTS | {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]}


def event(piece: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(piece, separators=(",", ":")).encode() + b"\n\n"


PIECES: list[dict[str, Any]] = [
    said("a"),
    said("x" * 3000),
    said("", "stop"),
    said("", "length"),
    FACTS | {"choices": [], "usage": USAGE},
    FACTS | {"choices": [], "usage": USAGE | {"prompt_tokens": 4}},
    said("", "stop") | {"usage": USAGE},
    {"object": "chat.completion.chunk", "choices": [], "usage": USAGE},
    said("b") | {"status": "queued"},
    said("d") | {"model": "other"},
    {"error": {"message": "broken"}},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
]
REPORT: dict[str, Any] = FACTS | {"choices": [], "usage": USAGE}
USUAL = [event(each) for each in (said("a"), said("x" * 3000), said("", "stop"), REPORT)]
OTHERS = [event(each) for each in PIECES]
END = b"data: [DONE]\n\n"


def told(meter: Meter) -> dict[str, Any]:
    return {
        "usage": meter.usage,
        "reasons": meter.finish_reasons,
        "model": meter.model,
        "error": meter.error,
        "is_cut": meter.is_cut,
        "id": meter.id,
        "is_queued": meter.is_queued,
    }


def streams() -> Iterator[list[bytes]]:
    """The usual one, with another piece in any place of it, or without one of its own, or both."""
    for number in range(len(USUAL) + 1):
        without = USUAL[:number] + USUAL[number + 1 :]
        yield [*without, END]
        for place in range(len(without) + 1):
            for other in OTHERS:
                yield [*without[:place], other, *without[place:], END]


@pytest.mark.parametrize("hides", [True, False])
@pytest.mark.parametrize("one_choice", [True, False])
def test_what_is_not_looked_at_did_not_matter(hides: bool, one_choice: bool) -> None:
    for events in streams():
        found: list[Any] = []
        for chunks, looks in ((events, True), (events, False), ([b"".join(events)], False)):
            meter = Meter(
                "text/event-stream", True, AnswerTraits(has_terminator=True, hides_usage=hides, one_choice=one_choice)
            )
            visible = b""
            for chunk in chunks:
                visible += meter.see(chunk)
                if looks:
                    told(meter)
            found.append((told(meter), visible))
        assert found[0] == found[1] == found[2], events


@pytest.mark.parametrize("hides", [True, False])
def test_a_report_of_nothing_at_the_end_takes_away_nothing(hides: bool) -> None:
    """Wherever the meter looks in between, what was counted before the end is still counted."""
    counted, empty = said("a") | {"usage": USAGE}, REPORT | {"usage": dict.fromkeys(USAGE, 0)}
    events = [*(event(each) for each in (counted, said("x" * 3000), said("", "stop"), empty)), END]
    for split in range(len(events)):
        meter = Meter("text/event-stream", True, AnswerTraits(has_terminator=True, hides_usage=hides, one_choice=True))
        for part in (events[:split], events[split:]):
            meter.see(b"".join(part))
            told(meter)
        assert (meter.usage.input_tokens, meter.usage.output_tokens) == (3, 2), split
        assert told(meter) | {"usage": None} == {
            "usage": None,
            "reasons": ["stop"],
            "model": "m",
            "error": None,
            "is_cut": False,
            "id": "c",
            "is_queued": False,
        }


@pytest.mark.parametrize("one_choice", [True, False])
@pytest.mark.parametrize("hides", [True, False])
def test_an_end_that_does_not_say_who_answers_is_counted_once(hides: bool, one_choice: bool) -> None:
    """Its last events are read, do not suffice, and are read again with all others."""
    last: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    report: dict[str, Any] = {"choices": [], "usage": USAGE}
    events = [event(each) for each in (said("a"), said("x" * 3000), last, report)]
    meter = Meter(
        "text/event-stream", True, AnswerTraits(has_terminator=True, hides_usage=hides, one_choice=one_choice)
    )
    meter.see(b"".join([*events, END]))
    assert (meter.finish_reasons, meter.model, meter.id) == (["stop"], "m", "c")
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (3, 2)


def test_what_is_kept_unread_of_a_stream_is_bounded() -> None:
    looked = list[int]()

    class Counted(Meter):
        def _read_unread(self) -> None:
            looked.append(self.size)
            super()._read_unread()

    meter = Counted("text/event-stream", True)
    piece = event(said("x" * 900))
    for _ in range(200):
        meter.see(piece)
    pieces = -(-65536 // len(piece))
    assert looked == [len(piece) * pieces * look for look in range(1, 200 // pieces + 1)]


NAMES = ("usage", "finish_reasons", "model", "error", "is_cut", "id", "is_queued", "background_since")
NAMES_OF_OTHERS = ("is_half_counted", "next_sequence_number", "sample")
SAYINGS: list[dict[str, Any]] = [
    {"response": {"id": "r", "object": "response", "status": "queued", "created_at": 7}},
    {"response": {"id": "r", "object": "response", "created_at": 7, "background": True, "status": "completed"}},
    {"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 3}}},
    {"type": "response.a", "sequence_number": 7},
]


def test_whatever_is_asked_first_is_known() -> None:
    """It is the same as where all else was asked before, and not what a meter says that has seen nothing."""
    unlike = set[str]()
    for events in ([*USUAL, END], [event({"error": {"message": "broken"}})], *([event(each)] for each in SAYINGS)):
        for name in (*NAMES, *NAMES_OF_OTHERS):
            first, last, unused = (Meter("text/event-stream", uses_tokens=True) for _ in range(3))
            for chunk in events:
                first.see(chunk)
                last.see(chunk)
            found = getattr(first, name)
            told(last)
            assert found == getattr(last, name), (name, events)
            unlike |= {name} if found != getattr(unused, name) else set()
    assert unlike == {*NAMES, *NAMES_OF_OTHERS}


@pytest.mark.parametrize("looks", [True, False])
def test_an_end_mark_counts_though_what_follows_it_is_read_later(looks: bool) -> None:
    for ends in (True, False):
        meter = Meter("text/event-stream", uses_tokens=True)
        for chunk in (event(said("a")), END if ends else b": no end\n\n", b": bye\n\n", b": bye\n\n"):
            meter.see(chunk)
            assert not looks or meter.model == "m"
        assert meter.is_cut is not ends
