"""The bus as `publish_again` calls it, and its queue.

Its one rule: the bus has an event only when it says so.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from botocore.exceptions import ClientError
from openai_proxy.aws_answers import is_transient
from openai_proxy.events.incoming import from_sqs_body
from openai_proxy.refusals import code_of, status_of

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

_LONGEST_TRACE = 500
_BATCH = 10
_NO_ANSWER = "NoAnswer"
NOT_FIT = "ValidationException"
"""The code of a call that the bus refuses whole, for one entry of it or for their size."""


class Refusal(NamedTuple):
    """Why the bus does not have an event: the error code, and whether a pause may help."""

    code: str
    is_for_now: bool


class EventBus:
    """Puts entries on one bus."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name

    def put(self, entries: Sequence[Mapping[str, Any]]) -> list[Refusal | None]:
        """Put entries. Returns for each, in order, why the bus does not have it; None if it has."""
        try:
            answer = self._client.put_events(Entries=[{**entry, "EventBusName": self._name} for entry in entries])
        except ClientError as error:
            code = code_of(error.response)
            return [Refusal(code, is_transient(code, status_of(error.response)))] * len(entries)
        except Exception as error:  # noqa: BLE001  # an SDK that is answered oddly fails in ways of its own
            return [Refusal(type(error).__name__, is_for_now=True)] * len(entries)
        results: Any = answer.get("Entries")
        if not isinstance(results, list) or len(cast("list[Any]", results)) != len(entries):
            return [Refusal(_NO_ANSWER, is_for_now=True)] * len(entries)
        return [_refusal(each) for each in cast("list[Any]", results)]


def _refusal(result: Any) -> Refusal | None:
    fields = cast("dict[str, Any]", result) if isinstance(result, dict) else {}
    if code := fields.get("ErrorCode"):
        return Refusal(str(code), is_transient(str(code)))
    return None if isinstance(fields.get("EventId"), str) else Refusal(_NO_ANSWER, is_for_now=True)


def entry_in(body: str) -> dict[str, Any]:
    """The entry for PutEvents that a message holds, without the name of a bus. Raises MalformedEventError.

    Its `Time` is that of the event, because replays from an archive go by it.
    """
    event = from_sqs_body(body)
    entry: dict[str, Any] = {**event.to_entry("")}
    try:
        entry["Time"] = datetime.fromisoformat(event.timestamp).astimezone(UTC)
    except (ValueError, OverflowError):
        return entry  # without a readable time, EventBridge takes the time of the call
    return entry


def with_trace(entry: Mapping[str, Any], trace: str) -> Mapping[str, Any]:
    """The entry with X-Ray's header, if there is one that AWS accepts."""
    return {**entry, "TraceHeader": trace} if trace and len(trace) <= _LONGEST_TRACE else entry


def size_of(entry: Mapping[str, Any]) -> int:
    """Bytes of an entry as AWS counts them, or a few more. All texts in it are ASCII."""
    return 14 + sum(len(entry[name]) for name in ("Source", "DetailType", "Detail"))


class OverflowQueue:
    """The queue, which can hide messages for a while. If it cannot hide one, that is logged and does no harm: the
    message then stays hidden for as long as the queue hides every message.
    """

    def __init__(self, client: Any, url: str, logger: "Logger") -> None:
        self._client, self._url, self._logger = client, url, logger

    def hide(self, seconds: Mapping[str, int]) -> None:
        """Hide messages, each for its number of seconds. They are given by their receipt handles."""
        handles = list(seconds)
        for first in range(0, len(handles), _BATCH):
            entries = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": seconds[handle]}
                for number, handle in enumerate(handles[first : first + _BATCH])
            ]
            try:
                answer = self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
                failed = answer.get("Failed") or ()
                codes = sorted({str(each.get("Code")) for each in failed})
            except Exception as error:  # noqa: BLE001  # an SDK that is answered oddly fails in ways of its own
                self._logger.warning("Messages were not hidden", reason=repr(error))
                return
            if failed:
                self._logger.warning("Messages were not hidden", reason=", ".join(codes), number=len(failed))
