"""Where `top` reads: the newest entries of the ledger, and the metrics `Throttles` and `ClientThrottles`.

The day's rollups tell which clients had requests since the last look, and how many; of these clients the newest entries
are read, until as many new ones are found. A client that had none costs nothing but its row of the rollups.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.shards import SHARDED, SHARDS
from openai_proxy.throttles.weather import PARTITION, SOON, Weather

from console.export.items import ledger_items
from console.report.figures import SOURCES
from console.shards import whole_day, whole_sums
from console.stack import USUAL_NAMESPACE, Table
from console.top.figures import OF_ENTRIES, Inference, Throttles, inference_of

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

LONGEST = 900
"""Seconds that an inference can take: Lambda's limit. Entries are in the order in which their requests arrived."""

MOST_ENTRIES = 2000
"""New entries of one client that are read at a time."""

AT_ONCE = 8
"""Queries that are under way together; below the 10 connections that a client keeps."""

THROTTLES_EVERY = 20.0
"""Seconds: CloudWatch is paid by the metric that is asked for, and adds up whole minutes."""

MOST_SERVERS = 25

Key = tuple[str, str]

PAGE = 50
_OF_SHARD = 10


class RecentInferences:
    """The ledger's entries of the last `window` seconds, kept up to date."""

    def __init__(self, table: Table, window: int, most: int = MOST_ENTRIES) -> None:
        self._table = table
        self._most = most
        self._reach = window + LONGEST
        self._requests: dict[Key, int] = {}
        self._known: dict[str, Inference] = {}
        self.servers: frozenset[str] = frozenset()
        """The servers that the day's rollups name."""
        self._missed_at = float("-inf")

    def read(self, now: float) -> list[Inference]:
        """Read what is new, and return all that is known. `now` is in Unix seconds. Raises botocore's errors."""
        oldest = new_ulid(now - self._reach)[:10]
        requests = self._counts(now)
        behind = {key: count - self._requests.get(key, 0) for key, count in requests.items()}
        self._known = {name: kept for name, kept in self._known.items() if name >= oldest}
        changed = {key: new for key, new in behind.items() if new > 0}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for found, is_all in pool.map(partial(self._newest, oldest), changed, changed.values()):
                self._known |= found
                self._missed_at = self._missed_at if is_all else now
        self._requests = requests
        return list(self._known.values())

    def is_incomplete(self, now: float) -> bool:
        """Whether the window lacks entries, because there were more new ones than are read."""
        return now - self._missed_at < self._reach

    def _counts(self, now: float) -> dict[Key, int]:
        """How many requests each client had on the days that matter."""
        days = sorted({datetime.fromtimestamp(at, UTC).date() for at in (now - self._reach, now)})
        counts: Counter[Key] = Counter()
        servers: set[str] = set()
        for day in days:
            for item in whole_sums(self._sums, f"day#{day}"):
                counts[item["client_id"], str(day)] += int(item["requests"])
                servers.add(item["server"])
        self.servers = frozenset(servers)
        return counts

    def _newest(self, oldest: str, key: Key, new: int) -> tuple[dict[str, Inference], bool]:
        """The newest `new` entries of a client and day that are not known, and whether these are all there are."""
        client_id, day = key
        values = {":oldest": oldest}
        # Consistent: what a rollup counts is there, and would not be looked for again.
        more = {"ScanIndexForward": False, "ConsistentRead": True}
        most = min(self._most, max(PAGE, 2 * new))

        def read(pk: str, page: int | None) -> Iterator[dict[str, Any]]:
            limit = {"Limit": max(_OF_SHARD, most // SHARDS) if page else most}
            return self._query(
                {**values, ":pk": pk}, "pk = :pk AND sk >= :oldest", sorted(OF_ENTRIES), {**more, **limit}
            )

        found: dict[str, Inference] = {}
        for item in whole_day(read, f"client#{client_id}#{day}", newest_first=True):
            if item["sk"] not in self._known:
                found[item["sk"]] = inference_of(item)
            if len(found) == new:
                return found, True
            if len(found) == self._most:
                return found, False
        return found, True

    def _sums(self, pk: str) -> Iterator[dict[str, Any]]:
        return self._query({":pk": pk}, "pk = :pk", ["sk", "client_id", "server", "requests", SHARDED])

    def _query(
        self, values: dict[str, Any], condition: str, attributes: list[str], more: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        names = {f"#{number}": name for number, name in enumerate(attributes)}
        pages = self._table.client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=to_item(values),
            ProjectionExpression=", ".join(names),
            ExpressionAttributeNames=names,
            **(more or {}),
        )
        return ledger_items(pages, values[":pk"], attributes)


class RecentThrottles:
    """The metrics of throttles of the last minutes. CloudWatch is asked at most every THROTTLES_EVERY seconds.

    `table` is the one of costs, which names the busiest clients.
    """

    def __init__(
        self,
        client: "Callable[[], CloudWatchClient]",
        window: int,
        table: Table | None = None,
        namespace: str = USUAL_NAMESPACE,
    ) -> None:
        self._make_client = client
        self._table = table
        self._namespace = namespace
        self._client: CloudWatchClient | None = None
        self._window = window
        self._read_at = float("-inf")
        self._last = Throttles()

    def read(self, now: float, servers: frozenset[str]) -> Throttles:
        """The throttles as of the last time that CloudWatch was asked, which may be now. `now` is in Unix seconds.

        Never raises botocore's errors: the other figures are shown without this one.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - it takes time to load

        if now - self._read_at >= THROTTLES_EVERY:
            self._read_at = now
            try:
                self._last = self._ask(now, servers)
            except (BotoCoreError, ClientError) as error:
                self._last = Throttles(problem=f"CloudWatch could not be asked: {error}")
        return self._last

    def _ask(self, now: float, servers: frozenset[str]) -> Throttles:
        self._client = self._client or self._make_client()
        wanted = [("Source", source) for source in SOURCES]
        wanted += [("Server", server) for server in sorted(servers)[:MOST_SERVERS]]
        wanted += [("Client", client) for client in self._busiest(now)]
        end = datetime.fromtimestamp(now // 60 * 60 + 60, UTC)
        pages = self._client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=[_sum(self._namespace, f"m{number}", *each) for number, each in enumerate(wanted)],
            StartTime=end - timedelta(seconds=self._window),
            EndTime=end,
        )
        sums: Counter[tuple[str, str]] = Counter()
        for page in pages:
            for result in page["MetricDataResults"]:
                sums[wanted[int(result.get("Id", "m0")[1:])]] += round(sum(result.get("Values", ())))
        found = {each: number for each, number in sums.items() if number}
        return Throttles(
            by_source={value: number for (name, value), number in found.items() if name == "Source"},
            by_server={value: number for (name, value), number in found.items() if name == "Server"},
            by_client={value: number for (name, value), number in found.items() if name == "Client"},
            servers=self._servers(now),
        )

    def _servers(self, now: float) -> list[Weather]:
        """Servers that refuse, or soon will, as they have announced; the ones that will refuse first are first."""
        if self._table is None:
            return []
        pages = self._table.client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": PARTITION}),
        )
        every = [Weather.of(from_item(item)) for page in pages for item in page["Items"]]
        recent = [each for each in every if each.is_full(now) or (each.going and now - each.seen_at < SOON)]
        return sorted(recent, key=lambda each: (not each.is_full(now), each.name))

    def _busiest(self, now: float) -> list[str]:
        """The clients that had a metric of their own in the hours that matter."""
        if self._table is None:
            return []
        hours = {f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H}" for at in (now - self._window, now)}
        found: set[str] = set()
        for hour in sorted(hours):
            key = to_item({"pk": f"busiest#{hour}", "sk": "clients"})
            item = self._table.client.get_item(TableName=self._table.name, Key=key).get("Item", {})
            found |= from_item(item).get("names", set())
        return sorted(found)


def _sum(namespace: str, query_id: str, dimension: str, value: str) -> "MetricDataQueryTypeDef":
    return {
        "Id": query_id,
        "MetricStat": {
            "Metric": {
                "Namespace": namespace,
                "MetricName": "ClientThrottles" if dimension == "Client" else "Throttles",
                "Dimensions": [{"Name": dimension, "Value": value}],
            },
            "Period": 60,
            "Stat": "Sum",
        },
    }
