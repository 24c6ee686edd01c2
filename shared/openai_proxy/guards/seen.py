"""`Seen`: what guards look at of a request, made of its ledger entry. Pure.

One rule: the consumer makes it of the entry that it has just made of an event, and the replay of the one that the
ledger has kept. Both are the same.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from openai_proxy.events.ulid import ulid_time


class Seen(NamedTuple):
    """A request: its `id`, a ULID of when it came, whose it was, and how it went. `cost` is in USD."""

    id: str
    client_id: str
    key_id: str
    client_name: str
    model: str
    statuses: frozenset[int]
    digest: str
    cost: Decimal

    @property
    def at(self) -> float:
        """When it came, in Unix seconds."""
        return moment(self.id)


ATTRIBUTES = (
    *("sk", "client_id", "key_id", "client_name", "model", "request_model", "status_code", "upstream_status"),
    *("request_digest", "cost"),
)
"""What is read of an entry."""


def seen_of(entry_id: str, entry: Mapping[str, Any]) -> Seen | None:
    """What is seen of a ledger entry; None of one that is of no client key and no user.

    A batch that is told of under several names costs once in the ledger, and once for each name here.
    """
    key_id = str(entry.get("key_id") or "")
    if not key_id:
        return None
    statuses = (entry.get("status_code"), entry.get("upstream_status"))
    return Seen(
        entry_id,
        str(entry["client_id"]),
        key_id,
        str(entry.get("client_name") or ""),
        str(entry.get("model") or entry.get("request_model") or ""),
        frozenset(int(each) for each in statuses if each is not None),
        str(entry.get("request_digest") or ""),
        Decimal(entry.get("cost") or 0),
    )


def moment(ulid: str) -> float:
    """When a ULID was made, in Unix seconds, exact to the millisecond."""
    return ulid_time(ulid).timestamp()
