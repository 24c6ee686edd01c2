"""`find` and `logs` as a person types them, against an emulated account (moto)."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from openai_proxy.dynamodb import to_item
from openai_proxy.events.ulid import new_ulid, ulid_time

from console.command_line import main
from tests.command_line import ran
from tests.tables import ENTRY

OF_LAMBDA = "REPORT\t2 ms\t3 MB\t\n[ERROR] \x1b[2J\nTraceback\n"
GROUP = "/aws/lambda/openai-proxy/proxy"
ENVIRON = {"COSTS_TABLE": "costs", "CACHE_TABLE": "cache"}
WAYS = (("--message", "inference"), ("--message", "infer"), ("--errors",))
_AWS: Any = boto3


def made_table(name: str, keys: tuple[str, ...], **more: Any) -> None:
    texts = [{"AttributeName": key, "AttributeType": "S"} for key in keys]
    schema = [{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)]
    texts += more.pop("others", [])
    _AWS.client("dynamodb").create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST", AttributeDefinitions=texts, KeySchema=schema, **more
    )


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The id of an inference that the ledger, the log and the cache of an account have."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        others = [
            {"AttributeName": "client_id", "AttributeType": "S"},
            {"AttributeName": "created_at", "AttributeType": "N"},
        ]
        by_client = [
            {"AttributeName": "client_id", "KeyType": "HASH"},
            {"AttributeName": "created_at", "KeyType": "RANGE"},
        ]
        index = {"IndexName": "by-client", "KeySchema": by_client, "Projection": {"ProjectionType": "ALL"}}
        made_table("costs", ("pk", "sk"))
        made_table("cache", ("cache_key",), others=others, GlobalSecondaryIndexes=[index])
        id_ = new_ulid(time.time())
        day, tables, logs = str(ulid_time(id_).date()), _AWS.client("dynamodb"), _AWS.client("logs")
        names = {"client_id": "shop", "server": "openai", "model": "m"}
        rows = [
            {"pk": f"day#{day}", "sk": "shop#openai#m", "requests": 1, **names},
            {"pk": f"client#shop#{day}", "sk": id_, "request_id": "r-1", "cost": 1, **ENTRY, **names},
        ]
        for row in rows:
            tables.put_item(TableName="costs", Item=to_item(row))
        answer = {"cache_key": "k", "client_id": "shop", "created_at": 1, "event_id": id_, "body": b"canary"}
        tables.put_item(TableName="cache", Item=to_item(answer))
        logs.create_log_group(logGroupName=GROUP)
        logs.create_log_stream(logGroupName=GROUP, logStreamName="s")
        lines = [json.dumps({"id": id_, "level": "INFO", "message": "inference"}), OF_LAMBDA]
        events = [{"timestamp": int(time.time() * 1000), "message": line} for line in lines]
        logs.put_log_events(logGroupName=GROUP, logStreamName="s", logEvents=events)
        yield id_


def test_what_a_client_quotes_is_found_in_ledger_log_and_cache(entry: str, capsys: pytest.CaptureFixture[str]) -> None:
    for quoted in (entry, "r-1"):
        found = json.loads(ran(capsys, ["find", quoted, "--json"], ENVIRON)[1])
        [of_ledger], [line], [answer] = found["entries"], found["lines"], found["answers"]
        assert (of_ledger["id"], of_ledger["cost"], line["id"], answer["event_id"]) == (entry, "1", entry, entry)
        assert found["not_looked_at"] == {}
        assert not {"pk", "sk"} & of_ledger.keys()
        assert "body" not in answer
        text = ran(capsys, ["find", quoted], ENVIRON)[1]
        assert [text.count(title) for title in ("Entry\n", "Log line\n", "Cached answer\n")] == [1, 1, 1]
        assert "canary" not in text


@pytest.mark.parametrize("id_", ["76EZ91ZPZZ0000000000000000", "7ZZZZZZZZZ0000000000000000", "0" * 26])
def test_an_id_of_another_age_is_not_known(entry: str, id_: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = ran(capsys, ["find", id_], ENVIRON)
    assert (code, f"No request '{id_}' is known" in said) == (2, True)


def test_on_the_local_stack_the_log_of_the_proxy_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, now = tmp_path / "proxy.log", datetime.now(UTC)
    moments = [(now - timedelta(minutes=minutes)).isoformat(timespec="milliseconds") for minutes in (90, 5, 1)]
    written = [
        {"level": "ERROR", "message": message, "timestamp": moment.replace("+00:00", "Z")}
        for moment, message in zip(moments, ("old", "a", "b"), strict=True)
    ]
    file.write_text("\n".join(["Traceback of a start", *map(json.dumps, written), '{"cut', "\x00"]))
    environ = {"PROXY_LOG": str(file), "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "us-east-1"}

    def said(*words: str) -> list[str]:
        assert main(["logs", "proxy", *words, "--json"], environ) == 0
        return [line["message"] for line in json.loads(capsys.readouterr().out)]

    assert said() == ["a", "b"]
    assert said("--errors", "--last", "2h") == ["old", "a", "b"]
    assert said("--message", "b") == ["b"]
    file.unlink()
    assert said() == []


def test_lines_of_a_log_are_json_whatever_stands_in_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, moment = tmp_path / "proxy.log", datetime.now(UTC).isoformat(timespec="milliseconds")
    file.write_text(f'{{"timestamp": "{moment}", "a": NaN, "b": "\\u009b2J\\ud800"}}')
    environ = {"PROXY_LOG": str(file), "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "us-east-1"}
    assert main(["logs", "proxy", "--json"], environ) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed, parse_constant=pytest.fail) == [{"timestamp": moment, "a": "NaN", "b": "\x9b2J\ud800"}]
    assert "\x9b" not in printed


def test_lines_of_a_log(entry: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = json.loads(ran(capsys, ["logs", "proxy", "--json"], ENVIRON)[1])
    assert [lines[0]["id"], lines[1]] == [entry, OF_LAMBDA.rstrip("\n")]
    assert ran(capsys, ["logs", "proxy"], ENVIRON)[1].splitlines()[1:] == [
        "REPORT  2 ms    3 MB",
        "[ERROR] \N{REPLACEMENT CHARACTER}[2J",
        "Traceback",
    ]
    _, first, said = ran(capsys, ["logs", "proxy", "--limit", "1", "--json"], ENVIRON)
    assert (len(json.loads(first)), "There are more lines after these" in said) == (1, True)
    assert ran(capsys, ["logs", "proxy", "--limit", "2"], ENVIRON)[2] == ""
    # moto does not filter
    found = [json.loads(ran(capsys, ["logs", "proxy", *words, "--json"], ENVIRON)[1]) for words in WAYS]
    assert [[line["id"] for line in each] for each in found] == [[entry], [], []]
    code, _, said = ran(capsys, ["logs", "prxy"], ENVIRON)
    assert (code, "Did you mean proxy?" in said) == (2, True)
