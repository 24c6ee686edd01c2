"""Finds in the bytes of a stream what matters for metering, so that most of its events need not be parsed. Pure.

Generated text cannot imitate a key of a JSON object, because inside a JSON string every quote is escaped.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from proxy.metering.sse import data_of, end_of_event, find_events, split_events

USAGE = re.compile(rb'"usage"(?:\s|data:)*:(?:\s|data:)*\{')
TOKENS = b'_tokens"'
"""How the name of every count of tokens ends: the search for it is several times as fast as that for `USAGE`."""
EXECUTED = b'"executed_tools"'
"""In a stream of Groq's that ran tools."""
TIER = b'"service_tier":'
_WORTH_READING = (
    # Each pattern begins with one fixed byte, which makes the search twice as fast. Between two tokens of JSON there
    # may be blanks, and a new `data:` line. Many chunks say `"error": null`.
    rb'"(?:usage"(?:\s|data:)*:(?:\s|data:)*\{|finish_reason"[ \t]*:[ \t]*"|status"\s*:\s*["45]'
    rb'|error"(?!\s*:\s*(?:null|false|""|\{\s*\})))'
)
WORTH_READING = re.compile(_WORTH_READING)
_CLOSELY = _WORTH_READING + rb'|"base_resp"\s*:|event: ?(?:error|response\.(?:error|failed))'
WORTH_READING_CLOSELY = re.compile(_CLOSELY)
"""With what only errors say that look like a piece of an answer otherwise: this search takes several times as long."""
_OF_MESSAGE = rb'"type"[ \t]*:[ \t]*"message_|' + _CLOSELY
"""Compiled when the first stream of messages comes, not in every cold start; so is the next."""
_PING = rb'\s*\{\s*"type"\s*:\s*"ping"\s*\}\s*'
_MAY_BE_ERROR = re.compile(
    # Every event of Anthropic's repeats its own name in its data, and a message's id begins with `msg_`.
    rb'"(?:[Ee]rr|exception|fault|base_resp|success|code|msg(?!_)|status|detail|title'
    rb'|message(?!_(?:start|delta|stop)"|"\s*[,}]|"\s*:\s*\{\s*"(?:id|type|model|role)"\s*:))'
    rb'|response\.failed"|event:[ \t]*(?:error|response\.)'
)
BASE_RESP = b'"base_resp"'
"""MiniMax's word on how it went."""
_UNUSUAL = (BASE_RESP, b"event: error", b"event:error", b"event: response.f", b"event: response.e")
_CHOICES, _CHOICES_SPACED = b'"choices":[{', b'"choices": [{'
_NAMED_EVENT, _BLOCK_EVENT = b"event: response.", b"event: content_block_"
_MARKS = (_CHOICES, _NAMED_EVENT, _CHOICES_SPACED, _BLOCK_EVENT)
_PING_EVENT, _LAST_OF_MESSAGE = b"\nevent: ping\n", b"event: message_delta"
_PIECE = re.compile(
    # A piece of an answer has choices, or at the top level a name with a dot, as most types of events and objects have;
    # but not `response.failed`. Anthropic's types of events have no dot.
    rb'"choices"\s*:\s*\[\s*\{|'
    rb'^[^{]*\{[^{]*?"(?:type|object)"\s*:\s*"(?:text_completion"|(?![\w.]*(?:error|fail))\w+\.[\w.]+"'
    rb'|(?:message|content_block)_(?:start|delta|stop)"|ping")'
)
_LONGEST_ERROR = 64 * 1024
"""Bytes: what is longer is no error, and is not searched for being one."""
_COMPACT, _SPACED = b'"finish_reason":"', b'"finish_reason": "'
_FINISH_FORMS = (_COMPACT, b'"finish_reason": ', b'"finish_reason" ')
_FINISH_REASON = re.compile(rb'"finish_reason"[ \t]*:[ \t]*"([^"\\\r\n]{0,256})')
_BLANKS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_SEQUENCE_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,15})')
_END_BYTES = 2048
"""Where servers say how an answer ended and what it used: in its last few events."""
_CUE = re.compile(rb"-->[ \t]*(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})[.,](\d{3})")
_DONE = b"[DONE]"
_END_MARK = re.compile(re.escape(_DONE))
_LAST_EVENT = b"data: [DONE]\n\n"


