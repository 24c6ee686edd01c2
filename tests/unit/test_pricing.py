from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.pricing import Cost, PriceBook, PriceBookError, Unpriced, load_price_book, parse_price_book
from openai_proxy.usage import Usage, UsageSource

DAY = date(2026, 11, 23)
MILLION = 1_000_000


def book(models: str) -> PriceBook:
    return parse_price_book(f'version: "1"\nservers:\n  s:\n    {models}\n  other:\n    "*": free\n')


def usage(
    input: int = 0,
    output: int = 0,
    cached: int = 0,
    written: int = 0,
    reasoning: int = 0,
    source: UsageSource = "reported",
) -> Usage:
    return Usage(input, output, cached, written, reasoning, source)


def priced(cost: Cost | Unpriced) -> Cost:
    assert isinstance(cost, Cost)
    return cost


def test_each_class_of_tokens_has_its_price():
    prices = book("m: {input: 2, cached_input: 0.5, cache_write: 2.5, output: 8}")

    cost = priced(prices.price(usage(input=1000, cached=300, written=100, output=50, reasoning=20), "s", "m", DAY))

    assert cost.input == Decimal("0.0012")  # 600 fresh tokens
    assert cost.cached_input == Decimal("0.00015")
    assert cost.cache_write == Decimal("0.00025")
    assert cost.output == Decimal("0.0004")  # the reasoning tokens are among the 50
    assert cost.total == Decimal("0.002")
    assert (cost.pricing, cost.rule) == ("priced", "s/m")


def test_cached_tokens_without_a_price_of_their_own_cost_what_input_costs():
    cost = priced(book("m: {input: 2, output: 8}").price(usage(input=1000, cached=300, written=100), "s", "m", DAY))

    assert cost.total == Decimal("0.002")


def test_prices_are_exact_to_the_last_digit():
    cost = priced(book("m: {input: 0.1, output: 0.000000001}").price(usage(input=3, output=7), "s", "m", DAY))

    assert (cost.input, cost.output) == (Decimal("0.0000003"), Decimal("0.000000000000007"))


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.decimals(0, 1000, places=9), st.decimals(0, 1000, places=9))
def test_a_cost_is_tokens_times_price_without_rounding(input: int, output: int, rate: Decimal, output_rate: Decimal):
    cost = priced(book(f"m: {{input: {rate}, output: {output_rate}}}").price(usage(input, output), "s", "m", DAY))

    assert int(cost.input.scaleb(15)) == input * int(rate.scaleb(9))
    assert int(cost.output.scaleb(15)) == output * int(output_rate.scaleb(9))


def test_a_long_input_sets_the_price_of_the_whole_request():
    prices = book("m: {input: 1, output: 2, above: {input_tokens: 100, input: 10, output: 20}}")

    assert priced(prices.price(usage(input=100, output=1), "s", "m", DAY)).total.scaleb(6) == 102
    assert priced(prices.price(usage(input=101, output=1), "s", "m", DAY)).total.scaleb(6) == 1030


@pytest.mark.parametrize(("day", "total"), [(date(2026, 6, 30), 1), (date(2026, 7, 1), 2), (date(2027, 1, 1), 3)])
def test_a_price_holds_from_its_day_on(day: date, total: int):
    prices = book(
        "m: [{effective_from: 2026-07-01, input: 2}, {input: 1}, {effective_from: 2026-12-31, input: 3}]",
    )

    assert priced(prices.price(usage(input=MILLION), "s", "m", day)).total == total


def test_before_its_first_price_a_model_is_unpriced():
    prices = book("m: {effective_from: 2026-07-01, input: 2}")

    assert prices.price(usage(input=1), "s", "m", date(2026, 6, 30)) == Unpriced("unknown_price")


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        ("gpt-5", "s/gpt-5"),
        ("gpt-5-2026-01-01", "s/gpt-5-20*"),
        ("gpt-5-2026-02-02", "s/gpt-5-2026-02-02"),
        ("gpt-5-mini", "s/gpt-*"),
        ("GPT-5", None),
        ("my-gpt-5", None),
        ("", None),
    ],
)
def test_the_most_exact_pattern_wins_wherever_it_stands(model: str, rule: str | None):
    prices = book(
        "gpt-*: {input: 1}\n    gpt-5 gpt-5-20*: {input: 2}\n    gpt-5-2026-02-02: {input: 3}",
    )

    cost = prices.price(usage(input=1), "s", model, DAY)

    assert cost == (Unpriced("unknown_price") if rule is None else Cost("priced", input=priced(cost).input, rule=rule))


@pytest.mark.parametrize(("server", "model"), [("s", "other"), ("elsewhere", "m"), (None, "m"), ("s", None)])
def test_what_is_not_in_the_book_is_unpriced_and_not_free(server: str | None, model: str | None):
    assert book("m: {input: 1, output: 1}").price(usage(input=1), server, model, DAY) == Unpriced("unknown_price")


def test_output_of_a_model_without_an_output_price_is_unpriced():
    prices = book("embed: {input: 1}")

    assert priced(prices.price(usage(input=5), "s", "embed", DAY)).total.scaleb(6) == 5
    assert prices.price(usage(input=5, output=1), "s", "embed", DAY) == Unpriced("unknown_price")


def test_usage_that_was_not_measured_is_unpriced():
    assert book("m: {input: 1}").price(usage(source="missing"), "s", "m", DAY) == Unpriced("usage_missing")


def test_usage_that_contradicts_itself_is_unpriced():
    assert book("m: {input: 1}").price(usage(input=5, cached=6), "s", "m", DAY) == Unpriced("usage_inconsistent")


