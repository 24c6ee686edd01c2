"""Who waits for another request's answer looks a few times only, and waits hardly longer than it takes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events.envelope import Event
from openai_proxy.events.ulid import new_ulid
from proxy.aws.client import AwsError
from proxy.cache.capture import Capture
from proxy.cache.fill import CacheFill, Wanted
from proxy.cache.key import Keys
from proxy.cache.leases import Leases, Turn, pause_after
from proxy.cache.policy import Policy
from proxy.cache.table import CacheTable, Lease

from tests.caches import FakeTable

KEY = "k" * 64
STORED = 1.0
"""Seconds until a published answer is in the table, as measured."""


class Sandboxes:
    """Any number of sandboxes with one table, and one clock that pauses move."""

    def __init__(self) -> None:
        self.now = 2000.0
        self.table = FakeTable()
        self._plans: list[tuple[float, Callable[[], object]]] = []

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0, "the real one raises an exception"
        until = self.now + seconds
        for at, happen in sorted(self._plans, key=lambda plan: plan[0]):
            if at <= until:
                self.now = max(self.now, at)
                happen()
        self._plans = [plan for plan in self._plans if plan[0] > until]
        self.now = until

    def leases(self) -> Leases:
        """Those of another sandbox."""
        services: Any = self.table
        return Leases(CacheTable(services, "cache"), lambda: self.now, self.sleep)

    def fetch(self, leases: Leases, seconds: float, wanted: CacheFill | None = None) -> float:
        """Begin to fetch an answer in `seconds`: when it will be in the table."""
        wanted, event_id = wanted or fill(), new_ulid(self.now + seconds)
        since = self.now
        assert leases.take(wanted, "leader", 300, since + 900) == Turn(since)
        data: Any = {"expires_at": self.now + 3600}
        event = Event("ResponseCaptured", event_id, "", "", "", data)
        stored: dict[str, Any] = {"cache_key": {"S": KEY}, "event_id": {"S": event_id}}
        ready = self.now + seconds + STORED
        self._plans.append((self.now + seconds, lambda: leases.published(wanted, since, "leader", event)))
        self._plans.append((ready, lambda: self.table.items.update({KEY: stored})))
        return ready

    def has_answer_after_waiting(self, leases: Leases) -> bool:
        """Wait for it, as one who has read the table before: whether it is there then.

        If that took long, the lease is over as it should be, and the item is read without another look.
        """
        self.table.calls.clear()
        turn = leases.take(fill(), "waiter", 300, self.now + 900)
        assert turn.held
        seen, leaders = leases.wait(fill(), turn.held, self.now + 300, frozenset())
        assert (seen in ("stored", "over"), leaders) == (True, {"leader"})
        return KEY in self.table.items


def fill(**fields: Any) -> CacheFill:
    policy = Policy("client:a", 3600, any_temperature=False)
    wanted = Wanted("/chat/completions", "openai", fields, is_stream=True)
    return CacheFill(Keys(KEY, KEY), policy, wanted, Capture(1), lease=KEY)


@pytest.mark.parametrize(
    ("seconds", "reads", "longer"), [(0.3, 1, 0.3), (2, 3, 0.3), (7, 5, 1.0), (40, 11, 5.0), (120, 16, 30.0)]
)
def test_a_wait_of_unknown_length_is_a_few_reads(seconds: float, reads: int, longer: float) -> None:
    cached = Sandboxes()
    ready = cached.fetch(cached.leases(), seconds)

    assert cached.has_answer_after_waiting(cached.leases())

    calls = cached.table.calls
    assert (calls.count("put"), calls.count("get lease")) == (2, reads), "one attempt to take it, one by who published"
    assert calls.count("look") <= 3
    assert "get" not in calls, "while one waits, the whole item is not read"
    assert cached.now - ready <= longer


@pytest.mark.parametrize("usual", [0.2, 1.0, 7.0, 40.0, 120.0])
@pytest.mark.parametrize(("share", "reads"), [(0.2, 1), (0.6, 2), (1.0, 3), (1.1, 4), (1.5, 7), (2.0, 8)])
@pytest.mark.parametrize("later", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("who_knows", ["leader", "waiter"])
def test_where_it_is_known_how_long_it_takes_the_reads_are_fewer(
    usual: float, share: float, reads: int, later: float, who_knows: str
) -> None:
    cached = Sandboxes()
    leader, waiter = cached.leases(), cached.leases()
    knowing = leader if who_knows == "leader" else waiter
    cached.fetch(knowing, usual)
    cached.sleep(usual + 5)
    cached.table.items.clear()

    ready = cached.fetch(leader, usual * share)
    cached.sleep(usual * share * later)

    assert cached.has_answer_after_waiting(waiter)
    assert cached.table.calls.count("get lease") <= reads
    assert cached.table.calls.count("look") <= 3
    assert cached.now - ready <= max(0.5, usual * 0.4)


def test_who_comes_when_the_answer_is_published_asks_for_no_lease() -> None:
    cached = Sandboxes()
    ready = cached.fetch(cached.leases(), 3)
    cached.sleep(3.4)

    assert cached.has_answer_after_waiting(cached.leases())
    assert cached.table.calls == ["put", "look", "look", "look"]
    assert cached.now - ready <= 0.3


class SlowTable(FakeTable):
    """A table of which each call takes a while."""

    def __init__(self, pass_time: Callable[[], None]) -> None:
        super().__init__()
        self._pass_time = pass_time

    def get_item(self, arguments: dict[str, Any], _timeout: float) -> dict[str, Any]:
        found = super().get_item(arguments, _timeout)
        self._pass_time()
        return found

    def put_item(self, arguments: dict[str, Any], timeout: float) -> tuple[bool, dict[str, Any] | None]:
        put = super().put_item(arguments, timeout)
        self._pass_time()
        return put


@pytest.mark.parametrize("call", [0.0, 0.01, 0.1, 0.5])
@given(left=st.floats(0.001, 1.0), patience=st.floats(0, 2))
def test_the_lease_of_who_died_may_end_while_it_is_read(call: float, left: float, patience: float) -> None:
    cached = Sandboxes()

    def pass_time() -> None:
        cached.now += call

    cached.table = SlowTable(pass_time)
    services: Any = cached.table
    dead = Lease("the dead", cached.now + left + call, cached.now)
    assert CacheTable(services, "cache").take_lease(KEY, dead, cached.now) is None
    came, leases = cached.now, cached.leases()

    if lease := leases.take(fill(), "waiter", 5, cached.now + 900).held:
        assert leases.wait(fill(), lease, cached.now + patience, frozenset())[0] in ("over", "in_vain")
        assert cached.now - came <= patience + 2 * call + 0.1


def usual_of(cached: Sandboxes) -> float:
    """What the lease that was taken last says."""
    return int(cached.table.items[f"lease#{KEY}"]["usual"]["N"]) / 1000


def test_a_sandbox_learns_how_long_answers_of_a_kind_take() -> None:
    cached = Sandboxes()
    leases, said = cached.leases(), list[float]()
    kinds = [fill(model="slow"), fill(model="fast"), fill(model=["slow"]), fill(model="x" * 10**6)]
    for wanted, seconds in (
        [*zip(kinds, (8, 1, 3, 4), strict=True)] * 2 + [(kinds[0], 5), (kinds[0], 10)] + [(kinds[0], 1)]
    ):
        cached.fetch(leases, seconds, wanted)
        said.append(usual_of(cached))
        cached.sleep(seconds + 5)
    assert said == [0, 0, 0, 0, 8, 1, 3, 4, 8, 7, 8], "a third of the way to the last one"
    for number in range(100):
        cached.fetch(leases, 1, fill(model=f"model {number}"))
        cached.sleep(6)
    cached.fetch(leases, 1, kinds[0])
    assert usual_of(cached) == 0, "what many others followed on is forgotten"


def test_who_has_waited_knows_how_long_it_took() -> None:
    cached = Sandboxes()
    leases = cached.leases()
    cached.fetch(cached.leases(), 12)
    assert cached.has_answer_after_waiting(leases)
    cached.sleep(5)
    cached.fetch(leases, 1)
    assert usual_of(cached) == 12


def test_of_a_lease_of_whom_nothing_is_told_more_is_read_in_a_moment() -> None:
    cached = Sandboxes()
    leases, ready = cached.leases(), cached.fetch(cached.leases(), 0.4)
    seen, leaders = leases.wait(fill(), Lease("", float("inf")), cached.now + 300, frozenset())
    assert (seen, leaders) == ("stored", {"leader"})
    assert cached.table.calls.count("get lease") == 1
    assert cached.now - ready <= 0.3


@given(passed=st.floats(0, 1000), usual=st.floats(0, 1000))
def test_a_pause_is_a_share_of_what_it_takes(passed: float, usual: float) -> None:
    assert 0.5 <= pause_after(passed, usual) <= max(5, usual / 2, passed / 4)


@given(usual=st.floats(0, 900), takes=st.floats(0, 900), offset=st.floats(-5, 5))
def test_reads_are_few_and_the_answer_is_had_soon(usual: float, takes: float, offset: float) -> None:
    """Whatever is known, and however far the clocks of two sandboxes are apart."""
    passed, reads = 0.0, 0
    while passed < takes:
        passed += pause_after(passed + offset, usual)
        reads += 1
    assert reads <= 28
    assert passed - takes <= max(6.5, usual / 2 + 5, takes / 3 + 2)


def test_nobody_waits_for_a_third_leader() -> None:
    cached, leaders = Sandboxes(), frozenset[str]()
    leases, told = cached.leases(), list[tuple[str, int]]()
    for owner in ("a", "", "a", "b", "", "a", "c", "a"):
        lease = Lease(owner, cached.now + 30, cached.now)
        seen, leaders = leases.wait(fill(), lease, cached.now + 300, leaders)
        told.append((seen, len(leaders)))
    assert told == [*[("over", 1)] * 3, *[("over", 2)] * 3, *[("in_vain", 3)] * 2], "nobody is no leader"


def test_who_may_fetch_leads_and_who_has_to_wait_does_not() -> None:
    cached = Sandboxes()
    assert cached.leases().take(fill(), "leader", 300, cached.now + 900) == Turn(cached.now)
    turn = cached.leases().take(fill(), "waiter", 300, cached.now + 900)
    assert (turn.since, turn.held and turn.held.owner, turn.failure) == (None, "leader", None)


def test_where_the_table_does_not_say_the_lease_may_be_ones_own() -> None:
    cached = Sandboxes()
    cached.table.failure = AwsError("dynamodb:PutItem", "no answer")
    assert cached.leases().take(fill(), "leader", 300, cached.now + 900) == Turn(
        cached.now, failure=cached.table.failure
    )


@pytest.mark.parametrize(
    ("wait", "left", "seconds"),
    [
        (5, 900, 30),
        (30.5, 900, 30.5),
        (300, 900, 300),
        (300, 40, 40),
        (5, 29.5, 29.5),
        (5, 1.5, 1.5),
        (5, 1.0, 1.0),
        (5, 0.5, 1.0),
        (5, -3, 1.0),
    ],
)
def test_a_lease_is_as_long_as_others_wait_and_its_owner_lives_but_no_moment_only(
    wait: float, left: float, seconds: float
) -> None:
    cached = Sandboxes()
    assert cached.leases().take(fill(), "leader", wait, cached.now + left) == Turn(cached.now)
    assert cached.table.items[f"lease#{KEY}"]["lease_until"] == {"N": str(int((cached.now + seconds) * 1000))}


def test_a_lease_that_is_not_given_back_is_said_so_and_fails_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    cached = Sandboxes()
    cached.table.failure = AwsError("dynamodb:PutItem", "ThrottlingException", "busy")
    data: Any = {"expires_at": cached.now + 3600}
    cached.leases().published(fill(), cached.now, "leader", Event("ResponseCaptured", "id", "", "", "", data))
    cached.leases().give_back(fill(), "leader")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = {"level": "WARN", "message": "A lease was not given back: it will end", "reason": str(cached.table.failure)}
    assert [{name: line[name] for name in said} for line in lines] == [said] * 2
