"""Many requests for one answer: one fetches it, the others wait for it, and nobody waits for nothing.

Where the clock counts, it is the test's own: a pause moves it, and nothing else does.
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from openai_proxy.cache.keys import lease_keys_of
from openai_proxy.events.ulid import new_ulid
from proxy.aws.client import AwsError
from proxy.cache.response_cache import Settings

from tests.caches import CHAT, STREAM, Caches, caches
from tests.fakes import Connection, Received, RecordedResponse, Script
from tests.relays import CONTENT, DONE, USAGE_CHUNK, Proxy, sse, streaming

KEPT = "/kept/v1/chat/completions"
STREAMED = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
PATIENT = Settings(wait=20.0)
ANSWERING = streaming(*CONTENT, USAGE_CHUNK, DONE)
REFUSED = b'data: {"object": "chat.completion.chunk", "choices": [{"finish_reason": "content_filter"}]}\n\n'


def ask(proxied: Proxy, **more: Any) -> RecordedResponse:
    return proxied.call({**STREAMED, **more}, path=KEPT)


def said(response: RecordedResponse) -> tuple[str, str | None]:
    return response.headers["x-cache"], response.headers.get("x-cache-reason")


class Clock:
    """A clock that pauses move, and what was to happen at certain moments."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept = 0.0
        self.plans: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds
        due = [plan for plan in self.plans if plan[0] <= self.now]
        self.plans = [plan for plan in self.plans if plan not in due]
        for _, happen in due:
            happen()


def lease(until: float, owner: str, stored_soon: str = "") -> dict[str, Any]:
    item: dict[str, Any] = {"owner": {"S": owner}, "lease_until": {"N": str(int(until * 1000))}}
    return item | ({"stored_soon": {"S": stored_soon}} if stored_soon else {})


def answer_of_another(cached: Caches, clock: Clock) -> tuple[str, dict[str, Any]]:
    """An answer as another sandbox would store it now, under its key; the table is empty again."""
    ask(cached.proxy(clock=clock))
    [(key, item)] = cached.table.answers.items()
    cached.table.items.clear()
    cached.table.calls.clear()
    return key, item


# ------------------------------------------------------------------------------------------- who need not wait does not


def leave(_: Caches) -> None:
    """Nothing happens to the answer."""


def lose(cached: Caches) -> None:
    """The answer is deleted, and by nobody who knows of leases."""
    cached.table.items = {key: item for key, item in cached.table.items.items() if key.startswith("lease#")}


def erase(cached: Caches) -> None:
    """As `cache erase` and `cache flush` delete an answer."""
    [key] = cached.table.answers
    for each in (key, *lease_keys_of(key)):
        cached.table.items.pop(each, None)


def damage(cached: Caches) -> None:
    cached.table.answer["timing"] = {"S": "[[0,Infinity]]"}


def misplace(cached: Caches) -> None:
    cached.table.answer["digest"] = {"S": "0" * 64}


AT_ONCE: list[tuple[str, Callable[[Caches], None], float, dict[str, str], dict[str, str], str, list[str]]] = [
    ("too old", leave, 4.0, {"cache-control": "max-age=3"}, {}, "too_old", ["get"]),
    ("older than the key allows", leave, 4.0, {}, {"cache": "on:3:"}, "expired", ["get"]),
    ("over for all", leave, 61.0, {}, {}, "expired", ["get", "put", "put"]),
    ("erased at once", erase, 0.0, {}, {}, "not_found", ["get", "put", "put"]),
    ("erased", erase, 1.5, {}, {}, "not_found", ["get", "put", "put"]),
    ("lost", lose, 2.1, {}, {}, "not_found", ["get", "put", "put"]),
    ("damaged", damage, 0.5, {}, {}, "unreadable", ["get"]),
    ("of another request", misplace, 0.5, {}, {}, "digest", ["get"]),
    ("asked for anew", leave, 0.5, {"cache-control": "no-cache"}, {}, "no_cache", []),
    ("wanted very young", erase, 0.5, {"cache-control": "max-age=1"}, {}, "not_found", ["get"]),
]


