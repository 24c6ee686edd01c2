"""Proxies with one response cache between them, for tests: a table, a bucket, and the function that fills them."""

import base64
import json
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

from openai_proxy.pricing.price_book import parse_price_book
from proxy.aws.client import AwsError
from proxy.cache.response_cache import ResponseCache, Settings
from proxy.cache.table import CacheTable
from proxy.http.transport import HttpTransport, Timeouts
from store_response.cached_response import cached_response_of
from store_response.item import item_of

from tests.fakes import Script, ScriptedServer, envelope_of, read_event
from tests.relays import CONTENT, DONE, USAGE_CHUNK, Proxy, RecordingBus

PRICES = parse_price_book("servers:\n  kept:\n    models:\n      real-model: {input: 1, output: 2}\n")
STREAM = b"".join([*CONTENT, USAGE_CHUNK, DONE])
CHAT: dict[str, Any] = {"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "Hello"}]}


class FakeTable:
    """The cache table as `Aws` shows it, shared by threads. It knows the conditions of leases and refuses others.

    `failure` is raised by every call while it is set; `lost` by writes that are done nevertheless.
    """

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}
        self.calls: list[str] = []
        self.failure: AwsError | None = None
        self.lost: AwsError | None = None
        self._lock = threading.Lock()

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        if self.failure:
            raise self.failure

    def get_item(self, arguments: dict[str, Any], _timeout: float) -> dict[str, Any]:
        key, projected = arguments["Key"]["cache_key"]["S"], arguments.get("ProjectionExpression")
        with self._lock:
            self._begin("look" if projected else "get" if not key.startswith("lease#") else "get lease")
            item = self.items.get(key, {})
            return {name: value for name, value in item.items() if projected in (None, name)}

    def put_item(self, arguments: dict[str, Any], timeout: float) -> tuple[bool, dict[str, Any] | None]:
        item, values = arguments["Item"], arguments["ExpressionAttributeValues"]
        key = item["cache_key"]["S"]
        with self._lock:
            self._begin("put")
            known = self.items.get(key)
            is_own = known is not None and known.get("owner") == values[":owner"]
            if arguments["ConditionExpression"] == "#owner = :owner":
                may = is_own
            else:
                assert "lease_until <= :now OR lease_until > :latest" in arguments["ConditionExpression"]
                now, latest = (int(values[name]["N"]) for name in (":now", ":latest"))
                until = known["lease_until"].get("N") if known and "lease_until" in known else None
                may = is_own or until is None or not now < int(until) <= latest
            if may:
                self.items[key] = item
            if self.lost:
                raise self.lost
            wants = "ReturnValuesOnConditionCheckFailure" in arguments
            return may, known if wants and not may else None

    def delete_item(self, arguments: dict[str, Any], timeout: float) -> bool:
        assert arguments["ConditionExpression"] == "#owner = :owner"
        with self._lock:
            self._begin("delete")
            key, owner = arguments["Key"]["cache_key"]["S"], arguments["ExpressionAttributeValues"][":owner"]
            if self.items.get(key, {}).get("owner") != owner:
                return False
            del self.items[key]
            return True

    @property
    def answers(self) -> dict[str, Any]:
        """The items that are no leases."""
        return {key: item for key, item in self.items.items() if not key.startswith("lease#")}

    @property
    def answer(self) -> dict[str, Any]:
        """The one item that is no lease: what is changed in it is changed in the table."""
        [item] = self.answers.values()
        return item

    @property
    def leases(self) -> list[str]:
        """The keys of all leases."""
        return [key for key in self.items if key.startswith("lease#")]


class FakeBucket:
    """The bucket of large answers."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.put_timeouts: list[float] = []
        self.failure: AwsError | None = None

    def put(self, key: str, body: bytes, timeout: float) -> None:
        self.calls.append("put")
        self.put_timeouts.append(timeout)
        if self.failure:
            raise self.failure
        self.objects[key] = body

    def get(self, key: str, timeout: float, largest: int) -> bytes:
        self.calls.append("get")
        if self.failure:
            raise self.failure
        if key not in self.objects:
            raise AwsError("s3:GetObject", "NoSuchKey")
        return self.objects[key]


class StoringBus(RecordingBus):
    """Takes every entry, and stores captured answers as the consumer does, unless `stores` is off."""

    def __init__(self, table: FakeTable) -> None:
        super().__init__()
        self.stores = True
        self._table = table

    def put_events(self, entries: list[dict[str, str]], _timeout: float) -> list[dict[str, Any]]:
        for entry in entries:
            if entry["DetailType"] == "ResponseCaptured" and self.stores:
                item = wire(item_of(cached_response_of(read_event(envelope_of(entry)), PRICES)))
                self._table.items[item["cache_key"]["S"]] = item
        return super().put_events(entries, _timeout)

    @property
    def captured(self) -> list[dict[str, Any]]:
        """The data of every captured answer."""
        return [detail["data"] for detail_type, detail in self.details if detail_type == "ResponseCaptured"]

    @property
    def terminal_details(self) -> list[tuple[str, dict[str, Any]]]:
        """The terminal events, type and detail."""
        return [each for each in self.details if each[0] != "ResponseCaptured"]

    @property
    def terminal(self) -> list[tuple[str, dict[str, Any]]]:
        """The terminal events, type and data."""
        return [(name, detail["data"]) for name, detail in self.details if name != "ResponseCaptured"]

    @property
    def uses(self) -> list[tuple[str, str | None]]:
        """What the cache did for each request, in order: status and reason."""
        return [(data["cache"]["status"], data["cache"]["reason"]) for _, data in self.terminal]


def wire(item: dict[str, Any]) -> dict[str, Any]:
    """An item as boto3 takes it, in the JSON of DynamoDB's wire, where bytes are base64."""
    encoded = {name: {"B": base64.b64encode(value["B"]).decode()} for name, value in item.items() if "B" in value}
    return json.loads(json.dumps(item | encoded))


class Caches:
    """One table, one bucket and one bus, and any number of proxies with them."""

    def __init__(self, server: ScriptedServer, stack: ExitStack) -> None:
        self.server = server
        self.table, self.bucket = FakeTable(), FakeBucket()
        self.bus = StoringBus(self.table)
        self._stack = stack

    def proxy(self, settings: Settings | None = None, clock: Any = None, sleep: Any = None, **allowed: str) -> Proxy:
        """Another sandbox. `allowed` is added to the authorizer's context of its client key."""
        transport = HttpTransport(Timeouts())
        self._stack.callback(transport.close)
        table: Any = self.table
        seams = {name: seam for name, seam in (("clock", clock), ("sleep", sleep)) if seam}
        settings = settings or Settings(wait=0)
        cache = ResponseCache(CacheTable(table, "cache"), self.bucket, settings, **seams)
        kept = f"url: '{self.server.url}/v1', token: t, model: m, retries: 0"
        servers = (
            f"kept: {{{kept}, aliases: {{fast: real-fast}}, cache: {{ttl: 60}}}}\n"
            f"pooled: {{{kept}, cache: {{pool: all}}}}\n"
            f"free: {{{kept}, cache: {{any_temperature: true}}}}\n"
            "backed: {url: 'http://127.0.0.1:9/v1', token: t, model: m, retries: 0, fallbacks: [kept], cache: {}}\n"
        )
        return Proxy(self.server.url, allowed, transport, cache=lambda: cache, bus=self.bus, more_servers=servers)


@contextmanager
def caches(script: Script) -> Generator[Caches]:
    """A scripted server, and proxies with a response cache in front of it."""
    with ExitStack() as stack:
        yield Caches(stack.enter_context(ScriptedServer(script)), stack)
