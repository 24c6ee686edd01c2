"""Image tokens, caches for an hour, units, tiers and list entries against plain arithmetic, each up to its bound."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.pricing.list_prices import PriceList
from openai_proxy.pricing.price_book import Cost, PriceBook, PriceBookError, Unpriced, parse_price_book
from openai_proxy.pricing.rates import COMPONENTS, RATES, Price, Rates, components_of
from openai_proxy.usage import Usage

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
OF_INPUT = ("input", "cached_input", "cache_write", "cache_write_1h", "image_input", "cached_image_input")
OF_OUTPUT = ("output", "reasoning", "image_output")
BEGINS_FROM = {
    "cached_input": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "image_input": "input",
    "cached_image_input": "image_input",
    "reasoning": "output",
    "image_output": "output",
}
COUNTS = st.sampled_from([0, 0, 1, 7, 128_000])
PRICES = st.sampled_from([None, None, Decimal(0), Decimal("0.075"), Decimal("1e-12"), Decimal(60)])


def rate_of(rates: dict[str, Decimal | None], name: str) -> Decimal | None:
    while (own := rates[name]) is None and name in BEGINS_FROM:
        name = BEGINS_FROM[name]
    return own


@pytest.mark.parametrize("name", RATES)
def test_a_class_without_a_rate_of_its_own_has_that_of_the_class_it_is_a_part_of_and_no_other(name: str) -> None:
    wholes = [name]
    parts = {**BEGINS_FROM, "audio_input": "input", "cached_audio_input": "audio_input", "audio_output": "output"}
    while wholes[-1] in parts:
        wholes.append(parts[wholes[-1]])
    for only in RATES:
        found = Rates(**{only: Decimal(7)}).of(name)
        assert found == (Decimal(7) if only in wholes else None), only


@st.composite
def dealt(draw: st.DrawFn) -> dict[str, int]:
    """Tokens of each class. Images that were cached are seen where all other input was cached or of images too."""
    counts = {name: draw(COUNTS) for name in (*OF_INPUT, *OF_OUTPUT)}
    if counts["cached_image_input"]:
        counts["input"] = 0
    return counts


def told(counts: dict[str, int], **more: Any) -> Usage:
    """The usage that a server reports for tokens of these classes."""
    return Usage(
        input_tokens=sum(counts[name] for name in OF_INPUT),
        output_tokens=sum(counts[name] for name in OF_OUTPUT),
        cache_read_input_tokens=counts["cached_input"] + counts["cached_image_input"],
        cache_creation_input_tokens=counts["cache_write"] + counts["cache_write_1h"],
        cache_creation_1h_input_tokens=counts["cache_write_1h"],
        reasoning_output_tokens=counts["reasoning"],
        source="reported",
        input_image_tokens=counts["image_input"] + counts["cached_image_input"],
        output_image_tokens=counts["image_output"],
    )._replace(**more)


@given(dealt(), st.fixed_dictionaries(dict.fromkeys((*OF_INPUT, *OF_OUTPUT), PRICES)))
def test_images_and_caches_for_an_hour_cost_their_tokens(
    counts: dict[str, int], rates: dict[str, Decimal | None]
) -> None:
    rates |= {"input": rates["input"] or Decimal(2), "output": rates["output"] or Decimal(3)}
    rates |= {"image_input": rates["image_input"] or Decimal(5), "image_output": rates["image_output"] or Decimal(7)}
    found = components_of(told(counts), Price(Rates(**rates)))
    assert not isinstance(found, str)
    expected: dict[str, Fraction] = {}
    for name, count in counts.items():
        component = "cache_write" if name == "cache_write_1h" else name
        if count:
            cost = Fraction(rate_of(rates, name) or 0) * count / 1_000_000
            expected[component] = expected.get(component, Fraction(0)) + cost
    assert {name: Fraction(amount) for name, amount in found.items()} == expected


USUAL = dict.fromkeys((*OF_INPUT, *OF_OUTPUT), 0)
IMAGES = Rates(input=Decimal(1), output=Decimal(1), image_input=Decimal(2), image_output=Decimal(2))


@pytest.mark.parametrize(
    ("usage", "rates", "found"),
    [
        (Usage(10, 0, source="reported"), IMAGES, "usage_incomplete"),
        (Usage(0, 10, source="reported"), IMAGES, "usage_incomplete"),
        (Usage(0, 0, source="reported"), IMAGES, {}),
        (
            Usage(10, 0, source="reported"),
            Rates(input=Decimal(1), image_input=Decimal(1)),
            {"input": Decimal("0.00001")},
        ),
        (Usage(10, 0, source="reported", input_image_tokens=4), Rates(input=Decimal(1)), {"input": Decimal("0.00001")}),
        (Usage(10, 0, source="reported", input_image_tokens=11, output_image_tokens=0), IMAGES, "usage_inconsistent"),
        (Usage(0, 10, source="reported", input_image_tokens=0, output_image_tokens=11), IMAGES, "usage_inconsistent"),
        (
            Usage(5, 0, 0, 4, source="reported", cache_creation_1h_input_tokens=5),
            Rates(input=Decimal(1)),
            "usage_inconsistent",
        ),
        # Cached tokens of audio or of images: nobody says of which.
        (
            Usage(10, 0, 4, source="reported", input_audio_tokens=4, input_image_tokens=3, output_image_tokens=0),
            IMAGES,
            "usage_incomplete",
        ),
        (
            Usage(11, 0, 4, source="reported", input_audio_tokens=4, input_image_tokens=3, output_image_tokens=0),
            IMAGES,
            {
                "cached_input": Decimal("0.000004"),
                "audio_input": Decimal("0.000004"),
                "image_input": Decimal("0.000006"),
            },
        ),
        (Usage(5, 0, source="reported"), Rates(output=Decimal(1)), "unknown_price"),
        (Usage(0, 5, source="reported"), Rates(output=Decimal(1)), {"output": Decimal("0.000005")}),
        (Usage(0, 0, source="reported", duration=5.0), Rates(input=Decimal(1)), "unknown_price"),
        (Usage(5, 0, source="reported", duration=5.0), Rates(input=Decimal(1)), {"input": Decimal("0.000005")}),
    ],
)
def test_what_usage_does_not_tell_apart_has_a_reason_in_place_of_a_cost(usage: Usage, rates: Rates, found: Any) -> None:
    assert components_of(usage, Price(rates)) == found


def test_each_class_has_a_component_and_an_hour_of_cache_that_of_the_cache() -> None:
    expected = [{"audio_hour": "audio_duration"}.get(name, name) for name in RATES if name != "cache_write_1h"]
    assert sorted(COMPONENTS) == sorted([*expected, "units"])
    assert COMPONENTS[-1] == "units"


def test_a_batch_costs_the_price_of_short_inputs_and_others_that_of_their_own_length() -> None:
    price = Price(Rates(input=Decimal(1)), ((100, Rates(input=Decimal(2))),))
    usage = Usage(200, source="reported")
    assert components_of(usage, price) == {"input": Decimal("0.0004")}
    assert components_of(usage._replace(service_tier="batch"), price) == {"input": Decimal("0.0002")}


@pytest.mark.parametrize(
    ("price", "known"),
    [
        (Price(Rates(request=Decimal(1))), True),
        (Price(Rates(request=Decimal(1)), units=(("page", Decimal(1)),)), True),
        (Price(units=(("page", Decimal(1)),)), False),
        (Price(Rates(audio_hour=Decimal(1))), False),
        (Price(Rates(input=Decimal(1), request=Decimal(1))), False),
        (Price(is_free=True), True),
    ],
)
def test_what_is_paid_by_its_use_has_no_cost_where_its_use_is_not_known(price: Price, known: bool) -> None:
    for usage, reason in ((Usage(), "usage_missing"), (Usage(source="invalid"), "usage_invalid")):
        found = components_of(usage, price)
        assert found == (({} if price.is_free else {"request": Decimal(1)}) if known else reason)
    assert components_of(Usage(source="reported", duration=0.5), Price(uncounted=("pages",))) == "usage_incomplete"


def test_units_that_have_a_price_are_paid_and_the_others_are_not() -> None:
    price = Price(Rates(input=Decimal(1)), units=(("page", Decimal("0.5")), ("search", Decimal(2))))
    usage = Usage(10, source="reported", units=(("other", 9), ("page", 3), ("search", 1)))
    assert components_of(usage, price) == {"input": Decimal("0.00001"), "units": Decimal("3.5")}
    assert components_of(usage._replace(units=(("other", 9),)), price) == {"input": Decimal("0.00001")}
    twice = price.times(Decimal("1.5"))
    assert components_of(usage, twice) == {"input": Decimal("0.000015"), "units": Decimal("5.25")}


# ----------------------------------------------------------------------------------------------------------- price list


def a_list(**model: Any) -> PriceBook:
    listed = PriceList(
        {
            "source": "a list",
            "version": "7",
            "standard_tiers": ["default"],
            "free_units": ["gift"],
            "providers": {"acme": {"url": r"https://acme\.example", "models": [{"id": "m", **model}]}},
        }
    )
    return PriceBook(listed, urls={"a": "https://acme.example/v1"})


def cost_of(book: PriceBook, model: str = "m", at: datetime = NOW, **usage: Any) -> Any:
    used: dict[str, Any] = {"input_tokens": 1_000_000, "source": "reported", **usage}
    found = book.price(Usage(**used), "a", model, at)
    return found.reason if isinstance(found, Unpriced) else (found.total, found.rule, found.unpriced_units)


DATED = [{"input": "1"}, {"from": "2026-11-23", "input": "2"}, {"from": "2026-11-24", "input": "3"}]


def test_a_price_holds_from_the_first_second_of_its_day() -> None:
    book, midnight = a_list(match={"equals": "M"}, prices=DATED), datetime(2026, 11, 24, tzinfo=UTC)
    for at, usd in (
        (midnight - timedelta(days=1, microseconds=1), 1),
        (midnight - timedelta(days=1), 2),
        (midnight - timedelta(microseconds=1), 2),
        (midnight, 3),
        (datetime(2030, 1, 1, tzinfo=UTC), 3),
    ):
        assert cost_of(book, at=at) == (usd, "list:acme/m", 0)
        newest = book.list.newest_start(at)
        assert newest == {1: None, 2: midnight - timedelta(days=1), 3: midnight}[usd]


@pytest.mark.parametrize("hours", [("08:30", "16:00"), ("22:00", "04:30")])
def test_a_price_by_the_hour_holds_from_its_first_second_to_its_last(hours: tuple[str, str]) -> None:
    book = a_list(match={"equals": "m"}, prices=[{"input": "1"}, {"hours": list(hours), "input": "2"}])
    begin, end = (datetime.fromisoformat(f"2026-11-23T{each}:00Z") for each in hours)
    second = timedelta(seconds=1)
    for at, usd in ((begin - second, 1), (begin, 2), (begin + second, 2), (end - second, 2), (end, 1)):
        assert cost_of(book, at=at)[0] == usd


def test_a_price_between_an_hour_and_the_same_never_holds() -> None:
    book = a_list(match={"equals": "m"}, prices=[{"input": "1"}, {"hours": ["08:30", "08:30"], "input": "2"}])
    begin = datetime.fromisoformat("2026-11-23T08:30:00Z")
    assert {cost_of(book, at=begin + timedelta(seconds=seconds))[0] for seconds in (-1, 0, 1, 43_200)} == {1}


@pytest.mark.parametrize(
    ("asked", "listed"),
    [("m-20250807", "m-2025-08-07"), ("m-20250807-eu", "m-2025-08-07-eu"), ("m-20259999", None), ("m-20250230", None)],
)
def test_a_date_in_a_name_may_be_written_without_dashes_and_what_is_no_date_is_no_other_name(
    asked: str, listed: str | None
) -> None:
    names = ["m-2025-08-07", "m-2025-08-07-eu", "m2025", "m", "m99", "m30", "m02"]
    book = a_list(match={"or": [{"equals": name} for name in names]}, prices=[{"input": "1"}])
    assert (book.list.find("acme", asked) is not None) is (listed is not None)


@pytest.mark.parametrize(("tokens", "usd"), [(100, 1), (101, 2), (200, 2), (201, 3)])
def test_a_longer_input_costs_what_holds_above_its_length(tokens: int, usd: int) -> None:
    prices = [{"input": ["1", [100, "2"], [200, "3"]], "output": "5"}]
    book = a_list(match={"equals": "m"}, prices=prices)
    total, _, _ = cost_of(book, input_tokens=tokens, output_tokens=1000)
    assert total == Decimal(usd) * tokens / 10**6 + Decimal("0.005")


@pytest.mark.parametrize(
    ("match", "names", "others"),
    [
        ({"equals": "Big"}, ["big", "BIG"], ["bigger", "a-big"]),
        ({"starts_with": "Big"}, ["big", "Bigger"], ["a-big"]),
        ({"ends_with": "Big"}, ["big", "A-Big"], ["bigger"]),
        ({"contains": "Big"}, ["a-big-one", "BIG"], ["bag"]),
        ({"regex": "^b.g"}, ["Big", "bag-2"], ["a-big"]),
        ({"or": [{"equals": "a"}, {"equals": "b"}]}, ["a", "b"], ["ab", "c"]),
        ({"and": [{"starts_with": "a"}, {"ends_with": "b"}]}, ["ab", "a-b"], ["a", "b", "ba"]),
    ],
)
def test_a_model_is_listed_by_what_matches_it(match: Any, names: list[str], others: list[str]) -> None:
    book = a_list(match=match, prices=[{"input": "1"}])
    assert [cost_of(book, name) for name in names] == [(1, "list:acme/m", 0)] * len(names)
    assert [cost_of(book, name) for name in others] == ["unknown_price"] * len(others)


@pytest.mark.parametrize(
    ("tier", "found"),
    [
        (None, (1, "list:acme/m", 0)),
        ("default", (1, "list:acme/m", 0)),
        ("fast", (4, "list:acme/m fast", 0)),
        ("same", (1, "list:acme/m", 0)),
        ("other", "unknown_tier"),
    ],
)
def test_a_service_tier_of_the_list_has_its_own_price(tier: str | None, found: Any) -> None:
    tiers = {"fast": [{"input": "4"}], "same": [{"input": "1"}]}
    book = a_list(match={"equals": "m"}, prices=[{"input": "1"}], tiers=tiers)
    assert cost_of(book, service_tier=tier) == found
    assert cost_of(book, "unlisted", service_tier=tier) == "unknown_price"


def test_pieces_without_a_price_are_counted_and_gifts_are_not() -> None:
    book = a_list(match={"equals": "m"}, prices=[{"input": "1", "units": {"page": "0.5"}}])
    units = (("gift", 4), ("other", 2), ("page", 3), ("search", 5))
    assert cost_of(book, units=units) == (Decimal("2.5"), "list:acme/m", 7)
    assert cost_of(book, input_tokens=0, units=(("gift", 4),)) == (0, "list:acme/m", 0)
    assert cost_of(book, input_tokens=0, units=(("other", 1),)) == "unknown_price"
    free = a_list(match={"equals": "m"}, prices=[{"free": True}])
    assert cost_of(free, units=units) == (0, "list:acme/m", 0)


def test_what_a_server_states_counts_where_the_book_knows_nothing() -> None:
    book = a_list(match={"equals": "m"}, prices=[{"input": "1"}])
    stated = Usage(1_000_000, source="reported", cost_reported=Decimal("0.25"))

    def answer(answered: str | None, asked: str | None, usage: Usage = stated) -> Any:
        return book.price_answer(usage, "a", answered, asked, NOW)

    reported = Cost("reported", rule="the server's own cost", stated=Decimal("0.25"))
    assert answer("x", "y") == (reported, "y")
    assert reported.total == Decimal("0.25")
    for answered, asked, model in (("m", "x", "m"), ("x", "m", "m"), (None, "m", "m")):
        cost, priced = answer(answered, asked)
        assert (cost.pricing, cost.total, priced) == ("priced", 1, model)
    assert answer("x", "y", stated._replace(cost_reported=None)) == (Unpriced("unknown_price"), "y")
    assert answer("m", "x", stated._replace(source="missing", cost_reported=None)) == (Unpriced("usage_missing"), "m")
    assert answer("x", "m", stated._replace(source="none"))[0] == Cost("none")


# ----------------------------------------------------------------------------------------------------------- price file


@pytest.mark.parametrize(
    ("prices", "is_taken"),
    [
        ("{input: 1000000}", True),
        ("{input: 1000000.000000001}", False),
        ("{input: 0}", True),
        ("{input: -0.000000001}", False),
        ("{input: 0.123456789}", True),
        ("{input: 0.1234567891}", False),
        ("{multiply: 1000, like: m}", True),
        ("{multiply: 1000.1, like: m}", False),
        ("{multiply: 0, like: m}", False),
        ("{multiply: 0.000000001, like: m}", True),
        ("{input: .nan}", False),
        ("{input: .inf}", False),
        ("{audio_minute: 1, audio_hour: 60}", False),
        ("{above: {input_tokens: 5, input: 1}}", False),
        ("{input: 1, above: {input_tokens: 5, output: 1}}", False),
        ("{input: 1, above: [{input_tokens: 5, input: 1}, {input_tokens: 5, input: 2}]}", False),
        ("{input: 1, tiers: {other: {input: 2}}}", False),
        ("{input: 1, tiers: {Flex: {input: 2}}}", False),
        ("{input: 1, tiers: {flex: {output: 2}}}", False),
        ("{input: 1, above: {input_tokens: 5, input: 2}, tiers: {flex: {input: 2}}}", False),
    ],
)
def test_a_price_is_between_nothing_and_a_million_with_nine_decimals(prices: str, is_taken: bool) -> None:
    text = f"servers: {{a: {{models: {{x: {prices}}}}}}}"
    if is_taken:
        assert parse_price_book(text).rules["a"].rules[0].pattern == "x"
    else:
        with pytest.raises(PriceBookError, match=r"^prices\.yaml: servers\.a\.models\.x.*: .*\. Remedy: .*\.$"):
            parse_price_book(text)


def test_the_more_exact_of_two_patterns_is_tried_first() -> None:
    patterns = ("*", "b?g*", "big-?", "big*", "big-1")
    models = ", ".join(f"'{pattern}': {{input: {usd}}}" for usd, pattern in enumerate(patterns, 1))
    text = f"servers: {{a: {{models: {{{models}}}}}}}"
    book = parse_price_book(text)
    assert [rule.pattern for rule in book.rules["a"].rules] == ["big-1", "big-?", "big*", "b?g*", "*"]
    for model, usd in (("BIG-1", 5), ("big-2", 3), ("big-22", 4), ("bag", 2), ("x", 1)):
        quote = book.find("a", model, NOW)
        assert quote
        assert quote.price == Price(Rates(input=Decimal(usd)))
    assert book.find("b", "big", NOW) is None


def test_a_minute_of_audio_is_a_sixtieth_of_an_hour() -> None:
    quote = parse_price_book("servers: {a: {models: {x: {audio_minute: 0.006}}}}").find("a", "x", NOW)
    assert quote
    assert quote.price == Price(Rates(audio_hour=Decimal("0.36")))


@pytest.mark.parametrize("day", ["2026-11-23", "2026-11-23T00:00Z", "2026-11-23T01:00+01:00"])
def test_a_price_of_the_owner_holds_from_its_moment(day: str) -> None:
    book = parse_price_book(f"servers: {{a: {{models: {{x: [{{input: 1}}, {{effective_from: '{day}', input: 2}}]}}}}}}")
    begin = datetime(2026, 11, 23, tzinfo=UTC)
    found = [book.find("a", "x", at) for at in (begin - timedelta(microseconds=1), begin)]
    assert [each and each.price.rates.input for each in found] == [1, 2]


def test_a_listed_model_that_is_paid_by_time_has_its_shortest_time() -> None:
    book = a_list(match={"equals": "m"}, prices=[{"audio_hour": "36", "least_seconds": 60}])
    for seconds, usd in ((1.0, "0.6"), (60.0, "0.6"), (61.0, "0.61")):
        assert cost_of(book, duration=seconds)[0] == Decimal(usd)


def test_the_parts_of_a_cost_by_the_names_that_the_ledger_has():
    assert (
        *("input", "cached_input", "cache_write", "audio_input", "cached_audio_input", "image_input"),
        *("cached_image_input", "output", "reasoning", "audio_output", "image_output", "request", "audio_duration"),
        "units",
    ) == COMPONENTS
