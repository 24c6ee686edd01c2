"""The owner's price file: what it may say over the list prices, and how its faults are named."""

import hashlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.pricing.list_prices import PriceList
from openai_proxy.pricing.price_book import (
    Cost,
    PriceBook,
    PriceBookError,
    Unpriced,
    load_price_book,
    parse_price_book,
)
from openai_proxy.pricing.rules import Rule
from openai_proxy.servers import ServersFileError
from openai_proxy.usage import Usage

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
LIST = PriceList(
    {
        "source": "a list",
        "version": "7",
        "standard_tiers": ["default", "flex"],
        "free_units": ["free"],
        "providers": {
            "acme": {
                "url": r"https://api\.acme\.example",
                "models": [
                    {
                        "id": "big",
                        "match": {"starts_with": "big"},
                        "prices": [{"input": "10", "output": "20"}],
                        "tiers": {"priority": [{"from": "2026-06-10", "input": "40"}, {"input": "30"}]},
                    },
                    {"id": "small", "match": {"equals": "small"}, "prices": [{"input": ["1", [100, "3"]]}]},
                    {"id": "searching", "match": {"equals": "searching"}, "prices": [{"units": {"search": "0.2"}}]},
                    {"id": "tiny", "match": {"equals": "tiny"}, "prices": [{"input": "0.000000001"}]},
                ],
            }
        },
    }
)
URLS = {"a": "https://api.acme.example/v1", "own": "https://models.intra.example/v1"}


def book(servers: str) -> PriceBook:
    return parse_price_book(f"servers:\n  {servers}\n", price_list=LIST, urls=URLS)


def paid(
    prices: PriceBook, server: str, model: str, tokens: int = 1, at: datetime = NOW, tier: str | None = None
) -> tuple[Decimal, str] | str:
    """USD for a million times `tokens` input tokens, and the rule; or why not."""
    cost = prices.price(Usage(input_tokens=tokens, source="reported", service_tier=tier), server, model, at)
    return (cost.total.scaleb(6), cost.rule) if isinstance(cost, Cost) else cost.reason


@pytest.mark.parametrize("text", ["", "# only a comment\n", "servers:\n", "servers: {}\n"])
def test_without_rules_the_list_prices_hold_where_the_url_tells_the_provider(text: str):
    prices = parse_price_book(text, price_list=LIST, urls=URLS)

    assert paid(prices, "a", "big-3") == (10, "list:acme/big")
    assert paid(prices, "own", "big-3") == "unknown_price"
    assert paid(prices, "nowhere", "big-3") == "unknown_price"


def test_the_file_can_say_whose_prices_a_server_has():
    assert paid(book("own: {provider: acme}"), "own", "big-3") == (10, "list:acme/big")


def test_a_discount_on_all_models_of_a_server():
    prices = book("a: {multiply: 0.9}")

    assert paid(prices, "a", "big") == (9, "own:a/* 0.9x list:acme/big")
    assert paid(prices, "a", "small", tokens=101) == (Decimal("272.7"), "own:a/* 0.9x list:acme/small")
    assert paid(prices, "a", "unlisted") == "unknown_price"


def test_rules_do_not_add_up_the_most_exact_one_holds():
    prices = book("a: {multiply: 0.9, models: {big*: {multiply: 0.5}, big-1: {input: 7}}}")

    assert paid(prices, "a", "big-1") == (7, "own:a/big-1")
    assert paid(prices, "a", "big-2") == (5, "own:a/big* 0.5x list:acme/big")
    assert paid(prices, "a", "small") == (Decimal("0.9"), "own:a/* 0.9x list:acme/small")


def test_a_deployment_has_the_price_of_another_model():
    prices = book(
        "own: {provider: acme, models: {chat-prod: {like: big}, chat-eu: {like: BIG, multiply: 1.1}, x: {like: y}}}"
    )

    assert paid(prices, "own", "chat-prod") == (10, "own:own/chat-prod 1x list:acme/big")
    assert paid(prices, "own", "chat-eu") == (11, "own:own/chat-eu 1.1x list:acme/big")
    assert paid(prices, "own", "x") == "unknown_price"


