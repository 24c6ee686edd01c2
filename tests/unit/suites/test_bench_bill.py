"""The bills of docs/scale.md follow from what is counted on the code: each amount, each product, each sum."""

import json
import math
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.events.incoming import from_envelope
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.ledger.table import in_transactions
from openai_proxy.ledger.transactions import build_transaction
from openai_proxy.pricing.price_book import load_price_book
from openai_proxy.throttles.entries import FewModels, throttle_entry_of

from bench.bill import (
    CONSUMERS,
    GIGABYTES,
    MODELS,
    READ_USD,
    WRITE_USD,
    Line,
    consumer_seconds,
    lake_bytes,
    lines,
    queue_calls,
    usd,
)
from bench.scale import results
from bench.units import (
    BATCH,
    BEGAN,
    BLOCK,
    GB_SECOND_USD,
    REQUEST_USD,
    STREAM_SECONDS,
    lambda_log_bytes,
    proxy_usd,
    size_of,
    units,
)

ROOT = Path(__file__).parents[3]
SCALE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
TIMES = "\u00d7"
NAMES = {
    "proxy: invocation": "invocation",
    "proxy: GB-s, 10 s at 0.25 GB": "stream",
    "event published": "event",
    "archive, MB taken in": "archive",
    "SQS: two queues, each 1 send, 3 receives and 3 deletes for 25": "queues",
    "consumers: invocations, two for 25": "consumers",
    f"consumers: GB-s, 2 {TIMES} (0.9 ms of CPU and 30 ms of waiting for 25)": "their time",
    "ledger: write units": "ledger",
    "markers of record_metrics: write units, a claim in a transaction and the end of its batch": "markers",
    "Firehose, MB taken in and made Parquet, in records of begun 5 KB": "lake",
    "PutMetricData, two calls for 25": "metrics",
    "proxy's request line in CloudWatch Logs, MB": "log",
    "X-Ray, one in twenty": "traces",
}


@pytest.fixture(scope="module")
def bill() -> dict[str, Line]:
    return lines(BATCH, load_price_book())


@pytest.fixture(scope="module")
def alone() -> dict[str, Line]:
    """Of a request whose event comes alone."""
    return lines(1, load_price_book(), models=1)


def cells(line: str) -> list[str]:
    return [cell.strip().strip("*") for cell in line.strip().strip("|").split("|")]


def table() -> list[list[str]]:
    rows = SCALE.partition("## A million requests")[2].partition("So the wait")[0].splitlines()
    return [cells(row) for row in rows if row.startswith("| ")][1:]


def as_said(amount: float, said: str) -> str:
    """An amount with as many decimals as the page has."""
    return f"{amount:.{len(said.partition('.')[2])}f}"


def test_every_amount_and_every_product_of_the_bill_follow_from_the_code(bill: dict[str, Line]) -> None:
    *rows, total = table()
    assert [NAMES[name] for name, *_ in rows] == list(bill)
    for name, amount, price, product in rows:
        told, usd_each = bill[NAMES[name]]
        assert (amount, Decimal(price)) == (as_said(told, amount), Decimal(f"{usd_each * 1e6:g}"[:7])), name
        assert Decimal(product) == (Decimal(amount) * Decimal(price)).quantize(Decimal("0.01"), ROUND_HALF_UP), name
    sums = [Decimal(product) for *_, product in rows]
    assert total == ["together", "", "", str(sum(sums))]
    assert f"costs ${sum(sums[2:])} for a million requests" in SCALE


def test_the_bill_is_the_simulation_s_of_500_requests_a_second(bill: dict[str, Line]) -> None:
    """But for the key's limits, and for the milliseconds that an invocation lasts beside its stream."""
    [size] = [size for size in results.kept()["sizes"] if size["rate"] == 500]
    assert size["usd_million"] == pytest.approx(usd(bill) + size["limits_units"] * WRITE_USD * 1e6, rel=0.005)


def test_the_formulas_are_those_of_the_bill(bill: dict[str, Line]) -> None:
    assert f"`n {TIMES} (${REQUEST_USD:.7f} + s {TIMES} m {TIMES} ${GB_SECOND_USD:.10f})`" in SCALE
    half, minute = proxy_usd(0.5, 256), proxy_usd(60, 256)
    assert f"Half a second costs ${half:.2f} a million, 60 seconds ${minute:.2f}." in SCALE
    assert bill["stream"][0] == STREAM_SECONDS * GIGABYTES
    assert bill["ledger"][0] == pytest.approx(2 + 4 * MODELS / BATCH), "with entries of a KB"
    assert bill["queues"][0] == CONSUMERS * (1 + 2 * math.ceil(BATCH / 10) / BATCH)