@pytest.mark.parametrize(
    ("happen", "later", "headers", "allowed", "reason", "calls"),
    [case[1:] for case in AT_ONCE],
    ids=[case[0] for case in AT_ONCE],
)
def test_after_a_success_a_miss_goes_to_the_server_at_once(
    happen: Callable[[Caches], None],
    later: float,
    headers: dict[str, str],
    allowed: dict[str, str],
    reason: str,
    calls: list[str],
) -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        ask(cached.proxy(PATIENT, clock=clock, sleep=clock.sleep))
        assert cached.table.calls == ["get", "put", "put"], "the last one says that the answer is stored soon"
        happen(cached)
        clock.now += later
        cached.table.calls.clear()
        second = cached.proxy(PATIENT, clock=clock, sleep=clock.sleep, **allowed)
        response = second.call(STREAMED, path=KEPT, headers=headers)
    assert response.body == STREAM
    assert response.headers["x-cache-reason"] == reason
    assert cached.table.calls == calls, "before the answer one read and one write at the most"
    assert clock.slept == 0


@pytest.mark.parametrize("ttl", [1, 2, 3, 10, 29])
def test_a_short_life_makes_nobody_wait(ttl: int) -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        proxied = cached.proxy(PATIENT, clock=clock, sleep=clock.sleep, cache=f"on:{ttl}:")
        for _ in range(3):
            assert said(ask(proxied))[0] == "MISS"
            clock.now += ttl
    assert clock.slept == 0


def test_another_form_that_cannot_be_told_is_not_waited_for() -> None:
    clock, path = Clock(), "/kept/v1/responses"
    answer = b'{"object": "response", "status": "completed", "id": "r", "output": []}'
    with caches(lambda connection, _: connection.answer(answer)) as cached:
        one, other = (cached.proxy(PATIENT, clock=clock, sleep=clock.sleep) for _ in range(2))
        body = {"input": "a", "temperature": 0, "store": False}
        one.call(body, path=path)
        response = other.call({**body, "stream": True}, path=path)
        assert said(response) == ("MISS", "form")
        [(key, _)] = cached.table.answers.items()
        cached.table.items = {f"lease#{key}#document": lease(clock.now + 30, "another")}
        assert said(other.call({**body, "stream": True}, path=path)) == ("MISS", "not_found")
    assert clock.slept == 0


def test_an_object_that_cannot_be_read_is_not_waited_for_and_its_bucket_rests() -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        proxied = cached.proxy(PATIENT, clock=clock, sleep=clock.sleep)
        ask(proxied)
        item = cached.table.answer
        body = item.pop("body")

        def point() -> None:
            item["object"] = {"S": "captured/a/01M83WG2WWY5ZPAS4GM821024C"}
            item.pop("body", None)
            [key] = cached.table.answers
            cached.table.items[key] = item

        assert body
        cached.bucket.failure = AwsError("s3:GetObject", "upstream_timeout")
        for seconds, calls in ((0.0, 1), (1.0, 1), (3.9, 1), (0.2, 2)):
            clock.now += seconds
            point()
            assert said(ask(proxied)) == ("MISS", "object")
            assert cached.bucket.calls.count("get") == calls
        clock.now, cached.bucket.failure = clock.now + 6, None
        for calls in (3, 4):
            point()
            assert said(ask(proxied)) == ("MISS", "object")
            assert cached.bucket.calls.count("get") == calls, "a bucket without the object is a bucket that answers"
    assert clock.slept == 0


# ---------------------------------------------------------------------------------------------- who waits, for how long


