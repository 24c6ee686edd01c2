"""A key's limits and its team's: taken together or not at all, each given back and settled once, whatever happens."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.dynamodb import from_attribute
from openai_proxy.events.envelope import Event, rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Leased, bucket_day
from openai_proxy.usage import Usage
from proxy.errors import LimitError
from proxy.limits.refused import limit_error
from proxy.limits.renewal import Renewals
from proxy.limits.reservation import Reservation
from proxy.limits.table import LimitsTable
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from settle_limits.consumer import SettleLimits
from settle_limits.price_hints import PriceHints
from settle_limits.table import LimitsTable as SettlingTable

from tests.fakes import envelope_of
from tests.limits.machine import FAR, LOGGER, PATIENT, PRICES, Crash, Crashing
from tests.limits.table import AsBoto3, LimitsItems, access_to
from tests.tables import failures

NOON = 4_099_118_400
USED = Usage(5, 3, source="reported")
COST = Decimal("0.00035")
"""Of a request with 5 tokens and an answer of 3."""
BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}


def of_team(**limits: Any) -> Limits:
    return Limits("team.web", **limits, team="web")


@dataclass
class Bus:
    """Keeps what is told."""

    told: list[Any] = field(default_factory=list[Any])

    def publish(self, event: Event[Any, Any]) -> None:
        self.told.append(event.data)


@dataclass(eq=False)
class Running:
    """A request that was let through, and the sandbox that it runs in."""

    id: str
    limits: Limits
    taken: Reservation
    services: Any
    proxy: LimitsTable


@dataclass
class World:
    """Sandboxes, one table, and the consumer."""

    policy: Any = "open"
    now: int = NOON
    table: LimitsItems = field(default_factory=LimitsItems)
    bus: Bus = field(default_factory=Bus)
    running: list[Running] = field(default_factory=list[Running])
    events: list[Event[Any, Any]] = field(default_factory=list[Event[Any, Any]])

    def __post_init__(self) -> None:
        values = {"input": {"N": "0.00001"}, "output": {"N": "0.0001"}, "answer": {"N": "3"}}
        self.table.items["price#up#m"] = {"pk": {"S": "price#up#m"}, **values}
        self.boto3 = AsBoto3(self.table)
        self.settling: Any = Crashing(self.boto3)
        table = SettlingTable(self.settling, "limits", lambda _: None, lambda: self.now)
        hints = PriceHints(lambda _: None, lambda _: None, LOGGER, lambda: self.now)
        self.consumer = SettleLimits(PRICES, table, self.bus, hints, LOGGER, lambda: self.now)

    def sandbox(self) -> tuple[Any, LimitsTable]:
        services: Any = Crashing(self.table)
        renewals = Renewals(services, "limits", 1.0, lambda: self.now, lambda _: None)
        return services, LimitsTable(
            access_to(services, lambda: self.now),
            self.policy,
            renewals=lambda: renewals,
        )

    def take(
        self,
        limits: Limits,
        faults: list[str] | None = None,
        crash: int | None = None,
        before: Sequence[Callable[[], object]] = (),
    ) -> Reservation | None:
        """One request takes; `before` each of its calls something else happens."""
        services, proxy = self.sandbox()
        services.before = list(before)
        inference_id = new_ulid(self.now)
        request = InferenceRequest("function_url", "POST", "/", "", {}, json.dumps(BODY).encode(), None)
        body = RequestBody(request, Target("up", "/chat/completions"))
        services.left = crash
        every = (limits, limits.shared) if limits.shared else (limits,)
        is_read = any(each.has_budget for each in every)
        self.table.faults = ["ok"] * is_read + list(faults or ())
        taken = None
        with suppress(Crash):
            taken = proxy.take(limits, inference_id, body, [PATIENT], self.now + 900.0)
        self.table.faults, services.left = [], None
        if taken is None:
            return None
        if taken.refused is None:
            self.running.append(Running(inference_id, limits, taken, services, proxy))
        else:
            self.publish(inference_id, taken, Usage(source="none"))
        return taken

    def end(self, request: Running, faults: list[str] | None = None, crash: int | None = None) -> None:
        self.running.remove(request)
        self.table.faults, request.services.left = list(faults or ()), crash
        with suppress(Crash):
            self.publish(request.id, request.proxy.release(request.taken, USED, FAR), USED)
        self.table.faults = []

    def publish(self, inference_id: str, taken: Reservation, usage: Usage) -> None:
        team = taken.of("web")
        data: dict[str, Any] = {
            "client": {"key_id": "k", "name": "", "owner": None, "tags": {}},
            "limits": own.to_event() if (own := taken.of("")) else None,
            "team": {"name": "web", "limits": team.to_event() if team else None},
            "server": {"name": "up"},
            "request": {"model": "m"},
            "response": {"model": "m", "finish_reasons": ["stop"]},
            "usage": usage.to_event(),
            "cache": {"status": "BYPASS"},
            "end_user": "ada",
        }
        self.events.append(Event("InferenceCompleted", inference_id, rfc3339(self.now), inference_id, "client", data))

    def settle(self, events: list[Event[Any, Any]], faults: list[str] | None = None, crash: int | None = None) -> None:
        bodies = [json.dumps(envelope_of(event.to_entry("bus"))) for event in events]
        records = [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]
        self.boto3.faults, self.settling.left = list(faults or ()), crash
        with suppress(Crash):
            assert failures(self.consumer({"Records": records})) == []
        self.boto3.faults, self.settling.left = [], None

    def counter(self, limits_id: str) -> dict[str, Any]:
        return {name: from_attribute(value) for name, value in self.table.items.get(f"limits#{limits_id}", {}).items()}

    def leases(self, limits_id: str) -> set[str]:
        return {name for place in ("live", "took") for name in self.counter(limits_id).get(place, {})}

    def check(self, *every: Limits) -> None:
        """The laws of each counter."""
        for limits in every:
            counter = self.counter(limits.id)
            held: list[Decimal] = [
                lease["cost"] for lease in counter.get("live", {}).values() if isinstance(lease, dict)
            ]
            held += [value for name, value in counter.items() if bucket_day(name)]
            for period, budget in limits.budgets.items():
                if counter.get(period):
                    assert counter[f"{period}_cost"] == counter[f"{period}_spent"] + sum(held, Decimal(0))
                    reserved = counter[f"{period}_cost"] - counter[f"{period}_spent"]
                    assert reserved <= 0 or counter[f"{period}_cost"] <= max(budget, counter[f"{period}_spent"]) + COST
            if limits.parallel is not None:
                ends = [end_of(each) for each in counter.get("live", {}).values()]
                assert sum(end >= self.now for end in ends) <= limits.parallel
            if limits.rpm is not None and counter:
                assert counter["requests"] <= limits.rpm


def end_of(lease: Any) -> int:
    return Leased.of(lease).end


def source_of(taken: Reservation | None) -> str | None:
    assert taken
    return taken.refused.source if isinstance(taken.refused, LimitError) else None


ROOMY = Limits("k", rpm=50, tpm=10_000, parallel=9, budget_day=Decimal(5))
TEAM = of_team(rpm=60, tpm=20_000, parallel=10, budget_week=Decimal(9), budget_total=Decimal(20))
BOTH = ROOMY._replace(shared=TEAM)


def test_one_transaction_takes_of_both_and_one_update_where_there_is_one_alone() -> None:
    world = World()
    world.take(BOTH)
    del world.table.written[:]
    world.take(BOTH)
    assert world.table.written == ["limits#k", "limits#team.web"]
    for limits in (ROOMY, TEAM):
        del world.table.written[:]
        world.take(limits)
        assert world.table.written == [f"limits#{limits.id}"], "no more than ever"


LIMITED: dict[str, dict[str, Any]] = {
    "rpm": {"rpm": 2},
    "tpm": {"tpm": 16},
    "parallel": {"parallel": 2},
    "budget": {"budget_total": COST * 2},
    "budget_reserved": {"budget_day": COST * 2},
}


@pytest.mark.parametrize("kind", LIMITED)
@pytest.mark.parametrize("whose", ["key", "team"])
def test_whichever_has_no_room_refuses_and_is_named(kind: str, whose: str) -> None:
    narrow: Any = LIMITED[kind]
    own, team = (ROOMY._replace(**narrow), TEAM) if whose == "key" else (ROOMY, TEAM._replace(**narrow))
    world, both = World(), own._replace(shared=team)
    for _ in range(2):
        assert source_of(world.take(both)) is None
    if kind == "budget":
        for each in list(world.running):
            world.end(each)
        world.settle(world.events)
    before = world.leases(own.id), world.leases(team.id)
    refused = world.take(both)
    assert refused
    assert source_of(refused) == f"{whose}_{kind}"
    assert refused.refused
    assert ("team" in refused.refused.message) == (whose == "team")
    assert (world.leases(own.id), world.leases(team.id)) == before, "nothing was taken of either"
    assert refused.to_event()["reserved"] is None
    assert refused.team
    assert refused.team.to_event()["reserved"] is None
    world.check(own, team)


@pytest.mark.parametrize("whose", ["key", "team"])
def test_the_last_request_before_the_end_reserves_what_is_left_and_of_the_other_all_that_it_needs(whose: str) -> None:
    narrow: Any = {"budget_day": COST * 3 / 2}
    own, team = (ROOMY._replace(**narrow), TEAM) if whose == "key" else (ROOMY, TEAM._replace(**narrow))
    world, both = World(), own._replace(shared=team)
    taken = [world.take(both) for _ in range(3)]
    costs = [[part.share.cost if part.share else None for part in each.parts] for each in taken if each]
    left = [COST / 2, COST]
    assert costs == [[COST, COST], left if whose == "key" else left[::-1], [None, None]]
    assert [source_of(each) for each in taken] == [None, None, f"{whose}_budget_reserved"]
    world.check(own, team)


@pytest.mark.parametrize("narrow", ["key", "team", "key and team", ""])
@pytest.mark.parametrize("seconds", [0, 60], ids=["in a minute that goes on", "in a minute that begins"])
@pytest.mark.parametrize("calls", range(7))
def test_of_two_that_come_at_once_each_sees_the_other_whichever_call_it_comes_before(
    calls: int, seconds: int, narrow: str
) -> None:
    """One request more passes, of two. Where nothing is narrow both do, and neither is written anew for the other."""
    room = 1 + (seconds == 0)
    own = ROOMY._replace(rpm=room) if "key" in narrow else ROOMY
    team = TEAM._replace(rpm=room) if "team" in narrow else TEAM
    both, world, others = own._replace(shared=team), World(), list[Any]()
    world.take(both)
    world.now += seconds

    def comes() -> None:
        others.append(world.take(both))

    taken = world.take(both, before=[lambda: None] * calls + [comes])
    was_first = not others
    if was_first:
        comes()
    [other] = others
    assert taken
    first, last = (taken, other) if was_first else (other, taken)
    assert (first.refused, first.is_checked, last.is_checked) == (None, True, True)
    assert source_of(last) == (f"{narrow.partition(' ')[0]}_rpm" if narrow else None)
    passed = room if narrow else room + 1
    assert world.counter("k")["requests"] == world.counter("team.web")["requests"] == passed
    assert world.leases("k") == world.leases("team.web")
    left = min(each.rpm for each in (own, team) if each.rpm) - passed
    told = last.refused.headers if last.refused else last.headers
    assert told["x-ratelimit-remaining-requests"] in ({str(left)} if narrow else {str(left), str(left + 1)})
    world.check(own, team)


def test_whoever_has_signed_in_is_told_of_a_user_and_not_of_a_key() -> None:
    for limits, who in ((Limits("0123456789ab"), "client key"), (Limits("a" * 32), "user")):
        told = [
            limit_error(limits, source, 9, {}).message for source in ("key_rpm", "key_budget", "key_budget_reserved")
        ]
        assert told == [
            f"This {who} has reached its limit of requests a minute. Try again in 9 s.",
            f"The budget of this {who} is used up.",
            f"The rest of this {who}'s budget is reserved by requests that run. Try again in 9 s.",
        ]


def test_a_client_is_told_what_is_nearer() -> None:
    own = Limits("k", rpm=10, budget_total=Decimal(1))
    team = of_team(rpm=9, tpm=1000, budget_day=Decimal(5))
    taken = World().take(own._replace(shared=team))
    assert taken
    assert (taken.headers["x-ratelimit-limit-requests"], taken.headers["x-ratelimit-remaining-requests"]) == ("9", "8")
    assert taken.headers["x-ratelimit-limit-tokens"] == "1000"
    assert taken.headers["x-budget-remaining-usd"] == "1"
    assert "x-budget-reset" not in taken.headers
    poorer = World().take(own._replace(shared=team._replace(budget_day=Decimal("0.5"), rpm=11)))
    assert poorer
    assert poorer.headers["x-ratelimit-limit-requests"] == "10"
    assert poorer.headers["x-budget-remaining-usd"] == "0.5"
    assert poorer.headers["x-budget-reset"] == "43200s"


@pytest.mark.parametrize("fault", ["lost", "late", "TransactionConflict", "ThrottlingError", "ServiceUnavailable"])
@pytest.mark.parametrize("place", range(7))
def test_a_call_that_goes_wrong_once_counts_once_in_both(fault: str, place: int) -> None:
    world = World()
    world.take(BOTH)
    world.now += 60
    taken = world.take(BOTH, ["ok"] * place + [fault])
    assert taken
    assert (taken.refused, [each.is_checked for each in taken.parts]) == (None, [True, True])
    assert len(world.running) == 2
    assert world.counter("k")["requests"] == world.counter("team.web")["requests"] == 1
    world.check(ROOMY, TEAM)


MET = ["ok", "ok", "TransactionConflict"]
"""Both counters are read, and one of them is held when the transaction comes."""
RUNNING = 11


@pytest.mark.parametrize(("others", "met"), [(RUNNING, 3), (RUNNING - 1, 5), (0, 5)])
def test_a_team_for_which_transactions_wait_in_vain_is_divided_and_nobody_is_turned_away(others: int, met: int) -> None:
    world, team = World(), of_team(rpm=60, parallel=30)
    key = Limits("k", rpm=50, tpm=10_000, shared=team)
    for _ in range(others):
        world.take(key)
    world.take(key, MET * (met - 1))
    assert "divided" not in world.counter("team.web")
    taken = world.take(key, [*MET * met, "ok", "ok", "TransactionConflictException"])
    assert taken
    assert (taken.refused, [each.is_checked for each in taken.parts]) == (None, [True, True])
    assert world.counter("team.web")["divided"] == team.shards_if_busy
    assert world.counter("k")["requests"] == others + 2
    for each in list(world.running):
        world.end(each)
    while source_of(world.take(key)) is None:
        pass
    assert len(world.running) == team.parallel


def test_one_that_may_have_been_taken_already_is_not_taken_apart() -> None:
    world = World("closed")
    world.take(BOTH)
    taken = world.take(BOTH, ["ok", "ok", "lost", *MET * 4])
    assert taken
    assert (taken.is_checked, taken.refused.status if taken.refused else None) == (False, 503)
    assert "divided" not in world.counter("team.web")


@pytest.mark.parametrize("policy", ["open", "closed"])
@pytest.mark.parametrize(("fault", "is_outage"), [("lost", True), ("ValidationError", False), ("AccessDenied", False)])
def test_an_outage_follows_the_policy_and_a_fault_lets_nobody_in(fault: str, is_outage: bool, policy: str) -> None:
    world = World(policy)
    world.take(BOTH)
    taken = world.take(BOTH, ["ok", "ok", *[fault] * 20])
    assert taken
    assert not taken.is_checked
    assert taken.team
    assert not taken.team.is_checked
    assert (taken.refused is None) == (is_outage and policy == "open")
    assert taken.refused is None or taken.refused.status == 503


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("crash", range(9))
def test_a_sandbox_that_dies_between_two_calls_has_taken_both_or_neither_and_holds_nothing_for_long(
    crash: int, is_after: bool
) -> None:
    world = World()
    world.take(BOTH)
    world.now += 86400
    world.take(BOTH, crash=crash + is_after)
    assert (
        world.leases("k") == world.leases("team.web") or min(len(world.leases("k")), len(world.leases("team.web"))) < 2
    )
    world.running.clear()
    world.now += 31
    world.take(BOTH)
    world.check(ROOMY, TEAM)
    assert len(world.leases("k")) == len(world.leases("team.web")) == 1


@pytest.mark.parametrize("crash", [None, *range(8)])
@pytest.mark.parametrize("faults", [[], ["lost"], ["late"], ["lost"] * 12, ["ok", "late"], ["ok", *["late"] * 12]])
def test_what_ended_is_settled_once_in_both_however_often_it_comes(faults: list[str], crash: int | None) -> None:
    world = World()
    for _ in range(3):
        world.take(BOTH)
    for request in list(world.running):
        world.end(request, faults)
    world.settle(world.events, crash=crash)
    world.settle(world.events[:2] * 2, ["late"])
    world.settle(world.events)
    for limits_id, period in (("k", "day"), ("team.web", "week"), ("team.web", "total")):
        counter = world.counter(limits_id)
        assert counter[f"{period}_spent"] == counter[f"{period}_cost"] == 3 * COST
        assert counter["live"] == {}
    world.check(ROOMY, TEAM)


class InTurn:
    """A table whose calls come one after the other, as those of one item do, from however many threads."""

    def __init__(self, table: LimitsItems) -> None:
        self._table = table
        self._turn = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            with self._turn:
                return getattr(self._table, name)(*arguments, **named)

        return call


def test_of_a_thousand_requests_of_ten_users_as_many_pass_as_they_and_their_team_may() -> None:
    services: Any = InTurn(LimitsItems())
    users = [Limits(f"user.{number}", rpm=10, shared=of_team(rpm=50)) for number in range(10)]

    def ask(number: int) -> tuple[str, str | None]:
        limits = users[number % len(users)]
        request = InferenceRequest("function_url", "POST", "/", "", {}, json.dumps(BODY).encode(), None)
        proxy = LimitsTable(access_to(services, lambda: NOON), "closed")
        body = RequestBody(request, Target("up", "/chat/completions"))
        return limits.id, source_of(proxy.take(limits, new_ulid(NOON), body, [PATIENT], NOON + 900.0))

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(1000)))
    passed = Counter(user for user, source in answers if source is None)
    assert passed.total() == 50
    assert max(passed.values()) <= 10
    assert {source for _, source in answers} <= {None, "key_rpm", "team_rpm"}


def test_the_thresholds_of_a_team_are_told_as_its_own() -> None:
    team = of_team(budget_week=2 * COST)
    world = World()
    world.take(ROOMY._replace(shared=team))
    world.end(world.running[0])
    world.settle(world.events * 2)
    world.settle(world.events)
    assert [(each["team"], each["limits"], each["period"], each["threshold"]) for each in world.bus.told] == [
        ("web", {"id": "team.web"}, "week", 50)
    ]
    assert "end_user" not in world.bus.told[0], "whoever comes last does not own the team's budget"


def test_both_leases_are_renewed_until_the_request_ends() -> None:
    world = World()
    world.take(BOTH)
    request = world.running[0]
    for _ in range(4):
        world.now += 16
        renewals: Any = request.proxy._renewals  # pyright: ignore[reportPrivateUsage]
        renewals().look()
    ends = [end_of(*world.counter(limits_id)["live"].values()) for limits_id in ("k", "team.web")]
    assert ends == [world.now + 30] * 2
    world.end(request)
    assert not world.leases("k") | world.leases("team.web")


KINDS = {
    "rpm alone, of both": (Limits("k", rpm=3), of_team(rpm=5)),
    "rpm and money": (Limits("k", rpm=4), of_team(budget_total=COST * 9)),
    "money and places": (Limits("k", budget_day=COST * 7), of_team(parallel=3)),
    "all": (
        Limits("k", rpm=9, parallel=3, budget_day=COST * 9, budget_week=COST * 12),
        of_team(rpm=9, tpm=500, parallel=4, budget_month=COST * 20, budget_total=COST * 25),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_neither_overshoots_nor_leaks_whatever_happens(kind: str, seed: int) -> None:
    own, team = KINDS[kind]
    keys = [own._replace(shared=team), own._replace(id="l", shared=team), team]
    chance, world = random.Random(f"{kind} {seed}"), World()
    parts = own, own._replace(id="l"), team
    for _ in range(100):
        what = chance.random()
        faults = chance.choices(["ok", "lost", "late", "TransactionConflict"], k=2) if chance.random() < 0.3 else []
        crash = chance.randrange(7) if chance.random() < 0.15 else None
        if what < 0.4:
            world.take(chance.choice(keys), faults, crash)
        elif what < 0.6 and world.running:
            world.end(chance.choice(world.running), faults if chance.random() < 0.8 else ["lost"] * 12, crash)
        elif what < 0.65 and world.running:
            world.running.remove(chance.choice(world.running))
        elif what < 0.85 and world.events:
            world.settle(chance.choices(world.events, k=3), ["late"] * (chance.random() < 0.2), crash)
        else:
            world.now += chance.choice([1, 9, 31, 61, 300])
        world.running = [each for each in world.running if each.taken.windows.now + 29 > world.now]
        world.check(*parts)
    world.running.clear()
    world.settle(world.events)
    world.now += 3600
    for limits in keys:
        world.take(limits)
    for each in list(world.running):
        world.end(each)
    world.settle(world.events)
    world.check(*parts)
    for limits in parts:
        counter = world.counter(limits.id)
        assert counter.get("live", {}) == {}
        assert all(counter[f"{each}_cost"] == counter[f"{each}_spent"] for each in limits.budgets if each in counter)
