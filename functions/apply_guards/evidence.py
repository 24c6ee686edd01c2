"""What guards remember of requests, in the costs table, for a few days:

    pk guard#<guard>#<key id>#<digest>   sk <bucket>   ids: the first and the last of it, version
    pk guard#spent#<key id>              sk <hour>     cost: the sum
    pk guard#paid#<id>                   sk paid       the request's cost is in that sum

One rule: whoever adds something reads afterwards, and then sees everything that was added before. So when two writers
add to neighbouring buckets at the same time, at least one of them sees both.
"""

from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from openai_proxy.aws_answers import PROOF, proven
from openai_proxy.backoff import pause_before_retry
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.guards.evidence import merged
from openai_proxy.guards.rules import HOUR, WEEK
from openai_proxy.guards.seen import moment
from openai_proxy.refusals import CONDITION, is_not_now, reason_codes

from apply_guards.versions import put_over

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

KEPT = 6 * 86400
"""Seconds for which it is known whose cost is in a sum. What comes later is not added (`consumer.OLDEST`)."""
KEPT_SPENT = (WEEK + 48) * HOUR
_PAID = "paid"
_MOST_TRIES = 6
_MOST_TOGETHER = 99
"""Of a transaction's 100 actions one is the sum."""


class ContendedError(Exception):
    """Other writers changed the same item each time that this one tried: SQS has to deliver the messages again."""


class Table:
    """`Evidence` in a table. Every method raises NoAnswerError, botocore's errors and ContendedError."""

    def __init__(self, client: "DynamoDBClient", name: str, pause: Callable[[int], None] = pause_before_retry) -> None:
        self._client = client
        self._name = name
        self._pause = pause

    def times(self, of: str, bucket: int, ids: Collection[str], most: int) -> list[str]:
        """See `openai_proxy.guards.evidence.Evidence`."""
        self._add(f"guard#{of}", bucket, ids, most)
        near = self._query(f"guard#{of}", bucket - 1, bucket + 1)
        return [each for item in near for each in str(item["ids"]).split(" ")]

    def _add(self, pk: str, bucket: int, ids: Collection[str], most: int) -> None:
        key = {"pk": pk, "sk": _sort_key(bucket)}
        for attempt in range(1, _MOST_TRIES + 1):
            item = self._get(key)
            known = str(item["ids"]).split(" ") if item else []
            found = merged(known, ids, most)
            if found == known:
                return
            version = int(item["version"]) if item else 0
            expires = int(moment(found[-1])) + KEPT
            written = {**key, "ids": " ".join(found), "version": version + 1, "expires_at": expires}
            if put_over(self._client, self._name, written, version, "pk"):
                return
            self._pause(attempt)
        raise ContendedError(pk)

    def spend(self, key_id: str, hour: int, costs: Mapping[str, Decimal]) -> Decimal:
        """See `openai_proxy.guards.evidence.Evidence`."""
        ids = sorted(costs)
        for first in range(0, len(ids), _MOST_TOGETHER):
            self._pay(key_id, hour, {each: costs[each] for each in ids[first : first + _MOST_TOGETHER]})
        item = self._get({"pk": f"guard#spent#{key_id}", "sk": _sort_key(hour)})
        return Decimal(item["cost"]) if item else Decimal(0)

    def spent(self, key_id: str, first: int, last: int) -> Mapping[int, Decimal]:
        """See `openai_proxy.guards.evidence.Evidence`."""
        found = self._query(f"guard#spent#{key_id}", first, last)
        return {int(item["sk"]): Decimal(item["cost"]) for item in found}

    def _pay(self, key_id: str, hour: int, costs: Mapping[str, Decimal]) -> None:
        """Add what is not in the sum yet, and mark it, in one transaction."""
        left: dict[str, Decimal] = dict(costs)
        for attempt in range(1, _MOST_TRIES + 1):
            if not left:
                return
            ids = list(left)
            marks = [self._mark(each) for each in ids]
            try:
                answer = self._client.transact_write_items(
                    TransactItems=[*marks, self._sum(key_id, hour, sum(left.values(), Decimal(0)))], **PROOF
                )
            except ClientError as error:
                response: Any = error.response
                reasons = reason_codes(response)
                if not reasons and not is_not_now(response):
                    raise
                paid = {each for each, reason in zip(ids, reasons, strict=False) if reason == CONDITION}
                left = {each: left[each] for each in ids if each not in paid}
                self._pause(attempt)
            else:
                proven(answer, several=True)
                return
        raise ContendedError(key_id)

    def _mark(self, request_id: str) -> Any:
        expires = int(moment(request_id)) + KEPT
        item = to_item({"pk": f"guard#paid#{request_id}", "sk": _PAID, "expires_at": expires})
        put = {"TableName": self._name, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
        return {"Put": put}

    def _sum(self, key_id: str, hour: int, cost: Decimal) -> Any:
        update = {
            "TableName": self._name,
            "Key": to_item({"pk": f"guard#spent#{key_id}", "sk": _sort_key(hour)}),
            "UpdateExpression": "ADD #cost :cost SET #expires = :expires",
            "ExpressionAttributeNames": {"#cost": "cost", "#expires": "expires_at"},
            "ExpressionAttributeValues": to_item({":cost": cost, ":expires": hour * HOUR + KEPT_SPENT}),
        }
        return {"Update": update}

    def _get(self, key: Mapping[str, str]) -> dict[str, Any] | None:
        answer = self._client.get_item(TableName=self._name, Key=to_item(key), ConsistentRead=True, **PROOF)
        found = proven(answer).get("Item")
        return from_item(found) if found else None

    def _query(self, pk: str, first: int, last: int) -> list[dict[str, Any]]:
        values = to_item({":pk": pk, ":first": _sort_key(first), ":last": _sort_key(last)})
        page = self._client.query(
            TableName=self._name,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues=values,
            ConsistentRead=True,
            **PROOF,
        )
        # one page holds them: at most 168 small items, or three of some kilobytes
        return [from_item(item) for item in proven(page)["Items"]]


def _sort_key(number: int) -> str:
    return f"{number:012d}"
