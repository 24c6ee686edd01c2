"""The `costs` commands against an emulated account (moto) with hundreds of requests, computed a second time here."""

import csv
import io
import json
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from openai_proxy.dynamodb import to_item
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.entries import LedgerEntry, add_shares, entry_of
from openai_proxy.pricing.price_book import parse_price_book

from console.command_line import main
from tests.command_line import Run, ran
from tests.fakes import read_event
from tests.tables import make_table

SAMPLE = Path(__file__).parents[3] / "events" / "samples" / "InferenceCompleted.chat-stream.json"
ENVIRON = {"COSTS_TABLE": "costs", "KEYS_TABLE": "not-there", "AWS_REGION": "us-east-1"}
DAYS = ("2026-11-30", "2026-12-01")
PERIOD = ("--from", DAYS[0], "--to", DAYS[1])
PRICES = parse_price_book(
    "servers: {openai: {models: {gpt-5: {input: 1.25, cached_input: 0.125, output: 10}, o4: {input: 1, output: 4.4}}}}"
)
REQUESTS = 150


def made_up(number: int, dice: random.Random) -> LedgerEntry:
    """The ledger entry of an invented request."""
    envelope = json.loads(SAMPLE.read_text(encoding="utf-8"))
    metadata, data = envelope["detail"]["metadata"], envelope["detail"]["data"]
    midnight = datetime.fromisoformat(DAYS[number % 2]).replace(tzinfo=UTC).timestamp()
    metadata["id"] = new_ulid(midnight + dice.uniform(0, 86399))
    metadata["client_id"] = dice.choice(["shop", "lab"])
    data["response"]["model"] = dice.choice(["gpt-5", "gpt-5", "o4", "unlisted"])
    data["response"]["time_to_first_chunk"] = round(dice.uniform(0.1, 3), 6)
    data["client"]["owner"] = {"shop": "Sales", "lab": None}[metadata["client_id"]]
    data["client"]["tags"] = {"team": dice.choice(["red", "blue"])}
    data["team"] = [None, {"name": "web", "limits": None}, {"name": "trials", "limits": None}][number % 3]
    data["tags"] = {"team": "of-the-request", "feature": dice.choice(["search", "chat"])}
    if metadata["client_id"] == "lab" and number % 2:
        data["cache"]["status"] = dice.choice(["BYPASS"] * 4 + ["HIT"])
    usage = data["usage"]
    usage["input_tokens"], usage["output_tokens"] = dice.randrange(1, 50_000), dice.randrange(1, 5_000)
    usage["cache_read"]["input_tokens"] = usage["input_tokens"] // dice.choice([2, 3, 10**6])
    usage["source"] = dice.choice(["reported"] * 19 + ["estimated"])
    return entry_of(read_event(json.dumps(envelope)), PRICES)


@pytest.fixture(scope="module")
def entries() -> list[LedgerEntry]:
    dice = random.Random(20261123)
    return [made_up(number, dice) for number in range(REQUESTS)]


@pytest.fixture(scope="module", autouse=True)
def account(entries: list[LedgerEntry]) -> Iterator[None]:
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        make_table(client, "costs", "pk", "sk")
        items = [to_item({**each.attributes, "pk": each.key[0], "sk": each.key[1]}) for each in entries]
        rollups: dict[Any, tuple[Any, list[Any]]] = {}
        for each in entries:
            for rollup in each.rollups:
                rollups.setdefault(rollup.key, (rollup, []))[1].append(each.share)
        for key, (rollup, shares) in rollups.items():
            items.append(to_item({**rollup.names, **add_shares(shares), "pk": key[0], "sk": key[1]}))
        for first in range(0, len(items), 25):
            requests = [{"PutRequest": {"Item": item}} for item in items[first : first + 25]]
            client.batch_write_item(RequestItems={"costs": requests})
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: ran(capsys, arguments, ENVIRON)


