"""`costs reprice`: the ledger is afterwards what it would be had the new prices held when it was recorded."""

import argparse
import copy
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws
from openai_proxy.events.envelope import Event
from openai_proxy.events.incoming import from_envelope
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.entries import entry_of
from openai_proxy.ledger.lake import Lake, lake_row
from openai_proxy.ledger.table import ATTEMPTS, DUPLICATE, MOST_ITEMS, CostsTable
from openai_proxy.pricing.price_book import PriceBook, parse_price_book

from console.costs.reprice import Corrected, Difference, Repricing, add_reprice, difference_document, reprice
from console.costs.repricing import Change, Ledger, build_transaction, in_transactions
from console.errors import ConsoleError
from console.lake.corrections import Corrections
from console.period import add_period
from console.stack import Table, add_table_options
from tests.costs_fake import FakeCostsTable, cancelled
from tests.tables import make_table

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
DAYS = [date(2026, 11, 29), date(2026, 11, 30), date(2026, 12, 1)]
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
PRICES = {
    "a": {"input": 1, "output": 2},
    "b": {"input": 3, "output": 2, "cached_input": 0.000000001},
    "c": {"request": 0.01},
    "none": None,
    "free": "free",
}


@cache
def book(gpt: str, mini: str = "a") -> PriceBook:
    """A price book with prices for two models."""
    models = {name: PRICES[price] for name, price in (("gpt", gpt), ("mini", mini)) if PRICES[price]}
    return parse_price_book(json.dumps({"servers": {"openai": {"models": models or {"x": "free"}}}}))


@cache
def events(number: int) -> list[Event[Any, Any]]:
    """Events of two clients and two models from the day before to the day after NOON, over a turn of the month."""
    found: list[Event[Any, Any]] = []
    for n in range(number):
        envelope = json.loads((SAMPLES / "InferenceCompleted.chat-cached-and-reasoning.json").read_text("utf-8"))
        detail = copy.deepcopy(envelope["detail"])
        detail["metadata"] |= {"id": new_ulid(NOON + (n - number / 2) * 86400 * 2 / number), "client_id": f"c{n % 2}"}
        detail["data"]["response"]["model"] = detail["data"]["request"]["model"] = ("gpt", "mini", "gpt")[n % 3]
        detail["data"]["usage"]["input_tokens"] += 7 * n
        found.append(from_envelope(envelope | {"detail": detail}))
    return found


def record(table: FakeCostsTable, recorded: list[Event[Any, Any]], prices: PriceBook) -> None:
    client: Any = table
    refused = CostsTable(client, "costs", pause=lambda _: None).record(entry_of(each, prices) for each in recorded)
    assert set(refused.values()) <= {DUPLICATE}


def recorded_with(prices: PriceBook, number: int = 9) -> FakeCostsTable:
    table = FakeCostsTable()
    record(table, events(number), prices)
    return table


def ledger(table: Any) -> Ledger:
    return Ledger(Table(table, "costs"), pause=lambda _: None)


def books_in(table: FakeCostsTable) -> dict[tuple[str, str], Any]:
    """What is in the table, but for how often an entry was priced, and the version: if nothing changes that stays."""
    read = TypeDeserializer().deserialize
    items = {key: {name: read(value) for name, value in item.items()} for key, item in table.items.items()}
    for item in items.values():
        item.pop("revision", None)
        item.pop("price_version", None)
    return items


def run(
    table: Any,
    prices: PriceBook,
    *,
    apply: bool = True,
    client: str | None = None,
    corrected: Corrected = lambda _: None,
) -> Difference:
    return reprice(Repricing(ledger(table), prices, apply, corrected), DAYS, client)


def test_a_dry_run_says_what_would_change_and_changes_nothing():
    table = recorded_with(book("a"))
    before = copy.deepcopy(table.items)

    difference = run(table, book("b"), apply=False)

    assert table.items == before
    assert table.calls == 1
    assert difference_document(difference) == difference_document(run(table, book("b"))) | {"applied": False}
    assert table.items != before


