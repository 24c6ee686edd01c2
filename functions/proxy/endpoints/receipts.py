"""`GET /v1/receipts/{inference id}`: what one inference used and cost, for the key that made it.

The ledger is written after the answer, so a receipt is there a few seconds later. Its one rule: a key sees its own
receipts and nobody else's; a receipt that does not exist and one of another key look the same.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.ulid import ulid_day
from openai_proxy.key_context import ClientKey

from proxy.aws.client import Aws, AwsError
from proxy.endpoints.routes import RECEIPTS
from proxy.errors import ClientError, UnavailableError
from proxy.request.parse import Target
from proxy.timeline import Timeline

_TIMEOUT = 2.0
_TEXTS = (
    *("timestamp", "server", "model", "operation", "outcome"),
    *("usage_source", "pricing", "price_version", "currency"),
)
_NUMBERS = ("status_code", "duration", "time_to_first_chunk", "time_per_output_token", "attempts")


class Receipts:
    """Reads the ledger."""

    def __init__(self, aws: Aws, table: str) -> None:
        self._aws = aws
        self._table = table

    def document(self, target: Target, key: ClientKey, _timeline: Timeline) -> bytes:
        """The receipt that the path names, as JSON. Raises ClientError (404), UnavailableError (503)."""
        inference_id = target.path.removeprefix(RECEIPTS)
        try:
            day = ulid_day(inference_id)
        except ValueError as error:
            raise _not_found(inference_id) from error
        pk = f"client#{key.client_id}#{day}"
        try:
            item = self._item(pk, inference_id) or self._item_in_shard(pk, inference_id)
        except AwsError as error:
            message = "The ledger cannot be read at the moment."
            raise UnavailableError(503, "receipts_unavailable", message, headers={"retry-after": "5"}) from error
        entry = from_item(item)
        if not entry or (entry.get("key_id") and entry["key_id"] != key.key_id):
            raise _not_found(inference_id)
        return json.dumps(_receipt(inference_id, entry)).encode()

    def _item(self, pk: str, inference_id: str) -> Mapping[str, Any]:
        key = to_item({"pk": pk, "sk": inference_id})
        return self._aws.get_item({"TableName": self._table, "Key": key}, _TIMEOUT)

    def _item_in_shard(self, pk: str, inference_id: str) -> Mapping[str, Any]:
        from openai_proxy.ledger.shards import shard_key  # noqa: PLC0415 - only entries of busy clients are there

        return self._item(shard_key(pk, inference_id), inference_id)


def _receipt(inference_id: str, entry: dict[str, Any]) -> dict[str, Any]:
    usage = {
        name: int(value) for name, value in entry.items() if name.endswith("_tokens") and isinstance(value, Decimal)
    }
    costs = {name: f"{value:f}" for name, value in entry.items() if name == "cost" or name.startswith("cost_")}
    reported = costs.pop("cost_reported", None)
    numbers = {name: _number(entry[name]) for name in _NUMBERS if name in entry}
    return {
        "object": "receipt",
        "id": inference_id,
        "request_id": entry.get("request_id"),
        **{name: entry[name] for name in _TEXTS if name in entry},
        "usage": usage,
        "cost": costs.pop("cost", None),
        **({} if reported is None else {"cost_reported": reported}),
        "cost_components": {name.removeprefix("cost_"): value for name, value in costs.items()},
        **numbers,
    }


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _not_found(inference_id: str) -> ClientError:
    message = f"There is no receipt '{inference_id[:64]}'. One is written within seconds of the end of an answer."
    return ClientError(404, "receipt_not_found", message, headers={"retry-after": "2"})
