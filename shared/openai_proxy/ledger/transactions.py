"""The transactions of the costs table, as DynamoDB takes them. Pure.

One rule: entries, what they claim and their shares of their rollups are written together or not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openai_proxy.dynamodb import to_item
from openai_proxy.ledger import claims
from openai_proxy.ledger.claims import Telling
from openai_proxy.ledger.entries import Key, LedgerEntry, Rollup, Share, add_shares, rollups_of
from openai_proxy.ledger.shards import SHARDED, group_of, is_asked

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

_Sums = tuple[str, dict[str, str], dict[str, Any]]
"""The end of an expression that adds sums, and its names and values."""


def build_transaction(table: str, entries: Sequence[LedgerEntry]) -> "list[TransactWriteItemTypeDef]":
    """The items of one transaction: first the entries, in their order, then what they claim, then the rollups."""
    puts = [_put(table, entry) for entry in entries]
    if entries[0].claims:
        claim = claims.claim_of(claims.telling_of(entries), entries[0].attributes["expires_at"])
        puts += [_claim(table, key, claim, seen=claim["entry"]) for key in entries[0].claims]
    additions = _additions(table, ((entry.rollups, entry.share) for entry in entries))
    if group_of(entries[0]):
        for action in additions:
            _ask_whether_divided(action.get("Update", {}))
    return puts + additions


def _ask_whether_divided(update: Any) -> None:
    """Let a sum be added to a row of a day only while its group is not divided."""
    if is_asked(update["Key"]["pk"]["S"]):
        update["ConditionExpression"] = f"attribute_not_exists(#{SHARDED})"
        update["ExpressionAttributeNames"][f"#{SHARDED}"] = SHARDED


@dataclass(frozen=True, slots=True)
class Union:
    """Entries that tell of what others tell of: of all of them the `winner`, and the claims as they are."""

    entries: tuple[LedgerEntry, ...]
    own: Telling
    winner: Telling
    losers: tuple[Telling, ...]
    held: Mapping[Key, Mapping[str, Any]]
    is_written: bool = False
    """Whether the entries are there, and count."""

    @property
    def is_there_already(self) -> bool:
        """Whether nothing is to be written: these entries count, or one of the others does and it is the only one."""
        is_other = self.winner is not self.own and not self.losers and len(self.held) == len(self.entries[0].claims)
        return self.is_written or is_other

    def items(self, table: str) -> "list[TransactWriteItemTypeDef]":
        """The transaction that unites them."""
        corrected = [entry for each in self.losers for entry in each.entries]
        taken_back = claims.taken_back_by(self.held.values()) + [(each["pk"], each["sk"]) for each in corrected]
        claim = claims.claim_of(self.winner, self.entries[0].attributes["expires_at"], taken_back)
        items = [_claim(table, key, claim, self.held.get(key, {}).get("entry")) for key in self.entries[0].claims]
        items += [_take_back(table, entry, self.winner) for entry in corrected]
        shares = [(rollups_of(entry), claims.share_taken_back(entry)) for entry in corrected]
        if self.winner is self.own:
            items += [_put(table, entry) for entry in self.entries]
            shares += [(entry.rollups, entry.share) for entry in self.entries]
        elif self.winner.entries:
            items.append(_still_counts(table, self.winner))
        return items + _additions(table, shares)


def _put(table: str, entry: LedgerEntry) -> "TransactWriteItemTypeDef":
    pk, sk = entry.key
    return {
        "Put": {
            "TableName": table,
            "Item": to_item(entry.attributes | {"pk": pk, "sk": sk}),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
    }


def _claim(table: str, key: Key, claim: Mapping[str, Any], seen: str | None) -> "TransactWriteItemTypeDef":
    """Claim what entries are of, if nobody has, or only who was `seen`: an entry may have been lost, and replayed."""
    ways = ["attribute_not_exists(pk)", *(["#entry = :seen"] if seen else [])]
    names = {"ExpressionAttributeNames": {"#entry": "entry"}, "ExpressionAttributeValues": to_item({":seen": seen})}
    put: Any = {
        "TableName": table,
        "Item": to_item({**claim, "pk": key[0], "sk": key[1]}),
        "ConditionExpression": " OR ".join(ways),
        **(names if seen else {}),
    }
    return {"Put": put}


def _take_back(table: str, entry: Mapping[str, Any], winner: Telling) -> "TransactWriteItemTypeDef":
    """Make an entry one that used nothing, if it is still as it was read."""
    new, gone = claims.correction_of(entry, winner)
    is_unchanged = "#revision = :seen" if "revision" in entry else "attribute_not_exists(#revision)"
    seen = {":seen": entry["revision"]} if "revision" in entry else {}
    removing = f" REMOVE {', '.join(f'#{name}' for name in gone)}" if gone else ""
    return {
        "Update": {
            "TableName": table,
            "Key": to_item({"pk": entry["pk"], "sk": entry["sk"]}),
            "UpdateExpression": f"SET {', '.join(f'#{name} = :{name}' for name in new)}{removing}",
            "ConditionExpression": f"attribute_exists(pk) AND {is_unchanged}",
            "ExpressionAttributeNames": {f"#{name}": name for name in (*new, *gone)},
            "ExpressionAttributeValues": to_item({f":{name}": value for name, value in new.items()} | seen),
        }
    }


def _still_counts(table: str, winner: Telling) -> "TransactWriteItemTypeDef":
    """Nobody has taken it back meanwhile."""
    return {
        "ConditionCheck": {
            "TableName": table,
            "Key": to_item({"pk": winner.owner, "sk": winner.ids[0]}),
            "ConditionExpression": "attribute_not_exists(#counted_in)",
            "ExpressionAttributeNames": {"#counted_in": claims.COUNTED_IN},
        }
    }


def _additions(table: str, shares: Iterable[tuple[Sequence[Rollup], Share]]) -> "list[TransactWriteItemTypeDef]":
    """What each rollup gains. That of a day and that of its month mostly gain the same, which is added up once."""
    adding: dict[Key, tuple[Rollup, list[Share]]] = {}
    for rollups, share in shares:
        for rollup in rollups:
            adding.setdefault(rollup.key, (rollup, []))[1].append(share)
    sums: dict[tuple[int, ...], _Sums] = {}
    for _, parts in adding.values():
        of_parts = tuple(map(id, parts))
        if of_parts not in sums:
            sums[of_parts] = _sums_of(parts)
    return [_add(table, rollup, sums[tuple(map(id, parts))]) for rollup, parts in adding.values()]


def _sums_of(shares: Iterable[Share]) -> _Sums:
    sums = add_shares(shares)
    return (
        f"ADD {', '.join([f'#{name} :{name}' for name in sums])}",
        {f"#{name}": name for name in sums},
        to_item({f":{name}": value for name, value in sums.items()}),
    )


def _add(table: str, rollup: Rollup, sums: _Sums) -> "TransactWriteItemTypeDef":
    pk, sk = rollup.key
    adding, placeholders, values = sums
    setting = ", ".join([f"#{name} = :{name}" for name in rollup.names])
    return {
        "Update": {
            "TableName": table,
            "Key": to_item({"pk": pk, "sk": sk}),
            "UpdateExpression": f"SET {setting} {adding}",
            "ExpressionAttributeNames": {f"#{name}": name for name in rollup.names} | placeholders,
            "ExpressionAttributeValues": to_item({f":{name}": value for name, value in rollup.names.items()}) | values,
        }
    }
