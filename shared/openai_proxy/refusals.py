"""Why DynamoDB refused a write, as the response of botocore's ClientError says it. Pure.

Its one rule: an error that only means "not now" is never confused with one that will always come back.
"""

from collections.abc import Mapping
from typing import Any

from openai_proxy.aws_answers import is_transient

CONDITION = "ConditionalCheckFailed"
"""The code of an item that is not as its condition says."""

CONFLICT = "TransactionConflict"
"""The code of an item that another transaction holds."""

_CANCELLED = "TransactionCanceledException"

DONE = "None"
"""The code of an item with which nothing was wrong."""


def reason_codes(response: Mapping[str, Any]) -> list[str]:
    """Why a transaction was cancelled: a code for each of its items, in their order. [] when that was not said."""
    reasons: list[Mapping[str, str]] = response.get("CancellationReasons") or []
    return [reason.get("Code", DONE) for reason in reasons]


def code_of(response: Mapping[str, Any]) -> str:
    """The code of the whole error."""
    return response.get("Error", {}).get("Code", "")


def status_of(response: Mapping[str, Any]) -> int:
    """The HTTP status of an answer; 0 when it is not known."""
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def is_not_now(response: Mapping[str, Any]) -> bool:
    """Whether an error that says nothing about items may be over in a moment. A transaction that was cancelled without
    a word of why was not written, and nothing is known to be wrong with it.
    """
    code = code_of(response)
    return is_transient(code, status_of(response)) or code == _CANCELLED
