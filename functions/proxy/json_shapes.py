"""Reads JSON that may have any shape: a wrong shape becomes an empty value instead of an exception. Pure."""

import json
import math
from collections.abc import Mapping
from typing import Any

_decode = json.JSONDecoder().raw_decode
"""What `json.loads` comes to when nothing stands around the value: it would look for blanks twice."""

LONGEST_NAME = 256
ENDED = frozenset({"completed", "incomplete", "failed", "cancelled"})
"""What a Responses answer calls itself when nothing more will come of it."""
FORMS_WITH_AN_END = frozenset({"chat.completion.chunk", "text_completion", "response"})
"""The `object` of what comes in streams that say how they end."""
MESSAGE_EVENTS = frozenset(
    {
        *("message_start", "message_delta", "message_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
    }
)
"""The `type` of every event of Anthropic's Messages but `ping`, which says nothing, and `error`."""
_SAY_BATCH = frozenset({"request_counts", "output_file_id", "succeeded_requests"})
_ANSWERED = ("completed", "succeeded", "succeeded_requests")
_BATCH_IS_OVER = frozenset({"completed", "expired", "cancelled", "failed", "ended", "success", "timeout_exceeded"})
_MOST_CHOICES = 256
"""More than any request can ask for: memory stays bounded."""
_LAST_MOMENT = 253402300800
"""The end of the year 9999."""


def loads_or_none(text: bytes | bytearray) -> Any:
    """The JSON in `text`, or None when there is none."""
    try:
        decoded = text.decode()
        value, end = _decode(decoded)
        if end == len(decoded):
            return value
    except (ValueError, RecursionError):
        pass
    try:
        # This also handles leading blanks, encodings other than UTF-8, and numbers so long that Python refuses to read
        # them.
        return json.loads(text, parse_int=_whole)
    except UnicodeDecodeError:  # models sometimes write half of a character: the rest can still be read
        return _loads_or_none(text.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None


def _loads_or_none(text: str) -> Any:
    try:
        return json.loads(text, parse_int=_whole)
    except (ValueError, RecursionError):
        return None


def _whole(digits: str) -> int | float:
    """A whole number; infinity if it has more digits than Python reads."""
    try:
        return int(digits)
    except ValueError:
        return -math.inf if digits.startswith("-") else math.inf


def object_of(value: Any) -> dict[str, Any]:
    """`value` when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def answer_in(fields: dict[str, Any]) -> dict[str, Any]:
    """The object that an event of the Responses API holds in `response`; else the event or document itself."""
    return object_of(fields.get("response")) or fields


def array_of(value: Any) -> list[Any]:
    """`value` when it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def count_of(value: Any) -> int:
    """`value` when it is a positive whole number, else 0."""
    return value if isinstance(value, int) and value > 0 else 0


def moment_of(value: Any) -> float | None:
    """`value` if it is a moment in Unix seconds, within the bounds below, else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < _LAST_MOMENT else None


def is_waiting(fields: Mapping[str, Any]) -> bool:
    """Whether an answer is still being made in the background."""
    status = fields.get("status")
    return status == "queued" or (status == "in_progress" and fields.get("background") is True)


def is_batch(fields: Mapping[str, Any]) -> bool:
    """Whether an answer is about a batch: of OpenAI's form, of Anthropic's, or a job of Mistral's."""
    return not _SAY_BATCH.isdisjoint(fields)


def background_began(fields: Mapping[str, Any]) -> float | None:
    """When a background answer, or a batch, was begun (Unix seconds), if it has ended and has cost anything; else None.

    An answer says `background`. A batch counts its requests that were answered: OpenAI's how many were completed,
    Anthropic's and Mistral's how many succeeded; Together's has a file of answers, or none. The moment may also be an
    RFC 3339 text.
    """
    if not is_batch(fields):
        is_over = fields.get("background") is True and is_one_of(ENDED, fields.get("status"))
        return moment_of(fields.get("created_at")) if is_over else None
    state = fields.get("status") or fields.get("processing_status")
    counts = object_of(fields.get("request_counts")) or fields
    answered = [counts[name] for name in _ANSWERED if name in counts]
    has_answers = any(map(count_of, answered)) if answered else bool(answers_of_batch(fields))
    if not (isinstance(state, str) and state.lower() in _BATCH_IS_OVER and has_answers):
        return None
    created = fields.get("created_at")
    if isinstance(created, str):
        from datetime import datetime  # noqa: PLC0415  # few requests are about batches

        try:
            created = datetime.fromisoformat(created).timestamp()
        except (ValueError, OverflowError):
            return None
    return moment_of(created)


def answers_of_batch(fields: Mapping[str, Any]) -> str:
    """The id of the file with a batch's answers; "" if there is none."""
    return text_of(fields.get("output_file_id") or fields.get("output_file"), LONGEST_NAME) or ""


def text_of(value: Any, longest: int) -> str | None:
    """`value` if it is a text that is not empty, cut to its bound and made fit for any table, log or header; else None.

    What cannot be printed or encoded, such as control characters and halves of characters, becomes U+FFFD.
    """
    if not isinstance(value, str) or not value:
        return None
    text = value[:longest]
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)


def finish_reasons_of(fields: Mapping[str, Any]) -> list[str]:
    """Why each choice ended, for those that did. For a Responses answer, and for a message of Anthropic's, the one
    reason.
    """
    choices = array_of(fields.get("choices"))[:_MOST_CHOICES]
    reasons = [object_of(choice).get("finish_reason") for choice in choices]
    if fields.get("object") == "response" and is_one_of(ENDED, fields.get("status")):
        reasons.append(fields.get("status"))
    if fields.get("type") == "message":  # Anthropic's
        reasons.append(fields.get("stop_reason"))
    return [text_of(reason, LONGEST_NAME) or "" for reason in reasons if isinstance(reason, str)]


def is_one_of(known: frozenset[str], value: Any) -> bool:
    """Whether `value`, of any type, is one of these words."""
    return isinstance(value, str) and value in known
