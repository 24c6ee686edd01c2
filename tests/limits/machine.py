"""A state machine of one key's limits, step by step against a model: amounts, moments and who is let through.

Sandboxes take, renew and give back, and die between any two calls; their events come to the consumer late, twice and in
any order, and it crashes between any two calls too. The clock stands on the second where something begins or ends as
often as beside it. What the model knows is plain sums over requests: it has no windows, no item and no expressions.
"""

import copy
import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import partial
from typing import Any

from aws_lambda_powertools import Logger
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from openai_proxy.dynamodb import from_attribute
from openai_proxy.events.envelope import Event, rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.key_limits import Limits
from openai_proxy.limits import bucket_day
from openai_proxy.pricing.price_book import parse_price_book
from openai_proxy.servers import parse_servers
from openai_proxy.usage import Usage
from proxy.errors import LimitError
from proxy.limits.renewal import Renewals
from proxy.limits.reservation import Reservation
from proxy.limits.table import LimitsTable
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.request.routing import Candidate
from settle_limits.consumer import SettleLimits
from settle_limits.price_hints import PriceHints
from settle_limits.table import LimitsTable as SettlingTable

from tests.fakes import envelope_of
from tests.limits.table import AsBoto3, LimitsItems, access_to
from tests.tables import failures

ITEM = "limits#k"
FAR = 5_000_000_000.0
INVOCATION = 900
QUARTER = 900
LIFE = 30
CAREFUL = Decimal("0.00001"), Decimal("0.00004"), 1000
PRICES = parse_price_book("servers: {up: {models: {m: {input: 10, output: 100}}}}")
INPUT, OUTPUT = Decimal("0.00001"), Decimal("0.0001")
LOGGER = Logger(service="machine", level="CRITICAL")
HINTS: tuple[tuple[str, str, int | None] | None, ...] = (
    None,
    ("0.00001", "0.0001", 3),
    ("0", "0", None),
    ("0.001", "0", 1),
    ("0.0000000000015", "0.0000000000001", 1),
)
USAGES = (
    Usage(5, 3, source="reported"),
    Usage(14, 87, source="reported"),
    Usage(source="missing"),
    Usage(source="none"),
    Usage(100, 9, source="estimated"),
)


KINDS = {
    "rpm": Limits("k", rpm=2),
    "tpm": Limits("k", tpm=150),
    "many tokens": Limits("k", tpm=5000),
    "parallel": Limits("k", parallel=2),
    "one at a time": Limits("k", parallel=1, tpm=5000),
    "one of two small ones": Limits("k", parallel=1, tpm=12),
    "two requests": Limits("k", budget_day=Decimal("0.0007")),
    "five requests": Limits("k", budget_day=Decimal("0.00175"), budget_month=Decimal("0.0035")),
    "a month of them": Limits("k", budget_month=Decimal("0.00175")),
    "some": Limits("k", parallel=3, budget_day=Decimal("0.01"), budget_month=Decimal("0.02")),
    "a trial": Limits("k", budget_total=Decimal("0.00175")),
    "a week": Limits("k", budget_week=Decimal("0.0014"), budget_day=Decimal("0.00105"), reset_weekday="tuesday"),
    "all of them": Limits(
        *("k", None, None, None, Decimal("0.002"), Decimal("0.004"), Decimal("0.003"), Decimal("0.005")),
        *("wednesday", 24),
    ),
    "enough": Limits("k", rpm=50, tpm=5000, budget_day=Decimal(5), budget_month=Decimal(9)),
}
"""A request of 5 tokens and an answer of 3 costs 0.00035."""
STARTS = ("2099-11-23T12:00:00", "2099-11-23T23:59:20", "2099-11-30T23:58:59", "2099-12-31T23:29:59")
WORDS, MOST = (1, 9, 40), (None, 1, 87, 137, 2000)
FAULTS = ("ok", "lost", "late", "ThrottlingException", "ServiceUnavailable")
PAUSES = (1, 2, 8, 9, 13, 14, 15, 16, 29, 30, 31, 59, 60, 61, 299, 300, 301, 899)


def server(options: str) -> Candidate:
    return Candidate(parse_servers(f"up: {{url: 'http://up.example/v1', token: t, model: m, {options}}}")["up"])


PATIENT, HASTY = server("retries: 0"), server("retries: 1, timeouts: {total: 0.5}")


class Crash(BaseException):
    """The sandbox, or the consumer, is gone."""


