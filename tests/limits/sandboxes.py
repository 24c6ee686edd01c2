"""Sandboxes that take of one limits table at once, call by call in an order that chance chooses."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from threading import Semaphore, Thread
from typing import Any

from openai_proxy.events.ulid import new_ulid
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Windows
from openai_proxy.usage import Usage
from proxy.errors import LimitError
from proxy.limits.renewal import Renewals
from proxy.limits.reservation import Reservation
from proxy.limits.table import FailurePolicy, LimitsTable
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from settle_limits.settlement import Settlement
from settle_limits.table import LimitsTable as SettlingTable

from tests.limits.machine import FAR, PATIENT, Crash, Crashing
from tests.limits.table import AsBoto3, LimitsItems, access_to

NOON = 4_099_118_400
SHARDS = 5
TOKENS = 13
"""Of a request: its prompt and its longest answer."""
COST = Decimal("0.00037")
"""USD that a request is expected to cost: 5 tokens of its prompt, 8 of its answer, at the prices of no known model."""
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 8}).encode()


def body_of(tokens: int = 8) -> RequestBody:
    asked = {**json.loads(BODY), "max_tokens": tokens}
    request = InferenceRequest("function_url", "POST", "/", "", {}, json.dumps(asked).encode(), None)
    return RequestBody(request, Target("up", "/chat/completions"))


@dataclass(eq=False)
class Sandbox:
    """One sandbox, its clock, and what it was let through with."""

    services: Any
    place: float = 0.0
    now: float = NOON
    shards: int = SHARDS
    policy: FailurePolicy = "closed"
    apart: Sequence[str] = ()
    """Ids of limits that are counted in no shards."""
    passed: list[Reservation] = field(default_factory=list[Reservation])

    def __post_init__(self) -> None:
        self.renewals = Renewals(self.services, "limits", 1.0, lambda: self.now, lambda _: None)
        self.proxy = LimitsTable(
            access_to(self.services, lambda: self.now),
            self.policy,
            renewals=lambda: self.renewals,
            shards=lambda limits: 1 if limits.id in self.apart else self.shards,
        )
        self.choose(random.Random(self.place))

    def choose(self, chance: random.Random) -> None:
        """Take of a shard that `chance` chooses, as a new sandbox does."""
        self.proxy._shards._chance = chance.random  # pyright: ignore[reportPrivateUsage]

    def take(self, limits: Limits, tokens: int = 8) -> Reservation:
        taken = self.proxy.take(limits, new_ulid(self.now), body_of(tokens), [PATIENT], FAR)
        if not taken.refused:
            self.passed.append(taken)
        return taken

    def release(self, taken: Reservation, used: int | None) -> Reservation:
        usage = Usage(source="missing") if used is None else Usage(used, 0, source="reported")
        return self.proxy.release(taken, usage, FAR)


class Turns:
    """Lets one of several actors at a time make its next call of the table, each chosen by chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._free: dict[int, Semaphore] = {}
        self._waits = Semaphore(0)
        self.are_over = False
        self.failed: list[BaseException] = []

    def services(self, number: int, services: Any) -> Any:
        """The services of an actor, which waits before each call until it is its turn."""
        self._free[number] = Semaphore(0)
        turns = self

        class Waiting:
            def __getattr__(self, name: str) -> Any:
                def call(*args: Any) -> Any:
                    if not turns.are_over:
                        turns._waits.release()
                        turns._free[number].acquire()
                    return getattr(services, name)(*args)

                return call

        return Waiting()

    def run(self, actors: Sequence[Callable[[], None]]) -> None:
        """Run one actor for each of the services, to their ends."""
        ended: set[int] = set()

        def lives(number: int, acts: Callable[[], None]) -> None:
            try:
                acts()
            except Crash:
                pass
            except BaseException as failure:  # noqa: BLE001 - of a thread: it is raised in the test's own
                self.failed.append(failure)
            finally:
                ended.add(number)
                self._waits.release()

        threads = [Thread(target=lives, args=each, daemon=True) for each in enumerate(actors)]
        for thread in threads:
            thread.start()
            self._waits.acquire()
        while going := [number for number in range(len(actors)) if number not in ended]:
            self._free[self._chance.choice(going)].release()
            self._waits.acquire()
        for thread in threads:
            thread.join()
        self.are_over = True
        if self.failed:
            raise self.failed[0]


