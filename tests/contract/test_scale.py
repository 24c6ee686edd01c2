"""docs/scale.md says what the simulation found, and the simulation was of what the code writes today."""

import re
from pathlib import Path

import pytest
from openai_proxy.pricing.price_book import load_price_book

from bench.bill import CONSUMERS
from bench.scale import results
from bench.scale.bus import LARGEST
from bench.scale.pipeline import BUS_TARGETS
from bench.scale.queues import HIDDEN_SECONDS, MOST_RECEIVES, TODAY
from bench.scale.scenarios import ceilings
from bench.scale.sizes import sizes
from bench.units import AT_ONCE
from tests.contract.template_stack import deployed, source

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
AGAIN = 'run `make bench ARGS="--only scale"`, and say in docs/scale.md what it prints'


def test_what_was_simulated_is_what_the_code_writes() -> None:
    found = results.writes(load_price_book())
    assert found == pytest.approx(results.kept()["writes"], rel=0.02), AGAIN


def test_every_ceiling_is_on_the_page_as_it_was_found() -> None:
    found = results.kept()["ceilings"]
    assert list(found) == [scenario.name for scenario in ceilings()], AGAIN
    for row in [results.CEILINGS, *results.ceiling_rows(found)]:
        assert f"{results.line(row)}\n" in PAGE, AGAIN


def test_every_size_of_user_is_on_the_page_as_it_was_found_and_keeps_up() -> None:
    found = results.kept()["sizes"]
    assert [size["rate"] for size in found] == [size.rate for size in sizes()], AGAIN
    for row in [results.SIZES, *results.size_rows(found)]:
        assert f"{results.line(row)}\n" in PAGE, AGAIN
    assert all(size["keeps_up"] for size in found)
    settings = PAGE.partition("## Three sizes of user")[2].partition("## Where it ends")[0]
    for size in sizes():
        concurrency = f"`LedgerConcurrency={size.setup.mapping.most}`" in settings
        assert concurrency == (size.setup.mapping.most != AT_ONCE) or size.rate < 10_000
        assert size.rpm == 1_200 or f"`rpm` {size.rpm:,}" in settings
        assert size.setup.region == LARGEST or f"{size.setup.region.put_events:,} calls of PutEvents" in settings
        assert size.setup.region == LARGEST or f"{size.setup.region.invocations:,} invocations" in settings


def borne(name: str) -> float:
    return results.borne(results.kept()["ceilings"][name])


def test_where_it_ends_is_what_was_found() -> None:
    def row(*words: str) -> None:
        lines = [line for line in PAGE.splitlines() if line.startswith("| ") and all(word in line for word in words)]
        assert len(lines) == 1, words

    for stream in (10, 1):
        rpm = borne(f"one key, requests a minute, {stream} s each")
        tpm = borne(f"one key, tokens, {stream} s each")
        row("requests/s of one key", f"{rpm} with requests a minute alone", f"{tpm} with tokens")
    row("requests/s of one key", f"{borne('one key, a budget, 10 s each')} with a budget")
    row("requests/s of one team", f"| {borne('a key and its team, tokens, 10 s each')} requests/s")
    most, least = (borne(f"record_cost, one client, the {cpu} CPU") for cpu in ("most", "least"))
    row("events/s | record_cost", f"in the simulation {most:,} to {least:,}")


def test_consumers_meet_each_other_so_all_together_do_a_little_less_than_each_alone() -> None:
    [said] = re.findall(r"^\| ([\d,]+) to ([\d,]+) events/s \| record_cost", PAGE, re.MULTILINE)
    for name, number in zip(("most", "least"), said, strict=True):
        expected = int(number.replace(",", ""))
        assert 0.75 * expected <= borne(f"record_cost, one client, the {name} CPU") <= 1.05 * expected, name


def test_a_chat_goes_to_as_many_queues_as_the_simulation_says() -> None:
    """Those of the rules that take every chat, whatever else is in its event."""
    rules = deployed().of_type("AWS::Events::Rule").values()
    patterns = [rule["EventPattern"] for rule in rules if "InferenceCompleted" in rule["EventPattern"]["detail-type"]]
    assert sum(pattern["detail"].keys() == {"metadata"} for pattern in patterns) == BUS_TARGETS == CONSUMERS


def test_the_queue_of_the_simulation_is_the_template_s() -> None:
    template = source()
    settings = {name: each["Default"] for name, each in template["Parameters"].items() if "Default" in each}
    mapping = template["Resources"]["RecordCostFunction"]["Properties"]["Events"]["Queue"]["Properties"]
    mapping = {**mapping, **mapping["ScalingConfig"]}
    names = ("BatchSize", "MaximumBatchingWindowInSeconds", "MaximumConcurrency")
    said = [settings.get(each["Ref"]) if isinstance(each, dict) else each for each in (mapping[name] for name in names)]
    assert said == [TODAY.batch, TODAY.window, AT_ONCE]
    queue = template["Resources"]["RecordCostQueue"]["Properties"]
    assert (queue["VisibilityTimeout"], queue["RedrivePolicy"]["maxReceiveCount"]) == (HIDDEN_SECONDS, MOST_RECEIVES)