def test_the_difference_is_told_by_day_client_and_model():
    difference = run(recorded_with(book("a")), book("b"), apply=False)

    document = difference_document(difference)
    assert (document["total"]["entries"], document["total"]["changed"]) == (9, 6)
    assert {change["model"] for change in document["changes"]} == {"gpt"}
    assert {change["day"] for change in document["changes"]} == {str(day) for day in DAYS}
    for change in [*document["changes"], document["total"]]:
        assert change["cost_difference"] == change["cost_after"] - change["cost_before"] != 0
    for name in ("entries", "changed", "cost_before", "cost_after"):
        assert document["total"][name] >= sum(change[name] for change in document["changes"])


names = st.sampled_from(sorted(PRICES))


@given(old=st.tuples(names, names), new=st.tuples(names, names))
def test_afterwards_the_books_are_as_if_the_new_prices_had_held_and_back_again(
    old: tuple[str, str], new: tuple[str, str]
):
    table = recorded_with(book(*old))
    original = books_in(table)

    run(table, book(*new))
    assert books_in(table) == books_in(recorded_with(book(*new)))

    calls = table.calls
    again = run(table, book(*new))
    assert (again.total.changed, table.calls) == (0, calls)

    run(table, book(*old))
    assert books_in(table) == original


@settings(max_examples=30)
@given(parts=st.lists(st.integers(0, 8), max_size=4), stop=st.integers(0, 8))
def test_what_is_recorded_meanwhile_and_a_stop_do_no_harm(parts: list[int], stop: int):
    table = FakeCostsTable()
    record(table, events(9)[:4], book("a"))
    late = [events(9)[4:][part::9] for part in parts]

    def others() -> None:
        table.before_write = lambda: None
        if late:
            record(table, late.pop(), book("a"))
        table.before_write = others
        if table.calls >= stop + 1:
            raise KeyboardInterrupt

    table.before_write = others
    with suppress(KeyboardInterrupt):
        run(table, book("b"))
    table.before_write = lambda: None
    record(table, events(9), book("b"))
    run(table, book("b"))

    assert books_in(table) == books_in(recorded_with(book("b")))


def test_two_runs_at_once_with_different_books_leave_whole_books():
    table = recorded_with(book("a"))

    def other_run() -> None:
        table.before_write = lambda: None
        run(table, book("c"))

    table.before_write = other_run
    difference = run(table, book("b"))

    assert books_in(table) == books_in(recorded_with(book("b")))
    assert difference.total.changed == 6


def test_a_run_that_others_never_leave_alone_gives_up_and_says_so():
    table = recorded_with(book("a"))
    turns = iter(["c", "a"] * 100)

    def other_run() -> None:
        table.before_write = lambda: None
        run(table, book(next(turns)))
        table.before_write = other_run

    table.before_write = other_run
    with pytest.raises(ConsoleError, match="Remedy: run it again later"):
        run(table, book("b"))


class Failing(FakeCostsTable):
    """A table whose next writes fail, one after the other, with `errors`."""

    def __init__(self, table: FakeCostsTable, *errors: Exception) -> None:
        super().__init__()
        self.items = table.items
        self._errors = list(errors)

    def transact_write_items(self, **request: Any) -> dict[str, Any]:
        if self._errors:
            raise self._errors.pop(0)
        return super().transact_write_items(**request)


THROTTLED = ClientError({"Error": {"Code": "ThrottlingException"}}, "TransactWriteItems")


@pytest.mark.parametrize("error", [cancelled("None", "TransactionConflict"), THROTTLED])
def test_a_transaction_that_lost_against_a_recording_is_tried_again(error: ClientError):
    table = Failing(recorded_with(book("a")), *[error] * (ATTEMPTS - 1))

    assert run(table, book("b")).total.changed == 6
    assert books_in(table) == books_in(recorded_with(book("b")))


