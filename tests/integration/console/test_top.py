"""`top` against an emulated account (moto) and a real pseudo-terminal: what it reads, and how little."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws
from openai_proxy.dynamodb import to_item
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.entries import LedgerEntry, entry_of
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import parse_price_book
from openai_proxy.throttles.weather import Left, Weather

from console.command_line import main
from console.stack import Table
from console.top.reading import LONGEST, RecentInferences, RecentThrottles
from tests.costs_fake import FakeCostsTable
from tests.fakes import read_event
from tests.tables import make_table

ROOT = Path(__file__).parents[3]
SAMPLE = json.loads((ROOT / "events" / "samples" / "InferenceCompleted.chat-stream.json").read_text(encoding="utf-8"))
PRICES = parse_price_book("servers: {openai: {models: {gpt-5: {input: 1, output: 10}}}}")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
WINDOW = 300


def made(began: float, ended: float | None = None, client: str = "shop", model: str = "gpt-5") -> LedgerEntry:
    """The ledger entry of a request that began and ended then."""
    envelope = json.loads(json.dumps(SAMPLE))
    envelope["detail"]["metadata"] |= {"id": new_ulid(began), "client_id": client, "timestamp": rfc3339(ended or began)}
    envelope["detail"]["data"]["response"]["model"] = model
    return entry_of(read_event(envelope), PRICES)


class CountingPages:
    """A DynamoDB client that keeps what was asked and how much came back."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.asked: list[str] = []
        self.items = 0

    def get_paginator(self, operation: str) -> Any:
        return _Pages(self, self._client.get_paginator(operation))


class _Pages:
    def __init__(self, counting: CountingPages, paginator: Any) -> None:
        self._counting, self._paginator = counting, paginator

    def paginate(self, **request: Any) -> Iterator[Any]:
        self._counting.asked.append(request["ExpressionAttributeValues"][":pk"]["S"])
        for page in self._paginator.paginate(**request):
            self._counting.items += page["ScannedCount"]
            yield page


class Account:
    def __init__(self) -> None:
        self.dynamodb: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        self.cloudwatch: Any = boto3.client("cloudwatch")  # pyright: ignore[reportUnknownMemberType]
        self.start()

    def start(self) -> None:
        """An empty table."""
        self._recorded: Any = FakeCostsTable()
        make_table(self.dynamodb, "costs", "pk", "sk")

    def record(self, *entries: LedgerEntry) -> None:
        assert CostsTable(self._recorded, "costs").record(entries) == {}
        self._recorded.put_into(self.dynamodb, "costs")

    def throttle(self, dimension: str, value: str, number: int, at: float, metric: str = "Throttles") -> None:
        datum = {
            "MetricName": metric,
            "Dimensions": [{"Name": dimension, "Value": value}],
            "Timestamp": datetime.fromtimestamp(at, UTC),
            "Value": number,
        }
        self.cloudwatch.put_metric_data(Namespace="OpenAIProxy/openai-proxy", MetricData=[datum])


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        yield Account()


def reader(account: Account, **options: int) -> tuple[RecentInferences, CountingPages]:
    counting = CountingPages(account.dynamodb)
    table: Any = Table(counting, "costs")  # pyright: ignore[reportArgumentType]
    return RecentInferences(table, WINDOW, **options), counting


def ended(inferences: Sequence[Any]) -> list[float]:
    return sorted(round(each.ended - NOON, 3) for each in inferences)


def test_what_is_new_is_found_and_nothing_else_is_read(account: Account):
    account.record(*[made(NOON - second) for second in range(100)], made(NOON - 3600), made(NOON, client="lab"))
    recent, counting = reader(account)

    assert len(recent.read(NOON)) == 101
    assert sorted(counting.asked) == ["client#lab#2026-11-23", "client#shop#2026-11-23", "day#2026-11-23"]

    counting.asked.clear()
    assert len(recent.read(NOON + 2)) == 101
    assert counting.asked == ["day#2026-11-23"]

    account.record(made(NOON + 3, client="lab"))
    counting.asked.clear()
    counting.items = 0
    assert len(recent.read(NOON + 4)) == 102
    assert counting.asked == ["day#2026-11-23", "client#lab#2026-11-23"]
    assert counting.items == 2 + 2


