"""What a soak leaves behind, once every place is free and every event recorded: log, ledger, counters, metrics."""

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from boto3.dynamodb.types import TypeDeserializer
from proxy.json_shapes import loads_or_none, object_of
from proxy.records.log_line import MESSAGE
from proxy.records.publisher import NOT_CONFIRMED, NOT_PUBLISHED

from tests.e2e.fault_drivers import FaultyStack, chat
from tests.e2e.fault_load import KEYS, Asked, Soaked
from tests.e2e.harness import wait_for

_LONGEST = 400.0
"""Seconds for the consumers: what they fail at comes again after 40 s, five times at most."""
_QUIET = 3
"""So many looks one after the other find nothing that waits."""
_DEAD_LETTERS = "DeadLetterQueue"
_OVERLAPPING = {"delay": 0.5, "tokens": 8}


@dataclass
class Traces:
    """What is left: the lines of the proxy's log, the items of the ledger's table, and what was waited for."""

    NOT_PUBLISHED = (NOT_PUBLISHED, NOT_CONFIRMED)

    faulty: FaultyStack
    soaked: Soaked
    waited: Mapping[str, float]
    """Seconds until all places of a key were free."""
    put_again: int
    """Messages that consumers had failed at five times."""
    lines: list[dict[str, Any]]
    items: list[dict[str, Any]]

    @property
    def asked(self) -> list[Asked]:
        """What clients have asked and seen."""
        return self.soaked.asked

    @property
    def kills(self) -> int:
        """So many sandboxes were killed: each took at most one request with it."""
        return self.soaked.kills

    @cached_property
    def requests(self) -> dict[str, dict[str, Any]]:
        """The log's line of each request of our clients, by its id."""
        ours = {client.id for client in self.soaked.clients.values()}
        return {line["id"]: line for line in self.lines if line["message"] == MESSAGE and line["client_id"] in ours}

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """The ledger's entries of our clients, by their ids."""
        ours = tuple(f"client#{client.id}#" for client in self.soaked.clients.values())
        return {item["sk"]: item for item in self.items if item["pk"].startswith(ours)}

    @property
    def summary(self) -> dict[str, Any]:
        """In numbers."""
        seen = Counter(f"{each.status} {each.code}".strip() for each in self.asked)
        return {
            "requests": len(self.asked),
            "seen by clients": dict(seen.most_common()),
            "sandboxes killed": self.kills,
            "seconds until places were free": {name: round(seconds, 1) for name, seconds in self.waited.items()},
            "lines of the log": dict(Counter(line["message"] for line in self.lines).most_common()),
            "entries of the ledger": len(self.entries),
            "put again from dead letters": self.put_again,
        }

    def counter(self, pk: str) -> dict[str, Any]:
        """A counter of the limits table."""
        return self.faulty.stack.table("LIMITS_TABLE").get_item(Key={"pk": pk}, ConsistentRead=True)["Item"]

    def metric(self, name: str, *more: str, **dimensions: str) -> float:
        """The sum of a metric over all values of the dimensions called `more`."""
        cloudwatch = self.faulty.stack.aws("cloudwatch")
        pages = cloudwatch.get_paginator("list_metrics").paginate(Namespace="OpenAIProxy/openai-proxy", MetricName=name)
        found = [metric for page in pages for metric in page["Metrics"]]
        total = 0.0
        for metric in found:
            own = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
            if own.keys() == {*more, *dimensions} and dimensions.items() <= own.items():
                points = cloudwatch.get_metric_statistics(
                    Namespace="OpenAIProxy/openai-proxy",
                    MetricName=name,
                    Dimensions=metric["Dimensions"],
                    StartTime=time.time() - 7200,
                    EndTime=time.time() + 60,
                    Period=60,
                    Statistics=["Sum"],
                )
                total += sum(point["Sum"] for point in points["Datapoints"])
        return total


def traces_of(faulty: FaultyStack, soaked: Soaked) -> Traces:
    """Wait until everything has come to rest, then look."""
    waited = {name: _wait_for_places(faulty, soaked, name) for name in KEYS}
    put_again = _wait_for_consumers(faulty)
    lines = [object_of(loads_or_none(line)) for line in faulty.log("proxy").read_bytes().splitlines()]
    costs = faulty.stack.environment["COSTS_TABLE"]
    pages = faulty.stack.aws("dynamodb").get_paginator("scan").paginate(TableName=costs, ConsistentRead=True)
    read = TypeDeserializer().deserialize
    items = [{name: read(value) for name, value in item.items()} for page in pages for item in page["Items"]]
    return Traces(faulty, soaked, waited, put_again, [line for line in lines if line.get("message")], items)


def _wait_for_places(faulty: FaultyStack, soaked: Soaked, name: str) -> float:
    """Seconds until as many requests of a key run at once as it may have; of one without limits, in all sandboxes."""
    began, client = time.monotonic(), soaked.clients[name]
    places = KEYS[name].get("parallel") or len(faulty.stack.children("proxy.runtime"))
    body = chat("Still there?", demo=_OVERLAPPING)

    def ask(_: int) -> int:
        return client.post("demo/v1/chat/completions", json=body).status_code

    with ThreadPoolExecutor(places) as pool:
        wait_for(lambda: set(pool.map(ask, range(places))) == {200}, f"the places of the key with {name}")
    return time.monotonic() - began


def _wait_for_consumers(faulty: FaultyStack) -> int:
    """Until no queue has anything. What lies in a dead-letter queue is put again once, as its runbook says."""
    stack = faulty.stack
    sqs, name = stack.aws("sqs"), stack.environment["STACK_NAME"]
    resources = stack.aws("cloudformation").describe_stack_resources(StackName=name)["StackResources"]
    queues = {
        each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources if "Queue" in each["ResourceType"]
    }
    queues = {name: url for name, url in queues.items() if url.startswith("http")}
    latest, quiet, put_again = time.monotonic() + _LONGEST, 0, 0
    while quiet < _QUIET:
        assert time.monotonic() < latest, "the consumers come to no end"
        time.sleep(1)
        is_quiet = True
        for each, url in queues.items():
            if each.endswith(_DEAD_LETTERS):
                batch = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
                for message in batch:
                    sqs.send_message(QueueUrl=queues[each.replace(_DEAD_LETTERS, "Queue")], MessageBody=message["Body"])
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                put_again, is_quiet = put_again + len(batch), is_quiet and not batch
                continue
            names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
            is_quiet = is_quiet and not sum(map(int, counts.values()))
        quiet = quiet + 1 if is_quiet else 0
    return put_again