@pytest.mark.parametrize(
    "errors",
    [
        [THROTTLED] * ATTEMPTS,
        [ClientError({"Error": {"Code": "AccessDeniedException"}}, "TransactWriteItems")],
        [cancelled("ValidationError", "None")],
    ],
    ids=["throttled for long", "no access", "refused"],
)
def test_what_cannot_be_written_is_an_error(errors: list[Exception]):
    table = recorded_with(book("a"))

    with pytest.raises(ClientError):
        run(Failing(table, *errors), book("b"))

    assert books_in(table) == books_in(recorded_with(book("a")))


def test_an_entry_of_before_rollups_of_months_moves_its_day_only():
    table = recorded_with(book("a"), 1)
    [entry_key] = [key for key in table.items if key[0].startswith("client#")]
    [month_key] = [key for key in table.items if key[0].startswith("month#")]
    for name in ("month", "input_audio_tokens", "output_audio_tokens"):
        del table.items[entry_key][name]
    month = dict(table.items[month_key])

    run(table, book("b"))

    expected = books_in(recorded_with(book("b"), 1))
    day_key = next(key for key in table.items if key[0].startswith("day#"))
    assert table.items[month_key] == month
    assert books_in(table)[day_key] == expected[day_key]
    assert books_in(table)[entry_key]["cost"] == expected[entry_key]["cost"]


def test_a_missing_rollup_is_not_made_up():
    table = recorded_with(book("a"), 1)
    for key in [key for key in table.items if key[0].startswith("month#")]:
        del table.items[key]

    with pytest.raises(ConsoleError, match=r"not all of their rollups \(day#2026-11-29, month#2026-11\).* Remedy: "):
        run(table, book("b"))


def test_one_client_only():
    table = recorded_with(book("a"))

    difference = run(table, book("b"), client="c1")

    assert {names[1] for names in difference.groups} == {"c1"}
    assert run(table, book("b"), apply=False).total.changed == 6 - difference.total.changed > 0


def test_more_than_fits_into_a_transaction_or_a_page():
    table = recorded_with(book("a"), 450)

    assert run(table, book("b")).total.changed == 300
    assert books_in(table) == books_in(recorded_with(book("b"), 450))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=250))
def test_transactions_hold_every_change_once_and_keep_the_limit(facts: list[tuple[int, int]]):
    changes = [
        Change(
            {
                "pk": "client#c#d",
                "sk": str(n),
                "pricing": "unpriced",
                "price_version": "1",
                "client_id": "c",
                "model": f"{m}",
                **dict.fromkeys(("cache_read_input_tokens", "cache_creation_input_tokens"), 0),
            }
            | dict(list({"day": "d", "month": "m"}.items())[:periods]),
            {"pricing": "priced", "price_version": "2", "cost": 1},
        )
        for n, (m, periods) in enumerate(facts)
    ]

    packs = list(in_transactions(changes))

    assert [change for pack in packs for change in pack] == changes
    for pack in packs:
        items: list[Any] = build_transaction("costs", pack)
        keys = [(item["Update"]["Key"]["pk"]["S"], item["Update"]["Key"]["sk"]["S"]) for item in items]
        assert len(set(keys)) == len(keys) <= MOST_ITEMS


