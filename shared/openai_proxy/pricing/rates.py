"""What a price is, and what it makes of `Usage`: USD for each class of what is paid for. Pure.

One rule: nothing is rounded but what is paid by time, and nothing is guessed: usage that a price does not cover, or
that contradicts itself, has a reason instead of a cost.

A class that has no price of its own costs what the class that it is a part of costs:

    input ◀─ cached_input, cache_write ◀─ cache_write_1h, audio_input ◀─ cached_audio_input,
             image_input ◀─ cached_image_input
    output ◀─ reasoning, audio_output, image_output
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, fields, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Literal

from openai_proxy.usage import UNKNOWN, Usage

UnpricedReason = Literal[
    "unknown_price", "unknown_tier", "usage_missing", "usage_invalid", "usage_inconsistent", "usage_incomplete"
]
"""No price is known, or none for the service tier; the server did not say what was used; what it said are no counts, or
they contradict each other; the price distinguishes what usage does not tell apart, such as pages, or image tokens where
a server does not count them."""

EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow])
"""Sums and products of money: as many digits as they need, or an error."""

_RATE_DECIMALS = Decimal(1).scaleb(-12)
_TIME_DECIMALS = Decimal(1).scaleb(-12)
_MILLIONTH = Decimal(1).scaleb(-6)
_ROUNDING = Context(prec=60, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens of each class, for each request, and for each hour of audio. None: no price of its own."""

    input: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    audio_input: Decimal | None = None
    cached_audio_input: Decimal | None = None
    image_input: Decimal | None = None
    cached_image_input: Decimal | None = None
    output: Decimal | None = None
    reasoning: Decimal | None = None
    audio_output: Decimal | None = None
    image_output: Decimal | None = None
    request: Decimal | None = None
    audio_hour: Decimal | None = None

    @property
    def are_of_tokens(self) -> bool:
        """Whether tokens are paid for at all."""
        return self.input is not None or self.output is not None

    def of(self, tokens: str) -> Decimal | None:
        """The rate of a class of tokens: its own, or that of the class it is a part of."""
        own: Decimal | None = getattr(self, tokens)
        return self.of(_PART_OF[tokens]) if own is None and tokens in _PART_OF else own

    def times(self, factor: Decimal) -> "Rates":
        """These rates multiplied, to 12 decimals."""
        return Rates(**{name: _rounded(EXACT.multiply(rate, factor)) for name, rate in self.given().items()})

    def given(self) -> dict[str, Decimal]:
        """The rates that are not None, by class."""
        return {name: rate for name in RATES if (rate := getattr(self, name)) is not None}


RATES = tuple(field.name for field in fields(Rates))
_COMPONENT_OF = {"audio_hour": "audio_duration", "cache_write_1h": "cache_write"}
COMPONENTS = (*dict.fromkeys(_COMPONENT_OF.get(name, name) for name in RATES), "units")
"""The parts of a cost: one for each rate, but one for all that was written to caches; and one for what is billed by the
piece."""

_PART_OF = {
    "cached_input": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_input": "input",
    "cached_audio_input": "audio_input",
    "image_input": "input",
    "cached_image_input": "image_input",
    "reasoning": "output",
    "audio_output": "output",
    "image_output": "output",
}


@dataclass(frozen=True, slots=True)
class Price:
    """The rates of a model. With more than `tiers[n][0]` input tokens, the rates of that tier hold for all of them."""

    rates: Rates = Rates()
    tiers: tuple[tuple[int, Rates], ...] = ()
    """In ascending order."""
    is_free: bool = False
    uncounted: tuple[str, ...] = ()
    """What has a price of its own but is not told apart in usage, as the price list calls it."""
    least_seconds: int = 0
    """An inference that is paid by time costs at least so much of it."""
    by_service_tier: tuple[tuple[str, "Price"], ...] = ()
    """What holds instead for requests that the server says it served so."""
    units: tuple[tuple[str, Decimal], ...] = ()
    """USD for each piece of what is billed so, by its name."""

    def rates_for(self, input_tokens: int) -> Rates:
        return next((rates for above, rates in reversed(self.tiers) if input_tokens > above), self.rates)

    def times(self, factor: Decimal) -> "Price":
        """This price with a discount or a margin."""
        tiers = tuple((above, rates.times(factor)) for above, rates in self.tiers)
        by_tier = tuple((tier, price.times(factor)) for tier, price in self.by_service_tier)
        units = tuple((name, _rounded(EXACT.multiply(rate, factor))) for name, rate in self.units)
        return replace(self, rates=self.rates.times(factor), tiers=tiers, by_service_tier=by_tier, units=units)

    def at_service_tier(self, tier: str, standard: Container[str]) -> "Price | None":
        """What holds for a service tier; None where nobody knows. Those in `standard` cost no more than others."""
        own = dict(self.by_service_tier).get(tier)
        return self if own is None and (self.is_free or tier in standard) else own


