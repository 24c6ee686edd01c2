"""What is left of a server's limits: the pace at which it goes, and what is forecast of it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.envelope import Event
from openai_proxy.throttles.weather import FULL, TOLD_AGAIN, Left, Weather, samples_of

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
