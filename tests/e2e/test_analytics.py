"""The lake on the local stack: entries through Firehose into Parquet, and every query of the cookbook over them.

The entries are of February 2026, which no other test touches; a third of them arrives more than once.
"""

import csv
import io
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from openai_proxy.ledger.lake import Lake, json_line, lake_row

from console.costs.summary import share_of, summarize
from console.errors import ConsoleError
from console.lake.athena import Athena, Result
from console.lake.queries import named_queries, of_period, saved_queries, with_view
from console.lake.reading import LakeLedger
from console.period import Period
from tests.e2e.command import openai_proxy
from tests.e2e.harness import Client, LocalStack, wait_for
from tests.lake.entries import DAYS, FIRST_DAY, PERIOD_END, made_entries, priced_again
from tests.lake.expected import EXPECTED

ENTRIES = 400
BATCH = 50
FEBRUARY = Period(FIRST_DAY, PERIOD_END)

TRIED_HERE = ("cost-by-client", "cost-by-team", "latency-percentiles", "cache-savings", "failures")
"""What Athena makes of types and of times; tests/unit/console/lake tries every query."""

Each = TypeVar("Each")


def outputs(stack: LocalStack) -> dict[str, str]:
    [found] = stack.aws("cloudformation").describe_stacks(StackName=stack.environment["STACK_NAME"])["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]}


@pytest.fixture(scope="module")
def athena(stack: LocalStack) -> Athena:
    names = outputs(stack)
    return Athena(stack.aws("athena"), names["LakeWorkgroup"], names["LakeDatabase"])


def batches(every: Iterable[Each], count: int) -> Iterator[list[Each]]:
    waiting = iter(every)
    while batch := list(itertools.islice(waiting, count)):
        yield batch


@pytest.fixture(scope="module")
def rows(stack: LocalStack, athena: Athena) -> list[dict[str, Any]]:
    """The attributes of all entries as the lake must show them, once they are in it."""
    random = Random(5)
    wait_for(lambda: time.time() % 86_400 < 86_400 - 200, "the next day")  # copies are counted by the day they arrive
    entries = made_entries(random, ENTRIES)
    copies = [entry for entry in entries for _ in range(random.choice([1, 1, 2, 3]))]
    random.shuffle(copies)
    firehose, stream = stack.aws("firehose"), outputs(stack)["LakeStream"]
    lake = Lake(firehose, stream)
    for batch in batches(copies, BATCH):
        assert lake.put(batch) == {}
    corrected = {entry.key: priced_again(entry) for entry in entries[::20]}
    lines = [json_line(lake_row(key[1], row, "2026-03-01T00:00:00.000Z", 1)) for key, row in corrected.items()]
    # The first copies of some arrive after their correction: the correction must hold.
    for batch in batches(lines, BATCH):
        put = firehose.put_record_batch(DeliveryStreamName=stream, Records=[{"Data": b"".join(batch)}])
        assert put["FailedPutCount"] == 0
    assert lake.put(entries[: BATCH // 2]) == {}
    arrived = len(copies) + len(corrected) + BATCH // 2
    count = of_period(f"SELECT count(*) AS n FROM entries WHERE day BETWEEN '{FIRST_DAY}' AND '{PERIOD_END}'", FEBRUARY)
    wait_for(lambda: athena.run(count).rows == [[arrived]], "the entries in the lake")
    return [dict(corrected.get(entry.key, entry.attributes)) for entry in entries]


@cache
def run(athena: Athena, name: str) -> Result:
    return athena.run(with_view(of_period(named_queries()[name], FEBRUARY), FEBRUARY))


def comparable(value: Any) -> Any:
    return pytest.approx(value, abs=2e-6) if isinstance(value, float) else value


@pytest.mark.parametrize("name", TRIED_HERE)
def test_a_query_finds_what_python_finds(name: str, athena: Athena, rows: list[dict[str, Any]]) -> None:
    found = run(athena, name)
    expected = EXPECTED[name](rows)
    assert expected
    actual = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    for row in actual:
        if "last_time" in row:
            row["last_time"] = row["last_time"][:23]
    assert [row.keys() for row in actual] == [row.keys() & actual[0].keys() for row in expected]
    assert actual == [{key: comparable(value) for key, value in row.items()} for row in expected]


def test_money_is_exact_to_the_last_digit(athena: Athena, rows: list[dict[str, Any]]) -> None:
    found = athena.run(with_view(f"SELECT id, cost FROM inferences WHERE day <= '{PERIOD_END}'", FEBRUARY))
    assert found.types == ["varchar", "decimal"]
    costs = sorted((cost for _, cost in found.rows if cost is not None), reverse=True)
    assert costs == sorted((row["cost"] for row in rows if "cost" in row), reverse=True)
    assert len(found.rows) == len({row[0] for row in found.rows}) == ENTRIES
    assert any(cost != round(cost, 12) for cost in costs), "the entries cost fractions that a decimal(38,12) has not"


def test_the_commands_read_the_lake_as_they_read_the_table(athena: Athena, rows: list[dict[str, Any]]) -> None:
    lake = LakeLedger(athena, [{"day": row["day"], "requests": 1} for row in rows])
    expected = summarize(map(share_of, rows), ["team", "tag:feature"])
    found = summarize(lake.sums(["team", "tag:feature"], {}), ["team", "tag:feature"])
    assert [(row["team"], row["requests"], row["cost"]) for row in found] == [
        (row["team"], row["requests"], row["cost"]) for row in expected
    ]
    entries = list(lake.entries({}, {"cost", "tags", "timestamp"}))
    told = sorted((row["timestamp"], str(row.get("tags")), row.get("cost", -1)) for row in entries)
    assert told == sorted((row["timestamp"], str(row.get("tags")), row.get("cost", -1)) for row in rows)


def test_copies_are_counted(athena: Athena, rows: list[dict[str, Any]]) -> None:
    assert rows
    # By the day of arrival, which is the latest: FEBRUARY has nothing of it.
    found = athena.run(named_queries()["duplicates"])
    latest = dict(zip(found.columns, found.rows[-1], strict=True))
    assert latest["arrived"] - latest["copies_of_the_same_day"] >= ENTRIES
    assert latest["copies_of_the_same_day"] >= ENTRIES // 2
    assert latest["priced_again"] == ENTRIES // 20
    assert latest["of_earlier_days"] >= ENTRIES * DAYS // (DAYS + 1)


def test_a_request_reaches_the_lake(client: Client, athena: Athena) -> None:
    sdk = client.openai()
    sdk.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}])
    [entry] = client.wait_for_entries(1)
    sql = with_view(f"SELECT id, input_tokens, output_tokens, cost FROM inferences WHERE client_id = '{client.id}'")
    found = wait_for(lambda: athena.run(sql).rows, "the entry in the lake")
    assert found == [[entry["sk"], entry["input_tokens"], entry["output_tokens"], entry.get("cost")]]


