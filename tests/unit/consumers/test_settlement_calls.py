"""What settle_limits asks of the limits table and the bus, whole; what it takes a refusal for; how often it tries."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError
from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.dynamodb import to_item
from openai_proxy.limits import Calendar, Leased, Windows
from settle_limits.settlement import LeftLease, PriceHint, Settlement
from settle_limits.table import LimitsTable
from settle_limits.thresholds import Crossing
from settle_limits.transaction import Held, Refusal, build_transaction, in_transactions

NOON = 1_795_435_200
"""2026-11-23 12:00:00 UTC."""
NOW = Windows.of(NOON + 300)
BUCKET = "r_20261123_1994928"
ONE = Settlement(
    event_id="01",
    limits_id="line-1",
    client_id="web-shop",
    client={"key_id": "0a", "name": "x", "owner": None, "tags": {}},
    taken_at=NOON,
    windows=Windows.of(NOON),
    budgets={"day": Decimal(5)},
    reserved=Decimal("0.5"),
    actual=Decimal("0.2"),
    is_priced=True,
    hint=None,
)
OTHER = replace(ONE, event_id="02", reserved=Decimal("0.25"), actual=Decimal(1))
LEASE = LeftLease("line-1", "abc", in_doubt=False)
LEFT = replace(ONE, lease=LEASE)
UNCHECKED = replace(ONE, reserved=None)
COUNTER = to_item({"day": "2026-11-23", "month": "2026-11", BUCKET: Decimal(1)})
MARKER = {
    "Put": {
        "TableName": "limits",
        "Item": {"pk": {"S": "settled#01"}, "expires_at": {"N": "77"}},
        "ConditionExpression": "attribute_not_exists(pk)",
    }
}


def names(*plain: str) -> dict[str, str]:
    return {f"#{name}": name for name in plain}


def values(**plain: Any) -> dict[str, Any]:
    return to_item({f":{name}": value for name, value in plain.items()})


SUMS = ("day_cost", "day_spent", "month_cost", "month_spent")
ADDING = ", ".join(f"#{name} :{name}" for name in SUMS)
STARTS = {"day": "2026-11-23", "month": "2026-11"}
IN_MONTH = "#month BETWEEN :month AND :day"
UPDATE: dict[str, Any] = {
    "TableName": "limits",
    "Key": {"pk": {"S": "limits#line-1"}},
    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
}


def built(group: list[Settlement], held: Held) -> list[Any]:
    return build_transaction("limits", group, held, 77)


def test_what_is_most_probable_is_that_the_counter_has_all_of_it() -> None:
    assert built([ONE, OTHER], Held.at_first([ONE, OTHER])) == [
        MARKER,
        {"Put": {**MARKER["Put"], "Item": {"pk": {"S": "settled#02"}, "expires_at": {"N": "77"}}}},
        {
            "Update": {
                **UPDATE,
                "UpdateExpression": f"ADD {ADDING}, #{BUCKET} :{BUCKET}",
                "ConditionExpression": f"#day = :day AND {IN_MONTH} AND attribute_exists(#{BUCKET})",
                "ExpressionAttributeNames": names(*SUMS, BUCKET, "day", "month"),
                "ExpressionAttributeValues": values(
                    day_cost=Decimal("0.45"),
                    day_spent=Decimal("1.2"),
                    month_cost=Decimal("0.45"),
                    month_spent=Decimal("1.2"),
                    **{BUCKET: Decimal("-0.75")},
                    **STARTS,
                ),
            }
        },
    ]


def test_a_lease_that_was_left_is_cleared_and_what_it_reserved_given_back() -> None:
    held = Held(
        ("day",), bucket=False, lease=Leased(9, Decimal("0.5"), NOON), starts={"day": "2026-11-23", "month": "2026-11"}
    )
    [_, change] = built([LEFT], held)
    assert change["Update"] == {
        **UPDATE,
        "UpdateExpression": "REMOVE #live.#lease "
        "ADD #day_cost :day_cost, #day_spent :day_spent, #month_cost :month_cost",
        "ConditionExpression": "#day = :day AND #month = :month AND attribute_exists(#live.#lease)",
        "ExpressionAttributeNames": names("day_cost", "day_spent", "month_cost", "day", "month", "live")
        | {"#lease": "abc"},
        "ExpressionAttributeValues": values(
            day_cost=Decimal("-0.3"), day_spent=Decimal("0.2"), month_cost=Decimal("-0.5"), **STARTS
        ),
    }
    [_, change] = built([LEFT], Held((), bucket=False, lease=Leased(9)))
    assert change["Update"] == {
        **UPDATE,
        "UpdateExpression": "REMOVE #live.#lease ",
        "ConditionExpression": "attribute_exists(#live.#lease)",
        "ExpressionAttributeNames": {"#live": "live", "#lease": "abc"},
    }


def test_what_passed_unchecked_begins_the_periods_that_its_counter_has_not_reached() -> None:
    held = Held(("day",), bucket=False, starts={"day": "2026-11-23", "month": "2026-10"}, begins=("month",))
    [_, change] = built([UNCHECKED], held)
    begun = ("month", "month_cost", "month_spent", "told_month", "expires_at")
    assert change["Update"] == {
        **UPDATE,
        "UpdateExpression": f"SET {', '.join(f'#{each} = :{each}' for each in begun)} "
        "ADD #day_cost :day_cost, #day_spent :day_spent",
        "ConditionExpression": "#day = :day AND #month = :old_month",
        "ExpressionAttributeNames": names("day_cost", "day_spent", "day", *begun),
        "ExpressionAttributeValues": values(
            day_cost=Decimal("0.2"),
            day_spent=Decimal("0.2"),
            day="2026-11-23",
            month="2026-11",
            month_cost=Decimal("0.2"),
            month_spent=Decimal("0.2"),
            told_month=0,
            expires_at=77,
            old_month="2026-10",
        ),
    }
    total = replace(UNCHECKED, windows=Windows.of(NOON, Calendar(total=True)))
    [_, change] = built([total], Held((), bucket=False, begins=("total",), starts={"total": ""}))
    assert change["Update"]["ConditionExpression"] == "attribute_not_exists(#total)"
    kept = change["Update"]["ExpressionAttributeValues"]
    assert kept[":expires_at"] == {"N": str(NOON + 100 * 365 * 86400)}
    assert ":old_total" not in kept


IN_LANE = [replace(ONE, lane=3), replace(OTHER, lane=3)]
"""0.75 were reserved, and 1.2 spent."""
GONE = [f"r_20261122_{1_994_700 + number}" for number in range(101)]
"""Buckets that nobody looks at any more."""


@pytest.mark.parametrize(
    ("counter", "begins", "goes_on", "old", "expired"),
    [
        (COUNTER | to_item(dict.fromkeys(GONE, 1)), "", "day month", {}, []),
        (
            COUNTER | to_item({"day": "2026-11-22"} | dict.fromkeys(GONE, 1)),
            "day",
            "month",
            {"day": "2026-11-22"},
            GONE,
        ),
        ({}, "day month", "", {}, []),
    ],
)
def test_a_lane_is_told_what_was_spent_and_what_of_it_comes_back(
    counter: Any, begins: str, goes_on: str, old: dict[str, str], expired: list[str]
) -> None:
    """It has what was reserved in its bucket; what is too old there goes when a period begins."""
    held = Held.of(counter, IN_LANE, NOW)
    assert (held.bucket, list(held.expired)) == (False, expired)
    *_, change = built(IN_LANE, held)
    amounts, first = dict[str, Any](), dict[str, Any]()
    conditions, plain = list[str](), list[str]()
    for period in goes_on.split():
        amounts |= {f"back_{period}": Decimal("-0.45"), f"{period}_spent": Decimal("1.2")}
        conditions.append(f"#{period} = :{period}")
        plain.append(period)
    amounts[BUCKET] = Decimal("0.75")
    for period in begins.split():
        conditions.append(f"#{period} = :old_{period}" if period in old else f"attribute_not_exists(#{period})")
        first |= {period: STARTS[period], f"back_{period}": Decimal("-0.45"), f"{period}_spent": Decimal("1.2")}
        first |= {f"told_{period}": 0, "expires_at": 77}
    settings = [f"#{name} = :{name}" for name in first]
    removed = [f"#{name}" for name in expired[:100]]
    assert change["Update"] == {
        **UPDATE,
        "Key": {"pk": {"S": "limits#line-1#s3"}},
        "UpdateExpression": (f"REMOVE {', '.join(removed)} " if removed else "")
        + (f"SET {', '.join(settings)} " if settings else "")
        + f"ADD {', '.join(f'#{name} :{name}' for name in amounts)}",
        "ConditionExpression": " AND ".join(conditions),
        "ExpressionAttributeNames": names(*amounts, *first, *plain, *expired[:100]),
        "ExpressionAttributeValues": values(
            **amounts,
            **first,
            **{period: STARTS[period] for period in plain},
            **{f"old_{period}": start for period, start in old.items()},
        ),
    }


def test_of_a_counter_that_has_nothing_of_it_only_the_marker_is_written() -> None:
    assert built([ONE], Held((), bucket=False)) == [MARKER]


def test_a_counter_must_be_in_each_of_the_periods() -> None:
    each = replace(ONE, windows=Windows.of(NOON, Calendar(2, 5, total=True)))
    [_, change] = built([each], Held(each.windows.periods, bucket=False))
    assert change["Update"]["ConditionExpression"] == (
        f"#day = :day AND #week BETWEEN :week AND :day AND {IN_MONTH} AND #total = :total"
    )
    starts = {name: change["Update"]["ExpressionAttributeValues"][f":{name}"]["S"] for name in each.windows.periods}
    assert starts == {"day": "2026-11-23", "week": "2026-11-18", "month": "2026-11-05", "total": "ever"}


def test_a_counter_has_what_it_says() -> None:
    starts: Any = {"day": "2026-11-23", "week": "", "month": "2026-11", "total": ""}
    assert Held.of(COUNTER, [ONE], NOW) == Held(("day", "month"), bucket=True, starts=starts)
    assert Held.of({}, [ONE], NOW) == Held((), bucket=False, starts=dict.fromkeys(starts, ""))
    later = COUNTER | to_item({"day": "2026-11-24"})
    assert Held.of(later, [ONE], NOW) == Held(("month",), bucket=True, starts=starts | {"day": "2026-11-24"})
    assert not Held.of(COUNTER, [UNCHECKED], NOW).bucket
    before = COUNTER | to_item({"day": "2026-11-22"})
    assert Held.of(before, [ONE], NOW).begins == ()
    assert Held.of(before, [UNCHECKED], NOW).begins == ("day",)
    assert Held.of(before, [UNCHECKED], Windows.of(NOON - 86400)).begins == (), "not of the future"
    assert Held.of({}, [UNCHECKED], NOW).begins == ("day", "month")


@pytest.mark.parametrize(
    ("lease", "found"),
    [
        (5, Leased(5)),
        ({"end": 5, "cost": Decimal("0.5"), "at": 7, "counted": "w"}, Leased(5, Decimal("0.5"), 7, "w")),
        ({"cost": 5}, Leased(0)),
        ("soon", Leased(0)),
        ({"end": "x"}, Leased(0)),
    ],
)
def test_a_lease_is_found_and_a_damaged_one_is_cleared_away(lease: Any, found: Leased) -> None:
    counter = COUNTER | to_item({"live": {"abc": lease, "def": 1}})
    for group, has_bucket in (([LEFT], False), ([replace(LEFT, lease=replace(LEASE, in_doubt=True))], False)):
        held = Held.of(counter, group, NOW)
        assert (held.lease, held.bucket) == (found, has_bucket)
    assert Held.of(counter, [ONE], NOW).lease is None
    gone = Held.of(COUNTER, [LEFT], NOW)
    assert (gone.lease, gone.bucket) == (None, False)
    assert Held.of(COUNTER, [replace(LEFT, lease=replace(LEASE, in_doubt=True))], NOW).bucket
    assert [Held.at_first([each]).bucket for each in (ONE, LEFT, UNCHECKED)] == [True, False, False]


def test_those_of_one_place_are_settled_together_and_ninety_nine_at_most() -> None:
    many = [replace(ONE, event_id=f"{number}") for number in range(200)]
    assert [len(group) for group in in_transactions(many)] == [99, 99, 2]
    apart = [
        ONE,
        replace(ONE, limits_id="x"),
        replace(ONE, lane=1),
        replace(ONE, windows=Windows.of(NOON + 900)),
        replace(ONE, windows=Windows.of(NOON, Calendar(month=2))),
        UNCHECKED,
        LEFT,
        replace(LEFT, lease=replace(LEASE, id="def")),
    ]
    assert list(in_transactions([*apart, OTHER])) == [[ONE, OTHER], *([each] for each in apart[1:])]


# ------------------------------------------------------------------------------------------------------------- refusals


def refusal(code: str, *reasons: str, status: int = 400, item: Any = None) -> dict[str, Any]:
    response: dict[str, Any] = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    listed: list[dict[str, Any]] = [{"Code": reason} for reason in reasons]
    if item:
        listed[-1]["Item"] = item
    return response | ({"CancellationReasons": listed} if listed else {})


def test_a_refusal_says_which_of_them_it_is_of() -> None:
    found = Refusal.of(
        refusal("TransactionCanceledException", "None", "ConditionalCheckFailed", item={"a": {"S": "b"}})
    )
    assert found == Refusal(["None", "ConditionalCheckFailed"], {"a": {"S": "b"}})
    assert found
    assert Refusal.of(refusal("TransactionCanceledException", *["None"] * 3, item={"a": {"S": "b"}})) == Refusal(
        ["None"] * 3, {"a": {"S": "b"}}
    ), "the counter comes last, however many markers come before"
    assert [found.is_duplicate(0), found.is_duplicate(1), found.is_of_counter(1), found.is_of_counter(2)] == [
        *(False, True, True, False)
    ]
    assert (found.is_for_good, found.is_transient) == (False, False)


@pytest.mark.parametrize(
    ("response", "is_for_good", "is_transient"),
    [
        (refusal("InternalServerError"), False, True),
        (refusal("", status=503), False, True),
        (refusal("ValidationException"), True, False),
        (refusal("TransactionCanceledException"), False, True),
        (refusal("TransactionCanceledException", "TransactionConflict", "None"), False, True),
        (refusal("TransactionCanceledException", "ValidationError", "None"), True, False),
        (refusal("TransactionCanceledException", "ValidationError", "TransactionConflict"), True, True),
    ],
)
def test_a_refusal_is_for_good_or_for_now(response: dict[str, Any], is_for_good: bool, is_transient: bool) -> None:
    found = Refusal.of(response)
    assert found
    assert (found.is_for_good, found.is_transient) == (is_for_good, is_transient)


def test_a_table_that_is_not_there_is_no_refusal() -> None:
    assert Refusal.of(refusal("ResourceNotFoundException")) is None


# ---------------------------------------------------------------------------------------------------------------- table

PROVEN = {"ConsumedCapacity": {"TableName": "limits"}}


class Client:
    """DynamoDB with one answer, or a condition that fails; it keeps what it is asked."""

    class exceptions:  # noqa: N801 - boto's name
        class ConditionalCheckFailedException(ClientError):  # noqa: N818
            def __init__(self) -> None:
                super().__init__({"Error": {"Code": "ConditionalCheckFailedException"}}, "UpdateItem")

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, list[dict[str, Any]]()

    def update_item(self, **request: Any) -> Any:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    get_item = put_item = update_item


def table(answer: Any = PROVEN) -> tuple[LimitsTable, list[dict[str, Any]]]:
    client: Any = Client(answer)
    return LimitsTable(client, "limits", lambda _: None, lambda: NOON + 0.75), client.asked


HINT = PriceHint("up", "m", Decimal("0.1"), Decimal("0.2"), 9)
COUNTED = {"TableName": "limits", "ReturnConsumedCapacity": "TOTAL"}
HINT_KEY = {"pk": {"S": "price#up#m"}}


def test_a_hint_is_written_for_thirty_days_and_read_by_its_name() -> None:
    limits, asked = table()
    limits.write_hint(HINT)
    expected = {"input": Decimal("0.1"), "output": Decimal("0.2"), "answer": 9, "expires_at": NOON + 30 * 86400}
    assert asked == [{**COUNTED, "Item": HINT_KEY | to_item(expected)}]
    for item, usual in (
        ({"answer": {"N": "7"}}, 7),
        ({"answer": {"N": "0"}}, None),
        ({"answer": {"S": "7"}}, None),
        ({}, None),
    ):
        limits, asked = table({**PROVEN, "Item": item} if item else PROVEN)
        assert limits.usual_answer(HINT) == usual
        assert asked == [{**COUNTED, "Key": HINT_KEY}]


def test_a_counter_is_read_as_it_is_now() -> None:
    limits, asked = table({**PROVEN, "Item": COUNTER})
    assert limits.counter("line-1") == {"day": "2026-11-23", "month": "2026-11", BUCKET: 1}
    assert asked == [{**COUNTED, "Key": UPDATE["Key"], "ConsistentRead": True}]
    assert table()[0].counter("line-1") == {}


CROSSING = Crossing("line-1", "month", "2026-11", 80, Decimal(5), Decimal(4))


def test_a_threshold_that_was_told_is_remembered_unless_a_higher_one_is() -> None:
    limits, asked = table()
    limits.mark_told(CROSSING)
    assert asked == [
        {
            **COUNTED,
            "Key": UPDATE["Key"],
            "UpdateExpression": "SET #told = :told, #of = :budget",
            "ConditionExpression": "#period = :start AND "
            "(attribute_not_exists(#of) OR #of <> :budget OR #told < :told)",
            "ExpressionAttributeNames": {"#period": "month", "#told": "told_month", "#of": "told_month_budget"},
            "ExpressionAttributeValues": values(told=80, budget=Decimal(5), start="2026-11"),
        }
    ]


def test_the_place_of_a_request_that_is_over_is_given_back_if_it_is_there() -> None:
    limits, asked = table()
    limits.give_back(LEASE)
    assert asked == [
        {
            **COUNTED,
            "Key": UPDATE["Key"],
            "UpdateExpression": "REMOVE #live.#lease",
            "ConditionExpression": "attribute_exists(#live.#lease)",
            "ExpressionAttributeNames": {"#live": "live", "#lease": "abc"},
        }
    ]


Act = Callable[[LimitsTable], object]
CHANGES: list[Act] = [lambda limits: limits.mark_told(CROSSING), lambda limits: limits.give_back(LEASE)]
OTHERS: list[Act] = [
    lambda limits: limits.write_hint(HINT),
    lambda limits: limits.usual_answer(HINT),
    lambda limits: limits.counter("line-1"),
]


def test_what_is_so_already_is_done_and_what_nobody_confirms_is_not() -> None:
    for act in CHANGES:
        act(table(Client.exceptions.ConditionalCheckFailedException())[0])
    for act in CHANGES + OTHERS:
        with pytest.raises(NoAnswerError):
            act(table({})[0])


# ---------------------------------------------------------------------------------------------------------------- tries

TWO, THREE = replace(ONE, event_id="02"), replace(ONE, event_id="03")
IN_BOTH = to_item({"day": "2026-11-23", "month": "2026-11"})
WRITTEN: Any = {"ConsumedCapacity": [{"TableName": "limits"}]}


def failure(code: str, *reasons: str, item: Any = None) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": "no"}}
    listed: list[dict[str, Any]] = [{"Code": reason} for reason in reasons]
    if item is not None:
        listed[-1]["Item"] = item
    return ClientError(response | ({"CancellationReasons": listed} if listed else {}), "TransactWriteItems")


def cancelled(*reasons: str, item: Any = None) -> ClientError:
    return failure("TransactionCanceledException", *reasons, item=item)


class Scripted:
    """DynamoDB that answers as the script says, and then that it has written."""

    def __init__(self, *script: Any) -> None:
        self.script, self.asked, self.pauses = list(script), list[list[Any]](), list[int]()
        made: Any = self
        self.table = LimitsTable(made, "limits", self.pauses.append, lambda: NOON + 0.5)

    def transact_write_items(self, **request: Any) -> Any:
        assert request["ReturnConsumedCapacity"] == "TOTAL"
        self.asked.append(request["TransactItems"])
        turn = self.script.pop(0) if self.script else WRITTEN
        if isinstance(turn, Exception):
            raise turn
        return turn

    @property
    def markers(self) -> list[str]:
        """Which settlements each call was of."""
        return [" ".join(item["Put"]["Item"]["pk"]["S"][8:] for item in items if "Put" in item) for items in self.asked]


FAILED = "ConditionalCheckFailed"


def test_what_is_written_is_written_once_with_markers_for_thirty_two_days() -> None:
    client = Scripted()
    assert client.table.settle([ONE, TWO]) == {}
    assert (client.markers, client.pauses) == (["01 02"], [])
    assert client.asked[0][0]["Put"]["Item"]["expires_at"] == {"N": str(NOON + 32 * 86400)}


@pytest.mark.parametrize(
    "turn", [failure("InternalServerError"), cancelled("TransactionConflict", "None"), {}], ids=str
)
def test_what_passes_is_tried_eight_times_with_a_pause_between(turn: Any) -> None:
    client = Scripted(*[turn] * 7)
    assert client.table.settle([ONE]) == {}
    assert (len(client.asked), client.pauses) == (8, [1, 2, 3, 4, 5, 6, 7])
    client = Scripted(*[turn] * 8)
    reason = str(turn) if turn else "DynamoDB did not say that it has written"
    assert client.table.settle([ONE, replace(TWO, team="red")]) == {"01": reason, "02#team": reason}
    assert (len(client.asked), client.pauses) == (8, [1, 2, 3, 4, 5, 6, 7])


def test_duplicates_are_dropped_at_once_and_the_others_are_settled() -> None:
    client = Scripted(cancelled("None", FAILED, "None", "None"), cancelled(FAILED, "None", "None"))
    assert client.table.settle([ONE, TWO, THREE]) == {}
    assert (client.markers, client.pauses) == (["01 02 03", "01 03", "03"], [])
    client = Scripted(cancelled(FAILED, FAILED, "None"))
    assert client.table.settle([ONE, TWO]) == {}
    assert client.markers == ["01 02"]


def test_a_counter_that_is_not_as_thought_is_taken_as_it_is() -> None:
    client = Scripted(cancelled("None", FAILED, item=IN_BOTH | to_item({"day": "2026-11-24"})))
    assert client.table.settle([ONE]) == {}
    assert [len(items) for items in client.asked] == [2, 2]
    assert set(client.asked[1][1]["Update"]["ExpressionAttributeNames"]) == {"#month_cost", "#month_spent", "#month"}
    client = Scripted(cancelled("None", FAILED))
    assert client.table.settle([ONE]) == {}
    assert [len(items) for items in client.asked] == [2, 1], "where there is no counter the marker alone is written"
    assert client.pauses == []


@pytest.mark.parametrize(("ahead", "begins"), [(300, True), (301, False)])
def test_the_clock_of_a_sandbox_may_be_five_minutes_ahead(ahead: int, begins: bool) -> None:
    midnight = NOON + 12 * 3600
    moment = replace(ONE, reserved=None, taken_at=midnight, windows=Windows.of(midnight))
    client = Scripted(cancelled("None", FAILED, item=IN_BOTH))
    made: Any = client
    assert LimitsTable(made, "limits", client.pauses.append, lambda: midnight - ahead).settle([moment]) == {}
    names = client.asked[1][1]["Update"]["ExpressionAttributeNames"]
    assert ("#told_day" in names) == begins


def test_something_wrong_with_one_is_found_by_settling_each_alone() -> None:
    bad = failure("ValidationException")
    client = Scripted(bad, WRITTEN, bad, WRITTEN)
    assert client.table.settle([ONE, TWO, THREE]) == {"02": str(bad)}
    assert (client.markers, client.pauses) == (["01 02 03", "01", "02", "03"], [])
    client = Scripted(failure("ResourceNotFoundException"))
    with pytest.raises(ClientError):
        client.table.settle([ONE])


@pytest.mark.parametrize(("age", "counts"), [(32 * 86400, False), (32 * 86400 - 1, True), (0, True)])
def test_what_comes_after_its_marker_is_gone_is_of_no_budget_in_total(age: int, counts: bool) -> None:
    taken = NOON - age
    late = replace(ONE, taken_at=taken, windows=Windows.of(taken, Calendar(total=True)))
    client = Scripted()
    made: Any = client
    assert LimitsTable(made, "limits", client.pauses.append, lambda: NOON).settle([late]) == {}
    names = client.asked[0][1]["Update"]["ExpressionAttributeNames"]
    assert (("#total_cost" in names), ("#day_cost" in names)) == (counts, True)
