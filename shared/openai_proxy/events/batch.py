"""A batch of messages as every consumer reads it, and how it tells Lambda which of them have to come again.

One rule: a message fails only for a fault of its own. One that cannot be read fails alone, each time that it comes, and
ends in the dead-letter queue; so does one whose reading fails in an unforeseen way.
"""

import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.traces import traces_of

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

Read = TypeVar("Read")

_LONGEST_REASON = 300

PartialFailure = dict[str, list[dict[str, str]]]
"""The answer to Lambda, in the form of `ReportBatchItemFailures`."""


def read_batch(
    batch: Mapping[str, Any], read: Callable[[str], Read], logger: "Logger"
) -> tuple[list[tuple[str, Read]], list[str]]:
    """The messages of an SQS batch as (message id, what `read` makes of its body), and the ids of those it refuses.

    `read` raises MalformedEventError for what it cannot read, and depends on nothing but the body.
    """
    found: list[tuple[str, Read]] = []
    refused: list[str] = []
    for record in batch["Records"]:
        try:
            found.append((record["messageId"], read(record["body"])))
        except Exception as error:  # noqa: BLE001  # whatever a message holds, its neighbours are read
            traces, reason = traces_of([record]), _reason(error)
            logger.warning("A message was refused", message_id=record["messageId"], reason=reason, traces=traces)
            refused.append(record["messageId"])
    return found, refused


def _reason(error: Exception) -> str:
    """Why a message was refused. For an unforeseen error only its kind and place are told, because its message may
    quote content.
    """
    if isinstance(error, MalformedEventError):
        return str(error)[:_LONGEST_REASON]
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {place.name}, line {place.lineno}"


def again(messages: Iterable[str]) -> PartialFailure:
    """The answer that lets these messages come again, and no others; each is named once."""
    return {"batchItemFailures": [{"itemIdentifier": message} for message in dict.fromkeys(messages)]}