def test_a_correction_reaches_the_lake_and_holds_there(
    stack: LocalStack, client: Client, athena: Athena, tmp_path: Path
) -> None:
    client.openai().chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}])
    [entry] = client.wait_for_entries(1)
    prices = tmp_path / "prices.yaml"
    prices.write_text("servers: {demo: {models: {demo: {input: 0.1, output: 0.2, request: 0.25}}}}")
    expected = (entry["input_tokens"] + 2 * entry["output_tokens"]) / Decimal(10**7) + Decimal("0.25")
    servers = str(stack.folder / "openai_servers.yaml")
    files = ("--prices", str(prices), "--servers-file", servers)
    for _ in range(2):
        costs(stack, "reprice", "--day", entry["day"], "--client", client.id, *files, "--apply")
    sql = with_view(f"SELECT revision, cost FROM inferences WHERE client_id = '{client.id}'")
    wait_for(lambda: athena.run(sql).rows == [[1, expected]], "the corrected entry in the lake, once")


def test_a_wrong_query_says_what_is_wrong(athena: Athena) -> None:
    with pytest.raises(ConsoleError, match="nothing_of_the_kind"):
        athena.run(with_view("SELECT nothing_of_the_kind FROM inferences"))


def costs_query(stack: LocalStack, *arguments: str) -> str:
    """What `openai-proxy costs query` prints."""
    return costs(stack, "query", *arguments)


def costs(stack: LocalStack, *arguments: str) -> str:
    """What `openai-proxy costs` prints."""
    return openai_proxy(stack, "costs", *arguments)


def test_the_command_prints_exact_money(stack: LocalStack, rows: list[dict[str, Any]]) -> None:
    named = ("--named", "cost-by-client", "--from", str(FIRST_DAY), "--to", str(PERIOD_END))
    most = EXPECTED["cost-by-client"](rows)[0]
    assert Decimal(json.loads(costs_query(stack, *named, "--json"))[0]["cost"]) == most["cost"]
    [first, *_] = csv.DictReader(io.StringIO(costs_query(stack, *named, "--csv")))
    assert (first["client_id"], Decimal(first["cost"])) == (most["client_id"], most["cost"])
    assert f"{most['cost']:.6f}" in costs_query(stack, *named)


def test_the_command_lists_the_queries(stack: LocalStack) -> None:
    listed = costs_query(stack)
    assert [name for name in named_queries() if f"\n{name} " not in listed] == []


def test_the_queries_are_saved_in_athena(stack: LocalStack) -> None:
    client, workgroup = stack.aws("athena"), outputs(stack)["LakeWorkgroup"]
    for done in ("created", "unchanged"):
        saved = json.loads(costs(stack, "save-queries", "--json"))
        assert [(each["name"], each["done"]) for each in saved] == [(query.name, done) for query in saved_queries()]
    ids = client.list_named_queries(WorkGroup=workgroup)["NamedQueryIds"]
    found = client.batch_get_named_query(NamedQueryIds=ids)["NamedQueries"]
    assert {each["Name"]: each["QueryString"] for each in found} == {each.name: each.sql for each in saved_queries()}