@pytest.fixture
def command() -> Callable[..., int]:
    parser = argparse.ArgumentParser()
    costs = parser.add_subparsers().add_parser("costs")
    add_period(costs)
    costs.add_argument("--client")
    add_table_options(costs, "CostsTable")
    add_reprice(costs.add_subparsers().add_parser("reprice"))

    def run_command(*arguments: str) -> int:
        options = parser.parse_args(["costs", "reprice", *arguments])
        return options.run(options, {"COSTS_TABLE": "costs", "AWS_REGION": "us-east-1"})

    return run_command


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Options that name the files of a price book."""
    (tmp_path / "servers.yaml").write_text("openai: {url: 'https://models.example/v1', token: '', model: ''}\n")
    (tmp_path / "prices.yaml").write_text(
        "servers: {openai: {models: {mini: {input: 1, output: 2}, "
        "gpt: {input: 3, output: 2, cached_input: 0.000000001}}}}"
    )
    return ["--prices", str(tmp_path / "prices.yaml"), "--servers-file", str(tmp_path / "servers.yaml")]


@pytest.fixture
def costs_table() -> Iterator[Any]:
    """A table in moto with entries that have the prices of `book("a")`."""
    with mock_aws():
        client: Any = boto3.client("dynamodb", region_name="us-east-1")  # pyright: ignore[reportUnknownMemberType]
        make_table(client, "costs", "pk", "sk")
        record(client, events(9), book("a"))
        yield client


def test_the_command_shows_a_difference_applies_it_and_has_nothing_left_to_do(
    costs_table: Any, command: Callable[..., int], files: list[str], capsys: pytest.CaptureFixture[str]
):
    period = ["--from", "2026-11-29", "--to", "2026-12-01", *files]

    assert command(*period) == 0
    dry = capsys.readouterr().out
    assert command(*period, "--apply", "--no-lake") == 0
    applied = capsys.readouterr().out
    assert command(*period, "--apply", "--no-lake") == 0
    again = capsys.readouterr().out

    assert dry.splitlines()[:-1] == applied.splitlines()[:-1]
    assert "Nothing was changed: that takes --apply." in dry
    assert "6 entries changed." in applied
    assert again.startswith("All 9 entries have the prices of genai-prices-")
    items = costs_table.scan(TableName="costs")["Items"]
    moto = FakeCostsTable()
    moto.items = {(item["pk"]["S"], item["sk"]["S"]): item for item in items}
    assert books_in(moto) == books_in(recorded_with(book("b")))


@pytest.fixture
def lake_bucket() -> Iterator[Any]:
    """A stream in moto that puts each record into a bucket at once."""
    with mock_aws():
        session: Any = boto3.Session(region_name="us-east-1")
        session.client("s3").create_bucket(Bucket="lake")
        session.client("firehose").create_delivery_stream(
            DeliveryStreamName="to-the-lake",
            ExtendedS3DestinationConfiguration={"BucketARN": "arn:aws:s3:::lake", "RoleARN": "arn:aws:iam::1:role/x"},
        )
        yield session.client("s3")


def lake_rows(s3: Any) -> list[dict[str, Any]]:
    bodies = [
        s3.get_object(Bucket="lake", Key=each["Key"])["Body"].read()
        for each in s3.list_objects_v2(Bucket="lake").get("Contents", [])
    ]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def test_corrections_reach_the_lake_and_a_second_run_sends_the_same_again(
    costs_table: Any,
    lake_bucket: Any,
    command: Callable[..., int],
    files: list[str],
    capsys: pytest.CaptureFixture[str],
):
    period = ["--from", "2026-11-29", "--to", "2026-12-01", *files]

    assert command(*period, "--lake-stream", "to-the-lake") == 0
    assert lake_rows(lake_bucket) == []
    assert command(*period, "--apply", "--lake-stream", "to-the-lake") == 0
    assert "Sent to the lake: 6 corrected entries" in capsys.readouterr().out
    first = lake_rows(lake_bucket)
    assert command(*period, "--apply", "--lake-stream", "to-the-lake") == 0
    both = lake_rows(lake_bucket)

    def without_its_time(rows: list[dict[str, Any]]) -> set[str]:
        return {json.dumps({**row, "recorded_at": ""}, sort_keys=True) for row in rows}

    assert (len(first), len(both)) == (6, 12)
    assert without_its_time(first) == without_its_time(both)
    expected = {each.id: entry_of(each, book("b")) for each in events(9)}
    for row in first:
        wanted = lake_row(row["id"], expected[row["id"]].attributes, row["recorded_at"], 1)
        assert row | {"price_version": ""} == wanted | {"price_version": ""}
        assert {type(value) for value in row.values()} == {type(value) for value in wanted.values()}


def test_a_lake_that_takes_nothing_is_an_error_that_the_next_run_makes_good():
    sent: list[str] = []

    class Busy:
        def put_record_batch(self, *, DeliveryStreamName: str, Records: Any) -> Any:  # noqa: N803
            return {"RequestResponses": [{"ErrorCode": "ServiceUnavailableException"} for _ in Records]}

    class Ready:
        def put_record_batch(self, *, DeliveryStreamName: str, Records: Any) -> Any:  # noqa: N803
            sent.extend(json.loads(line)["id"] for record in Records for line in record["Data"].splitlines())
            return {"RequestResponses": [{"RecordId": "1"} for _ in Records]}

    table = recorded_with(book("a"))
    with pytest.raises(ConsoleError, match=r"did not take \d corrections \(Firehose: ServiceUnavailable"):
        run(table, book("b"), corrected=Corrections(Lake(Busy(), "s", pause=lambda _: None)))
    run(table, book("b"), corrected=Corrections(Lake(Ready(), "s")))

    changed = [key[1] for key, item in table.items.items() if "revision" in item]
    assert sorted(sent) == sorted(changed)
    assert len(changed) == 6


def test_hits_save_what_the_new_prices_say():
    def hits(prices: PriceBook) -> FakeCostsTable:
        table = FakeCostsTable()
        for each in events(6):
            each.data["cache"]["status"] = "HIT"  # pyright: ignore[reportIndexIssue]
        record(table, events(6), prices)
        return table

    try:
        table = hits(book("none"))
        difference = run(table, book("b"))
        assert books_in(table) == books_in(hits(book("b")))
        assert difference.total.cost_difference == 0
        assert difference.total.saved_before < difference.total.saved_after
        rollup = next(item for key, item in table.items.items() if key[0] == "month#2026-11" and "gpt" in key[1])
        assert rollup["hits_priced"] == rollup["cache_hits"]
        run(table, book("none"))
        assert books_in(table) == books_in(hits(book("none")))
    finally:
        events.cache_clear()


@pytest.mark.usefixtures("costs_table")
def test_the_command_for_programs(command: Callable[..., int], files: list[str], capsys: pytest.CaptureFixture[str]):
    assert command("--from", "2026-11-29", "--to", "2026-12-01", "--json", *files) == 0

    document = json.loads(capsys.readouterr().out)
    expected = difference_document(run(recorded_with(book("a")), book("b"), apply=False))
    assert document["applied"] is False
    assert document["total"]["cost_difference"] == f"{expected['total']['cost_difference'].normalize():f}"
    assert [change["changed"] for change in document["changes"]] == [
        change["changed"] for change in expected["changes"]
    ]


def test_a_period_that_ends_before_it_begins_is_refused(command: Callable[..., int], files: list[str]):
    with pytest.raises(ConsoleError, match="is before"):
        command("--from", "2026-11-29", "--to", "2026-11-28", *files)


def test_a_faulty_price_file_is_named_before_anything_is_read(command: Callable[..., int], files: list[str]):
    Path(files[1]).write_text("servers: {openai: {models: {gpt: {input: -3}}}}")

    with pytest.raises(ConsoleError, match=r"prices\.yaml: servers\.openai\.models\.gpt\.input: '-3' is not a price"):
        command("--from", "2026-11-29", "--to", "2026-11-29", *files)


@pytest.mark.parametrize("arguments", [["--from", "soon", "--to", "today"], ["--prices"]])
def test_wrong_arguments(command: Callable[..., int], arguments: list[str]):
    with pytest.raises(SystemExit):
        command(*arguments)


def test_days_have_to_be_named(command: Callable[..., int], files: list[str]):
    with pytest.raises(ConsoleError, match="No days are named"):
        command(*files)


def test_what_was_corrected_is_handed_on_with_its_revision():
    table, corrected = recorded_with(book("a")), list[dict[str, Any]]()

    for prices in (book("b"), book("b"), book("c")):
        run(table, prices, corrected=corrected.extend)
    run(table, book("a"), apply=False, corrected=corrected.extend)

    # The second run changes nothing, but says again what the first may not have told.
    assert [entry["revision"] for entry in corrected] == [1] * 12 + [2] * 6
    assert [entry["sk"] for entry in corrected[:6]] == [entry["sk"] for entry in corrected[6:12]]
    read = TypeDeserializer().deserialize
    for entry in corrected[12:]:
        stored = {name: read(value) for name, value in table.items[entry["pk"], entry["sk"]].items()}
        assert entry == stored