def test_a_discount_from_a_moment_on():
    prices = book("a: {models: {'*': [{effective_from: 2026-11-23T12:30Z, multiply: 0.5}]}}")

    assert paid(prices, "a", "big", at=NOW) == (5, "own:a/* 0.5x list:acme/big")
    assert paid(prices, "a", "big", at=NOW.replace(minute=29)) == (10, "list:acme/big")


def test_a_product_is_kept_to_twelve_decimals():
    prices = book("a: {multiply: 0.333333333}")

    assert paid(prices, "a", "tiny") == (Decimal("0.000000000333"), "own:a/* 0.333333333x list:acme/tiny")


TIERS = "{input: 5, output: 9, tiers: {flex: {input: 2, output: 4}, fast: {input: 8, output: 9}, scale: standard}}"


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        (None, (5, "own:own/m")),
        ("flex", (2, "own:own/m flex")),
        ("fast", (8, "own:own/m fast")),
        ("scale", (5, "own:own/m scale")),
        ("default", (5, "own:own/m")),
        ("priority", "unknown_tier"),
    ],
)
def test_a_model_may_have_prices_by_service_tier(tier: str | None, expected: tuple[Decimal, str] | str):
    prices = book(f"own: {{models: {{m: {TIERS}, n: free}}}}")
    assert paid(prices, "own", "m", tier=tier) == expected
    assert paid(prices, "own", "n", tier=tier) == (0, "own:own/n")


def test_pieces_are_priced_by_the_owner_at_every_tier_and_with_a_discount():
    usage = Usage(source="reported", units=(("free", 9), ("search", 2), ("unheard", 1)))
    prices = "{units: {search: 0.3}, input: 1, tiers: {flex: {input: 1}, fast: {input: 1, units: {search: 0.5}}}}"
    own = book(f"own: {{models: {{m: {prices}}}}}")
    for tier, paid in ((None, "0.6"), ("flex", "0.6"), ("fast", "1.0")):
        cost = own.price(usage._replace(service_tier=tier), "own", "m", NOW)
        assert isinstance(cost, Cost)
        assert (cost.total, cost.unpriced_units) == (Decimal(paid), 1)
    less = book("a: {multiply: 0.5}").price(usage, "a", "searching", NOW)
    assert isinstance(less, Cost)
    assert (less.total, less.components) == (Decimal("0.2"), {"units": Decimal("0.2")})


def test_a_long_input_may_be_one_of_many_digits():
    most = 10**12 - 1
    assert book(f"own: {{models: {{m: {{input: 5, above: {{input_tokens: {most}, input: 9}}}}}}}}").price(
        Usage(10, source="reported"), "own", "m", NOW
    )


def test_a_tier_has_prices_for_long_inputs_too_but_a_batch_is_a_sum_of_short_ones():
    long = "above: {input_tokens: 10, input: %d}"
    tiers = f"flex: {{input: 2, {long % 4}}}, batch: {{input: 1, {long % 3}}}"
    prices = book(f"own: {{models: {{m: {{input: 5, {long % 9}, tiers: {{{tiers}}}}}}}}}")
    expected = {None: (50, 99), "flex": (20, 44), "batch": (10, 11)}
    for tier, (short, more) in expected.items():
        for tokens, usd in ((10, short), (11, more)):
            cost = prices.price(Usage(tokens, source="reported", service_tier=tier), "own", "m", NOW)
            assert isinstance(cost, Cost)
            assert cost.total * 10**6 == usd


def test_a_discount_is_one_on_each_service_tier():
    prices = book("a: {multiply: 0.5}")
    assert paid(prices, "a", "big", tier="priority") == (20, "own:a/* 0.5x list:acme/big priority")
    assert paid(prices, "a", "big", tier="flex") == (5, "own:a/* 0.5x list:acme/big")
    assert paid(prices, "a", "small", tier="priority") == "unknown_tier"


