"""Limits where calls of their table go wrong: nothing counts twice, no place stays taken, no cent stays reserved."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.events.envelope import Event, rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.key_limits import Limits
from openai_proxy.pricing.price_book import parse_price_book
from openai_proxy.servers import parse_servers
from openai_proxy.usage import Usage
from proxy.aws.client import AwsError
from proxy.errors import ClientError, LimitError, UnavailableError
from proxy.limits.price_hints import PriceHints
from proxy.limits.renewal import ENDED_EARLY, Renewals, in_background
from proxy.limits.reservation import Reservation, renewing
from proxy.limits.table import FailurePolicy, LimitsTable
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.request.routing import Candidate
from settle_limits.settlement import left_lease_of, settlement_of
from settle_limits.table import LimitsTable as SettlingTable

from tests.examples import examples
from tests.limits.table import AsBoto3, LimitsItems, access_to

MOST_TOKENS = 2_147_483_647

NOON = 4_099_118_400  # 2099-11-23 12:00:00 UTC: what is due by the real clock is not due yet
FAR = 5_000_000_000.0
ITEM = "limits#k"
PRICES = parse_price_book("servers: {up: {models: {m: {input: 10, output: 100}}}}")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "x" * 36}], "max_tokens": 87}
USAGE = Usage(9, 3, source="reported")
COST = 9 * Decimal("0.00001") + 3 * Decimal("0.0001")
TRANSIENT = ("ok", "lost", "late", "ServiceUnavailable", "ThrottlingException", "TransactionConflictException")
BUDGET = Limits("k", budget_day=Decimal(5), budget_month=Decimal(50))
KINDS = {
    "rpm": Limits("k", rpm=50),
    "tpm": Limits("k", tpm=5000),
    "parallel": Limits("k", parallel=50),
    "budget": BUDGET,
    "all": Limits("k", 50, 5000, 50, Decimal(5), Decimal(50)),
}


def candidate(options: str = "retries: 0") -> Candidate:
    return Candidate(parse_servers(f"up: {{url: 'http://up.example/v1', token: t, model: m, {options}}}")["up"])


UP = candidate()


def body_of(fields: Any) -> RequestBody:
    request = InferenceRequest("function_url", "POST", "/", "", {}, json.dumps(fields).encode(), None)
    return RequestBody(request, Target("up", "/chat/completions"))


@dataclass
class Request:
    """One that has been taken: its id, what it holds, and the event that is published when it has ended."""

    id: str
    taken: Reservation
    event: Event[Any, Any] | None = None


@dataclass
class World:
    """Sandboxes, a table, and the consumer of their events."""

    limits: Limits = BUDGET
    policy: FailurePolicy = "open"
    now: float = float(NOON)
    table: LimitsItems = field(default_factory=LimitsItems)
    renews: bool = False
    costs: Decimal = Decimal(0)
    events: list[Event[Any, Any]] = field(default_factory=list[Event[Any, Any]])

    def __post_init__(self) -> None:
        self.boto3 = AsBoto3(self.table)
        services: Any = self.table
        self.renewals = Renewals(services, "limits", 1.0, lambda: self.now, lambda _: None)
        renewals = (lambda: self.renewals) if self.renews else None
        self.proxy = LimitsTable(
            access_to(services, lambda: self.now),
            self.policy,
            renewals=renewals,
        )
        client: Any = self.boto3
        self._settling = SettlingTable(client, "limits", lambda _: None, lambda: self.now)

    def take(self, *faults: str, fields: Any = CHAT, limits: Limits | None = None) -> Request:
        self.table.faults = list(faults)
        request_id = new_ulid(self.now)
        taken = self.proxy.take(limits or self.limits, request_id, body_of(fields), [UP], self.now + 900)
        self.table.faults = []
        return Request(request_id, taken)

    def pass_by(self, seconds: int, *faults: str) -> None:
        """Time passes, and every five seconds the sandbox looks after its lease."""
        self.table.faults = list(faults)
        for _ in range(0, seconds, 5):
            self.now += 5
            self.renewals.look()
        self.table.faults = []

    def end(self, request: Request, *faults: str, usage: Usage = USAGE, is_published: bool = True) -> None:
        if request.taken.refused:
            usage = Usage(source="none")
        self.table.faults = list(faults)
        request.taken = self.proxy.release(request.taken, usage, FAR)
        self.table.faults = []
        request.event = event = event_of(request, usage, self.now)
        settlement = settlement_of(event, PRICES)
        if is_published:
            self.events.append(event)
            self.costs += settlement.actual if settlement else 0

    def settle(self, *events: Event[Any, Any], faults: Sequence[str] = ()) -> None:
        self.boto3.faults = list(faults)
        settlements = [each for event in events if (each := settlement_of(event, PRICES))]
        unique = {each.event_id: each for each in settlements}
        assert self._settling.settle(unique.values()) == {} or faults
        for event in events:
            if event.id not in unique and (lease := left_lease_of(event)):
                self._settling.give_back(lease)

    @property
    def item(self) -> dict[str, Any]:
        return self.table.numbers(ITEM)

    @property
    def reserved(self) -> Decimal:
        return sum((value for name, value in self.item.items() if name.startswith("r_")), Decimal(0))


def event_of(request: Request, usage: Usage, now: float) -> Event[Any, Any]:
    data: dict[str, Any] = {
        "client": {"key_id": "k", "name": "", "owner": None, "tags": {}},
        "limits": request.taken.to_event(),
        "server": {"name": "up"},
        "request": {"model": "m"},
        "response": {"model": "m", "finish_reasons": ["stop"]},
        "usage": usage.to_event(),
        "cache": {"status": "BYPASS"},
    }
    return Event("InferenceCompleted", request.id, rfc3339(now), request.id, "team-a", data)


# ------------------------------------------------------------------------------------------------------------ one take


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize("call", range(5))
def test_a_take_that_gets_no_answer_once_counts_once(kind: str, fault: str, call: int) -> None:
    world = World(KINDS[kind])
    request = world.take(*["ok"] * call, fault)  # of a new key: maybe a hint; then take, read, renew, take
    assert (request.taken.is_checked, request.taken.refused) == (True, None)
    world.end(request)
    assert world.item["requests"] == 1
    assert world.item.get("live", []) == []
    second = world.take(fault)
    assert (second.taken.is_checked, second.taken.refused, world.item["requests"]) == (True, None, 2)


@pytest.mark.parametrize("policy", ["open", "closed"])
@pytest.mark.parametrize("parallel", [1, 2, 4])
@pytest.mark.parametrize("kind", ["lost", "late", "ServiceUnavailable"])
def test_no_place_stays_taken(policy: FailurePolicy, parallel: int, kind: str) -> None:
    limits = Limits("k", parallel=parallel, budget_day=Decimal(1))
    world = World(limits, policy)
    world.end(world.take())
    for _ in range(3 * parallel):
        request = world.take(*[kind] * 9)
        assert not request.taken.is_checked
        assert (request.taken.refused is None) == (policy == "open")
        world.end(request, *[kind] * 30)
    world.settle(*world.events)
    assert world.item["live"] == []
    held = [world.take() for _ in range(parallel)]
    assert all(each.taken.is_checked and not each.taken.refused for each in held)
    refused = world.take().taken.refused
    assert isinstance(refused, LimitError)
    assert refused.source == "key_parallel"


@pytest.mark.parametrize("is_known", [False, True], ids=["a new key", "a new month"])
def test_what_passes_unchecked_before_anything_was_taken_is_spent_all_the_same(is_known: bool) -> None:
    world = World(BUDGET)
    if is_known:
        world.end(world.take())
        world.settle(*world.events)
        world.now += 8 * 86400
    request = world.take(*["lost"] * 9)
    world.end(request)
    assert (request.taken.is_checked, request.taken.share is None) == (False, False)
    world.settle(*world.events)
    assert world.item["day_spent"] == world.item["day_cost"] == world.item["month_spent"] == COST
    world.end(world.take())
    world.settle(*world.events)
    assert world.item["day_spent"] == world.item["day_cost"] == world.item["month_cost"] == 2 * COST


def test_what_arrives_after_its_request_has_ended_is_found_by_its_event() -> None:
    world = World(Limits("k", parallel=1, budget_day=Decimal(1)))
    world.end(world.take())
    before = world.table.items[ITEM]
    request = world.take(*["late"] * 9)
    arrived, world.table.items[ITEM] = world.table.items[ITEM], before
    world.end(request)  # it is not there, as far as anybody can see
    world.table.items[ITEM] = arrived
    assert world.item["live"] == [request.id[-10:]]
    world.settle(*world.events)
    assert (world.item["live"], world.item["day_cost"]) == ([], world.item["day_spent"])


@pytest.mark.parametrize("seconds", [0, 60])
@pytest.mark.parametrize("kind", [*KINDS, "tokens at once"])
def test_a_sandbox_whose_clock_is_behind_gives_back_what_it_has_taken(kind: str, seconds: int) -> None:
    limits = KINDS.get(kind, Limits("k", tpm=5000, parallel=9))
    behind = World(limits)
    ahead = World(limits, table=behind.table, now=behind.now + seconds)
    requests = [(world, world.take()) for world in (behind, ahead, behind, ahead)]
    for world, request in requests:
        assert (request.taken.is_checked, request.taken.refused) == (True, None)
        world.end(request)
    assert behind.item.get("live", []) == []
    if limits.tpm:
        assert behind.item["tokens"] == (4 - (seconds > 0)) * 12
    if limits.has_budget:
        assert behind.reserved == behind.item["day_cost"] > 0


class Restless(LimitsItems):
    """Before each update of the item somebody else has changed what it depends on."""

    turns = 0
    changes: Sequence[str] = ()

    def update(self, arguments: Mapping[str, Any]) -> tuple[bool, Any]:
        self.turns += 1
        for name in self.changes:
            parts: Any = self.items[ITEM]
            *outer, last = name.split(".")
            for part in outer:
                parts = parts[part]["M"]
            parts[last] = {"N": str(int(NOON) // 60 + self.turns % 2)}
        return super().update(arguments)


def test_what_never_comes_to_rest_is_an_outage_after_a_dozen_tries(capsys: pytest.CaptureFixture[str]) -> None:
    table = Restless()
    world = World(BUDGET, table=table)
    running = world.take()
    assert running.taken.share
    table.turns, table.changes = 0, ["minute"]
    request = world.take()
    assert (request.taken.is_checked, request.taken.share, table.turns) == (False, None, 12)
    table.turns, table.changes = 0, [f"live.{running.taken.share.lease}.cost"]
    world.end(running)
    assert (running.taken.lease, table.turns) == ("held", 12)
    reason = "dynamodb:UpdateItem: NoAnswer, others changed the item each time"
    assert [line["reason"] for line in lines_of(capsys)] == [reason] * 2


class Forgetful(LimitsItems):
    """Says that it has written, and not what."""

    def update_item(self, arguments: Mapping[str, Any], _timeout: float) -> tuple[bool, Any]:
        held, item = super().update_item(arguments, _timeout)
        return held, {} if held else item


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_by_no_answer_that_proves_it_is_given_back(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(KINDS[kind], table=Forgetful())
    request = world.take()
    assert (request.taken.is_checked, request.taken.share is None) == (False, False)
    assert lines_of(capsys)[0]["reason"] == "dynamodb:UpdateItem: NoAnswer, an answer without what was written"
    assert len(world.table.written) == 3, "refused, brought up to date, and written: nothing is tried again"
    world.end(request)
    assert world.item.get("live", []) == []


CODES = ("ValidationException", "SerializationException", "AccessDeniedException", "ResourceNotFoundException")


@pytest.mark.parametrize("policy", ["open", "closed"])
@pytest.mark.parametrize("code", CODES)
def test_a_refusal_by_dynamodb_is_no_outage(
    policy: FailurePolicy, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = World(BUDGET, policy).take(code, code).taken
    assert isinstance(taken.refused, UnavailableError)
    assert (taken.refused.code, taken.is_checked, taken.share) == ("limits_unavailable", False, None)
    refused = {"level": "ERROR", "message": "The limits table refuses what the proxy asks", "limits": "k"}
    remedy = "Compare table and role with the template; `keys release KEY_ID` sets the key's counters right."
    error = repr(AwsError("dynamodb:UpdateItem", code, status=400))
    assert lines_of(capsys)[-1] == refused | {"reason": error, "remedy": remedy}


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The log, without its moments, which are of the real clock."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line.pop("timestamp") for line in lines)
    return lines


@pytest.mark.parametrize("policy", ["open", "closed"])
def test_the_log_says_what_an_outage_has_cost(policy: FailurePolicy, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(BUDGET, policy)
    world.end(world.take("lost"), *["lost"] * 30)
    world.take(*["lost"] * 9)
    error = {"limits": "k", "reason": "dynamodb:UpdateItem: NoAnswer"}
    assert lines_of(capsys) == [
        {"level": "WARN", "message": "A price hint cannot be read", "reason": error["reason"]},
        {"level": "WARN", "message": "A share of limits was not given back", **error},
        {"level": "ERROR", "message": "Limits cannot be checked", **error, "policy": policy},
    ]


def test_a_damaged_counter_lets_nobody_through() -> None:
    world = World(BUDGET)
    world.end(world.take())
    world.table.items[ITEM]["live"] = {"M": {"x": {"S": "?"}}}
    world.now += 60
    assert isinstance(world.take().taken.refused, UnavailableError)


@pytest.mark.parametrize("fault", ["lost", "ThrottlingException", "AccessDeniedException"])
def test_a_price_hint_that_cannot_be_read_is_the_careful_one(fault: str) -> None:
    world = World(BUDGET, "closed")
    taken = world.take(fault).taken
    assert (taken.is_checked, taken.refused) == (True, None)
    assert taken.share
    assert taken.share.cost == 13 * Decimal("0.00001") + 87 * Decimal("0.00004")


def test_the_last_known_hint_is_good_until_another_is_read() -> None:
    world = World(Limits("k", budget_day=Decimal(100)))
    hint = {"pk": {"S": "price#up#m"}, "input": {"N": "0.1"}, "output": {"N": "0.2"}, "answer": {"N": "5"}}
    world.table.items["price#up#m"] = hint
    expected = 13 * Decimal("0.1") + 5 * Decimal("0.2")
    costs: list[Decimal] = []
    for faults in ((), ("lost",), ()):
        request = world.take(*faults)
        assert request.taken.share
        costs.append(request.taken.share.cost)
        world.end(request)
        world.now += 400
    assert costs == [expected] * 3
    world.table.items["price#up#m"] = hint | {"output": {"N": "1e99"}}
    request = world.take()
    assert request.taken.share
    assert request.taken.share.cost == expected, "one that makes no sense is none"


HINT = {"input": {"N": "0.1"}, "output": {"N": "0"}}
DAMAGES: tuple[Any, ...] = ({"S": "x"}, {"N": "-1"}, {"N": "NaN"}, {"NULL": True}, {"L": []}, {"M": {}}, {"M": "?"})


def test_of_names_that_clients_make_up_no_more_than_a_thousand_are_remembered() -> None:
    read: list[str] = []

    class Counting(LimitsItems):
        def get_item(self, arguments: Mapping[str, Any], _timeout: float) -> Any:
            read.append(arguments["Key"]["pk"]["S"])
            return super().get_item(arguments, _timeout)

    services: Any = Counting()
    hints = PriceHints(services, "limits", lambda: 0.0, 1.0)
    for number in range(1024):
        hints.of(UP, f"m{number}")
    hints.of(UP, "m0")
    assert len(read) == 1024
    for name in ("another", "m0"):
        hints.of(UP, name)
    assert read[1024:] == ["price#up#another", "price#up#m0"]


@pytest.mark.parametrize(
    ("changes", "is_good"),
    [
        ({}, True),
        ({"input": {"N": "0"}}, True),
        ({"input": {"N": "1"}}, True),
        ({"output": {"N": "1"}}, True),
        ({"output": {"N": "1.1"}}, False),
        ({"answer": {"N": "0"}}, True),
        ({"answer": {"N": str(MOST_TOKENS)}}, True),
        ({"answer": {"N": str(MOST_TOKENS + 1)}}, False),
        *(({name: value}, False) for name in ("input", "output", "answer") for value in DAMAGES),
    ],
)
def test_a_hint_that_makes_no_sense_is_none(changes: dict[str, Any], is_good: bool) -> None:
    world = World(Limits("k", budget_day=Decimal(10**9)))
    world.table.items["price#up#m"] = hint = HINT | changes
    share = world.take().taken.share
    assert share
    per_input, per_output, answer = ("0.00001", "0.00004", 87)
    if is_good:
        per_input, per_output = hint["input"]["N"], hint["output"]["N"]
    assert share.cost == 13 * Decimal(per_input) + answer * Decimal(per_output)


# -------------------------------------------------------------------------------------------------------- reservations


def test_what_is_reserved_is_not_used_up() -> None:
    world = World(Limits("k", budget_day=Decimal("0.004")))
    running = [world.take() for _ in range(3)]
    refused = running[-1].taken.refused
    assert [each.taken.refused for each in running[:2]] == [None, None]
    costs = [each.taken.share.cost for each in running[:2] if each.taken.share]
    assert sum(costs) == Decimal("0.004"), "no more than is left"
    assert isinstance(refused, LimitError)
    assert (refused.status, refused.code, refused.source, refused.type) == (
        *(429, "budget_reserved", "key_budget_reserved", "rate_limit_error"),
    )
    assert refused.headers["x-should-retry"] == "true"
    assert 1 <= (refused.retry_after or 0) <= 5
    for each in running[:2]:
        world.end(each)
    another = world.take()
    assert another.taken.refused is None, "given back at once"
    world.end(another)
    world.settle(*world.events)
    for _ in range(20):
        request = world.take()
        world.end(request)
        world.settle(*world.events)
    used_up = world.take().taken.refused
    assert isinstance(used_up, LimitError)
    assert (used_up.code, used_up.retry_after) == ("insufficient_quota", 12 * 3600)


def test_a_lease_ends_with_its_own_request_and_gives_back_what_it_reserves() -> None:
    world = World(Limits("k", parallel=1, budget_day=Decimal(1)))
    hasty = candidate("retries: 1, timeouts: {total: 20}")
    world.proxy.take(world.limits, new_ulid(world.now), body_of(CHAT), [hasty], world.now + 900)
    assert world.item["day_cost"] > 0
    world.now += 2 * 26 + 10
    assert world.take().taken.refused
    world.now += 1
    request = world.take()
    assert request.taken.refused is None
    assert request.taken.share
    assert world.item["day_cost"] == request.taken.share.cost


def test_many_dead_leases_are_swept_in_several_updates() -> None:
    world = World(Limits("k", parallel=100, budget_day=Decimal(100)))
    hasty = candidate("retries: 0, timeouts: {total: 1}")
    for _ in range(40):
        world.proxy.take(world.limits, new_ulid(world.now), body_of(CHAT), [hasty], world.now + 900)
    # More of them were there before a counter was divided.
    counter = world.table.items["limits#k"]
    lease = next(iter(counter["live"]["M"].values()))
    counter["live"]["M"] |= {f"of-before-{number}": lease for number in range(60)}
    for name in ("day_cost", "month_cost"):
        counter[name] = {"N": f"{Decimal(counter[name]['N']) + 60 * Decimal(lease['M']['cost']['N']):f}"}
    assert len(world.item["live"]) == 100
    world.now += 90
    for _ in range(4):
        request = world.take()
        assert request.taken.refused is None
        world.end(request)
        world.now += 60
    assert world.item["live"] == []
    drawn = [Decimal(part["M"]["day_cost"]["N"]) for part in world.table.items["limits#k"]["parts"]["M"].values()]
    assert world.item["day_cost"] == world.reserved + sum(drawn), "it is divided now"


def test_marks_of_requests_that_are_given_nothing_back_do_not_pile_up() -> None:
    world = World(Limits("k", rpm=1000))
    for _ in range(50):
        world.end(world.take())
    assert len(world.item["took"]) == 1
    other = World(Limits("k", parallel=1), table=world.table, now=world.now)
    assert other.take().taken.refused is None, "a key of the same line, which counts those that run"


RENEWED = [Limits("k", parallel=1), Limits("k", parallel=1, budget_day=Decimal(1))]


@pytest.mark.parametrize("limits", RENEWED, ids=["parallel", "budget"])
def test_the_place_of_a_sandbox_that_dies_is_free_within_half_a_minute(limits: Limits) -> None:
    world = World(limits, renews=True)
    dead = world.take()
    world.now += 30
    assert world.take().taken.refused
    world.now += 1
    after = world.take()
    assert (dead.taken.refused, after.taken.refused) == (None, None)
    world.end(after)
    world.settle(*world.events)
    assert world.item["live"] == []
    assert not limits.has_budget or world.item["day_cost"] == world.item["day_spent"] == COST


@pytest.mark.parametrize("limits", RENEWED, ids=["parallel", "budget"])
def test_a_request_that_runs_for_long_keeps_its_place_through_an_outage(limits: Limits) -> None:
    world = World(limits, renews=True)
    other = World(limits, table=world.table, now=world.now)
    request = world.take()
    for minute in range(14):
        world.pass_by(60, *(["late", "lost"] if minute % 2 else []))
        other.now = world.now
        assert other.take().taken.refused, "its place is taken"
    world.end(request, "late")
    assert request.taken.to_event().get("lease") is None
    world.settle(*world.events)
    other.now = world.now
    assert other.take().taken.refused is None
    assert not limits.has_budget or world.item["day_spent"] == COST


def test_a_short_request_costs_no_write_more() -> None:
    world = World(RENEWED[1], renews=True)
    request = world.take()
    before = len(world.table.written)
    world.pass_by(10)
    assert len(world.table.written) == before
    world.pass_by(50)
    assert len(world.table.written) == before + 4
    world.end(request)
    world.pass_by(60)
    assert len(world.table.written) == before + 5, "what has ended is not renewed"


def test_a_lease_is_not_renewed_beyond_its_requests_own_deadline() -> None:
    world = World(RENEWED[1], renews=True)
    hasty = candidate("retries: 1, timeouts: {total: 20}")
    world.proxy.take(world.limits, new_ulid(world.now), body_of(CHAT), [hasty], world.now + 900)
    world.pass_by(60)
    world.now += 2
    assert world.take().taken.refused
    world.now += 1
    assert world.take().taken.refused is None


@pytest.mark.parametrize("is_published", [True, False])
def test_a_lease_that_ends_before_its_request_is_told_and_nothing_counts_twice(
    is_published: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(RENEWED[1], renews=True)
    other = World(RENEWED[1], table=world.table, now=world.now)
    request = world.take()
    world.pass_by(35, *["lost"] * 9)
    other.now = world.now
    second = other.take()
    assert second.taken.refused is None
    world.pass_by(15)
    not_renewed = {"message": "A lease of limits was not renewed", "reason": "dynamodb:UpdateItem: NoAnswer"}
    assert lines_of(capsys) == [
        *[{"level": "WARN", "limits": "k", **not_renewed}] * 5,
        {"level": "WARN", "message": ENDED_EARLY, "limits": "k"},
    ]
    world.end(request, is_published=is_published)
    other.end(second)
    for each in (world, other):
        each.settle(*each.events)
    assert world.item["live"] == []
    assert world.item["day_cost"] == world.item["day_spent"] == COST * (1 + is_published)


def test_one_thread_looks_after_the_leases_of_all_requests() -> None:
    world, started = World(RENEWED[1]), list[Any]()
    services: Any = world.table
    renewals = Renewals(services, "limits", 1.0, lambda: world.now, started.append)
    for _ in range(3):
        renewals.begin(RENEWED[1], "lease", int(world.now) + 30, int(world.now) + 900)
        assert renewals.stop("lease") == {"k": int(world.now) + 30}
    assert renewals.stop("lease") == {}
    assert len(started) == 1


def test_the_thread_looks_again_and_again_whatever_goes_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    looks, enough = list[int](), threading.Event()

    def look() -> None:
        looks.append(len(looks))
        if len(looks) == 2:
            raise RuntimeError("nobody has thought of this")
        if len(looks) == 4:
            enough.set()
            threading.Event().wait()

    before = set(threading.enumerate())
    in_background(look, 0.001)
    assert [each.daemon for each in set(threading.enumerate()) - before] == [True], "no process waits for its end"
    assert enough.wait(60)
    assert looks == [0, 1, 2, 3]
    (line,) = lines_of(capsys)
    assert "nobody has thought of this" in line.pop("trace")
    assert line == {"level": "ERROR", "message": "A lease of limits was not looked after"}


def test_a_renewal_that_comes_after_the_end_makes_no_place_of_it() -> None:
    world = World(RENEWED[1], renews=True)
    request = world.take()
    assert request.taken.share
    late = renewing(world.limits, request.taken.share.lease, int(world.now) + 60)
    world.end(request)
    held, _ = world.table.update({"Key": {"pk": {"S": ITEM}}, **late})
    assert (held, world.item["live"]) == (False, [])


WRITES = [("rpm", 1, 0), ("tpm", 1, 1), ("parallel", 1, 1), ("budget", 1, 1), ("all", 1, 1)]


@pytest.mark.parametrize("seconds", [0, 59, 60, 119], ids=["at once", "in its minute", "in the next", "at its end"])
@pytest.mark.parametrize(("kind", "before", "after"), WRITES)
def test_how_much_is_written_for_a_request(kind: str, before: int, after: int, seconds: int) -> None:
    world = World(KINDS[kind])
    world.end(world.take())
    world.table.written.clear()
    request = world.take()
    assert len(world.table.written) == before
    world.now += seconds
    world.take()  # what begins a minute before the first one ends costs the first one nothing
    world.table.written.clear()
    world.end(request)
    assert len(world.table.written) == after


# --------------------------------------------------------------------------------------------------- whatever is asked

large = st.sampled_from([10**15, 10**36, 10**45, 10**127, 10**400, "1e127", 1e300, 2**31 - 1, 1024, -1, 0.5, "7"])
simple = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
parts = st.sampled_from(["text", "content", "role"])
anything = st.recursive(
    simple | large, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(parts, inner, max_size=3), max_leaves=5
)
NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "prompt", "messages", "tools")
amounts = st.decimals("0.000001", 10**9, places=6)
numbers = st.sampled_from(["0", "0.0000001", "1e-30", "1", "-1", "1e40", "NaN", "x", "7000"])
hints = st.fixed_dictionaries({}, optional=dict.fromkeys(["input", "output", "answer"], numbers))


@settings(max_examples=examples(50), deadline=None)
@given(
    fields=st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, anything)),
    day=st.none() | amounts,
    tpm=st.none() | st.integers(1, 10**9),
    hint=hints,
    spent=st.none() | amounts,
    policy=st.sampled_from(["open", "closed"]),
)
def test_no_request_whatever_passes_unchecked(
    fields: Any, day: Decimal | None, tpm: int | None, hint: dict[str, str], spent: Decimal | None, policy: Any
) -> None:
    world = World(Limits("k", rpm=2, tpm=tpm, budget_day=day, budget_month=Decimal(10**9)), policy)
    world.end(world.take())
    if spent is not None:
        for name in ("day_spent", "day_cost"):
            world.table.items[ITEM][name] = {"N": f"{spent:f}"}
    world.table.items["price#up#m"] = {"pk": {"S": "p"}} | {name: {"N": text} for name, text in hint.items()}
    world.now += 301
    try:
        request = world.take(fields=fields)
    except ClientError:
        return  # 400: no model takes such a count
    taken = request.taken
    assert taken.is_checked
    if day is not None and spent is not None and spent >= day:
        assert isinstance(taken.refused, LimitError)
        return
    assert taken.refused is None or isinstance(taken.refused, LimitError)
    if taken.share and day is not None:
        assert 0 <= taken.share.cost <= day
        assert world.item["day_cost"] <= max(day, spent or 0)
    world.end(request)
    world.settle(*world.events)
    assert world.item["live"] == []
    assert world.item["day_cost"] - world.item["day_spent"] == world.reserved == 0 or spent is not None


# ---------------------------------------------------------------------------------------------- whatever happens to it

many = st.lists(st.sampled_from(TRANSIENT), max_size=8)
of_transactions = st.lists(st.sampled_from(["ok", "lost", "late"]), max_size=3)
steps = st.one_of(
    st.tuples(st.just("take"), many, st.booleans()),
    st.tuples(st.just("end"), many, st.integers(0, 9)),
    st.tuples(st.just("dies"), st.just([]), st.integers(0, 9)),
    st.tuples(st.just("settle"), of_transactions, st.integers(0, 99)),
    st.tuples(st.just("wait"), st.just([]), st.sampled_from([1, 61, 700])),
)
usages = (USAGE, Usage(), Usage(source="none"), Usage(100_000, 7, source="estimated"))


@settings(max_examples=examples(30), deadline=None)
@given(script=st.lists(steps, max_size=25), start=st.sampled_from([NOON, NOON + 12 * 3600 - 40, 4_099_766_300]))
def test_in_the_end_what_was_spent_is_what_it_cost_and_nothing_is_reserved(script: list[Any], start: int) -> None:
    """Calls that are lost or late, sandboxes that die between any two, events that come twice, late, in any order."""
    unbounded = Limits("k", 1000, 10**9, 40, Decimal(10**6), Decimal(10**7))
    sibling = Limits("k", rpm=1000)  # a key of the same line
    world = World(unbounded, now=float(start))
    running: list[Request] = []
    for number, (step, script_of_faults, choice) in enumerate(script):
        if step == "take":
            running.append(world.take(*script_of_faults, limits=sibling if choice else unbounded))
        elif step in ("end", "dies") and running:
            request = running.pop(choice % len(running))
            if step == "end":
                world.end(request, *script_of_faults, usage=usages[number % len(usages)])
        elif step == "settle" and world.events:
            first = choice % len(world.events)
            world.settle(*world.events[first : first + 3], faults=script_of_faults)
        elif step == "wait":
            world.now += choice
    for request in running:
        world.end(request)
    world.settle(*reversed(world.events))
    world.settle(*world.events)
    # What died is given back when its lease has ended, and what was never settled half an hour later.
    for passed in (4000, 4000):
        world.now += passed
        last = world.take(limits=unbounded)
        assert last.taken.refused is None
        world.end(last, usage=Usage(source="none"))
        world.settle(world.events[-1])
    item = world.item
    assert item["live"] == []
    month = rfc3339(world.now)[:7]
    settled = [settlement_of(event, PRICES) for event in world.events]
    costs = sum((each.actual for each in settled if each and each.windows.month == month), Decimal(0))
    assert item["month_spent"] == costs
    assert item["month_cost"] == costs
    assert item["day_cost"] == item["day_spent"]
    assert world.reserved == 0