def names_of(entry: LedgerEntry, by: Sequence[str]) -> tuple[str, ...]:
    known = {
        "client": entry.attributes["client_id"],
        "owner": entry.attributes.get("client_owner", "-"),
        "team": entry.attributes.get("team", "-"),
        **{f"tag:{name}": entry.attributes["tags"][name] for name in ("team", "feature")},
        "month": entry.attributes["day"][:7],
        **{name: entry.attributes[name] for name in ("server", "model", "day", "operation")},
    }
    return tuple(known[name] for name in by)


@pytest.mark.parametrize(
    "by",
    [["client"], ["day", "model"], ["month"], ["owner", "tag:team"], ["tag:feature"], ["team", "client"], []],
    ids=",".join,
)
def test_sums_by_any_dimensions_are_those_of_the_entries(run: Run, entries: list[LedgerEntry], by: list[str]):
    rows = run("costs", *PERIOD, "--by", ",".join(by) or "total", "--json").json

    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(names_of(entry, by), []).append(entry.attributes)
    found = {tuple(row.values())[: len(by)]: row for row in rows}
    assert found.keys() == groups.keys()
    for key, group in groups.items():
        row = found[key]
        assert row["requests"] == len(group)
        assert row["unpriced"] == len([each for each in group if each["pricing"] == "unpriced"])
        assert row["usage_estimated"] == len([each for each in group if each["usage_source"] == "estimated"])
        assert row["input_tokens"] == sum(each["input_tokens"] for each in group)
        cost = sum((each.get("cost", Decimal(0)) for each in group), Decimal(0))
        assert row["cost"] is None if row["unpriced"] and not cost else Decimal(row["cost"]) == cost


def test_csv_and_filters(run: Run, entries: list[LedgerEntry]):
    ran = run("costs", "--day", DAYS[1], "--client", "shop", "--model", "o4", "--by", "day,operation", "--csv")

    [row] = csv.DictReader(io.StringIO(ran.out))
    group = [
        each.attributes
        for each in entries
        if (each.attributes["day"], each.attributes["client_id"], each.attributes["model"]) == (DAYS[1], "shop", "o4")
    ]
    assert (row["day"], row["operation"], int(row["requests"])) == (DAYS[1], "chat", len(group))
    assert Decimal(row["cost"]) == sum(each["cost"] for each in group)
    assert ran.err == ""


def test_a_table_says_what_is_unpriced_and_estimated(run: Run, entries: list[LedgerEntry]):
    out = run("costs", *PERIOD, "--by", "model").out

    unpriced = len([each for each in entries if each.attributes["pricing"] == "unpriced"])
    estimated = len([each for each in entries if each.attributes["usage_source"] == "estimated"])
    assert unpriced > 0 < estimated
    assert next(line for line in out.splitlines() if line.startswith("unlisted")).endswith("  unpriced")
    assert f"Requests without a price, whose cost is not in the total: {unpriced}." in out
    assert f"Requests whose usage is estimated, and so is their cost: {estimated}." in out


def test_csv_and_json_at_once_are_refused(run: Run):
    assert run("costs", "--csv", "--json").code == 2


@pytest.mark.parametrize(
    ("option", "attribute", "value"),
    [("--unpriced", "pricing", "unpriced"), ("--estimated", "usage_source", "estimated")],
)
def test_entries_can_be_filtered(run: Run, entries: list[LedgerEntry], option: str, attribute: str, value: str):
    found = run("costs", "entries", "--client", "lab", *PERIOD, option, "--limit", "36500", "--json").json

    expected = {e.key[1] for e in entries if e.attributes["client_id"] == "lab" and e.attributes[attribute] == value}
    assert {each["id"] for each in found} == expected
    assert [each["id"] for each in found] == sorted(expected, reverse=True)


def test_entries_of_tags(run: Run, entries: list[LedgerEntry]):
    arguments = ("costs", "entries", "--client", "lab", *PERIOD, "--limit", "36500", "--tag", "feature=search")
    found = run(*arguments, "--tag", "team=red", "--json").json

    wanted = {"team": "red", "feature": "search"}
    of_lab = [each for each in entries if each.attributes["client_id"] == "lab"]
    assert (
        {each["id"] for each in found} == {each.key[1] for each in of_lab if each.attributes["tags"] == wanted} > set()
    )
    assert run(*arguments, "--tag", "team=of-the-request").out.startswith("No entry from ")
    head, _, *lines = run(*arguments).out.split("\n\n")[0].splitlines()
    assert "TAGS" in head
    assert all("feature=search, team=" in line for line in lines)