def test_the_first_change_in_force_holds_and_leaves_what_it_does_not_name():
    before, after = (datetime(2026, 6, day, tzinfo=UTC) for day in (9, 10))
    usage = Usage(input_tokens=3, output_tokens=2, source="reported", service_tier="priority")
    assert LIST.find("acme", "big") is not None
    costs = [book("a: {provider: acme}").price(usage, "a", "big", at) for at in (before, after)]
    assert [cost.total.scaleb(6) for cost in costs if isinstance(cost, Cost)] == [3 * 30 + 2 * 20, 3 * 40 + 2 * 20]


def test_a_free_server_needs_no_list():
    assert paid(book("own: {free: true}"), "own", "anything") == (0, "own:own/*")


FAULTS = [
    ("[]", "the file", "empty or not a mapping"),
    ("server: x", "the file", "has no `servers`"),
    ("servers: {s: {free: true}}\nversion: 1", "the file.version", "unknown key"),
    ("servers: {s: }", "servers.s", "empty"),
    ("servers: {s: {m: {input: 1}}}", "servers.s.m", "unknown key"),
    ("servers: {s: {free: yes}}", "servers.s.free", "'yes' is not `true`"),
    ("servers: {s: {free: true, multiply: 2}}", "servers.s.free", "a free server has no prices"),
    ("servers: {s: {provider: acne}}", "servers.s.provider", "'acne' is no provider"),
    ("servers: {s: {provider: [acme]}}", "servers.s.provider", "is no provider"),
    ("servers: {s: {multiply: 0}}", "servers.s.multiply", "'0' is not a factor"),
    ("servers: {s: {multiply: -1}}", "servers.s.multiply", "'-1' is not a factor"),
    ("servers: {s: {multiply: 10%}}", "servers.s.multiply", "'10%' is not a factor"),
    ("servers: {s: {multiply: 1, models: {'*': free}}}", "servers.s.multiply", "has a rule for all models already"),
    ("servers: {s: {models: }}", "servers.s.models", "empty"),
    ("servers: {s: {models: {m: cheap}}}", "servers.s.models.m", "empty or not a mapping"),
    ("servers: {s: {models: {m: {effective_from: 2026-01-01}}}}", "servers.s.models.m", "has no price"),
    ("servers: {s: {models: {m: {input: ten}}}}", "servers.s.models.m.input", "'ten' is not a price"),
    ("servers: {s: {multiply: 1_1}}", "servers.s.multiply", "'1_1' is not a factor"),
    ("servers: {s: {models: {m: {input: 2_5}}}}", "servers.s.models.m.input", "'2_5' is not a price"),
    ("servers: {s: {models: {m: {input: \u0665}}}}", "servers.s.models.m.input", "'\u0665' is not a price"),
    (
        f"servers: {{s: {{models: {{m: {{input: 1, above: {{input_tokens: 1{'0' * 5000}, input: 2}}}}}}}}}}",
        "servers.s.models.m.above.input_tokens",
        "is not a number of tokens",
    ),
    (
        f"servers: {{s: {{models: {{m: {{input: 1, above: {{input_tokens: 1{'0' * 12}, input: 2}}}}}}}}}}",
        "servers.s.models.m.above.input_tokens",
        "is not a number of tokens",
    ),
    ("servers: {s: {models: {m: {input: -1}}}}", "servers.s.models.m.input", "'-1' is not a price"),
    ("servers: {s: {models: {m: {input: .nan}}}}", "servers.s.models.m.input", "'.nan' is not a price"),
    ("servers: {s: {models: {m: {input: NaN}}}}", "servers.s.models.m.input", "'NaN' is not a price"),
    ("servers: {s: {models: {m: {input: Infinity}}}}", "servers.s.models.m.input", "'Infinity' is not a price"),
    ("servers: {s: {models: {m: {input: 1000001}}}}", "servers.s.models.m.input", "'1000001' is not a price"),
    ("servers: {s: {models: {m: {input: 0.0000000001}}}}", "servers.s.models.m.input", "is not a price"),
    ("servers: {s: {models: {m: {input: [1]}}}}", "servers.s.models.m.input", "['1'] is not a price"),
    ("servers: {s: {models: {m: {input: }}}}", "servers.s.models.m.input", "None is not a price"),
    ("servers: {s: {models: {m: {input: 1, outptu: 1}}}}", "servers.s.models.m.outptu", "unknown key"),
    ("servers: {s: {models: {m: {input: 1, multiply: 2}}}}", "servers.s.models.m.input", "unknown key"),
    ("servers: {s: {models: {m: {free: true, input: 2}}}}", "servers.s.models.m.input", "unknown key"),
    ("servers: {s: {models: {m: {units: {web_search: cheap}}}}}", "servers.s.models.m.units.web_search", "not a price"),
    (
        "servers: {s: {models: {m: {units: {Web-Search: 1}}}}}",
        "servers.s.models.m.units.Web-Search",
        "no name of a unit",
    ),
    ("servers: {s: {models: {m: {units: 5}}}}", "servers.s.models.m.units", "not a mapping"),
    ("servers: {s: {models: {m: {input: 1, tiers: }}}}", "servers.s.models.m.tiers", "empty"),
    ("servers: {s: {models: {m: {tiers: {flex: {input: 1}}}}}}", "servers.s.models.m", "has no price"),
    (
        "servers: {s: {models: {m: {input: 1, tiers: {Flex: {input: 1}}}}}}",
        "servers.s.models.m.tiers.Flex",
        "is no service tier",
    ),
    (
        "servers: {s: {models: {m: {input: 1, output: 2, tiers: {flex: {input: 1}}}}}}",
        "servers.s.models.m.tiers.flex",
        "has no `output`",
    ),
    (
        "servers: {s: {models: {m: {input: 1, tiers: {flex: {input: 1, tiers: {a: standard}}}}}}}",
        "servers.s.models.m.tiers.flex.tiers",
        "unknown key",
    ),
    (
        "servers: {s: {models: {m: {input: 1, above: {input_tokens: 9, input: 2}, tiers: {flex: {input: 1}}}}}}",
        "servers.s.models.m.tiers.flex",
        "has no `above`",
    ),
    ("servers: {s: {models: {m: {input: 1, tiers: {flex: cheap}}}}}", "servers.s.models.m.tiers.flex", "not a mapping"),
    ("servers: {s: {models: {m: {like: [a]}}}}", "servers.s.models.m.like", "not the name of a model"),
    ("servers: {s: {models: {m: {audio_hour: 1, audio_minute: 1}}}}", "servers.s.models.m.audio_minute", "given too"),
    (
        "servers: {s: {models: {m: {input: 1, effective_from: soon}}}}",
        "servers.s.models.m.effective_from",
        "'soon' is no day",
    ),
    (
        "servers: {s: {models: {m: {input: 1, effective_from: '2026-01-01T10:00'}}}}",
        "servers.s.models.m.effective_from",
        "no day and no moment",
    ),
    (
        "servers: {s: {models: {m: {input: 1, effective_from: {}}}}}",
        "servers.s.models.m.effective_from",
        "no day",
    ),
    ("servers: {s: {models: {m: [{input: 1}, {input: 2}]}}}", "servers.s.models.m", "two from the same moment"),
    ("servers: {s: {models: {m: []}}}", "servers.s.models.m", "has no price"),
    ("servers: {s: {models: {m n: free, N: {input: 2}}}}", "servers.s.models.N", "N is priced twice"),
    ("servers: {s: {models: {m: free, m: {input: 2}}}}", "servers.s.models.m", "stands there twice"),
    (
        "servers: {s: {models: {m: {input: 1, above: {input: 2}}}}}",
        "servers.s.models.m.above",
        "has no `input_tokens`",
    ),
    (
        "servers: {s: {models: {m: {input: 1, cached_input: 0.5, above: {input_tokens: 9, input: 2}}}}}",
        "servers.s.models.m.above",
        "has no `cached_input`",
    ),
    (
        "servers: {s: {models: {m: {input: 1, above: {input_tokens: 2.5, input: 2}}}}}",
        "servers.s.models.m.above.input_tokens",
        "not a number of tokens",
    ),
    (
        "servers: {s: {models: {m: {input: 1, above: [{input_tokens: 2, input: 2}, {input_tokens: 2, input: 3}]}}}}",
        "servers.s.models.m.above.input_tokens",
        "2 stands there twice",
    ),
]


