"""Fifty callers at once behind a slow server: real threads, sockets and leases, with a clock that runs fast.

How many calls there are, that everybody has the answer, and what each is told, whatever becomes of who asked first.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from proxy.cache.response_cache import Settings
from proxy.cache.table import CacheTable, Lease

from tests.caches import CHAT, STREAM, Caches, caches
from tests.fakes import Connection, Received, RecordedResponse, Script
from tests.relays import CONTENT, DONE, USAGE_CHUNK, streaming

KEPT = "/kept/v1/chat/completions"
STREAMED = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
ANSWERING = streaming(*CONTENT, USAGE_CHUNK, DONE)
FILTERED = b'data: {"object": "chat.completion.chunk", "choices": [{"finish_reason": "content_filter"}]}\n\n'
PATIENT = Settings(wait=60.0)
SPEED = 20.0
CALLERS = 50


class Fast:
    """A clock that runs `SPEED` times as fast as that of the machine."""

    def __init__(self) -> None:
        self._began = time.time()

    def __call__(self) -> float:
        return self._began + (time.time() - self._began) * SPEED

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds / SPEED)


class Server:
    """Answers by `scripts`, one call after another, and the last one for ever; `slow` fast seconds after all have come.

    `all_came` says when the callers have looked into the table, and one of them has the lease.
    """

    def __init__(self, slow: float, *scripts: Script) -> None:
        self._slow = slow
        self._scripts = list(scripts)
        self._lock = threading.Lock()
        self.all_came: Callable[[], bool] = lambda: True

    def __call__(self, connection: Connection, request: Received) -> None:
        with self._lock:
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        until(self.all_came)
        Fast.sleep(self._slow)
        script(connection, request)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def stampede(cached: Caches, settings: Settings = PATIENT, callers: int = CALLERS) -> list[RecordedResponse]:
    """The answers that so many sandboxes give to the same request at the same time."""
    clock = Fast()
    proxies = [cached.proxy(settings, clock=clock, sleep=clock.sleep) for _ in range(callers)]
    responses: list[RecordedResponse] = []

    def respond(number: int) -> None:
        responses.append(proxies[number].call(STREAMED, path=KEPT, seconds=900))

    threads = [threading.Thread(target=respond, args=(number,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(responses) == callers
    return responses


def uses(cached: Caches) -> Counter[tuple[str, str | None]]:
    assert len(cached.bus.terminal) == len(cached.bus.uses)
    return Counter(cached.bus.uses)


def wait_for_all(cached: Caches, server: Server, callers: int = CALLERS) -> None:
    server.all_came = lambda: cached.table.calls.count("put") >= callers


def test_behind_a_slow_server_fifty_callers_make_one_call() -> None:
    server = Server(7, ANSWERING)
    with caches(server) as cached:
        wait_for_all(cached, server)
        responses = stampede(cached)
        assert len(cached.server.received) == 1
    assert [response.body for response in responses] == [STREAM] * CALLERS
    assert uses(cached) == {("HIT", "waited"): CALLERS - 1, ("MISS", "not_found"): 1}
    assert len(cached.bus.captured) == 1
    waiting = CALLERS - 1
    calls = Counter(cached.table.calls)
    assert calls["get"] == CALLERS + waiting, "the whole item is read once, and once more when it is there"
    assert calls["put"] == CALLERS + 1
    assert calls["get lease"] + calls["look"] <= 10 * waiting


def test_who_is_not_told_to_wait_for_as_long_goes_after_five_seconds() -> None:
    callers, server = 8, Server(30, ANSWERING)
    with caches(server) as cached:
        wait_for_all(cached, server, callers)
        responses = stampede(cached, Settings(), callers)
        assert len(cached.server.received) == callers
    assert [response.body for response in responses] == [STREAM] * callers
    assert uses(cached) == {("MISS", "waited"): callers - 1, ("MISS", "not_found"): 1}
    assert cached.table.calls.count("get lease") <= 5 * (callers - 1)


def failing(connection: Connection, _: Received) -> None:
    connection.answer(b'{"error": {"message": "overloaded"}}', "503 Service Unavailable")


def cut(connection: Connection, request: Received) -> None:
    streaming(CONTENT[0])(connection, request)


@pytest.mark.parametrize("first", [failing, cut, streaming(FILTERED, DONE)], ids=["fails", "is cut", "is filtered"])
def test_when_the_first_has_no_answer_for_all_one_more_asks(first: Script) -> None:
    callers, server = 8, Server(1, first, ANSWERING)
    with caches(server) as cached:
        wait_for_all(cached, server, callers)
        responses = stampede(cached, callers=callers)
        assert len(cached.server.received) == 2
    assert [response.body == STREAM for response in responses].count(True) == callers - 1
    assert uses(cached) == {("HIT", "waited"): callers - 2, ("MISS", "not_found"): 2}


@pytest.mark.parametrize("script", [failing, streaming(FILTERED, DONE)], ids=["fails", "is filtered"])
def test_what_is_never_kept_is_fetched_by_each_after_two_have_tried(script: Script) -> None:
    callers, server = 8, Server(1, script)
    with caches(server) as cached:
        wait_for_all(cached, server, callers)
        stampede(cached, callers=callers)
        assert len(cached.server.received) == callers
    found = uses(cached)
    assert set(found) == {("MISS", "not_found"), ("MISS", "waited")}
    assert found["MISS", "not_found"] >= 2, "these had the lease, and waited for nobody or found that it is theirs"
    assert cached.bus.captured == []
    assert cached.table.items == {}


@pytest.mark.parametrize("lasts", [3.0, 12.0])
def test_when_the_first_is_killed_one_takes_over_when_its_lease_ends(lasts: float) -> None:
    callers, server, clock = 8, Server(1, ANSWERING), Fast()
    with caches(server) as cached:
        stampede(cached, callers=1)
        [key] = cached.table.answers
        cached.table.items.clear()
        services: Any = cached.table
        dead = Lease("the dead", clock() + lasts + 10, clock())
        assert CacheTable(services, "cache").take_lease(key, dead, clock()) is None
        before = len(cached.server.received)
        responses = stampede(cached, callers=callers)
        assert len(cached.server.received) == before + 1
    assert [response.body for response in responses] == [STREAM] * callers
    assert uses(cached) == {("HIT", "waited"): callers - 1, ("MISS", "not_found"): 2}, "one of the two came before all"
