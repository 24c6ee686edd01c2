"""What is in the ledger in the end, beside what was sent: its entries, as the commands read them, and their sums.

One rule: what was sent is computed of the numbers of events alone, and of the price book.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.ulid import ulid_day
from openai_proxy.ledger.entries import entry_of
from openai_proxy.ledger.shards import lane_keys
from openai_proxy.pricing.price_book import PriceBook, load_price_book

from bench.once.consumer import TABLE
from bench.once.sent import CLIENT, MODELS, id_of, sent
from console.costs.reading import Ledger
from console.period import Period
from console.stack import Table

_SAYS = ("model", "input_tokens", "output_tokens", "cost")
_SUMMED = ("requests", "input_tokens", "output_tokens", "cost")
_SIGNS = 2
Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Books:
    """How many entries and lanes of sums there are, and what is wrong: nothing, if all is well."""

    entries: int
    in_shards: int
    lanes: int
    missing: int
    """Events without an entry."""
    too_many: int
    """Entries that are there twice, and items that no command reads."""
    wrong: int
    """Entries that do not say what was sent."""
    wrong_sums: int
    """Rollups of the day and of the month that are not the sums of what was sent."""

    @property
    def faults(self) -> int:
        """All that is wrong in the ledger."""
        return self.missing + self.too_many + self.wrong + self.wrong_sums


def books(client: Any, events: int) -> Books:
    """Read all of it, and compare it with the events of so many numbers."""
    day = ulid_day(id_of(0))
    rows = {kind: _rows(client, f"{kind}#{name}") for kind, name in (("day", day), ("month", day[:7]))}
    ledger = Ledger(Table(client, TABLE))
    read = ledger.rollups(Period(date.fromisoformat(day), date.fromisoformat(day)))
    prices = load_price_book()
    wanted = {each["sk"]: each for each in (_wanted(number, prices) for number in range(events))}
    seen: Counter[str] = Counter()
    wrong = 0
    for item in ledger.entries(read, ("sk", *_SAYS)):
        seen[item["sk"]] += 1
        wrong += any(item.get(name) != wanted.get(item["sk"], {}).get(name) for name in _SAYS)
    lanes = {item["pk"] for item in rows["day"]} - {f"day#{day}"}
    undivided = _count(client, f"client#{CLIENT}#{day}") - _SIGNS * bool(lanes)
    known = seen.total() + sum(map(len, rows.values())) + _SIGNS * bool(lanes)
    sums = _sums(wanted.values())
    return Books(
        entries=len(seen),
        in_shards=seen.total() - undivided,
        lanes=len(lanes),
        missing=len(wanted.keys() - seen.keys()),
        too_many=seen.total() - len(seen) + abs(_items(client) - known),
        wrong=wrong,
        wrong_sums=sum(_sums(each) != sums for each in (read, rows["day"], rows["month"])),
    )


def _wanted(number: int, prices: PriceBook) -> Item:
    """What the entry of an event says."""
    entry = entry_of(sent(number), prices)
    return {"sk": entry.key[1], "requests": 1, **{name: entry.attributes[name] for name in _SAYS}}


def _sums(items: Iterable[Item]) -> dict[str, list[Decimal]]:
    """The sums of each model."""
    found = {model: [Decimal(0)] * len(_SUMMED) for model in MODELS}
    for item in items:
        before = found[item["model"]]
        found[item["model"]] = [sum_ + item.get(name, 0) for sum_, name in zip(before, _SUMMED, strict=True)]
    return found


def _rows(client: Any, pk: str) -> list[Item]:
    """The rollups of a day or month, of all lanes."""
    return [item for each in (pk, *lane_keys(pk)) for item in _query(client, each)]


def _query(client: Any, pk: str) -> list[Item]:
    pages = client.get_paginator("query").paginate(
        TableName=TABLE, KeyConditionExpression="pk = :pk", ExpressionAttributeValues=to_item({":pk": pk})
    )
    return [from_item(item) for page in pages for item in page["Items"]]


def _count(client: Any, pk: str) -> int:
    pages = client.get_paginator("query").paginate(
        TableName=TABLE,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues=to_item({":pk": pk}),
        Select="COUNT",
    )
    return sum(page["Count"] for page in pages)


def _items(client: Any) -> int:
    return client.describe_table(TableName=TABLE)["Table"]["ItemCount"]
