"""What one more chunk of an answer costs, counted in calls: a fast way that is silently left would be seen here.

A chunk is cut off, noted, and read much later together with hundreds of others. Calls are counted by the interpreter,
so the figures are the same on every machine.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from proxy.http.wire import ChunkedDecoder
from proxy.metering.meter import AnswerTraits, Meter
from proxy.metering.sse import EventFrames, data_of, split_events
from proxy.metering.usage import usage_of

from tests.recordings import STREAMS, recorded
from tests.timed_relays import World, stream, timed_proxy, url_event

OWN = "/functions/proxy/"
MORE = 400
"""Chunks: several times as many as are read together."""
_WITH_AN_END = ("chat/completions", "completions", "responses", "messages")


def calls_of(work: Callable[[], object]) -> tuple[Counter[str], int]:
    """Which of the proxy's functions were called, and how many functions of C by them."""
    calls, of_c = Counter[str](), 0

    def count(frame: Any, event: str, _argument: Any) -> None:
        nonlocal of_c
        if OWN in frame.f_code.co_filename:
            calls[frame.f_code.co_name] += event == "call"
            of_c += event == "c_call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls, of_c


def is_text(event: bytes) -> bool:
    """Whether an event is a piece of what the model says, and nothing else."""
    try:
        fields: dict[str, Any] = json.loads(data_of(event))
    except ValueError:
        return False
    choices: list[dict[str, Any]] = fields.get("choices") or []
    for choice in choices:
        delta: dict[str, Any] = choice.get("delta") or {"text": choice.get("text")}
        if not choice.get("finish_reason") and any(value for name, value in delta.items() if name != "role"):
            return True
    return str(fields.get("type", "")).endswith((".delta", "block_delta"))