def test_who_comes_just_before_the_answer_is_stored_finds_it() -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        key, item = answer_of_another(cached, clock)
        cached.bus.stores = False
        ask(cached.proxy(PATIENT, clock=clock, sleep=clock.sleep))
        stored_soon = cached.table.items[f"lease#{key}"]["stored_soon"]
        clock.plans = [(1001.0, lambda: cached.table.items.update({key: item | {"event_id": stored_soon}}))]
        cached.table.calls.clear()
        response = ask(cached.proxy(PATIENT, clock=clock, sleep=clock.sleep))
    assert said(response) == ("HIT", "waited")
    assert clock.slept <= 2.0
    assert cached.table.calls.count("get") == 2, "the whole item is read when it is there"
    assert len(cached.table.calls) < 10


def test_an_answer_that_is_not_stored_is_waited_for_no_longer_than_a_moment() -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        cached.bus.stores = False
        for _ in range(2):
            ask(cached.proxy(PATIENT, clock=clock, sleep=clock.sleep))
    assert clock.slept == pytest.approx(2.0)
    assert cached.bus.uses == [("MISS", "not_found")] * 2


def test_an_old_answer_is_not_taken_for_the_new_one() -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        key, old = answer_of_another(cached, clock)
        clock.now = 1060.0
        new = old | {
            "event_id": {"S": new_ulid(clock.now + 3)},
            "created_at": {"N": "1060"},
            "expires_at": {"N": "1120"},
        }
        cached.table.items = {key: old, f"lease#{key}": lease(1090, "another")}
        clock.plans = [
            (1063, lambda: cached.table.items.update({f"lease#{key}": lease(1067, "another", new["event_id"]["S"])})),
            (1065, lambda: cached.table.items.update({key: new})),
        ]
        response = ask(cached.proxy(PATIENT, clock=clock, sleep=clock.sleep))
    assert said(response) == ("HIT", "waited")
    assert cached.table.calls.count("get") == 2


def test_a_slow_server_is_called_once_if_its_owner_says_so() -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        key, item = answer_of_another(cached, clock)
        begun = clock.now
        cached.table.items = {f"lease#{key}": lease(begun + 200, "another")}

        def publish() -> None:
            soon = lease(clock.now + 2, "another", item["event_id"]["S"])
            cached.table.items |= {key: item, f"lease#{key}": soon}

        clock.plans = [(begun + 40, publish)]
        asked = len(cached.server.received)
        response = cached.proxy(Settings(wait=300), clock=clock, sleep=clock.sleep).call(
            STREAMED, path=KEPT, seconds=900
        )
        assert len(cached.server.received) == asked
    assert said(response) == ("HIT", "waited")
    assert clock.now - begun <= 50
    assert cached.table.calls.count("get") == 2


@pytest.mark.parametrize(
    ("settings", "longest"),
    [
        (Settings(wait=5), 5),
        (Settings(wait=300), 300),
        (Settings(wait=300, first_byte=20), 20),
        (Settings(wait=0), 0),
    ],
)
def test_nobody_is_waited_for_longer_than_a_server_is(settings: Settings, longest: float) -> None:
    clock = Clock(float(int(time.time())))
    with caches(ANSWERING) as cached:
        key, _ = answer_of_another(cached, clock)
        cached.table.items = {f"lease#{key}": lease(clock.now + 990, "another")}
        response = cached.proxy(settings, clock=clock, sleep=clock.sleep).call(STREAMED, path=KEPT, seconds=900)
    assert clock.slept == pytest.approx(longest, abs=0.01)
    assert said(response) == ("MISS", "waited" if longest else "not_found")
    assert cached.table.calls.count("get") == 1


@pytest.mark.parametrize(("wait", "seconds", "lasts"), [(5, 900, 30), (300, 900, 300), (300, 100, 97), (5, 10, 8)])
def test_a_lease_lasts_as_long_as_others_wait_and_no_longer_than_its_owner(
    wait: int, seconds: int, lasts: float
) -> None:
    clock = Clock(time.time())
    with caches(ANSWERING) as cached:
        proxied = cached.proxy(Settings(wait=wait), clock=clock, sleep=clock.sleep)
        leases = noted_leases(cached)
        proxied.call(STREAMED, path=KEPT, seconds=seconds)
    taken, resting = (int(item["lease_until"]["N"]) / 1000 - clock.now for item in leases)
    assert taken == pytest.approx(lasts, abs=2)
    assert resting == pytest.approx(2.0, abs=0.01)


