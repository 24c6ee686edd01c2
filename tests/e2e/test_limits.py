"""Limits with many sandboxes at once: what passes is what the limit says, to the last request."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import pytest
from openai_proxy.key_limits import Limits
from openai_proxy.servers import parse_servers
from openai_proxy.usage import Usage
from proxy.aws.client import Aws, Credentials
from proxy.errors import LimitError
from proxy.http.transport import HttpTransport, Timeouts
from proxy.limits.counters import TableAccess
from proxy.limits.reservation import Reservation
from proxy.limits.table import LimitsTable
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.request.routing import Candidate

from tests.e2e.command import openai_proxy
from tests.e2e.harness import Client, LocalStack, wait_for

NOON = 1_795_435_200  # 2026-11-23 12:00:00 UTC
SANDBOXES = 40
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 36}], "max_tokens": 87}).encode()
REQUEST = InferenceRequest("function_url", "POST", "", "", {"content-type": "application/json"}, BODY, None)
USAGE = Usage(1, 2, source="reported")
SERVER = parse_servers("up: {url: 'http://127.0.0.1:9/v1', token: t, model: m}")["up"]


class Sandboxes:
    """Many sandboxes' views of the limits table, each with connections of its own; their clocks stand still."""

    def __init__(self, stack: LocalStack, shards: int = 1) -> None:
        self._stack, self._shards = stack, shards
        self._own = threading.local()
        self._transports: list[HttpTransport] = []

    @property
    def table(self) -> LimitsTable:
        """That of this thread."""
        if not hasattr(self._own, "table"):
            transport = HttpTransport(Timeouts())
            self._transports.append(transport)
            endpoint = self._stack.environment["AWS_ENDPOINT_URL"]
            aws = Aws(transport.post, lambda: Credentials("test", "test", None), "us-east-1", endpoint)
            name = self._stack.environment["LIMITS_TABLE"]
            # A busy emulator is slow, and a request that it did not answer in time would be let through.
            self._own.table = LimitsTable(
                TableAccess(aws, name, lambda: float(NOON), timeout=30.0), "closed", shards=lambda _: self._shards
            )
        return self._own.table

    def take(self, limits: Limits, number: int) -> Reservation | str:
        """What a request has taken, or the limit that refused it."""
        body = RequestBody(REQUEST, Target("up", "/chat/completions"))
        taken = self.table.take(limits, f"inference-{number}", body, [Candidate(SERVER)], time.time() + 60)
        if isinstance(taken.refused, LimitError):
            return taken.refused.source
        assert taken.is_checked
        return taken

    def close(self) -> None:
        for transport in self._transports:
            transport.close()


@contextmanager
def at_once(
    stack: LocalStack, shards: int = 1
) -> Generator[tuple[Sandboxes, Callable[[Callable[[int], Any], range], list[Any]]]]:
    sandboxes = Sandboxes(stack, shards)
    with ThreadPoolExecutor(SANDBOXES) as pool:

        def run(work: Callable[[int], Any], numbers: range) -> list[Any]:
            return list(pool.map(work, numbers))

        yield sandboxes, run
    sandboxes.close()


def item_of(stack: LocalStack, limits: Limits) -> dict[str, Any]:
    return stack.table("LIMITS_TABLE").get_item(Key={"pk": f"limits#{limits.id}"}, ConsistentRead=True)["Item"]


def test_of_four_hundred_requests_a_hundred_pass(stack: LocalStack) -> None:
    limits = Limits("hundred", rpm=100)
    with at_once(stack) as (sandboxes, run):
        seen = run(partial(sandboxes.take, limits), range(400))
    passed = [each for each in seen if isinstance(each, Reservation)]
    assert Counter(each for each in seen if isinstance(each, str)) == {"key_rpm": 300}
    assert sorted(int(each.headers["x-ratelimit-remaining-requests"]) for each in passed) == list(range(100))
    assert item_of(stack, limits)["requests"] == 100


def test_of_a_key_in_shards_no_more_pass_than_the_limit_and_one_who_asks_them_all_gets_the_rest(
    stack: LocalStack,
) -> None:
    limits = Limits("sharded", rpm=50, tpm=50 * 100)
    with at_once(stack, shards=4) as (sandboxes, run):
        seen = run(partial(sandboxes.take, limits), range(80))
        passed = [each for each in seen if isinstance(each, Reservation)]
        rest = [sandboxes.take(limits, number) for number in range(80, 140)]
    passed += [each for each in rest if isinstance(each, Reservation)]
    assert 50 - 4 <= len(passed) <= 50
    assert len({each.shard for each in passed}) > 1
    assert {each for each in (*seen, *rest) if isinstance(each, str)} <= {"key_rpm", "key_tpm"}
    assert item_of(stack, limits)["requests"] <= 50
    assert "live" in item_of(stack, limits), "which keeps nothing of them"


