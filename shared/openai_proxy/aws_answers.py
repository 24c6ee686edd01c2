"""Reads answers of AWS: which errors only mean "not now", and whether an answer really comes from AWS. Pure.

One rule: only the shape that AWS documents is an answer. A balancer, a proxy or a service in trouble can say 200 with
an empty body, `{}` or a page, and an SDK takes each for success with nothing in it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

TRANSIENT = frozenset(
    {
        # of DynamoDB, its cancelled transactions included
        *("TransactionConflict", "TransactionConflictException", "TransactionInProgressException"),
        *("ThrottlingError", "ProvisionedThroughputExceeded", "ProvisionedThroughputExceededException"),
        # of any service: too much at once
        *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException"),
        *("TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded", "LimitExceededException"),
        *("SlowDown", "PriorRequestNotComplete", "EC2ThrottledException"),
        # of any service: a fault of its own
        *("InternalError", "InternalException", "InternalFailure", "InternalServerError", "InternalServiceError"),
        *("InternalServiceException", "ServiceException", "ServiceUnavailable", "ServiceUnavailableException"),
        *("RequestTimeout", "RequestTimeoutException"),
    }
)
"""Codes of errors, of failed entries and of cancellation reasons that a pause helps against. All that botocore repeats
are here (https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html)."""

_TIMEOUT, _TOO_MANY, _FAULT = 408, 429, 500
"""Statuses that mean so whatever the code is. From the last one on, the fault is not the caller's."""

PROOF: Mapping[str, Any] = {"ReturnConsumedCapacity": "TOTAL"}
"""What a call of DynamoDB asks for besides, so that its answer cannot be empty."""

_LONGEST_CODE = 256

_NUMBER = re.compile(r"-?\d{1,130}(\.\d{1,130})?([eE][+-]?\d{1,3})?")


class NoAnswerError(Exception):
    """A service answered 200 without what it says when it has done something: it may have done it, or not."""


def code_in(named: Any) -> str:
    """The code in what a service names its error, as botocore reads it; "" if there is none. The name may be
    `com.amazon.coral.availability#ThrottlingException:http://internal.amazon.com/coral/`.
    """
    return named.partition(":")[0].rpartition("#")[2][:_LONGEST_CODE] if isinstance(named, str) else ""


def is_transient(code: str, status: int = 0) -> bool:
    """Whether a call that ended in this error `code` and HTTP `status` may well succeed in a moment."""
    return code in TRANSIENT or status in (_TIMEOUT, _TOO_MANY) or status >= _FAULT


def is_proven(answer: Mapping[str, Any], *, several: bool = False) -> bool:
    """Whether DynamoDB itself gave the answer to a call with `PROOF`: then it says what was used, in one or `several`
    tables.
    """
    capacity: Any = answer.get("ConsumedCapacity")
    if several:
        used: list[Any] = cast("list[Any]", capacity) if isinstance(capacity, list) else []
        return bool(used) and all(map(_is_used, used))
    return _is_used(capacity)


def proven(answer: Any, *, several: bool = False) -> Any:
    """`answer`, if DynamoDB itself gave it to a call with `PROOF`. Raises NoAnswerError."""
    if not is_proven(answer, several=several):
        raise NoAnswerError("DynamoDB did not say that it has done it")
    return answer


def _is_used(capacity: Any) -> bool:
    name = cast("dict[str, Any]", capacity).get("TableName") if isinstance(capacity, dict) else None
    return isinstance(name, str) and name != ""


def is_item(value: Any) -> bool:
    """Whether `value` is an item in DynamoDB's JSON. No item is empty: it has at least its key."""
    try:
        return bool(value) and _is_map(value)
    except RecursionError:
        return False


def _is_map(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_attribute, cast("dict[str, Any]", value).values()))


def _is_attribute(value: Any) -> bool:
    """Whether `value` is one attribute in DynamoDB's JSON, of the type that it names."""
    if not isinstance(value, dict) or len(typed := cast("dict[str, Any]", value)) != 1:
        return False
    [(kind, content)] = typed.items()
    return kind in _KINDS and _KINDS[kind](content)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _list_of(is_part: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_part, cast("list[Any]", value)))


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "S": _is_text,
    "B": _is_text,
    "N": _is_number,
    "BOOL": _is_truth,
    "NULL": _is_truth,
    "M": _is_map,
    "L": _list_of(_is_attribute),
    "SS": _list_of(_is_text),
    "BS": _list_of(_is_text),
    "NS": _list_of(_is_number),
}
