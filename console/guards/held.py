"""What guards have done, as the key table knows it.

Its one rule: an act is undone by a mark on it, until its end: the guard then knows that it was wrong.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.guards.overlay import GUARD_PREFIX

from console.errors import ConsoleError
from console.stack import Table
from console.text import harmless


@dataclass(frozen=True, slots=True)
class DoneAct:
    """An act on a key or a user, as it is stored."""

    id: str
    key_id: str
    client_id: str
    stored: Mapping[str, Any]

    @property
    def at(self) -> float:
        """Since when (Unix seconds)."""
        return _number(self.stored.get("at"))

    @property
    def until(self) -> float:
        """When it ends."""
        return _number(self.stored.get("until"))

    @property
    def limits(self) -> dict[str, int]:
        """Of `lower`: the most that there may be."""
        limits: Mapping[str, Any] = self.stored.get("limits") or {}
        return {name: int(number) for name, number in limits.items()}

    def text(self, name: str) -> str:
        """A text of it; "" where it has none."""
        return str(self.stored.get(name) or "")

    def state(self, now: float) -> str:
        """Whether it holds."""
        if "undone_at" in self.stored:
            return "undone"
        if self.until <= now:
            return "over"
        return "told" if self.text("act") == "notify" else "holds"


class DoneActs:
    """All of them. Every method raises botocore's errors."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def all(self) -> list[DoneAct]:
        """Every act that is still kept, the newest first."""
        return sorted(self._all(), key=lambda act: (-act.at, act.id))

    def _all(self) -> Iterator[DoneAct]:
        pages = self.table.client.get_paginator("scan").paginate(
            TableName=self.table.name,
            ConsistentRead=True,
            FilterExpression="begins_with(key_hash, :prefix)",
            ExpressionAttributeValues=to_item({":prefix": GUARD_PREFIX}),
        )
        for page in pages:
            for item in map(from_item, page["Items"]):
                key_id = item["key_hash"].removeprefix(GUARD_PREFIX)
                for act_id, stored in _acts_in(item).items():
                    yield DoneAct(act_id, key_id, str(item.get("client_id") or ""), stored)

    def undo(self, act: DoneAct, now: float) -> bool:
        """End an act. Returns whether that is new."""
        try:
            self.table.client.update_item(
                TableName=self.table.name,
                Key=to_item({"key_hash": f"{GUARD_PREFIX}{act.key_id}"}),
                UpdateExpression="SET #acts.#id.#undone = :now ADD #version :one",
                ConditionExpression="attribute_exists(#acts.#id) AND attribute_not_exists(#acts.#id.#undone)",
                ExpressionAttributeNames={
                    "#acts": "acts",
                    "#id": act.id,
                    "#undone": "undone_at",
                    "#version": "version",
                },
                ExpressionAttributeValues=to_item({":now": Decimal(f"{now:.3f}"), ":one": 1}),
            )
        except self.table.client.exceptions.ConditionalCheckFailedException:
            return False
        return True


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float | Decimal) else 0.0


def _acts_in(item: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    acts: Any = item.get("acts")
    if isinstance(acts, dict) and all(isinstance(act, dict) for act in cast("dict[str, Any]", acts).values()):
        return cast("Mapping[str, Mapping[str, Any]]", acts)
    name = harmless(str(item["key_hash"]))
    raise ConsoleError(
        f"The keys table has a damaged item '{name}': it has no map of what guards have done. Remedy: delete it, "
        "which ends what they have done about this key."
    )
