"""What a request says of caches, however it spells it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.cache.control import check_may_be_fetched, directives_of, seconds_of
from proxy.errors import ClientError

INFINITE = float("inf")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, {}),
        ({"cache-control": "no-cache"}, {"no-cache": ""}),
        ({"cache-control": "No-Cache, MAX-AGE=60"}, {"no-cache": "", "max-age": "60"}),
        ({"cache-control": " ,, no-store ,"}, {"no-store": ""}),
        ({"cache-control": 'max-age="60"'}, {"max-age": "60"}),
        ({"cache-control": "max-age = 60"}, {"max-age": "60"}),
        ({"cache-control": "max-age=5, max-age=500"}, {"max-age": "5"}),
        ({"cache-control": 'community="a, no-store", no-transform'}, {"community": "a, no-store", "no-transform": ""}),
        ({"cache-control": 'say="a \\" no-store"'}, {"say": 'a \\" no-store'}),
        ({"cache-control": "max-age="}, {"max-age": ""}),
        ({"cache-control": "\tno-cache\t"}, {"no-cache": ""}),
        ({"cache-control": "max-age=60; no-store"}, {"max-age": "60", "no-store": ""}),
        ({"cache-control": "no-store;max-age=60"}, {"no-store": "", "max-age": "60"}),
        ({"cache-control": '"no-store"'}, {"no-store": ""}),
        ({"cache-control": "max-age=60 no-store"}, {"max-age": "60", "no-store": ""}),
        ({"pragma": "no-cache"}, {"no-cache": ""}),
        ({"pragma": "other, No-Cache"}, {"no-cache": ""}),
        ({"pragma": "no-cachet"}, {}),
        ({"pragma": "no-cache", "cache-control": "max-age=60"}, {"max-age": "60"}),
        ({"pragma": "no-cache", "cache-control": ""}, {"no-cache": ""}),
    ],
)
def test_directives_are_read_as_they_may_be_spelled(headers: dict[str, str], found: dict[str, str]) -> None:
    assert directives_of(headers) == found


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("60", 60.0),
        ("007", 7.0),
        ("0", 0.0),
        ("999999999", 999999999.0),
        ("1000000000", 1e9),
        ("9" * 5000, INFINITE),
        ("0" * 5000 + "5", 5.0),
        ("", 0.0),
        ("-1", 0.0),
        ("+5", 0.0),
        ("1.5", 0.0),
        ("1e9", 0.0),
        ("٣", 0.0),
        ("soon", 0.0),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_time_is_whole_seconds_or_none(value: str, seconds: float) -> None:
    assert seconds_of(value) == seconds


@given(st.text(alphabet='abc-=", \\\t019', max_size=60))
def test_any_text_is_read(text: str) -> None:
    for name, value in directives_of({"cache-control": text}).items():
        assert name
        assert seconds_of(value) >= 0


@pytest.mark.parametrize("value", ["only-if-cached", "max-age=60, Only-If-Cached", "only-if-cached=yes"])
def test_what_only_a_cache_may_answer_is_not_fetched(value: str) -> None:
    with pytest.raises(ClientError) as caught:
        check_may_be_fetched({"cache-control": value}, is_held=False)
    assert (caught.value.status, caught.value.code) == (504, "not_cached")
    assert caught.value.headers == {"x-should-retry": "false"}


@pytest.mark.parametrize("value", ["", "no-cache", 'x="only-if-cached"', "only-if-cached-or-not"])
def test_all_else_may_be_fetched(value: str) -> None:
    check_may_be_fetched({"cache-control": value}, is_held=False)


@pytest.mark.parametrize("value", ["", "no-cache", "only-if-cached"])
def test_a_key_that_is_held_to_the_cache_is_told_so(value: str) -> None:
    with pytest.raises(ClientError) as caught:
        check_may_be_fetched({"cache-control": value}, is_held=True)
    assert (caught.value.status, caught.value.code, caught.value.type) == (403, "cache_only", "permission_error")