def until_refused(sandbox: Sandbox, limits: Limits, refusals: list[LimitError], tokens: int = 8) -> None:
    while not isinstance(refused := sandbox.take(limits, tokens).refused, LimitError):
        assert refused is None
    refusals.append(refused)


def raced_till_they_die(
    chance: random.Random, limits: Limits, count: int, first: int, times: int
) -> tuple[LimitsItems, list[Sandbox]]:
    """Sandboxes that ask at once, so many times each, lose answers, and die at one of their calls from `first` on."""
    table, turns = LimitsItems(), Turns(chance)
    services: list[Any] = [Crashing(turns.services(number, table)) for number in range(count)]
    sandboxes = [Sandbox(each, chance.random()) for each in services]

    def ask(sandbox: Sandbox, service: Any) -> None:
        service.left, service.is_after = chance.randrange(first, 50), chance.random() < 0.5
        for _ in range(times):
            table.faults = chance.choices(["ok", "late", "lost"], weights=[20, 1, 1], k=2)
            sandbox.take(limits)

    turns.run([lambda each=each: ask(*each) for each in zip(sandboxes, services, strict=True)])
    table.faults = []
    return table, sandboxes


def raced(chance: random.Random, limits: Limits, count: int = 6) -> tuple[LimitsItems, list[Sandbox], list[LimitError]]:
    """Sandboxes that ask at once until they are refused."""
    table, turns = LimitsItems(), Turns(chance)
    refusals: list[LimitError] = []
    sandboxes = [Sandbox(turns.services(number, table), chance.random()) for number in range(count)]
    turns.run([lambda each=each: until_refused(each, limits, refusals) for each in sandboxes])
    return table, sandboxes, refusals


def passed(sandboxes: Sequence[Sandbox]) -> int:
    return sum(len(each.passed) for each in sandboxes)


def of_team(**limits: Any) -> Limits:
    return Limits("team.web", **limits, team="web")


BUSY = 120
"""Leases: more than a counter that is not divided keeps."""


def busy(table: LimitsItems, limits: Limits) -> None:
    """Make the counter one of many requests that run."""
    Sandbox(table, shards=1).take(limits)
    (place,) = {"live", "took"} & table.items[f"limits#{limits.id}"].keys()
    leases = table.items[f"limits#{limits.id}"][place]["M"]
    leases |= {f"of-another-{number}": {"N": str(NOON + 30)} for number in range(BUSY)}


def settlement(taken: Reservation, number: int, actual: Decimal) -> Settlement:
    """What settle_limits makes of the event of a request."""
    told = taken.to_event()
    reserved, limits = told["reserved"], taken.limits
    assert told["taken_at"] is not None
    return Settlement(
        event_id=f"event-{number}",
        limits_id=limits.id,
        client_id="c",
        client={"key_id": limits.id, "name": "", "owner": None, "tags": {}},
        taken_at=told["taken_at"],
        windows=Windows.of(told["taken_at"], limits.calendar),
        budgets=limits.budgets,
        reserved=Decimal(reserved["cost"]) if reserved else None,
        actual=actual,
        is_priced=True,
        hint=None,
        lane=1 if told.get("shard") else 0,
    )


def settling(table: LimitsItems, now: float = NOON, lane: int = 1) -> SettlingTable:
    client: Any = AsBoto3(table)
    return SettlingTable(client, "limits", lambda _: None, lambda: now, lane)