def test_entries_by_server_and_model_with_a_limit(run: Run):
    arguments = ("costs", "entries", "--client", "lab", *PERIOD, "--server", "openai", "--model", "o4", "--limit", "7")

    assert {each["model"] for each in run(*arguments, "--json").json} == {"o4"}
    assert len(run(*arguments).out.split("\n\n")[0].splitlines()) == 2 + 7
    which = "with client lab, server openai, model o4, --failed"
    assert run(*arguments, "--failed").out == f"No entry from {DAYS[0]} to {DAYS[1]} (UTC) {which}.\n"


def test_pages_of_entries_go_on_where_the_one_before_ended(run: Run, entries: list[LedgerEntry]):
    newest = sorted((each.key[1] for each in of_client(entries, "shop")), reverse=True)
    command = ("costs", "entries", "--client", "shop", *PERIOD, "--limit", "30")
    first = [each["id"] for each in run(*command, "--json").json]
    second = [each["id"] for each in run(*command, "--before", first[-1], "--json").json]
    assert first + second == newest[:60]
    assert f"--before {first[-1]}" in run(*command).out
    assert "is no id of an entry" in run_refused(*command, "--before", "yesterday")


def run_refused(*arguments: str) -> str:
    """What is said of arguments that cannot be."""
    said = io.StringIO()
    with redirect_stderr(said), pytest.raises(SystemExit):
        main(arguments, ENVIRON)
    return said.getvalue()


def test_a_plot_in_the_terminal_and_as_a_picture(run: Run, tmp_path: Path):
    file = tmp_path / "spend.png"

    text = run("costs", "plot", *PERIOD).out
    by_model = run("costs", "plot", *PERIOD, "--by", "model").out

    assert [line[:10] for line in text.splitlines()[2:4]] == list(DAYS)
    assert "unlisted" in by_model
    assert run("costs", "plot", *PERIOD, "--png", str(file)).out == f"Wrote {file}.\n"
    assert file.read_bytes().startswith(b"\x89PNG")
    assert run("costs", "plot", "--day", "2020-01-01").out == "No request on 2020-01-01 (UTC).\n"


def test_a_report(run: Run, entries: list[LedgerEntry], tmp_path: Path):
    file = tmp_path / "report.html"
    cloudwatch: Any = boto3.client("cloudwatch")  # pyright: ignore[reportUnknownMemberType]
    cloudwatch.put_metric_data(
        Namespace="OpenAIProxy/openai-proxy",
        MetricData=[
            {
                "MetricName": "Throttles",
                "Dimensions": [{"Name": "Source", "Value": "key_rpm"}],
                "Timestamp": datetime(2026, 12, 1, 12, tzinfo=UTC),
                "Value": 321,
            }
        ],
    )

    ran = run("costs", "report", str(file), *PERIOD)
    page = file.read_text(encoding="utf-8")

    total = sum((each.attributes.get("cost", Decimal(0)) for each in entries), Decimal(0))
    assert ran.code == 0
    assert f"<b>${total:,.2f}</b>" in page
    assert f"<b>{REQUESTS:,}</b>" in page
    first_chunks = sorted(
        float(each.attributes["time_to_first_chunk"])
        for each in entries
        if each.attributes["model"] == "gpt-5" and each.attributes["cache_status"] != "HIT"
    )
    p90 = next(
        value for value in first_chunks if len([v for v in first_chunks if v <= value]) >= 0.9 * len(first_chunks)
    )
    [row] = re.findall(r">gpt-5 on [^<]*</th>(.*?)</tr>", page)
    assert float(re.findall(r"<td>(.*?) s</td>", row)[1]) == pytest.approx(p90, rel=0.13)
    assert "<td>321</td>" in page