def may_hold_error(events: bytes, *, has_names: bool) -> bool:
    """Whether a run of events may hold an error. Most runs have neither `error` as a key nor named events."""
    return has_names or events.rfind(b'"error"') >= 0


def worth_reading(events: bytes, since: int, *, is_message: bool) -> tuple[re.Pattern[bytes], int]:
    """The pattern to search for in a run of events, and where to begin. `is_message`: the run is of a plain Messages
    stream.

    There, the last usage counts everything before it.
    """
    is_close = is_unusual(events)
    if not is_message:
        return WORTH_READING_CLOSELY if is_close else WORTH_READING, since
    if not is_close and events.rfind(b'"error"', since) < 0:
        last = events.rfind(_LAST_OF_MESSAGE, since)
        since = max(since, last) if events.rfind(b'"message_', since) >= 0 else len(events)
    return re.compile(_OF_MESSAGE), since


def is_unusual(events: bytes) -> bool:
    """Whether it holds a word that few other events than unusual errors have."""
    return any(events.rfind(mark) >= 0 for mark in _UNUSUAL)


def may_report_error(event: bytes) -> bool:
    """Whether an event or a document may be an error, in whatever form. Most need not be parsed to know."""
    return _MAY_BE_ERROR.search(event) is not None


def is_odd(event: bytes) -> bool:
    """Whether an event holds data and is not recognisably a piece of an answer: then it may be an error."""
    if b"data:" not in event or len(event) > _LONGEST_ERROR or _PIECE.search(event):
        return False
    return data_of(event).strip() != _DONE


class Looked(NamedTuple):
    """Where the odd events of a run stand: start and end of each, blank line included.

    `has_names`: one of the other events, beside the uniform pieces of a chat, may have a name.
    """

    odd: list[tuple[int, int]]
    has_names: bool


def look_for_odd_events(events: bytes) -> Looked:
    """Find the events that are no pieces of an answer. An error may have any form; a piece of an answer has one of few.

    Pieces that begin alike are skipped one after another; of the others, those with the same mark are counted.
    """
    mark = next((each for each in _MARKS if events.find(each) >= 0), b"")
    start = end = head = 0
    if mark and b"\r" not in events:
        first, last = events.find(mark), events.rfind(mark)
        start = events.rfind(b"\n\n", 0, first) + 2
        start = start if start >= 2 else 0
        head = _end_of_head(events, start, first, mark)
        end = _end_of_alike(events, start, head)
        if last >= end > start and _are_alike(events, mark, end, whole := end_of_event(events, last)):
            end = whole
    rest = len(events) - len(_LAST_EVENT) if events.endswith(b"\n\n" + _LAST_EVENT) else len(events)
    odd = list(_odd_ones(events[:start], 0)) if start else []
    odd += _odd_ones(events[end:rest], end)
    is_named = mark in (_NAMED_EVENT, _BLOCK_EVENT)
    return Looked(odd, is_named or events.rfind(b"event:", end) >= 0 or events.rfind(b"event:", 0, head) >= 0)


def _end_of_head(events: bytes, start: int, mark_at: int, mark: bytes) -> int:
    """The end of the bytes that make the event at `start` a piece of an answer: its mark, or the line with its name."""
    if mark not in (_NAMED_EVENT, _BLOCK_EVENT):
        return mark_at + len(mark)
    return events.find(b"\n", start) + 1 if mark_at == start else 0  # a model may write the same bytes


def _end_of_alike(events: bytes, start: int, end_of_head: int) -> int:
    """The end of the last event that begins like the one at `start` and has one more line."""
    if not end_of_head:
        return start
    head = b"\n\n" + events[start:end_of_head]
    size, find, is_alike, end = len(head), events.find, events.startswith, start
    line_end = find(b"\n", end_of_head)
    while is_alike(head, line_end):
        end = line_end + 2
        line_end = find(b"\n", line_end + size)
    return line_end + 2 if is_alike(b"\n\n", line_end) else end


