"""Reads the costs table: rollups of days, and the entries that they are the sums of.

Periods are read day by day: requests that are older than the monthly rollups are in none of these.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any

from openai_proxy.dynamodb import to_item
from openai_proxy.events.ulid import ulid_time
from openai_proxy.ledger.shards import LAST

from console.export.items import ledger_items
from console.period import Period
from console.progress import Bars
from console.shards import AT_ONCE, whole_day, whole_sums
from console.stack import Table

Item = dict[str, Any]

TABLE, LAKE = "table", "lake"
MOST_OF_TABLE = 50_000
"""Requests that are read from the table where nobody says what to read: up to 50 MB, $0.0016 and some ten seconds."""
MOST_KEPT = 20_000
"""About how many entries are kept together, some 60 MB. A client's day with more of them is read page by page."""


class Ledger:
    """What is read of the costs table."""

    def __init__(self, table: Table, bars: Bars | None = None) -> None:
        self._table = table
        self._bars = bars or Bars()

    def rollups(self, period: Period) -> list[Item]:
        """The rollups of a period, in order: one for each day, client, server and model."""
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - it takes time to load

        days = period.days
        found: list[Item] = []
        with self._bars("days", len(days)) as advance, ThreadPoolExecutor(AT_ONCE) as pool:
            for day, items in zip(days, pool.map(self._rollups_of, days), strict=True):
                found += ({**item, "day": str(day), "month": str(day)[:7]} for item in items)
                advance(1)
        return found

    def entries(
        self, rollups: Sequence[Item], attributes: Collection[str] | None = None, label: str = "requests"
    ) -> Iterator[Item]:
        """The entries of the clients and days of `rollups`, only with some `attributes` if named.

        `day` and `month` are always there. A client's whole day is read, whatever else the rollups say.
        """
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        requests: dict[tuple[str, str], int] = {}
        for rollup in rollups:
            key = (rollup["day"], rollup["client_id"])
            requests[key] = requests.get(key, 0) + int(rollup["requests"])
        with self._bars(label, sum(requests.values())) as advance, ThreadPoolExecutor(AT_ONCE) as pool:
            for part in _together(requests):
                read: Iterable[Iterable[Item]] = (
                    pool.map(partial(self._entries_of, attributes), part)
                    if len(part) > 1
                    else [self._day(f"client#{client}#{day}", attributes) for day, client in part]
                )
                for key, items in zip(part, read, strict=True):
                    for item in items:
                        yield {**item, "day": key[0], "month": key[0][:7]}
                        advance(1)

    def latest(
        self,
        client_id: str,
        period: Period,
        *,
        before: str | None = None,
        at_once: int | None = None,
        is_divided: bool = False,
    ) -> Iterator[Item]:
        """The entries of a client, newest first; only those before the entry `before` (its id) if that is named.

        `at_once` of them are read together; as many as DynamoDB gives at once, up to 1 MB, where nothing is said.
        `is_divided` says whether the day of `before` has shards: in the middle of a day nothing else does.
        """
        for day in reversed(period.days):
            of_before = ulid_time(before).date() if before else day
            if day <= of_before:
                end = before if day == of_before else None
                read = partial(self._newest, end, at_once)
                pk = f"client#{client_id}#{day}"
                yield from whole_day(read, pk, newest_first=True, is_divided=is_divided and end is not None)

    def is_divided(self, client_id: str, day: date) -> bool:
        """Whether a client's day has shards."""
        key = to_item({"pk": f"client#{client_id}#{day}", "sk": LAST})
        return "Item" in self._table.client.get_item(TableName=self._table.name, Key=key)

    def _newest(self, before: str | None, at_once: int | None, pk: str, page: int | None) -> Iterator[Item]:
        older = {} if before is None else {":before": before}
        at_once = at_once or page
        pages = self._table.client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk AND sk < :before" if older else "pk = :pk",
            ExpressionAttributeValues=to_item({":pk": pk, **older}),
            ScanIndexForward=False,
            PaginationConfig={"PageSize": at_once} if at_once else {},
        )
        return ledger_items(pages, pk)

    def _rollups_of(self, day: date) -> list[Item]:
        return whole_sums(self._query, f"day#{day}")

    def _entries_of(self, attributes: Collection[str] | None, key: tuple[str, str]) -> list[Item]:
        day, client_id = key
        return list(self._day(f"client#{client_id}#{day}", attributes))

    def _day(self, pk: str, attributes: Collection[str] | None) -> Iterator[Item]:
        asked = None if attributes is None else {*attributes, "sk"}
        items = whole_day(partial(self._query, attributes=asked), pk)
        is_bare = attributes is not None and "sk" not in attributes
        return ({name: value for name, value in item.items() if name != "sk"} for item in items) if is_bare else items

    def _query(self, pk: str, page: int | None = None, *, attributes: Collection[str] | None = None) -> Iterator[Item]:
        request: dict[str, Any] = {"PaginationConfig": {"PageSize": page}} if page else {}
        if attributes is not None:
            names = {f"#{number}": name for number, name in enumerate(sorted(attributes))}
            request |= {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
        pages = self._table.client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": pk}),
            **request,
        )
        return ledger_items(pages, pk, attributes)


def _together(requests: Mapping[tuple[str, str], int]) -> Iterator[list[tuple[str, str]]]:
    """Days of clients, in their order, in parts that are read at once: a few small ones, or a large one alone."""
    part: list[tuple[str, str]] = []
    entries = 0
    for key, count in requests.items():
        if part and (len(part) == AT_ONCE or entries + count > MOST_KEPT):
            yield part
            part, entries = [], 0
        part.append(key)
        entries += count
    if part:
        yield part