def test_a_request_that_uses_no_tokens_has_nothing_to_price():
    assert book("m: {input: 1}").price(usage(source="none"), None, None, DAY) == Cost("none")


def test_a_free_server_is_free_even_without_usage():
    assert book("m: {input: 1}").price(usage(source="missing"), "other", "any", DAY) == Cost("free", rule="other/*")


def test_estimated_usage_is_priced():
    assert priced(book("m: {input: 1}").price(usage(input=MILLION, source="estimated"), "s", "m", DAY)).total == 1


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("", "the file", "empty"),
        ("[]", "the file", "empty or not a mapping"),
        ("servers: {s: {m: free}}", "the file", "has no `version`"),
        ('version: ""\nservers: {s: {m: free}}', "version", "is not a text"),
        ("version: 1\nservers: {s: {m: free}}\nserver: x", "the file.server", "unknown key"),
        ("version: 1\nservers: {s: }", "servers.s", "empty"),
        ("version: 1\nservers: {s: {m: cheap}}", "servers.s.m", "empty or not a mapping"),
        ("version: 1\nservers: {s: {m: {output: 1}}}", "servers.s.m", "has no `input`"),
        ("version: 1\nservers: {s: {m: {input: ten}}}", "servers.s.m.input", "'ten' is not a price"),
        ("version: 1\nservers: {s: {m: {input: -1}}}", "servers.s.m.input", "'-1' is not a price"),
        ("version: 1\nservers: {s: {m: {input: .nan}}}", "servers.s.m.input", "'.nan' is not a price"),
        ("version: 1\nservers: {s: {m: {input: NaN}}}", "servers.s.m.input", "'NaN' is not a price"),
        ("version: 1\nservers: {s: {m: {input: Infinity}}}", "servers.s.m.input", "'Infinity' is not a price"),
        ("version: 1\nservers: {s: {m: {input: 1000001}}}", "servers.s.m.input", "'1000001' is not a price"),
        ("version: 1\nservers: {s: {m: {input: 0.0000000001}}}", "servers.s.m.input", "is not a price"),
        ("version: 1\nservers: {s: {m: {input: [1]}}}", "servers.s.m.input", "['1'] is not a price"),
        ("version: 1\nservers: {s: {m: {input: 1, outptu: 1}}}", "servers.s.m.outptu", "unknown key"),
        ("version: 1\nservers: {s: {m: {input: 1, effective_from: soon}}}", "servers.s.m.effective_from", "not a day"),
        ("version: 1\nservers: {s: {m: {input: 1, effective_from: {}}}}", "servers.s.m.effective_from", "not a day"),
        ("version: 1\nservers: {s: {m: [{input: 1}, {input: 2}]}}", "servers.s.m", "two from the same day"),
        ("version: 1\nservers: {s: {m: []}}", "servers.s.m", "has no price"),
        ("version: 1\nservers: {s: {m n: free, n: {input: 2}}}", "servers.s.n", "n is priced twice"),
        ("version: 1\nservers: {s: {m: free, m: {input: 2}}}", "servers.s.m", "stands there twice"),
        ("version: 1\nservers: {s: {m: {input: 1, above: {input: 2}}}}", "servers.s.m.above", "has no `input_tokens`"),
        (
            "version: 1\nservers: {s: {m: {input: 1, above: {input_tokens: 2.5, input: 2}}}}",
            "servers.s.m.above.input_tokens",
            "not a number of tokens",
        ),
    ],
)
def test_a_faulty_file_is_refused_with_file_key_and_remedy(text: str, key: str, problem: str):
    with pytest.raises(PriceBookError) as error:
        parse_price_book(text, "my-prices.yaml")

    message = str(error.value)
    assert message.startswith(f"my-prices.yaml: {key}: ")
    assert problem in message
    assert "Remedy: " in message


def test_a_file_that_is_no_yaml_is_refused():
    with pytest.raises(PriceBookError, match=r"(?s)my-prices\.yaml: is not valid YAML: .*line 1"):
        parse_price_book("a: b: c", "my-prices.yaml")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(PriceBookError, match=r"absent\.yaml: cannot be read.* Remedy: "):
        load_price_book(tmp_path / "absent.yaml")


def test_two_servers_can_share_their_prices():
    prices = parse_price_book("version: 1\nservers:\n  a: &a\n    m: {input: 1}\n  b: *a\n")

    assert prices.servers == ["a", "b"]
    assert priced(prices.price(usage(input=MILLION), "b", "m", DAY)).rule == "b/m"


class TestTheShippedBook:
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
        cost = priced(load_price_book().price(usage(input=1000), server, model, DAY))

        assert cost.pricing == "priced"
        assert cost.total > 0

    def test_a_small_model_is_not_taken_for_the_big_one(self):
        prices = load_price_book()

        rules = [
            priced(prices.price(usage(input=1), "openai", m, DAY)).rule for m in ("gpt-5-mini", "gpt-5", "o3-mini")
        ]
        assert rules == ["openai/gpt-5-mini", "openai/gpt-5", "openai/o3-mini"]

    def test_a_local_server_is_free_and_a_rented_machine_is_unpriced(self):
        prices = load_price_book()

        assert priced(prices.price(usage(input=1), "ollama", "llama3", DAY)).pricing == "free"
        assert prices.price(usage(input=1), "replicate", "llama3", DAY) == Unpriced("unknown_price")

    def test_it_says_which_edition_it_is(self):
        assert date.fromisoformat(load_price_book().version) <= date.max