def longer(recording: bytes) -> tuple[list[bytes], list[bytes]]:
    """The events of a stream, and the same with one of its pieces of text hundreds of times more."""
    events = split_events(recording)
    places = [place for place, event in enumerate(events) if is_text(event)]
    middle = places[len(places) // 2]
    return events, [*events[:middle], *[events[middle]] * MORE, *events[middle:]]


def metered(entry: dict[str, Any], events: Sequence[bytes], *, hides_usage: bool) -> None:
    endpoint = entry["endpoint"]
    meter = Meter(
        entry["content type"],
        True,
        AnswerTraits(
            has_terminator=endpoint in _WITH_AN_END,
            hides_usage=hides_usage,
            one_choice=endpoint == "chat/completions" and entry["request"].get("n") in (None, 1),
        ),
    )
    frames = EventFrames()
    for event in events:
        if whole := frames.whole(event):
            meter.see(whole)
    meter.end()
    assert not meter.is_cut
    assert meter.usage


RECORDINGS = [
    entry
    for entry in recorded()
    if entry["file"].endswith(".sse")
    and entry.get("outcome", "InferenceCompleted") == "InferenceCompleted"
    and any(map(is_text, split_events((STREAMS / entry["file"]).read_bytes())))
]


@pytest.mark.parametrize(
    ("entry", "hides_usage"),
    [
        pytest.param(entry, hides, id=f"{entry['file']}{'-hidden' if hides else ''}")
        for entry in RECORDINGS
        for hides in [False, *([True] if entry["file"].startswith(("openai-chat", "openrouter-chat")) else [])]
    ],
)
def test_a_piece_of_text_is_cut_off_and_noted_and_no_more(entry: dict[str, Any], hides_usage: bool) -> None:
    short, long = longer((STREAMS / entry["file"]).read_bytes())
    least, least_of_c = calls_of(lambda: metered(entry, short, hides_usage=hides_usage))
    most, most_of_c = calls_of(lambda: metered(entry, long, hides_usage=hides_usage))
    calls, of_c = (most.total() - least.total()) / MORE, (most_of_c - least_of_c) / MORE
    if b'_tokens"' in long[len(long) // 2]:  # these servers say with every piece what was used by then
        assert calls < 110
    elif entry["endpoint"].startswith("audio/"):  # hardly anybody streams these: each is looked at, none is parsed
        assert calls < 10
    else:
        assert calls < 3.25
        assert of_c < 7.5 + hides_usage  # two of them compare its beginning: that is a third of counting its bytes


FACTS = b'data: {"id":"a","object":"chat.completion.chunk","model":"m","choices":'
PIECE = FACTS + b'[{"index":0,"delta":{"content":"a"}}]}\n\n'
END_OF_CHAT = (
    FACTS + b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    FACTS + b'[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n',
    b"data: [DONE]\n\n",
)
READING = dict.fromkeys(("_identify", "worth_reading", "_find_slowly", "has_end_mark", "_are_alike"), 0) | {
    "_read_what_is_hidden": 1,
    "look_for_odd_events": 1,
    "may_hold_error": 1,
    "find_last_finish_reason": 1,
    "split_events": 1,  # what is after the pieces that are all alike
}
"""How often what reads a usual chat, or could read it, is called, however many pieces it has."""
VISIBLE = READING | {"_read_its_end": 1, "is_odd": 3, "loads_or_none": 2, "_read_event": 2, "find_events": 1}
HIDDEN = {"taken_out": 1, "_with_usage": 1, "_has_content": 1}
ONE_HIDDEN = {"_read_its_end": 0, "is_odd": 1, "loads_or_none": 1, "_read_event": 0, "find_events": 0, "ends_with": 1}


@pytest.mark.parametrize("pieces", [30, 500])
@pytest.mark.parametrize(
    ("hides_usage", "one_choice", "expected"),
    [
        (False, True, VISIBLE | {"has_finish_reason": 0}),
        (False, False, VISIBLE | {"has_finish_reason": 1}),
        (True, True, READING | HIDDEN | ONE_HIDDEN | {"is_unusual": 0, "finish_reasons_in": 1}),
        (True, False, VISIBLE | HIDDEN | {"loads_or_none": 3}),
    ],
    ids=["one choice", "many choices", "one choice, usage hidden", "many choices, usage hidden"],
)
def test_of_a_usual_chat_only_the_end_is_read(
    hides_usage: bool, one_choice: bool, expected: dict[str, int], pieces: int
) -> None:
    def read() -> None:
        meter = Meter(
            "text/event-stream", True, AnswerTraits(has_terminator=True, hides_usage=hides_usage, one_choice=one_choice)
        )
        for event in (*[PIECE] * pieces, *END_OF_CHAT):
            meter.see(event)
        meter.end()
        found = meter.model, meter.id, meter.finish_reasons, meter.usage.output_tokens, meter.is_cut
        assert found == ("m", "a", ["stop"], 2, False)

    calls, _ = calls_of(read)
    assert {name: calls[name] for name in expected} == expected


ON_ITS_WAY = Counter(["_pieces", "_chunked", "_receive", "limit", "feed", "whole", "see"])
"""What is called for a chunk between the socket of its server and that of its client, once each."""


@pytest.mark.parametrize(
    ("end", "most"), [(b"\n\n", ON_ITS_WAY.total()), (b"\r\n\r\n", 2.5 * ON_ITS_WAY.total()), (b"\r\r", 20)]
)
def test_what_a_chunk_costs_on_its_way_through_the_relay(end: bytes, most: float) -> None:
    facts = b'data: {"id":"a","object":"chat.completion.chunk","model":"m","choices":'
    piece = facts + b'[{"index":0,"delta":{"content":"a"}}]}'
    last = facts + b'[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}'

    def relayed(times: int) -> None:
        pieces = [*[(0.0, piece + end)] * times, (0.0, last + end)]
        with timed_proxy(World({"main": [stream(0.0, *pieces)]}), {"client_id": "team-a"}) as proxy:
            client = proxy.call(url_event("/main/v1/chat/completions", {"messages": [], "stream": True}))
        assert client.pieces == [data for _, data in pieces]

    relayed(1)  # what is loaded and compiled is loaded and compiled
    few, many = (calls_of(lambda times=times: relayed(times))[0] for times in (20, 120))
    each = Counter({name: calls // 100 for name, calls in (many - few).items() if calls >= 100})
    assert each.total() <= most
    if end == b"\n\n":
        assert each == ON_ITS_WAY


def test_a_message_costs_about_what_a_chat_that_says_the_same_does() -> None:
    usage = {"input_tokens": 5, "output_tokens": 1, "service_tier": "standard"}
    message: dict[str, Any] = {"model": "m", "id": "msg_01", "type": "message", "content": [], "usage": usage}
    piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[piece] * 64,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 64}},
        {"type": "message_stop"},
    ]
    events = [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in told]
    frame: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "model": "m"}
    choices: list[dict[str, Any]] = [
        *[{"delta": {"content": "word "}, "finish_reason": None}] * 64,
        {"delta": {}, "finish_reason": "stop"},
    ]
    said: list[dict[str, Any]] = [
        *({"choices": [each]} for each in choices),
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 64}},
    ]
    chunks = [*(f"data: {json.dumps(frame | each)}\n\n".encode() for each in said), b"data: [DONE]\n\n"]

    def metering(pieces: Sequence[bytes]) -> Callable[[], object]:
        meter = Meter("text/event-stream", True, AnswerTraits(has_terminator=True, one_choice=True))

        def work() -> None:
            for each in pieces:
                meter.see(each)
            meter.end()
            assert meter.usage.output_tokens == 64

        return work

    (of_message, c_of_message), (of_chat, c_of_chat) = calls_of(metering(events)), calls_of(metering(chunks))
    assert of_message["_tokens_of"] == 1  # the beginning tells what the end tells again
    assert of_message["error_of_event"] == of_chat["error_of_event"] == 0
    assert of_message.total() + c_of_message < 1.5 * (of_chat.total() + c_of_chat)