def test_an_inference_that_took_long_is_found_behind_shorter_ones_that_are_known(account: Account):
    recent, _ = reader(account)
    account.record(*[made(NOON - second) for second in range(120)])
    recent.read(NOON)

    account.record(made(NOON - LONGEST, NOON + 1))

    assert ended(recent.read(NOON + 2))[-1] == 1.0


def test_inferences_of_both_sides_of_midnight_are_seen(account: Account):
    recent, _ = reader(account)
    account.record(made(MIDNIGHT - 30, MIDNIGHT + 5), made(MIDNIGHT - 20), made(MIDNIGHT + 10))

    assert len(recent.read(MIDNIGHT + 20)) == 3


def test_what_is_long_past_is_forgotten(account: Account):
    recent, _ = reader(account)
    account.record(made(NOON))

    assert len(recent.read(NOON + WINDOW + LONGEST - 1)) == 1
    assert recent.read(NOON + WINDOW + LONGEST + 1) == []


def test_more_than_is_read_is_said_to_be_more(account: Account):
    account.record(*[made(NOON - number) for number in range(30)])
    recent, _ = reader(account, most=20)

    assert ended(recent.read(NOON)) == [float(-number) for number in reversed(range(20))]
    assert recent.is_incomplete(NOON)
    assert len(recent.read(NOON + 1)) == 20
    assert recent.is_incomplete(NOON + WINDOW)
    assert not recent.is_incomplete(NOON + WINDOW + LONGEST)


looks = st.lists(
    st.lists(st.tuples(st.sampled_from(["shop", "lab"]), st.integers(0, LONGEST), st.integers(0, 30)), max_size=6),
    min_size=1,
    max_size=4,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(looks)
def test_whatever_comes_in_whatever_order_is_seen_once_it_is_written(
    account: Account, arrivals: list[list[tuple[str, int, int]]]
):
    account.dynamodb.delete_table(TableName="costs")
    account.start()
    recent, _ = reader(account)
    written: list[float] = []
    for number, batch in enumerate(arrivals):
        now = MIDNIGHT - 60 + 30 * number
        account.record(*[made(now - ago - took, now - ago, client) for client, took, ago in batch])
        written += [now - ago for _, _, ago in batch]
        seen = sorted(each.ended for each in recent.read(now) if now - each.ended < WINDOW)
        assert seen == sorted(each for each in written if now - each < WINDOW)


def test_throttles_are_those_of_the_window_and_asked_for_now_and_then(account: Account):
    throttles = RecentThrottles(lambda: account.cloudwatch, WINDOW)
    account.throttle("Source", "key_rpm", 3, NOON - 60)
    account.throttle("Source", "key_rpm", 2, NOON - 120)
    account.throttle("Source", "upstream", 7, NOON - 600)
    account.throttle("Server", "openai", 5, NOON - 60)

    seen = throttles.read(NOON, frozenset({"openai", "demo"}))
    assert (seen.by_source, seen.by_server, seen.problem) == ({"key_rpm": 5}, {"openai": 5}, "")

    account.throttle("Source", "key_rpm", 10, NOON - 60)
    assert throttles.read(NOON + 5, frozenset()).by_source == {"key_rpm": 5}
    assert throttles.read(NOON + 30, frozenset()).by_source == {"key_rpm": 15}


def test_throttles_of_the_busiest_clients_are_asked_for_by_name(account: Account):
    key = {"pk": {"S": f"busiest#{datetime.fromtimestamp(NOON, UTC):%Y-%m-%dT%H}"}, "sk": {"S": "clients"}}
    account.dynamodb.put_item(TableName="costs", Item={**key, "names": {"SS": ["lab", "shop"]}})
    account.throttle("Client", "shop", 3, NOON - 60, "ClientThrottles")
    account.throttle("Client", "other", 9, NOON - 60, "ClientThrottles")
    throttles = RecentThrottles(lambda: account.cloudwatch, WINDOW, Table(account.dynamodb, "costs"))
    assert throttles.read(NOON, frozenset()).by_client == {"shop": 3}


def test_servers_that_refuse_or_soon_will_are_read_with_the_throttles(account: Account):
    for weather in (
        Weather("openai", "gpt-5", NOON - 10, {"requests": Left(120, 1000, None, 4.0)}),
        Weather("gemini", "flash", NOON - 10, full_until=NOON + 21),
        Weather("idle", "m", NOON - 10, {"requests": Left(900, 1000, None, 4.0)}),
        Weather("past", "m", NOON - 600, {"requests": Left(120, 1000, None, 4.0)}, full_until=NOON - 1),
    ):
        account.dynamodb.put_item(TableName="costs", Item=to_item(weather.to_item()))
    throttles = RecentThrottles(lambda: account.cloudwatch, WINDOW, Table(account.dynamodb, "costs"))
    assert [each.server for each in throttles.read(NOON, frozenset()).servers] == ["gemini", "openai"]


def test_the_rest_is_seen_without_cloudwatch():
    class Denied:
        def get_paginator(self, name: str) -> Any:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, name)

    denied: Any = Denied()
    assert "AccessDenied" in RecentThrottles(lambda: denied, WINDOW).read(NOON, frozenset()).problem


