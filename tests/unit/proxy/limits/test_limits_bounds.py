"""What has room, what is left and what is said of it: each bound met exactly, each answer compared whole."""

import json
import time
from decimal import Decimal
from typing import Any, cast

import pytest
from openai_proxy.dynamodb import Item, from_item, to_item
from openai_proxy.key_context import ClientKey
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Windows
from openai_proxy.usage import Usage
from proxy.aws.client import NO_ANSWER, AwsError
from proxy.limits.counters import Calls, Counters
from proxy.limits.item import (
    Share,
    Source,
    headers,
    key_of,
    left_of_budgets,
    no_older_than,
    refusal,
    renewal,
    taking,
)
from proxy.limits.refused import limit_error, reached
from proxy.limits.reservation import CAREFUL, Prices, share_of
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target

from tests.limits.table import LimitsItems

NOW = 1_900_000_010
"""2030-03-17T17:46:50Z, a Sunday."""
D = Decimal
LIMITS = Limits("k", 3, 100, 2, D(10), D(100), D(50), D(500))
WINDOWS = Windows.of(NOW, LIMITS.calendar)
TO_MINUTE, TO_DAY = 10, 22_390
TO_WEEK, TO_MONTH = TO_DAY, TO_DAY + 14 * 86_400
ITEM: dict[str, Any] = {
    "minute": NOW // 60,
    "requests": 1,
    "tokens": 40,
    "live": {"a": {"end": NOW + 9, "cost": D(1), "at": NOW}},
    "day_cost": D(2),
    "day_spent": D(1),
    "week_cost": D(3),
    "month_cost": D(4),
    "total_cost": D(5),
}


def item(**changed: Any) -> Item:
    return to_item({name: value for name, value in (ITEM | changed).items() if value is not None})


def lease(seconds: int, cost: int = 1) -> dict[str, Any]:
    return {"end": NOW + seconds, "cost": D(cost), "at": NOW}


REFUSALS: list[tuple[dict[str, Any], tuple[Source, int | None] | None]] = [
    ({}, None),
    ({"requests": 2}, None),
    ({"requests": 3}, ("key_rpm", TO_MINUTE)),
    ({"tokens": 93}, None),
    ({"tokens": 94}, ("key_tpm", TO_MINUTE)),
    ({"requests": 3, "tokens": 94}, ("key_rpm", TO_MINUTE)),
    ({"live": {"a": lease(9), "b": lease(9)}}, ("key_parallel", 1)),
    ({"live": {"a": lease(9), "b": lease(9)}, "tokens": 94}, ("key_tpm", TO_MINUTE)),
    ({"day_cost": D("9.999999999999")}, None),
    ({"day_cost": D(10)}, ("key_budget_reserved", 5)),
    ({"day_cost": D(10), "live": {"a": lease(4), "b": lease(9)}}, ("key_budget_reserved", 4)),
    ({"day_cost": D(10), "live": {"a": lease(1, 0), "b": lease(4)}}, ("key_budget_reserved", 4)),
    ({"day_cost": D(10), "live": {"a": lease(-3)}}, ("key_budget_reserved", 1)),
    ({"day_cost": D(10), "requests": 3}, ("key_budget_reserved", 5)),
    ({"day_cost": D(10), "day_spent": D("9.999999999999")}, ("key_budget_reserved", 5)),
    ({"day_cost": D(10), "day_spent": D(10)}, ("key_budget", TO_DAY)),
    ({"week_spent": D(50)}, ("key_budget", TO_WEEK)),
    ({"month_spent": D(100)}, ("key_budget", TO_MONTH)),
    ({"day_spent": D(10), "month_spent": D(100)}, ("key_budget", TO_MONTH)),
    ({"month_spent": D(100), "total_spent": D(500)}, ("key_budget", None)),
]


@pytest.mark.parametrize(("changed", "refused"), REFUSALS)
def test_which_limit_has_no_room_and_when_it_may_have(
    changed: dict[str, Any], refused: tuple[Source, int | None] | None
) -> None:
    assert refusal(LIMITS, item(**changed), WINDOWS, 7) == refused


def test_a_key_without_limits_is_never_refused() -> None:
    full = item(requests=10**9, tokens=10**9, live={str(number): lease(9) for number in range(99)}, day_cost=D(10**6))
    assert refusal(Limits("k"), full, WINDOWS, 10**6) is None
    assert left_of_budgets(Limits("k"), full) is None
    assert headers(Limits("k"), full, WINDOWS) == {}


