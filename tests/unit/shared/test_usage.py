"""Usage in an event: what is written is read again, what cannot be is refused at its exact boundary, and old events."""

import copy
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.usage import Usage, counted_units, tier_of, unit_of

WHOLE = Usage(
    *(10, 20, 3, 4, 5, "reported", 6, 7, 8.5, 9, 11, "rounded", Decimal("0.5"), "flex", 2),
    units=(("page", 3), ("web_search", 1)),
)
COUNTS: dict[tuple[str, ...], bool] = {
    ("input_tokens",): False,
    ("output_tokens",): False,
    ("cache_read", "input_tokens"): False,
    ("cache_creation", "input_tokens"): False,
    ("cache_creation", "ephemeral_1h_input_tokens"): False,
    ("reasoning", "output_tokens"): False,
    ("audio", "input_tokens"): False,
    ("audio", "output_tokens"): False,
    ("image", "input_tokens"): True,
    ("image", "output_tokens"): True,
}
"""The counts by their places, and whether one may be untold."""
NO_COUNTS: tuple[Any, ...] = (-1, 10**12 + 1, 1.0, True, "1", [])
NO_NAMES: tuple[Any, ...] = (None, "", 0, 1, [], {"a": 1}, True)


def with_value(place: tuple[str, ...], value: Any) -> Any:
    event: Any = copy.deepcopy(WHOLE.to_event())
    holder = event
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    return event


def read(place: tuple[str, ...], value: Any) -> bool:
    """Whether an event is taken with this value there."""
    try:
        found = Usage.from_event(with_value(place, value))
    except (TypeError, ValueError):
        return False
    return found.to_event() == with_value(place, value)


def test_an_event_has_every_figure_at_a_place_of_its_own() -> None:
    assert Usage.from_event(WHOLE.to_event()) == WHOLE
    assert WHOLE.to_event() == {
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_read": {"input_tokens": 3},
        "cache_creation": {"input_tokens": 4, "ephemeral_1h_input_tokens": 2},
        "reasoning": {"output_tokens": 5},
        "audio": {"input_tokens": 6, "output_tokens": 7},
        "image": {"input_tokens": 9, "output_tokens": 11},
        "duration": 8.5,
        "source": "reported",
        "reason": "rounded",
        "cost_reported": "0.5",
        "service_tier": "flex",
        "units": {"page": 3, "web_search": 1},
    }


@pytest.mark.parametrize(("place", "may_be_untold"), COUNTS.items(), ids=str)
def test_a_count_is_a_whole_number_within_its_bounds(place: tuple[str, ...], may_be_untold: bool) -> None:
    assert [read(place, value) for value in (0, 1, 10**12)] == [True] * 3
    assert not any(read(place, value) for value in NO_COUNTS)
    assert read(place, None) == may_be_untold


def boundaries() -> Iterator[tuple[str, Any, bool]]:
    yield from (("duration", value, True) for value in (None, 0, 0.5, 10**9))
    yield from (("duration", value, False) for value in (-0.1, 10**9 + 1, math.nan, math.inf, True, "1"))
    yield from (("cost_reported", value, True) for value in (None, "0", "1000000000", f"0.{'1' * 18}"))
    yield from (
        ("cost_reported", value, False)
        for value in ("-1", "1000000000.1", "1e5", f"0.{'1' * 19}", "", ".5", "1.", 1, 0.5, True)
    )
    yield from (("reason", value, True) for value in (None, "a", "a" * 64))
    yield from (("reason", value, False) for value in ("", "a" * 65, "A", "a b", 1))
    yield from (("service_tier", value, True) for value in (None, "a", "a-1._" + "b" * 27))
    yield from (("service_tier", value, False) for value in ("", "a" * 33, "A", "a b", 1))
    yield from (("units", value, True) for value in ({}, {"a" * 48: 1}, {f"u{n}": 10**12 for n in range(16)}))
    yield from (("units", {name: 1}, False) for name in ("", "a" * 49, "A", "a b"))
    yield from (("units", {"a": count}, False) for count in (-1, 10**12 + 1, 0.5, True, "1"))
    yield "units", {f"u{n}": 1 for n in range(17)}, False
    yield from (("source", value, True) for value in ("reported", "estimated", "missing", "invalid", "none"))
    yield from (("source", value, False) for value in (None, "", "guessed", 1))


@pytest.mark.parametrize(("name", "value", "is_taken"), list(boundaries()))
def test_what_cannot_be_is_refused(name: str, value: Any, is_taken: bool) -> None:
    assert read((name,), value) == is_taken


def test_events_of_before_have_no_audio_no_images_no_cost_and_no_pieces() -> None:
    event: Any = WHOLE.to_event()
    for name in ("audio", "image", "duration", "reason", "cost_reported", "service_tier", "units"):
        del event[name]
    del event["cache_creation"]["ephemeral_1h_input_tokens"]
    assert Usage.from_event(event) == Usage(10, 20, 3, 4, 5, "reported")


@pytest.mark.parametrize(
    ("named", "tier"),
    [
        *((each, None) for each in NO_NAMES),
        *(("Flex", "flex"), ("priority", "priority"), ("a" * 32, "a" * 32), ("a" * 33, "other"), ("a b", "other")),
    ],
)
def test_a_tier_is_a_short_name_in_lower_case(named: Any, tier: str | None) -> None:
    assert tier_of(named) == tier


@pytest.mark.parametrize(
    ("named", "unit"),
    [
        *(("web_search", "web_search"), ("Web Search-Call", "web_search_call"), ("x" * 49, "x" * 48), ("", "other")),
        *(("__a__", "a"), ("\u00e4", "other"), ("a" * 47 + " b", "a" * 47)),
    ],
)
def test_a_unit_is_called_by_letters_that_a_name_may_have(named: str, unit: str) -> None:
    assert unit_of(named) == unit


def test_of_what_is_counted_there_is_something_and_an_order() -> None:
    assert counted_units({"b": 1, "c": 0, "a": 2}) == (("a", 2), ("b", 1))