@pytest.mark.parametrize(("text", "key", "problem"), FAULTS)
def test_a_faulty_file_is_refused_with_file_key_and_remedy(text: str, key: str, problem: str):
    with pytest.raises(PriceBookError) as error:
        parse_price_book(text, "my-prices.yaml", LIST, URLS)

    said, _, remedy = str(error.value).partition(" Remedy: ")
    assert said.startswith(f"my-prices.yaml: {key}: ")
    assert problem in said
    assert remedy.split()[0] in {"write", "add", "give", "keep", "name", "use", "remove"}
    assert remedy.endswith(".")


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        *((f"{{multiply: {factor}}}", True) for factor in ("1000", "'0.000000001'")),
        *((f"{{multiply: {factor}}}", False) for factor in ("'1000.1'", "'0.0000000001'", "0")),
        *((f"{{models: {{m: {{input: {rate}}}}}}}", True) for rate in ("1000000", "'0.000000001'", "0")),
        *((f"{{models: {{m: {{input: {rate}}}}}}}", False) for rate in ("'1000000.1'", "'0.0000000001'", "-1")),
    ],
)
def test_factors_and_rates_have_bounds(text: str, is_taken: bool):
    servers = f"servers: {{s: {text}}}"
    if is_taken:
        assert parse_price_book(servers).rules.keys() == {"s"}
    else:
        with pytest.raises(PriceBookError):
            parse_price_book(servers)


