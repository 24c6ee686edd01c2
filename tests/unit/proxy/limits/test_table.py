"""How the limits table is called: with which time, at whose prices, and how seldom of what is known to be divided."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.events.ulid import new_ulid
from openai_proxy.key_limits import Limits
from openai_proxy.servers import parse_servers
from openai_proxy.usage import Usage
from proxy.limits.reservation import CAREFUL, Prices
from proxy.limits.table import LimitsTable
from proxy.request.routing import Candidate

from tests.limits.machine import FAR, PATIENT
from tests.limits.sandboxes import NOON, Sandbox, body_of, busy, of_team
from tests.limits.table import LimitsItems, access_to

USED = Usage(5, 3, source="reported")


@dataclass
class Timed(LimitsItems):
    """The table, and the time that each call of it had."""

    timeouts: list[float] = field(default_factory=list[float])

    def update_item(self, arguments: Mapping[str, Any], _timeout: float) -> tuple[bool, Any]:
        self.timeouts.append(_timeout)
        return super().update_item(arguments, _timeout)

    def get_item(self, arguments: Mapping[str, Any], _timeout: float) -> Any:
        self.timeouts.append(_timeout)
        return super().get_item(arguments, _timeout)


def proxy_of(table: Any, timeout: float = 60.0) -> LimitsTable:
    return LimitsTable(access_to(table, lambda: NOON, timeout), "closed")


def test_each_call_has_its_time_whether_something_is_taken_or_given_back() -> None:
    table = Timed()
    proxy = proxy_of(table, 600.0)
    limits = Limits("k", tpm=1000, budget_day=Decimal(5))
    taken = proxy.take(limits, new_ulid(NOON), body_of(), [PATIENT], FAR)
    assert taken.refused is None
    count = len(table.timeouts)
    assert proxy.release(taken, USED, FAR).lease == "returned"
    assert set(table.timeouts) == {600.0}
    assert len(table.timeouts) > count > 1


def test_what_is_given_back_is_what_the_lease_says_whatever_the_sandbox_thinks_of_it() -> None:
    """Of several takes that were sent for one request, one was applied."""
    table = LimitsItems()
    proxy = proxy_of(table)
    taken = proxy.take(Limits("k", budget_day=Decimal(5)), new_ulid(NOON), body_of(), [PATIENT], FAR)
    assert taken.share
    before = table.numbers("limits#k")["day_cost"]
    table.items["limits#k"]["live"]["M"][taken.share.lease]["M"]["cost"] = {"N": "0.00001"}
    released = proxy.release(taken, USED, FAR)
    assert (released.lease, table.items["limits#k"]["live"]["M"]) == ("returned", {})
    assert table.numbers("limits#k")["day_cost"] == before + released.cost - Decimal("0.00001")


def test_a_budget_is_reserved_by_the_prices_of_the_server_that_is_asked_first() -> None:
    table = LimitsItems()
    table.items["price#up#m"] = {"pk": {"S": "price#up#m"}, "input": {"N": "0.5"}, "output": {"N": "0.25"}}
    fallback = Candidate(parse_servers("other: {url: 'http://other.example/v1', token: t, model: m}")["other"])
    limits = Limits("k", budget_day=Decimal(5))
    for candidates, prices in (
        ([PATIENT, fallback], Prices(Decimal("0.5"), Decimal("0.25"))),
        ([fallback, PATIENT], CAREFUL),
    ):
        assert proxy_of(table).take(limits, new_ulid(NOON), body_of(), candidates, FAR).prices == prices


def test_every_counter_that_is_divided_is_remembered() -> None:
    table, keys = LimitsItems(), [Limits(name, rpm=60) for name in "abc"]
    for limits in keys:
        busy(table, limits)
    sandbox = Sandbox(table, 0.1, shards=1)
    for limits in keys:
        sandbox.take(limits)
    for limits in keys:
        table.written.clear()
        sandbox.take(limits)
        assert table.written[0].startswith(f"limits#{limits.id}#"), "who has divided it asks it no more"
    table.written.clear()
    assert all(sandbox.take(limits).shard for limits in keys)
    assert [name.count("#") for name in table.written] == [2, 2, 2], "one write each, of a shard"


def test_a_shard_draws_in_the_minute_of_its_counter_where_that_is_ahead() -> None:
    table, limits = LimitsItems(), Limits("k", rpm=100)
    Sandbox(table, 0.1, now=NOON + 60).take(limits)
    for place in (0.2, 0.3, 0.4):
        taken = Sandbox(table, place, now=NOON + 59.5).take(limits)
        assert (taken.refused, taken.is_checked, taken.windows.minute) == (None, True, NOON // 60 + 1)


@pytest.mark.parametrize("is_divided", [True, False])
def test_a_team_whose_counter_is_busy_or_divided_is_taken_in_a_shard_with_its_key(is_divided: bool) -> None:
    table, team = LimitsItems(), Limits("team.web", rpm=60, team="web")
    busy(table, team)
    if is_divided:
        Sandbox(table, 0.1, shards=1).take(team)
    assert ("divided" in table.items["limits#team.web"]) is is_divided
    taken = Sandbox(table, 0.2, shards=1).take(Limits("k", parallel=5, shared=team))
    assert taken.team
    assert [each.refused for each in taken.parts] == [None, None]
    assert [each.is_checked for each in taken.parts] == [True, True]
    assert (taken.shard, taken.team.shard > 0) == (0, True)


@pytest.mark.parametrize("team", [None, Limits("team.web", rpm=60, team="web"), Limits("team.web", rpm=60, parallel=9)])
@pytest.mark.parametrize("own", [Limits("k", rpm=60), Limits("k", rpm=60, parallel=9)])
def test_a_counter_that_is_given_nothing_back_keeps_the_mark_of_a_sandbox_s_last_request_and_no_other(
    own: Limits, team: Limits | None
) -> None:
    table, shared = LimitsItems(), team and team._replace(team="web")
    sandboxes = [Sandbox(table, place, shards=1) for place in (0.1, 0.6)]
    for _ in range(3):
        for sandbox in sandboxes:
            assert not sandbox.take(own._replace(shared=shared)).refused
    for each in (own, shared):
        if each:
            item = table.items[f"limits#{each.id}"]
            kept = item["live" if each.parallel else "took"]["M"]
            assert len(kept) == (6 if each.parallel else 2)


KINDS: dict[str, dict[str, Any]] = {
    "rpm": {"rpm": 60},
    "tpm": {"tpm": 10**6},
    "parallel": {"parallel": 60},
    "budget": {"budget_day": Decimal(50)},
    "all": {"rpm": 60, "tpm": 10**6, "parallel": 60, "budget_day": Decimal(50)},
}


@pytest.mark.parametrize("team", [None, *KINDS])
@pytest.mark.parametrize("own", KINDS)
@pytest.mark.parametrize("apart", [("k", "team.web"), ("k",), ("team.web",), ()], ids=["none", "team", "key", "both"])
def test_a_lease_is_renewed_in_each_counter_that_is_given_something_back_and_a_place_in_each_shard(
    own: str, team: str | None, apart: tuple[str, ...]
) -> None:
    table = LimitsItems()
    shared = None if team is None else of_team(**KINDS[team])
    sandbox = Sandbox(table, 0.4, apart=apart)
    taken = sandbox.take(Limits("k", **KINDS[own], shared=shared))
    sandbox.now += 16
    table.written.clear()
    sandbox.renewals.look()
    expected: list[str] = []
    for part, kind in zip(taken.parts, (own, team), strict=False):
        if part.limits.id in apart and kind != "rpm":
            expected.append(f"limits#{part.limits.id}")
        if part.limits.id not in apart and kind in ("parallel", "all"):
            expected.append(f"limits#{part.limits.id}#{part.shard}")
    assert (taken.refused, table.written) == (None, expected)
