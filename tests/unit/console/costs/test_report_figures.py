"""Every figure of a report is what the entries say, recomputed here without rollups."""

import argparse
import html
import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from openai_proxy.ledger.table import CostsTable

from console.period import Period
from console.report.commands import read_report
from console.report.figures import PERCENTILES, Throttles
from console.report.report import page_of
from console.stack import Table
from console.text import count
from tests.costs_fake import FakeCostsTable
from tests.fakes import no_picture
from tests.lake.entries import FIRST_DAY, PERIOD_END, made_entries

Item = dict[str, Any]


class Reading(FakeCostsTable):
    """The table, read by those who need not have the newest."""

    def paginate(self, **request: Any) -> Any:
        return super().paginate(**request | {"ConsistentRead": True})


class Page:
    """The tables of a page by caption: the name of a row ─▶ its cells."""

    def __init__(self, text: str) -> None:
        self.text = text

    def table(self, caption: str) -> dict[str, list[str]]:
        [*_, table] = re.findall(rf'aria-label="{caption}">(.*?)</table>', self.text, re.DOTALL)
        rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', table, re.DOTALL)
        return {html.unescape(name): re.findall(r"<td>(.*?)</td>", cells) for name, cells in rows}

    def tile(self, name: str) -> str:
        [found] = re.findall(rf"<span>{name}</span><b>(.*?)</b>", self.text)
        return html.unescape(found)


@pytest.fixture(scope="module")
def entries() -> list[Item]:
    return [dict(each.attributes) for each in made_entries(Random(11), 500)]


@pytest.fixture(scope="module")
def page() -> Page:
    table: Any = Reading()
    table.PAGE = 100
    assert CostsTable(table, "costs", lambda _: None).record(made_entries(Random(11), 500)) == {}
    options = argparse.Namespace(client=None, server=None, model=None)
    period = Period(FIRST_DAY, PERIOD_END)
    read = read_report(Table(table, "costs"), period, options, Throttles({}, "not asked"))
    return Page(page_of(read).to_html(no_picture))


def total(entries: Iterable[Item], name: str) -> Decimal:
    return sum((Decimal(each.get(name, 0)) for each in entries), Decimal(0))


def dollars(amount: Decimal, entries: Sequence[Item]) -> str:
    if not amount and any("cost" not in each for each in entries):
        return "unpriced"
    return f"${amount:,.2f}" if amount >= Decimal("0.01") else f"${amount:.4f}".rstrip("0")


def is_hit(entry: Item) -> bool:
    return entry["cache_status"] == "HIT"


@pytest.mark.parametrize(
    ("caption", "attribute"),
    [("Spend per day", "day"), ("Spend by client", "client_id"), ("Spend by model", "model")],
)
def test_spend_and_requests_of_every_row(caption: str, attribute: str, page: Page, entries: list[Item]) -> None:
    found = page.table(caption)
    names = {each[attribute] for each in entries}
    assert names <= found.keys()
    for name in names:
        own = [each for each in entries if each[attribute] == name]
        without = sum("cost" not in each for each in own)
        assert found[name] == [dollars(total(own, "cost"), own), count(len(own)), count(without)]


def test_tiles(page: Page, entries: list[Item]) -> None:
    assert page.tile("Spend") == dollars(total(entries, "cost"), entries)
    assert page.tile("Requests") == count(len(entries))
    failed = sum(each["outcome"] == "failed" for each in entries)
    assert f"{100 * failed / len(entries):.1f} % failed" in page.text


def test_every_class_of_tokens(page: Page, entries: list[Item]) -> None:
    names = ("cache_read_input_tokens", "cache_creation_input_tokens", "reasoning_output_tokens")
    cached, written, thought = (total(entries, name) for name in names)
    fresh, text = total(entries, "input_tokens") - cached - written, total(entries, "output_tokens") - thought
    found = [cells[0] for cells in page.table("Tokens by class").values()]
    assert found == [count(each) for each in (fresh, cached, written, text, thought)]


def test_what_both_caches_saved(page: Page, entries: list[Item]) -> None:
    hits = [each for each in entries if is_hit(each)]
    cached = [each for each in entries if not is_hit(each) and each["cache_read_input_tokens"]]
    saved = Decimal(0)
    for each in entries:
        read, written = each["cache_read_input_tokens"], each["cache_creation_input_tokens"]
        if is_hit(each) or each["pricing"] not in ("priced", "free") or not read + written:
            continue
        seen = each.get("input_image_tokens", 0) if "cost_image_input" in each else 0
        rate = each["cost_input"] / (each["input_tokens"] - read - written - each["input_audio_tokens"] - seen)
        saved += rate * (read + written) - each["cost_cached_input"] - each["cost_cache_write"]
    found = page.table("Savings by caches")
    assert found["Response cache"][:2] == [dollars(total(hits, "cost_saved"), hits), count(len(hits))]
    tokens = total(cached, "cache_read_input_tokens")
    assert found["Servers' prompt caches"] == [dollars(saved, []), count(len(cached)), count(tokens)]


def test_every_latency_is_within_a_step(page: Page, entries: list[Item]) -> None:
    found = page.table("Time to the first chunk and for the whole answer")
    answered = [each for each in entries if each["outcome"] == "completed" and not is_hit(each)]
    assert len(found) == len({(each["model"], each["server"]) for each in answered})
    for name, (requests, *times) in found.items():
        own = [each for each in answered if f"{each['model']} on {each['server']}" == name]
        assert requests == count(len(own))
        exact = [
            nearest_rank([float(each[what]) for each in own if what in each], percent)
            for what in ("time_to_first_chunk", "duration")
            for percent in PERCENTILES
        ]
        for told, real in zip(times, exact, strict=True):
            number, unit = told.split(" ")
            seconds = float(number) / (1000 if unit == "ms" else 1)
            assert seconds == pytest.approx(max(real, 1 / 32), rel=0.13, abs=0.006), name


def nearest_rank(values: Sequence[float], percent: int) -> float:
    return sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]
