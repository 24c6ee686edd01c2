"""Items of the costs table that somebody has changed by hand: each is named by whatever command reads it."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.dynamodb import to_item
from openai_proxy.ledger.entries import entry_of
from openai_proxy.ledger.shards import FIRST, LAST, SHARDED
from openai_proxy.pricing.price_book import parse_price_book
from openai_proxy.throttles.entries import FewModels, throttle_entry_of

from console.errors import ConsoleError
from console.export.items import ledger_item, ledger_items
from tests.contract.template_stack import ROOT
from tests.fakes import read_event
from tests.tables import ENTRY, NAMES

PRICES = parse_price_book("servers: {openai: {models: {'*': {input: 1, output: 2}}}}")
DAY, CLIENT, THROTTLES = "day#2026-11-23", "client#web#2026-11-23", "throttles#2026-11-23T09"
ID = "01M83VWEZ54TFF59TDWH9EDD1R"


def written(kind: str) -> list[tuple[str, Mapping[str, Any]]]:
    """What consumers write for the samples: partitions and items."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    for path in sorted((ROOT / "events" / "samples").glob(f"Inference{kind}*.json")):
        event: Any = read_event(json.loads(path.read_text(encoding="utf-8")))
        entry = throttle_entry_of(event, FewModels()) if kind == "Throttled" else entry_of(event, PRICES)
        pk, sk = entry.key
        found += [] if kind == "Throttled" else [(pk, {**entry.attributes, "pk": pk, "sk": sk})]
        for each in entry.rollups:
            pk, sk = each.key
            found.append((pk, {**each.names, **entry.share, "pk": pk, "sk": sk}))
    return found


@pytest.mark.parametrize("kind", ["Completed", "Failed", "Throttled"])
def test_what_consumers_write_is_read_as_it_is(kind: str) -> None:
    items = written(kind)
    assert items
    for pk, item in items:
        assert ledger_item(to_item(item), pk) == item
        for name in item:
            assert list(ledger_items([{"Items": [to_item({name: item[name]})]}], pk, [name])) == [{name: item[name]}]


def entry(**changed: Any) -> dict[str, Any]:
    return {**ENTRY, "pk": CLIENT, "sk": ID, **changed}


def rollup(**changed: Any) -> dict[str, Any]:
    return {**NAMES, "pk": DAY, "sk": "web#openai#m", "client_id": "web", "requests": 1, **changed}


DAMAGED: list[tuple[str, dict[str, Any], str]] = [
    (CLIENT, entry(input_tokens="abc"), f"'{ID}' in '{CLIENT}': its `input_tokens` is 'abc', which is no count"),
    (CLIENT, entry(input_tokens=True), "`input_tokens` is True, which is no count"),
    (CLIENT, entry(input_tokens=-1), "`input_tokens` is -1, which is no count"),
    (CLIENT, entry(input_tokens=Decimal("0.5")), "`input_tokens` is 0.5, which is no count"),
    (CLIENT, entry(cost="0.1"), "`cost` is '0.1', which is no number"),
    (CLIENT, entry(cost=Decimal("1e24")), f"`cost` is 1{'0' * 24}, which is no number, or one out of bounds"),
    (CLIENT, entry(cost=Decimal("1e-31")), "`cost` is 1E-31, which is no number, or one out of bounds"),
    (CLIENT, entry(stream="yes"), "`stream` is 'yes', which is neither true nor false"),
    (CLIENT, entry(model=7), "`model` is 7, which is no text"),
    (CLIENT, entry(model="x", tags=["a"]), "`tags` is ['a'], which is no map of texts"),
    (CLIENT, entry(tags={"a": 1}), "`tags` is {'a': Decimal('1')}, which is no map of texts"),
    (CLIENT, entry(units={"a": "1"}), "`units` is {'a': '1'}, which is no map of counts"),
    (CLIENT, entry(finish_reasons="stop"), "`finish_reasons` is 'stop', which is no list of texts"),
    (CLIENT, entry(finish_reasons=[1]), "which is no list of texts"),
    (CLIENT, entry(timestamp="yesterday"), "`timestamp` is 'yesterday', which is no moment"),
    (CLIENT, entry(timestamp="2026-11-23T09:30:39"), "which is no moment"),
    (CLIENT, entry(timestamp=5), "`timestamp` is 5, which is no moment"),
    (CLIENT, entry(sk="first"), "'first' in"),
    (CLIENT, entry(sk=f"{ID}\x1b[31m"), "which is no ULID"),
    (DAY, rollup(requests="7"), "'web#openai#m' in 'day#2026-11-23': its `requests` is '7', which is no number"),
    (DAY, rollup(anything=None), "`anything` is None, which is no number"),
    (f"{DAY}#07", rollup(model=3), "`model` is 3, which is no text"),
    ("month#2026-11", rollup(client_id=3), "`client_id` is 3, which is no text"),
    (THROTTLES, rollup(source="key_rpm", team={"a": "b"}), "`team` is {'a': 'b'}, which is no text"),
]
NEEDED = [
    (CLIENT, entry, ("client_id", "timestamp", "outcome", "usage_source", "pricing", "input_tokens", "output_tokens")),
    (CLIENT, entry, ("cache_read_input_tokens", "cache_creation_input_tokens", "reasoning_output_tokens")),
    (DAY, rollup, ("client_id", "server", "model")),
    ("month#2026-11", rollup, ("client_id", "server", "model")),
    (THROTTLES, rollup, ("client_id", "source", "server", "model", "requests")),
]


@pytest.mark.parametrize(("pk", "item", "what"), DAMAGED, ids=range(len(DAMAGED)))
def test_what_nobody_can_have_written_is_named(pk: str, item: dict[str, Any], what: str) -> None:
    with pytest.raises(ConsoleError) as refused:
        ledger_item(to_item(item), pk)
    said = str(refused.value)
    assert what in said
    assert said.startswith("The costs table has a damaged item '")
    assert "Remedy: correct" in said
    assert said.isprintable()


@pytest.mark.parametrize(("pk", "make", "names"), NEEDED, ids=range(len(NEEDED)))
def test_what_is_not_there_is_missed_where_it_was_asked_for(pk: str, make: Any, names: tuple[str, ...]) -> None:
    for name in names:
        item = to_item({each: value for each, value in make(source="key_rpm").items() if each != name})
        with pytest.raises(ConsoleError, match=f"it has no `{name}`"):
            ledger_item(item, pk)
        with pytest.raises(ConsoleError, match=f"it has no `{name}`"):
            ledger_item(item, pk, [name, "sk"])
        assert ledger_item(item, pk, ["sk"])["sk"] == make()["sk"]


@pytest.mark.parametrize("sign", [FIRST, LAST])
def test_signs_of_shards_are_no_entries(sign: str) -> None:
    item = {"pk": CLIENT, "sk": sign, SHARDED: Decimal(64)}
    assert ledger_item(to_item(item), CLIENT) == item


@given(st.decimals(min_value=-(10**23), max_value=10**23, places=30))
def test_every_amount_within_the_bounds_is_read_to_the_last_digit(amount: Decimal) -> None:
    assert ledger_item(to_item(rollup(cost=amount)), DAY)["cost"] == amount
