"""Prices against plain arithmetic with fractions: tokens are dealt out to classes first, and usage is told of them."""

from decimal import Decimal
from fractions import Fraction
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.pricing.rates import Price, Rates, components_of, exact_sum
from openai_proxy.usage import UNKNOWN, Usage, UsageSource

OF_INPUT = ("input", "cached_input", "cache_write", "audio_input", "cached_audio_input")
OF_OUTPUT = ("output", "reasoning", "audio_output")
CLASSES = OF_INPUT + OF_OUTPUT
BEGINS_FROM = {
    "cached_input": "input",
    "cache_write": "input",
    "audio_input": "input",
    "cached_audio_input": "audio_input",
}
COUNTS = st.sampled_from([0, 0, 1, 7, 128_000])
RATES = st.sampled_from([None, None, Decimal(0), Decimal("0.075"), Decimal("1e-12"), Decimal(60)])


def rate_of(rates: dict[str, Decimal | None], name: str) -> Decimal | None:
    while (own := rates[name]) is None and name not in ("input", "output"):
        name = BEGINS_FROM.get(name, "output")
    return own


@st.composite
def dealt(draw: st.DrawFn) -> dict[str, int]:
    """Tokens of each class. Audio that was cached is only seen where all other input was cached or audio as well."""
    counts = {name: draw(COUNTS) for name in CLASSES}
    if counts["cached_audio_input"]:
        counts["input"] = 0
    return counts


def told(counts: dict[str, int], seconds: float | None = None, source: UsageSource = "reported") -> Usage:
    """The usage that a server reports for tokens of these classes."""
    return Usage(
        sum(counts[name] for name in OF_INPUT),
        sum(counts[name] for name in OF_OUTPUT),
        counts["cached_input"] + counts["cached_audio_input"],
        counts["cache_write"],
        counts["reasoning"],
        source,
        counts["audio_input"] + counts["cached_audio_input"],
        counts["audio_output"],
        seconds,
    )


@given(dealt(), st.fixed_dictionaries(dict.fromkeys(CLASSES, RATES)), RATES)
def test_every_class_costs_its_tokens_at_its_rate_or_that_of_what_it_is_a_part_of(
    counts: dict[str, int], rates: dict[str, Decimal | None], request: Decimal | None
) -> None:
    found = components_of(told(counts), Price(Rates(**rates, request=request)))
    is_of_tokens = rates["input"] is not None or rates["output"] is not None
    wanted = {name: (count, rate_of(rates, name)) for name, count in counts.items() if count and is_of_tokens}
    if any(rate is None for _, rate in wanted.values()) or (not is_of_tokens and request is None):
        assert found == "unknown_price"
        return
    assert not isinstance(found, str)
    expected = {name: Fraction(rate or 0) * count / 1_000_000 for name, (count, rate) in wanted.items()}
    if request is not None:
        expected["request"] = Fraction(request)
    assert {name: Fraction(amount) for name, amount in found.items()} == expected
    assert Fraction(exact_sum(found)) == sum(expected.values())


@given(st.integers(0, 3_000), st.integers(1, 1000), st.integers(1, 1000))
def test_a_tier_holds_for_all_tokens_of_a_request_with_more_than_it_says(tokens: int, first: int, more: int) -> None:
    rates = [Rates(input=Decimal(number)) for number in (1, 2, 3)]
    price = Price(rates[0], ((first, rates[1]), (first + more, rates[2])))
    assert price.rates_for(tokens) is rates[(tokens > first) + (tokens > first + more)]
    for at in (first, first + more):
        assert price.rates_for(at + 1) is not price.rates_for(at)


SECONDS = st.one_of(st.integers(0, 8_000), st.sampled_from([1e-7, 1e-6, 0.5, 59.999999, 60.0, 60.000001, 90.000001]))


@given(SECONDS, st.sampled_from([0, 1, 60]), st.sampled_from([Decimal("0.36"), Decimal("0.111"), Decimal(0)]))
def test_audio_costs_its_time_and_what_has_no_time_costs_nothing(seconds: float, least: int, hourly: Decimal) -> None:
    found = components_of(
        told(dict.fromkeys(CLASSES, 0), seconds), Price(Rates(audio_hour=hourly), least_seconds=least)
    )
    assert not isinstance(found, str)
    billed = max(Fraction(round(seconds * 1_000_000), 1_000_000), Fraction(least)) if seconds > 0 else Fraction(0)
    assert set(found) == {"audio_duration"}
    assert abs(Fraction(found["audio_duration"]) - billed * Fraction(hourly) / 3600) <= Fraction(1, 2 * 10**12)


@given(dealt(), st.sampled_from(["input", "output"]), st.integers(1, 5))
def test_parts_that_are_more_than_the_whole_have_no_cost(counts: dict[str, int], side: str, more: int) -> None:
    rates = Price(Rates(input=Decimal(1), output=Decimal(1)))
    usage = told({**counts, "input": 0, "cached_audio_input": 0, "cached_input": 0, "output": 0})
    assert not isinstance(components_of(usage, rates), str)
    if side == "input":
        wrong = Usage(
            usage.input_tokens, 0, 0, usage.cache_creation_input_tokens + more, 0, "reported", usage.input_audio_tokens
        )
    else:
        wrong = Usage(0, usage.output_tokens, 0, 0, usage.output_tokens + more, "reported")
    assert components_of(wrong, rates) == "usage_inconsistent"


@given(st.sampled_from(get_args(UsageSource)), st.sampled_from(["input", "output", "audio_hour", "request"]))
def test_what_is_not_known_has_no_cost_but_that_of_a_request(source: UsageSource, name: str) -> None:
    found = components_of(told(dict.fromkeys(CLASSES, 0), None, source), Price(Rates(**{name: Decimal(2)})))
    if name == "request":
        assert found == {"request": Decimal(2)}
    elif source in UNKNOWN:
        assert found == ("usage_invalid" if source == "invalid" else "usage_missing")
    else:
        assert found == ("usage_missing" if name == "audio_hour" else {})
