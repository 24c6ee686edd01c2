"""What servers announce of their limits, in the forms that they have for it."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.records.announced import announced, announced_of

NOW = 1_795_426_686.0
"""2026-11-23T09:38:06Z"""
OPENAI = {
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-reset-requests": "8.64s",
    "x-ratelimit-remaining-tokens": "149984",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": "2026-11-23T09:38:36Z",
}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            OPENAI,
            {
                "requests": {"remaining": 9999, "limit": 10000, "reset": 8.64},
                "tokens": {"remaining": 149984, "limit": None, "reset": None},
            },
        ),
        (ANTHROPIC, {"requests": {"remaining": 49, "limit": 50, "reset": 30.0}}),
        ({}, {}),
        ({"x-ratelimit-limit-requests": "5"}, {}),
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-remaining-tokens": "many"}, {}),
    ],
)
def test_a_server_announces_what_is_left(headers: Mapping[str, str], expected: Any) -> None:
    assert announced(headers, NOW) == expected


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        *(("20ms", 0.02), ("1s", 1.0), ("6m0s", 360.0), ("2m59.56s", 179.56), ("1h2m", 3720.0), ("12", 12.0)),
        *(("1.2346s", 1.235), ("0.0004", 0.0), ("0.5d", 43200.0), ("86399.999s", 86399.999), ("86400.5", 86400.0)),
        *(("2026-11-23T09:38:06+00:00", 0.0), ("2026-11-23T09:00:00Z", 0.0), ("99d", 86400.0)),
        *(("", None), ("soon", None), ("2026-11-23T09:38:06", None), ("1e9", None), ("-5s", None)),
    ],
)
def test_when_a_limit_is_full_again_is_read_in_every_form(reset: str, seconds: float | None) -> None:
    headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": reset}
    found: Any = announced(headers, NOW)
    assert found["requests"]["reset"] == seconds


@pytest.mark.parametrize(("left", "is_known"), [("0", True), (str(10**12), True), (str(10**12 + 1), False)])
def test_a_number_that_no_limit_has_is_not_known(left: str, is_known: bool) -> None:
    found: Any = announced({"x-ratelimit-remaining-tokens": left, "x-ratelimit-limit-tokens": left}, NOW)
    assert found == ({"tokens": {"remaining": int(left), "limit": int(left), "reset": None}} if is_known else {})


@given(st.dictionaries(st.sampled_from([*OPENAI, *ANTHROPIC]), st.text(max_size=30) | st.sampled_from(["9" * 40, "٣"])))
def test_whatever_a_server_says_nothing_fails(headers: dict[str, str]) -> None:
    for left in announced(headers, NOW).values():
        each: Any = left
        assert 0 <= each["remaining"] <= 10**12
        assert each["reset"] is None or 0 <= each["reset"] <= 86400


def test_every_answer_is_told_of_that_says_anything_and_the_latest_of_many() -> None:
    answers: list[Any] = [
        ("a", "m", 429, {"retry-after": "7"}),
        ("a", "m", 429, {}),
        ("b", None, 200, {}),
        ("c", "n", 200, {"x-ratelimit-remaining-tokens": "5"}),
    ]
    assert announced_of(answers, NOW) == [
        {"server": "a", "model": "m", "refused_for": 7.0},
        {"server": "a", "model": "m", "refused_for": 0.0},
        {"server": "c", "model": "n", "refused_for": None, "tokens": {"remaining": 5, "limit": None, "reset": None}},
    ]
    assert len(announced_of(answers * 20, NOW)) == 4
