"""Reads events for record_cost and record_metrics, so that both refuse the same events. Pure.

Its one rule: an accepted event has every field that either of them reads, in a form that both can use. So no event is
in the ledger and not in the metrics, or the other way round. Fields that older events lack may be missing.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from openai_proxy.events.incoming import MalformedEventError, from_sqs_body, is_terminal
from openai_proxy.events.ulid import ulid_time

if TYPE_CHECKING:
    from openai_proxy.events.types import AnyEvent, TerminalEvent

RETENTION = timedelta(days=400)
"""How long an entry is kept. Longer than any replay of events: an entry is what keeps its event from counting twice."""

CLIENT_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
LARGEST_COUNT = 10**12
MOST_SECONDS = 10**9

Check = Callable[[Any], bool]


def read_event(body: str, now: float) -> "AnyEvent":
    """The event in the body of an SQS message, at the Unix time `now`. Raises MalformedEventError with the reason.

    Other than terminal events are counted by neither of the two, so only their envelope is read.
    """
    event = from_sqs_body(body)
    if is_terminal(event):
        try:
            _check(event, now)
        except MalformedEventError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise MalformedEventError(f"not a {event.detail_type} event: {error!r}") from error
    return event


def _check(event: "TerminalEvent", now: float) -> None:
    """Raises MalformedEventError, KeyError, TypeError, ValueError or OverflowError."""
    arrived = ulid_time(event.id)
    if arrived + RETENTION <= datetime.fromtimestamp(now, tz=UTC):
        day = arrived.strftime("%Y-%m-%d")
        raise MalformedEventError(f"too old: an event of {day}, and the ledger keeps entries for {RETENTION.days} days")
    if not CLIENT_ID.fullmatch(event.client_id):
        raise ValueError("client_id")
    if not RFC3339.fullmatch(event.timestamp):
        raise ValueError(f"{event.timestamp!r} is not a timestamp")
    datetime.fromisoformat(event.timestamp)
    data = cast("Mapping[str, Any]", event.data)
    _check_fields(data, _FIELDS)
    _check_fields(data, _SELDOM, may_lack=True)
    if event.detail_type == "InferenceFailed":
        _check_fields(data, _OF_FAILED)
    if event.detail_type == "InferenceThrottled":
        _check_fields(data, {"throttle.source": _is_text})


def _check_fields(data: Mapping[str, Any], fields: Mapping[str, Check], *, may_lack: bool = False) -> None:
    """Raises ValueError for a field that its check does not pass, KeyError or TypeError for one that is not there."""
    for path, check in fields.items():
        value: Any = data
        for name in path.split("."):
            if may_lack and _lacks(value, name):
                break
            value = value[name]
        else:
            if not check(value):
                raise ValueError(f"{path} {value!r}"[:100])


def _lacks(value: Any, name: str) -> bool:
    return value is None or (isinstance(value, dict) and name not in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


def _is_count_or_none(value: Any) -> bool:
    return value is None or _is_count(value)


def _is_seconds(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= MOST_SECONDS  # NaN fails this comparison too


def _is_seconds_or_none(value: Any) -> bool:
    return value is None or _is_seconds(value)


def _is_object_or_none(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_map_of_texts(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_text_or_none, cast("Any", value).values())))


def _is_list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, cast("list[Any]", value)))


def _is_attempt(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text_or_none(cast("Any", value)[name]) for name in ("server", "error"))


def _is_part(value: Any) -> bool:
    return isinstance(value, dict) and _is_text_or_none(cast("Any", value)["model"])


_FIELDS: Mapping[str, Check] = {
    "operation.name": _is_text_or_none,
    "server.name": _is_text_or_none,
    "request.method": _is_text_or_none,
    "request.path": _is_text_or_none,
    "request.model": _is_text_or_none,
    "request.stream": lambda value: value is None or isinstance(value, bool),
    "request.size": _is_count,
    "response.status_code": _is_count,
    "response.model": _is_text_or_none,
    "response.id": _is_text_or_none,
    "response.finish_reasons": _is_list_of(_is_text_or_none),
    "response.size": _is_count,
    "response.chunks": _is_count,
    "response.time_to_first_chunk": _is_seconds_or_none,
    "timings.total": _is_seconds,
    "timings.authorization": _is_seconds,
    "timings.upstream": _is_seconds,
    "timings.proxy": _is_seconds,
    "cache.status": _is_text_or_none,
    "door": _is_text_or_none,
}
_SELDOM: Mapping[str, Check] = {
    "response.time_per_output_token": _is_seconds_or_none,
    "attempts": _is_list_of(_is_attempt),
    "limits": _is_object_or_none,
    "client.key_id": _is_text_or_none,
    "client.name": _is_text_or_none,
    "client.owner": _is_text_or_none,
    "client.tags": _is_map_of_texts,
    "team.name": _is_text_or_none,
    "tags": _is_map_of_texts,
    "end_user": _is_text_or_none,
    "fetched.names": _is_list_of(_is_text),
    "fetched.digest": _is_text_or_none,
    "fetched.others": _is_list_of(_is_part),
}
_OF_FAILED: Mapping[str, Check] = {
    "error.type": _is_text_or_none,
    "error.source": _is_text_or_none,
    "error.upstream_status": _is_count_or_none,
}
