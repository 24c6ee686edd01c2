"""`costs what-if`, whole: the table and the document of a comparison, and whose prices are chosen."""

import argparse
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.pricing.price_book import PriceBook, parse_price_book

from console.errors import ConsoleError
from console.what_if.command import as_document, as_text, dimensions, target_of
from console.what_if.figures import UNKNOWABLE, Sums, Target, WhatIf

BOOK = parse_price_book(
    """
    servers:
      a: {models: {one: {input: 1, output: 2}, two: {input: 1, output: 2}, three: {input: 1, output: 2}}}
      b: {models: {one: {input: 1, output: 2}, two: {input: 3, output: 4}}}
    """
)


def sums(requests: int, old: str, new: str) -> Sums:
    return Sums(requests, Decimal(old), Decimal(new))


def found() -> WhatIf:
    whole = WhatIf(["client", "model"], sums(1200, "2", "3"), new_without_cache=Decimal("3.5"))
    whole.classes = {"output": sums(3, "0", "0.25"), "stated": sums(2, "1.5", "0"), "input": sums(1200, "0.5", "2.75")}
    whole.groups = {
        ("shop", "x"): sums(1000, "1", "3"),
        ("web", "x"): sums(200, "1", "0"),
        ("a", "x"): sums(0, "0", "0"),
    }
    whole.reasons = {"usage_missing": 2, "unknown_price": 1000}
    whole.unpriced_before, whole.cache_hits, whole.usage_estimated = 3, 4, 5
    whole.unpriced_units, whole.tiers = 6, 7
    return whole


def test_a_comparison_for_people() -> None:
    text = as_text(found())
    lines = [line.split() for line in text.splitlines() if not line.startswith("-")]
    heads = ["REQUESTS", "OLD", "NEW", "DIFFERENCE", "PERCENT"]
    assert lines[:11] == [
        ["CLASS", *heads],
        ["input", "1,200", "0.500000", "2.750000", "+2.250000", "+450.0", "%"],
        ["output", "3", "0.000000", "0.250000", "+0.250000", "-"],
        ["stated", "2", "1.500000", "0.000000", "-1.500000", "-100.0", "%"],
        ["TOTAL", "1,200", "2.000000", "3.000000", "+1.000000", "+50.0", "%"],
        [],
        ["CLIENT", "MODEL", *heads],
        ["web", "x", "200", "1.000000", "0.000000", "-1.000000", "-100.0", "%"],
        ["a", "x", "0", "-", "-", "-", "-"],
        ["shop", "x", "1,000", "1.000000", "3.000000", "+2.000000", "+200.0", "%"],
        [],
    ]
    assert text.splitlines()[-9 - len(UNKNOWABLE) :] == [
        "No new price is known of requests, which are in neither cost: 1,000 unknown_price, 2 usage_missing.",
        "Requests that had no price are in neither cost: 3.",
        "Answers of the response cache, which cost nothing either way: 4.",
        "Requests with an estimated usage: 5.",
        "Searches and the like without a new price: 6.",
        "Requests of a service tier, priced as others are: 7.",
        "The new cost if no prompt cache knows anything there: 3.500000.",
        "",
        "What nobody can know of it:",
        *UNKNOWABLE,
    ]


def test_of_what_there_is_none_nothing_is_said() -> None:
    text = as_text(WhatIf())
    assert [line.split() for line in text.splitlines()[3:4]] == [["TOTAL", "0", "-", "-", "-", "-"]]
    assert text.splitlines()[4:] == ["", "", "", "What nobody can know of it:", *UNKNOWABLE]
    assert as_document(WhatIf(), Target(BOOK))["total"] == {
        "requests": 0,
        "cost_old": None,
        "cost_new": None,
        "cost_difference": None,
        "cost_new_without_cache": None,
    }


def test_a_comparison_for_programs() -> None:
    def document(requests: int, old: str, new: str, difference: str) -> dict[str, Any]:
        costs = {"cost_old": Decimal(old), "cost_new": Decimal(new), "cost_difference": Decimal(difference)}
        return {"requests": requests, **costs}

    nothing = {"requests": 0, "cost_old": None, "cost_new": None, "cost_difference": None}
    assert as_document(found(), Target(BOOK, "b", "two")) == {
        "to": {"server": "b", "model": "two", "price_version": BOOK.version},
        "total": document(1200, "2", "3", "1") | {"cost_new_without_cache": Decimal("3.5")},
        "classes": [
            {"class": "input"} | document(1200, "0.5", "2.75", "2.25"),
            {"class": "output"} | document(3, "0", "0.25", "0.25"),
            {"class": "stated"} | document(2, "1.5", "0", "-1.5"),
        ],
        "groups": [
            {"client_id": "a", "model": "x"} | nothing,
            {"client_id": "shop", "model": "x"} | document(1000, "1", "3", "2"),
            {"client_id": "web", "model": "x"} | document(200, "1", "0", "-1"),
        ],
        "left_out": {
            "without_new_price": {"usage_missing": 2, "unknown_price": 1000},
            "without_old_price": 3,
            "cache_hits": 4,
        },
        "usage_estimated": 5,
        "unpriced_units": 6,
        "of_service_tiers": 7,
        "not_known": list(UNKNOWABLE),
    }
    assert as_document(WhatIf(), Target(BOOK))["to"] == {"server": None, "model": None, "price_version": BOOK.version}


@pytest.mark.parametrize(
    ("model", "server", "served", "chosen"),
    [
        (None, None, set[str](), ("", "")),
        ("one", None, set[str](), ("a", "one")),
        ("one", None, {"b"}, ("b", "one")),
        ("one", None, {"a", "b"}, ("a", "one")),
        ("one", "b", set[str](), ("b", "one")),
        ("two", None, {"b", "c"}, ("b", "two")),
        ("two", "a", {"b"}, ("a", "two")),
        ("three", None, {"b"}, ("a", "three")),
    ],
)
def test_whose_prices_hold(model: str | None, server: str | None, served: set[str], chosen: tuple[str, str]) -> None:
    target = target_of(BOOK, argparse.Namespace(to_model=model, to_server=server), served)
    assert (target.book, target.server, target.model) == (BOOK, *chosen)


@pytest.mark.parametrize(
    ("book", "model", "server", "message"),
    [
        (BOOK, "none", None, r"^No server has a price of the model 'none'\. Remedy: name one"),
        (BOOK, "three", "b", r"^The server 'b' has no price of the model 'three'\. Remedy: name one"),
        (BOOK, "two", None, r"^'two' has different prices at a, b\. Remedy: choose one with --to-server\.$"),
    ],
)
def test_a_model_that_nobody_or_several_have_is_refused(
    book: PriceBook, model: str, server: str | None, message: str
) -> None:
    with pytest.raises(ConsoleError, match=message):
        target_of(book, argparse.Namespace(to_model=model, to_server=server), {"a", "b"})


def test_dimensions_are_those_of_costs_and_tags() -> None:
    assert dimensions("client,tag:team") == ["client", "tag:team"]
    for wrong in ("", "client,", "clients", "client model"):
        with pytest.raises(argparse.ArgumentTypeError, match="is none of client,"):
            dimensions(wrong)
