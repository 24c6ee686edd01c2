"""What the limits table is asked of shards, whole: each condition, each amount, each window."""

import re
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.dynamodb import from_attribute, to_item
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Windows
from proxy.limits.item import Share
from proxy.limits.meters import Meter, Taking
from proxy.limits.shard_item import crediting, drawing, room_in, shard_headers, taking_of_shard, to_draw
from proxy.limits.shard_returns import giving_back, moving, returning, sweeping, taking_back

NOW = 1_936_000_020
"""2031-05-08T09:47:00Z, the beginning of a minute."""
LIMITS = Limits("k", rpm=60, tpm=900, parallel=5, budget_day=Decimal(2), budget_month=Decimal(9))
WINDOWS = Windows.of(NOW, LIMITS.calendar)
TAKING = Taking(LIMITS, WINDOWS, Share("lease", NOW + 60, 13, Decimal("0.5")))
DAY, MONTH, REQUESTS, TOKENS, PLACES = TAKING.meters
MINUTE, PLACE = NOW // 60, f"p_{(NOW + 60) // 15}"


def written(request: dict[str, Any] | None) -> list[str]:
    """A request in words: what it needs and what it does, with its names and values in their places."""
    assert request is not None
    names, values = request["ExpressionAttributeNames"], request.get("ExpressionAttributeValues", {})
    parts = re.split(r" AND (?!:day)", request.get("ConditionExpression", ""))
    parts += re.split(r", | (?=ADD |REMOVE |SET )", request["UpdateExpression"])
    text = [re.sub(r"#\w+", lambda found: names[found[0]], each) for each in parts if each]

    def plain(found: re.Match[str]) -> str:
        value = from_attribute(values[found[0]])
        return f"{value:f}" if isinstance(value, Decimal) else f"{value}"

    return [re.sub(r":\w+", plain, each) for each in text]


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


PART = {
    "n": 4,
    "minute": MINUTE,
    "requests": 6,
    "tokens": 80,
    "places": 2,
    "of_places": 5,
    "seen_places": 2,
    "day": WINDOWS.day,
    "day_cost": 1,
    "of_day": 2,
    "seen_day": 1,
    "month": WINDOWS.month,
    "month_cost": 1,
    "of_month": 9,
    "seen_month": 2,
}
COUNTED = {
    "minute": MINUTE,
    "requests": 10,
    "tokens": 100,
    "places": 2,
    "day": WINDOWS.day,
    "day_cost": 1,
    "month": WINDOWS.month,
    "month_cost": Decimal("3.5"),
}
COUNTER = to_item({**COUNTED, "parts": {"3": PART}})
SHARD = to_item(
    {
        "minute": MINUTE,
        "requests": 3,
        "tokens": 58,
        "left_requests": 1,
        "drawn_requests": 4,
        "left_tokens": 2,
        "drawn_tokens": 60,
        "left_places": 0,
        "drawn_places": 1,
        "of_places": 5,
        "back_places": 0,
        "day": WINDOWS.day,
        "left_day": Decimal("0.25"),
        "drawn_day": Decimal("0.5"),
        "of_day": 2,
        "seen_day": 1,
        "month": WINDOWS.month,
        "left_month": 0,
        "drawn_month": 1,
        "of_month": 9,
        "seen_month": 2,
        "seen_requests": 10,
        "seen_tokens": 100,
        "seen_places": 2,
    }
)


def test_one_request_takes_its_share_of_each_limit_in_the_windows_that_go_on() -> None:
    assert written(taking_of_shard(TAKING)) == lines("""
        minute = 32266667
        day = 2031-05-08
        left_day >= 0.5
        of_day <= 2
        month BETWEEN 2031-05 AND 2031-05-08
        left_month >= 0.5
        of_month <= 9
        left_requests >= 1
        left_tokens >= 13
        left_places >= 1
        of_places <= 5
        ADD left_day -0.5
        left_month -0.5
        left_requests -1
        left_tokens -13
        left_places -1
        requests 1
        tokens 13
        p_129066672 1
        r_20310508_2151111 0.5
    """)


AMOUNTS = {DAY: Decimal("0.5"), MONTH: Decimal(0), REQUESTS: Decimal(4), TOKENS: Decimal(50), PLACES: Decimal(1)}
NEW_PART = {
    "n": 1,
    "minute": MINUTE,
    "requests": 4,
    "tokens": 50,
    "places": 1,
    "of_places": 5,
    "seen_places": 3,
    "day": WINDOWS.day,
    "day_cost": Decimal("0.5"),
    "of_day": 2,
    "seen_day": Decimal("1.5"),
    "month": WINDOWS.month,
    "month_cost": 0,
}
NEXT_PART = {
    **PART,
    "n": 5,
    "requests": 10,
    "tokens": 130,
    "places": 3,
    "seen_places": 3,
    "day_cost": Decimal("1.5"),
    "seen_day": Decimal("1.375"),
}