def noted_leases(cached: Caches) -> list[dict[str, Any]]:
    """The leases that are put from now on."""
    leases = list[dict[str, Any]]()
    put = cached.table.put_item

    def noted(arguments: dict[str, Any], timeout: float) -> tuple[bool, dict[str, Any] | None]:
        leases.append(arguments["Item"])
        return put(arguments, timeout)

    cached.table.put_item = noted
    return leases


def test_a_leader_that_dies_holds_nobody_up_beyond_its_lease() -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        key, _ = answer_of_another(cached, clock)
        cached.table.items = {f"lease#{key}": lease(clock.now + 10, "the dead")}
        waited = ask(cached.proxy(Settings(wait=5.0), clock=clock, sleep=clock.sleep))
        assert clock.slept == pytest.approx(5.0)
        assert said(waited) == ("MISS", "waited")
        cached.table.items = {f"lease#{key}": lease(clock.now + 5, "the dead")}
        took_over = ask(cached.proxy(PATIENT, clock=clock, sleep=clock.sleep))
        assert 10 <= clock.slept <= 12
        assert said(took_over) == ("MISS", "not_found")


def test_when_nothing_comes_of_two_the_others_go_at_once() -> None:
    clock = Clock()
    with caches(streaming(REFUSED, DONE)) as cached:
        leases = noted_leases(cached)
        ask(cached.proxy(PATIENT, clock=clock))
        key = leases[0]["cache_key"]["S"]
        assert cached.table.items == {}

        def next_leader(number: int) -> Callable[[], None]:
            return lambda: cached.table.items.update({key: lease(clock.now + 30, f"leader {number}")})

        cached.table.items = {key: lease(clock.now + 30, "leader 0")}
        clock.plans = [(clock.now + 1.5 * number, next_leader(number)) for number in range(1, 12)]
        response = ask(cached.proxy(PATIENT, clock=clock, sleep=clock.sleep))
    assert said(response) == ("MISS", "waited")
    assert clock.slept < 6


# ------------------------------------------------------------------------------------------------ many, in real threads


class Gate:
    """A script that answers when it is let."""

    def __init__(self, *pieces: bytes) -> None:
        self._script: Script = streaming(*pieces)
        self.open = threading.Event()

    def __call__(self, connection: Connection, request: Received) -> None:
        assert self.open.wait(timeout=20), "nobody opened"
        self._script(connection, request)


def all_at_once(proxies: list[Proxy]) -> tuple[list[threading.Thread], list[RecordedResponse]]:
    responses: list[RecordedResponse] = []

    def respond(proxied: Proxy) -> None:
        responses.append(ask(proxied))

    threads = [threading.Thread(target=respond, args=(each,), daemon=True) for each in proxies]
    for thread in threads:
        thread.start()
    return threads, responses


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_of_identical_requests_at_once_one_asks_the_server() -> None:
    gate = Gate(*CONTENT, USAGE_CHUNK, DONE)
    with caches(gate) as cached:
        threads, responses = all_at_once([cached.proxy(PATIENT) for _ in range(6)])
        until(lambda: cached.table.calls.count("put") == 6)
        gate.open.set()
        for thread in threads:
            thread.join(timeout=20)
        assert len(cached.server.received) == 1
    assert [response.body for response in responses] == [STREAM] * 6
    assert sorted(cached.bus.uses, key=str) == [("HIT", "waited")] * 5 + [("MISS", "not_found")]
    assert cached.table.calls.count("get") == 11, "each looks once; who waited reads the answer once more"


