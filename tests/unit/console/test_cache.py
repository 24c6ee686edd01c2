"""The commands about the response cache as a person types them, against an emulated account (moto)."""

import base64
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from openai_proxy.dynamodb import to_item
from openai_proxy.events.streams import STATE
from openai_proxy.events.ulid import new_ulid
from openai_proxy.pricing.price_book import PriceBook
from store_response.cached_response import cached_response_of
from store_response.item import item_of

from console.cache.store import CacheStore
from console.cache.streams import StreamStore
from console.cache.text import size_text, time_text
from console.command_line import main
from console.errors import ConsoleError
from console.stack import Table
from tests.command_line import Ran, Run, ran
from tests.fakes import read_event
from tests.tables import make_table

SAMPLE = Path(__file__).parents[3] / "events" / "samples" / "ResponseCaptured.chat.json"
CANARY = "canary-in-an-answer"
TABLE, BUCKET = "cache", "cache-bucket"
_BOTO3: Any = boto3


class Account:
    """An emulated account with a cache table as the template makes it, its bucket, and a ledger."""

    def __init__(self) -> None:
        self.dynamodb: Any = _BOTO3.client("dynamodb")
        self.s3: Any = _BOTO3.client("s3")
        self.dynamodb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "cache_key", "AttributeType": "S"},
                {"AttributeName": "client_id", "AttributeType": "S"},
                {"AttributeName": "created_at", "AttributeType": "N"},
            ],
            KeySchema=[{"AttributeName": "cache_key", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by-client",
                    "KeySchema": [
                        {"AttributeName": "client_id", "KeyType": "HASH"},
                        {"AttributeName": "created_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
        )
        make_table(self.dynamodb, "costs", "pk", "sk")
        make_table(self.dynamodb, "streams", "stream_id", "event:N")
        self.s3.create_bucket(Bucket=BUCKET)

    def put_stream(self, client: str, pieces: int, status: str = "completed") -> str:
        """A stream with so many pieces, of which the last one is an object; its id."""
        stream_id = new_ulid(time.time())
        state = {"event": STATE, "client_id": client, "status": status, "expires_at": 1, "packed": "x" * 300}
        items = [state, *({"event": number, "packed": CANARY, "last": number} for number in range(1, pieces + 1))]
        items[-1]["object"] = f"streams/{stream_id}/{pieces}"
        self.s3.put_object(Bucket=BUCKET, Key=items[-1]["object"], Body=b"x")
        for item in items:
            self.dynamodb.put_item(TableName="streams", Item=to_item({"stream_id": stream_id, **item}))
        return stream_id

    @property
    def streams(self) -> dict[str, int]:
        """How many items each stream has."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName="streams")
        return dict(Counter(item["stream_id"]["S"] for page in pages for item in page["Items"]))

    def put(
        self, client: str = "web-shop", body: str = CANARY, on_s3: bool = False, age: int = 0, **values: Any
    ) -> str:
        """Store an answer as store_response did `age` seconds ago; returns its cache key."""
        now = int(time.time()) - age
        envelope = json.loads(SAMPLE.read_text(encoding="utf-8"))
        metadata, data = envelope["detail"]["metadata"], envelope["detail"]["data"]
        metadata |= {"id": new_ulid(time.time() - age), "client_id": client}
        key = hashlib.sha256(metadata["id"].encode()).hexdigest()
        data |= {"cache_key": key, "scope": f"client:{client}", "created_at": now, "expires_at": now + 3600}
        data["server"] = {"name": values.pop("server", "openai")}
        data |= values
        content = body.encode()
        data["response"] |= {
            "encoding": "identity",
            "body": base64.b64encode(content).decode(),
            "body_size": len(content),
            "body_sha256": hashlib.sha256(content).hexdigest(),
        }
        if on_s3:
            del data["response"]["body"]
            data["response"]["object"] = f"captured/{client}/{metadata['id']}"
            self.s3.put_object(Bucket=BUCKET, Key=data["response"]["object"], Body=content)
        response = cached_response_of(read_event(envelope), PriceBook())
        self.dynamodb.put_item(TableName=TABLE, Item=item_of(response))
        return key

    def put_lease(self, key: str) -> None:
        """What a proxy holds while it fetches an answer."""
        self.dynamodb.put_item(TableName=TABLE, Item={"cache_key": {"S": f"lease#{key}"}, "lease_until": {"N": "1"}})

    def put_rollup(self, client: str, server: str, **sums: Any) -> None:
        """A rollup of today, as record_cost writes it."""
        item = {
            "pk": {"S": f"day#{time.strftime('%Y-%m-%d', time.gmtime())}"},
            "sk": {"S": f"{client}#{server}#m"},
            "client_id": {"S": client},
            "server": {"S": server},
            "model": {"S": "m"},
            **{name: {"N": str(value)} for name, value in sums.items()},
        }
        self.dynamodb.put_item(TableName="costs", Item=item)

    def clear(self) -> None:
        """Delete what a test has stored."""
        for key in self.keys:
            self.dynamodb.delete_item(TableName=TABLE, Key={"cache_key": {"S": key}})
        for item in self.dynamodb.scan(TableName="costs")["Items"]:
            self.dynamodb.delete_item(TableName="costs", Key={"pk": item["pk"], "sk": item["sk"]})
        for item in self.dynamodb.scan(TableName="streams")["Items"]:
            key = {name: item[name] for name in ("stream_id", "event")}
            self.dynamodb.delete_item(TableName="streams", Key=key)
        for key in self.objects:
            self.s3.delete_object(Bucket=BUCKET, Key=key)

    @property
    def keys(self) -> set[str]:
        return {item["cache_key"]["S"] for item in self.dynamodb.scan(TableName=TABLE)["Items"]}

    @property
    def objects(self) -> set[str]:
        return {each["Key"] for each in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())}


@pytest.fixture(scope="module")
def aws() -> Iterator[Account]:
    with mock_aws():
        yield Account()


@pytest.fixture
def account(aws: Account) -> Iterator[Account]:
    """Each test begins with nothing stored."""
    yield aws
    aws.clear()


@pytest.fixture
def run(account: Account, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", "http://127.0.0.1:1")  # there is no stack
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    def run(*arguments: str, ledger: str = "costs") -> Ran:
        environ = {"CACHE_TABLE": TABLE, "CACHE_BUCKET": BUCKET, "COSTS_TABLE": ledger, "STREAMS_TABLE": "streams"}
        return ran(capsys, ["cache", *arguments], environ)

    return run


class TestStats:
    def test_an_empty_cache_is_empty(self, run: Run):
        assert run("stats").out.startswith("The response cache is empty, and there was no hit ")

    def test_answers_and_what_they_saved_stand_side_by_side(self, run: Run, account: Account):
        account.put(body="x" * 1500)
        account.put(body="x" * 500)
        account.put("other", server="demo", body="x" * 2_000_000, on_s3=True)
        account.put_lease("a" * 64)
        account.put_rollup("web-shop", "openai", requests=9, cache_hits=4, hits_priced=4, cost_saved="0.25")
        account.put_rollup("reader", "openai", requests=2, cache_hits=2, hits_priced=0, cost_saved="0")
        account.put_rollup("idle", "openai", requests=2)

        lines = run("stats").out.splitlines()

        assert lines[0].split() == ["CLIENT", "SERVER", "ANSWERS", "SIZE", "STORED", "HITS", "SAVED", "USD"]
        assert [line.split() for line in (*lines[2:5], lines[6])] == [
            ["web-shop", "openai", "2", "2.0", "kB", "2.0", "kB", "4", "0.250000"],
            ["reader", "openai", "0", "0", "B", "0", "B", "2", "unpriced"],
            ["other", "demo", "1", "2.0", "MB", "2.0", "MB", "0", "-"],
            ["TOTAL", "3", "2.0", "MB", "2.0", "MB", "6", "0.250000"],
        ]
        assert lines[-1] == "What 2 hits saved is not known, and not in these sums."

    def test_for_programs(self, run: Run, account: Account):
        account.put(body="x" * 10)
        account.put_rollup("web-shop", "openai", requests=9, cache_hits=4, hits_priced=4, cost_saved="0.25")

        found = run("stats", "--json", "--by", "client").json

        hits = {"cache_hits": 4, "hits_priced": 4, "cost_saved": "0.25"}
        sums = {"answers": 1, "bytes": 10, "stored_bytes": 10} | hits
        assert found["rows"] == [{"client": "web-shop"} | sums]
        assert found["total"] == sums
        assert found["expired"] == {"answers": 0, "objects": 0, "bytes": 0}

    @pytest.mark.parametrize(("by", "ledger"), [("scope", "costs"), ("client", "nowhere")])
    def test_without_a_ledger_or_where_it_cannot_tell_there_are_no_hits(
        self, run: Run, account: Account, by: str, ledger: str
    ):
        account.put()
        account.put_rollup("web-shop", "openai", requests=9, cache_hits=4, cost_saved="0.25")

        ran = run("stats", "--by", by, ledger=ledger)

        assert ran.code == 0
        assert "HITS" not in ran.out
        assert "web-shop" in ran.out

    def test_what_is_expired_or_belongs_to_nothing_is_told_apart(self, run: Run, account: Account):
        now = int(time.time())
        account.put(created_at=now - 20, expires_at=now - 10)
        account.s3.put_object(Bucket=BUCKET, Key="captured/web-shop/0", Body=b"x" * 700)

        assert run("stats").out.endswith(
            "Not counted: 1 answer that expired, and 1 object of answers that are gone (700 B). "
            "AWS deletes them in its time.\n"
        )

    def test_a_narrow_terminal_cuts_names(self, run: Run, account: Account, monkeypatch: pytest.MonkeyPatch):
        account.put("a-client-with-a-very-long-name-that-nobody-would-type")
        monkeypatch.setattr("console.cache.commands.terminal_width", lambda: 70)

        lines = run("stats").out.splitlines()

        assert "…" in lines[2]
        assert all(len(line) <= 70 for line in lines[:5])


class TestList:
    def test_newest_first_and_never_content(self, run: Run, account: Account):
        old, new = account.put(age=1), account.put(server="demo")

        ran = run("list")

        assert [line[:12] for line in ran.out.splitlines()[2:]] == [new[:12], old[:12]]
        assert CANARY not in ran.out + run("list", "--json").out

    def test_for_programs(self, run: Run, account: Account):
        key = account.put("other", on_s3=True)
        account.put()

        [found] = run("list", "--json", "--client", "other").json

        assert found["cache_key"] == key
        assert found["object"].startswith("captured/other/")
        assert (found["bytes"], found["stored_bytes"], found["stream"]) == (len(CANARY), None, False)

    def test_only_what_is_asked_for(self, run: Run, account: Account):
        account.put(server="demo")
        account.put(scope="key-pool:docs")

        assert len(run("list", "--json", "--server", "demo").json) == 1
        assert len(run("list", "--json", "--scope", "key-pool:docs").json) == 1
        assert len(run("list", "--json", "--limit", "1").json) == 1
        assert run("list", "--server", "mistral").out == "The cache holds no answer of server mistral.\n"
        unknown = run("list", "--server", "mistrall")
        assert (unknown.code, "Server 'mistrall' is not known. Did you mean mistral?" in unknown.err) == (2, True)

    @pytest.mark.parametrize("scope", ["docs", "pool:docs", "client:", "key-pool"])
    def test_a_scope_says_of_what_kind_it_is(self, scope: str, capsys: pytest.CaptureFixture[str]):
        for command in ("list", "flush"):
            with pytest.raises(SystemExit):
                main(["cache", command, "--scope", scope], {})
            told = f"'{scope}' is not one of client:NAME, key-pool:NAME, server-pool:NAME. Remedy: "
            assert told in capsys.readouterr().err


class TestFlush:
    def test_without_yes_nothing_goes(self, run: Run, account: Account):
        account.put(on_s3=True, created_at=int(time.time()) - 7300)

        refused, ran = run("flush"), run("flush", "--dry-run")

        what = "1 answer (19 B, the oldest 2 h old)"
        assert (refused.code, refused.out) == (2, "")
        assert f"This deletes {what}. That cannot be undone, and nothing was done. Remedy: add --yes" in refused.err
        assert (ran.code, ran.out) == (0, f"This would delete {what}.\n")
        assert len(account.keys) == len(account.objects) == 1

    def test_of_an_empty_cache_nobody_is_asked(self, run: Run, account: Account):
        account.put()
        assert run("flush", "--older-than", "1h").out == "Nothing to delete: there are no answers so old.\n"
        assert run("flush", "--server", "mistral", "--older-than", "1h", "--json").json["answers"] == 0
        assert len(account.keys) == 1

    def test_everything_goes_but_leases_of_what_is_being_fetched(self, run: Run, account: Account):
        for number in range(30):
            account.put(f"client-{number}", on_s3=number == 0)
        account.put_lease("a" * 64)
        account.s3.put_object(Bucket=BUCKET, Key="captured/web-shop/of-an-answer-that-is-gone", Body=b"x")

        assert run("flush", "--yes", "--json").json == {"deleted": True, "answers": 30, "objects": 2}

        assert account.keys == {"lease#" + "a" * 64}
        assert account.objects == set()

    def test_only_what_is_named_goes(self, run: Run, account: Account):
        now = int(time.time())
        account.put(server="demo", created_at=now - 7300)
        kept = {account.put(server="demo"), account.put(created_at=now - 7200), account.put(on_s3=True)}

        assert run("flush", "--server", "demo", "--older-than", "1h", "--yes").out == (
            "Deleted 1 answer (19 B, the oldest 2 h old) of server demo.\n"
        )
        assert account.keys == kept
        assert len(account.objects) == 1

    def test_with_young_answers_go_the_leases_that_others_would_wait_on(self, run: Run, account: Account):
        young = [account.put(f"client-{number}") for number in range(30)]
        old = account.put(age=300)
        for key in (*young, old):
            for form in ("", "#stream", "#document"):
                account.put_lease(key + form)

        assert run("flush", "--yes", "--json").json["answers"] == 31

        assert account.keys == {f"lease#{old}{form}" for form in ("", "#stream", "#document")}

    @pytest.mark.parametrize("age", ["1", "h", "1.5h", "-1h", "1m"])
    def test_an_age_is_a_number_and_a_unit(self, run: Run, age: str):
        ran = run("flush", f"--older-than={age}")

        assert ran.code == 2
        assert "as in 12h" in ran.err


class TestErase:
    def test_all_of_a_client_goes_and_nothing_else(self, run: Run, account: Account):
        for _ in range(27):
            account.put("gone")
        account.put("gone", on_s3=True)
        account.put("gone", scope="key-pool:docs")
        kept = {account.put("gone-too"), account.put("stays", scope="key-pool:docs", on_s3=True)}
        account.s3.put_object(Bucket=BUCKET, Key="captured/gone/of-an-answer-that-was-replaced", Body=b"x")
        account.s3.put_object(Bucket=BUCKET, Key="captured/gone-too/x", Body=b"x")

        ran = run("erase", "--yes", "--client", "gone")

        assert ran.out == "Erased 29 answers of 'gone', and 2 objects on S3.\n"
        assert account.keys == kept
        assert {key.split("/")[1] for key in account.objects} == {"gone-too", "stays"}

    def test_for_programs_and_twice(self, run: Run, account: Account):
        account.put("gone")

        assert run("erase", "--yes", "--client", "gone", "--json").json == {
            "client_id": "gone",
            "answers": 1,
            "objects": 0,
            "streams": 0,
        }
        unknown = run("erase", "--yes", "--client", "gone")
        assert (unknown.code, "Client 'gone' is not known" in unknown.err) == (2, True)
        assert run("erase", "--yes", "--force", "--client", "gone", "--json").json == {
            "client_id": "gone",
            "answers": 0,
            "objects": 0,
            "streams": 0,
        }

    def test_all_streams_of_a_client_go_with_it_and_no_others(self, run: Run, account: Account):
        account.put("gone")
        for pieces in (1, 60):
            account.put_stream("gone", pieces)
        kept = {account.put_stream("gone-too", 3): 4, account.put_stream("stays", 1, "in_progress"): 2}
        assert run("erase", "--yes", "--client", "gone", "--namespace", "alice").code == 0
        assert len(account.streams) == 4, "they have no namespace"

        ran = run("erase", "--yes", "--client", "gone")

        assert ran.out == (
            "Erased 1 answer of 'gone', and 0 objects on S3.\nErased 2 streams that could have been read again.\n"
        )
        assert account.streams == kept
        assert {key.split("/")[1] for key in account.objects} == set(kept)

    def test_what_its_writer_still_writes_goes_when_that_has_stopped(self, account: Account):
        stream_id, order = account.put_stream("gone", 2, "in_progress"), list[object]()

        def wait(seconds: float) -> None:
            order.append((seconds, account.streams))
            item = {"stream_id": stream_id, "event": 3, "packed": CANARY}
            account.dynamodb.put_item(TableName="streams", Item=to_item(item))

        store = StreamStore(Table(account.dynamodb, "streams"), (account.s3, BUCKET), wait)
        assert store.erase("gone") == 1
        assert order == [(3.0, {stream_id: 2})], "the state has gone first"
        assert (account.streams, account.objects) == ({}, set())

    def test_of_a_namespace_goes_what_was_asked_for_in_it(self, run: Run, account: Account):
        gone = {account.put("docs", namespace="alice") for _ in range(101)}
        gone.add(account.put("docs", namespace="alice", on_s3=True))
        kept = {
            account.put("docs", namespace="alic", on_s3=True),
            account.put("docs"),
            account.put("shop", namespace="alice"),
        }
        account.s3.put_object(Bucket=BUCKET, Key="captured/docs/of-an-answer-that-was-replaced", Body=b"x")

        ran = run("erase", "--yes", "--client", "docs", "--namespace", "alice")

        assert ran.out == "Erased 102 answers of 'docs' in the namespace 'alice', and 1 object on S3.\n"
        assert account.keys == kept
        assert len(account.objects) == 2

    def test_a_namespace_may_be_erased_for_all_clients(self, run: Run, account: Account):
        account.put("docs", namespace="alice")
        account.put("shop", namespace="alice")
        kept = account.put("shop")

        assert run("erase", "--yes", "--namespace", "alice", "--json").json == {
            "client_id": None,
            "namespace": "alice",
            "answers": 2,
            "objects": 0,
        }
        assert account.keys == {kept}

    @pytest.mark.parametrize(
        "options", [[], ["--namespace", "a b"], ["--namespace", ""], ["--client", "c", "--namespace", "*"]]
    )
    def test_what_names_nobody_erases_nothing(self, run: Run, account: Account, options: list[str]):
        kept = account.put("c", namespace="alice")

        assert run("erase", *options).code == 2
        assert account.keys == {kept}

    @pytest.mark.parametrize("client", ["", "a/b", "*", "x" * 65])
    def test_a_name_that_nobody_can_have_is_refused(self, run: Run, account: Account, client: str):
        account.put()

        ran = run("erase", "--client", client)

        assert ran.code == 2
        assert "is no client id" in ran.err
        assert len(account.keys) == 1


class BusyTable:
    """A DynamoDB client that takes one item of each batch, the last ones never."""

    def __init__(self, never: int = 0) -> None:
        self.deleted: list[str] = []
        self._never = never

    def batch_write_item(self, RequestItems: dict[str, list[Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's
        [(table, requests)] = RequestItems.items()
        if len(requests) <= self._never:
            return {"UnprocessedItems": RequestItems}
        self.deleted.append(requests[0]["DeleteRequest"]["Key"]["cache_key"]["S"])
        return {"UnprocessedItems": {table: requests[1:]} if requests[1:] else {}}


@pytest.mark.parametrize("never", [0, 1])
def test_what_a_busy_table_did_not_take_is_sent_again_a_few_times(account: Account, never: int):
    for _ in range(3):
        account.put(age=300)
    real = CacheStore(Table(account.dynamodb, TABLE), (account.s3, BUCKET))
    answers = real.answers()
    table: Any = BusyTable(never)
    pauses: list[float] = []
    store = CacheStore(Table(table, TABLE), (account.s3, BUCKET), sleep=pauses.append)

    if never:
        with pytest.raises(ConsoleError, match="not all is deleted"):
            store.delete(answers)
    else:
        store.delete(answers)

    assert table.deleted == [each.cache_key for each in answers][: 3 - never]
    assert pauses == sorted(pauses)


def test_a_stack_that_cannot_be_asked_for_its_bucket_is_explained(run: Run, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "stats"], {"CACHE_TABLE": TABLE}) == 2
    assert '/". Remedy: start the local stack (`make run`), or correct AWS_ENDPOINT_URL' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_097_152, "2.1 MB"), (3 * 10**12, "3.0 TB")]
)
def test_sizes(size: int, text: str):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59, "59 s"), (3599, "59 min"), (86399, "23 h"), (9 * 86400, "9 d")]
)
def test_lengths_of_time(seconds: float, text: str):
    assert time_text(seconds) == text


def test_dimensions_are_known_ones(run: Run):
    ran = run("stats", "--by", "client,color")

    assert ran.code == 2
    assert "'color' is none of" in ran.err


def test_costs_are_exact(run: Run, account: Account):
    account.put_rollup("a", "s", cache_hits=1, hits_priced=1, cost_saved="0.000000000000000001")
    account.put_rollup("b", "s", cache_hits=1, hits_priced=1, cost_saved="100000")

    total = run("stats", "--json").json["total"]["cost_saved"]

    assert Decimal(total) == Decimal("100000.000000000000000001")