FREE = Price(is_free=True)


def components_of(usage: Usage, price: Price) -> Mapping[str, Decimal] | UnpricedReason:
    """USD for each component that `usage` has something of, or why that cannot be said."""
    if price.is_free:
        return {}
    # A batch is the sum of requests of which none is known to be long.
    rates = price.rates if usage.service_tier == "batch" else price.rates_for(usage.input_tokens)
    is_by_use = rates.are_of_tokens or rates.audio_hour is not None or (price.units and rates.request is None)
    if usage.source in UNKNOWN and is_by_use:
        return "usage_invalid" if usage.source == "invalid" else "usage_missing"
    if price.uncounted:
        return "usage_incomplete"
    components = _for_tokens(usage, rates) if rates.are_of_tokens else {}
    if isinstance(components, str):
        return components
    if rates.audio_hour is not None and usage.duration is not None:
        components["audio_duration"] = _for_time(usage.duration, rates.audio_hour, price.least_seconds)
    elif rates.audio_hour is not None and not rates.are_of_tokens:
        return "usage_missing"
    if rates.request is not None:
        components["request"] = rates.request
    if usage.units and price.units:
        rate_of = dict(price.units)
        paid = {name: EXACT.multiply(rate_of[name], Decimal(n)) for name, n in usage.units if name in rate_of}
        components |= {"units": exact_sum(paid)} if paid else {}
    is_for_nothing_known = not components and (usage.duration or not rates.are_of_tokens)
    return "unknown_price" if is_for_nothing_known else components


def exact_sum(amounts: Mapping[str, Decimal]) -> Decimal:
    """The sum of all components, to the last digit."""
    total = Decimal(0)
    for amount in amounts.values():
        total = EXACT.add(total, amount)
    return total


def _for_tokens(usage: Usage, rates: Rates) -> dict[str, Decimal] | UnpricedReason:
    counts = _token_counts(usage, rates)
    if isinstance(counts, str):
        return counts
    components: dict[str, Decimal] = {}
    for name, tokens in counts.items():
        if tokens:
            rate = rates.of(name)
            if rate is None:
                return "unknown_price"
            usd = EXACT.multiply(EXACT.multiply(Decimal(tokens), rate), _MILLIONTH)
            component = _COMPONENT_OF.get(name, name)
            components[component] = EXACT.add(components.get(component, Decimal(0)), usd)
    return components


def _token_counts(usage: Usage, rates: Rates) -> dict[str, int] | UnpricedReason:
    """The tokens of each class, each counted once; or why that cannot be said, as when parts are more than the whole.

    Nobody says how many audio or image tokens were cached. As many as must have been, count as such.
    """
    seen = _image_tokens(usage.input_image_tokens, usage.input_tokens, rates.image_input, rates.input)
    drawn = _image_tokens(usage.output_image_tokens, usage.output_tokens, rates.image_output, rates.output)
    if seen is None or drawn is None:
        return "usage_incomplete"
    cached, audio = usage.cache_read_input_tokens, usage.input_audio_tokens
    fresh = usage.input_tokens - cached - usage.cache_creation_input_tokens - audio - seen
    both = max(0, -fresh)
    spoken, thought = usage.output_audio_tokens, usage.reasoning_output_tokens
    text = usage.output_tokens - spoken - thought - drawn
    written, for_an_hour = usage.cache_creation_input_tokens, usage.cache_creation_1h_input_tokens
    if both > min(cached, audio + seen) or text < 0 or for_an_hour > written:
        return "usage_inconsistent"
    if both and audio and seen:
        return "usage_incomplete"
    cached_audio, cached_images = (both, 0) if audio else (0, both)
    return {
        "input": max(0, fresh),
        "cached_input": cached - both,
        "cache_write": written - for_an_hour,
        "cache_write_1h": for_an_hour,
        "audio_input": audio - cached_audio,
        "cached_audio_input": cached_audio,
        "image_input": seen - cached_images,
        "cached_image_input": cached_images,
        "output": text,
        "reasoning": thought,
        "audio_output": spoken,
        "image_output": drawn,
    }


def _image_tokens(told: int | None, whole: int, rate: Decimal | None, rate_of_whole: Decimal | None) -> int | None:
    """Of so many tokens those that are paid for as images; None when the price needs to know and usage does not say."""
    if rate is None:
        return 0
    return 0 if told is None and (rate == rate_of_whole or not whole) else told


def _for_time(seconds: float, hourly: Decimal, least_seconds: int) -> Decimal:
    billed = max(Decimal(str(round(seconds, 6))), Decimal(least_seconds)) if seconds > 0 else Decimal(0)
    product = EXACT.multiply(billed, hourly)
    return _ROUNDING.quantize(_ROUNDING.divide(product, Decimal(3600)), _TIME_DECIMALS)


def _rounded(rate: Decimal) -> Decimal:
    return _ROUNDING.quantize(rate, _RATE_DECIMALS).normalize()
