"""Limits and budgets against DynamoDB (moto): what is taken, refused, given back, and what clients and bus are told."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError as BotoError
from moto import mock_aws
from openai_proxy.dynamodb import to_item
from openai_proxy.identity import parse_identity, user_id_of
from openai_proxy.key_limits import Limits
from openai_proxy.limits import PERIODS, Period, Windows
from proxy.aws.client import NO_ANSWER, AwsError
from proxy.limits.counters import TableAccess
from proxy.limits.item import headers
from proxy.limits.table import FailurePolicy, LimitsTable
from proxy.relay import Relay
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, target_of

from tests.fakes import Connection, Received, RecordedResponse
from tests.relays import CONTENT, DONE, USAGE, USAGE_CHUNK, Proxy, error_of, proxy, streaming
from tests.tables import make_table

_BOTO3: Any = boto3  # every new client's type is an overload over all services of AWS
NOON = 1_795_435_200  # 2026-11-23 12:00:00 UTC: a whole minute
CONTEXT = {"client_name": "Chat", "key_id": "0123456789ab", "limits_id": "0123456789ab", "tags": '{"env":"prod"}'}


class Table:
    """The limits table as the proxy's client of AWS shows it. `broken` fails every call."""

    def __init__(self) -> None:
        self.client: Any = _BOTO3.client("dynamodb", region_name="eu-central-1")
        make_table(self.client, "limits", "pk")
        self.calls: list[str] = []
        self.timeouts: set[float] = set()
        self.broken = False
        self.conflicts = 0
        self.before_update: list[Any] = []

    def update_item(self, arguments: dict[str, Any], timeout: float) -> tuple[bool, dict[str, Any] | None]:
        self.timeouts.add(timeout)
        if self.broken:
            raise AwsError("dynamodb:UpdateItem", NO_ANSWER)
        self.calls.append("update")
        if self.conflicts:
            self.conflicts -= 1
            raise AwsError("dynamodb:UpdateItem", "TransactionConflictException")
        if self.before_update:
            self.before_update.pop()()
        try:
            return True, self.client.update_item(**arguments).get("Attributes")
        except BotoError as error:
            answer: Any = error.response
            if answer["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False, answer.get("Item")

    def get_item(self, arguments: dict[str, Any], timeout: float) -> dict[str, Any]:
        self.timeouts.add(timeout)
        self.calls.append("get")
        return self.client.get_item(**arguments).get("Item") or {}

    def batch_get_item(self, table: str, keys: list[Any], timeout: float) -> list[dict[str, Any]]:
        return [self.get_item({"TableName": table, "Key": key, "ConsistentRead": True}, timeout) for key in keys]

    def transact_updates(self, updates: list[dict[str, Any]], _timeout: float) -> list[dict[str, Any] | None] | None:
        self.calls.append("transaction")
        try:
            self.client.transact_write_items(TransactItems=[{"Update": update} for update in updates])
        except BotoError as error:
            answer: Any = error.response
            if answer["Error"]["Code"] != "TransactionCanceledException":
                raise
            reasons = answer["CancellationReasons"]
            return [each.get("Item", {}) if each["Code"] == "ConditionalCheckFailed" else None for each in reasons]
        return None

    def item(self, name: str = "limits#0123456789ab") -> dict[str, Any]:
        return self.client.get_item(TableName="limits", Key={"pk": {"S": name}}).get("Item") or {}

    def set_numbers(self, **numbers: str) -> None:
        """As a settlement does."""
        self.client.update_item(
            TableName="limits",
            Key={"pk": {"S": "limits#0123456789ab"}},
            UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in numbers),
            ExpressionAttributeValues={f":{name}": {"N": number} for name, number in numbers.items()},
        )


class Clock:
    now = float(NOON)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield Table()


def limited(relay: Proxy, table: Table, clock: Clock, on_failure: FailurePolicy = "open") -> Relay:
    # moto answers slowly where much else runs: no test is about that.
    limits: Any = LimitsTable(TableAccess(table, "limits", clock, timeout=60.0), on_failure)  # type: ignore[arg-type]
    relay.use(limits=limits)
    return relay.relay


def answering(connection: Connection, _: Received) -> None:
    connection.answer(json.dumps({"usage": USAGE, "model": "m"}).encode())