ENVIRON = {"COSTS_TABLE": "costs", "AWS_REGION": "us-east-1"}


def test_once_as_text_and_as_json(account: Account, capsys: pytest.CaptureFixture[str]):
    now = time.time()
    account.record(*[made(now - 20 - number) for number in range(10)], made(now - 20, client="lab", model="unlisted"))
    account.throttle("Source", "upstream", 4, now - 60)

    assert main(["top", "--once", "--by", "client"], ENVIRON) == 0
    shown = capsys.readouterr().out
    assert "2.2 requests/min   11 completed, 0 failed, 0 from the cache   4 throttled: upstream 4" in shown
    assert [line.split()[0] for line in shown.splitlines()[-2:]] == ["shop", "lab"]

    assert main(["top", "--once", "--json", "--by", "model,client", "--minutes", "10"], ENVIRON) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["requests"], document["unpriced"], document["window_seconds"]) == (11, 1, 600)
    assert document["throttles"] == {"by_source": {"upstream": 4}, "by_server": {}, "by_client": {}}
    first, second = document["rows"]
    assert (first["model"], first["client"], first["requests"]) == ("gpt-5", "shop", 10)
    assert (second["model"], second["client"], second["cost"]) == ("unlisted", "lab", None)
    assert Decimal(first["cost"]) == Decimal(document["cost"]) == 10 * Decimal("0.00247")


def test_an_empty_ledger_is_said_to_be_empty(account: Account, capsys: pytest.CaptureFixture[str]):
    assert main(["top", "--once"], ENVIRON) == 0
    assert "Nothing ended in the last 5 minutes." in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--by", "tag"], ["--minutes", "0"], ["--interval", "x"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as refused:
        main(["top", *arguments], ENVIRON)
    assert refused.value.code == 2
    assert arguments[0] in capsys.readouterr().err


IN_A_TERMINAL = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
from moto import mock_aws
from tests.fakes import read_event
from tests.integration.console.test_top import Account, ENVIRON, made
from tests.fakes import say_what_was_used
import time
from console.command_line import main
from tests.fakes import read_event
say_what_was_used()
with mock_aws():
    Account().record(made(time.time()))
    sys.exit(main(["top"], ENVIRON))
"""


@pytest.mark.parametrize("how", ["q", "Ctrl-C"])
def test_in_a_terminal_it_ends_at_a_key_and_leaves_the_terminal_as_it_was(how: str):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    environ = {**os.environ, "PYTHONPATH": "functions:shared:.", "COLUMNS": "90", "LINES": "20"}
    command = [sys.executable, "-c", IN_A_TERMINAL]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, env=environ, cwd=ROOT) as process:
        try:
            assert "requests/min" in read_until(ours, "q quit")
            if how == "q":
                os.write(ours, b"q")
            else:
                process.send_signal(signal.SIGINT)
            read_until(ours, "\x1b[?1049l")
            assert process.wait(300) == 0
        finally:
            process.kill()
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def read_until(terminal: int, wanted: str) -> str:
    """What is written to a terminal until `wanted` comes."""
    shown, deadline = "", time.monotonic() + 300
    while wanted not in shown:
        assert select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0], shown
        shown += os.read(terminal, 65536).decode(errors="replace")
    return shown
