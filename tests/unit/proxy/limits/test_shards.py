"""A key's limits in shards: whatever happens in whatever order, no more is let through than the limit, and no less."""

import json
import random
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.key_limits import Limits
from openai_proxy.shards.limits import PARTS, Whole
from proxy.errors import LimitError
from proxy.limits.counters import Counters
from proxy.limits.shards import Shards

from tests.examples import examples
from tests.limits.machine import Crash, Crashing
from tests.limits.sandboxes import (
    NOON,
    SHARDS,
    TOKENS,
    Sandbox,
    Turns,
    busy,
    of_team,
    passed,
    raced,
    raced_till_they_die,
    until_refused,
)
from tests.limits.table import LimitsItems

EXAMPLES = examples(2)


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_sandboxes_that_ask_at_once_are_let_through_exactly_as_often_as_the_limit_says(seed: int) -> None:
    chance = random.Random(seed)
    limit = chance.choice([1, 7, 60, 150])
    table, sandboxes, refusals = raced(chance, Limits("k", rpm=limit))
    assert passed(sandboxes) == limit
    assert {each.source for each in refusals} == {"key_rpm"}
    assert table.numbers("limits#k")["requests"] == limit
    assert all(each.retry_after == 60 for each in refusals)


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_tokens_are_shared_out_to_the_last_request_that_fits(seed: int) -> None:
    chance = random.Random(seed)
    limit = chance.choice([TOKENS, TOKENS * 40, TOKENS * 60 + 5])
    _, sandboxes, refusals = raced(chance, Limits("k", tpm=limit, rpm=chance.choice([None, 10_000])))
    assert limit - SHARDS * TOKENS < passed(sandboxes) * TOKENS <= limit
    assert {each.source for each in refusals} == {"key_tpm"}


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_while_limits_change_no_more_is_let_through_than_the_largest_of_them(seed: int) -> None:
    """Doors remember limits for a while: sandboxes reckon with several at once, and with one counter or many shards."""
    chance = random.Random(seed)
    table, turns = LimitsItems(), Turns(chance)
    views = [(Limits("k", rpm=limit, tpm=limit * TOKENS), count) for limit, count in ((20, 1), (45, 3), (75, 7))]
    sandboxes = [Sandbox(turns.services(number, table), chance.random()) for number in range(6)]

    def ask(sandbox: Sandbox) -> None:
        for _ in range(25):
            limits, sandbox.shards = chance.choice(views)
            sandbox.take(limits)

    turns.run([lambda each=each: ask(each) for each in sandboxes])
    assert passed(sandboxes) <= 75
    limits, shards = views[-1]
    last = Sandbox(table, 0.0, shards=shards)
    until_refused(last, limits, [])
    assert passed([*sandboxes, last]) <= 75


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_each_minute_has_its_own_limit_although_clocks_differ(seed: int) -> None:
    chance = random.Random(seed)
    table, turns = LimitsItems(), Turns(chance)
    sandboxes = [Sandbox(turns.services(number, table), chance.random()) for number in range(5)]
    limits = Limits("k", rpm=40, tpm=40 * TOKENS)

    def ask(sandbox: Sandbox) -> None:
        for _ in range(30):
            sandbox.now = NOON + 59 + chance.choice([0, 0, 1])
            if (taken := sandbox.take(limits)).refused is None and chance.random() < 0.5:
                sandbox.release(taken, TOKENS)

    turns.run([lambda each=each: ask(each) for each in sandboxes])
    minutes = Counter(taken.windows.minute for each in sandboxes for taken in each.passed)
    assert minutes.keys() <= {NOON // 60, NOON // 60 + 1}
    assert max(minutes.values()) <= 40


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_sandboxes_that_die_and_answers_that_are_lost_let_no_more_through(seed: int) -> None:
    limits = Limits("k", rpm=50, tpm=50 * TOKENS)
    table, sandboxes = raced_till_they_die(random.Random(seed), limits, 6, first=5, times=25)
    last = Sandbox(table, 0.5)
    until_refused(last, limits, [])
    assert passed([*sandboxes, last]) <= 50
    counter = table.numbers("limits#k")
    assert counter["requests"] == 50 or counter["tokens"] > 49 * TOKENS


def test_what_a_sandbox_drew_that_died_is_credited_by_the_next() -> None:
    table = LimitsItems()
    services: Any = Crashing(table)
    limits = Limits("k", rpm=100)
    services.left = 6  # the take, a look at the shard and the counter, the beginning of the minute, a look, the draw
    with pytest.raises(Crash):
        Sandbox(services).take(limits)
    drawn = table.numbers("limits#k")["requests"]
    assert drawn
    assert "limits#k#5" not in table.items
    sandbox = Sandbox(table)
    sandbox.take(limits)
    assert table.numbers("limits#k")["requests"] == drawn
    until_refused(sandbox, limits, [])
    assert len(sandbox.passed) == 100


def test_a_refused_request_asks_other_shards_first_and_then_nobody_again() -> None:
    table = LimitsItems()
    limits = Limits("k", rpm=20)
    first = Sandbox(table, 0.1)
    first.take(limits)
    other = Sandbox(table, 0.2)
    other.proxy._shards._place = 0.99  # pyright: ignore[reportPrivateUsage]
    first.proxy._shards._place = 0.0  # pyright: ignore[reportPrivateUsage]
    until_refused(first, limits, [])
    until_refused(other, limits, [])
    assert passed([first, other]) == 20
    for _ in range(3):
        other.take(limits)
    written = len(table.written)
    for seconds in (0, 59):
        other.now = NOON + seconds
        taken = other.take(limits)
        assert isinstance(taken.refused, LimitError)
        assert taken.share is None
        assert len(table.written) == written
        assert taken.refused.headers["x-ratelimit-remaining-requests"] == "0"
    other.now = NOON + 60
    assert other.take(limits).refused is None


@pytest.mark.parametrize("count", [2, 3])
def test_who_is_refused_has_asked_each_shard_that_there_is_and_no_other(count: int) -> None:
    table, limits = LimitsItems(), Limits("k", rpm=1)
    assert not Sandbox(table, 0.1, shards=count).take(limits).refused
    table.written.clear()
    assert Sandbox(table, 0.2, shards=count).take(limits).refused
    assert set(table.written) == {f"limits#k#{number}" for number in range(1, count + 1)}


class Asked(LimitsItems):
    """The table, and how often the counter itself has been read."""

    count = 0

    def read(self, name: str, is_consistent: bool) -> Any:
        self.count += name == "limits#k"
        return super().read(name, is_consistent)


@pytest.mark.parametrize("limits", [Limits("k", tpm=TOKENS), Limits("k", parallel=1)], ids=["tokens", "places"])
def test_whoever_is_refused_asks_the_counter_again_after_a_second_and_for_less_or_by_other_limits_at_once(
    limits: Limits,
) -> None:
    table = Asked()
    sandbox = Sandbox(table, 0.4)
    sandbox.take(limits)
    is_fewer = limits.tpm is not None
    changed = limits._replace(rpm=60)
    for seconds, asked, tokens, is_asked in (
        (0, limits, 8, True),
        (0.99, limits, 8, False),
        (0, limits, 9, False),
        (0.01, limits, 8, True),
        (0, limits, 7, is_fewer),
        (0, changed, 8, True),
    ):
        sandbox.now += seconds
        table.count = 0
        assert sandbox.take(asked, tokens).refused
        assert (table.count > 0) is is_asked


def test_a_counter_is_divided_into_as_many_shards_as_there_are() -> None:
    for count in (2, 3):
        table = LimitsItems()
        Sandbox(table, shards=count).take(Limits("k", parallel=1))
        assert table.numbers("limits#k")["divided"] == count


def test_tokens_of_a_minute_that_is_over_are_not_given_back() -> None:
    table, limits = LimitsItems(), Limits("k", tpm=1000)
    sandbox = Sandbox(table, now=NOON + 59)
    for seconds, writes in ((0, 1), (1, 0)):
        taken = sandbox.take(limits)
        sandbox.now = NOON + 59 + seconds
        table.written.clear()
        sandbox.release(taken, 0)
        assert len(table.written) == writes


def test_a_request_has_one_write_while_its_shard_has_room() -> None:
    table = LimitsItems()
    sandbox = Sandbox(table)
    limits = Limits("k", rpm=100_000)
    sandbox.take(limits)
    table.written.clear()
    sandbox.release(sandbox.take(limits), 3)
    assert len(table.written) == 1
    assert table.written[0].startswith("limits#k#")


def test_tokens_that_were_not_used_are_there_again_and_those_that_were_used_beyond_are_gone() -> None:
    table = LimitsItems()
    sandbox = Sandbox(table)
    limits = Limits("k", tpm=TOKENS * 2)
    first, second = sandbox.take(limits), sandbox.take(limits)
    assert sandbox.take(limits).refused
    assert "lease" not in sandbox.release(first, 0).to_event()
    assert "lease" not in sandbox.release(second, None).to_event()
    sandbox.now += 1
    third = sandbox.take(limits)
    assert third.refused is None
    assert sandbox.take(limits).refused
    sandbox.release(third, TOKENS + 5)
    sandbox.now += 1
    assert sandbox.take(limits, 1).refused
    sandbox.now = NOON + 60
    sandbox.release(second, 0)
    assert sandbox.take(limits).refused is None
    shard = table.numbers(f"limits#k#{third.shard}")
    assert shard["left_tokens"] + shard["tokens"] == shard["drawn_tokens"]


@pytest.mark.parametrize("fault", ["lost", "late", "ThrottlingException"])
def test_tokens_are_given_back_once_or_not_at_all(fault: str) -> None:
    table = LimitsItems()
    sandbox = Sandbox(table)
    limits = Limits("k", tpm=TOKENS * 2)
    taken = sandbox.take(limits)
    table.faults = [fault]
    event = sandbox.release(taken, 0).to_event()
    assert "lease" not in event
    assert table.numbers(f"limits#k#{taken.shard}")["tokens"] == (0 if fault == "late" else TOKENS)


def test_what_is_left_is_said_as_far_as_the_shard_knows() -> None:
    table = LimitsItems()
    sandbox = Sandbox(table)
    limits = Limits("k", rpm=1000, tpm=1000 * TOKENS)
    told = [sandbox.take(limits).headers for _ in range(3)]
    assert [each["x-ratelimit-remaining-requests"] for each in told] == ["999", "998", "997"]
    assert told[2]["x-ratelimit-remaining-tokens"] == str(997 * TOKENS)
    assert told[0]["x-ratelimit-limit-requests"] == "1000"
    assert told[0]["x-ratelimit-reset-requests"] == "60s"


def test_a_copy_of_a_sandbox_takes_of_a_shard_of_its_own() -> None:
    table: Any = LimitsItems()
    places = iter([0.0, 0.99])
    counters = Counters(table, "limits", lambda _: None)
    first, second = (Shards(counters, lambda: NOON, lambda _: 10, lambda: next(places)) for _ in range(2))
    assert [each.own(Limits("k", rpm=1)) for each in (first, first, second)] == [1, 1, 10]


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_a_key_and_its_team_are_taken_together_or_not_at_all(seed: int) -> None:
    """Of a large team with small keys, of large keys, and of keys with a budget beside a large team."""
    chance = random.Random(seed)
    table, turns = LimitsItems(), Turns(chance)
    large, small = Limits("k", rpm=25), Limits("k", parallel=200, budget_day=Decimal(1000))
    own, room = chance.choice([(large, 25), (small, 40)])
    key = own._replace(shared=of_team(rpm=40, tpm=40 * TOKENS))
    refusals: list[LimitError] = []
    sandboxes = [
        Sandbox(turns.services(number, table), chance.random(), apart=["k"] if own is small else [])
        for number in range(4)
    ]
    turns.run([lambda each=each: until_refused(each, key, refusals) for each in sandboxes])
    count = passed(sandboxes)
    assert room - SHARDS - len(sandboxes) <= count <= room
    assert {each.source for each in refusals} <= {"key_rpm", "team_rpm", "team_tpm"}
    most = {"limits#k": own.rpm or 200, "limits#team.web": 40}
    assert all(table.numbers(name)["requests"] <= limit for name, limit in most.items())
    counted = [name for name in table.items if name.startswith("limits#team.web#")]
    assert sum(table.numbers(name)["requests"] for name in counted) == count
    if own is small:
        assert len(table.numbers("limits#k")["live"]) == count
        sandbox = next(each for each in sandboxes if each.passed)
        taken = sandbox.release(sandbox.passed[0], 3)
        assert len(table.numbers("limits#k")["live"]) == count - 1
        assert sum(table.numbers(name)["tokens"] for name in counted) == count * TOKENS - 10
        assert taken.lease == "returned"


@pytest.mark.parametrize("limits", [Limits("k", rpm=60), Limits("k", tpm=60 * TOKENS), Limits("k", rpm=60, tpm=10**6)])
def test_a_counter_with_many_requests_that_run_is_divided_for_good(limits: Limits) -> None:
    table = LimitsItems()
    busy(table, limits)
    sandboxes = [Sandbox(table, place, shards=1) for place in (0.1, 0.2)]
    assert sandboxes[0].take(limits).shard == 0, "the one that finds so many leases has taken already"
    size = len(str(table.items["limits#k"]))
    assert [each.take(limits).shard > 0 for each in sandboxes] == [True, True]
    table.written.clear()
    assert sandboxes[1].take(limits).shard
    assert len(table.written) == 1
    assert len(str(table.items["limits#k"])) < size + 1000
    for each in sandboxes:
        until_refused(each, limits, [])
    assert passed(sandboxes) == 60 - 1
    assert Sandbox(table, 0.3, shards=1).take(limits).refused
    later = Sandbox(table, 0.3, now=NOON + 300, shards=1)
    assert later.take(limits).shard


def test_a_key_that_has_few_requests_at_a_time_is_never_divided() -> None:
    table = LimitsItems()
    sandboxes = [Sandbox(table, number / 100, shards=1) for number in range(100)]
    assert {each.take(Limits("k", tpm=10**6)).shard for each in sandboxes for _ in range(1)} == {0}
    assert "divided" not in table.items["limits#k"]
    assert Sandbox(table, shards=1).take(Limits("k", tpm=10**6)).shard == 0
    assert "divided" in table.items["limits#k"]


def test_who_cannot_divide_a_counter_has_taken_of_it_all_the_same() -> None:
    table = LimitsItems()
    busy(table, Limits("k", rpm=60))
    sandbox = Sandbox(table, shards=1)
    table.faults = ["ok", "lost"]
    assert sandbox.take(Limits("k", rpm=60)).is_checked
    assert "divided" not in table.items["limits#k"]


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_while_a_counter_is_divided_exactly_as_many_pass_as_the_limit_says(seed: int) -> None:
    chance = random.Random(seed)
    table, turns = LimitsItems(), Turns(chance)
    limits = Limits("k", rpm=80)
    busy(table, limits)
    sandboxes = [Sandbox(turns.services(number, table), chance.random(), shards=1) for number in range(6)]
    turns.run([lambda each=each: until_refused(each, limits, []) for each in sandboxes])
    assert passed(sandboxes) == 80 - 1


@pytest.mark.parametrize("whose", ["key", "team"])
def test_a_busy_key_or_its_busy_team_is_divided_and_the_two_are_taken_one_after_the_other(whose: str) -> None:
    table = LimitsItems()
    team = of_team(rpm=30)
    key = Limits("k", rpm=40, shared=team)
    busy(table, key._replace(shared=None) if whose == "key" else team)
    sandboxes = [Sandbox(table, place, shards=1) for place in (0.1, 0.6)]
    shards = [taken.shard > 0 for taken in sandboxes[0].take(key).parts]
    assert shards == [whose == "key", whose == "team"]
    refusals: list[LimitError] = []
    for each in sandboxes:
        until_refused(each, key, refusals)
    assert passed(sandboxes) == (30 if whose == "key" else 29)
    assert {each.source for each in refusals} == {"team_rpm"}


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_while_transactions_meet_exactly_as_many_pass_as_the_team_has(seed: int) -> None:
    chance = random.Random(seed)
    table, turns = LimitsItems(), Turns(chance)
    key = Limits("k", rpm=90, shared=of_team(rpm=40, parallel=200))
    sandboxes = [Sandbox(turns.services(number, table), chance.random(), shards=1) for number in range(5)]
    refusals: list[LimitError] = []

    def ask(sandbox: Sandbox) -> None:
        while not isinstance(refused := sandbox.take(key).refused, LimitError):
            assert refused is None
            table.faults = chance.choices(["ok", "TransactionConflict"], k=4)
        refusals.append(refused)

    turns.run([lambda each=each: ask(each) for each in sandboxes])
    assert passed(sandboxes) == 40
    assert {each.source for each in refusals} == {"team_rpm"}


@pytest.mark.parametrize("limits", [Limits("k", rpm=1000), Limits("k", parallel=1000)], ids=["minutes", "lasting"])
def test_who_cannot_ask_the_counter_takes_what_others_have_drawn_meanwhile(limits: Limits) -> None:
    table = LimitsItems()
    services: Any = Crashing(table)
    first, other = Sandbox(services, 0.5), Sandbox(table, 0.5)

    def draw() -> None:
        assert not other.take(limits).refused
        table.faults = ["ProvisionedThroughputExceededException"]

    def nothing() -> None:
        pass

    fifth = [nothing]
    # The take, and a look at the shard, which is not there; the counter, which is too busy; the take.
    services.before = [nothing, nothing, draw, nothing, *fifth]
    assert not first.take(limits).refused
    assert services.before == fifth
    assert passed([first, other]) == 2


def test_a_counter_that_takes_no_write_is_read_and_tells_that_it_is_divided() -> None:
    table, limits = LimitsItems(), Limits("k", rpm=1000)
    Sandbox(table, shards=1).take(limits)
    table.items["limits#k"]["divided"] = {"N": str(SHARDS)}
    table.written.clear()
    table.faults = ["ProvisionedThroughputExceededException"]
    taken = Sandbox(table, shards=1).take(limits)
    assert taken.shard
    assert not taken.refused
    assert table.written.count("limits#k") == 1, "what its shard draws"


def test_what_was_taken_of_a_team_goes_back_when_its_key_cannot_be_asked() -> None:
    table, team = LimitsItems(), of_team(rpm=1000, parallel=30)
    sandbox = Sandbox(table, shards=SHARDS, apart=["k"])
    key = Limits("k", rpm=1000, shared=team)
    sandbox.take(key)
    before = table.numbers("limits#team.web#5")
    table.faults = ["ok", *["ServiceUnavailable"] * 5]
    assert not sandbox.take(key).is_checked
    assert table.numbers("limits#team.web#5") == before


class Crowded(LimitsItems):
    """Others are faster so many times, in the counter or in its shards."""

    place, faster = "counter", 0

    def update(self, arguments: Mapping[str, Any]) -> tuple[bool, Any]:
        key = arguments["Key"]["pk"]["S"]
        if self.faster and self.place == ("counter" if key == "limits#k" else "shards"):
            self.faster -= 1
            self.written.append(key)
            return False, self.items.get(key, {})
        return super().update(arguments)


@pytest.mark.parametrize(
    ("place", "times", "said"),
    [("counter", 23, ""), ("counter", 240, "counter"), ("shards", 40, ""), ("shards", 240, "items")],
)
def test_who_is_never_fast_enough_tries_elsewhere_and_says_in_the_end_who_was(
    place: str, times: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Crowded()
    table.place, table.faster = place, times
    taken = Sandbox(table, 0.5, policy="open").take(Limits("k", rpm=60))
    assert taken.is_checked is not bool(said)
    reasons = [json.loads(line)["reason"] for line in capsys.readouterr().out.splitlines()]
    assert reasons == ([f"dynamodb:UpdateItem: NoAnswer, others changed the {said} each time"] if said else [])


def test_who_is_never_fast_enough_tries_from_the_first_shard_to_the_last() -> None:
    table = Crowded()
    table.place, table.faster = "shards", 60
    sandbox = Sandbox(table, shards=5)
    sandbox.proxy._shards._chance = iter([0.5, 0.0, 0.99]).__next__  # pyright: ignore[reportPrivateUsage]
    taken = sandbox.take(Limits("k", rpm=60))
    assert [*dict.fromkeys(table.written)] == ["limits#k#3", "limits#k", "limits#k#1", "limits#k#5"]
    assert (taken.refused, taken.is_checked, taken.shard) == (None, True, 5)


@pytest.mark.parametrize(
    ("drawn", "count", "numbers"), [([], 1, [1]), ([], 3, [1, 2, 3]), ([2, 11, 7], 3, [1, 2, 3, 7, 11])]
)
def test_a_counter_may_have_the_shards_of_now_and_those_that_have_drawn(
    drawn: list[int], count: int, numbers: list[int]
) -> None:
    assert Whole.numbers({PARTS: {str(number): {} for number in drawn}}, count) == numbers
