"""What a request costs, by the owner's own prices: classes of tokens, time, requests, days and patterns."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.pricing.price_book import Cost, PriceBook, Unpriced, load_price_book, parse_price_book
from openai_proxy.pricing.rates import Price, Rates, components_of
from openai_proxy.usage import Usage, UsageSource

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
MILLION = 1_000_000


def book(models: str) -> PriceBook:
    return parse_price_book(f"servers:\n  s:\n    models:\n      {models}\n  other: {{free: true}}\n")


def usage(
    input: int = 0,
    output: int = 0,
    cached: int = 0,
    written: int = 0,
    reasoning: int = 0,
    source: UsageSource = "reported",
    audio: tuple[int, int] = (0, 0),
    seconds: float | None = None,
) -> Usage:
    return Usage(input, output, cached, written, reasoning, source, *audio, seconds)


def priced(cost: Cost | Unpriced) -> Cost:
    assert isinstance(cost, Cost)
    return cost


def components(prices: PriceBook, used: Usage, model: str = "m") -> dict[str, Decimal]:
    cost = priced(prices.price(used, "s", model, NOW))
    assert cost.total == sum(cost.components.values())
    return dict(cost.components)


ALL_CLASSES = (
    "m: {input: 2, cached_input: 0.5, cache_write: 2.5, audio_input: 32, cached_audio_input: 0.4, "
    "output: 8, reasoning: 9, audio_output: 64, request: 0.01, audio_minute: 0.006}"
)


def test_each_class_has_its_price():
    used = usage(
        input=1000, cached=300, written=100, audio=(200, 30), output=100, reasoning=50, seconds=90, source="reported"
    )

    assert components(book(ALL_CLASSES), used) == {
        "input": Decimal("0.0008"),  # 400 fresh tokens of text
        "cached_input": Decimal("0.00015"),
        "cache_write": Decimal("0.00025"),
        "audio_input": Decimal("0.0064"),
        "output": Decimal("0.00016"),  # 20 tokens of text
        "reasoning": Decimal("0.00045"),
        "audio_output": Decimal("0.00192"),
        "request": Decimal("0.01"),
        "audio_duration": Decimal("0.009"),
    }


def test_a_class_without_a_price_of_its_own_costs_what_its_whole_costs():
    used = usage(input=1000, cached=300, written=100, audio=(200, 30), output=100, reasoning=50)

    assert components(book("m: {input: 2, output: 8}"), used) == {
        "input": Decimal("0.0008"),
        "cached_input": Decimal("0.0006"),
        "cache_write": Decimal("0.0002"),
        "audio_input": Decimal("0.0004"),
        "output": Decimal("0.00016"),
        "reasoning": Decimal("0.0004"),
        "audio_output": Decimal("0.00024"),
    }


def test_audio_that_must_have_been_cached_counts_as_such():
    prices = "m: {input: 1, cached_input: 0.5, audio_input: 10, output: 1"

    assert components(book(prices + ", cached_audio_input: 2}"), usage(input=100, cached=80, audio=(60, 0))) == {
        "cached_input": Decimal("0.00002"),  # 40 of the 80 are text, at most
        "audio_input": Decimal("0.0002"),
        "cached_audio_input": Decimal("0.00008"),
    }
    assert components(book(prices + "}"), usage(input=100, cached=80, audio=(60, 0)))["cached_audio_input"] == Decimal(
        "0.0004"
    )


IMAGES = "m: {input: 5, cached_input: 1.25, image_input: 8, cached_image_input: 2, output: 10, image_output: 32}"


def test_image_tokens_have_prices_of_their_own():
    used = usage(input=300, output=1600)._replace(input_image_tokens=200, output_image_tokens=1568)

    assert components(book(IMAGES), used) == {
        "input": Decimal("0.0005"),
        "image_input": Decimal("0.0016"),
        "output": Decimal("0.00032"),
        "image_output": Decimal("0.050176"),
    }


def test_images_that_must_have_been_cached_count_as_such():
    used = usage(input=100, cached=80)._replace(input_image_tokens=60, output_image_tokens=0)

    assert components(book(IMAGES), used) == {
        "cached_input": Decimal("0.00005"),  # 40 of the 80 are text, at most
        "image_input": Decimal("0.00016"),
        "cached_image_input": Decimal("0.00008"),
    }


def test_image_tokens_without_a_price_of_their_own_count_in_the_whole():
    used = usage(input=100, output=10, cached=80)._replace(input_image_tokens=60, output_image_tokens=10)

    assert components(book("m: {input: 2, cached_input: 0.5, output: 8}"), used) == {
        "input": Decimal("0.00004"),
        "cached_input": Decimal("0.00004"),
        "output": Decimal("0.00008"),
    }


@pytest.mark.parametrize(
    ("models", "used", "reason"),
    [
        (IMAGES, usage(input=10), "usage_incomplete"),
        (IMAGES, usage(output=10), "usage_incomplete"),
        (IMAGES, usage(input=10, output=10)._replace(input_image_tokens=0), "usage_incomplete"),
        (IMAGES, usage(input=10)._replace(input_image_tokens=11), "usage_inconsistent"),
        (IMAGES, usage(output=10)._replace(output_image_tokens=11), "usage_inconsistent"),
        # Which of them were cached is not known, and matters.
        (IMAGES, usage(input=100, cached=80, audio=(50, 0))._replace(input_image_tokens=50), "usage_incomplete"),
    ],
)
def test_images_that_are_not_told_apart_are_unpriced_where_that_matters(models: str, used: Usage, reason: str):
    assert book(models).price(used, "s", "m", NOW) == Unpriced(reason)  # pyright: ignore[reportArgumentType]


def test_images_that_are_not_told_apart_do_not_matter_at_the_same_price():
    same = "m: {input: 5, image_input: 5, output: 10, image_output: 10}"

    assert components(book(same), usage(input=100, output=10)) == {
        "input": Decimal("0.0005"),
        "output": Decimal("0.0001"),
    }


def test_prices_are_exact_to_the_last_digit():
    costs = components(book("m: {input: 0.1, output: 0.000000001}"), usage(input=3, output=7))

    assert costs == {"input": Decimal("0.0000003"), "output": Decimal("0.000000000000007")}


rates = st.decimals(0, 1_000_000, places=9)
counts = st.integers(0, 10**12)


@given(counts, counts, rates, rates)
def test_a_cost_is_tokens_times_price_without_rounding(input: int, output: int, rate: Decimal, output_rate: Decimal):
    cost = priced(book(f"m: {{input: {rate}, output: {output_rate}}}").price(usage(input, output), "s", "m", NOW))

    expected = input * int(rate.scaleb(9)) + output * int(output_rate.scaleb(9))
    sign, digits, exponent = cost.total.as_tuple()
    assert isinstance(exponent, int)
    assert int("".join(map(str, digits))) * 10 ** (15 + exponent) == expected
    assert len(str(expected)) <= 38, "DynamoDB keeps 38 digits"
    assert sign == 0


@pytest.mark.parametrize(
    ("seconds", "cost"),
    [(60.0, "0.006"), (0.5, "0.00005"), (7.1, "0.00071"), (1 / 3, "0.0000333333"), (0.0, "0")],
)
def test_time_is_paid_to_a_millionth_of_a_millionth(seconds: float, cost: str):
    assert components(book("m: {audio_minute: 0.006}"), usage(seconds=seconds)) == {"audio_duration": Decimal(cost)}


SECOND = 10**6
"""Microseconds."""
moments_of_audio = st.integers(0, 10**11) | st.sampled_from(
    [
        around + more
        for around in (0, 10 * SECOND, 90 * SECOND, 3600 * SECOND)
        for more in (-1, 0, 1)
        if around + more >= 0
    ]
)


@given(moments_of_audio, st.sampled_from([0, 1, 10, 90]), st.decimals("0.000001", "1000", places=6))
def test_time_is_paid_by_the_second_and_never_less_than_the_least(micros: int, least: int, hourly: Decimal):
    price = Price(Rates(audio_hour=hourly), least_seconds=least)
    paid = components_of(usage(seconds=micros / SECOND), price)

    billed = Fraction(max(micros, least * SECOND) if micros else 0, SECOND)
    exact = billed * Fraction(hourly) / 3600
    assert isinstance(paid, dict)
    assert paid.get("audio_duration", Decimal(0)) == Decimal(round(exact * 10**12)).scaleb(-12)


def test_an_hour_is_sixty_minutes():
    used = usage(seconds=12.3)

    assert components(book("m: {audio_hour: 0.36}"), used) == components(book("m: {audio_minute: 0.006}"), used)


def test_what_is_paid_by_time_is_not_paid_by_tokens():
    assert components(book("m: {audio_hour: 3.6}"), usage(input=500, output=20, seconds=10)) == {
        "audio_duration": Decimal("0.01")
    }


@pytest.mark.parametrize("used", [usage(input=9), usage(source="missing"), usage(source="missing", seconds=3)])
def test_what_is_paid_by_time_is_unpriced_without_a_time(used: Usage):
    assert book("m: {audio_hour: 1}").price(used, "s", "m", NOW) == Unpriced("usage_missing")


def test_seconds_without_a_price_are_not_free():
    assert book("m: {input: 1, output: 1}").price(usage(seconds=3), "s", "m", NOW) == Unpriced("unknown_price")


@pytest.mark.parametrize("used", [usage(source="missing"), usage(), usage(seconds=3), usage(input=7, output=7)])
def test_what_is_paid_by_request_costs_the_same_whatever_was_used(used: Usage):
    assert components(book("m: {request: 0.04}"), used) == {"request": Decimal("0.04")}


@pytest.mark.parametrize(
    ("input", "cost"), [(100, 102), (101, 1030), (1000, 10_020), (1001, 100_300), (10**6, 100 * 10**6 + 200)]
)
def test_a_long_input_sets_the_price_of_the_whole_request(input: int, cost: int):
    prices = book(
        "m: {input: 1, output: 2, above: [{input_tokens: 1000, input: 100, output: 200}, "
        "{input_tokens: 100, input: 10, output: 20}]}"
    )

    total = priced(prices.price(usage(input=input, output=1), "s", "m", NOW)).total
    assert total.scaleb(6) == cost


@pytest.mark.parametrize(
    ("at", "total"),
    [
        ("2026-06-30T23:59:59.999", 1),
        ("2026-07-01T00:00", 2),
        ("2026-11-23T14:29:59.999", 2),
        ("2026-11-23T14:30", 3),
        ("2027-01-01T00:00", 3),
    ],
)
def test_a_price_holds_from_its_moment_on(at: str, total: int):
    prices = book(
        "m: [{effective_from: 2026-07-01, input: 2}, {input: 1}, {effective_from: 2026-11-23T15:30+01:00, input: 3}]",
    )

    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert priced(prices.price(usage(input=MILLION), "s", "m", moment)).total == total


def test_before_its_first_price_a_model_has_the_price_of_the_next_rule_or_none():
    prices = book(
        "m: {effective_from: 2026-12-01, input: 2}\n      "
        "n*: {input: 5}\n      n: {effective_from: 2026-12-01, input: 2}"
    )

    assert prices.price(usage(input=1), "s", "m", NOW) == Unpriced("unknown_price")
    assert priced(prices.price(usage(input=1), "s", "n", NOW)).rule == "own:s/n*"
    assert priced(prices.price(usage(input=1), "s", "n", NOW + timedelta(days=9))).rule == "own:s/n"


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        ("gpt-5", "own:s/gpt-5"),
        ("gpt-5-2026-01-01", "own:s/gpt-5-20*"),
        ("gpt-5-2026-02-02", "own:s/gpt-5-2026-02-02"),
        ("gpt-5-mini", "own:s/gpt-*"),
        ("GPT-5", "own:s/gpt-5"),
        ("my-gpt-5", None),
        ("", None),
    ],
)
def test_the_most_exact_pattern_wins_wherever_it_stands(model: str, rule: str | None):
    prices = book("gpt-*: {input: 1}\n      gpt-5 gpt-5-20*: {input: 2}\n      gpt-5-2026-02-02: {input: 3}")

    cost = prices.price(usage(input=1), "s", model, NOW)

    assert (cost.rule if isinstance(cost, Cost) else None) == rule


@pytest.mark.parametrize(("server", "model"), [("s", "other"), ("elsewhere", "m"), (None, "m"), ("s", None)])
def test_what_is_not_in_the_book_is_unpriced_and_not_free(server: str | None, model: str | None):
    assert book("m: {input: 1, output: 1}").price(usage(input=1), server, model, NOW) == Unpriced("unknown_price")


@pytest.mark.parametrize(
    ("price", "used"), [("{input: 1}", usage(input=5, output=1)), ("{output: 1}", usage(input=1, output=5))]
)
def test_tokens_that_the_price_does_not_cover_are_unpriced(price: str, used: Usage):
    assert book(f"m: {price}").price(used, "s", "m", NOW) == Unpriced("unknown_price")


def test_usage_that_was_not_measured_is_unpriced():
    prices = book("m: {input: 1, request: 0.5}")

    assert prices.price(usage(source="missing"), "s", "m", NOW) == Unpriced("usage_missing")


@pytest.mark.parametrize(
    "used",
    [
        usage(input=5, cached=6),
        usage(input=5, written=6),
        usage(input=5, cached=3, written=3),
        usage(input=5, audio=(6, 0)),
        usage(output=5, reasoning=6),
        usage(output=5, audio=(0, 3), reasoning=3),
    ],
    ids=str,
)
def test_usage_that_contradicts_itself_is_unpriced(used: Usage):
    assert book("m: {input: 1, output: 1}").price(used, "s", "m", NOW) == Unpriced("usage_inconsistent")


def test_a_request_that_uses_no_tokens_has_nothing_to_price():
    assert book("m: {input: 1}").price(usage(source="none"), None, None, NOW) == Cost("none")


def test_a_free_server_is_free_even_without_usage():
    assert book("m: {input: 1}").price(usage(source="missing"), "other", "any", NOW) == Cost("free", rule="own:other/*")


@pytest.mark.parametrize("free", ["free", "{free: true}", "[{input: 1}, {effective_from: 2026-11-01, free: true}]"])
def test_a_model_can_be_free(free: str):
    assert priced(book(f"m: {free}").price(usage(input=1), "s", "m", NOW)).pricing == "free"


def test_estimated_usage_is_priced():
    assert components(book("m: {input: 1}"), usage(input=MILLION, source="estimated")) == {"input": Decimal(1)}


def test_two_servers_can_share_their_prices():
    prices = parse_price_book("servers:\n  a: &a\n    models:\n      m: {input: 1}\n  b: *a\n")

    assert priced(prices.price(usage(input=MILLION), "b", "m", NOW)).rule == "own:b/m"


def test_many_made_up_names_are_not_remembered_for_ever():
    prices = book("m: {input: 1}")

    for number in range(10_000):
        assert prices.price(usage(input=1), "s", f"made-up-{number}", NOW) == Unpriced("unknown_price")

    assert len(prices._remembered) <= 4096
    assert priced(prices.price(usage(input=1), "s", "m", NOW)).rule == "own:s/m"


def test_what_holds_for_some_models_is_remembered_of_all_of_them():
    prices = book("m: {input: 1}")
    found = {name: prices._candidates("s", name) for name in "mnop"}

    assert all(prices._candidates("s", name) is each for name, each in found.items())


@pytest.mark.parametrize("where", [{}, {"PRICES_FILE": "", "SERVERS_FILE": ""}], ids=["unset", "empty"])
def test_a_function_reads_the_files_that_its_environment_names_and_otherwise_its_layer_s(
    where: dict[str, str], tmp_path: Path
):
    assert PriceBook.from_environ(where).version == load_price_book().version
    for name, text in {
        "p.yaml": "servers: {own: {free: true}}",
        "s.yaml": "own: {url: 'http://own.example/v1', token: t, model: ''}",
    }.items():
        (tmp_path / name).write_text(text)
    named = {"PRICES_FILE": f"{tmp_path}/p.yaml", "SERVERS_FILE": f"{tmp_path}/s.yaml"}
    prices = PriceBook.from_environ(named)
    assert ([*prices.rules], prices.servers) == (["own"], ("own",))


class TestVersion:
    TEXT = "servers:\n  s: {models: {m: {input: 1}, n: free}}\n"

    @pytest.mark.parametrize(
        "other",
        ["# a comment\n" + TEXT, "servers:\n  s:\n    models:\n      n: free\n      m:\n        input: 1\n"],
    )
    def test_comments_and_order_do_not_matter(self, other: str):
        assert parse_price_book(other).version == parse_price_book(self.TEXT).version

    @pytest.mark.parametrize("change", [("input: 1", "input: 1.0"), ("n: free", "n: {input: 0}"), (" s:", " t:")])
    def test_every_price_does(self, change: tuple[str, str]):
        assert parse_price_book(self.TEXT.replace(*change)).version != parse_price_book(self.TEXT).version

    def test_whose_list_prices_a_server_has_does(self):
        def version(**urls: str) -> str:
            shipped = load_price_book().list
            return parse_price_book("", price_list=shipped, urls=urls).version

        assert version(a="https://api.openai.com/v1") != version(a="https://api.groq.com/openai/v1")
        assert version(a="https://unknown.example") == version(b="https://elsewhere.example")


class TestTheFilesInTheRepository:
    @pytest.mark.parametrize(
        ("server", "model"),
        [
            ("openai", "gpt-4o-mini-2024-07-18"),
            ("openai", "gpt-5"),
            ("openai", "text-embedding-3-small"),
            ("mistral", "mistral-small-latest"),
            ("gemini", "gemini-2.5-flash"),
            ("gemini", "models/gemini-2.5-flash"),
            ("demo", "demo"),
        ],
    )
    def test_common_models_have_a_price(self, server: str, model: str):
        cost = priced(load_price_book().price(usage(input=1000), server, model, NOW))

        assert cost.pricing == "priced"
        assert cost.total > 0

    def test_a_small_model_is_not_taken_for_the_big_one(self):
        prices = load_price_book()

        rules = [
            priced(prices.price(usage(input=1), "openai", m, NOW)).rule for m in ("gpt-5-mini", "gpt-5", "o3-mini")
        ]
        assert rules == ["list:openai/gpt-5-mini", "list:openai/gpt-5", "list:openai/o3-mini"]

    def test_a_local_server_is_free_and_a_rented_machine_is_unpriced(self):
        prices = load_price_book()

        assert priced(prices.price(usage(input=1), "ollama", "llama3", NOW)).pricing == "free"
        assert prices.price(usage(input=1), "replicate", "llama3", NOW) == Unpriced("unknown_price")

    def test_the_version_says_which_list_it_is(self):
        assert load_price_book().version.startswith(f"genai-prices-{load_price_book().list.version}+")

    def test_every_listed_price_can_be_read(self):
        listed: list[Any] = load_price_book().list.read_all()

        assert len(listed) > 1000
        assert all(
            price.price.is_free or price.price.rates.given() or price.price.uncounted or price.starts
            for model in listed
            for price in model.prices
        )
