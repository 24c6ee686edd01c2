"""What is left of a server's limits: the pace at which it goes, and what is forecast of it."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.envelope import Event
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.throttles.weather import Left, Resource, Weather, samples_of

FULL, TOLD_AGAIN = 20.0, 3600.0

NOW = 1_795_426_900.0


def said(at: float, refused_for: float | None = None, **left: Any) -> Weather:
    announced = {"server": "openai", "model": "gpt-5", "refused_for": refused_for, **left}
    data: Any = {"announced": [announced]}
    moment = datetime.fromtimestamp(NOW + at, UTC).isoformat()
    [found] = samples_of(Event("InferenceCompleted", "", moment, "", "c", data))
    return found


def seen(at: float, remaining: int, limit: int | None = 1000, reset: float | None = 60.0) -> Weather:
    left = {"remaining": remaining, "limit": limit, "reset": reset}
    return said(at, requests=left)


def after(*samples: Weather) -> Weather:
    found: Weather | None = None
    for sample in samples:
        found = sample.after(found)
    assert found
    return found


def test_a_limit_that_goes_is_forecast_before_it_is_gone() -> None:
    weather = after(seen(0, 200), seen(10, 150), seen(20, 100))
    assert weather.left["requests"].pace == 5
    assert weather.left["requests"].seconds == 20
    assert weather.is_news
    assert weather.going == ("requests", weather.left["requests"])


@pytest.mark.parametrize(
    "samples",
    [
        [seen(0, 100)],
        [seen(0, 900), seen(10, 800)],
        [seen(0, 100), seen(10, 100)],
        [seen(0, 100), seen(10, 150)],
        [seen(0, 200), seen(100, 190)],
        [seen(0, 200), seen(10, 150, reset=5.0)],
        [seen(0, 200), seen(500, 100)],
        [seen(0, 200), seen(0.5, 100)],
    ],
    ids=["one", "plenty", "still", "rises", "slow", "full_again_before", "long_ago", "too_close"],
)
def test_what_does_not_go_soon_is_not_forecast(samples: list[Weather]) -> None:
    assert not after(*samples).is_news


def test_it_is_told_once_in_an_hour() -> None:
    told = after(seen(0, 200), seen(10, 150)).as_told()
    assert not seen(20, 100).after(told).is_news
    late = after(seen(TOLD_AGAIN, 200), seen(TOLD_AGAIN + 11, 150))
    assert late.after(None).is_news or late.is_news
    assert told.told_at == NOW + 10


def test_a_server_that_is_about_to_refuse_is_full_until_it_has_room() -> None:
    weather = after(seen(0, 200), seen(10, 150), seen(20, 50, reset=30.0))
    assert weather.left["requests"].seconds is not None
    assert weather.left["requests"].seconds <= FULL
    assert weather.full_until == NOW + 20 + 30
    assert weather.is_full(NOW + 49)
    assert not weather.is_full(NOW + 50)


@pytest.mark.parametrize(("refused_for", "until"), [(7.0, 7.0), (0.0, FULL), (1e9, 600.0)])
def test_a_refusal_says_how_long_a_server_is_full(refused_for: float, until: float) -> None:
    weather = said(0, refused_for)
    assert weather.full_until == NOW + until
    assert seen(1, 900).after(weather).full_until == NOW + until, "an answer that comes later takes nothing back"


def test_a_limit_of_which_nothing_is_left_is_full_until_it_is_reset() -> None:
    assert seen(0, 0, reset=12.5).full_until == NOW + 12.5
    assert seen(0, 0, reset=None).full_until == NOW + FULL
    assert seen(0, 1).full_until == 0


# ------------------------------------------------------------------------------------------------- to the last second


def going(remaining: int, pace: float, limit: int | None, reset: float | None) -> bool:
    return Left(remaining, limit, reset, pace).is_going


@pytest.mark.parametrize(
    ("left", "is_going"),
    [
        ((120, 1.0, None, None), True),
        ((121, 1.0, None, None), False),
        ((200, 100.0, 1000, None), True),
        ((201, 100.0, 1000, None), False),
        ((60, 1.0, 1000, 60.5), True),
        ((60, 1.0, 1000, 60.0), False),
        ((0, 1.0, 0, None), True),
        ((0, 0.0, 1000, None), False),
    ],
)
def test_a_limit_is_going_that_is_scarce_and_gone_within_two_minutes_and_before_it_is_full_again(
    left: tuple[int, float, int | None, float | None], is_going: bool
) -> None:
    assert going(*left) is is_going


@pytest.mark.parametrize(
    ("seconds", "remaining", "pace"),
    [
        (0.5, 100, 3.0),  # too soon for a pace of its own
        (1.0, 292, 5.5),
        (10.0, 220, 5.5),
        (10.0, 290, 2.0),
        (120.0, 60, 2.5),
        (120.5, 60, 0.0),  # what is known is too old
        (10.0, 300, 0.0),
        (10.0, 301, 0.0),
    ],
)
def test_the_pace_is_half_of_what_it_was_and_half_of_what_it_is(seconds: float, remaining: int, pace: float) -> None:
    found = seen(seconds, remaining).after(Weather("openai", "gpt-5", NOW, {"requests": Left(300, 1000, 60.0, 3.0)}))
    assert found.left == {"requests": Left(remaining, 1000, 60.0, pace)}
    assert (found.seen_at, found.told_at) == (NOW + seconds, 0.0)


@pytest.mark.parametrize(("seconds", "is_kept"), [(120.0, True), (120.5, False)])
def test_what_an_answer_does_not_say_holds_for_two_minutes(seconds: float, is_kept: bool) -> None:
    before = Weather("openai", "gpt-5", NOW, {"tokens": Left(5)}, NOW + 500, NOW - 7)
    left: dict[Resource, Left] = {"requests": Left(900, 1000, 60.0)}
    assert seen(seconds, 900).after(before) == Weather(
        "openai", "gpt-5", NOW + seconds, {**({"tokens": Left(5)} if is_kept else {}), **left}, NOW + 500, NOW - 7
    )


@pytest.mark.parametrize(
    ("reset", "remaining", "until"),
    [(30.0, 20, 30.0), (30.0, 21, 0.0), (None, 20, 20.0), (700.0, 20, 600.0)],
)
def test_a_server_is_full_that_has_nothing_left_in_twenty_seconds(
    reset: float | None, remaining: int, until: float
) -> None:
    found = seen(10, remaining, reset=reset).after(seen(0, remaining + 10))
    assert found.left["requests"].pace == 1.0
    assert found.full_until == (NOW + 10 + until if until else 0.0)


@pytest.mark.parametrize(("seconds", "is_news"), [(3599.0, False), (3600.0, True)])
def test_a_forecast_is_told_again_after_an_hour_to_the_second(seconds: float, is_news: bool) -> None:
    assert Weather("s", "m", NOW + seconds, {"tokens": Left(1, None, None, 1.0)}, 0.0, NOW).is_news is is_news


def test_what_is_gone_first_is_told() -> None:
    left: dict[Resource, Left] = {"requests": Left(10, None, None, 1.0), "tokens": Left(9, None, None, 1.0)}
    assert Weather("s", "m", NOW, left).going == ("tokens", left["tokens"])
    assert Weather("s", "m", NOW, {**left, "tokens": Left(0)}).going == ("requests", left["requests"])


def test_an_item_is_written_and_read_whole() -> None:
    left: dict[Resource, Left] = {"requests": Left(10, 20, 1.5, 0.1234567), "tokens": Left(7)}
    weather = Weather("openai", "m" * 200, NOW + 0.5, left, NOW + 30, NOW - 60)
    item = weather.to_item()
    assert item == {
        "pk": "weather",
        "sk": f"openai#{'m' * 128}",
        "server": "openai",
        "model": "m" * 200,
        "seen_at": Decimal("1795426900.5"),
        "full_until": Decimal("1795426930.0"),
        "told_at": Decimal("1795426840.0"),
        "expires_at": 1_795_426_900 + 86400,
        "requests": {"remaining": 10, "limit": 20, "reset": Decimal("1.5"), "pace": Decimal("0.123457")},
        "tokens": {"remaining": 7, "pace": Decimal("0.0")},
    }
    assert Weather.of(item) == replace(weather, left={**left, "requests": Left(10, 20, 1.5, 0.123457)})


def test_an_event_tells_of_a_few_servers_and_only_what_can_be_so() -> None:
    facts = {"remaining": 1, "limit": None, "reset": None}
    server = {"server": "s" * 100, "model": None, "refused_for": None, "requests": facts, "tokens": None}
    data: Any = {"announced": [server] * 9}
    event: Event[Any, Any] = Event("InferenceFailed", "", "2026-11-23T09:41:40Z", "", "c", data)
    assert samples_of(event) == [Weather("s" * 64, "-", NOW, {"requests": Left(1)})] * 8
    assert samples_of(event._replace(data={})) == samples_of(event._replace(data={"announced": None})) == []
    with pytest.raises(MalformedEventError, match="not a InferenceFailed event: ValueError"):
        samples_of(event._replace(timestamp="2026-11-23T09:41:40"))
    for name, value in (("remaining", -1), ("limit", "5"), ("reset", -1.0)):
        with pytest.raises(MalformedEventError):
            samples_of(event._replace(data={"announced": [{**server, "requests": {**facts, name: value}}]}))


SAMPLES = st.lists(
    st.builds(
        seen,
        at=st.floats(0, 10_000),
        remaining=st.integers(0, 10**12),
        limit=st.none() | st.integers(0, 10**12),
        reset=st.none() | st.floats(0, 86_400),
    ),
    min_size=1,
    max_size=6,
)


@given(SAMPLES)
def test_an_item_says_what_was_written_whatever_came(samples: list[Weather]) -> None:
    weather = after(*sorted(samples, key=lambda each: each.seen_at))
    read = Weather.of(from_item(to_item(weather.to_item())))
    assert read.name == weather.name == "openai#gpt-5"
    assert read.seen_at == pytest.approx(weather.seen_at)
    found: Any = read.left["requests"]
    expected: Any = weather.left["requests"]
    assert (found.remaining, found.limit) == (expected.remaining, expected.limit)
    assert found.pace == pytest.approx(expected.pace, abs=1e-5)
    assert found.pace >= 0
    assert weather.full_until <= weather.seen_at + 600


def test_a_limit_without_a_pace_is_not_going() -> None:
    assert Left(0, 10).seconds is None
    assert not Left(0, 10).is_going
