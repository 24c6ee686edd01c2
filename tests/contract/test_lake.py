"""The lake: its table in `template.yaml`, the files of `analytics`, what record_cost sends and the cookbook agree."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.ledger.entries import OUTCOMES, LedgerEntry, entry_of
from openai_proxy.ledger.entry_cost import PRICE_ATTRIBUTES
from openai_proxy.ledger.lake import lake_row
from openai_proxy.pricing.price_book import PriceBook, parse_price_book
from openai_proxy.throttles.entries import FewModels, throttle_entry_of

from console.lake.queries import FIRST_PARTITION, LAST_30_DAYS, named_queries, saved_queries
from console.lake.save_queries import MARK
from tests.contract.template_stack import ROOT, as_list, deployed
from tests.fakes import read_event
from tests.lake.engine import column_names, lake_of

ANALYTICS = ROOT / "analytics"
SAMPLES = ROOT / "events" / "samples"
UNPRICED: PriceBook = parse_price_book("servers: {}")


def columns() -> dict[str, str]:
    table = deployed().of_type("AWS::Glue::Table")["LakeEntries"]["TableInput"]
    return {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}


def statement(file: Path) -> str:
    """The SQL of a file without the comments that stand before it."""
    return re.sub(r"\A(--[^\n]*\n)+", "", file.read_text(encoding="utf-8"))


def rows() -> list[dict[str, Any]]:
    """What the lake gets of the samples of all events that the ledger takes, and of one with all that may be in it."""
    envelopes = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(SAMPLES.glob("*.json"))]
    full = json.loads((SAMPLES / "InferenceCompleted.chat-stream.json").read_text(encoding="utf-8"))
    client = {"key_id": "0a1b2c3d4e5f", "name": "chat widget", "owner": "team-web", "tags": {"team": "web"}}
    full["detail"]["data"] |= {"client": client, "end_user": "u-1"}
    full["detail"]["data"]["usage"] |= {"duration": 1.5, "units": {"web_search": 2}}
    full["detail"]["data"]["usage"]["cache_creation"] = {"input_tokens": 2, "ephemeral_1h_input_tokens": 1}
    envelopes.append(full)
    events = [read_event(each) for each in envelopes if each["detail-type"] in OUTCOMES]
    booked = [(event, entry_of(event, UNPRICED)) for event in events]
    return [lake_row(event.id, entry.attributes, event.timestamp) for event, entry in [*booked, *throttles(envelopes)]]


def throttles(envelopes: list[Any]) -> list[tuple[Any, LedgerEntry]]:
    """The entries of the samples that the ledger does not take."""
    events = [read_event(each) for each in envelopes if each["detail-type"] == "InferenceThrottled"]
    return [(event, throttle_entry_of(event, FewModels())) for event in events]


def of_throttles() -> set[str]:
    """The columns that only throttled requests have."""
    return {name for name in columns() if name.startswith("throttle_")} | {"retry_after"}


def test_every_attribute_of_an_entry_has_a_column_and_every_column_an_attribute() -> None:
    sent = {name for row in rows() for name in row} | set(PRICE_ATTRIBUTES)
    assert sent == set(columns())


def test_the_column_types_take_what_is_sent() -> None:
    types: dict[type, set[str]] = {
        str: {"string"},
        bool: {"boolean"},
        int: {"int", "bigint"},
        float: {"double"},
        dict: {"map<string,string>", "map<string,bigint>"},
        list: {"array<string>"},
    }
    for row in rows():
        for name, value in row.items():
            assert columns()[name] in types[type(value)], name
    assert {type_ for name, type_ in columns().items() if name.startswith("cost")} == {"string"}, "money stays exact"


def test_the_view_passes_every_column_on() -> None:
    view = statement(ANALYTICS / "inferences.sql")
    selected = view.partition("\nFROM (")[0]
    names = set(re.findall(r"[a-z0-9_]+", re.sub(r"CAST\(\w+ AS decimal\(38,18\)\) AS ", "", selected)))
    assert set(columns()) - {"recorded_at"} - of_throttles() <= names
    assert "outcome <> 'throttled'" in view, "they are no costs"
    money = {name for name in columns() if name.startswith("cost")}
    assert set(re.findall(r"CAST\(\w+ AS decimal\(38,18\)\) AS (\w+)", selected)) == money
    assert view.count(FIRST_PARTITION) == 1


def test_the_saved_queries_are_the_files_and_the_view() -> None:
    first, *others = saved_queries()
    assert first.sql == f"CREATE OR REPLACE VIEW inferences AS\n{statement(ANALYTICS / 'inferences.sql')}"
    assert {query.name: query.sql for query in others} == {
        file.stem: statement(file) for file in (ANALYTICS / "queries").glob("*.sql")
    }
    assert all(named_queries()[query.name] == f"-- {query.description}\n{query.sql}" for query in others)


def test_athena_takes_the_saved_queries() -> None:
    """Names of at most 128 characters, descriptions of 1,024 and statements of 262,144 bytes, and no name twice."""
    queries = saved_queries()
    assert len({query.name for query in queries}) == len(queries)
    for query in queries:
        assert 0 < len(query.name) <= 128
        assert 0 < len(query.description + MARK) <= 1024
        assert len(query.sql.encode()) <= 262_144


@pytest.mark.parametrize("name", named_queries())
def test_a_named_query_can_be_about_another_period(name: str) -> None:
    assert named_queries()[name].count(LAST_30_DAYS) == 1


def test_the_cookbook_has_every_query() -> None:
    cookbook = (ROOT / "docs" / "analytics.md").read_text(encoding="utf-8")
    described = re.findall(r"^### `([a-z-]+)`", cookbook, re.MULTILINE)
    assert sorted(described) == sorted(named_queries())


@pytest.mark.parametrize("name", named_queries())
def test_the_cookbook_names_the_columns(name: str) -> None:
    cookbook = (ROOT / "docs" / "analytics.md").read_text(encoding="utf-8")
    section = cookbook.partition(f"\n### `{name}`\n")[2].partition("\n#")[0]
    listed = section.strip().split("\n\n")[-1]
    row = {"id": "a", "day": "2026-02-02", "outcome": "failed", "revision": 0, "recorded_at": ""}
    assert re.findall(r"`(\w+)`", listed) == column_names(lake_of([row]), named_queries()[name])


def test_partitions_are_days_that_need_no_catalogue() -> None:
    table = deployed().of_type("AWS::Glue::Table")["LakeEntries"]["TableInput"]
    assert table["PartitionKeys"][0]["Name"] == "dt"
    projection = {key: value for key, value in table["Parameters"].items() if key != "classification"}
    assert projection == {
        "projection.enabled": "true",
        "projection.dt.type": "date",
        "projection.dt.format": "yyyy-MM-dd",
        "projection.dt.range": "2026-01-01,NOW",
        "projection.dt.interval": "1",
        "projection.dt.interval.unit": "DAYS",
        "storage.location.template": "s3://${LakeBucket}/entries/dt=${!dt}/",
    }
    assert table["StorageDescriptor"]["Location"] == "s3://${LakeBucket}/entries/"
    (stream,) = deployed().of_type("AWS::KinesisFirehose::DeliveryStream").values()
    assert stream["ExtendedS3DestinationConfiguration"]["Prefix"] == "entries/dt=!{timestamp:yyyy-MM-dd}/"


def test_the_stream_makes_parquet_of_the_tables_columns() -> None:
    (stream,) = deployed().of_type("AWS::KinesisFirehose::DeliveryStream").values()
    destination = stream["ExtendedS3DestinationConfiguration"]
    conversion = destination["DataFormatConversionConfiguration"]
    assert conversion["Enabled"] is True
    schema = conversion["SchemaConfiguration"]
    assert (schema["DatabaseName"], schema["TableName"]) == ("${LakeDatabase}", "${LakeEntries}")
    assert conversion["OutputFormatConfiguration"] == {"Serializer": {"ParquetSerDe": {"Compression": "SNAPPY"}}}
    # Firehose refuses a conversion with less, or with a compression of its own.
    assert destination["BufferingHints"]["SizeInMBs"] >= 64
    assert destination["CompressionFormat"] == "UNCOMPRESSED"


def test_the_lake_is_closed_and_encrypted() -> None:
    stack = deployed()
    bucket = stack.of_type("AWS::S3::Bucket")["LakeBucket"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    policy = stack.of_type("AWS::S3::BucketPolicy")["LakeBucketPolicy"]
    (only,) = policy["PolicyDocument"]["Statement"]
    assert (only["Effect"], only["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    (stream,) = stack.of_type("AWS::KinesisFirehose::DeliveryStream").values()
    assert stream["DeliveryStreamEncryptionConfigurationInput"] == {"KeyType": "AWS_OWNED_CMK"}
    (workgroup,) = stack.of_type("AWS::Athena::WorkGroup").values()
    results = workgroup["WorkGroupConfiguration"]["ResultConfiguration"]
    assert results["EncryptionConfiguration"] == {"EncryptionOption": "SSE_S3"}
    assert workgroup["WorkGroupConfiguration"]["EnforceWorkGroupConfiguration"] is True


def test_nothing_of_the_lakes_entries_ever_ends() -> None:
    bucket = deployed().of_type("AWS::S3::Bucket")["LakeBucket"]
    ending = {rule.get("Prefix") for rule in bucket["LifecycleConfiguration"]["Rules"] if "ExpirationInDays" in rule}
    assert ending == {"results/", "errors/"}


def test_firehose_alone_takes_the_streams_role_for_this_account() -> None:
    role = deployed().of_type("AWS::IAM::Role")["LakeStreamRole"]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust == {
        "Effect": "Allow",
        "Principal": {"Service": "firehose.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "111111111111"}},
    }


def test_a_stack_without_a_lake_has_nothing_of_it() -> None:
    stack = deployed(LakeEnabled="false")
    types = {resource["Type"] for resource in stack.resources.values()}
    assert not {name for name in types if name.startswith(("AWS::Glue", "AWS::Athena", "AWS::Kinesis"))}
    assert not [name for name in (*stack.resources, *stack.outputs) if name.startswith("Lake")]
    variables = stack.of_type("AWS::Lambda::Function")["RecordCostFunction"]["Environment"]["Variables"]
    assert "LAKE_STREAM" not in variables
    actions = {a for each in stack.statements("RecordCostFunction") for a in as_list(each["Action"])}
    assert not [action for action in actions if action.startswith("firehose:")]