@pytest.mark.parametrize(
    ("shard", "counter", "back", "most_of_day", "found", "sets"),
    [
        (3, COUNTER, {"day": Decimal("0.125")}, "1.625", ["parts.3.n = 4"], {"parts.3": NEXT_PART}),
        (4, COUNTER, {}, "1.5", ["attribute_exists(parts)", "attribute_not_exists(parts.4)"], {"parts.4": NEW_PART}),
        (4, to_item(COUNTED), {}, "1.5", ["attribute_not_exists(parts)"], {"parts": {"4": NEW_PART}}),
    ],
)
def test_what_is_drawn_is_noted_while_there_is_room_for_it_and_the_part_is_as_it_was_read(
    shard: int, counter: dict[str, Any], back: dict[str, Decimal], most_of_day: str, found: list[str], sets: Any
) -> None:
    request = drawing(WINDOWS, shard, counter, AMOUNTS, back)
    [(path, value)] = sets.items()
    values = [from_attribute(each) for each in request["ExpressionAttributeValues"].values()]
    assert value in values
    assert [line for line in written(request) if not line.startswith("SET ")] == lines(f"""
        minute = {MINUTE}
        day = 2031-05-08
        day_cost <= {most_of_day}
        requests <= 56
        tokens <= 850
        size(live) <= 0
        places <= 4
    """) + found + ["ADD day_cost 0.5", "requests 4", "tokens 50", "places 1"]
    assert [line.partition(" = ")[0] for line in written(request) if line.startswith("SET ")] == [f"SET {path}"]


def test_a_shard_is_credited_with_what_it_has_drawn_since_and_is_as_it_was_read() -> None:
    assert written(crediting(TAKING, SHARD, 3, COUNTER)) == lines("""
        minute = 32266667
        drawn_day = 0.5
        day = 2031-05-08
        drawn_month = 1
        left_month >= 0.5
        month = 2031-05
        drawn_requests = 4
        drawn_tokens = 60
        drawn_places = 1
        SET day = 2031-05-08
        drawn_day = 1
        of_day = 2
        seen_day = 1
        month = 2031-05
        drawn_month = 1
        of_month = 9
        seen_month = 2
        drawn_requests = 6
        seen_requests = 10
        drawn_tokens = 80
        seen_tokens = 100
        drawn_places = 2
        of_places = 5
        seen_places = 2
        expires_at = 1939456020
        ADD left_day 0.0
        left_month -0.5
        left_requests 1
        left_tokens 7
        left_places 0
        requests 1
        tokens 13
        p_129066672 1
        r_20310508_2151111 0.5
    """)


def test_a_shard_that_is_new_is_credited_with_all_that_it_has_drawn() -> None:
    assert written(crediting(TAKING, {}, 3, COUNTER)) == lines("""
        attribute_not_exists(minute)
        attribute_not_exists(day)
        attribute_not_exists(month)
        attribute_not_exists(drawn_places)
        SET left_day = 0.5
        back_day = 0
        day = 2031-05-08
        drawn_day = 1
        of_day = 2
        seen_day = 1
        left_month = 0.5
        back_month = 0
        month = 2031-05
        drawn_month = 1
        of_month = 9
        seen_month = 2
        left_requests = 5
        drawn_requests = 6
        seen_requests = 10
        left_tokens = 67
        drawn_tokens = 80
        seen_tokens = 100
        left_places = 1
        back_places = 0
        drawn_places = 2
        of_places = 5
        seen_places = 2
        requests = 1
        tokens = 13
        minute = 32266667
        expires_at = 1939456020
        ADD p_129066672 1
        r_20310508_2151111 0.5
    """)


def test_what_was_drawn_under_a_larger_limit_is_returned_and_nothing_under_the_same() -> None:
    assert returning(TAKING.meters, WINDOWS, SHARD, 3, COUNTER) is None
    smaller = [meter._replace(limit=meter.limit - 1) for meter in TAKING.meters]
    assert written(returning(smaller, WINDOWS, SHARD, 3, COUNTER)) == lines("""
        day = 2031-05-08
        drawn_day = 0.5
        left_day >= 0.25
        drawn_places = 1
        left_places >= 0
        SET drawn_day = 1
        drawn_places = 2
        ADD left_day -0.25
        back_day 0.75
        left_places 0
        back_places 1
    """)