class Crashing:
    """The services of one actor, which is gone before or after its call number `left`; None: it lives."""

    def __init__(self, services: Any) -> None:
        self._services = services
        self.left: int | None = None
        self.is_after = False
        self.before: list[Callable[[], None]] = []
        """What others do before each of the next calls."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._services, name)
        return found if name == "exceptions" else partial(self._call, found)

    def _call(self, call: Any, *args: Any, **named: Any) -> Any:
        if self.before:
            self.before.pop(0)()
        if self.left is None:
            return call(*args, **named)
        self.left -= 1
        if self.left < 0 and not self.is_after:
            raise Crash
        try:
            return call(*args, **named)
        finally:
            if self.left < 0:
                raise Crash


@dataclass
class Request:
    """What the model knows of one: money in USD, moments in Unix seconds."""

    id: str
    at: int
    tokens: int
    usage: Usage | None = None
    end: int = 0
    last: int = 0
    deadline: int = 0
    reserved: Decimal = Decimal(0)
    prices: tuple[Decimal, Decimal, int] = CAREFUL
    place: str = "lease"
    """lease, bucket or nowhere: where the table has what it reserves."""
    is_counted: bool = True
    used: int | None = None
    """Tokens, if they were corrected in its minute."""
    actual: Decimal | None = None
    """USD, once it is settled."""

    @property
    def lease(self) -> str:
        return self.id[-10:]


@dataclass(eq=False)
class Sandbox:
    """One function's instance: it has one request at a time."""

    services: Any
    proxy: LimitsTable
    renewals: Renewals
    request: Request | None = None
    taken: Reservation | None = None
    kept_end: int | None = None
    hint: tuple[int, tuple[Decimal, Decimal, int]] | None = None
    """Until when it is good."""


@dataclass
class Bus:
    """Keeps what is told: the highest threshold of each period and budget."""

    told: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def publish(self, event: Event[Any, Any]) -> None:
        key = event.data["period"], event.data["period_start"]
        assert event.data["threshold"] >= self.told.get(key, 0)
        self.told[key] = event.data["threshold"]


def start_of(period: str, moment: int, limits: Limits) -> str:
    """What the period of a moment is called: found day by day, back to the day that it begins with."""
    if period == "total":
        return "ever"
    day = datetime.fromtimestamp(moment, UTC).date()
    begins: dict[str, Callable[[date], bool]] = {
        "day": lambda _: True,
        "week": lambda day: f"{day:%A}".lower() == (limits.reset_weekday or "monday"),
        "month": lambda day: day.day == (limits.reset_day or 1),
    }
    while not begins[period](day):
        day -= timedelta(days=1)
    return day.isoformat() if period != "month" or limits.reset_day else day.isoformat()[:7]