def export_of(entries: list[LedgerEntry], file: Path, *, factor: int = 1) -> Path:
    """What the provider would have exported: all but what the proxy answered from its cache."""
    sums: dict[tuple[str, str], list[int]] = {}
    for each in entries:
        entry = each.attributes
        if entry["cache_status"] != "HIT":
            counts = sums.setdefault((entry["day"], entry["model"]), [0, 0, 0])
            counts[0] += entry["input_tokens"]
            counts[1] += entry["output_tokens"]
            counts[2] += entry["cache_read_input_tokens"]
    lines = ["start_time_iso,model,input_tokens,output_tokens,input_cached_tokens"]
    for (day, model), (tokens, output, cached) in sums.items():
        lines.append(
            f"{day}T00:00:00+00:00,{model},{tokens * (factor if model == 'o4' else 1)}.0,{output}.0,{cached}.0"
        )
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def drifts() -> list[float]:
    cloudwatch: Any = boto3.client("cloudwatch")  # pyright: ignore[reportUnknownMemberType]
    answer = cloudwatch.get_metric_statistics(
        Namespace="OpenAIProxy/openai-proxy",
        MetricName="ReconciliationDrift",
        Dimensions=[{"Name": "Server", "Value": "openai"}],
        StartTime=datetime(2020, 1, 1, tzinfo=UTC),
        EndTime=datetime(2100, 1, 1, tzinfo=UTC),
        Period=86400 * 365,
        Statistics=["Maximum"],
        Unit="Percent",
    )
    return [point["Maximum"] for point in answer["Datapoints"]]


def test_a_ledger_that_agrees_with_its_provider(run: Run, entries: list[LedgerEntry], tmp_path: Path):
    ran = run("costs", "reconcile", str(export_of(entries, tmp_path / "usage.csv")), "--server", "openai")

    assert (ran.code, ran.err) == (0, "")
    assert "All 18 figures agree to 1 %." in ran.out
    assert "requests have no price" in ran.out


def test_drift_is_shown_published_and_an_exit_code(run: Run, entries: list[LedgerEntry], tmp_path: Path):
    file = export_of(entries, tmp_path / "usage.csv", factor=2)
    command = ("costs", "reconcile", str(file), "--server", "openai")

    ran = run(*command, "--json", "--publish")
    text = run(*command, "--tolerance", "49.9").out

    assert ran.code == 1
    assert {(each["model"], each["measure"], each["drift"]) for each in ran.json["figures"] if each["drift"]} == {
        ("o4", "input_tokens", 0.5)
    }
    assert ran.json["above_tolerance"] == 2
    assert 0 < ran.json["drift"] < 0.5
    assert drifts() == [pytest.approx(100 * ran.json["drift"])]
    assert "2 of 18 figures differ by more than 49.9 %." in text


def test_what_the_server_stated_needs_no_file(run: Run, entries: list[LedgerEntry]):
    ran = run("costs", "reconcile", "--server", "openai", "--json")
    assert (ran.code, ran.json["against"], ran.json["figures"]) == (0, "stated", [])
    refused = run("costs", "reconcile", "--server", "openai", "--measure", "requests")
    assert (refused.code, "A server states costs alone" in refused.err) == (2, True)
    refused = run("costs", "reconcile", "--server", "openai", "--column", "date=When")
    assert (refused.code, "--column names a column of a file" in refused.err) == (2, True)
    nothing = run("costs", "reconcile", "--server", "openai", "--day", "2020-01-01", "--force")
    assert (nothing.code, "Neither has anything of this period to compare." in nothing.out) == (0, True)


def test_another_server_has_nothing_of_it(run: Run, entries: list[LedgerEntry], tmp_path: Path):
    file = export_of(entries, tmp_path / "usage.csv")

    command = ("costs", "reconcile", str(file), "--server", "mistral", "--json")
    ran = run(*command)

    assert ran.code == 1
    assert {each["ledger"] for each in ran.json["figures"]} == {"0"}
    assert run(*command, "--tolerance", "100").code == 0