def test_the_data_of_a_plain_event_is_cut_out_at_once() -> None:
    calls, of_c = calls_of(lambda: data_of(b'data: {"a": 1}\n\n'))
    assert (calls["data_of"], calls["<genexpr>"]) == (1, 0)
    assert of_c <= 4


@pytest.mark.parametrize("size", [1, 15, 16, 300, 4096])
def test_a_chunk_that_comes_in_one_read_is_cut_out_at_once(size: int) -> None:
    decoder, read = ChunkedDecoder(), b"%x\r\n%b\r\n" % (size, b"x" * size)
    calls, of_c = calls_of(lambda: decoder.feed(read))
    assert calls == {"feed": 1}
    assert of_c <= 7


TOTAL: dict[str, Any] = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
NOTHING: dict[str, Any] = {}
OF_INPUT = {"cached_tokens": 7, "audio_tokens": 7}
OF_OUTPUT = dict.fromkeys(
    ("reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"), 3
)


@pytest.mark.parametrize(
    "report",
    [
        TOTAL,
        {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1},
        {"prompt_tokens": 0, "completion_tokens": 1, "total_tokens": 1},
        {"prompt_tokens": 10**12, "completion_tokens": 0, "total_tokens": 10**12},
        TOTAL | {"prompt_tokens_details": None, "completion_tokens_details": NOTHING},
        TOTAL | {"prompt_tokens_details": OF_INPUT, "completion_tokens_details": OF_OUTPUT},
    ],
    ids=range(6),
)
def test_a_report_as_most_servers_make_it_is_read_at_once(report: dict[str, Any]) -> None:
    calls, _ = calls_of(lambda: usage_of(report))
    assert calls == {"usage_of": 1, "_usual": 1, "object_of": 3}


@pytest.mark.parametrize(
    "report",
    [
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        TOTAL | {"total_tokens": 11},
        TOTAL | {"prompt_tokens": 7.0},
        TOTAL | {"prompt_tokens": 10**12 + 1, "total_tokens": 10**12 + 4},
        TOTAL | {"cost": 1},
        TOTAL | {"prompt_tokens_details": {"cached_tokens": 8}},
        TOTAL | {"prompt_tokens_details": {"audio_tokens": 8}},
        TOTAL | {"completion_tokens_details": {"reasoning_tokens": 4}},
        TOTAL | {"completion_tokens_details": {"audio_tokens": 4}},
        TOTAL | {"prompt_tokens_details": {"image_tokens": 1}},
        TOTAL | {"completion_tokens_details": {"image_tokens": 1}},
        TOTAL | {"prompt_tokens_details": [1]},
        TOTAL | {"completion_tokens_details": "x"},
        {"prompt_tokens": 7, "total_tokens": 6},
        {"completion_tokens": 7, "total_tokens": 6},
    ],
    ids=range(15),
)
def test_any_other_report_is_read_with_care(report: dict[str, Any]) -> None:
    calls, _ = calls_of(lambda: usage_of(report))
    assert calls["_tokens_of"] == 1
