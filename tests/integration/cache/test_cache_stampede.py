"""Fifty callers at once behind a slow server: real threads, sockets and leases, and a clock that passes while all wait.

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
CALLERS = 50


class Clock:
    """Unix seconds, which pass when each of `callers` waits: for a moment to come, or for a server that waits for one.

    However slow the machine is, nobody is late.
    """

    def __init__(self, callers: int) -> None:
        self._now = time.time()
        self._present = callers
        self._waking: list[float] = []
        self._passed = threading.Condition()

    def __call__(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._passed:
            until = self._now + seconds
            self._waking.append(until)
            self._pass()
            assert self._passed.wait_for(lambda: self._now >= until, timeout=60)
            self._waking.remove(until)

    def leave(self) -> None:
        """A caller has its answer: nobody waits for it any more."""
        with self._passed:
            self._present -= 1
            self._pass()

    def _pass(self) -> None:
        if self._waking and len(self._waking) == self._present:
            self._now = max(self._now, min(self._waking))
            self._passed.notify_all()


class Server:
    """Answers after `slow` seconds: by `scripts`, one call after another, and by the last one for ever."""

    def __init__(self, slow: float, *scripts: Script) -> None:
        self._slow = slow
        self._scripts = list(scripts)
        self._lock = threading.Lock()
        self.sleep: Callable[[float], None] = lambda _: None

    def __call__(self, connection: Connection, request: Received) -> None:
        with self._lock:
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        self.sleep(self._slow)
        script(connection, request)


def stampede(
    cached: Caches, server: Server, clock: Clock, settings: Settings = PATIENT, callers: int = CALLERS
) -> list[RecordedResponse]:
    """The answers that so many sandboxes give to the same request at the same time."""
    server.sleep = clock.sleep
    proxies = [cached.proxy(settings, clock=clock, sleep=clock.sleep) for _ in range(callers)]
    responses: list[RecordedResponse] = []

    def respond(number: int) -> None:
        try:
            responses.append(proxies[number].call(STREAMED, path=KEPT, seconds=900))
        finally:
            clock.leave()

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


def test_behind_a_slow_server_fifty_callers_make_one_call() -> None:
    server = Server(7, ANSWERING)
    with caches(server) as cached:
        responses = stampede(cached, server, Clock(CALLERS))
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
        responses = stampede(cached, server, Clock(callers), Settings(), callers)
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
        responses = stampede(cached, server, Clock(callers), callers=callers)
        assert len(cached.server.received) == 2
    assert [response.body == STREAM for response in responses].count(True) == callers - 1
    assert uses(cached) == {("HIT", "waited"): callers - 2, ("MISS", "not_found"): 2}


@pytest.mark.parametrize("script", [failing, streaming(FILTERED, DONE)], ids=["fails", "is filtered"])
def test_what_is_never_kept_is_fetched_by_each_after_two_have_tried(script: Script) -> None:
    callers, server = 8, Server(1, script)
    with caches(server) as cached:
        stampede(cached, server, Clock(callers), callers=callers)
        assert len(cached.server.received) == callers
    found = uses(cached)
    assert set(found) == {("MISS", "not_found"), ("MISS", "waited")}
    assert found["MISS", "not_found"] >= 2, "these had the lease, and waited for nobody or found that it is theirs"
    assert cached.bus.captured == []
    assert cached.table.items == {}


@pytest.mark.parametrize("lasts", [3.0, 12.0])
def test_when_the_first_is_killed_one_takes_over_when_its_lease_ends(lasts: float) -> None:
    callers, server, clock = 8, Server(1, ANSWERING), Clock(8)
    with caches(server) as cached:
        stampede(cached, server, Clock(1), callers=1)
        [key] = cached.table.answers
        cached.table.items.clear()
        services: Any = cached.table
        dead = Lease("the dead", clock() + lasts + 10, clock())
        assert CacheTable(services, "cache").take_lease(key, dead, clock()) is None
        before = len(cached.server.received)
        responses = stampede(cached, server, clock, callers=callers)
        assert len(cached.server.received) == before + 1
    assert [response.body for response in responses] == [STREAM] * callers
    assert uses(cached) == {("HIT", "waited"): callers - 1, ("MISS", "not_found"): 2}, "one of the two came before all"