@pytest.mark.parametrize(
    ("changed", "own", "requests", "tokens", "money"),
    [
        ({}, D(0), 2, 60, ("8", TO_DAY)),
        ({"requests": 9, "tokens": 101}, D(0), 0, 0, ("8", TO_DAY)),
        ({}, D("0.5"), 2, 60, ("8.5", TO_DAY)),
        ({"month_cost": D("99.5")}, D("0.25"), 2, 60, ("0.75", TO_MONTH)),
        ({"day_cost": D(11), "total_cost": D(501)}, D(0), 2, 60, ("0", None)),
        ({"day_cost": D(11), "month_cost": D(101)}, D(0), 2, 60, ("0", TO_MONTH)),
        ({"day_cost": D("-90")}, D(0), 2, 60, ("47", TO_WEEK)),
    ],
)
def test_what_a_client_is_told_is_left(
    changed: dict[str, Any], own: Decimal, requests: int, tokens: int, money: tuple[str, int | None]
) -> None:
    left, seconds = money
    assert headers(LIMITS, item(**changed), WINDOWS, own) == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": str(requests),
        "x-ratelimit-reset-requests": "10s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": str(tokens),
        "x-ratelimit-reset-tokens": "10s",
        "x-budget-remaining-usd": left,
        **({} if seconds is None else {"x-budget-reset": f"{seconds}s"}),
    }


def test_what_may_still_be_reserved_is_what_the_tightest_budget_has() -> None:
    assert left_of_budgets(LIMITS, item()) == 8
    assert left_of_budgets(LIMITS, item(month_cost=D(99))) == 1
    assert left_of_budgets(LIMITS, item(total_cost=D(501))) == -1
    assert left_of_budgets(LIMITS, {}) == 10