def _odd_ones(events: bytes, position: int) -> Iterator[tuple[int, int]]:
    for event in split_events(events):
        end = position + len(event)
        if is_odd(event):
            yield position, end
        position = end


def _are_alike(events: bytes, mark: bytes, start: int, end: int) -> bool:
    """Whether every event from `start` to `end` has the `mark` and the lines of a piece.

    Another event ends at `start`, so the byte before it is a line end.
    """
    lines = events.count(b"\n", start, end)
    if mark in (_NAMED_EVENT, _BLOCK_EVENT):
        # it counts only at the beginning of a line, because a model may write it too
        named = events.count(b"\n" + mark, start - 1, end)
        return lines == 3 * (named + (mark == _BLOCK_EVENT and events.count(_PING_EVENT, start - 1, end)))
    return lines == 2 * events.count(mark, start, end)


def is_ping(data: bytes) -> bool:
    """Whether the data of an event only keeps the connection alive."""
    return b'"ping"' in data[:64] and re.fullmatch(_PING, data) is not None


def finish_reasons_in(events: bytes, since: int = 0) -> list[str]:
    """Every finish reason in `events`, in order."""
    return [reason.decode(errors="replace") for reason in _FINISH_REASON.findall(events, since)]


def find_last_finish_reason(events: bytes, since: int = 0) -> int:
    """The position of the last finish reason that is written in the usual way, or -1. Later ones may be written in
    another way.
    """
    found = events.rfind(_COMPACT, since)
    return found if found >= 0 else events.rfind(_SPACED, since)


def has_finish_reason(events: bytes, end: int) -> bool:
    """Whether there is a finish reason before `end`. The search goes backwards, which finds much faster that there is
    none.
    """
    if b"\t" not in events and all(events.rfind(form, 0, end) < 0 for form in _FINISH_FORMS):
        return False
    return _FINISH_REASON.search(events, endpos=end) is not None


def find_end_of_chat(events: bytes, *, has_names: bool, one_choice: bool) -> int:
    """The position of the last events of a chat, if they hold its end and its usage and nothing before them can matter;
    else 0.

    With `one_choice` there is one finish reason: earlier ones do not count.
    """
    since = events.rfind(b"\n\n", 0, max(0, len(events) - _END_BYTES)) + 2
    if since < 2 or find_last_finish_reason(events, since) < 0 or events.rfind(TOKENS, since) < 0:
        return 0
    if may_hold_error(events, has_names=has_names) or events.rfind(b'"status"') >= 0:
        return 0
    return 0 if not one_choice and has_finish_reason(events, since) else since


def last_other_tier(events: bytes, known: str | None) -> bytes:
    """The last event that names a service tier, if it names another than `known`; else b""."""
    place = events.rfind(TIER + b'"')
    place = max(place, events.rfind(TIER + b' "', max(place, 0)))
    if place < 0 or (known and events.startswith(b'"%b"' % known.encode(), events.find(b'"', place + len(TIER)))):
        return b""
    before = [found + len(blank) for blank in _BLANKS if (found := events.rfind(blank, 0, place)) >= 0]
    start = max(before, default=0)
    return events[start : end_of_event(events, start)]


def has_end_mark(events: bytes) -> bool:
    """Whether `[DONE]` is one of `events`."""
    return any(data_of(events[start:end]).strip() == _DONE for start, end in find_events(_END_MARK, events))


def ends_with(events: bytes, event: bytes) -> bool:
    """Whether `event` is the last one, or only `[DONE]` follows it."""
    end = len(events) - len(_LAST_EVENT) if events.endswith(_LAST_EVENT) else len(events)
    return events.endswith(event, 0, end)


def next_sequence_number(events: bytes) -> int:
    """The sequence number after that of the last event of a Responses stream; 0 where none has one."""
    numbers = _SEQUENCE_NUMBER.findall(events)
    return int(numbers[-1]) + 1 if numbers else 0


def last_cue(text: bytes | bytearray) -> float | None:
    """When the last subtitle of an SRT or WebVTT file ends, in seconds; None where there is none."""
    ends = [
        int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(thousandths) / 1000
        for hours, minutes, seconds, thousandths in _CUE.findall(text)
    ]
    return max(ends, default=None)
