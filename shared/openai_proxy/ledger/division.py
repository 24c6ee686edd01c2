"""Which groups of a day are divided, as far as one sandbox has met them. One rule: an entry is written in one place.

A sandbox knows nothing of divisions until a transaction tells it: its row of the day has `shards`, or DynamoDB has
refused too many writes, and it divides the group itself. So clients with few requests cost nothing extra. After that
the undivided partition gets no more entries of the group: the newest id that it holds, read once, says which events may
have been written there before. Those are looked for, whoever wrote them and whenever they come again.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from openai_proxy.aws_answers import PROOF, NoAnswerError, is_proven
from openai_proxy.dynamodb import to_item
from openai_proxy.events.reader import RETENTION
from openai_proxy.ledger.entries import Key, LedgerEntry, Rollup
from openai_proxy.ledger.shards import FIRST, LANES, LAST, SHARDED, SHARDS, divided, group_of, in_lane, signs_of
from openai_proxy.refusals import CONDITION, is_not_now, reason_codes

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_MOST_KNOWN = 10_000
_MOST_ASKED = 100
"""DynamoDB's limit for one transaction."""


class Division:
    """What one sandbox knows of divided groups, and the lane in which it adds to their sums."""

    def __init__(
        self,
        client: "DynamoDBClient",
        name: str,
        choose: Callable[[int], int] = random.randrange,
    ) -> None:
        self._client = client
        self._name = name
        self._choose = choose
        self._lane = choose(LANES)
        self._newest: dict[Key, str] = {}
        """The newest id in the undivided partition of each divided group that was met."""
        self._signed: set[str] = set()
        """Partitions that have their signs: one more write to a partition that takes no more may be refused, too."""

    def forget(self) -> None:
        """Forget everything when too much is known: old days are not asked for again."""
        if len(self._newest) > _MOST_KNOWN:
            self._newest.clear()
            self._signed.clear()

    def knows(self, entry: LedgerEntry) -> bool:
        """Whether its group is known to be divided."""
        return bool(self._newest) and group_of(entry) in self._newest

    def learn(self, entries: Iterable[LedgerEntry]) -> None:
        """Know that their groups are divided, by one read for each day of a client. Raises ClientError and
        NoAnswerError, and then knows none of them.
        """
        new = {group: each.key[0] for each in entries if (group := group_of(each)) and group not in self._newest}
        newest = {pk: self._newest_in(pk) for pk in dict.fromkeys(new.values())}
        self._newest |= {group: newest[pk] for group, pk in new.items()}
        self._signed |= newest.keys()

    def place(self, entry: LedgerEntry) -> LedgerEntry:
        """The entry where it is to be written."""
        return divided(entry, self._lane) if self.knows(entry) else entry

    def written_before(self, entries: Iterable[LedgerEntry]) -> set[Key]:
        """Those of divided groups that were written before they were divided. Raises ClientError and NoAnswerError."""
        late = [entry.key for entry in entries if entry.key[1] <= self._newest.get(group_of(entry) or ("", ""), "")]
        parts = (late[begin : begin + _MOST_ASKED] for begin in range(0, len(late), _MOST_ASKED))
        return {key for part in parts for key in self._existing(part)}

    def step_aside(self, entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
        """Entries in their shards, with their sums in another lane than before."""
        self._lane = self._choose(LANES)
        return [in_lane(entry, self._lane) for entry in entries]

    def divide(self, entry: LedgerEntry) -> bool:
        """Divide the group of an entry. Returns whether it is divided now, by whomever."""
        items = _division(self._name, entry, with_signs=entry.key[0] not in self._signed)
        try:
            is_done = is_proven(self._client.transact_write_items(TransactItems=items, **PROOF), several=True)
        except ClientError as error:
            if not is_passing(error):
                raise
            is_done = CONDITION in reason_codes(error.response)
        if is_done:
            self._signed.add(entry.key[0])
        return is_done

    def _newest_in(self, pk: str) -> str:
        answer = self._client.query(
            TableName=self._name,
            KeyConditionExpression="pk = :pk AND sk < :last",
            ExpressionAttributeValues=to_item({":pk": pk, ":last": LAST}),
            ProjectionExpression="sk",
            ScanIndexForward=False,
            ConsistentRead=True,
            Limit=1,
            **PROOF,
        )
        items: Any = answer.get("Items")
        if not is_proven(answer) or items is None:
            raise NoAnswerError("DynamoDB did not say that it has read")
        return next((item["sk"]["S"] for item in items if item["sk"]["S"] != FIRST), "")

    def _existing(self, keys: Sequence[Key]) -> list[Key]:
        """Those of up to 100 keys that the table has."""
        gets: Any = [
            {"Get": {"TableName": self._name, "Key": to_item({"pk": pk, "sk": sk}), "ProjectionExpression": "sk"}}
            for pk, sk in keys
        ]
        answer = self._client.transact_get_items(TransactItems=gets, **PROOF)
        found: Sequence[Any] = answer.get("Responses", ())
        if not is_proven(answer, several=True) or len(found) != len(keys):
            raise NoAnswerError("DynamoDB did not say that it has read")
        return [key for key, each in zip(keys, found, strict=True) if each.get("Item")]


def is_passing(error: ClientError) -> bool:
    """Whether it is worth it to try again, with the whole transaction or with what is left of it."""
    return bool(reason_codes(error.response)) or is_not_now(error.response)


def _division(table: str, entry: LedgerEntry, *, with_signs: bool) -> Any:
    """The transaction that divides the group of an entry, if nobody has."""
    day, *others = entry.rollups
    row = _setting(table, day, {**day.names, SHARDED: SHARDS})
    row["ConditionExpression"] = f"attribute_not_exists(#{SHARDED})"
    signs = signs_of(entry, RETENTION) if with_signs else []
    puts = [{"Put": {"TableName": table, "Item": to_item(sign)}} for sign in signs]
    # Whoever corrects entries later does so in the rows without a lane: they have to be there.
    return [{"Update": row}, *({"Update": _setting(table, each, each.names)} for each in others), *puts]


def _setting(table: str, rollup: Rollup, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "TableName": table,
        "Key": to_item({"pk": rollup.key[0], "sk": rollup.key[1]}),
        "UpdateExpression": f"SET {', '.join(f'#{name} = :{name}' for name in values)}",
        "ExpressionAttributeNames": {f"#{name}": name for name in values},
        "ExpressionAttributeValues": to_item({f":{name}": value for name, value in values.items()}),
    }