class LimitsMachine(RuleBasedStateMachine):
    """Everything that happens to one key's limits."""

    kind = "enough"

    @initialize(start=st.sampled_from(STARTS))
    def begin(self, start: str) -> None:
        self.now = int(datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp())
        self.limits = limits = KINDS[self.kind]
        own = {"total": limits.budget_total, "week": limits.budget_week}
        self.budgets = {period: budget for period, budget in own.items() if budget is not None}
        self.budgets |= {"month": limits.budget_month, "day": limits.budget_day}
        self.table, self.bus = LimitsItems(), Bus()
        self.requests: list[Request] = []
        self.events: list[tuple[Request, Event[Any, Any]]] = []
        self.hint: tuple[Decimal, Decimal, int] | None = None
        self.sandboxes = [self._sandbox() for _ in range(4)]
        self.boto3 = AsBoto3(self.table)
        self.settling: Any = Crashing(self.boto3)
        table = SettlingTable(self.settling, "limits", lambda _: None, lambda: self.now)
        hints = PriceHints(lambda _: None, lambda _: None, LOGGER, lambda: self.now)
        self.consumer = SettleLimits(PRICES, table, self.bus, hints, LOGGER, lambda: self.now)

    def _sandbox(self) -> Sandbox:
        services: Any = Crashing(self.table)
        renewals = Renewals(services, "limits", 1.0, lambda: self.now, lambda _: None)
        proxy = LimitsTable(
            access_to(services, lambda: self.now),
            "open",
            renewals=lambda: renewals,
        )
        return Sandbox(services, proxy, renewals)

    # --------------------------------------------------------------------------------------------- what the model says

    def start(self, period: str, moment: int) -> str:
        return start_of(period, moment, self.limits)

    def to_next(self, period: str) -> int | None:
        """Seconds to the next period, found day by day."""
        if period == "total":
            return None
        moment = self.now - self.now % 86400 + 86400
        while self.start(period, moment) == self.start(period, self.now):
            moment += 86400
        return moment - self.now

    @property
    def has_budget(self) -> bool:
        return any(budget is not None for budget in self.budgets.values())

    @property
    def gives_back(self) -> bool:
        return self.has_budget or self.limits.tpm is not None or self.limits.parallel is not None

    def live(self) -> list[Request]:
        return [each for each in self.requests if each.place == "lease" and self.now <= each.end]

    def reserved(self, period: str, requests: Sequence[Request]) -> Decimal:
        own = [each for each in requests if self.start(period, each.at) == self.start(period, self.now)]
        return sum((each.reserved for each in own), Decimal(0))

    def pending(self) -> list[Request]:
        """What has ended, is not settled, and may still be: for two quarters of an hour after its own."""
        found = [each for each in self.requests if each.place == "bucket"]
        return [each for each in found if self.now < (each.at // QUARTER + 3) * QUARTER]

    def spent(self, period: str, start: str) -> Decimal:
        own = [each for each in self.requests if each.actual is not None and self.start(period, each.at) == start]
        return sum((each.actual or Decimal(0) for each in own), Decimal(0))

    def gone(self, period: str) -> Decimal:
        return self.spent(period, self.start(period, self.now)) + self.reserved(period, [*self.live(), *self.pending()])

    def of_minute(self) -> tuple[int, int]:
        """Requests and tokens."""
        own = [each for each in self.requests if each.is_counted and each.at // 60 == self.now // 60]
        return len(own), sum(each.tokens if each.used is None else each.used for each in own)

    def refusal(self, tokens: int) -> tuple[str, int | None] | None:
        requests, used = self.of_minute()
        budgets = {period: budget for period, budget in self.budgets.items() if budget is not None}
        used_up = [each for each, budget in budgets.items() if self.spent(each, self.start(each, self.now)) >= budget]
        if used_up:
            waits = [self.to_next(period) for period in used_up]
            return "key_budget", None if None in waits else max(wait or 0 for wait in waits)
        if any(self.gone(period) >= budget for period, budget in budgets.items()):
            ends = [each.end - self.now for each in self.live() if each.reserved]
            return "key_budget_reserved", max(1, min([5, *ends]))
        if self.limits.rpm is not None and requests + 1 > self.limits.rpm:
            return "key_rpm", 60 - self.now % 60
        if self.limits.tpm is not None and used + tokens > self.limits.tpm:
            return "key_tpm", 60 - self.now % 60
        if self.limits.parallel is not None and len(self.live()) + 1 > self.limits.parallel:
            return "key_parallel", 1
        return None

    def prices(self, sandbox: Sandbox) -> tuple[tuple[Decimal, Decimal, int], bool]:
        """What a sandbox takes for the price, and whether it has to read it."""
        if not self.has_budget:
            return CAREFUL, False
        if sandbox.hint and self.now < sandbox.hint[0]:
            return sandbox.hint[1], False
        sandbox.hint = (self.now + 300, self.hint) if self.hint else (self.now + 30, CAREFUL)
        return sandbox.hint[1], True

    def asked(self, sandbox: Sandbox, words: int, most: int | None, hasty: bool) -> tuple[Request, bool]:
        """The next request, as it will be if it is let through, and whether its price must be read."""
        prices, must_read = self.prices(sandbox)
        request = Request(new_ulid(self.now), self.now, 0, prices=prices)
        inputs = words + 4
        if self.limits.tpm is not None or self.has_budget:
            request.tokens = inputs + (most or 1000)
            request.tokens = request.tokens if self.limits.tpm is None else min(request.tokens, self.limits.tpm)
        if self.has_budget:
            left = [budget - self.gone(period) for period, budget in self.budgets.items() if budget is not None]
            cost = inputs * prices[0] + min(prices[2], most or prices[2]) * prices[1]
            request.reserved = min([cost.quantize(Decimal("1e-12"), ROUND_CEILING), *left])
        request.deadline = self.now + (2 * 6 + 1 if hasty else INVOCATION)
        request.last = request.deadline + 10
        request.end = min(request.last, self.now + LIFE)
        return request, must_read

    # ------------------------------------------------------------------------------------------------------------ steps

    which = st.integers(0, 11)
    faults = st.lists(st.sampled_from(FAULTS), max_size=3)
    words = st.sampled_from(WORDS)
    most = st.sampled_from(MOST)

    def _idle(self, number: int) -> Sandbox:
        found = [each for each in self.sandboxes if each.request is None]
        return found[number % len(found)]

    def _running(self, number: int) -> Sandbox:
        found = [each for each in self.sandboxes if each.request]
        return found[number % len(found)]

    def _replace(self, sandbox: Sandbox) -> None:
        self.sandboxes[self.sandboxes.index(sandbox)] = self._sandbox()

    def body(self, words: int, most: int | None) -> RequestBody:
        fields = {"model": "m", "messages": [{"role": "user", "content": "x" * 4 * words}]}
        fields |= {} if most is None else {"max_tokens": most}
        request = InferenceRequest("function_url", "POST", "/", "", {}, json.dumps(fields).encode(), None)
        return RequestBody(request, Target("up", "/chat/completions"))

    def _take(self, sandbox: Sandbox, request: Request, words: int, most: int | None, hasty: bool) -> Reservation:
        candidates = [HASTY if hasty else PATIENT]
        return sandbox.proxy.take(self.limits, request.id, self.body(words, most), candidates, self.now + INVOCATION)

    def _present(self, request: Request) -> bool:
        item = self.table.items.get(ITEM, {})
        return request.lease in item.get("live", {"M": {}})["M"] or request.lease in item.get("took", {"M": {}})["M"]

    @precondition(lambda self: any(each.request is None for each in self.sandboxes))
    @rule(number=which, words=words, most=most, hasty=st.booleans(), faults=faults)
    def takes(self, number: int, words: int, most: int | None, hasty: bool, faults: list[str]) -> None:
        """Two calls that go wrong in a row change nothing, whether they arrived or not."""
        sandbox = self._idle(number)
        request, must_read = self.asked(sandbox, words, most, hasty)
        refused = self.refusal(request.tokens)
        self.table.faults = ["ok"] * must_read + faults
        taken = self._take(sandbox, request, words, most, hasty)
        self.table.faults = []
        assert taken.is_checked
        if refused:
            assert isinstance(taken.refused, LimitError)
            assert (taken.refused.source, taken.refused.retry_after) == refused
            assert faults or taken.to_event() == self.limits_of(None)
            self._publish(request, taken, Usage(source="none"))
            return
        assert taken.refused is None, (taken.refused, self.limits)
        self.requests.append(request)
        self._runs(sandbox, request, taken)
        self._check_headers(taken)

    def limits_of(self, request: Request | None) -> dict[str, Any]:
        """What an event says of the limits of a request that was checked; None: that was refused, and has nothing."""
        budgets = {f"budget_{period}": None if each is None else f"{each:f}" for period, each in self.budgets.items()}
        resets = {"reset_weekday": self.limits.reset_weekday, "reset_day": self.limits.reset_day}
        budgets |= {name: value for name, value in resets.items() if value}
        event: dict[str, Any] = {"id": "k", "status": "checked", "reserved": None, "taken_at": None, **budgets}
        event |= {"has_budget": False, "currency": "USD" if self.has_budget else None}
        if request is None:
            return event
        event |= {"has_budget": self.has_budget, "taken_at": request.at}
        if self.limits.tpm is not None or self.has_budget:
            event["reserved"] = {"cost": request.reserved, "tokens": request.tokens}
        return event

    def _runs(self, sandbox: Sandbox, request: Request, taken: Reservation) -> None:
        assert taken.share
        found = taken.share.lease, taken.share.tokens, taken.share.cost
        assert found == (request.lease, request.tokens, request.reserved)
        days = 36500 if "total" in self.budgets else 40
        assert self.table.numbers(ITEM)["expires_at"] == self.now + days * 86400
        sandbox.request, sandbox.taken = request, taken
        sandbox.kept_end = request.end if self.gives_back else None

    def _check_headers(self, taken: Reservation) -> None:
        requests, tokens = self.of_minute()
        expected: dict[str, str] = {}
        for name, limit, used in (("requests", self.limits.rpm, requests), ("tokens", self.limits.tpm, tokens)):
            if limit is not None:
                expected[f"x-ratelimit-limit-{name}"] = str(limit)
                expected[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - used))
                expected[f"x-ratelimit-reset-{name}"] = f"{60 - self.now % 60}s"
        told = {name: value for name, value in taken.headers.items() if not name.startswith("x-budget-")}
        assert told == expected
        of_budget = {"x-budget-remaining-usd", "x-budget-reset"} if self.has_budget else set[str]()
        if self.limits.budget_total is not None and "x-budget-reset" not in taken.headers:
            of_budget.remove("x-budget-reset")
        assert taken.headers.keys() - told.keys() == of_budget

    @precondition(lambda self: any(each.request is None for each in self.sandboxes))
    @rule(number=which, words=words, most=most, crash=st.integers(0, 6), is_after=st.booleans())
    def dies_while_it_takes(self, number: int, words: int, most: int | None, crash: int, is_after: bool) -> None:
        sandbox = self._idle(number)
        request, _ = self.asked(sandbox, words, most, hasty=False)
        refused = self.refusal(request.tokens)
        sandbox.services.left, sandbox.services.is_after = crash, is_after
        with suppress(Crash):
            taken = self._take(sandbox, request, words, most, hasty=False)
            assert (taken.refused is None) == (refused is None)
        if self._present(request):
            assert refused is None
            self.requests.append(request)
        self._replace(sandbox)

    @precondition(lambda self: any(each.request is None for each in self.sandboxes))
    @rule(number=which, words=words, most=most, kind=st.sampled_from(["lost", "late"]), arrives=st.integers(0, 4))
    def takes_in_an_outage(self, number: int, words: int, most: int | None, kind: str, arrives: int) -> None:
        """Whoever is let through unchecked is spent for all the same; a call may have arrived."""
        sandbox = self._idle(number)
        request, must_read = self.asked(sandbox, words, most, hasty=False)
        self.table.faults = ["ok"] * (must_read + arrives) + [kind] * 20
        taken = self._take(sandbox, request, words, most, hasty=False)
        self.table.faults = []
        if taken.is_checked and not taken.refused:
            self.requests.append(request)
            self._runs(sandbox, request, taken)
            return
        if taken.refused:
            assert taken.is_checked
            self._publish(request, taken, Usage(source="none"))
            return
        if not self._present(request):
            request.place, request.is_counted, request.reserved = "nowhere", False, Decimal(0)
        self.requests.append(request)
        sandbox.request, sandbox.taken = request, taken

    @precondition(lambda self: any(each.request for each in self.sandboxes))
    @rule(number=which, usage=st.sampled_from(USAGES), faults=faults)
    def ends(self, number: int, usage: Usage, faults: list[str]) -> None:
        kept_end = self._running(number).kept_end
        request, was_there = self._ends(number, usage, faults)
        assert not self.gives_back or not self._present(request)
        # A sandbox that has no answer to a renewal does not know that its lease lasts longer.
        if was_there and self.now <= (request.end if kept_end is None else min(request.end, kept_end)):
            told = copy.deepcopy(self.events[-1][1].data["limits"])
            assert told.get("lease") is None, "nobody else can have taken it away"
            if told["reserved"]:
                told["reserved"]["cost"] = Decimal(told["reserved"]["cost"])
            assert told["status"] == "unchecked" or told == self.limits_of(request)

    @precondition(lambda self: any(each.request for each in self.sandboxes))
    @rule(
        number=which, usage=st.sampled_from(USAGES), kind=st.sampled_from(["lost", "late"]), arrives=st.integers(0, 2)
    )
    def ends_in_an_outage(self, number: int, usage: Usage, kind: str, arrives: int) -> None:
        """What is left, or perhaps left, is given back by the consumer."""
        self._ends(number, usage, ["ok"] * arrives + [kind] * 30)

    def _ends(self, number: int, usage: Usage, faults: list[str]) -> tuple[Request, bool]:
        sandbox = self._running(number)
        assert sandbox.request
        assert sandbox.taken
        request, was_there = sandbox.request, self._present(sandbox.request)
        self.table.faults = list(faults)
        released = sandbox.proxy.release(sandbox.taken, usage, FAR)
        self.table.faults = []
        self._released(request, usage, was_there)
        sandbox.request = sandbox.taken = sandbox.kept_end = None
        self._publish(request, released, usage)
        return request, was_there

    @precondition(lambda self: any(each.request for each in self.sandboxes))
    @rule(number=which, usage=st.sampled_from(USAGES), crash=st.integers(0, 3), is_after=st.booleans())
    def dies_while_it_gives_back(self, number: int, usage: Usage, crash: int, is_after: bool) -> None:
        sandbox = self._running(number)
        assert sandbox.request
        assert sandbox.taken
        was_there = self._present(sandbox.request)
        sandbox.services.left, sandbox.services.is_after = crash, is_after
        with suppress(Crash):
            sandbox.proxy.release(sandbox.taken, usage, FAR)
        self._released(sandbox.request, usage, was_there)
        self._replace(sandbox)

    @precondition(lambda self: any(each.request for each in self.sandboxes))
    @rule(number=which)
    def dies(self, number: int) -> None:
        self._replace(self._running(number))

    def _released(self, request: Request, usage: Usage, was_there: bool) -> None:
        """What was there becomes what it cost; what somebody has swept does not come back."""
        if not self.gives_back or not was_there or self._present(request):
            return
        is_known = usage.source != "missing"
        counter = self.table.numbers(ITEM)
        goes_on = any(counter.get(period) == self.start(period, request.at) for period in self.budgets)
        request.place = "bucket" if goes_on else "nowhere"
        if is_known and self.has_budget:
            cost = usage.input_tokens * request.prices[0] + usage.output_tokens * request.prices[1]
            request.reserved = cost.quantize(Decimal("1e-12"), ROUND_CEILING)
        if self.limits.tpm is not None and is_known and self.now // 60 == request.at // 60:
            request.used = usage.input_tokens + usage.output_tokens

    @precondition(lambda self: any(each.request for each in self.sandboxes))
    @rule(number=which, fault=st.sampled_from(["ok", "ok", "lost", "late"]))
    def looks_after_its_lease(self, number: int, fault: str) -> None:
        sandbox = self._running(number)
        request, kept, written = sandbox.request, sandbox.kept_end, len(self.table.written)
        self.table.faults = [fault]
        sandbox.renewals.look()
        self.table.faults = []
        if not request or kept is None:
            return
        end = min(self.now + LIFE, request.last)
        if kept - self.now > LIFE // 2 or end <= kept or fault == "lost":
            assert len(self.table.written) == written
            return
        if self._present(request):
            request.end = end
        if fault == "ok":
            sandbox.kept_end = end if self._present(request) else None

    @precondition(lambda self: any(each.request is None for each in self.sandboxes))
    @rule(count=st.integers(1, 6), words=words, most=most, usage=st.sampled_from(USAGES), settles=st.booleans())
    def some_come_and_go(self, count: int, words: int, most: int | None, usage: Usage, settles: bool) -> None:
        """One after another, without anything between them."""
        for number in range(count):
            before = len(self.requests)
            self.takes(number, words, most, hasty=False, faults=[])
            if len(self.requests) > before:
                running = [each for each in self.sandboxes if each.request]
                place = next(place for place, each in enumerate(running) if each.request is self.requests[-1])
                self.ends(place, usage, faults=[])
            if settles:
                self.are_settled([0], [], None, is_after=False)

    @rule(hint=st.sampled_from(HINTS))
    def another_price_is_known(self, hint: tuple[str, str, int | None] | None) -> None:
        if hint is None:
            self.hint = None
            self.table.items.pop("price#up#m", None)
            return
        per_input, per_output, answer = hint
        self.hint = Decimal(per_input), Decimal(per_output), answer or 1000
        values = {"input": {"N": per_input}, "output": {"N": per_output}}
        self.table.items["price#up#m"] = {"pk": {"S": "price#up#m"}, **values} | (
            {"answer": {"N": str(answer)}} if answer else {}
        )

    # ------------------------------------------------------------------------------------------------------- settlement

    def _publish(self, request: Request, taken: Reservation, usage: Usage) -> None:
        data: dict[str, Any] = {
            "client": {"key_id": "k", "name": "", "owner": None, "tags": {}},
            "limits": taken.to_event(),
            "server": {"name": "up"},
            "request": {"model": "m"},
            "response": {"model": "m", "finish_reasons": ["stop"]},
            "usage": usage.to_event(),
            "cache": {"status": "BYPASS"},
        }
        request.usage = usage
        event: Event[Any, Any] = Event("InferenceCompleted", request.id, rfc3339(self.now), request.id, "team-a", data)
        self.events.append((request, event))

    @precondition(lambda self: bool(self.events))
    @rule(
        chosen=st.lists(st.integers(0, 99), min_size=1, max_size=4),
        faults=st.lists(st.sampled_from(["ok", "lost", "late"]), max_size=3),
        crash=st.none() | st.integers(0, 5),
        is_after=st.booleans(),
    )
    def are_settled(self, chosen: list[int], faults: list[str], crash: int | None, is_after: bool) -> None:
        batch = [self.events[-1 - number % len(self.events)] for number in chosen if self.events]
        records = [
            {"messageId": str(number), "body": json.dumps(envelope_of(event.to_entry("bus")))}
            for number, (_, event) in enumerate(batch)
        ]
        self.boto3.faults = list(faults)
        self.settling.left, self.settling.is_after = crash, is_after
        failed, present = None, [self._present(request) for request, _ in batch]
        with suppress(Crash):
            failed = failures(self.consumer({"Records": records}))
        self.boto3.faults, self.settling.left = [], None
        for (request, event), was_there in zip(batch, present, strict=True):
            self._is_settled(request, event, was_there)
        if failed is not None:
            assert failed == []
            self._check_told([request for request, event in batch if event.data["limits"]["has_budget"]])

    def _is_settled(self, request: Request, event: Event[Any, Any], was_there: bool) -> None:
        if request.place == "lease" and not self._present(request):
            request.place, request.reserved = "nowhere", Decimal(0)
        if f"settled#{request.id}" not in self.table.items or request.actual is not None:
            return
        usage, reserved = request.usage, event.data["limits"]["reserved"]
        assert usage
        request.actual = usage.input_tokens * INPUT + usage.output_tokens * OUTPUT
        if usage.source == "missing":
            request.actual = Decimal(reserved["cost"]) if reserved else Decimal(0)
        lease = event.data["limits"].get("lease")
        is_gone = request.place == "nowhere" and not was_there
        if lease and lease["in_doubt"] and is_gone and self._has_bucket(request):
            # Swept before, and given back once more in doubt: the bucket has so much less until it expires.
            amount = Decimal(event.data["limits"]["reserved"]["cost"])
            self.requests.append(replace(request, actual=None, reserved=-amount, place="bucket", is_counted=False))
        if request.place == "bucket" and lease and not lease["in_doubt"]:
            return  # given back by a call that nobody answered, after its end: reserved until its bucket expires
        request.place, request.reserved = "nowhere", Decimal(0)

    def _has_bucket(self, request: Request) -> bool:
        names = self.table.items.get(ITEM, {})
        return any(bucket_day(name) and name.endswith(f"_{request.at // QUARTER}") for name in names)

    def _check_told(self, requests: Sequence[Request]) -> None:
        """Whoever has settled has told all that was reached in the periods that go on."""
        counter = self.table.numbers(ITEM)
        for period, budget in self.budgets.items():
            start = str(counter.get(period))
            if budget is not None and any(self.start(period, each.at) == start for each in requests):
                share = self.spent(period, start) / budget
                reached = 100 if share >= 1 else 80 if share >= Decimal("0.8") else 50 if share >= Decimal("0.5") else 0
                assert self.bus.told.get((period, start), 0) == reached

    # ------------------------------------------------------------------------------------------------------------- time

    @rule(seconds=st.sampled_from(PAUSES))
    def some_time_passes(self, seconds: int) -> None:
        self._pass_to(self.now + seconds)

    @rule(beside=st.sampled_from([-1, 0, 1]), what=st.integers(0, 99), length=st.sampled_from([60, QUARTER, 86400]))
    def something_begins_or_ends(self, beside: int, what: int, length: int) -> None:
        """The clock comes to the second of the end of a lease, a bucket or a price, or of a new period, or beside."""
        leases = [each.end + 1 for each in self.requests if each.place == "lease"]
        buckets = [(each.at // QUARTER + 3) * QUARTER for each in self.requests if each.place == "bucket"]
        prices = [each.hint[0] for each in self.sandboxes if each.hint]
        moments = [each for each in (*leases, *buckets, *prices) if each + beside > self.now]
        turn = self.now - self.now % length + length
        moments.append(turn if turn + beside > self.now else turn + length)
        self._pass_to(moments[what % len(moments)] + beside)

    def _pass_to(self, now: int) -> None:
        self.now = now
        for sandbox in self.sandboxes[:]:
            if sandbox.request and now > sandbox.request.deadline:
                self._replace(sandbox)

    # ------------------------------------------------------------------------------------------------------------- laws

    @invariant()
    def the_item_is_what_the_model_says(self) -> None:
        item = self.table.items.get(ITEM, {})
        if not item:
            return
        leases = from_attribute(item.get("live" if self.gives_back else "took", {"M": {}}))
        if not self.gives_back:
            assert leases == {each.lease: each.at + LIFE for each in self.requests if each.lease in leases}
            return
        self._check_leases(leases)
        if self.has_budget:
            self._check_amounts({name: from_attribute(value) for name, value in item.items()})

    def _check_leases(self, found: dict[str, Any]) -> None:
        known = {each.lease: each for each in self.requests if each.place == "lease"}
        assert {each.lease for each in self.live()} <= found.keys() <= known.keys()
        for name, lease in found.items():
            end, at, cost = known[name].end, known[name].at, known[name].reserved
            counted = "".join(period[0] for period in ("week", "total") if period in self.budgets)
            of_money = {"end": end, "cost": cost, "at": at} | ({"counted": counted} if counted else {})
            assert lease == (of_money if self.has_budget else end)

    def _is_counted(self, moment: int, item: dict[str, Any]) -> bool:
        return any(self.start(period, moment) == item.get(period) for period in self.budgets)

    def _check_amounts(self, item: dict[str, Any]) -> None:
        buckets: dict[int, Decimal] = {}
        for each in self.requests:
            if each.place == "bucket":
                buckets[each.at // QUARTER] = buckets.get(each.at // QUARTER, Decimal(0)) + each.reserved
        # What is over counts nowhere: a bucket of last month is not looked at.
        found = {int(name.rpartition("_")[2]): value for name, value in item.items() if bucket_day(name)}
        buckets, found = (
            {quarter: amount for quarter, amount in each.items() if self._is_counted(quarter * QUARTER, item)}
            for each in (buckets, found)
        )
        for quarter, amount in buckets.items():
            assert found.get(quarter, amount if self.now >= (quarter + 3) * QUARTER else Decimal(0)) == amount
        assert not any(value for quarter, value in found.items() if quarter not in buckets)
        held = [each for each in self.requests if self._present(each)]
        held += [each for each in self.requests if each.place == "bucket" and each.at // QUARTER in found]
        for period in self.budgets:
            start = item.get(period)
            if start:
                own = [each.reserved for each in held if self.start(period, each.at) == start]
                spent = self.spent(period, start)
                assert item[f"{period}_spent"] == spent
                assert item[f"{period}_cost"] == spent + sum(own, Decimal(0))


def machine_of(kind: str) -> type[LimitsMachine]:
    return type(f"LimitsMachineOf{kind.title().replace(' ', '')}", (LimitsMachine,), {"kind": kind})


def step(machine: LimitsMachine, chance: random.Random) -> None:
    """One step, with every kind of step as likely as it is useful; what cannot happen now is left out."""
    number, words, most, usage = chance.randrange(12), chance.choice(WORDS), chance.choice(MOST), chance.choice(USAGES)
    faults = chance.choices(FAULTS, k=2) if chance.random() < 0.2 else []
    is_after, crash = chance.random() < 0.5, chance.randrange(5)
    idle: dict[str, tuple[int, Callable[[], None]]] = {
        "takes": (8, lambda: machine.takes(number, words, most, hasty=chance.random() < 0.2, faults=faults)),
        "dies": (1, lambda: machine.dies_while_it_takes(number, words, most, crash, is_after)),
        "outage": (2, lambda: machine.takes_in_an_outage(number, words, most, chance.choice(["lost", "late"]), crash)),
        "many": (3, lambda: machine.some_come_and_go(1 + crash, 1, chance.choice([1, 87]), usage, settles=is_after)),
    }
    running: dict[str, tuple[int, Callable[[], None]]] = {
        "ends": (5, lambda: machine.ends(number, usage, faults)),
        "ends so": (1, lambda: machine.ends_in_an_outage(number, usage, chance.choice(["lost", "late"]), crash % 3)),
        "dies too": (1, lambda: machine.dies_while_it_gives_back(number, usage, crash, is_after)),
        "is gone": (1, lambda: machine.dies(number)),
        "looks": (5, lambda: machine.looks_after_its_lease(number, chance.choice(["ok", "ok", "lost", "late"]))),
    }
    chosen = [number, crash]
    always: dict[str, tuple[int, Callable[[], None]]] = {
        "price": (1, lambda: machine.another_price_is_known(chance.choice(HINTS))),
        "settles": (4, lambda: machine.are_settled(chosen, [], crash if number == 0 else None, is_after)),
        "moment": (
            5,
            lambda: machine.something_begins_or_ends(crash % 3 - 1, number, chance.choice([60, 60, 900, 86400])),
        ),
        "pause": (3, lambda: machine.some_time_passes(chance.choice(PAUSES))),
    }
    is_busy = [each.request is not None for each in machine.sandboxes]
    possible = [*always.values(), *(() if all(is_busy) else idle.values()), *(running.values() if any(is_busy) else ())]
    weights = [weight for weight, _ in possible]
    _, happens = chance.choices(possible, weights)[0]
    happens()