CHAT = {"messages": [{"role": "user", "content": "x" * 36}], "max_tokens": 87}
"""13 tokens of prompt and 87 allowed for the answer: 100."""


def test_a_key_without_limits_pays_for_none_of_this(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT) as (relay, _):
        limited(relay, table, clock)
        assert relay.call(CHAT).status == 200
    assert table.calls == []
    assert relay.event[1]["limits"] is None
    assert relay.event[1]["client"] == {
        "key_id": "0123456789ab",
        "name": "Chat",
        "owner": None,
        "tags": {"env": "prod"},
    }


def test_who_has_signed_in_is_the_end_user_whatever_the_body_says(table: Table, clock: Clock) -> None:
    user = {"key_id": "a" * 32, "limits_id": "a" * 32, "end_user": "auth0|ada", "expires_at": str(NOON + 60)}
    with proxy(answering, CONTEXT | user) as (relay, _):
        limited(relay, table, clock)
        assert relay.call(CHAT | {"user": "somebody else"}).status == 200
    data = relay.event[1]
    assert (data["end_user"], data["client"]["key_id"], data["limits"]) == ("auth0|ada", "a" * 32, None)
    assert table.calls == [], "a plan without limits pays for none of this"


def test_a_user_of_a_team_without_limits_pays_for_none_of_this(table: Table, clock: Clock) -> None:
    user = {"key_id": "a" * 32, "limits_id": "a" * 32, "end_user": "ada", "expires_at": str(NOON + 60), "team": "web"}
    with proxy(answering, CONTEXT | user) as (relay, _):
        limited(relay, table, clock)
        assert relay.call(CHAT).status == 200
    assert (table.calls, relay.event[1]["team"]) == ([], {"name": "web", "limits": None})


def test_every_call_to_the_table_has_the_time_that_it_is_given(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT | {"rpm": "3"}) as (relay, _):
        relay.use(limits=LimitsTable(TableAccess(table, "limits", clock, timeout=7.0), "open"))  # type: ignore[arg-type]
        assert relay.call(CHAT).status == 200
    assert set(table.calls) == {"get", "update"}
    assert table.timeouts == {7.0}


def test_requests_a_minute(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT | {"rpm": "3"}) as (relay, server):
        limited(relay, table, clock)
        clock.now += 18
        seen = [relay.call(CHAT) for _ in range(5)]
        assert [response.status for response in seen] == [200, 200, 200, 429, 429]
        assert [response.headers["x-ratelimit-remaining-requests"] for response in seen] == ["2", "1", "0", "0", "0"]
        assert (seen[0].headers["x-ratelimit-limit-requests"], seen[0].headers["x-ratelimit-reset-requests"]) == (
            "3",
            "42s",
        )
        assert seen[3].headers["retry-after"] == "42"
        error = error_of(seen[3])
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert len(server.received) == 3, "what is refused costs nothing"
        clock.now += 42
        assert relay.call(CHAT).status == 200
    detail_type, detail = relay.bus.details[3]
    assert detail_type == "InferenceThrottled"
    assert detail["data"]["throttle"] == {
        "source": "key_rpm",
        "retry_after": 42,
        "subject": {"type": "key", "id": "0123456789ab"},
        "span": "minute",
        "limit": "3",
        "used": "3",
        "asked": "1",
    }
    assert (detail["data"]["server"]["name"], detail["data"]["request"]["model"]) == ("up", "default-model")
    assert table.calls == [
        *("update", "get", "update", "update"),  # the first one: there is no item yet
        *("update", "update"),
        *("update", "update"),  # the refused
        *("update", "update", "update"),  # the first of the next minute
    ]


def test_tokens_a_minute_are_estimated_then_corrected(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT | {"tpm": "150"}) as (relay, _):
        limited(relay, table, clock)
        first = relay.call(CHAT)
        assert (first.status, first.headers["x-ratelimit-remaining-tokens"]) == (200, "50")
        assert table.item()["tokens"] == {"N": str(USAGE["total_tokens"])}, "the answer took fewer than estimated"
        assert relay.call({**CHAT, "max_tokens": 126}).status == 429
        second = relay.call({**CHAT, "max_tokens": 125})
        assert (second.status, second.headers["x-ratelimit-remaining-tokens"]) == (200, "0")
    assert [detail["data"].get("throttle") for _, detail in relay.bus.details][1] == {
        "source": "key_tpm",
        "retry_after": 60,
        "subject": {"type": "key", "id": "0123456789ab"},
        "span": "minute",
        "limit": "150",
        "used": "12",
        "asked": "139",
    }
    assert relay.bus.details[0][1]["data"]["limits"]["reserved"] == {"cost": "0", "tokens": 100}