def of_client(entries: list[LedgerEntry], client_id: str) -> list[LedgerEntry]:
    return [each for each in entries if each.attributes["client_id"] == client_id]


def test_an_export_has_every_inference_and_what_it_cost(run: Run, entries: list[LedgerEntry], tmp_path: Path):
    file = tmp_path / "costs.jsonl"
    said = run("costs", "export", *PERIOD, "--format", "jsonl", "--output", str(file))
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    ordered = sorted(entries, key=lambda each: (each.attributes["day"], *each.key))
    assert [row["id"] for row in rows] == [each.key[1] for each in ordered]
    assert [row["cost"] and Decimal(row["cost"]) for row in rows] == [each.attributes.get("cost") for each in ordered]
    unpriced = sum(each.attributes["pricing"] == "unpriced" for each in entries)
    assert f"Wrote {file}: {REQUESTS} rows of {REQUESTS} inferences" in said.out
    assert f"{unpriced} of them have no price" in said.out

    of_shop = run("costs", "export", *PERIOD, "--client", "shop", "--format", "focus")
    bill, wanted = csv.DictReader(io.StringIO(of_shop.out)), of_client(entries, "shop")
    assert sum(Decimal(row["BilledCost"]) for row in bill) == sum(each.attributes.get("cost", 0) for each in wanted)
    assert f"rows of {len(wanted)} inferences" in of_shop.err


def test_what_cannot_be_exported(run: Run):
    assert "--output costs.parquet" in run("costs", "export", "--format", "parquet").err
    assert "--format jsonl" in run("costs", "export", "--json").err


def test_what_another_model_would_have_cost(run: Run, entries: list[LedgerEntry], tmp_path: Path):
    servers, prices = tmp_path / "servers.yaml", tmp_path / "prices.yaml"
    servers.write_text("mistral: {url: https://models.example/v1, token: TOKEN, model: large}\n")
    prices.write_text(
        "servers: {mistral: {models: {large: {input: 1, output: 4}}}, other: {models: {large: {input: 2}}}}"
    )
    files = ("--prices", str(prices), "--servers-file", str(servers))
    month = ("--month", DAYS[0][:7])
    asked = ("costs", "what-if", "--from", "o4", "--to", "large", *month, *files)
    assert "--to-server" in run(*asked).err
    found = run(*asked, "--to-server", "mistral", "--by", "client", "--json").json
    of_model = [each.attributes for each in entries if each.attributes["model"] == "o4"]
    own = [each for each in of_model if each["day"] == DAYS[0] and each.get("cache_status") != "HIT"]
    assert Decimal(found["total"]["cost_old"]) == sum(each["cost"] for each in own)
    tokens = sum(each["input_tokens"] + 4 * each["output_tokens"] for each in own)
    assert Decimal(found["total"]["cost_new"]) == Decimal(tokens) / 10**6
    assert sum(each["requests"] for each in found["groups"]) == len(own)
    assert "What nobody can know" in run(*asked, "--to-server", "mistral").out
    for wrong, told in (
        (["--from", "nothing"], f"no request in {month[1]} (UTC) with model 'nothing'. Remedy: "),
        (["--from", "o4", "--client", "typo"], " with client 'typo', model 'o4'. Remedy: "),
        (["--to", "large"], "--to needs --from"),
        (["--from", "o4", "--to-server", "mistral"], "--to-server needs --to"),
        (["--from", "o4", "--to", "large", "--to-server", "mistrall"], "'mistrall' is not known. Did you mean mistral"),
        (["--from", "o4", "--to", "tiny", "--to-server", "mistral"], "The server 'mistral' has no price of the model"),
    ):
        refused = run("costs", "what-if", *wrong, *month, *files)
        assert (refused.code, told in refused.err) == (2, True), refused.err


def test_what_found_nothing_says_of_what(run: Run, tmp_path: Path):
    typo = ("--client", "typo", *PERIOD)
    for made in (
        run("costs", "report", str(tmp_path / "r.html"), *typo),
        run("costs", "export", *typo),
    ):
        assert (made.code, made.err.count("with client typo.")) == (0, 1)