def test_what_events_cost_that_come_alone(bill: dict[str, Line], alone: dict[str, Line]) -> None:
    def more(*names: str) -> str:
        return f"{usd(alone, *names) - usd(bill, *names):.2f}"

    said = (
        f"events that come alone: ledger + {more('ledger')}, SQS + {more('queues')}, "
        f"PutMetricData + {more('metrics')}, markers + {more('markers')}, "
        f"consumers' invocations and time + {more('consumers', 'their time')}, "
        f"Firehose + {more('lake')} | + {usd(alone) - usd(bill):.0f} |"
    )
    assert said in SCALE
    a_day = 10_000 * (usd(alone) - usd(bill)) / 1e6
    assert f"10,000 requests a day cost ${a_day:.2f} more a day by it" in SCALE


def test_what_changes_a_bill() -> None:
    authorizer = 1e6 * (REQUEST_USD + 0.02 * GIGABYTES * GB_SECOND_USD)
    assert f"or with `AuthorizerCacheSeconds=0`; 20 ms | + {authorizer:.2f} |" in SCALE
    queue = queue_calls(BATCH) * 0.4 + 0.2 / BATCH + 1e6 * consumer_seconds(BATCH) * GB_SECOND_USD
    third = queue + MODELS / BATCH * 1e6 * (WRITE_USD + READ_USD)
    assert re.search(rf"announces its limits .*a read and a write unit \| \+ {third:.1f} \|", SCALE)
    assert units(BATCH, MODELS).event_bytes < 64 * 1024, "an event of more is billed as several"
    assert lambda_log_bytes() > 0


def test_what_throttled_requests_write() -> None:
    envelope: Any = json.loads((ROOT / "events" / "samples" / "InferenceThrottled.key-rpm.json").read_text())
    throttled: Any = from_envelope(envelope)
    each = [throttled._replace(id=ulid_of_fact(BEGAN, str(number))) for number in range(BATCH)]
    [transaction] = in_transactions([throttle_entry_of(event, FewModels()) for event in each])
    actions: list[Any] = [action for each in build_transaction("costs", transaction) for action in each.values()]
    items = [size_of(action.get("Item") or action["Key"]) for action in actions]
    assert len(items) == BATCH + 2
    assert max(items) <= BLOCK, "2 write units each"
    assert f"two sums for each client and model in a batch | {2e6 * len(items) / BATCH * WRITE_USD:.2f} for a" in SCALE


def test_what_a_stream_costs_that_runs_for_an_hour() -> None:
    """On demand it is paid by its seconds, on managed instances by its share of one."""
    of_256, of_128 = (3600 * megabytes / 1024 * GB_SECOND_USD for megabytes in (256, 128))
    large, huge = ((vcpus - 1) * 16 for vcpus in (2, 16))
    least, of_huge = 0.0816 * 1.15, 8 * 0.0816 * 1.15
    said = [f"| {usd_each:.4f} |" for usd_each in (of_256, of_128, least / large, of_huge / huge)]
    hours = SCALE.partition("| for a stream that runs for an hour")[2].partition("\n\n")[0].splitlines()[2:]
    assert [row[-len("| 0.0000 |") :] for row in hours] == said
    three = 3 * least
    assert f"has room for {3 * large} streams and costs ${three:.2f} an hour, ${three * 730:.0f} a month" in SCALE
    streams, millions = three / of_256, three / of_256 * 730 * 360 / 1e6
    assert f"that is {streams:.1f} streams at any moment, day and night: {millions:.1f} million" in SCALE
    assert f"at 128 MB on demand it takes {three / of_128:.0f} of the {3 * large}" in SCALE
    month = 10_000 * STREAM_SECONDS * 720
    on_demand, on_instances = month * round(of_256, 4), month * round(of_huge / huge, 4)
    assert f"${on_demand:,.0f} of a month of 30 days, and ${on_instances:,.0f} on full `m7g.4xlarge`" in SCALE


def test_what_the_lake_costs() -> None:
    """docs/analytics.md, of the same lines; amounts are GB for a million entries."""
    page = (ROOT / "docs" / "analytics.md").read_text(encoding="utf-8")
    costs = page.partition("## What it costs")[2].partition("## ")[0]
    written, prices = units(BATCH, MODELS), (0.029, 0.018)
    assert sum(prices) * 1e-3 == pytest.approx(lines(BATCH, load_price_book())["lake"][1])
    plain, (together, alone) = written.lake_bytes / 1000, (lake_bytes(written, batch) / 1000 for batch in (BATCH, 1))
    assert f"For a million entries of about {plain:.1f} KB" in costs
    ingested, converted = together * prices[0], plain * prices[1]
    assert f"into one record: {together:.1f} GB instead of {alone:.1f} | {ingested:.2f} |" in costs
    assert f"{prices[1]} for each GB | {converted:.2f} |" in costs
    assert f"without batches: {alone * prices[0]:.2f} for a million" in costs
    [kept] = re.findall(r"In the lake an entry takes about (\d+) bytes", SCALE)
    assert f"{kept} MB of Parquet, 0.023 for a GB and month | {int(kept) / 1000 * 0.023:.3f} a month" in costs
    assert f"96 a day. S3 bills 0.005 for a thousand: {96 * 30 * 0.005 / 1000:.3f} a month" in costs
    assert f"5 for each TB read, at least 10 MB a query | {5 * 10 / 1e6:.5f} a query" in costs
