"""The bus refuses everything for a while, and clients go on asking by both doors: nothing is lost.

`make faults` has it away for a minute, `make faults ARGS="--outage 3600 -k outage"` for an hour. What publish_again has
tried in vain often is hidden for up to 15 minutes, so the end of a long outage takes as long.
"""

import secrets
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from proxy.records.publisher import NOT_CONFIRMED, NOT_PUBLISHED

from tests.e2e.fault_drivers import FaultyStack, chat, client_with, started
from tests.e2e.harness import WAIT_SECONDS, Client

_BETWEEN = 2.0
"""Seconds between an answer and the next request at the same door."""
_COMES_AGAIN = 40
_LONGEST_HIDDEN = 900.0
"""Seconds: for so long publish_again hides what it tried in vain."""
_LOOKS_EVERY = 5.0
_MINUTE = 60.0
_NOT_AUTHORIZED = "503 authorization_unavailable"
"""Nobody knew whose the request was, so there is no event of it: an emulator starts few authorizers."""
_PATIENT = "AuthorizerCacheSeconds=3600"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "outage" in metafunc.fixturenames:
        seconds, is_all = metafunc.config.getoption("--outage"), metafunc.config.getoption("--all-faults")
        metafunc.parametrize("outage", [seconds or _MINUTE] if seconds or is_all else [])


class Door:
    """A client that asks at one door, one request after the other."""

    def __init__(self, faulty: FaultyStack, url: str) -> None:
        self.client: Client = client_with(faulty.stack)
        self._url = f"{url}demo/v1/chat/completions"
        self.ids: list[str] = []
        """Of the requests that have one: those whose client was known."""
        self.seen: Counter[str] = Counter()

    def ask(self) -> None:
        """One request that no cache answers."""
        headers = {"authorization": f"Bearer {self.client.key}"}
        answer = httpx.post(self._url, headers=headers, json=chat(secrets.token_hex(8)), timeout=WAIT_SECONDS)
        is_well = answer.status_code == 200
        self.seen["200" if is_well else f"{answer.status_code} {answer.json()['error']['code']}"] += 1
        if request_id := answer.headers.get("x-inference-id"):
            self.ids.append(request_id)
        else:
            assert not is_well, "an answer without an id"

    def ask_until(self, is_over: threading.Event) -> None:
        while not is_over.wait(_BETWEEN):
            self.ask()

    def recorded(self) -> Counter[str]:
        """The ids in the ledger, and how often each is there."""
        return Counter(entry["sk"] for entry in self.client.entries())


def waiting_in(stack: Any) -> int:
    """How many messages publish_again has not done."""
    attributes = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url = stack.outputs["PublishAgainQueueUrl"]
    counts = stack.aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=attributes)["Attributes"]
    return sum(map(int, counts.values()))


def until_recorded(faulty: FaultyStack, doors: list[Door], longest: float) -> None:
    """Wait until the ledger has each request, and no event waits any more."""
    began = time.monotonic()
    told = -_MINUTE
    while True:
        left = sum(len(set(door.ids) - door.recorded().keys()) for door in doors)
        waiting, passed = waiting_in(faulty.stack), time.monotonic() - began
        if passed >= told + _MINUTE or not left + waiting:
            told = passed
            print(f"{passed:.0f} s after the bus is back: {left} not in the ledger, {waiting} wait", flush=True)
        if not left + waiting:
            return
        assert passed < longest, f"{left} requests are not in the ledger, {waiting} events wait"
        time.sleep(_LOOKS_EVERY)


def test_nothing_is_lost_in_an_outage_of_the_bus(outage: float, tmp_path: Path) -> None:
    faulty = started(tmp_path, "open", _COMES_AGAIN, _PATIENT)
    try:
        doors = [Door(faulty, url) for url in (faulty.stack.url, faulty.stack.environment["REST_API_URL"])]
        is_over = threading.Event()
        with faulty.going_wrong({"call": "events:PutEvents", "fault": "throttled"}):
            with ThreadPoolExecutor(len(doors)) as pool:
                asking = [pool.submit(door.ask_until, is_over) for door in doors]
                time.sleep(outage)
                is_over.set()
                for each in asking:
                    each.result()
            assert all(not door.recorded() for door in doors), "the bus has taken something"
            print(f"{outage:.0f} s without the bus: {[dict(door.seen) for door in doors]}", flush=True)
        until_recorded(faulty, doors, min(outage, _LONGEST_HIDDEN) + 2 * WAIT_SECONDS)
        for door in doors:
            assert door.ids
            assert door.seen.keys() <= {"200", _NOT_AUTHORIZED}
            assert door.recorded() == Counter(door.ids)
        assert not faulty.messages("proxy", 0) & {NOT_PUBLISHED, NOT_CONFIRMED}
    finally:
        faulty.stack.stop()