def test_places_are_free_when_their_leases_have_ended_and_no_second_earlier() -> None:
    last, this = f"p_{NOW // 15 - 1}", f"p_{NOW // 15}"
    shard = to_item({last: 2, this: 1, "p_1": 3, "left_places": 0})
    assert written(sweeping(shard, NOW)) == [
        *(f"{last} = 2", "p_1 = 3"),
        *("ADD left_places 5", f"REMOVE {last}", "p_1"),
    ]
    assert sweeping(to_item({this: 1}), NOW) is None
    assert written(sweeping(to_item({this: 1}), NOW + 1)) == [f"{this} = 1", "ADD left_places 1", f"REMOVE {this}"]
    many = to_item({f"p_{number}": 1 for number in range(41)})
    assert written(sweeping(many, NOW)).count("ADD left_places 40") == 1


def test_what_comes_back_or_moves_is_what_was_taken() -> None:
    minute, place = f"minute = {MINUTE}", ["p_9 -1", "left_places 1"]
    assert written(giving_back(WINDOWS, 7, "p_9")) == [minute, "p_9 >= 1", "ADD left_tokens 7", "tokens -7", *place]
    assert written(giving_back(WINDOWS, 0, "p_9")) == ["p_9 >= 1", "ADD p_9 -1", "left_places 1"]
    assert written(giving_back(WINDOWS, -7, "")) == [minute, "ADD left_tokens -7", "tokens 7"]
    assert written(moving("p_1", "p_2")) == ["p_1 >= 1", "ADD p_1 -1", "p_2 1"]
    assert written(moving("", "p_2")) == ["attribute_exists(left_places)", "ADD p_2 1", "left_places -1"]
    assert written(taking_back(TAKING)) == lines("""
        minute = 32266667
        day = 2031-05-08
        month BETWEEN 2031-05 AND 2031-05-08
        p_129066672 >= 1
        ADD requests -1
        tokens -13
        left_day 0.5
        left_month 0.5
        left_requests 1
        left_tokens 13
        left_places 1
        p_129066672 -1
        r_20310508_2151111 -0.5
    """)


@pytest.mark.parametrize(
    ("name", "room", "lack", "shards", "drawn"),
    [
        ("requests", "320", "1", 2, "10"),  # a sixteenth of its share
        ("requests", "32", "1", 2, "8"),  # eight at once while there is enough
        ("requests", "15", "1", 2, "7"),
        ("requests", "3", "3", 8, "3"),
        ("requests", "2", "3", 8, None),
        ("requests", "0", "1", 8, None),
        ("requests", "0", "0", 8, "0"),
        ("day", "0.1", "0.5", 8, "0.1"),
        ("day", "0", "0.5", 8, None),
        ("day", "1e-12", "0.5", 8, "1e-12"),
        ("day", "1", "0.0000000000015", 3, "0.020833333333"),
    ],
)
def test_so_much_is_drawn_at_once(name: str, room: str, lack: str, shards: int, drawn: str | None) -> None:
    found = to_draw(Meter(name, 1000, 1), Decimal(room), Decimal(lack), shards)
    assert found == (None if drawn is None else Decimal(drawn))


def test_room_is_what_nobody_has_taken_or_drawn() -> None:
    assert [room_in(meter, COUNTER) for meter in TAKING.meters] == [1, Decimal("5.5"), 50, 800, 3]
    assert room_in(DAY, COUNTER, Decimal("0.125")) == Decimal("1.125")
    running = to_item({"live": {"a": NOW + 60, "b": NOW + 60}})
    assert (room_in(PLACES, COUNTER | running), room_in(REQUESTS, COUNTER | running)) == (1, 50)


def test_what_is_left_is_what_the_counter_had_and_the_shard_has() -> None:
    assert shard_headers(TAKING, SHARD) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "51",
        "x-ratelimit-reset-requests": "60s",
        "x-ratelimit-limit-tokens": "900",
        "x-ratelimit-remaining-tokens": "802",
        "x-ratelimit-reset-tokens": "60s",
        "x-budget-remaining-usd": "1.75",
        "x-budget-reset": "51180s",
    }


def test_an_update_of_a_shard_that_is_read_is_answered_with_it_whether_it_was_made_or_not() -> None:
    smaller = [meter._replace(limit=0) for meter in TAKING.meters]
    made = [taking_of_shard(TAKING), drawing(WINDOWS, 3, COUNTER, AMOUNTS, {}), crediting(TAKING, SHARD, 3, COUNTER)]
    made += filter(None, [returning(smaller, WINDOWS, SHARD, 3, COUNTER), sweeping(to_item({"p_1": 1}), NOW)])
    told = {"ReturnValues": "ALL_NEW", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    expressions = {"UpdateExpression", "ConditionExpression", "ExpressionAttributeNames", "ExpressionAttributeValues"}
    assert [{name: each[name] for name in each.keys() - expressions} for each in made] == [told] * 5