def test_one_request_may_be_larger_than_the_limit_but_not_more_often(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT | {"tpm": "50"}) as (relay, _):
        limited(relay, table, clock)
        assert [relay.call(CHAT).status for _ in range(2)] == [200, 429]


def test_limits_of_more_than_five_hundred_requests_a_second_are_counted_in_shards(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT | {"rpm": "60000", "tpm": "90000000"}) as (relay, _):
        limited(relay, table, clock)
        first = relay.call(CHAT)
        table.calls.clear()
        second = relay.call(CHAT)
    assert (first.status, second.status) == (200, 200)
    assert (first.headers["x-ratelimit-remaining-requests"], second.headers["x-ratelimit-remaining-requests"]) == (
        *("59999", "59998"),
    )
    used = USAGE["total_tokens"]
    assert second.headers["x-ratelimit-remaining-tokens"] == str(90_000_000 - used - 100)
    assert table.calls == ["update", "update"], "before and after, as without shards"
    counter = table.item()
    ((shard, part),) = counter["parts"]["M"].items()
    assert {name: part["M"][name] for name in ("requests", "tokens")} == {
        name: counter[name] for name in ("requests", "tokens")
    }
    own = table.item(f"limits#0123456789ab#{shard}")
    assert (own["requests"], own["tokens"]) == ({"N": "2"}, {"N": str(2 * used)})
    limits = relay.bus.details[0][1]["data"]["limits"]
    assert (limits["id"], limits["reserved"]) == ("0123456789ab", {"cost": "0", "tokens": 100})
    assert "lease" not in limits, "nothing is left to be given back"


def test_parallel_requests(table: Table, clock: Clock) -> None:
    statuses: list[int] = []

    def script(connection: Connection, request: Received) -> None:
        if len(server.received) <= 2:
            statuses.append(relay.call(CHAT).status)  # while this one is answered, another comes
        answering(connection, request)

    with proxy(script, CONTEXT | {"parallel": "2"}) as (relay, server):
        limited(relay, table, clock)
        statuses.append(relay.call(CHAT).status)
        assert statuses == [429, 200, 200]
        assert table.item()["live"] == {"M": {}}
        table.client.update_item(
            TableName="limits",
            Key={"pk": {"S": "limits#0123456789ab"}},
            UpdateExpression="SET live = :live",
            ExpressionAttributeValues={":live": {"M": {"dead": {"N": str(NOON + 9)}, "alive": {"N": str(NOON + 99)}}}},
        )
        assert relay.call(CHAT).status == 429
        clock.now += 10
        assert relay.call(CHAT).status == 200, "the lease of a sandbox that has died ends"
        assert table.item()["live"]["M"].keys() == {"alive"}


def test_a_budget_is_reserved_and_what_is_used_up_is_used_up(table: Table, clock: Clock) -> None:
    price = {"pk": {"S": "price#up#default-model"}, "input": {"N": "0.001"}, "output": {"N": "0.01"}}
    table.client.put_item(TableName="limits", Item=price)
    with proxy(answering, CONTEXT | {"budget_day": "1.5", "budget_month": "2"}) as (relay, _):
        limited(relay, table, clock)
        assert relay.call(CHAT).status == 200
        item = table.item()
        assert item["day_cost"] == item["month_cost"] == item["r_20261123_1994928"] == {"N": "0.039"}, (
            "what it has cost"
        )
        assert item["live"] == {"M": {}}
        limits = relay.bus.details[0][1]["data"]["limits"]
        assert limits == {
            "id": "0123456789ab",
            "status": "checked",
            "reserved": {"cost": "0.039", "tokens": 100},
            "has_budget": True,
            "taken_at": NOON,
            "budget_day": "1.5",
            "budget_month": "2",
            "currency": "USD",
        }
        table.set_numbers(day_spent="1.5", day_cost="1.539")
        refused = relay.call(CHAT)
        assert error_of(refused)["code"] == "insufficient_quota"
        assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == (str(12 * 3600), "false")
        assert relay.bus.details[1][1]["data"]["limits"]["has_budget"] is False

        clock.now += 3600  # nobody has settled what was reserved: it is given back
        table.set_numbers(day_spent="0", day_cost="0.039")
        assert relay.call(CHAT).status == 200
        item = table.item()
        assert item["day_cost"] == item["month_cost"] == item["r_20261123_1994932"] == {"N": "0.039"}
        assert "r_20261123_1994928" not in item

        clock.now += 24 * 3600
        assert relay.call(CHAT).status == 200, "a new day"
        item = table.item()
        assert (item["day"]["S"], item["day_cost"]["N"], item["month_cost"]["N"]) == ("2026-11-24", "0.039", "0.039")


