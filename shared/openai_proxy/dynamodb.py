"""How items are written for DynamoDB, and what it says when it refuses them. Pure.

One rule: what only means "not now" is told apart from what will never work.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

CONDITION = "ConditionalCheckFailed"
"""The code of an item that is not as its condition says."""

DONE = "None"
"""The code of an item with which nothing was wrong."""


def to_item(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes in DynamoDB's form: text, bool, int, Decimal, and lists and maps of them."""
    return {name: _serialized(value) for name, value in attributes.items()}


def _serialized(value: Any) -> dict[str, Any]:
    match value:
        case str():
            return {"S": value}
        case bool():
            return {"BOOL": value}
        case int() | Decimal():
            return {"N": str(value)}
        case list():
            return {"L": [_serialized(item) for item in cast("list[Any]", value)]}
        case _:
            return {"M": to_item(value)}


def reason_codes(response: Mapping[str, Any]) -> list[str]:
    """Why a transaction was cancelled: a code for each of its items, in their order. [] when that was not said."""
    reasons: list[Mapping[str, str]] = response.get("CancellationReasons") or []
    return [reason.get("Code", DONE) for reason in reasons]


def code_of(response: Mapping[str, Any]) -> str:
    """The code of the whole error, as in `ClientError.response`."""
    return response.get("Error", {}).get("Code", "")


def status_of(response: Mapping[str, Any]) -> int:
    """The HTTP status of an answer, as in `ClientError.response`; 0 when it is not known."""
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
