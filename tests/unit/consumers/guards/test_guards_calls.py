"""What apply_guards asks of DynamoDB, whole, and what it makes of the answers: evidence, and overlays of keys."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest
from apply_guards.evidence import ContendedError, Table
from apply_guards.overlays import Overlays
from botocore.exceptions import ClientError
from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.dynamodb import to_item
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.guards.action import Action, action_of
from openai_proxy.guards.rules import Act, Counting, Doing, Guard
from openai_proxy.guards.seen import Seen

MOST_ACTS = 50

MONDAY = 1_795_392_000
DAY = 86400
KEY = "0123456789ab"
OTHERS_WERE_FIRST = "ConditionalCheckFailedException"


def refused(code: str, reasons: list[str] | None = None) -> ClientError:
    answer: Any = {"Error": {"Code": code}}
    if reasons is not None:
        answer["CancellationReasons"] = [{"Code": reason} for reason in reasons]
    return ClientError(answer, "Any")


class Client:
    """DynamoDB that answers in turn as it is told, and says what was used where it is asked to; the calls are kept
    without that question. Calls of the operation `odd` are answered with {}.
    """

    odd = ""

    def __init__(self, *answers: Mapping[str, Any] | Exception) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._answers = list(answers)

    def __getattr__(self, name: str) -> Callable[..., Mapping[str, Any]]:
        def call(**asked: Any) -> Mapping[str, Any]:
            is_asked = asked.pop("ReturnConsumedCapacity", "") == "TOTAL"
            self.calls.append((name, asked))
            answer: Mapping[str, Any] | Exception = self._answers.pop(0) if self._answers else dict[str, Any]()
            if isinstance(answer, Exception):
                raise answer
            used: Any = {"TableName": "costs"}
            capacity = {"ConsumedCapacity": [used] if name.startswith("transact") else used}
            return {} if name == self.odd else {**answer, **(capacity if is_asked else {})}

        return call

    def of(self, name: str) -> list[dict[str, Any]]:
        return [asked for called, asked in self.calls if called == name]


def ulid(seconds: float) -> str:
    return ulid_of_fact(MONDAY + seconds, str(seconds))


def table(*answers: Mapping[str, Any] | Exception) -> tuple[Table, Client, list[int]]:
    client: Any = Client(*answers)
    paused: list[int] = []
    return Table(client, "costs", paused.append), client, paused


def item(**values: Any) -> dict[str, Any]:
    return {"Item": to_item(values)}


FIRST, SECOND, THIRD = ulid(1), ulid(2.5), ulid(3)
IN_BUCKET = {"pk": "guard#g", "sk": "000000000007"}
READ = {"TableName": "costs", "Key": to_item(IN_BUCKET), "ConsistentRead": True}
NEAR: Mapping[str, Any] = {
    "TableName": "costs",
    "KeyConditionExpression": "pk = :pk AND sk BETWEEN :first AND :last",
    "ExpressionAttributeValues": to_item({":pk": "guard#g", ":first": "000000000006", ":last": "000000000008"}),
    "ConsistentRead": True,
}


def test_a_bucket_that_is_not_there_is_written_and_its_neighbours_are_read_after_that() -> None:
    found = {"Items": [to_item({"ids": f"{FIRST} {SECOND}"}), to_item({"ids": THIRD})]}
    evidence, client, paused = table({}, {}, found)

    assert evidence.times("g", 7, [SECOND, FIRST], 5) == [FIRST, SECOND, THIRD]
    written = {**IN_BUCKET, "ids": f"{FIRST} {SECOND}", "version": 1, "expires_at": MONDAY + 2 + 6 * DAY}
    put = {"TableName": "costs", "Item": to_item(written), "ConditionExpression": "attribute_not_exists(pk)"}
    assert client.calls == [("get_item", READ), ("put_item", put), ("query", NEAR)]
    assert paused == []


def test_a_bucket_is_written_over_the_version_that_was_read() -> None:
    evidence, client, _ = table(item(ids=FIRST, version=4), {}, {"Items": []})

    assert evidence.times("g", 7, [THIRD], 5) == []
    written = {**IN_BUCKET, "ids": f"{FIRST} {THIRD}", "version": 5, "expires_at": MONDAY + 3 + 6 * DAY}
    assert client.of("put_item") == [
        {
            "TableName": "costs",
            "Item": to_item(written),
            "ConditionExpression": "#version = :version",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": to_item({":version": 4}),
        }
    ]


def test_what_is_there_is_not_written_again() -> None:
    evidence, client, _ = table(item(ids=f"{FIRST} {SECOND}", version=4), {"Items": []})
    evidence.times("g", 7, [SECOND], 5)
    assert [name for name, _ in client.calls] == ["get_item", "query"]


@pytest.mark.parametrize("times", [1, 5, 6, 7])
def test_who_is_behind_others_reads_anew_six_times(times: int) -> None:
    answers: list[Any] = [{}, refused(OTHERS_WERE_FIRST)] * times
    evidence, client, paused = table(*answers, {}, {}, {"Items": []})
    if times < 6:
        assert evidence.times("g", 7, [FIRST], 5) == []
    else:
        with pytest.raises(ContendedError, match="guard#g"):
            evidence.times("g", 7, [FIRST], 5)
    assert paused == list(range(1, min(times, 6) + 1))
    assert len(client.of("get_item")) == min(times + 1, 6)


def test_another_fault_of_a_write_is_raised() -> None:
    evidence, _, paused = table({}, refused("AccessDeniedException"))
    with pytest.raises(ClientError, match="AccessDenied"):
        evidence.times("g", 7, [FIRST], 5)
    assert paused == []


HOUR = MONDAY // 3600
SUM = {"pk": f"guard#spent#{KEY}", "sk": f"{HOUR:012d}"}


def transaction(cost: str, *seconds: float) -> dict[str, Any]:
    marks: list[Any] = [
        {
            "Put": {
                "TableName": "costs",
                "Item": to_item(
                    {"pk": f"guard#paid#{ulid(at)}", "sk": "paid", "expires_at": MONDAY + int(at) + 6 * DAY}
                ),
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }
        for at in seconds
    ]
    update = {
        "TableName": "costs",
        "Key": to_item(SUM),
        "UpdateExpression": "ADD #cost :cost SET #expires = :expires",
        "ExpressionAttributeNames": {"#cost": "cost", "#expires": "expires_at"},
        "ExpressionAttributeValues": to_item({":cost": Decimal(cost), ":expires": MONDAY + 9 * DAY}),
    }
    return {"TransactItems": [*marks, {"Update": update}]}


def test_what_requests_cost_is_added_once_with_a_mark_for_each() -> None:
    evidence, client, paused = table({}, item(cost=Decimal("3.5")))
    assert evidence.spend(KEY, HOUR, {ulid(2): Decimal("0.5"), ulid(1): Decimal(1)}) == Decimal("3.5")
    read = {"TableName": "costs", "Key": to_item(SUM), "ConsistentRead": True}
    assert client.calls == [("transact_write_items", transaction("1.5", 1, 2)), ("get_item", read)]
    assert paused == []


def test_what_is_in_the_sum_already_is_left_out_and_the_rest_is_added() -> None:
    cancelled = refused("TransactionCanceledException", ["ConditionalCheckFailed", "None", "None"])
    evidence, client, paused = table(cancelled, {}, {})
    assert evidence.spend(KEY, HOUR, {ulid(1): Decimal(1), ulid(2): Decimal(2)}) == 0
    assert client.of("transact_write_items") == [transaction("3", 1, 2), transaction("2", 2)]
    assert paused == [1]


def test_what_is_all_in_the_sum_is_not_written() -> None:
    cancelled = refused("TransactionCanceledException", ["ConditionalCheckFailed", "None"])
    evidence, client, _ = table(cancelled, item(cost=Decimal(7)))
    assert evidence.spend(KEY, HOUR, {ulid(1): Decimal(1)}) == 7
    assert [name for name, _ in client.calls] == ["transact_write_items", "get_item"]


@pytest.mark.parametrize("times", [5, 6])
def test_who_meets_others_adds_anew_six_times(times: int) -> None:
    conflict = refused("TransactionCanceledException", ["None", "TransactionConflict"])
    evidence, client, paused = table(*[conflict] * times)
    if times < 6:
        evidence.spend(KEY, HOUR, {ulid(1): Decimal(1)})
    else:
        with pytest.raises(ContendedError, match=KEY):
            evidence.spend(KEY, HOUR, {ulid(1): Decimal(1)})
    assert paused == list(range(1, times + 1))
    assert client.of("transact_write_items") == [transaction("1", 1)] * min(times + 1, 6)


@pytest.mark.parametrize("code", ["TransactionCanceledException", "ThrottlingException"])
def test_what_was_not_written_for_now_is_written_anew(code: str) -> None:
    evidence, client, paused = table(refused(code), {}, item(cost=Decimal(3)))
    assert evidence.spend(KEY, HOUR, {ulid(1): Decimal(1), ulid(2): Decimal(2)}) == 3
    assert client.of("transact_write_items") == [transaction("3", 1, 2)] * 2
    assert paused == [1]


def test_another_fault_of_a_sum_is_raised() -> None:
    evidence, _, paused = table(refused("AccessDeniedException"))
    with pytest.raises(ClientError):
        evidence.spend(KEY, HOUR, {ulid(1): Decimal(1)})
    assert paused == []


@pytest.mark.parametrize(("count", "parts"), [(0, []), (99, [99]), (100, [99, 1])])
def test_a_transaction_has_room_for_ninety_nine(count: int, parts: list[int]) -> None:
    evidence, client, _ = table()
    evidence.spend(KEY, HOUR, {ulid(second): Decimal(1) for second in range(count)})
    assert [len(asked["TransactItems"]) - 1 for asked in client.of("transact_write_items")] == parts


def test_what_hours_have_cost_is_read_by_their_numbers() -> None:
    found = {"Items": [to_item({"sk": "000000000007", "cost": Decimal(2)})]}
    evidence, client, _ = table(found)
    assert evidence.spent(KEY, 6, 8) == {7: Decimal(2)}
    values = to_item({":pk": f"guard#spent#{KEY}", ":first": "000000000006", ":last": "000000000008"})
    assert client.calls == [("query", {**NEAR, "ExpressionAttributeValues": values})]


# ------------------------------------------------------------------------------------------------------------ overlays


def acted(act: Act = "lower", name: str = "flood", at: float = 10.5) -> Action:
    guard = Guard(name, Counting("repeat", 3, 60), Doing(act, 3600, {"rpm": 5}))
    seen = Seen(ulid(at), "web", KEY, "Web", "gpt-5", frozenset({200}), "d", Decimal(0))
    return action_of(guard, seen, "because")


def stored(**changed: Any) -> dict[str, Any]:
    act = {
        "guard": "flood",
        "act": "lower",
        "limits": {"rpm": 5},
        "at": Decimal("1795392010.500"),
        "until": Decimal("1795395610.500"),
        "reason": "because",
        "told": False,
    }
    return {**act, **changed}


NOW = MONDAY + 11.0
ACTION = acted()
OVERLAY = {"key_hash": f"guard#{KEY}"}


def overlays(*answers: Mapping[str, Any] | Exception) -> tuple[Overlays, Client, list[int]]:
    client: Any = Client(*answers)
    paused: list[int] = []
    return Overlays(client, "keys", paused.append), client, paused


def written(client: Client) -> list[dict[str, Any]]:
    return client.of("put_item")


def put(acts: Mapping[str, Any], version: int, expires: int) -> dict[str, Any]:
    about = {"client_id": "web", "version": version, "expires_at": expires}
    asked = {"TableName": "keys", "Item": to_item({**OVERLAY, **about, "acts": acts})}
    if version == 1:
        return {**asked, "ConditionExpression": "attribute_not_exists(key_hash)"}
    return {
        **asked,
        "ConditionExpression": "#version = :version",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": to_item({":version": version - 1}),
    }


def test_an_act_is_written_whole_beside_the_key_and_kept_for_a_day_after_its_end() -> None:
    acts, client, _ = overlays()
    assert acts.begin(ACTION, NOW) == "new"
    read = {"TableName": "keys", "Key": to_item(OVERLAY), "ConsistentRead": True}
    assert client.calls == [
        ("get_item", read),
        ("put_item", put({ACTION.id: stored()}, 1, MONDAY + 3610 + DAY)),
    ]


@pytest.mark.parametrize(
    ("known", "begun"),
    [
        (stored(), "untold"),
        (stored(told=True), "told"),
        (stored(undone_at=Decimal(1)), "told"),
        ({"guard": "flood"}, "untold"),
    ],
)
def test_an_act_that_is_there_is_not_written_again(known: dict[str, Any], begun: str) -> None:
    acts, client, _ = overlays(item(acts={ACTION.id: known}, version=3))
    assert acts.begin(ACTION, NOW) == begun
    assert written(client) == []


@pytest.mark.parametrize(
    ("known", "begun"),
    [
        (stored(undone_at=Decimal(1)), "undone"),
        (stored(undone_at=Decimal(1), guard="other"), "new"),
        (stored(), "new"),
        (stored(undone_at=Decimal(1), until=Decimal("1795392010.5")), "new"),
        (stored(undone_at=Decimal(1), until=Decimal("1795392010.501")), "undone"),
    ],
    ids=["undone", "another guard", "not undone", "over", "not yet over"],
)
def test_what_a_person_has_undone_rules_its_like_out_until_it_would_have_ended(
    known: dict[str, Any], begun: str
) -> None:
    acts, client, _ = overlays(item(acts={"a": known}, version=3))
    assert acts.begin(ACTION, NOW) == begun
    if begun == "new":
        expires = MONDAY + 3610 + DAY
        assert written(client) == [put({"a": known, ACTION.id: stored()}, 4, expires)]


def test_what_has_been_over_for_a_day_is_left_out() -> None:
    old, young = (stored(until=Decimal(f"{NOW - DAY + more:.3f}")) for more in (0, 0.001))
    acts, client, _ = overlays(item(acts={"old": old, "young": young}, version=3))
    acts.begin(ACTION, NOW)
    assert written(client) == [put({"young": young, ACTION.id: stored()}, 4, MONDAY + 3610 + DAY)]


@pytest.mark.parametrize("count", [MOST_ACTS - 1, MOST_ACTS])
def test_of_too_many_those_stay_that_end_last(count: int) -> None:
    known = {f"{number:02d}": stored(until=Decimal(MONDAY + 3000 - number)) for number in range(count)}
    acts, client, _ = overlays(item(acts=known, version=3))
    acts.begin(ACTION, NOW)
    [asked] = written(client)
    kept = {each: act for each, act in known.items() if count < MOST_ACTS or each != f"{count - 1:02d}"}
    by_end = dict(sorted({**kept, ACTION.id: stored()}.items(), key=lambda each: each[1]["until"]))
    assert asked == put(by_end, 4, MONDAY + 3610 + DAY)
    assert len(by_end) == MOST_ACTS


@pytest.mark.parametrize("times", [5, 6])
def test_who_is_behind_others_writes_anew_six_times(times: int) -> None:
    answers: list[Any] = [{}, refused(OTHERS_WERE_FIRST)] * times
    acts, client, paused = overlays(*answers)
    if times < 6:
        assert acts.begin(ACTION, NOW) == "new"
    else:
        with pytest.raises(ContendedError, match="flood"):
            acts.begin(ACTION, NOW)
    assert paused == list(range(1, times + 1))
    assert len(written(client)) == 6


@pytest.mark.parametrize(("answer", "raises"), [({}, False), (refused(OTHERS_WERE_FIRST), False), (refused("x"), True)])
def test_it_is_remembered_that_people_were_told_of_what_is_still_there(answer: Any, raises: bool) -> None:
    acts, client, _ = overlays(answer)
    if raises:
        with pytest.raises(ClientError):
            acts.told(ACTION)
    else:
        acts.told(ACTION)
    assert client.calls == [
        (
            "update_item",
            {
                "TableName": "keys",
                "Key": to_item(OVERLAY),
                "UpdateExpression": "SET #acts.#id.#told = :told ADD #version :one",
                "ConditionExpression": "attribute_exists(#acts.#id)",
                "ExpressionAttributeNames": {
                    "#acts": "acts",
                    "#id": ACTION.id,
                    "#told": "told",
                    "#version": "version",
                },
                "ExpressionAttributeValues": to_item({":told": True, ":one": 1}),
            },
        )
    ]


# ------------------------------------------------------------------------------------------------ an answer of nobody's

STEPS: Mapping[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {
    "times": (lambda client: Table(client, "costs").times("g", 7, [FIRST], 5), ("get_item", "put_item", "query")),
    "spend": (
        lambda client: Table(client, "costs").spend(KEY, HOUR, {FIRST: Decimal(1)}),
        ("transact_write_items", "get_item"),
    ),
    "spent": (lambda client: Table(client, "costs").spent(KEY, 6, 8), ("query",)),
    "begin": (lambda client: Overlays(client, "keys").begin(ACTION, NOW), ("get_item", "put_item")),
    "told": (lambda client: Overlays(client, "keys").told(ACTION), ("update_item",)),
}


@pytest.mark.parametrize(("step", "odd"), [(step, odd) for step, (_, calls) in STEPS.items() for odd in calls])
def test_an_answer_that_dynamodb_has_not_given_is_none(step: str, odd: str) -> None:
    """An empty one would pass for an act that is written, and for a key that has spent nothing."""
    do, calls = STEPS[step]
    rows: Mapping[str, Any] = {"Items": []}
    do(Client(*([rows] if calls == ("query",) else [{}, {}, rows])))
    client = Client()
    client.odd = odd
    with pytest.raises(NoAnswerError):
        do(client)
    assert [name for name, _ in client.calls] == list(calls[: calls.index(odd) + 1])
