"""Budgets and parallel requests in shards: exactly as much as there is, however it moves between them."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.dynamodb import from_item
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Windows
from openai_proxy.shards.limits import Whole
from proxy.errors import LimitError
from proxy.limits.reservation import Reservation

from tests.examples import examples
from tests.limits.sandboxes import (
    COST,
    NOON,
    TOKENS,
    Sandbox,
    Turns,
    busy,
    of_team,
    passed,
    raced_till_they_die,
    settlement,
    settling,
    until_refused,
)
from tests.limits.table import LimitsItems

EXAMPLES = examples(2)
HALF_AN_HOUR = 45 * 60


def reserved_by(sandboxes: Sequence[Sandbox]) -> Decimal:
    shares = (taken.share for each in sandboxes for taken in each.passed)
    return sum((share.cost for share in shares if share), Decimal(0))


def whole_of(table: LimitsItems, limits_id: str = "k") -> Whole:
    """The counter with its shards and lanes."""
    items = {name.removeprefix(f"limits#{limits_id}"): from_item(item) for name, item in table.items.items()}
    shards = {int(name[1:]): item for name, item in items.items() if name[1:].isdigit()}
    return Whole(items[""], shards, [item for name, item in items.items() if name.startswith("#s")])


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_a_budget_is_taken_to_its_last_digit_and_what_was_not_used_is_taken_again(seed: int) -> None:
    chance = random.Random(seed)
    table, turns = LimitsItems(), Turns(chance)
    budget = COST * chance.choice([1, 40]) + chance.choice([Decimal(0), Decimal("0.000101")])
    limits = Limits("k", budget_month=budget, budget_day=chance.choice([None, budget, budget * 2]))
    refusals: list[LimitError] = []
    sandboxes = [Sandbox(turns.services(number, table), chance.random()) for number in range(5)]
    turns.run([lambda each=each: until_refused(each, limits, refusals) for each in sandboxes])
    assert reserved_by(sandboxes) == budget
    assert {each.source for each in refusals} == {"key_budget_reserved"}

    everything = [taken for each in sandboxes for taken in each.passed]
    done = [settlement(each, n, COST * chance.choice([0, 1]) / 2) for n, each in enumerate(everything)]
    for lane in (1, 2, 1):  # each of them comes twice, and half to another consumer
        assert settling(table, lane=lane).settle(done[:: 3 - lane] if lane == 2 else done[1 - lane // 2 :]) == {}
    spent = sum(each.actual for each in done)
    assert settling(table).counter("k")["month_spent"] == spent
    later = Sandbox(table, 0.3, now=NOON + 2)
    until_refused(later, limits, refusals)
    assert reserved_by([later]) == budget - spent


def test_a_budget_that_is_spent_is_refused_until_the_period_ends_and_begins_anew_then() -> None:
    table = LimitsItems()
    limits = Limits("k", budget_day=COST * 3, budget_total=COST * 4)
    sandbox, refusals = Sandbox(table), list[LimitError]()
    until_refused(sandbox, limits, refusals)
    settling(table).settle(settlement(each, n, COST) for n, each in enumerate(sandbox.passed))
    sandbox.now += 2
    until_refused(sandbox, limits, refusals)
    assert [each.source for each in refusals] == ["key_budget_reserved", "key_budget"]
    assert refusals[1].retry_after == 86400 // 2 - 2
    assert refusals[1].headers["x-budget-remaining-usd"] == "0"
    sandbox.now = NOON + 86400
    until_refused(sandbox, limits, refusals)
    assert len(sandbox.passed) == 4, "what was spent in total does not begin anew"
    late = settlement(sandbox.passed[0], 77, COST * 2)
    settling(table, sandbox.now).settle([late])
    whole = whole_of(table)
    assert whole.counter["day"] == Windows.of(sandbox.now).day
    assert (whole.spent("day"), whole.spent("total")) == (0, COST * 5), "each day has its own requests"


def test_a_request_of_a_divided_budget_is_one_write_and_its_event_says_so() -> None:
    table = LimitsItems()
    limits = Limits("k", budget_month=Decimal(1000))
    sandbox = Sandbox(table)
    sandbox.take(limits)
    table.written.clear()
    sandbox.now += 60  # a budget knows no minutes
    taken = sandbox.take(limits)
    assert taken.headers["x-budget-remaining-usd"] == f"{1000 - COST:f}"
    released = sandbox.release(taken, 5)
    assert table.written == [f"limits#k#{taken.shard}"]
    event = released.to_event()
    assert event["reserved"] == {"cost": f"{COST:f}", "tokens": 13}
    assert event.get("shard") == taken.shard
    assert "lease" not in event


def test_a_request_that_costs_nothing_is_let_through_while_anything_is_left() -> None:
    table = LimitsItems()
    limits = Limits("k", budget_month=Decimal(1))
    sandbox = Sandbox(table)
    table.items["price#up#m"] = {"pk": {"S": "price#up#m"}, "input": {"N": "0"}, "output": {"N": "0"}}
    taken = sandbox.take(limits)
    assert taken.share
    assert taken.share.cost == Decimal("1e-12")


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_as_many_requests_run_as_there_are_places_and_never_more(seed: int) -> None:
    chance = random.Random(seed)
    table, turns = LimitsItems(), Turns(chance)
    places = chance.choice([1, 9, 30])
    limits = Limits("k", parallel=places, tpm=chance.choice([None, 10**6]))
    running, most = list[tuple[Sandbox, Reservation]](), [0]
    refused: list[LimitError] = []

    def ask(sandbox: Sandbox) -> None:
        for _ in range(25):
            own = [each for each in running if each[0] is sandbox]
            if own and chance.random() < 0.4:
                running.remove(own[0])
                sandbox.release(own[0][1], 3)
            taken = sandbox.take(limits)
            if isinstance(taken.refused, LimitError):
                refused.append(taken.refused)
                continue
            running.append((sandbox, taken))
            most[0] = max(most[0], len(running))
            sandbox.now += chance.choice([0, 0, 1])

    sandboxes = [Sandbox(turns.services(number, table), chance.random()) for number in range(4)]
    turns.run([lambda each=each: ask(each) for each in sandboxes])
    assert most[0] <= places
    assert {each.source for each in refused} <= {"key_parallel"}
    last = Sandbox(table, 0.4, now=max(each.now for each in sandboxes))
    until_refused(last, limits, refused)
    assert len(running) + passed([last]) == places, "a place that is free is found, whatever shard has it"
    for sandbox, taken in running:
        sandbox.release(taken, None)
    assert whole_of(table).running(int(last.now)) == passed([last])
    assert (refused[-1].reached, refused[-1].retry_after) != (None, None)
    assert refused[-1].retry_after == 1


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_a_limit_that_is_made_smaller_holds_at_once_for_who_knows_it(seed: int) -> None:
    """Others may still take as much as the larger one says, as long as their door remembers it."""
    chance = random.Random(seed)
    table, turns = LimitsItems(), Turns(chance)
    large = Limits("k", parallel=60, budget_month=COST * 60)
    small = Limits("k", parallel=20, budget_month=COST * 20)
    sandboxes = [Sandbox(turns.services(number, table), chance.random()) for number in range(5)]

    def ask(sandbox: Sandbox, *every: Limits) -> None:
        for limits in every * chance.randrange(1, 9):
            sandbox.take(limits)

    turns.run([lambda each=each: ask(each, large) for each in sandboxes])
    so_far = passed(sandboxes)
    last = Sandbox(table, 0.2)
    until_refused(last, small, [])
    assert passed([last]) == max(0, 20 - so_far)
    ended = [(each, each.passed.pop()) for each in sandboxes if each.passed]
    for each, taken in ended:
        each.release(taken, None)
    again = Sandbox(table, 0.9, now=NOON + 2)
    only_places = small._replace(budget_month=None)
    until_refused(again, only_places, [])
    assert passed([*sandboxes, last, again]) == max(20, so_far - len(ended)), "no place of before is one of the fewer"
    larger = Sandbox(table, 0.2, now=NOON + 4)
    until_refused(larger, large._replace(budget_month=None), [])
    assert passed([*sandboxes, last, again, larger]) == 60


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_while_some_doors_remember_a_larger_limit_no_more_is_let_through_than_that(seed: int) -> None:
    chance = random.Random(seed)
    table, turns = LimitsItems(), Turns(chance)
    views = [Limits("k", parallel=n, budget_month=COST * n) for n in (20, 35, 60)]
    sandboxes = [Sandbox(turns.services(number, table), chance.random()) for number in range(5)]

    def ask(sandbox: Sandbox) -> None:
        for _ in range(15):
            sandbox.shards = chance.choice([1, 3, 7])
            sandbox.take(chance.choice(views))

    turns.run([lambda each=each: ask(each) for each in sandboxes])
    last = Sandbox(table, 0.2)
    until_refused(last, views[-1], [])
    count, reserved = passed([*sandboxes, last]), reserved_by([*sandboxes, last])
    assert count <= 60
    assert reserved <= COST * 60
    assert count == 60 or reserved == COST * 60


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_what_died_holds_its_place_for_a_minute_and_its_money_for_half_an_hour(seed: int) -> None:
    limits = Limits("k", parallel=25, budget_total=COST * 40, rpm=1000)
    table, sandboxes = raced_till_they_die(random.Random(seed), limits, 5, first=8, times=12)
    last = Sandbox(table, 0.5)
    until_refused(last, limits, [])
    assert passed([*sandboxes, last]) <= 25
    last.now += 61
    before = passed([last])
    until_refused(last, limits, [])
    assert reserved_by([*sandboxes, last]) <= COST * 40
    assert passed([last]) - before <= 25
    for number, taken in enumerate(last.passed):
        last.release(taken, 13)
        settling(table, last.now).settle([settlement(taken, number, COST)])
    spent = COST * passed([last])
    last.passed.clear()
    last.now += HALF_AN_HOUR
    while spent + reserved_by([last]) < COST * 40:
        taken = last.take(limits)
        assert taken.refused is None, "what nobody told the end of is there again"
        last.release(taken, None)
    assert last.take(limits).refused


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_each_day_has_its_budget_although_clocks_differ(seed: int) -> None:
    chance = random.Random(seed)
    table, turns = LimitsItems(), Turns(chance)
    sandboxes = [Sandbox(turns.services(number, table), chance.random()) for number in range(4)]
    limits = Limits("k", budget_day=COST * 20, budget_month=COST * 1000)

    def ask(sandbox: Sandbox) -> None:
        for _ in range(20):
            sandbox.now = NOON + 86400 // 2 - 1 + chance.choice([0, 0, 1])
            sandbox.take(limits)

    turns.run([lambda each=each: ask(each) for each in sandboxes])
    days = Counter[str]()
    for taken in (taken for each in sandboxes for taken in each.passed):
        assert taken.share
        days[taken.windows.day] += int(taken.share.cost / Decimal("1e-8"))
    assert len(days) <= 2
    assert max(days.values()) <= COST * 20 / Decimal("1e-8")


def test_a_place_is_kept_while_its_request_runs_and_no_longer() -> None:
    table = LimitsItems()
    limits = Limits("k", parallel=1)
    sandbox, other = Sandbox(table), Sandbox(table, 0.9)
    taken = sandbox.take(limits)
    for _ in range(20):
        sandbox.now += 5
        sandbox.renewals.look()
    other.now = sandbox.now
    assert other.take(limits).refused
    sandbox.release(taken, None)
    other.now += 2
    assert other.take(limits).refused is None
    sandbox.now = other.now + 50  # nobody renews it
    assert sandbox.take(limits).refused is None


@pytest.mark.parametrize("place", [0.4, 0.9], ids=["in its own shard", "in another"])
def test_a_place_is_taken_until_the_second_in_which_its_lease_ends(place: float) -> None:
    table, limits = LimitsItems(), Limits("k", parallel=1)
    taken = Sandbox(table, 0.4).take(limits)
    assert taken.share
    for seconds, is_free in ((0, False), (1, True)):
        assert whole_of(table).running(taken.share.lease_end + seconds) == int(not is_free)
        other = Sandbox(table, place, now=taken.share.lease_end + seconds)
        assert bool(other.take(limits).refused) is not is_free


@pytest.mark.parametrize("count", [1, 7])
def test_places_whose_leases_have_ended_are_freed_and_taken_in_the_same_shard(count: int) -> None:
    """Nobody need look for room elsewhere, nor draw."""
    table, limits = LimitsItems(), Limits("k", parallel=count)
    sandbox = Sandbox(table, 0.3)
    for _ in range(count):
        sandbox.take(limits)
    sandbox.now += 60
    table.written.clear()
    taken = sandbox.take(limits)
    assert (taken.refused, taken.shard) == (None, sandbox.passed[0].shard)
    assert table.written == [f"limits#k#{taken.shard}"] * 3, "it is full, it is swept, it has room"


@pytest.mark.parametrize("used", [0, TOKENS, 5 * TOKENS])
def test_a_place_is_free_at_once_although_the_minute_of_its_tokens_is_over(used: int) -> None:
    """The clock of another sandbox is ahead."""
    table, limits = LimitsItems(), Limits("k", parallel=1, tpm=1000)
    sandbox, ahead = Sandbox(table, 0.4, now=NOON + 59), Sandbox(table, 0.4, now=NOON + 60)
    taken = sandbox.take(limits)
    assert ahead.take(limits._replace(parallel=2)).refused is None
    sandbox.release(taken, used)
    assert whole_of(table).running(NOON + 60) == 1
    shard = table.numbers(f"limits#k#{taken.shard}")
    assert shard["tokens"] == TOKENS, "of the new minute"


@pytest.mark.parametrize("is_applied", [False, True])
def test_a_place_whose_renewal_was_not_answered_is_taken_once_more_and_is_free_in_the_end(is_applied: bool) -> None:
    table = LimitsItems()
    limits = Limits("k", parallel=3)
    sandbox = Sandbox(table)
    taken = sandbox.take(limits)
    sandbox.now += 16
    table.faults = ["late" if is_applied else "lost"]
    sandbox.renewals.look()
    sandbox.now += 5
    sandbox.renewals.look()
    assert whole_of(table).running(int(sandbox.now)) == 2
    assert Sandbox(table, now=sandbox.now).take(limits).refused is None
    sandbox.release(taken, None)
    assert whole_of(table).running(int(sandbox.now)) == 2, "one of them is free at once"
    sandbox.now += 50
    until_refused(sandbox, limits, [])
    assert whole_of(table).running(int(sandbox.now)) == 3


def test_a_release_that_nobody_knows_the_place_of_leaves_it_to_its_end() -> None:
    table = LimitsItems()
    limits = Limits("k", parallel=1, tpm=1000)
    sandbox = Sandbox(table)
    taken = sandbox.take(limits)
    sandbox.now += 16
    table.faults = ["late"]
    sandbox.renewals.look()
    sandbox.release(taken, 0)
    assert sandbox.take(limits).refused
    sandbox.now += 45
    assert sandbox.take(limits).refused is None


@pytest.mark.parametrize(
    "limits", [Limits("k", budget_day=COST * 50), Limits("k", parallel=130), Limits("k", parallel=200, rpm=50)]
)
def test_a_busy_counter_of_places_and_money_is_divided_and_what_runs_in_it_still_counts(limits: Limits) -> None:
    table = LimitsItems()
    sandboxes = [Sandbox(table, place, shards=1) for place in (0.1, 0.4, 0.8)]
    direct = sandboxes[0].take(limits)
    busy(table, limits._replace(rpm=None))
    counter = table.items["limits#k"]
    if limits.has_budget:
        counter["live"]["M"] |= {
            name: {"M": {"end": {"N": str(NOON + 30)}, "cost": {"N": "0"}, "at": {"N": str(NOON)}}}
            for name in counter["live"]["M"]
            if name.startswith("of-another")
        }
    assert sandboxes[1].take(limits).shard == 0
    for each in sandboxes:
        until_refused(each, limits, [])
    own = passed(sandboxes) + 1  # busy has taken one
    assert own == {"k50": 50}.get(f"k{limits.rpm}", 50 if limits.has_budget else 130 - 120)
    sandboxes[0].release(direct, None if limits.rpm else 0)
    sandboxes[2].now += 2
    again = sandboxes[2].take(limits)
    assert bool(again.refused) is (limits.rpm is not None), "what it held is there for the shards"


def test_a_key_with_money_and_its_team_with_places_are_taken_or_given_back_together() -> None:
    table = LimitsItems()
    key = Limits("k", budget_month=COST * 30, shared=of_team(parallel=20, budget_day=COST * 100))
    sandboxes = [Sandbox(table, place) for place in (0.0, 0.5)]
    refusals: list[LimitError] = []
    for each in sandboxes:
        until_refused(each, key, refusals)
    assert passed(sandboxes) == 20
    assert refusals[-1].source == "team_parallel"
    assert whole_of(table).gone("month", Windows.of(NOON)) == COST * 20
    released = sandboxes[0].release(sandboxes[0].passed[0], 13)
    assert [each.to_event().get("shard") for each in released.parts] == [each.shard for each in released.parts]
    sandboxes[0].now += 2
    assert sandboxes[0].take(key).refused is None


def test_an_unchecked_request_of_a_divided_budget_is_settled_as_nothing_reserved() -> None:
    table = LimitsItems()
    limits = Limits("k", budget_month=COST * 5)
    sandbox = Sandbox(table, policy="open")
    sandbox.take(limits)
    table.faults = ["late"] * 9
    taken = sandbox.take(limits)
    assert not taken.is_checked
    table.faults = []
    event = settlement(taken, 1, COST)
    assert (event.reserved, event.lane) == (None, 1)
    settling(table).settle([event, replace(settlement(sandbox.passed[0], 2, COST), lane=1)])
    assert settling(table).counter("k")["month_spent"] == COST * 2


class Counted(LimitsItems):
    """The table, and how many items each call has read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_at_once: list[int] = []

    def batch_get_item(self, table: str, keys: Sequence[Any], timeout: float) -> list[Any]:
        self.read_at_once.append(len(keys))
        return super().batch_get_item(table, keys, timeout)


@pytest.mark.parametrize(
    ("limits", "shards", "read"),
    [
        (Limits("k", parallel=500), 99, [100]),
        (Limits("k", parallel=500), 100, [100, 1]),
        (Limits("k", budget_day=Decimal(500)), 91, [100]),
        (Limits("k", budget_day=Decimal(500)), 192, [100, 100, 1]),
    ],
    ids=["one read of shards", "one shard more", "one read of shards and lanes", "two and a lane"],
)
def test_a_counter_is_read_with_all_its_shards_and_lanes_a_hundred_items_at_a_time(
    limits: Limits, shards: int, read: list[int]
) -> None:
    """DynamoDB takes no more in one call."""
    table = Counted()
    assert Sandbox(table, 0.5, shards=shards).take(limits).is_checked
    assert table.read_at_once == read