def test_a_month_that_is_used_up_comes_back_with_the_next(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT | {"budget_month": "0.0001"}) as (relay, _):
        limited(relay, table, clock)
        assert [relay.call(CHAT).status for _ in range(2)] == [200, 429]
        table.set_numbers(month_spent="0.0001")
        refused = relay.call(CHAT)
        assert refused.headers["retry-after"] == str(7 * 86400 + 12 * 3600)
        clock.now += 7 * 86400 + 12 * 3600
        assert relay.call(CHAT).status == 200
        assert table.item()["month"]["S"] == "2026-12"


def test_a_sandbox_whose_clock_is_behind_counts_in_the_same_minute(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT | {"rpm": "2"}) as (relay, _):
        limited(relay, table, clock)
        assert relay.call(CHAT).status == 200
        clock.now -= 2
        assert [relay.call(CHAT).status for _ in range(2)] == [200, 429]


def test_a_window_that_another_sandbox_begins_at_the_same_moment(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT | {"rpm": "2"}) as (relay, _):
        limited(relay, table, clock)
        relay.call(CHAT)
        clock.now += 60
        others: list[int] = []
        # Before the second update of the next request, which begins the minute, a whole other one comes in between.
        table.before_update = [lambda: others.append(relay.call(CHAT).status), lambda: None]
        assert relay.call(CHAT).status == 200
        assert others == [200]
        assert relay.call(CHAT).status == 429
    assert table.item()["requests"] == {"N": "2"}


