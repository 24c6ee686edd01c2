"""The chunk of a stream that reports only usage. A client gets it only if it asked for it. Pure.

Its one rule: a chunk is judged by whether a client would show anything in it, or act on it, not by the names of its
fields. A chunk that carries content stays as it came, usage included.
"""

from typing import Any

from proxy.json_shapes import FORMS_WITH_AN_END, array_of, is_one_of, loads_or_none, object_of
from proxy.metering import scan
from proxy.metering.scan import TOKENS, USAGE
from proxy.metering.sse import data_of, find_events, split_events

_MOST_CHOICES = 256
_END_BYTES = 2048
"""Where servers say how an answer ended and what it used: in its last few events."""
_PLACES = ("index", "delta", "role", "name")
"""Of a choice or a delta: none is content. Who speaks is told once, in the first chunk of a choice."""


class UsageChunks:
    """Takes the usage chunks out of a stream. `one_choice`: the answer has only one choice."""

    def __init__(self, *, one_choice: bool) -> None:
        self.latest: tuple[bytes, dict[str, Any]] | None = None
        """The last one that was taken out, and what it says."""
        self._one_choice = one_choice
        self._begun: set[int] = set()

    def taken_out(self, events: bytes, last: int, before: list[bytes] | None) -> bytes:
        """`events` without the chunks that report only usage. After `last` there is no usage.

        `before` are the chunks that came before; None when they were too many to be kept.
        """
        whole, visible, position = memoryview(events), list[memoryview](), 0
        for start, end in _with_usage(events, last):
            fields = object_of(loads_or_none(data_of(events[start:end])))
            if not object_of(fields.get("usage")) or _has_content(fields):
                continue
            earlier = None if before is None else [*before, whole[:start]]
            if any(not self._has_begun(index, earlier) for index in _speakers(fields)):
                continue
            self.latest = events[start:end], fields
            visible.append(whole[position:start])
            position = end
        return b"".join([*visible, whole[position:]]) if visible else events

    def said_last(self, run: bytes, *, has_names: bool) -> tuple[dict[str, Any], list[str]] | None:
        """The usage chunk and the finish reason of the one choice, if the run ends in such a way that nothing before
        can matter.

        `has_names`: an event of the run may have a name.
        """
        if not (self.latest and self._one_choice):
            return None
        event, fields = self.latest
        is_known = is_one_of(FORMS_WITH_AN_END, fields.get("object"))
        says_all = is_known and fields.get("id") and fields.get("model")
        finish = scan.find_last_finish_reason(run)
        if (
            finish < 0
            or not says_all
            or not scan.ends_with(run, event)
            or scan.may_hold_error(run, has_names=has_names)
        ):
            return None
        reasons = scan.finish_reasons_in(run, finish)
        is_usual = any(reasons) and run.rfind(scan.BASE_RESP, max(0, len(run) - _END_BYTES)) < 0
        return (fields, reasons) if is_usual else None

    def _has_begun(self, index: int, earlier: list[bytes | memoryview] | None) -> bool:
        """Whether a chunk of the choice came in `earlier` events. Each choice is searched for only once."""
        if earlier is None or index in self._begun or len(self._begun) > _MOST_CHOICES:
            return True
        if self._one_choice:
            return any(earlier)
        self._begun.add(index)
        return index in _indices_in(b"".join(earlier))


def _with_usage(events: bytes, last: int) -> list[tuple[int, int]]:
    """The positions of the events that report usage."""
    start, end = events.rfind(b"\n\n", 0, last) + 2, events.find(b"\n\n", last) + 2
    if end < 2 or b"\r" in events or events.rfind(TOKENS, 0, start) >= 0:
        return find_events(USAGE, events)
    return [(start if start >= 2 else 0, end)]


def _has_content(fields: dict[str, Any]) -> bool:
    """Whether a chunk has anything but usage, facts about the answer, and the roles of its choices."""
    choices = fields.get("choices")
    for choice in map(object_of, array_of(choices)):
        if _says_something(object_of(choice.get("delta"))) or _says_something(choice):
            return True
    if fields.get("error") or (choices and not isinstance(choices, list)):
        return True
    return any(_is_shown(value) for name, value in fields.items() if name != "choices" and isinstance(value, list))


def _speakers(fields: dict[str, Any]) -> list[int]:
    """The indices of the choices whose role a chunk names."""
    choices = map(object_of, array_of(fields.get("choices")))
    return [_index_of(choice) for choice in choices if object_of(choice.get("delta")).get("role")]


def _indices_in(events: bytes) -> set[int]:
    """The indices of all choices in `events`."""
    documents = (object_of(loads_or_none(data_of(event))) for event in split_events(events))
    return {_index_of(choice) for fields in documents for choice in array_of(fields.get("choices"))}


def _index_of(choice: Any) -> int:
    index = object_of(choice).get("index")
    return index if isinstance(index, int) else 0


def _says_something(fields: dict[str, Any]) -> bool:
    """Whether a choice or a delta has content, a call, or a reason to end. Numbers, such as seeds or tokens, are no
    content.
    """
    for name, value in fields.items():
        if value and name not in _PLACES and (value is True or not isinstance(value, int | float)) and _is_shown(value):
            return True
    return False


def _is_shown(value: Any) -> bool:
    """Whether `value` holds anything that is not empty."""
    if not isinstance(value, dict):
        return bool(value)
    waiting: list[Any] = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += object_of(each).values()
        elif each:
            return True
    return False