def test_a_file_that_is_no_yaml_is_refused():
    with pytest.raises(PriceBookError, match=r"(?s)my-prices\.yaml: is not valid YAML: .*line 1"):
        parse_price_book("a: b: c", "my-prices.yaml")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(PriceBookError, match=r"absent\.yaml: cannot be read.* Remedy: "):
        load_price_book(tmp_path / "absent.yaml")


def test_a_missing_servers_file_is_named(tmp_path: Path):
    (tmp_path / "prices.yaml").write_text("")
    with pytest.raises(ServersFileError, match=r"absent\.yaml: cannot be read"):
        load_price_book(tmp_path / "prices.yaml", tmp_path / "absent.yaml")


def test_a_discount_on_a_server_without_list_prices_prices_nothing():
    prices = book("own: {multiply: 0.9}")

    assert prices.price(Usage(1, source="reported"), "own", "big", NOW) == Unpriced("unknown_price")


@given(st.text(alphabet="aX.-*?[", max_size=8))
def test_a_pattern_is_the_more_specific_the_more_of_a_name_it_says(pattern: str) -> None:
    said = [character for character in pattern if character not in ("*", "?", "[")]
    assert Rule(pattern, ()).specificity == (len(said) == len(pattern), len(said))


def test_the_version_of_a_price_book_names_its_list_and_what_the_owner_adds() -> None:
    document = {"servers": {"b": {"free": "true"}, "a": {"models": {"m": {"input": "1"}}}}}
    listed = PriceList(
        {"source": "the list", "version": "2026 11", "providers": {"p": {"url": "https://p", "models": []}}}
    )
    book = parse_price_book(json.dumps(document), price_list=listed, urls={"a": "https://p/v1"})
    own = b'[{"servers": {"a": {"models": {"m": {"input": "1"}}}, "b": {"free": "true"}}}, {"a": "p"}]'
    assert book.version == f"the-list-2026-11+{hashlib.sha256(own).hexdigest()[:8]}"