def test_a_budget_ends_with_the_request_that_reaches_it(stack: LocalStack) -> None:
    limits = Limits("budget", budget_day=Decimal("0.1"))
    with at_once(stack) as (sandboxes, run):
        seen = run(partial(sandboxes.take, limits), range(100))
    passed = [each for each in seen if isinstance(each, Reservation)]
    # 13 tokens of prompt and 87 of the answer, at the prices of a model that nobody knows yet: 0.00361 each
    assert len(passed) == 28, "the 28th reserves what is left of 0.1"
    assert Counter(each for each in seen if isinstance(each, str)) == {"key_budget_reserved": 72}
    item = item_of(stack, limits)
    assert item["day_cost"] == Decimal("0.1")
    assert len(item["live"]) == 28
    with at_once(stack) as (sandboxes, run):
        ended = run(lambda number: sandboxes.table.release(passed[number], USAGE, time.time() + 60), range(28))
    item = item_of(stack, limits)
    assert {each.lease for each in ended} == {"returned"}
    assert item["live"] == {}
    assert item["day_cost"] == 28 * Decimal("0.00009"), "what they have cost"


def test_parallel_requests_never_exceed_their_places(stack: LocalStack) -> None:
    limits = Limits("parallel", parallel=7, tpm=1_000_000)
    lock = threading.Lock()
    running: list[int] = [0, 0]

    with at_once(stack) as (sandboxes, run):

        def request(number: int) -> bool:
            taken = sandboxes.take(limits, number)
            if isinstance(taken, str):
                return False
            with lock:
                running[0] += 1
                running[1] = max(running)
            time.sleep(0.02)  # so that others meet it
            with lock:
                running[0] -= 1
            sandboxes.table.release(taken, USAGE, time.time() + 60)
            return True

        passed = sum(run(request, range(150)))
    assert 7 <= passed <= 150
    assert running[1] <= 7
    item = item_of(stack, limits)
    assert (item["live"], item["tokens"]) == ({}, passed * 3)


def answers(client: Client, times: int) -> list[httpx.Response]:
    """To the same question, asked so often at once."""
    chat = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}

    def ask(_number: int) -> httpx.Response:
        return client.post("demo/v1/chat/completions", json=chat)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(ask, range(times)))


def test_a_limited_key_at_the_door(stack: LocalStack, client: Client) -> None:
    """Through the whole stack: refused with a wait, and an event that says why."""
    stack.table("KEYS_TABLE").update_item(
        Key={"key_hash": client.key_hash},
        UpdateExpression="SET #rpm = :rpm, #parallel = :parallel",
        ExpressionAttributeNames={"#rpm": "rpm", "#parallel": "parallel"},
        ExpressionAttributeValues={":rpm": 5, ":parallel": 50},
    )
    seen = answers(client, 12)
    counted = Counter(response.status_code for response in seen)
    assert set(counted) == {200, 429}
    assert 5 <= counted[200] <= 10, "five in a minute; a minute may end in between"
    refused = next(response for response in seen if response.status_code == 429)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-limit-requests"] == "5"
    client.wait_for_entries(counted[200])
    key = {"pk": f"limits#{client.key_hash[:12]}"}
    wait_for(lambda: stack.table("LIMITS_TABLE").get_item(Key=key)["Item"]["live"] == {}, "the end of every request")


def test_a_key_and_its_team_at_the_door(stack: LocalStack, client: Client) -> None:
    """Both are taken in one transaction: of a key with room the team's end is the end."""
    team = f"of-{client.id}"
    openai_proxy(stack, "teams", "create", team, "--rpm", "4", "--parallel", "50")
    stack.table("KEYS_TABLE").update_item(
        Key={"key_hash": client.key_hash},
        UpdateExpression="SET #rpm = :rpm, #parallel = :parallel, #team = :team",
        ExpressionAttributeNames={"#rpm": "rpm", "#parallel": "parallel", "#team": "team"},
        ExpressionAttributeValues={":rpm": 100, ":parallel": 50, ":team": team},
    )
    seen = answers(client, 10)
    counted = Counter(response.status_code for response in seen)
    assert set(counted) == {200, 429}
    assert 4 <= counted[200] <= 8, "four in a minute; a minute may end in between"
    refused = next(response for response in seen if response.status_code == 429)
    assert refused.json()["error"]["message"].startswith("This client key's team ")
    assert refused.headers["x-ratelimit-limit-requests"] == "4"
    client.wait_for_entries(counted[200])
    for counter in (client.key_hash[:12], f"team.{team}"):
        key = {"pk": f"limits#{counter}"}
        wait_for(lambda key=key: stack.table("LIMITS_TABLE").get_item(Key=key)["Item"]["live"] == {}, "the end of all")


@pytest.fixture(autouse=True)
def _fresh(stack: LocalStack) -> None:
    for name in ("thousand", "budget", "parallel", "sharded"):
        stack.table("LIMITS_TABLE").delete_item(Key={"pk": f"limits#{name}"})