@pytest.mark.parametrize("ahead", [-1, 0, 1])
def test_one_minute_is_one_minute_whichever_clock_is_ahead(ahead: int) -> None:
    found = no_older_than(WINDOWS, item(minute=NOW // 60 + ahead))
    assert found == (Windows.of((NOW // 60 + 1) * 60, LIMITS.calendar) if ahead > 0 else WINDOWS)


# --------------------------------------------------------------------------------------------------------- what is told


@pytest.mark.parametrize("team", ["", "blue"])
@pytest.mark.parametrize(
    ("source", "what"),
    [("key_rpm", "requests a minute"), ("key_tpm", "tokens a minute"), ("key_parallel", "requests at the same time")],
)
def test_a_client_is_told_which_limit_and_whose(team: str, source: Source, what: str) -> None:
    who = "This client key's team" if team else "This client key"
    assert_told(team, source, 4, "rate_limit_exceeded", f"{who} has reached its limit of {what}. Try again in 4 s.", {})


@pytest.mark.parametrize(("team", "whose"), [("", "this client key"), ("blue", "this client key's team")])
def test_a_client_is_told_whose_budget_it_is(team: str, whose: str) -> None:
    used_up = f"The budget of {whose} is used up."
    assert_told(team, "key_budget", 60, "insufficient_quota", used_up, {"x-should-retry": "false"})
    assert_told(team, "key_budget", None, "insufficient_quota", used_up, {"x-should-retry": "false"})
    reserved = f"The rest of {whose}'s budget is reserved by requests that run. Try again in 5 s."
    assert_told(team, "key_budget_reserved", 5, "budget_reserved", reserved, {"x-should-retry": "true"})


@pytest.mark.parametrize("own", [None, Limits("0" * 32, rpm=10)], ids=["no limits of its own", "limits of its own"])
@pytest.mark.parametrize(("end_user", "whose"), [("ada", "This user's team"), ("", "This client key's team")])
def test_a_user_is_not_called_a_client_key_where_the_team_has_no_room(
    own: Limits | None, end_user: str, whose: str
) -> None:
    key = ClientKey(
        "web", end_user=end_user, limits=own, team="blue", team_limits=Limits("team.blue", rpm=5, team="blue")
    )
    taken = key.limits_to_take
    assert taken
    error = limit_error(taken.shared or taken, "key_rpm", 4, {})
    assert (str(error), error.source) == (
        f"{whose} has reached its limit of requests a minute. Try again in 4 s.",
        "team_rpm",
    )


def assert_told(team: str, source: Source, seconds: int | None, code: str, message: str, more: dict[str, str]) -> None:
    own = {"x-ratelimit-limit-requests": "3"}
    error = limit_error(Limits("k", team=team), source, seconds, own)
    waits = {} if seconds is None else {"retry-after": str(seconds)}
    assert (error.status, error.code, str(error)) == (429, code, message)
    assert error.source == (source.replace("key_", "team_") if team else source)
    assert error.headers == own | more | waits


AMOUNTS: list[tuple[dict[str, Any], Source, tuple[str, str, str, str]]] = [
    ({"requests": 3}, "key_rpm", ("minute", "3", "3", "1")),
    ({"tokens": 94}, "key_tpm", ("minute", "100", "94", "7")),
    ({"live": {"a": lease(9), "b": lease(9)}}, "key_parallel", ("moment", "2", "2", "1")),
    ({"day_cost": D("10.5")}, "key_budget_reserved", ("day", "10", "10.5", "0.5")),
    ({"day_spent": D(10), "month_spent": D(100)}, "key_budget", ("month", "100", "100", "0.5")),
    ({"week_spent": D("50.25"), "total_spent": D(500)}, "key_budget", ("total", "500", "500", "0.5")),
]


@pytest.mark.parametrize(
    ("limits_id", "team", "subject"), [("k", "", "key"), ("a" * 32, "", "user"), ("k", "b", "team")]
)
@pytest.mark.parametrize("place", range(len(AMOUNTS)))
def test_a_limit_that_is_reached_says_whose_it_is_and_how_much_there_was(
    place: int, limits_id: str, team: str, subject: str
) -> None:
    changed, source, amounts = AMOUNTS[place]
    found = refusal(LIMITS, item(**changed), WINDOWS, 7)
    assert found
    assert found[0] == source
    limits = LIMITS._replace(id=limits_id, team=team)
    full = reached(limits, source, item(**changed), WINDOWS, Share("own", NOW + 30, 7, D("0.5")))
    assert full == (subject, team or limits_id, *amounts)
    assert limit_error(limits, *found, {}, full).reached == full


# ----------------------------------------------------------------------------------------------- what a request will be


def body(**fields: Any) -> RequestBody:
    content = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 400}], **fields}).encode()
    request = InferenceRequest("function_url", "POST", "/", "", {"content-type": "application/json"}, content, None)
    return RequestBody(request, Target("s", "/chat/completions"))


PRICES = Prices(D("0.01"), D("0.02"))
INPUTS = 104


@pytest.mark.parametrize(
    ("limits", "fields", "answer", "tokens", "cost"),
    [
        (Limits("k", parallel=1), {}, None, 0, "0"),
        (Limits("k", tpm=10**6), {}, None, INPUTS + 1000, "0"),
        (Limits("k", tpm=10**6), {"max_tokens": 30}, None, INPUTS + 30, "0"),
        (Limits("k", tpm=10**6), {"max_tokens": 30, "n": 3}, None, INPUTS + 90, "0"),
        (Limits("k", tpm=INPUTS + 29), {"max_tokens": 30}, None, INPUTS + 29, "0"),
        (Limits("k", tpm=INPUTS + 31), {"max_tokens": 30}, None, INPUTS + 30, "0"),
        (Limits("k", budget_day=D(999)), {}, None, INPUTS + 1000, "21.04"),
        (Limits("k", budget_day=D(999)), {}, 50, INPUTS + 1000, "2.04"),
        (Limits("k", budget_day=D(999)), {"max_tokens": 30}, 50, INPUTS + 30, "1.64"),
        (Limits("k", budget_day=D(999)), {"max_tokens": 30, "n": 2}, 50, INPUTS + 60, "2.24"),
        (Limits("k", budget_day=D(999)), {"max_tokens": 70}, 50, INPUTS + 70, "2.04"),
        (Limits("k", budget_day=D(999), budget_total=D(2)), {}, None, INPUTS + 1000, "2"),
    ],
)
def test_what_a_request_takes(
    limits: Limits, fields: dict[str, Any], answer: int | None, tokens: int, cost: str
) -> None:
    share = share_of(limits, body(**fields), PRICES._replace(answer=answer), "lease", NOW + 30)
    assert share == Share("lease", NOW + 30, tokens, D(cost))


@pytest.mark.parametrize(
    ("operation", "query", "answer", "tokens", "cost"),
    [
        ("/embeddings", "", None, 104, "1.04"),
        ("/embeddings", "", 50, 104, "2.04"),
        ("/embeddings", "model=other", 50, 104, "2.04"),
        ("/batches", "", None, 104, "1.04"),
        ("/batches", "", 50, 104, "1.04"),
    ],
)
def test_what_generates_nothing_takes_its_prompt_and_what_is_for_no_model_no_answer_of_that_model(
    operation: str, query: str, answer: int | None, tokens: int, cost: str
) -> None:
    content = json.dumps({"model": "m", "input": "x" * 400}).encode()
    request = InferenceRequest("function_url", "POST", "/", query, {"content-type": "application/json"}, content, None)
    sent = RequestBody(request, Target("s", operation))
    share = share_of(Limits("k", budget_day=D(999)), sent, PRICES._replace(answer=answer), "lease", NOW + 30)
    assert share == Share("lease", NOW + 30, tokens, D(cost))


@pytest.mark.parametrize(
    ("usage", "spent"),
    [
        (Usage(3, 5, source="reported"), "0.13"),
        (Usage(3, 5, source="estimated"), "0.13"),
        (Usage(3, 5, source="missing"), "7"),
        (Usage(3, 5, source="invalid"), "7"),
        (Usage(10**13, 0, source="reported"), "1000000"),
        (Usage(0, 0, source="reported"), "0"),
    ],
)
def test_what_a_request_has_cost(usage: Usage, spent: str) -> None:
    assert PRICES.spent(usage, D(7)) == D(spent)


def test_the_smallest_part_of_a_dollar_is_rounded_up() -> None:
    assert Prices(D("1e-13"), D(0)).spent(Usage(1, 0, source="reported"), D(0)) == D("1e-12")
    assert (D("0.00001"), D("0.00004"), None) == CAREFUL


# ---------------------------------------------------------------------------------------------------------------- calls


class Table:
    """A table whose calls fail with these, in turn."""

    def __init__(self, *faults: AwsError | None) -> None:
        self.faults = list(faults)
        self.timeouts: list[float] = []
        self.pauses: list[float] = []

    def update_item(self, _arguments: Any, timeout: float) -> tuple[bool, Item]:
        self.timeouts.append(timeout)
        if fault := self.faults.pop(0):
            raise fault
        return True, {}

    def counters(self) -> Counters:
        return Counters(cast("Any", self), "t", self.pauses.append)


LOST = AwsError("dynamodb:UpdateItem", NO_ANSWER, "lost")
REFUSED = AwsError("dynamodb:UpdateItem", "ValidationException", "no")


@pytest.mark.parametrize("times", [0, 1, 4, 5])
def test_a_call_that_has_no_answer_is_sent_again_four_times_after_growing_pauses(times: int) -> None:
    table = Table(*[LOST] * times, None)
    counters = table.counters()
    calls = Calls(1.0, 900, time.time() + 10_000)
    if times > 4:
        with pytest.raises(AwsError):
            counters.update(LIMITS, {}, calls)
    else:
        assert counters.update(LIMITS, {}, calls) == (True, {})
    expected = [0.01, 0.03, 0.08, 0.2][:times]
    assert all(0.5 * usual <= pause <= 1.5 * usual for pause, usual in zip(table.pauses, expected, strict=True))
    assert table.timeouts == [1.0] * min(times + 1, 5)
    assert calls.in_doubt is (times > 0 and LOST.may_be_done)


def test_a_call_that_is_refused_is_not_sent_again() -> None:
    table = Table(REFUSED, None)
    counters = table.counters()
    calls = Calls(1.0, 900, time.time() + 10_000)
    with pytest.raises(AwsError, match="no"):
        counters.update(LIMITS, {}, calls)
    assert (table.pauses, table.timeouts, calls.in_doubt) == ([], [1.0], False)


@pytest.mark.parametrize(
    ("until", "passed", "timeout"),
    [(9.0, 0.0, 1.0), (9.0, 2.0, 1.0), (9.0, 2.75, 0.25), (9.0, 3.0, None), (0.5, 0.0, 0.5), (0.0, 0.0, None)],
)
def test_a_call_has_its_own_time_of_what_is_left(
    monkeypatch: pytest.MonkeyPatch, until: float, passed: float, timeout: float | None
) -> None:
    now = [float(NOW)]
    monkeypatch.setattr(time, "time", lambda: now[0])
    calls = Calls(1.0, 3, NOW + until)
    now[0] += passed
    if timeout is None:
        with pytest.raises(AwsError) as error:
            assert calls.timeout
        assert (error.value.code, error.value.is_transient) == (NO_ANSWER, True)
    else:
        assert calls.timeout == timeout


# ------------------------------------------------------------------------------------------------------ what is written

PERIODS = {"day": "2030-03-17", "week": "2030-03-11", "month": "2030-03", "total": "ever"}
TOOK = Share("own", NOW + 30, 7, D("0.5"))


def of_this_moment(**changed: Any) -> dict[str, Any]:
    """A row with the windows that go on."""
    return {name: value for name, value in (ITEM | PERIODS | changed).items() if value is not None}


def written(request: dict[str, Any], row: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether an update is applied to a row, and what the table has then."""
    table = LimitsItems()
    table.items["limits#k"] = to_item(row)
    applied, _ = table.update({"TableName": "limits", "Key": key_of(LIMITS), **request})
    return applied, from_item(table.items["limits#k"])


@pytest.mark.parametrize(("changed", "refused"), REFUSALS)
def test_a_take_is_applied_exactly_where_nothing_refuses_it(
    changed: dict[str, Any], refused: tuple[Source, int | None] | None
) -> None:
    row = of_this_moment(**{name: value for name, value in changed.items() if not name.endswith("_spent")})
    if refused and refused[0] == "key_budget":
        row |= {name.replace("spent", "cost"): value for name, value in changed.items() if name.endswith("_spent")}
    left = left_of_budgets(LIMITS, to_item(row))
    assert left is not None
    share = TOOK._replace(cost=min(TOOK.cost, max(left, D(0))))
    applied, after = written(taking(LIMITS, WINDOWS, share), row)
    assert applied is (refused is None)
    if applied:
        lease = {"end": NOW + 30, "cost": share.cost, "at": NOW, "counted": "wt"}
        assert after == row | {
            "requests": row["requests"] + 1,
            "tokens": row["tokens"] + 7,
            "live": row["live"] | {"own": lease},
            "expires_at": NOW + 100 * 365 * 86_400,
            **{f"{period}_cost": row[f"{period}_cost"] + share.cost for period in PERIODS},
        }
    else:
        assert after == row


@pytest.mark.parametrize(
    "changed", [{"minute": NOW // 60 - 1}, {"minute": None}, {"live": None}, {"day": "2030-03-16"}, {"total": None}]
)
def test_a_take_of_a_stale_row_is_not_applied_until_it_is_brought_up_to_date(changed: dict[str, Any]) -> None:
    row = of_this_moment(**changed)
    assert written(taking(LIMITS, WINDOWS, TOOK), row) == (False, row)
    request = renewal(LIMITS, to_item(row), WINDOWS)
    assert request
    applied, renewed = written(request, row)
    assert applied
    assert written(request, renewed) == (False, renewed), "of two that bring it up to date one does"
    assert renewal(LIMITS, to_item(renewed), WINDOWS) is None
    assert written(taking(LIMITS, WINDOWS, TOOK), renewed)[0]


def test_what_goes_on_needs_no_renewal_and_what_is_over_is_given_back() -> None:
    assert renewal(LIMITS, to_item(of_this_moment()), WINDOWS) is None
    bucket = Windows.of(NOW - 3 * 900, LIMITS.calendar).bucket
    running = Windows.of(NOW - 900, LIMITS.calendar).bucket
    row = of_this_moment(
        **{bucket: D("0.25"), running: D("0.125")}, live={"dead": lease(-1) | {"counted": "wt"}, "last": lease(0)}
    )
    request = renewal(LIMITS, to_item(row), WINDOWS)
    assert request
    applied, after = written(request, row)
    costs = {f"{period}_cost": row[f"{period}_cost"] - D("1.25") for period in PERIODS}
    expected = row | costs | {"live": {"last": lease(0)}}
    del expected[bucket]
    assert (applied, after) == (True, expected)


def test_a_transaction_is_asked_for_what_it_gives() -> None:
    asked: list[Any] = []

    class Transactions:
        def transact_updates(self, updates: Any, _timeout: float) -> None:
            asked.extend(updates)

    counters = Counters(cast("Any", Transactions()), "t", lambda _: None)
    request = {"UpdateExpression": "x", "ReturnValues": "ALL_NEW"}
    assert counters.update_all([(LIMITS, request)], Calls(1.0, 900, time.time() + 10_000)) is None
    given = {"TableName": "t", "Key": key_of(LIMITS), "UpdateExpression": "x"}
    assert asked == [given | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}]