@pytest.mark.parametrize(("policy", "status"), [("open", 200), ("closed", 503)])
def test_a_table_that_does_not_answer(
    policy: FailurePolicy, status: int, table: Table, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with proxy(answering, CONTEXT | {"rpm": "1", "parallel": "1"}) as (relay, _):
        limited(relay, table, clock, policy)
        table.broken = True
        response = relay.call(CHAT)
    assert response.status == status
    limits = relay.event[1]["limits"]
    if policy == "open":
        assert (limits["status"], limits["reserved"]) == ("unchecked", None)
    else:
        assert (error_of(response)["code"], response.headers["retry-after"]) == ("limits_unavailable", "5")
    assert "Limits cannot be checked" in capsys.readouterr().out


def test_a_settlement_that_holds_the_item_is_waited_for(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT | {"parallel": "1", "budget_day": "1"}) as (relay, _):
        limited(relay, table, clock)
        table.conflicts = 3
        assert relay.call(CHAT).status == 200
        table.conflicts = 2
        assert relay.call(CHAT).status == 200
    assert [detail["data"]["limits"]["status"] for _, detail in relay.bus.details] == ["checked", "checked"]
    assert table.item()["live"] == {"M": {}}


def test_a_place_is_given_back_whatever_happens(table: Table, clock: Clock) -> None:
    with proxy(streaming(*CONTENT, end=Connection.reset), CONTEXT | {"parallel": "1", "tpm": "5000"}) as (relay, _):
        limited(relay, table, clock)
        relay.call({**CHAT, "stream": True})
        relay.call({**CHAT, "stream": True}, response=RecordedResponse(break_after=1))
        relay.call({**CHAT, "stream": True}, path="/other/v1/chat/completions")
        clock.now += 61
        assert table.item()["live"] == {"M": {}}


def test_a_minute_that_has_passed_is_not_corrected(table: Table, clock: Clock) -> None:
    def script(connection: Connection, request: Received) -> None:
        if len(server.received) == 1:
            clock.now += 60
            relay.call(CHAT)
        streaming(*CONTENT, USAGE_CHUNK, DONE)(connection, request)

    with proxy(script, CONTEXT | {"parallel": "5", "tpm": "5000"}) as (relay, server):
        limited(relay, table, clock)
        relay.call({**CHAT, "stream": True})
    item = table.item()
    assert (item["live"], item["tokens"]["N"]) == ({"M": {}}, "12"), "only the second request is of the last minute"


@pytest.mark.parametrize(
    "context",
    [
        {"rpm": "many"},
        {"rpm": "0"},
        {"rpm": "-1"},
        {"budget_day": "1e9"},
        {"budget_day": "NaN"},
        {"budget_month": "0"},
        {"rpm": "5", "limits_id": ""},
    ],
)
def test_limits_that_cannot_be_read_let_nobody_in(context: dict[str, str]) -> None:
    with proxy(answering, CONTEXT | context) as (relay, server):
        response = relay.call(CHAT)
    assert (response.status, error_of(response)["code"]) == (503, "authorization_unavailable")
    assert not server.received


def test_the_estimate_of_a_price_is_asked_for_once_in_a_while(table: Table, clock: Clock) -> None:
    price = {"pk": {"S": "price#up#default-model"}, "input": {"N": "0.001"}, "output": {"N": "0.01"}}
    table.client.put_item(TableName="limits", Item=price)
    with proxy(answering, CONTEXT | {"budget_day": "1000"}) as (relay, _):
        limited(relay, table, clock)
        for _ in range(4):
            relay.call(CHAT)
    assert table.calls.count("get") == 2, "of the price, and of an item that is not there yet"
    assert Decimal(table.item()["day_cost"]["N"]) == Decimal("0.039") * 4


@pytest.mark.parametrize(
    ("budgets", "gone", "remaining", "ends_in"),
    [
        ({"budget_day": 5}, {"day_cost": 2}, "3", "day"),
        ({"budget_month": 5}, {"month_cost": Decimal("4.75")}, "0.25", "month"),
        ({"budget_day": 5, "budget_month": 9}, {"day_cost": 1, "month_cost": 8}, "1", "month"),
        ({"budget_day": 5, "budget_month": 9}, {"day_cost": 5, "month_cost": 5}, "0", "day"),
        ({"budget_day": 5}, {"day_cost": 7}, "0", "day"),
        ({"budget_day": 100}, {}, "100", "day"),
        ({"budget_day": 5, "budget_month": 9}, {"day_cost": 7, "month_cost": 9}, "0", "month"),
        ({"budget_day": 5, "budget_week": 9}, {"day_cost": 1, "week_cost": 8}, "1", "week"),
        ({"budget_day": 5, "budget_total": 9}, {"day_cost": 1, "total_cost": 8}, "1", "total"),
        ({"budget_month": 5, "budget_total": 9}, {"month_cost": 5, "total_cost": 9}, "0", "total"),
    ],
)
def test_what_is_left_of_the_tightest_budget_is_told(
    budgets: dict[str, int], gone: dict[str, Any], remaining: str, ends_in: str
) -> None:
    amounts: dict[str, Any] = {name: Decimal(amount) for name, amount in budgets.items()}
    limits = Limits("k", **amounts)
    windows = Windows.of(NOON, limits.calendar)
    told = headers(limits, to_item(gone), windows)
    ends: dict[str, Period] = {period: period for period in PERIODS}
    seconds = windows.to_next(ends[ends_in])
    reset = {} if seconds is None else {"x-budget-reset": f"{seconds}s"}
    assert told == {"x-budget-remaining-usd": remaining, **reset}
    own = headers(limits, to_item(gone | dict.fromkeys([f"{each}_cost" for each in PERIODS], 1)), windows, Decimal(1))
    assert Decimal(own["x-budget-remaining-usd"]) == min(limits.budgets.values())


TEAM = {
    "team": "web",
    "team_rpm": "3",
    "team_budget_week": "9",
    "team_budget_total": "20",
    "team_reset_weekday": "friday",
}


def test_a_key_and_its_team_are_limited_together_and_the_event_says_both(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT | TEAM | {"rpm": "50", "budget_month": "5"}) as (relay, _):
        limited(relay, table, clock)
        answers = [relay.call(CHAT) for _ in range(4)]
    assert [each.status for each in answers] == [200, 200, 200, 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "2"
    assert answers[0].headers["x-budget-remaining-usd"] == "5"
    error = json.loads(answers[-1].body)["error"]
    assert error["message"].startswith("This client key's team has reached its limit of requests a minute.")
    name, detail = relay.bus.details[-1]
    data = detail["data"]
    assert (name, data["throttle"]["source"]) == ("InferenceThrottled", "team_rpm")
    assert (data["limits"]["id"], data["team"]["name"], data["team"]["limits"]["id"]) == (
        *("0123456789ab", "web"),
        "team.web",
    )
    team = table.item("limits#team.web")
    assert (team["requests"], team["week"], team["total"]) == ({"N": "3"}, {"S": "2026-11-20"}, {"S": "ever"})
    assert table.item()["requests"] == {"N": "3"}
    assert team["week_cost"] == team["total_cost"] == table.item()["month_cost"]
    assert table.calls.count("transaction") == 3, "what is refused is read"


def test_a_team_is_one_at_both_doors(table: Table, clock: Clock) -> None:
    """API Gateway hands on what the authorizer said of the key and its team, and adds what is its own."""
    identity = {"client_id": "team-a", **CONTEXT, **TEAM, "principalId": "team-a", "integrationLatency": 12}
    event = {
        "httpMethod": "POST",
        "path": "/up/v1/chat/completions",
        "headers": {"content-type": "application/json"},
        "multiValueQueryStringParameters": None,
        "requestContext": {"authorizer": identity},
        "body": json.dumps(CHAT),
    }

    def ask_the_rest_api() -> RecordedResponse:
        response = RecordedResponse()
        relay.relay.serve(event, response, time.time() + 60, None)
        return response

    with proxy(answering, CONTEXT | TEAM) as (relay, _):
        limited(relay, table, clock)
        answers = [ask_the_rest_api(), relay.call(CHAT), ask_the_rest_api(), ask_the_rest_api(), relay.call(CHAT)]
    assert [each.status for each in answers] == [200, 200, 200, 429, 429]
    told = [(detail["data"]["door"], detail["data"]["team"]["name"]) for _, detail in relay.bus.details]
    assert [door for door, _ in told] == ["rest_api", "function_url", "rest_api", "rest_api", "function_url"]
    assert {team for _, team in told} == {"web"}
    assert error_of(answers[3])["message"] == error_of(answers[4])["message"]
    assert table.item("limits#team.web")["requests"] == {"N": "3"}


def test_a_key_of_a_team_without_limits_of_its_own_takes_of_the_teams_by_one_update(table: Table, clock: Clock) -> None:
    with proxy(answering, CONTEXT | TEAM) as (relay, _):
        limited(relay, table, clock)
        answers = [relay.call(CHAT) for _ in range(4)]
    assert [each.status for each in answers] == [200, 200, 200, 429]
    data = relay.bus.details[-1][1]["data"]
    assert "transaction" not in table.calls
    assert (data["limits"], data["team"]["limits"]["budget_week"], data["throttle"]["source"]) == (
        None,
        "9",
        "team_rpm",
    )
    assert table.item() == {}


def test_each_user_has_the_limits_of_the_plan_exactly_however_many_ask_at_once(table: Table, clock: Clock) -> None:
    """Two users of one plan, twelve requests of each side by side: five of each pass."""
    identity = parse_identity(
        "issuers: [{issuer: 'https://id.example.com', audience: a, plan: free}]\nplans: {free: {rpm: 5}}"
    )
    assert identity
    request = InferenceRequest("function_url", "POST", "/a/v1/chat/completions", "", {}, b'{"messages": []}', None)
    body = RequestBody(request, target_of(request.path))
    one_by_one, update = threading.Lock(), table.update_item

    def as_dynamodb(arguments: dict[str, Any], timeout: float) -> tuple[bool, dict[str, Any] | None]:
        with one_by_one:  # moto checks and writes in two steps
            return update(arguments, timeout)

    table.update_item = as_dynamodb

    def ask(number: int) -> bool:
        user = user_id_of("https://id.example.com", ("ada", "grace")[number % 2])
        limits = identity.plans["free"].key_of(user, "x", NOON + 60).limits
        assert limits
        sandbox = LimitsTable(TableAccess(table, "limits", clock, timeout=60.0), "closed")  # type: ignore[arg-type]
        return sandbox.take(limits, f"{number:026}", body, [], time.time() + 60).refused is None

    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(ask, range(24)))
    assert (sum(passed[0::2]), sum(passed[1::2])) == (5, 5)