def test_waiting_for_another_request_is_waiting_for_a_server() -> None:
    gate = Gate(*CONTENT, USAGE_CHUNK, DONE)
    with caches(gate) as cached:
        threads, _ = all_at_once([cached.proxy(PATIENT), cached.proxy(PATIENT)])
        until(lambda: "get lease" in cached.table.calls)
        gate.open.set()
        for thread in threads:
            thread.join(timeout=20)
    [hit] = [data for _, data in cached.bus.terminal if data["cache"]["status"] == "HIT"]
    assert hit["timings"]["upstream"] >= 0.1, "it had looked in vain once and pauses before it looks again"


def test_when_nothing_comes_of_the_first_the_next_takes_over() -> None:
    gate = Gate(REFUSED, DONE)
    with caches(gate) as cached:
        threads, responses = all_at_once([cached.proxy(PATIENT) for _ in range(3)])
        until(lambda: cached.table.calls.count("put") == 3)
        gate.open.set()
        for thread in threads:
            thread.join(timeout=20)
        assert len(cached.server.received) == 3, "no answer was kept, so each has to ask"
    assert [response.body for response in responses] == [REFUSED + DONE] * 3
    assert cached.table.items == {}


# --------------------------------------------------------------------------------------------------- leases that suffer


def test_who_waited_gives_back_no_lease_of_somebody_else() -> None:
    scripts = iter([ANSWERING, streaming(sse("x", "content_filter"), DONE)])

    def script(connection: Connection, request: Received) -> None:
        next(scripts)(connection, request)

    clock = Clock()
    with caches(script) as cached:
        key, _ = answer_of_another(cached, clock)
        others = {f"lease#{key}": lease(clock.now + 60, "another")}
        cached.table.items = dict(others)
        ask(cached.proxy(Settings(wait=0.05), clock=clock, sleep=clock.sleep))
    assert cached.bus.uses[1] == ("MISS", "waited")
    assert cached.table.items == others


@pytest.mark.parametrize(
    "damaged",
    [
        {"owner": {"S": "x"}},
        {"owner": {"S": "x"}, "lease_until": {"S": "1"}},
        {"owner": {"N": "1"}, "lease_until": {"N": "99999999999999999999"}},
    ],
    ids=json.dumps,
)
def test_a_damaged_lease_holds_up_nobody(damaged: dict[str, Any]) -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        key, _ = answer_of_another(cached, clock)
        cached.table.items = {f"lease#{key}": damaged}
        assert said(ask(cached.proxy(PATIENT, clock=clock, sleep=clock.sleep))) == ("MISS", "not_found")
    assert clock.slept == 0


def test_an_answer_that_is_there_and_will_not_do_is_looked_at_once() -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        key, old = answer_of_another(cached, clock)
        clock.now = 1060.0
        cached.table.items = {key: old, f"lease#{key}": lease(1062, "another", "0" * 26)}
        response = ask(cached.proxy(PATIENT, clock=clock, sleep=clock.sleep))
    assert said(response) == ("MISS", "expired")
    assert cached.table.calls.count("get") == 2
    assert clock.slept <= 0.5


def test_a_table_that_fails_while_one_waits_lets_the_request_go_on() -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        key, _ = answer_of_another(cached, clock)
        cached.table.items = {f"lease#{key}": lease(clock.now + 60, "another")}

        def fail() -> None:
            cached.table.failure = AwsError("dynamodb:GetItem", "SilenceError: nothing came")

        clock.plans = [(clock.now, fail)]
        response = ask(cached.proxy(PATIENT, clock=clock, sleep=clock.sleep))
    assert response.body == STREAM
    assert said(response) == ("BYPASS", "table_error")


def test_a_lease_that_was_taken_though_its_answer_was_lost_is_given_back() -> None:
    clock = Clock()
    with caches(ANSWERING) as cached:
        cached.table.lost = AwsError("dynamodb", "SilenceError: nothing came")
        response = ask(cached.proxy(PATIENT, clock=clock, sleep=clock.sleep))
        assert cached.table.calls == ["get", "put", "delete"]
    assert said(response) == ("BYPASS", "table_error")
    assert cached.bus.captured == [], "a request that passes by keeps nothing"
    assert cached.table.items == {}
