"""ULIDs: order, form, time."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events.ulid import first_ulid_of, is_ulid, new_ulid, ulid_day, ulid_of_fact, ulid_time


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_ulids_sort_by_their_time(one: float, other: float) -> None:
    if int(one * 1000) < int(other * 1000):
        assert new_ulid(one) < new_ulid(other)


def test_the_example_of_the_specification() -> None:
    assert is_ulid("01ARYZ6S41TSV4RRFFQ69G5FAV")
    assert ulid_time("01ARYZ6S41TSV4RRFFQ69G5FAV") == datetime(2016, 7, 30, 22, 36, 16, 385000, tzinfo=UTC)
    assert ulid_day("01ARYZ6S41TSV4RRFFQ69G5FAV") == "2016-07-30"


@pytest.mark.parametrize(
    "wrong",
    ["", "x" * 26, "81ARYZ6S41TSV4RRFFQ69G5FAV", "01ARYZ6S41TSV4RRFFQ69G5FA", "01ARYZ6S41TSV4RRFFQ69G5FAVV"]
    + [f"01ARYZ6S41TSV4RRFFQ69G5FA{letter}" for letter in "ILOUa-"],
)
def test_what_is_no_ulid(wrong: str) -> None:
    assert not is_ulid(wrong)
    with pytest.raises(ValueError, match="not a ULID"):
        ulid_time(wrong)


@given(st.integers(0, 253_402_300_799_999))
def test_a_ulid_says_its_millisecond_in_its_first_ten_characters(milliseconds: int) -> None:
    expected = datetime.fromtimestamp(milliseconds // 1000, tz=UTC).replace(microsecond=milliseconds % 1000 * 1000)
    digits = "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[milliseconds >> 5 * place & 31] for place in range(9, -1, -1))
    for low in ("0" * 16, "Z" * 16):
        assert abs(ulid_time(digits + low) - expected) < timedelta(milliseconds=1)
        assert ulid_day(digits + low) == f"{ulid_time(digits + low):%Y-%m-%d}"


def test_the_last_moments_that_a_ulid_can_have() -> None:
    assert ulid_time("7" + "0" * 25).year == 9774
    assert ulid_day(first_ulid_of(253_402_300_799)) == "9999-12-31"
    some = [new_ulid(1e9) for _ in range(200)]
    assert len(set(some)) == 200
    assert all(len({each[place] for each in some}) > 1 for place in range(10, 26)), "all of the rest is random"
    assert {len(new_ulid(moment)) for moment in (0, 1e9, 253_402_300_799)} == {26}


def test_the_same_fact_has_the_same_id() -> None:
    assert ulid_of_fact(1e9, "a") == ulid_of_fact(1e9, "a") != ulid_of_fact(1e9, "b")
    assert ulid_time(ulid_of_fact(1e9, "a")).timestamp() == 1e9


def test_facts_that_differ_in_half_a_character_have_ids_of_their_own() -> None:
    """Of two models that a batch names so, neither has the other's entry."""
    facts = ["a?", "a\ud800", "a\ud801", "a\ufffd"]
    assert len({ulid_of_fact(1e9, fact) for fact in facts}) == 4


def test_an_id_of_a_fact_stays_the_same_in_later_versions() -> None:
    """What is fetched next month has the id of what was recorded last month."""
    expected = (int(1e9 * 1000) << 80) | int.from_bytes(hashlib.sha256(b"openai\0batch_1").digest()[:10], "big")
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    text = ""
    while expected:
        expected, digit = divmod(expected, 32)
        text = alphabet[digit] + text
    assert ulid_of_fact(1e9, "openai\0batch_1") == text.rjust(26, "0")


def test_the_first_of_a_moment_comes_before_all_others() -> None:
    assert first_ulid_of(1e9) <= ulid_of_fact(1e9, "a") < first_ulid_of(1e9 + 0.001)
    assert first_ulid_of(1e9).endswith("0" * 16)


def test_a_fact_with_half_a_character_has_an_id() -> None:
    assert ulid_of_fact(1.0, "\ud800")[:10] == ulid_of_fact(1.0, "?")[:10]


@given(st.integers(0, 253_402_300_799_999))
def test_what_is_random_in_an_id_leaves_its_moment_as_it_is(milliseconds: int) -> None:
    moment = (milliseconds + 0.5) / 1000
    first = first_ulid_of(moment)
    assert {new_ulid(moment)[:10], ulid_of_fact(moment, "a fact")[:10], first[:10]} == {first[:10]}
    assert first[10:] == "0" * 16
    assert len({new_ulid(moment)[10:] for _ in range(3)}) == 3
