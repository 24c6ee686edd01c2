"""What guards remember of requests, against plain models: which window is complete first, and what an hour has cost."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.guards.evidence import Memory, bucket_of, first_completion, merged

from tests.examples import examples

MONDAY = 1_795_392_000
HOUR = 3600


def ulid(milliseconds: int, fact: str = "") -> str:
    """The id of a request that came so many milliseconds after Monday began."""
    return ulid_of_fact(MONDAY + milliseconds / 1000, fact or str(milliseconds))


MOMENTS = st.lists(st.integers(0, 9_000), min_size=1, max_size=14, unique=True)


def completion(moments: Sequence[int], times: int, within: int, start: int, end: int) -> int | None:
    """The first moment in a bucket of which so many are within the window that ends with it, counted plainly."""
    for at in sorted(moments):
        if start <= at < end and sum(at - within * 1000 < other <= at for other in moments) >= times:
            return at
    return None


@settings(max_examples=examples(40))
@given(MOMENTS, st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
def test_the_first_request_that_completes_a_window_is_found(
    moments: list[int], times: int, within: int, bucket: int
) -> None:
    start, end = bucket * within * 1000, (bucket + 1) * within * 1000
    ids = [ulid(at) for at in sorted(moments)]
    found = completion(moments, times, within, start, end)
    complete = first_completion(ids, times, within, MONDAY * 1000 + start, MONDAY * 1000 + end)
    assert complete == (None if found is None else ulid(found))


@settings(max_examples=examples(40))
@given(MOMENTS, st.integers(1, 3), st.integers(1, 4))
def test_what_a_bucket_keeps_is_enough_to_find_every_window(moments: list[int], times: int, within: int) -> None:
    """Whatever was left out: the first and the last few say as much of this bucket and of the next one."""
    memory = Memory()
    for at in moments:
        memory.times("g", bucket_of(ulid(at), within), [ulid(at)], times)
    first = MONDAY // within
    for bucket in range(first - 1, first + 9_000 // (within * 1000) + 2):
        start, end = (bucket * within - MONDAY) * 1000, ((bucket + 1) * within - MONDAY) * 1000
        found = completion(moments, times, within, start, end)
        near = memory.times("g", bucket, [], times)
        said = first_completion(near, times, within, bucket * within * 1000, (bucket + 1) * within * 1000)
        assert said == (None if found is None else ulid(found))


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 12])
def test_of_many_the_first_and_the_last_are_kept_in_order_and_once(count: int) -> None:
    ids = [ulid(number) for number in range(count)]
    kept = ids if count <= 6 else ids[:3] + ids[-3:]
    assert merged(ids[::-1], ids[::2], 3) == kept
    assert merged((), ids, 3) == merged(ids, (), 3) == kept


@pytest.mark.parametrize(("at", "bucket"), [(0, 0), (59_999, 0), (60_000, 1), (60_001, 1)])
def test_a_bucket_begins_with_its_first_millisecond(at: int, bucket: int) -> None:
    assert bucket_of(ulid(at), 60) == MONDAY // 60 + bucket


def test_a_request_costs_once_in_its_hour_and_key_and_an_hour_without_any_is_not_told() -> None:
    memory, one, two = Memory(), Decimal("0.1"), Decimal(2)
    assert memory.spend("a", 5, {"x": one}) == one
    assert memory.spend("a", 5, {"x": one, "y": two}) == one + two
    assert memory.spend("a", 5, {}) == one + two
    assert memory.spend("b", 5, {"x": one}) == one
    assert memory.spend("a", 7, {"x": two}) == two
    assert memory.spent("a", 4, 7) == {5: one + two, 7: two}
    assert memory.spent("a", 5, 5) == {5: one + two}
    assert memory.spent("a", 6, 6) == memory.spent("c", 0, 9) == {}


def test_what_is_forgotten_is_which_requests_came_and_not_what_they_cost() -> None:
    memory, hour = Memory(), MONDAY // HOUR
    old, new, last = ulid(999), ulid(1000), ulid(1001)
    memory.times("g", 1, [old], 2)
    memory.times("h", 1, [old, new], 2)
    for each in (hour - 1, hour):
        memory.spend("a", each, {"x": Decimal(1)})
    memory.forget(MONDAY + 1.0)
    assert memory.times("g", 1, [last], 2) == [last]
    assert memory.times("h", 1, [last], 2) == [old, new, last]
    assert memory.spent("a", hour - 2, hour) == {hour - 1: 1, hour: 1}

    assert memory.spend("a", hour, {"x": Decimal(1)}) == 2, "this one began before it, and is counted anew"
    memory.forget(float(MONDAY))
    assert memory.spend("a", hour, {"x": Decimal(1)}) == 2, "what began with that moment is known"
