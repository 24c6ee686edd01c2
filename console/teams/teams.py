"""Teams as the key table has them.

Its one rule: a team is changed only if it is still as it was when it was read. Its counter is kept when it is deleted:
made anew under the same name, it goes on where it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openai_proxy.client_keys import ATTRIBUTES, TEAM_PREFIX, limits_in, read_team, team_key
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.key_limits import team_limits_id

from console.errors import ConsoleError
from console.keys.store import KeyStore, StoredKey
from console.stack import Table


@dataclass(frozen=True)
class Team:
    """An item of a team in plain values, whatever it holds."""

    name: str
    item: Mapping[str, Any]

    @property
    def limits_id(self) -> str:
        """Under which id it is counted."""
        return team_limits_id(self.name)

    @property
    def limits(self) -> dict[str, Any]:
        """The limits and budgets that are set and fit."""
        return limits_in(read_team(self.name, self.item)[0])

    @property
    def problems(self) -> list[str]:
        """Why the authorizer cannot read it; empty when it can."""
        return read_team(self.name, self.item)[1]


class TeamStore:
    """The teams in a key table. Every method raises botocore's errors."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._client = table.client

    def all(self) -> list[Team]:
        """All teams, by their names."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self.table.name,
            ConsistentRead=True,
            FilterExpression="begins_with(key_hash, :prefix)",
            ExpressionAttributeValues=to_item({":prefix": TEAM_PREFIX}),
        )
        items = [from_item(item) for page in pages for item in page["Items"]]
        return sorted((_team(item) for item in items), key=lambda team: team.name)

    def get(self, name: str) -> Team | None:
        """The team of this name, or None."""
        key: Any = to_item({"key_hash": team_key(name)})
        found = self._client.get_item(TableName=self.table.name, Key=key, ConsistentRead=True)
        return _team(from_item(found["Item"])) if "Item" in found else None

    def find(self, name: str) -> Team:
        """The team of this name. Raises ConsoleError."""
        team = self.get(name)
        if team is None:
            raise ConsoleError(
                f"There is no team '{name[:64]}'. Remedy: `openai-proxy teams list` shows all of them, "
                "`openai-proxy teams create` makes one."
            )
        return team

    def add(self, name: str, values: Mapping[str, Any]) -> Team:
        """Store a new team. Raises ConsoleError."""
        team = checked(name, {**values, "key_hash": team_key(name)})
        try:
            self._client.put_item(
                TableName=self.table.name,
                Item=to_item(team.item),
                ConditionExpression="attribute_not_exists(key_hash)",
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            remedy = "`openai-proxy teams update` changes it"
            raise ConsoleError(f"There is a team '{name}' already. Remedy: {remedy}.") from None
        return team

    def replace(self, before: Team, after: Team) -> None:
        """Make `after` of `before`. Raises ConsoleError."""
        try:
            self._client.put_item(TableName=self.table.name, Item=to_item(after.item), **_unchanged(before))
        except self._client.exceptions.ConditionalCheckFailedException:
            raise _changed(before) from None

    def delete(self, team: Team) -> None:
        """Delete a team. Raises ConsoleError."""
        key: Any = to_item({"key_hash": team_key(team.name)})
        try:
            self._client.delete_item(TableName=self.table.name, Key=key, **_unchanged(team))
        except self._client.exceptions.ConditionalCheckFailedException:
            raise _changed(team) from None

    def keys_of(self, name: str) -> list[StoredKey]:
        """The keys that name the team, good or not."""
        return [key for key in KeyStore(self.table).all() if key.item.get("team") == name]


def checked(name: str, item: Mapping[str, Any]) -> Team:
    """The team, if it can be stored. Raises ConsoleError."""
    attribute = ATTRIBUTES["team"]
    if attribute.read(name) is None:
        raise ConsoleError(f"That is no name of a team. Remedy: give {attribute.rule.partition(': ')[2]}.")
    team = Team(name, item)
    if team.problems:
        raise ConsoleError("; ".join(team.problems) + ".")
    return team


def _team(item: Mapping[str, Any]) -> Team:
    return Team(str(item["key_hash"]).removeprefix(TEAM_PREFIX), item)


def _unchanged(team: Team) -> dict[str, Any]:
    names = {f"#{place}": name for place, name in enumerate(team.item)}
    return {
        "ConditionExpression": " AND ".join(f"{place} = :{place[1:]}" for place in names),
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": to_item({f":{place[1:]}": team.item[name] for place, name in names.items()}),
    }


def _changed(team: Team) -> ConsoleError:
    return ConsoleError(f"Team '{team.name}' was changed meanwhile: nothing was done. Remedy: look, and try again.")
